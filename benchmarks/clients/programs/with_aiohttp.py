"""
aiohttp-sse-client2: ``python with_aiohttp.py URL EVENTS TYPE``.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import ClientTimeout
from aiohttp_sse_client2.client import EventSource
from tally import Report, Take, tally


async def read(url: str, take: Take, report: Report) -> None:
    async with EventSource(url, timeout=ClientTimeout(total=None)) as source:
        async for event in source:
            if take(event.data):
                report(event.data, event.type or "message", event.last_event_id)
                break


def main() -> None:
    url, events, _ = sys.argv[1:]
    asyncio.run(read(url, *tally(int(events))))


if __name__ == "__main__":
    main()

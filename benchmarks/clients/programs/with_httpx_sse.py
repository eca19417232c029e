"""
httpx-sse: ``python with_httpx_sse.py URL EVENTS TYPE sync|async``.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
from httpx_sse import aconnect_sse, connect_sse
from tally import Report, Take, tally


def read(url: str, take: Take, report: Report) -> None:
    # Without a timeout, as for a stream that may be silent for a long time.
    with httpx.Client(timeout=None) as client, connect_sse(client, "GET", url) as source:
        for event in source.iter_sse():
            if take(event.data):
                report(event.data, event.event, event.id)
                break


async def read_async(url: str, take: Take, report: Report) -> None:
    async with httpx.AsyncClient(timeout=None) as client, aconnect_sse(client, "GET", url) as source:
        async for event in source.aiter_sse():
            if take(event.data):
                report(event.data, event.event, event.id)
                break


def main() -> None:
    url, events, _, way = sys.argv[1:]
    if way == "async":
        asyncio.run(read_async(url, *tally(int(events))))
    else:
        read(url, *tally(int(events)))


if __name__ == "__main__":
    main()

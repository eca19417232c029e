"""
launchdarkly-eventsource: ``python with_launchdarkly.py URL EVENTS TYPE sync|async``.
"""

from __future__ import annotations

import asyncio
import sys

from ld_eventsource import AsyncSSEClient, SSEClient
from tally import Report, Take, tally


def read(url: str, take: Take, report: Report) -> None:
    with SSEClient(url) as client:
        for event in client.events:
            if take(event.data):
                report(event.data, event.event, event.last_event_id or "")
                break


async def read_async(url: str, take: Take, report: Report) -> None:
    async with AsyncSSEClient(url) as client:
        async for event in client.events:
            if take(event.data):
                report(event.data, event.event, event.last_event_id or "")
                break


def main() -> None:
    url, events, _, way = sys.argv[1:]
    if way == "async":
        asyncio.run(read_async(url, *tally(int(events))))
    else:
        read(url, *tally(int(events)))


if __name__ == "__main__":
    main()

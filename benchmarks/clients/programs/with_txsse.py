"""
txsse: ``python with_txsse.py URL EVENTS TYPE callbacks|iteration``.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tally import Report, Take, tally
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from txsse import EventSource, ServerSentEvent


async def callbacks(url: str, take: Take, report: Report) -> None:
    def received(event: ServerSentEvent) -> None:
        if take(event.data):
            source.close()
            report(event.data, event.event, event.id)

    source = EventSource(url, event_received=received, max_attempts=1)
    source.start()
    error = await source.when_closed()
    if error is not None:
        raise error


async def iteration(url: str, take: Take, report: Report) -> None:
    source = EventSource(url, max_attempts=1)
    async for event in source:
        if take(event.data):
            source.close()
            report(event.data, event.event, event.id)


WAYS: dict[str, Callable[[str, Take, Report], Awaitable[None]]] = {
    "callbacks": callbacks,
    "iteration": iteration,
}


def main() -> None:
    url, events, _, way = sys.argv[1:]

    def begin(_: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(WAYS[way](url, *tally(int(events))))

    react(begin)


if __name__ == "__main__":
    main()

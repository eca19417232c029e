"""
Publish updates into a journal: ``publishing.py JOURNAL COUNT [PLACE]``, to be run under valgrind.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import deferLater, react

from txsse import Hub

# How many updates are published before the program waits for their acknowledgements.
_IN_FLIGHT = 500


def _hub(journal: str, place: str) -> Hub:
    if journal == "sqlite":
        from txsse.journal.sqlite import SQLiteJournal

        return Hub(journal=SQLiteJournal(place))
    if journal == "redis":
        from txsse.journal.redis import RedisJournal

        return Hub(journal=RedisJournal(place, timeout=600.0))
    return Hub()


async def _publish(hub: Hub, count: int) -> None:
    # The hub knows the reactor's thread only once the reactor runs.
    await deferLater(reactor, 0)
    await hub.start()
    for _ in range(count // _IN_FLIGHT):
        await gatherResults([hub.publish("topic", "x" * 100) for _ in range(_IN_FLIGHT)])
    await hub.stop()


def main(_: Any, journal: str, count: str, place: str = "") -> Any:
    """
    Publish updates into a journal.
    """
    # The time of a collection depends on earlier allocations, so it would vary between runs.
    gc.disable()
    return ensureDeferred(_publish(_hub(journal, place), int(count)))


react(main, sys.argv[1:])

"""
Updates from a stream, by a position or an id: the newest part from memory, the others by the script.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import DeferredSemaphore

from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.redis.codec import to_updates
from txsse.journal.redis.follower import StreamFollower
from txsse.journal.redis.script import Script
from txsse.journal.redis.stream_ids import to_number, to_text
from txsse.journal.update import Update
from txsse.journal.window import PAGE_BYTES, PAGE_COUNT

__all__ = ["StreamReader"]

# How many pages are read at once. What is published has to wait for their replies, and so has its time-out.
_READ_COUNT = 2


class StreamReader:
    """
    Reads the stream of a journal.

    :param script: the script.
    :param following: the follower, which has the newest part.
    :param oldest: returns the time up to which everything is too old, in milliseconds.
    """

    def __init__(self, script: Script, following: StreamFollower, oldest: Callable[[], int]) -> None:
        self._script = script
        self._following = following
        self._oldest = oldest
        self._reading = DeferredSemaphore(_READ_COUNT)

    async def find(self, id: str) -> int | None:
        """
        Look an id up.
        """
        found = await self._script.run("find", self._oldest(), id)
        return None if found is None else self._following.epochs.position_of(to_number(found))

    async def at(self, position: int) -> Update | None:
        """
        Return the update at a position.
        """
        entry = await self._script.run(
            "at", self._oldest(), to_text(self._following.epochs.number_of(position))
        )
        for number, update in to_updates([] if entry is None else [entry]):
            if update is None:
                self._following.found_damaged(number)
            return update
        return None

    async def read(self, after: int) -> Page:
        """
        Read on after a position.
        """
        await self._reading.acquire()
        try:
            return await self._read_now(after)
        finally:
            self._reading.release()

    async def _read_now(self, after: int) -> Page:
        head = self._following.recent.head
        start, forked = self._following.epochs.resume(after) if after > OLDEST else (0, False)
        missed, damaged, more = forked, False, True
        entries: list[Entry] = []
        end = max(head, after)
        while more and not entries:
            gone, more, found = await self._script.run(
                "read",
                self._oldest(),
                to_text(start),
                to_text(self._following.epochs.number_of(head)),
                PAGE_BYTES,
                PAGE_COUNT,
            )
            missed = missed or bool(gone)
            for number, update in to_updates(found):
                if update is not None:
                    entries.append((self._following.epochs.position_of(number), update))
                    continue
                self._following.found_damaged(number)
                if entries:
                    # To be told in front of what follows it, by the page that begins here.
                    return Page(entries, entries[-1][0], damaged or (after > OLDEST and missed))
                damaged = True
            if more:
                start = to_number(found[-1][0])
                end = self._following.epochs.position_of(start)
            else:
                end = max(head, after)
        return Page(entries, end, damaged or (after > OLDEST and missed))

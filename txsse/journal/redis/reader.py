"""
Reads updates that are not in memory from the stream, by position or id, using commands of the script.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import DeferredSemaphore

from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.redis.codec import to_updates
from txsse.journal.redis.follower import StreamFollower
from txsse.journal.redis.replies import as_entries, as_entry_number, as_list
from txsse.journal.redis.script import Script
from txsse.journal.redis.stream_ids import to_number, to_text
from txsse.journal.update import Update
from txsse.journal.window import PAGE_BYTES, PAGE_COUNT

__all__ = ["StreamReader"]

# How many pages are requested at a time. A published update waits for their replies, and its timeout includes
# this.
_READ_COUNT = 2


class StreamReader:
    """
    Reads the stream of a journal.

    :param script: the script.
    :param following: the follower of the stream, for its head, its epochs and its count of damaged entries.
    :param oldest: returns the time up to which updates are too old, in milliseconds.
    """

    def __init__(self, script: Script, following: StreamFollower, oldest: Callable[[], int]) -> None:
        self._script = script
        self._following = following
        self._oldest = oldest
        self._reading = DeferredSemaphore(_READ_COUNT)

    async def find(self, id: str) -> int | None:
        """
        Return the position of the earliest update with an id; ``None`` if the stream holds none.
        """
        found = await self._script.run("find", self._oldest(), id)
        return None if found is None else self._following.epochs.position_of(as_entry_number(found))

    async def at(self, position: int) -> Update | None:
        """
        Return the update at a position; ``None`` if the stream holds none there, or it is damaged.
        """
        entry = await self._script.run(
            "at", self._oldest(), to_text(self._following.epochs.number_of(position))
        )
        for number, update in to_updates(as_entries([] if entry is None else [entry])):
            if update is None:
                self._following.found_damaged(number)
            return update
        return None

    async def read(self, after: int) -> Page:
        """
        Read the page after a position.
        """
        await self._reading.acquire()
        try:
            return await self._read_now(after)
        finally:
            self._reading.release()

    async def _read_now(self, after: int) -> Page:
        head = self._following.recent.head
        start, lost = self._following.epochs.resume(after) if after > OLDEST else (0, False)
        missed, damaged, more = lost, False, True
        entries: list[Entry] = []
        end = max(head, after)
        while more and not entries:
            reply = await self._script.run(
                "read",
                self._oldest(),
                to_text(start),
                to_text(self._following.epochs.number_of(head)),
                PAGE_BYTES,
                PAGE_COUNT,
            )
            dropped, is_more, page = as_list(reply, 3)
            # A page that is not the last one has entries: otherwise this would never end.
            found, more = as_entries(as_list(page, minimum=1) if is_more else page), bool(is_more)
            missed = missed or bool(dropped)
            for number, update in to_updates(found):
                if update is not None:
                    entries.append((self._following.epochs.position_of(number), update))
                    continue
                self._following.found_damaged(number)
                if entries:
                    # The page ends before the damaged entry. The next page, which begins here, reports the
                    # gap.
                    return Page(entries, entries[-1][0], damaged or (after > OLDEST and missed))
                damaged = True
            if more:
                start = to_number(found[-1][0])
                end = self._following.epochs.position_of(start)
            else:
                end = max(head, after)
        return Page(entries, end, damaged or (after > OLDEST and missed))

"""
The newest part of a record, in memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from operator import itemgetter
from typing import Any

from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.update import Update

__all__ = ["Window", "size_of"]

# What an update takes beside its text: the objects, and their places here.
_OVERHEAD = 600

# What is convenient to be sent at once.
PAGE_BYTES = 65536
PAGE_COUNT = 256

# How many places of entries that are gone are never worth tidying up.
_GONE_ENTRIES = 64

_position_of: Any = itemgetter(0)


class Window:
    """
    Updates by position and by id, bounded by count, bytes and age; the oldest go first.

    :param max_count: how many.
    :param max_bytes: how many bytes they take, roughly.
    :param max_age: how old one may be, in seconds.
    :param head: the position behind which it begins.
    :ivar head: the position of the newest update, whether it is still here or not.
    :ivar floor: the position up to which nothing is here any more.
    """

    def __init__(self, *, max_count: int, max_bytes: int, max_age: float, head: int = 0) -> None:
        self.head = self.floor = head
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._max_age = max_age
        # The entries before the first are gone; that they keep their places for a while saves moving the
        # others at each append.
        self._entries: list[Entry | None] = []
        self._times: list[float] = []
        self._first = 0
        self._bytes = 0
        # The earliest update with an id; the later ones with it, where there are several; and the ids that
        # an update before all that are here may have, too.
        self._positions: dict[str, int] = {}
        self._later: dict[str, deque[int]] = {}
        self._begun_before: set[str] = set()

    def add(self, position: int, update: Update, now: float, *, repeated: bool = False) -> Entry:
        """
        Take in an update behind all others.

        :param now: the time, in seconds.
        :param repeated: whether the journal holds an earlier update with this id, here or not.
        """
        entry = (position, update)
        self.head = position
        self._entries.append(entry)
        self._times.append(now)
        self._bytes += size_of(update)
        earliest = self._positions.setdefault(update.id, position)
        if earliest != position:
            self._later.setdefault(update.id, deque()).append(position)
        elif repeated:
            self._begun_before.add(update.id)
        if (
            self._bytes > self._max_bytes
            or len(self._entries) - self._first > self._max_count
            or self._times[self._first] <= now - self._max_age
        ):
            self.trim(now)
        return entry

    def find(self, id: str, now: float) -> int | None:
        """
        Return the position of the earliest update with an id that is here.
        """
        self.trim(now)
        return self._positions.get(id)

    def begins(self, id: str) -> bool:
        """
        Tell whether what :meth:`find` returned is the earliest update with that id in the whole journal.
        """
        return id not in self._begun_before

    def find_equal(self, update: Update, now: float) -> int | None:
        """
        Return the position of the newest update with the id of another one, if it is equal to that.
        """
        # Almost always there is none.
        if update.id not in self._positions:
            return None
        self.trim(now)
        later = self._later.get(update.id)
        position = later[-1] if later else self._positions.get(update.id)
        return position if position is not None and self.at(position, now) == update else None

    def at(self, position: int, now: float) -> Update | None:
        """
        Return the update at a position.
        """
        self.trim(now)
        index = bisect_left(self._entries, position, lo=self._first, key=_position_of)
        entry = self._entries[index] if index < len(self._entries) else None
        return entry[1] if entry is not None and entry[0] == position else None

    def read(self, after: int, now: float) -> Page:
        """
        Read on behind a position: some 64 KiB, or some 256 updates.
        """
        self.trim(now)
        missed = OLDEST < after < self.floor
        index = bisect_right(self._entries, after, lo=self._first, key=_position_of)
        entries: list[Entry] = []
        size = 0
        for entry in self._entries[index : index + PAGE_COUNT]:
            if size >= PAGE_BYTES:
                break
            assert entry is not None
            entries.append(entry)
            size += len(entry[1].frame)
        return Page(entries, entries[-1][0] if entries else max(after, self.head), missed)

    def entries(self) -> list[Entry]:
        """
        Return all that are here, in order.
        """
        return [entry for entry in self._entries if entry is not None]

    def forget(self, up_to: int) -> None:
        """
        Forget all up to a position.
        """
        while self._first < len(self._entries):
            entry = self._entries[self._first]
            assert entry is not None
            if entry[0] > up_to:
                break
            self._forget_oldest(entry)
        self.floor = max(self.floor, up_to)

    def trim(self, now: float) -> None:
        """
        Forget what is too much or too old.
        """
        too_old = now - self._max_age
        while self._first < len(self._entries):
            if (
                len(self._entries) - self._first <= self._max_count
                and self._bytes <= self._max_bytes
                and self._times[self._first] > too_old
            ):
                break
            entry = self._entries[self._first]
            assert entry is not None
            self._forget_oldest(entry)
        if self._first > _GONE_ENTRIES and self._first * 2 > len(self._entries):
            del self._entries[: self._first]
            del self._times[: self._first]
            self._first = 0

    def _forget_oldest(self, entry: Entry) -> None:
        self.floor, update = entry
        self._bytes -= size_of(update)
        later = self._later.get(update.id) if self._later else None
        if later:
            self._positions[update.id] = later.popleft()
            # The journal may hold what is not here any more.
            self._begun_before.add(update.id)
            if not later:
                del self._later[update.id]
        else:
            del self._positions[update.id]
            self._begun_before.discard(update.id)
        self._entries[self._first] = None
        self._first += 1


def size_of(update: Update) -> int:
    """
    Return roughly how much memory an update takes: its text is there as it was given, and as it is sent.
    """
    return 2 * len(update.frame) + _OVERHEAD

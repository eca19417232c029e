"""
The newest updates of a journal, in memory: the record of the memory journal, and a cache for the other ones.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import cast

from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.update import Update

__all__ = ["Window", "size_of"]

# The memory of an update in addition to its text, in bytes: its objects, and their entries in the indexes
# below.
_OVERHEAD = 600

# The limits of a page, which is sent at once.
PAGE_BYTES = 65536
PAGE_COUNT = 256

# The list of entries is not compacted before more than this number of entries at its beginning have been
# dropped.
_GONE_ENTRIES = 64

# An index at which an entry has been dropped is not compared.
_position_of = cast("Callable[[Entry | None], int]", itemgetter(0))


class Window:
    """
    Updates by position and by id, limited by count, bytes and age. The oldest are dropped first.

    :param max_count: the maximum number of updates.
    :param max_bytes: their maximum size in memory, in bytes, approximately.
    :param max_age: the maximum age of an update, in seconds.
    :param head: the position after which the window begins.
    :ivar head: the position of the newest update, even if that has been dropped.
    :ivar floor: the position up to which all updates have been dropped.
    """

    def __init__(self, *, max_count: int, max_bytes: int, max_age: float, head: int = 0) -> None:
        self.head = self.floor = head
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._max_age = max_age
        # The entries before index `_first` have been dropped. They keep their places for a while, so that not
        # every append has to move all others.
        self._entries: list[Entry | None] = []
        self._times: list[float] = []
        self._first = 0
        self._bytes = 0
        # By id: the position of the earliest update; those of the later ones, if several have this id; and
        # the ids that an older update, before this window, may also have.
        self._positions: dict[str, int] = {}
        self._later: dict[str, deque[int]] = {}
        self._begun_before: set[str] = set()

    def add(self, position: int, update: Update, now: float, *, repeated: bool = False) -> Entry:
        """
        Add an update, as the newest.

        :param now: the time, in seconds.
        :param repeated: whether the journal holds an earlier update with this id, here or before this window.
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
        Return the position of the earliest update in this window with an id; ``None`` if it has none.
        """
        self.trim(now)
        return self._positions.get(id)

    def begins(self, id: str) -> bool:
        """
        Return whether the update that :meth:`find` found is the earliest with this id in the whole journal.
        """
        return id not in self._begun_before

    def find_equal(self, update: Update, now: float) -> int | None:
        """
        Return the position of the newest update with this update's id, if both are equal; otherwise ``None``.
        """
        # Nearly every update has a new id.
        if update.id not in self._positions:
            return None
        self.trim(now)
        later = self._later.get(update.id)
        position = later[-1] if later else self._positions.get(update.id)
        return position if position is not None and self.at(position, now) == update else None

    def at(self, position: int, now: float) -> Update | None:
        """
        Return the update at a position; ``None`` if it is not in this window.
        """
        self.trim(now)
        index = bisect_left(self._entries, position, lo=self._first, key=_position_of)
        entry = self._entries[index] if index < len(self._entries) else None
        return entry[1] if entry is not None and entry[0] == position else None

    def read(self, after: int, now: float) -> Page:
        """
        Return the page after a position: about 64 KiB, or at most 256 updates.
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
        Return all updates with their positions, in order.
        """
        return [entry for entry in self._entries if entry is not None]

    def forget(self, up_to: int) -> None:
        """
        Drop all updates up to a position.
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
        Drop the oldest updates until the window is within its limits.
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
            # The journal may still hold the dropped update.
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
    Return the approximate memory of an update, in bytes. Its text is held twice: as given, and as sent.
    """
    return 2 * len(update.frame) + _OVERHEAD

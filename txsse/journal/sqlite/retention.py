"""
How much a journal's file holds, and what has to go.
"""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from txsse.journal.sqlite.codec import SIZE
from txsse.journal.sqlite.schema import mark
from txsse.journal.sqlite.table_scan import rows_after, verified

__all__ = ["Bounds", "Retention"]

# How many rows are looked at, at once.
_STEP = 1000

# How many rows are deleted at least, while updates are recorded.
_LEAST_DELETED = 64


@dataclass(frozen=True)
class Bounds:
    """
    How much a journal holds: updates, bytes and seconds.
    """

    count: int
    bytes: int
    age: float


class Retention:
    """
    Gives up the oldest updates; that they go from the file is another matter.

    :param bounds: what the journal holds.
    :ivar floor: the position up to which nothing is here any more.
    :ivar deleted: the position up to which nothing is in the file any more.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.floor = 0
        self.deleted = 0
        self._bounds = bounds
        self._count = 0
        self._bytes = 0
        # The oldest that are there: their positions, times and sizes.
        self._oldest: deque[tuple[int, float, int]] = deque()

    def begin(self, floor: int, count: int, bytes: int) -> None:
        """
        Begin with what is in the file.
        """
        self.restore((floor, floor, count, bytes))

    def save(self) -> tuple[int, int, int, int]:
        """
        Return how it is, before a transaction.
        """
        return self.floor, self.deleted, self._count, self._bytes

    def restore(self, saved: tuple[int, int, int, int]) -> None:
        """
        Go back to how it was, where the transaction failed.
        """
        self.floor, self.deleted, self._count, self._bytes = saved
        self._oldest.clear()

    def add(self, count: int, bytes: int) -> None:
        """
        Take note of new updates.
        """
        self._count += count
        self._bytes += bytes

    def keep_up(self, connection: sqlite3.Connection, count: int, head: int) -> None:
        """
        Delete as many rows as were added, so that nothing is left to do after a burst; and some of them
        together, since the oldest rows are in other pages than the newest.
        """
        if self.floor - self.deleted >= _LEAST_DELETED:
            self.delete(connection, max(count, _LEAST_DELETED), head)

    def delete(self, connection: sqlite3.Connection, count: int, head: int) -> None:
        """
        Delete some of the rows up to the floor.
        """
        up_to = min(self.floor, self.deleted + count)
        connection.execute("DELETE FROM updates WHERE position <= ?", [up_to])
        self.deleted = up_to
        if up_to == head:
            # No row shows any more how far it was.
            mark(connection, up_to)

    def advance(self, connection: sqlite3.Connection, head: int, now: float) -> None:
        """
        Give up what is too much or too old.

        :param head: the position of the newest update.
        """
        bounds, too_old = self._bounds, now - self._bounds.age
        while self._count:
            if not self._oldest:
                self._oldest.extend(self._read_oldest(connection, head, now))
            if not self._oldest:
                # The others cannot be read.
                self._count = self._bytes = 0
                return
            position, time, size = self._oldest[0]
            if self._count <= bounds.count and self._bytes <= bounds.bytes and time > too_old:
                return
            self._oldest.popleft()
            self.floor = position
            self._count -= 1
            self._bytes -= size

    def _read_oldest(
        self, connection: sqlite3.Connection, head: int, now: float
    ) -> Iterator[tuple[int, float, int]]:
        last = self.floor
        for position, time, size in rows_after(
            connection, f"position, time, {SIZE}", last, _STEP, up_to=head
        ):
            if not isinstance(time, float) or time > now:
                # A clock that was set back, or damage, which would stay for ever.
                found = verified(connection, position)
                time = -math.inf if found is None else found[1]
            if position > last:
                last = position
                yield position, time, size

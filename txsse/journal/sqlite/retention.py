"""
Applies the limits of a journal's file: which updates are dropped, and when their rows are deleted.
"""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from txsse.journal.sqlite.codec import SIZE
from txsse.journal.sqlite.schema import mark
from txsse.journal.sqlite.table_scan import rows_after, verified

__all__ = ["Bounds", "Retention"]

# How many of the oldest rows are read at once.
_STEP = 1000

# The minimum number of rows that one deletion takes, while updates are recorded.
_LEAST_DELETED = 64


@dataclass(frozen=True)
class Bounds:
    """
    The limits of a journal.

    :ivar count: the maximum number of updates.
    :ivar bytes: their maximum size, in bytes.
    :ivar age: the maximum age of an update, in seconds.
    """

    count: int
    bytes: int
    age: float


class Retention:
    """
    Drops the oldest updates, and deletes their rows later.

    A dropped update is no longer returned, although its row may still be in the file.

    :param bounds: the limits of the journal.
    :ivar floor: the position up to which all updates have been dropped.
    :ivar deleted: the position up to which all rows have been deleted.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.floor = 0
        self.deleted = 0
        self._bounds = bounds
        self._count = 0
        self._bytes = 0
        # The positions, times and sizes of the oldest updates that have not been dropped.
        self._oldest: deque[tuple[int, float, int]] = deque()

    def begin(self, floor: int, count: int, bytes: int) -> None:
        """
        Set the state from the content of the file.

        :param count: the number of updates after the floor.
        :param bytes: their size, in bytes.
        """
        self.restore((floor, floor, count, bytes))

    def save(self) -> tuple[int, int, int, int]:
        """
        Return the state before a transaction, for :meth:`restore`.
        """
        return self.floor, self.deleted, self._count, self._bytes

    def restore(self, saved: tuple[int, int, int, int]) -> None:
        """
        Restore the state, after the transaction failed.
        """
        self.floor, self.deleted, self._count, self._bytes = saved
        self._oldest.clear()

    def add(self, count: int, bytes: int) -> None:
        """
        Count new updates.

        :param bytes: their size, in bytes.
        """
        self._count += count
        self._bytes += bytes

    def keep_up(self, connection: sqlite3.Connection, count: int, head: int) -> None:
        """
        Delete rows while updates are recorded, if at least 64 of them have been dropped.

        At least as many rows are deleted as were added, so that no backlog is left after a burst. Several are
        deleted together, because the oldest rows are in other pages than the newest.

        :param count: how many rows were added.
        """
        if self.floor - self.deleted >= _LEAST_DELETED:
            self.delete(connection, max(count, _LEAST_DELETED), head)

    def delete(self, connection: sqlite3.Connection, count: int, head: int) -> None:
        """
        Delete rows of dropped updates, at most ``count``.
        """
        up_to = min(self.floor, self.deleted + count)
        connection.execute("DELETE FROM updates WHERE position <= ?", [up_to])
        self.deleted = up_to
        if up_to == head:
            # Now no row shows the newest position.
            mark(connection, up_to)

    def advance(self, connection: sqlite3.Connection, head: int, now: float) -> None:
        """
        Drop the oldest updates until the others are within the limits.

        :param head: the position of the newest update.
        """
        bounds, too_old = self._bounds, now - self._bounds.age
        while self._count:
            if not self._oldest:
                self._oldest.extend(self._read_oldest(connection, head, now))
            if not self._oldest:
                # The remaining rows cannot be read.
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
        for row in rows_after(connection, f"position, time, {SIZE}", last, _STEP, up_to=head):
            # SQLite computes the size.
            position, time, size = cast("tuple[int, object, int]", row)
            if not isinstance(time, float) or time > now:
                # The clock was set back, or the row is damaged. A damaged time could keep the row for ever.
                found = verified(connection, position)
                time = -math.inf if found is None else found[1]
            if position > last:
                last = position
                yield position, time, size

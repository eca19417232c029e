"""
The retained updates in a journal's file: how many there are, their limits, and which have expired.

They are recorded in the transaction of the updates that retain or remove them. The reactor's thread has a
copy in memory, a :class:`~txsse.journal.retained_updates.RetainedUpdates`, from which streams are served.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from twisted.logger import Logger

from txsse.errors import NotRetained, RetainedFull
from txsse.journal.retained import Retained, size_under_one_topic
from txsse.journal.retained_updates import DEFAULT_MAX_RETAINED, DEFAULT_MAX_RETAINED_BYTES, RetainedUpdates
from txsse.journal.sqlite.retained_table import (
    delete_rows,
    expired_rows,
    put,
    remove,
    rewrite,
    scan,
    size_at,
)
from txsse.journal.update import Update

__all__ = ["DEFAULT_RETAINED_BOUNDS", "Refusal", "RetainedBounds", "RetainedChange", "RetainedRows"]

_log = Logger()

# How many rows of expired updates one transaction deletes, so that published updates need not wait for long.
_STEP = 1000

#: Why an update cannot be recorded.
Refusal: TypeAlias = RetainedFull | NotRetained


@dataclass(frozen=True)
class RetainedBounds:
    """
    The limits of a journal's retained updates.

    :ivar count: the maximum number of retained updates.
    :ivar bytes: their maximum size, in bytes.
    """

    count: int = DEFAULT_MAX_RETAINED
    bytes: int = DEFAULT_MAX_RETAINED_BYTES


DEFAULT_RETAINED_BOUNDS = RetainedBounds()


@dataclass(frozen=True, slots=True)
class RetainedChange:
    """
    The effect of an update on the rows.

    :ivar frame: the event as sent on the wire, without its ID; empty if the update removes rows.
    :ivar count: by how much the number of rows grows.
    :ivar size: by how much their size grows, in bytes.
    """

    frame: bytes
    count: int
    size: int


class RetainedRows:
    """
    The rows of retained updates.

    :param path: the file, for the log.
    :param bounds: the limits.
    :ivar count: the number of rows, with those that have expired and are not deleted yet.
    :ivar bytes: their size, in bytes.
    """

    def __init__(self, path: Path, bounds: RetainedBounds) -> None:
        self.count = self.bytes = 0
        self._path = path
        self._bounds = bounds
        # All readable rows, if the table is damaged.
        self._readable: list[Retained] | None = None
        self._has_logged = False

    def load(self, connection: sqlite3.Connection, now: float) -> RetainedUpdates:
        """
        Read all rows.

        :param now: the time, in seconds since 1970.
        :returns: a copy in memory. Its ``changed_at`` is the position of the newest row.
        """
        found = scan(connection)
        # With this clock, none expires here: the rows of expired ones count until they are deleted.
        loaded = RetainedUpdates(lambda: -math.inf)
        loaded.restore(found.rows, max((row.position for row in found.rows), default=0))
        self.count, self.bytes = loaded.count, loaded.size
        if any(row.expires <= now for row in found.rows):
            # Their rows are deleted in steps. In memory, dropping many at once would block the reactor.
            loaded.restore([row for row in found.rows if row.expires > now], loaded.changed_at)
        self._readable = found.rows if found.is_damaged else None
        if found.is_damaged and not self._has_logged:
            self._has_logged = True
            _log.error(
                "{path}: records of retained updates are damaged, and those that cannot be read are skipped; "
                "publish these updates again, with their keys",
                path=self._path,
            )
        return loaded

    def repair(self, connection: sqlite3.Connection) -> None:
        """
        Write all rows again that :meth:`load` has read, if the table or one of its indexes is damaged.
        """
        readable, self._readable = self._readable, None
        if readable is not None:
            rewrite(connection, readable)

    def save(self) -> tuple[int, int]:
        """
        Return the state before a transaction, for :meth:`restore`.
        """
        return self.count, self.bytes

    def restore(self, saved: tuple[int, int]) -> None:
        """
        Restore the state, after the transaction failed.
        """
        self.count, self.bytes = saved

    def check(self, connection: sqlite3.Connection, update: Update, now: float) -> RetainedChange | Refusal:
        """
        Return what an update changes, or why it is refused. Delete expired rows if it needs their room.

        :param update: an update with a retention.
        :param now: its time, in seconds since 1970.
        """
        while True:
            change = self._check(connection, update, now)
            if not isinstance(change, RetainedFull) or not self.delete_expired(connection, now):
                return change

    def retain(
        self,
        connection: sqlite3.Connection,
        position: int,
        update: Update,
        now: float,
        change: RetainedChange,
    ) -> None:
        """
        Retain or remove what an update retains or removes.

        :param position: its position.
        :param now: its time, in seconds since 1970.
        :param change: the result of :meth:`check`.
        """
        retention = update.retention
        assert retention is not None
        if update.unretains:
            remove(connection, update.topics, retention.key)
        else:
            expires = None if retention.seconds is None else now + retention.seconds
            put(connection, position, update, change.frame, expires)
        self.count += change.count
        self.bytes += change.size

    def has_expired(self, connection: sqlite3.Connection, now: float) -> bool:
        """
        Return whether a row has expired and is not deleted yet.
        """
        return bool(expired_rows(connection, now, 1))

    def delete_expired(self, connection: sqlite3.Connection, now: float) -> bool:
        """
        Delete rows that have expired, at most 1,000.

        :returns: whether any were deleted.
        """
        rows = expired_rows(connection, now, _STEP)
        if rows:
            delete_rows(connection, [row.number for row in rows])
            self.count -= len(rows)
            self.bytes -= sum(row.bytes for row in rows)
        return bool(rows)

    def _check(self, connection: sqlite3.Connection, update: Update, now: float) -> RetainedChange | Refusal:
        # The same rules as those of RetainedUpdates.refusal.
        retention = update.retention
        assert retention is not None
        before = [self._size_at(connection, topic, retention.key, now) for topic in update.topics]
        if update.unretains:
            if not any(before):
                return NotRetained(update.topics, retention.key)
            return RetainedChange(b"", before.count(0) - len(before), -sum(before))
        frame = update.frame_without_id
        cost = size_under_one_topic(retention.key, len(frame))
        after = [cost + len(topic.encode()) for topic in update.topics]
        count, size = before.count(0), sum(after) - sum(before)
        grows = any(new > old for new, old in zip(after, before, strict=True))
        if (count and self.count + count > self._bounds.count) or (
            grows and self.bytes + size > self._bounds.bytes
        ):
            return RetainedFull(self._bounds.count, self._bounds.bytes)
        return RetainedChange(frame, count, size)

    def _size_at(self, connection: sqlite3.Connection, topic: str, key: str, now: float) -> int:
        """
        Return the size of the row of a topic and a key; 0 without one. Delete one that has expired.
        """
        row = size_at(connection, topic, key, now)
        if row is None:
            return 0
        if row.is_expired:
            delete_rows(connection, [row.number])
            self.count -= 1
            self.bytes -= row.bytes
            return 0
        return row.bytes

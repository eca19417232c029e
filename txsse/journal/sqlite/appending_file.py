"""
Appends updates to a journal's SQLite file: each batch in one transaction, with what it retains.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from txsse._clock import Seconds
from txsse.journal.sqlite.codec import encode, encode_all
from txsse.journal.sqlite.database_file import DatabaseFile
from txsse.journal.sqlite.ids import insert, insert_all, newest, supersede
from txsse.journal.sqlite.retained_rows import Refusal, RetainedBounds, RetainedChange, RetainedRows
from txsse.journal.sqlite.retention import Bounds, Retention
from txsse.journal.sqlite.schema import transaction
from txsse.journal.sqlite.table_scan import verified
from txsse.journal.update import Update

__all__ = ["Appended", "AppendingFile"]

T = TypeVar("T")
_Batch = Sequence[tuple[Update, float]]
_Saved: TypeAlias = tuple[int, tuple[int, int, int, int], tuple[int, int]]

#: The position of an update, or why it was not recorded.
Appended: TypeAlias = int | Refusal


class AppendingFile(DatabaseFile):
    """
    A SQLite file to which updates are appended.

    :param path: the file, which is created if it does not exist.
    :param bounds: the limits of the journal. The oldest updates are dropped first.
    :param retained_bounds: the limits of the retained updates, none of which is dropped.
    :param synchronous: ``NORMAL`` or ``FULL``, SQLite's setting of that name.
    :param lock_timeout: how long to wait for another process that has the file open, in seconds.
    :param seconds: returns a monotonic time, in seconds.
    :ivar repeated: the ids in the batch appended last that an older update also has.
    """

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        retained_bounds: RetainedBounds,
        *,
        seconds: Seconds,
        synchronous: str,
        lock_timeout: float,
    ) -> None:
        super().__init__(path, synchronous=synchronous, lock_timeout=lock_timeout, seconds=seconds)
        self.repeated: set[str] = set()
        self._retention = Retention(bounds)
        self._retained = RetainedRows(path, retained_bounds)
        # The time of day of the last call that had one, in seconds since 1970.
        self._now = 0.0

    @property
    def floor(self) -> int:
        """
        The position up to which all updates have been dropped.
        """
        return self._retention.floor

    def at(self, position: int, now: float) -> Update | None:
        """
        Return the update at a position; ``None`` if it has been dropped or cannot be read.
        """
        self._advance_floor(now)
        found = verified(self._opened, position) if position > self.floor else None
        return None if found is None else found[0][1]

    def append(self, batch: _Batch) -> list[int]:
        """
        Record updates without a retention in one transaction.

        :param batch: the updates, with the time of each.
        :returns: the position of each; for an update that equals the newest one with its id, that one's.
        :raises JournalFailed: if they cannot be recorded.
        """
        size = sum(len(update.frame) for update, _ in batch)
        self.repeated = set()
        return self._commit(lambda: self._append_all(batch), len(batch), size)

    def append_retaining(self, batch: _Batch, more: Sequence[bool]) -> list[Appended]:
        """
        Record updates in one transaction, some of which have a retention.

        :param batch: the updates, with the time of each.
        :param more: for each of them, whether it is recorded only if the next one is.
        :returns: for each its position, as :meth:`append` does, or why it was refused.
        :raises JournalFailed: if they cannot be recorded.
        """
        # Each topic of a retained update has a row with the event.
        rows = [1 + (len(update.topics) if update.retention else 0) for update, _ in batch]
        size = sum(count * len(update.frame) for count, (update, _) in zip(rows, batch, strict=True))
        self.repeated = set()
        append = partial(self._append_wholes, more=more)
        return self._commit(
            lambda: self._attempt(append, batch),
            sum(rows),
            size,
            # A refusal does not show that the disk has room.
            has_written=lambda results: any(isinstance(each, int) for each in results),
        )

    def _append_all(self, batch: _Batch) -> list[int]:
        positions = self._attempt(self._append_new, batch)
        if positions is not None:
            return positions
        return self._attempt(self._append_each, batch)

    def _attempt(self, append: Callable[[sqlite3.Connection, _Batch], T], batch: _Batch) -> T:
        saved = self._save()
        try:
            with transaction(self._opened) as connection:
                positions = append(connection, batch)
                if positions is None:
                    connection.execute("ROLLBACK")
                else:
                    self._retention.keep_up(connection, len(batch), self.head)
        except BaseException:
            self._restore(saved)
            raise
        return positions

    def _save(self) -> _Saved:
        return self.head, self._retention.save(), self._retained.save()

    def _restore(self, saved: _Saved) -> None:
        self.head, retention, retained = saved
        self._retention.restore(retention)
        self._retained.restore(retained)

    def _append_new(self, connection: sqlite3.Connection, batch: _Batch) -> list[int] | None:
        """
        Record updates by one statement, if all of their ids are new; otherwise return ``None``.
        """
        rows, size = encode_all(self.head + 1, batch)
        if not insert_all(connection, rows):
            return None
        self._has_appended(len(rows), size, batch[-1][1])
        return [row[0] for row in rows]

    def _append_each(self, connection: sqlite3.Connection, batch: _Batch) -> list[int]:
        return [self._append(connection, *each) for each in batch]

    def _append_wholes(
        self, connection: sqlite3.Connection, batch: _Batch, more: Sequence[bool]
    ) -> list[Appended]:
        # The time of the first update, so that none is refused for what it finds in its own time.
        self._retained.delete_expired(connection, batch[0][1])
        self._now = batch[-1][1]
        results: list[Appended] = []
        begin = 0
        for end, has_more in enumerate(more, 1):
            if not has_more:
                results += self._append_whole(connection, batch[begin:end])
                begin = end
        return results

    def _append_whole(self, connection: sqlite3.Connection, whole: _Batch) -> Sequence[Appended]:
        """
        Record all of some updates, or none.
        """
        if len(whole) == 1:
            return [self._append_or_refuse(connection, *whole[0])]
        saved = self._save()
        connection.execute("SAVEPOINT whole")
        results: list[Appended] = []
        for each in whole:
            results.append(self._append_or_refuse(connection, *each))
            if not isinstance(results[-1], int):
                connection.execute("ROLLBACK TO whole")
                self._restore(saved)
                results = [results[-1]] * len(whole)
                break
        connection.execute("RELEASE whole")
        return results

    def _append_or_refuse(self, connection: sqlite3.Connection, update: Update, now: float) -> Appended:
        if update.retention is None:
            return self._append(connection, update, now)
        change = self._retained.check(connection, update, now)
        if not isinstance(change, RetainedChange):
            # A repeated update is a no-op, and is not refused.
            known = newest(connection, update.id.encode())
            return known if self.at(known, now) == update else change
        head = self.head
        position = self._append(connection, update, now)
        if position > head:
            self._retained.retain(connection, position, update, now, change)
        return position

    def _append(self, connection: sqlite3.Connection, update: Update, now: float) -> int:
        row, size = encode(self.head + 1, now, update)
        if not insert(connection, row):
            id = update.id.encode()
            known = newest(connection, id)
            if self.at(known, now) == update:
                return known
            supersede(connection, id)
            insert(connection, row)
            if known > self.floor:
                self.repeated.add(update.id)
        self._has_appended(1, size, now)
        return self.head

    def _has_appended(self, count: int, size: int, now: float) -> None:
        self.head += count
        self._retention.add(count, size)
        self._advance_floor(now)

    def _advance_floor(self, now: float) -> None:
        self._retention.advance(self._opened, self.head, now)

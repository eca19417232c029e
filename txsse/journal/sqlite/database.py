"""
Reads and writes a journal's SQLite file. All functions block, and must be called in one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from twisted.logger import Logger

from txsse._clock import Seconds
from txsse.journal.page import Entry, Page
from txsse.journal.sqlite.codec import encode, encode_all
from txsse.journal.sqlite.damage import Damage
from txsse.journal.sqlite.database_file import DatabaseFile
from txsse.journal.sqlite.ids import find, insert, insert_all, newest, repeated, supersede
from txsse.journal.sqlite.pages import read_newest, read_page
from txsse.journal.sqlite.retention import Bounds, Retention
from txsse.journal.sqlite.salvage import copy_readable
from txsse.journal.sqlite.schema import MOST_VISITS, mark, marked, put_visits, transaction, visits
from txsse.journal.sqlite.table_scan import survey, verified
from txsse.journal.sqlite.write_problem import WriteProblem
from txsse.journal.update import Update

__all__ = ["Bounds", "Database"]

T = TypeVar("T")
_Batch = Sequence[tuple[Update, float]]
_log = Logger()
# How many rows one transaction of :meth:`Database.tidy` deletes.
_STEP = 1000


class Database(DatabaseFile):
    """
    The updates in a SQLite file.

    :param path: the file, which is created if it does not exist.
    :param bounds: the limits of the journal. The oldest updates are dropped first.
    :param synchronous: ``NORMAL`` or ``FULL``, SQLite's setting of that name.
    :param lock_timeout: how long to wait for another process that has the file open, in seconds.
    :param seconds: returns a monotonic time, in seconds.
    :ivar head: the position of the newest update, even if that has been dropped.
    :ivar trouble: the reason why the file cannot be written, if any.
    :ivar damage: the positions that cannot be read.
    :ivar repeated: the ids in the batch appended last that an older update also has.
    """

    def __init__(
        self, path: Path, bounds: Bounds, *, seconds: Seconds, synchronous: str, lock_timeout: float
    ) -> None:
        super().__init__(path, synchronous=synchronous, lock_timeout=lock_timeout, seconds=seconds)
        self.damage = Damage(path)
        self.repeated: set[str] = set()
        self._retention = Retention(bounds)

    @property
    def floor(self) -> int:
        """
        The position up to which all updates have been dropped.
        """
        return self._retention.floor

    def open(self, now: float) -> None:
        """
        Open the file, or create it.

        :param now: the wall-clock time, in seconds.
        :raises JournalFailed: if it is not a journal of this version, or another process has it open.
        :raises sqlite3.Error: if it cannot be opened.
        """
        self.close()
        self.trouble = WriteProblem(self.path)
        try:
            self._files.take(self._lock_timeout)
            self._connect()
            self._load(now)
        except BaseException:
            # Otherwise the next attempt would find the file locked by this one.
            self.close()
            raise

    def _load(self, now: float) -> None:
        connection = self._opened
        found = survey(connection)
        noted = self._files.noted()
        # Without ``-head``, the damaged rows after the last undamaged one count as its successors.
        guessed = found.head + found.damaged if noted is None else found.head
        head = max(guessed, marked(connection))
        self._retention.begin(found.floor if found.count else head, found.count, found.bytes)
        if noted is None and head:
            _log.warn("{path}-head is missing or damaged: updates may have been lost", path=self.path)
        self.head = head if noted is None else max(head, noted)
        if self.head > head:
            self.damage.note(head + 1, self.head)
        self._advance_floor(now)

    def begin_visit(self, secret: bytes) -> list[tuple[bytes, int]]:
        """
        Record that this process now uses the file.

        :param secret: the secret of this process's resume IDs.
        :returns: the secrets of the latest processes, this one's last, and the final position of each.
        """
        begun = [*visits(self._opened), (secret, self.head)][-MOST_VISITS:]

        def record() -> None:
            connection = self._opened
            with transaction(connection):
                put_visits(connection, begun)
                # Lost updates have no rows; the mark keeps their positions from being used again.
                mark(connection, self.head)
                connection.execute("DELETE FROM updates WHERE position > ?", [self.head])
                connection.execute("DELETE FROM probe")

        self._write(record)
        self._files.note(self.head)
        ends = [begin for _, begin in begun[1:]]
        return [(each, end) for (each, _), end in zip(begun, [*ends, self.head], strict=True)]

    def append(self, batch: _Batch) -> list[int]:
        """
        Record updates in one transaction.

        :param batch: updates, with the time of each.
        :returns: the position of each; for an update that equals the newest one with its id, that one's.
        :raises JournalFailed: if they cannot be recorded.
        """
        size = sum(len(update.frame) for update, _ in batch)
        self.repeated = set()
        return self._commit(lambda: self._append_all(batch), len(batch), size)

    def _append_all(self, batch: _Batch) -> list[int]:
        positions = self._attempt(self._append_new, batch)
        if positions is not None:
            return positions
        return self._attempt(self._append_each, batch)

    def _attempt(self, append: Callable[[sqlite3.Connection, _Batch], T], batch: _Batch) -> T:
        head, saved = self.head, self._retention.save()
        try:
            with transaction(self._opened) as connection:
                positions = append(connection, batch)
                if positions is None:
                    connection.execute("ROLLBACK")
                else:
                    self._retention.keep_up(connection, len(batch), self.head)
        except BaseException:
            self.head = head
            self._retention.restore(saved)
            raise
        return positions

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

    def find(self, id: str, now: float) -> int | None:
        """
        Return the position of the earliest update with an id; ``None`` if there is no such update.
        """
        self._advance_floor(now)
        return find(self._opened, id.encode(), self.floor)

    def at(self, position: int, now: float) -> Update | None:
        """
        Return the update at a position; ``None`` if it has been dropped or cannot be read.
        """
        self._advance_floor(now)
        found = verified(self._opened, position) if position > self.floor else None
        return None if found is None else found[0][1]

    def read(self, after: int, now: float) -> Page:
        """
        Read the page after a position.
        """
        self._advance_floor(now)
        return read_page(self._opened, after, floor=self.floor, head=self.head, lost=self.damage.note)

    def newest(self, count: int, size: int) -> tuple[list[tuple[Entry, float]], set[str]]:
        """
        Return the newest consecutive updates with their times, and which of their ids older ones also have.

        :param count: the maximum number of updates.
        :param size: the maximum size of their frames, in bytes.
        """
        found = read_newest(self._opened, count, size, floor=self.floor, head=self.head)
        return found, repeated(self._opened, (update.id for (_, update), _ in found), self.floor)

    def probe(self) -> None:
        """
        Test whether the file can be written again: write and delete as much data as failed before.

        :raises JournalFailed: if it cannot be written.
        """
        try:
            if self.trouble.is_damaged and not self.trouble.is_final:
                self._salvage()
            self.trouble.check()
            self._look_at_files()
            size = self._checkpoints.probe(self._opened, self.trouble.bytes)
        except (sqlite3.Error, OSError) as error:
            raise self.trouble.note(error) from error
        self.trouble.written(size)

    def tidy(self, now: float) -> bool:
        """
        Delete some rows of dropped updates, and check that no file was removed or replaced.

        :returns: whether more rows may remain to be deleted.
        :raises JournalFailed: if the file cannot be written.
        """
        self.trouble.check()
        self._look_at_files()
        self._advance_floor(now)
        self.damage.forget(self.floor)
        if self._retention.deleted >= self.floor:
            return False
        try:
            self._write(self._delete_some)
            self._has_committed(_STEP, 0)
        except (sqlite3.Error, OSError) as error:
            raise self.trouble.note(error) from error
        return True

    def _delete_some(self) -> None:
        saved = self._retention.save()
        try:
            with transaction(self._opened):
                self._retention.delete(self._opened, _STEP, self.head)
        except BaseException:
            self._retention.restore(saved)
            raise

    def finish(self) -> None:
        """
        Run a checkpoint, and close the file.

        Without the explicit checkpoint, SQLite runs one when it closes the file, and hides its errors.

        :raises sqlite3.Error: if the checkpoint fails.
        """
        try:
            if self._connection is not None and not (self.trouble.is_final or self.trouble.is_damaged):
                if self._retention.deleted < self.floor:
                    self._delete_some()
                self._files.note(self.head)
                self._checkpoints.run(self._connection)
        finally:
            self.close()

    def _salvage(self) -> None:
        """
        Replace the damaged file by a copy of its readable updates.
        """
        _log.error(
            "{path} is damaged and cannot be written; its readable updates are copied into a new file",
            path=self.path,
        )
        connection = self._opened
        fresh = self._files.fresh()
        copy_readable(connection, fresh, floor=self.floor, head=self.head)
        connection.close()
        self._connection = None
        try:
            damaged = self._files.replace(fresh)
        finally:
            self._connect()
        found = survey(self._opened)
        self._retention.begin(self.floor, found.count, found.bytes)
        self.trouble.is_damaged = False
        _log.warn(
            "{path} is now the copy; the damaged file was renamed to {damaged}",
            path=self.path,
            damaged=damaged,
        )

    def _advance_floor(self, now: float) -> None:
        self._retention.advance(self._opened, self.head, now)

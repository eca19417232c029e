"""
Reads and writes a journal's SQLite file. All functions block, and must be called in one thread.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.logger import Logger

from txsse._clock import Seconds
from txsse.journal.page import Entry, Page
from txsse.journal.retained_updates import RetainedUpdates
from txsse.journal.sqlite.appending_file import AppendingFile
from txsse.journal.sqlite.damage import Damage
from txsse.journal.sqlite.ids import find, repeated
from txsse.journal.sqlite.pages import read_newest, read_page
from txsse.journal.sqlite.retained_rows import DEFAULT_RETAINED_BOUNDS, RetainedBounds
from txsse.journal.sqlite.retention import Bounds
from txsse.journal.sqlite.salvage import copy_readable
from txsse.journal.sqlite.schema import MOST_VISITS, mark, marked, put_visits, transaction, visits
from txsse.journal.sqlite.table_scan import survey
from txsse.journal.sqlite.write_problem import WriteProblem

__all__ = ["Bounds", "Database"]

_log = Logger()
# How many rows one transaction of :meth:`Database.tidy` deletes.
_STEP = 1000


class Database(AppendingFile):
    """
    The updates in a SQLite file, and what is retained of them.

    :param path: the file, which is created if it does not exist.
    :param bounds: the limits of the journal. The oldest updates are dropped first.
    :param retained_bounds: the limits of the retained updates, none of which is dropped.
    :param synchronous: ``NORMAL`` or ``FULL``, SQLite's setting of that name.
    :param lock_timeout: how long to wait for another process that has the file open, in seconds.
    :param seconds: returns a monotonic time, in seconds.
    :ivar head: the position of the newest update, even if that has been dropped.
    :ivar trouble: the reason why the file cannot be written, if any.
    :ivar damage: the positions that cannot be read.
    """

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        retained_bounds: RetainedBounds = DEFAULT_RETAINED_BOUNDS,
        *,
        seconds: Seconds,
        synchronous: str,
        lock_timeout: float,
    ) -> None:
        super().__init__(
            path, bounds, retained_bounds, seconds=seconds, synchronous=synchronous, lock_timeout=lock_timeout
        )
        self.damage = Damage(path)
        self._loaded: RetainedUpdates | None = None

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
        self._now = now
        loaded = self._retained.load(connection, now)
        head = max(guessed, marked(connection), loaded.changed_at)
        self._retention.begin(found.floor if found.count else head, found.count, found.bytes)
        if noted is None and head:
            _log.warn("{path}-head is missing or damaged: updates may have been lost", path=self.path)
        self.head = head if noted is None else max(head, noted)
        if self.head > head:
            self.damage.note(head + 1, self.head)
        self._has_loaded(loaded)
        self._advance_floor(now)

    def _has_loaded(self, loaded: RetainedUpdates) -> None:
        # The newest change may have removed a row. Without any, a hub that retains nothing need not send
        # states.
        loaded.changed_at = 0 if loaded.is_empty else self.head
        self._loaded = loaded

    def take_loaded(self) -> RetainedUpdates | None:
        """
        Return all retained updates, once after they have been read from the file; otherwise ``None``.

        They are read when the file is opened, or replaced by a copy without its damaged rows. They include
        none that was appended since.
        """
        loaded, self._loaded = self._loaded, None
        return loaded

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
                self._retained.repair(connection)

        self._write(record)
        self._files.note(self.head)
        ends = [begin for _, begin in begun[1:]]
        return [(each, end) for (each, _), end in zip(begun, [*ends, self.head], strict=True)]

    def find(self, id: str, now: float) -> int | None:
        """
        Return the position of the earliest update with an id; ``None`` if there is no such update.
        """
        self._advance_floor(now)
        return find(self._opened, id.encode(), self.floor)

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
        Delete some rows of dropped updates and of expired retained ones. Check that no file was replaced.

        :returns: whether more rows may remain to be deleted.
        :raises JournalFailed: if the file cannot be written.
        """
        self.trouble.check()
        self._look_at_files()
        self._advance_floor(now)
        self.damage.forget(self.floor)
        self._now = now
        try:
            if self._retention.deleted >= self.floor and not self._write(self._has_expired):
                return False
            self._write(self._delete_some)
            self._has_committed(_STEP, 0)
        except (sqlite3.Error, OSError) as error:
            raise self.trouble.note(error) from error
        return True

    def _has_expired(self) -> bool:
        return self._retained.has_expired(self._opened, self._now)

    def _delete_some(self) -> None:
        saved = self._save()
        try:
            with transaction(self._opened) as connection:
                self._retention.delete(connection, _STEP, self.head)
                self._retained.delete_expired(connection, self._now)
        except BaseException:
            self._restore(saved)
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
        self._has_loaded(self._retained.load(self._opened, self._now))
        self.trouble.is_damaged = False
        _log.warn(
            "{path} is now the copy; the damaged file was renamed to {damaged}",
            path=self.path,
            damaged=damaged,
        )

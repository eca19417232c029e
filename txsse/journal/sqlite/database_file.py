"""
The file of a journal as such: opened, written with all errors noted, checked, and closed.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from txsse._clock import Seconds
from txsse.errors import JournalFailed
from txsse.journal.sqlite.checkpoint import Checkpoints
from txsse.journal.sqlite.errors import explain, is_damage, is_failed_sync
from txsse.journal.sqlite.files import Files
from txsse.journal.sqlite.schema import connect, transaction
from txsse.journal.sqlite.write_problem import WriteProblem

__all__ = ["DatabaseFile"]

T = TypeVar("T")


class DatabaseFile(ABC):
    """
    A SQLite file with the files next to it.

    :param path: the file, which is created if it does not exist.
    :param synchronous: ``NORMAL`` or ``FULL``, SQLite's setting of that name.
    :param lock_timeout: how long to wait for another process that has the file open, in seconds.
    :param seconds: returns a monotonic time, in seconds.
    :ivar path: the file.
    :ivar head: the position of the newest update, even if that has been dropped.
    :ivar trouble: the reason why the file cannot be written, if any.
    """

    def __init__(self, path: Path, *, synchronous: str, lock_timeout: float, seconds: Seconds) -> None:
        self.path = path
        self.head = 0
        self.trouble = WriteProblem(path)
        self._synchronous = synchronous
        self._lock_timeout = lock_timeout
        self._seconds = seconds
        self._files = Files(path)
        self._checkpoints = Checkpoints(path)
        self._connection: sqlite3.Connection | None = None

    def _connect(self) -> None:
        self._connection = connect(self.path, synchronous=self._synchronous, timeout=self._lock_timeout)
        self._checkpoints = Checkpoints(self.path)
        self._files.watch()

    def close(self) -> None:
        """
        Close and unlock the file.
        """
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        finally:
            self._files.release()

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalFailed(str(self.path), "is not open; restart the service")
        return self._connection

    def query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Read from the file.

        :param work: reads, by the connection.
        """
        return work(self._opened)

    def change(self, work: Callable[[sqlite3.Connection], T], size: int) -> T:
        """
        Write to the file in one transaction, as durably as updates are recorded.

        :param work: writes, by the connection; called again with that of a copy, if the file is damaged.
        :param size: how much it writes, in bytes.
        :raises JournalFailed: if the file cannot be written.
        """

        def change() -> T:
            with transaction(self._opened) as connection:
                return work(connection)

        return self._commit(change, 1, size)

    def _commit(
        self,
        work: Callable[[], T],
        count: int,
        size: int,
        *,
        has_written: Callable[[T], bool] = lambda result: True,
    ) -> T:
        """
        Write to the file, and keep track of its errors.

        :param count: how many rows are written.
        :param size: their size, in bytes.
        :param has_written: returns whether the work with this result has written them.
        :raises JournalFailed: if they cannot be recorded.
        """
        try:
            self.trouble.check()
            result = self._write(work)
            if has_written(result):
                self.trouble.written(size)
            self._has_committed(count, size)
        except (sqlite3.Error, OSError) as error:
            raise self.trouble.note(error, size) from error
        return result

    def _write(self, work: Callable[[], T]) -> T:
        """
        Write to the file. If it is damaged, replace it by a copy of its readable rows, and write to that.
        """
        try:
            return self._write_once(work)
        except sqlite3.Error:
            if not self.trouble.is_damaged:
                raise
        self._salvage()
        return self._write_once(work)

    def _write_once(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            if is_damage(error):
                # All further writes fail until the file is copied, by _write or by the probe.
                self.trouble.is_damaged = True
                self.trouble.note(error)
            raise

    @abstractmethod
    def _salvage(self) -> None:
        """
        Replace the damaged file by a copy of its readable rows.
        """

    def _has_committed(self, count: int, size: int) -> None:
        """
        Check the files, note the head, and run a checkpoint if one is due, before updates are acknowledged.

        :param count: how many rows were written.
        :param size: their size, in bytes.
        """
        if self._files.is_look_due(self._seconds()):
            self._look_at_files()
        try:
            self._files.note(self.head)
            if self._checkpoints.is_due(count, size, self._files.frames):
                self._checkpoints.run(self._opened)
        except OSError as error:
            # The batch is recorded, but its head is not noted. It has to fail: otherwise the updates that
            # follow would reach subscribers out of order.
            raise self.trouble.end(explain(error)) from error
        except sqlite3.Error as error:
            if is_failed_sync(error):
                raise
            # The checkpoint failed, but the batch is safe in the ``-wal``.
            self.trouble.note(error)

    def _look_at_files(self) -> None:
        problem = self._files.problem()
        if problem is not None:
            raise self.trouble.end(problem)

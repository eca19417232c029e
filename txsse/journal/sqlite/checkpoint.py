"""
Checkpoints: move committed pages from SQLite's ``-wal`` file into the database file, without hiding errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from txsse.journal.sqlite.schema import transaction

__all__ = ["Checkpoints"]

_log = Logger()

# A checkpoint is due after this number of pages, as with SQLite's automatic checkpoint.
_PAGES = 1000

# The size of a page, in bytes.
_PAGE = 4096

# The pages in the ``-wal`` are counted only when about this number may have been added since the last count.
# A row takes about three pages, with its index.
_LOOK_PAGES = 64
_PAGES_OF_ROW = 3

# The minimum size of a probe, in bytes.
_LEAST_PROBE = 65536

# A ``-wal`` of more pages (64 MB) is logged: another program keeps SQLite from reusing them.
_MANY_PAGES = 16_000


class Checkpoints:
    """
    Decides when a checkpoint of a connection is due, and runs it.

    :param path: the database, for the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # The number of pages in the ``-wal`` at the last checkpoint.
        self._last = 0
        # The estimated number of pages added since they were last counted.
        self._estimate = 0
        self._warn_at = _MANY_PAGES

    def is_due(self, rows: int, size: int, count_frames: Callable[[], int]) -> bool:
        """
        Return whether a checkpoint is due.

        :param rows: how many rows were written.
        :param size: their size, in bytes.
        :param count_frames: counts the pages in the ``-wal``, which takes a system call.
        """
        self._estimate += _PAGES_OF_ROW * rows + size // _PAGE
        if self._estimate < _LOOK_PAGES:
            return False
        self._estimate = 0
        frames = count_frames()
        if frames < self._last:
            # SQLite has restarted the ``-wal`` from its beginning.
            self._last, self._warn_at = 0, _MANY_PAGES
        return frames - self._last >= _PAGES

    def run(self, connection: sqlite3.Connection) -> None:
        """
        Run a checkpoint: move the pages that no reader needs in the ``-wal`` any more.

        :raises sqlite3.Error: if the database cannot be written.
        """
        _, self._last, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._last >= self._warn_at:
            _log.warn(
                "{path}-wal has grown to {pages} pages: another program keeps a transaction open; end it",
                path=self._path,
                pages=self._last,
            )
            self._warn_at = self._last * 2

    def probe(self, connection: sqlite3.Connection, size: int) -> int:
        """
        Test whether data of a size can be written: write it to the ``-wal`` and the database, then delete it.

        :param size: the size, in bytes; at least 64 KiB are written.
        :returns: how many bytes were written.
        :raises sqlite3.Error: if they cannot be written, for example because the disk is full.
        """
        size = max(size, _LEAST_PROBE)
        with transaction(connection):
            connection.execute("INSERT INTO probe VALUES (randomblob(?))", [size])
        try:
            self.run(connection)
        finally:
            with transaction(connection):
                connection.execute("DELETE FROM probe")
        return size

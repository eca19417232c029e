"""
Moving what was committed from SQLite's ``-wal`` into the database, where errors can be seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from txsse.journal.sqlite.schema import transaction

__all__ = ["Checkpoints"]

_log = Logger()

# How many pages are in the ``-wal`` when it is time, as in SQLite's own checkpoints.
_PAGES = 1000

_PAGE = 4096

# Their number is looked up when there may be so many more: each row takes some, with its index.
_LOOK_PAGES = 64
_PAGES_OF_ROW = 3

# What a probe writes at least, in bytes.
_LEAST_PROBE = 65536

# From how many pages on it is worth a line in the log that they cannot be reused: 64 MB.
_MANY_PAGES = 16_000


class Checkpoints:
    """
    The checkpoints of a connection.

    :param path: the database, for the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # How many pages there were at the last one.
        self._last = 0
        # How many there may be since they were counted.
        self._estimate = 0
        self._warn_at = _MANY_PAGES

    def is_due(self, rows: int, size: int, count_frames: Callable[[], int]) -> bool:
        """
        Return whether it is time.

        :param rows: how many rows were written.
        :param size: how many bytes they take.
        :param count_frames: counts the pages in the ``-wal``, which takes a system call.
        """
        self._estimate += _PAGES_OF_ROW * rows + size // _PAGE
        if self._estimate < _LOOK_PAGES:
            return False
        self._estimate = 0
        frames = count_frames()
        if frames < self._last:
            # SQLite began it again, from the start.
            self._last, self._warn_at = 0, _MANY_PAGES
        return frames - self._last >= _PAGES

    def run(self, connection: sqlite3.Connection) -> None:
        """
        Move what no reader needs any more.

        :raises sqlite3.Error: where it cannot be written.
        """
        _, self._last, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._last >= self._warn_at:
            _log.warn(
                "{path}-wal has grown to {pages} pages, since another program reads the file for so long",
                path=self._path,
                pages=self._last,
            )
            self._warn_at = self._last * 2

    def probe(self, connection: sqlite3.Connection, size: int) -> int:
        """
        Write so many bytes, or a few more, to the ``-wal`` and to the database, and give them back.

        :returns: how many there were.
        :raises sqlite3.Error: where there is no room.
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

"""
The reason why a journal's file cannot be written, and when it can be written again.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from txsse.errors import JournalFailed
from txsse.journal.sqlite.errors import explain, is_failed_sync

__all__ = ["WriteProblem"]


class WriteProblem:
    """
    The state of a file with regard to writing.

    :param path: the file, for errors.
    :ivar current: the error of the last failed write; ``None`` once as many bytes have been written again.
    :ivar is_damaged: whether the file is damaged so that SQLite cannot write to it.
    :ivar is_final: whether all writes fail until the file is opened again.
    :ivar bytes: the size of the largest failed write, in bytes.
    """

    def __init__(self, path: Path) -> None:
        self.current: JournalFailed | None = None
        self.is_damaged = False
        self.is_final = False
        self.bytes = 0
        self._path = path

    def check(self) -> None:
        """
        Raise an error if no write can succeed.

        :raises JournalFailed: if the file is damaged, or has failed permanently.
        """
        if self.is_final or self.is_damaged:
            assert self.current is not None
            # A new error each time: one that is raised repeatedly accumulates all of its tracebacks.
            raise JournalFailed(self.current.journal, self.current.problem)

    def note(self, error: Exception, size: int = 0) -> JournalFailed:
        """
        Record an error, and return the one to raise to the publisher. A failed flush is permanent.

        :param size: how many bytes could not be written.
        """
        self.bytes = max(self.bytes, size)
        if isinstance(error, sqlite3.Error) and is_failed_sync(error):
            return self.end(
                "the system could not flush the file to the disk, so the latest updates may be lost; "
                f"see the system's log, and restart the service ({error})"
            )
        self.current = JournalFailed(str(self._path), explain(error))
        return self.current

    def end(self, problem: str) -> JournalFailed:
        """
        Record a permanent failure, and return the error to raise to the publisher.

        The error is marked as uncertain, because the publisher's updates were written but may be lost.
        """
        self.is_final = True
        self.current = JournalFailed(str(self._path), problem)
        return JournalFailed(str(self._path), problem, uncertain=True)

    def written(self, size: int) -> None:
        """
        Record a successful write. It clears the error if it has at least as many bytes as the failed one.
        """
        if size >= self.bytes:
            self.current, self.bytes = None, 0

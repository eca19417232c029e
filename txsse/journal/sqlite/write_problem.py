"""
What keeps a journal's file from being written, and until when.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from txsse.errors import JournalFailed
from txsse.journal.sqlite.errors import explain, is_failed_sync

__all__ = ["WriteProblem"]


class WriteProblem:
    """
    The state of a file, as far as it can be written.

    :param path: the file, for the messages.
    :ivar current: why what is written now may fail; ``None`` where as much as failed last could be written.
    :ivar is_damaged: whether SQLite cannot write to the file as it is.
    :ivar is_final: whether nothing can be written until the file is opened again.
    :ivar bytes: how many bytes could not be written.
    """

    def __init__(self, path: Path) -> None:
        self.current: JournalFailed | None = None
        self.is_damaged = False
        self.is_final = False
        self.bytes = 0
        self._path = path

    def check(self) -> None:
        """
        :raises JournalFailed: where nothing can be written.
        """
        if self.is_final or self.is_damaged:
            assert self.current is not None
            # Another one each time: an error that is raised again and again keeps all of its tracebacks.
            raise JournalFailed(self.current.journal, self.current.problem)

    def note(self, error: Exception, size: int = 0) -> JournalFailed:
        """
        Take note of an error, and return it as what the publisher is to get. A flush that failed is final.

        :param size: how many bytes could not be written.
        """
        self.bytes = max(self.bytes, size)
        if isinstance(error, sqlite3.Error) and is_failed_sync(error):
            return self.end(
                "the system could not flush the file to the disk, so what was recorded last may be lost; "
                f"see the system's log, and restart the service ({error})"
            )
        self.current = JournalFailed(str(self._path), explain(error))
        return self.current

    def end(self, problem: str) -> JournalFailed:
        """
        Take note that nothing can be written any more, and return what the publisher is to get: what it
        published was written, and may be lost.
        """
        self.is_final = True
        self.current = JournalFailed(str(self._path), problem)
        return JournalFailed(str(self._path), problem, uncertain=True)

    def written(self, size: int) -> None:
        """
        Take note that so many bytes were written.
        """
        if size >= self.bytes:
            self.current, self.bytes = None, 0

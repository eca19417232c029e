"""
Classifies errors of SQLite and the operating system, and explains to the operator how to fix each.
"""

from __future__ import annotations

import errno
import sqlite3

__all__ = ["explain", "is_damage", "is_failed_sync"]

# https://www.sqlite.org/rescode.html: CORRUPT, TOOBIG and CONSTRAINT. Here damage also causes the last two:
# an impossible length, and an index that disagrees with its table.
_DAMAGE = {11, 18, 19}

# IOERR_FSYNC and IOERR_DIR_FSYNC.
_FAILED_SYNCS = {10 | 4 << 8, 10 | 5 << 8}

_FULL = "the disk is full; make room, and publish again"
_DISK = "cannot be read or written; see the system's log for errors of the disk"
_OPEN = "cannot be opened; check that its directory exists and is writable"

_BY_ERRNO = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EIO: _DISK}

# By part of the message, because some errors that Python's module raises have no code.
_BY_TEXT = {
    "locked": "another program holds a lock on the file; end its transaction (reading the file does no harm)",
    "not a database": "is not a journal, or is damaged; move it away, or use another file",
    "malformed": "is damaged; restore it from a backup, or move it away",
    "disk is full": _FULL,
    "readonly": "cannot be written; check the owner and permissions of the file and its directory",
    "unable to open": _OPEN,
    "disk I/O": _DISK,
}


def is_damage(error: sqlite3.Error) -> bool:
    """
    Return whether the file's content causes the error, as opposed to the disk or another program.
    """
    return _code_of(error) & 0xFF in _DAMAGE


def is_failed_sync(error: sqlite3.Error) -> bool:
    """
    Return whether the operating system failed to flush the file to the disk.

    The kernel then drops the data that it could not write, and reports success the next time
    (https://lwn.net/Articles/752063/), so the success of a retry does not show that the data is safe.
    """
    return _code_of(error) in _FAILED_SYNCS


def _code_of(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def explain(error: Exception) -> str:
    """
    Return a text for the operator: what the error means, how to fix it, and its original message.
    """
    if isinstance(error, OSError):
        return f"{_BY_ERRNO.get(error.errno or 0, _OPEN)} ({error.strerror})"
    said = str(error)
    for part, advice in _BY_TEXT.items():
        if part in said:
            return f"{advice} ({said})"
    return said

"""
What SQLite's errors mean for a journal, and what the operator can do about each.
"""

from __future__ import annotations

import errno
import sqlite3

__all__ = ["explain", "is_damage", "is_failed_sync"]

# https://www.sqlite.org/rescode.html: CORRUPT, TOOBIG and CONSTRAINT. The last two come from damage as well:
# a length that cannot be, and an index that disagrees with its table.
_DAMAGE = {11, 18, 19}

# IOERR_FSYNC and IOERR_DIR_FSYNC.
_FAILED_SYNCS = {10 | 4 << 8, 10 | 5 << 8}

_FULL = "the disk is full; make room, and publish again"
_DISK = "cannot be read or written; see the system's log for what the disk has"
_OPEN = "cannot be opened; see whether its directory is there and may be written"

_BY_ERRNO = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EIO: _DISK}

# By what SQLite says: an error that Python raises on its behalf has no code.
_BY_TEXT = {
    "locked": "another program holds a lock on the file; end its transaction (reading the file does no harm)",
    "not a database": "is not a journal, or is damaged; move it away, or name another file",
    "malformed": "is damaged; restore it from a backup, or move it away",
    "disk is full": _FULL,
    "readonly": "cannot be written; see whose it is, and whose its directory is",
    "unable to open": _OPEN,
    "disk I/O": _DISK,
}


def is_damage(error: sqlite3.Error) -> bool:
    """
    Return whether the file's content is wrong, as opposed to the disk or another program.
    """
    return _code_of(error) & 0xFF in _DAMAGE


def is_failed_sync(error: sqlite3.Error) -> bool:
    """
    Return whether the system could not flush the file. The kernel then drops what it could not write and
    reports success the next time (https://lwn.net/Articles/752063/), so a retry proves nothing.
    """
    return _code_of(error) in _FAILED_SYNCS


def _code_of(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def explain(error: Exception) -> str:
    """
    Return what an error means, and what to do.
    """
    if isinstance(error, OSError):
        return f"{_BY_ERRNO.get(error.errno or 0, _OPEN)} ({error.strerror})"
    said = str(error)
    for part, advice in _BY_TEXT.items():
        if part in said:
            return f"{advice} ({said})"
    return said

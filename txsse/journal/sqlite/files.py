"""
A journal's files: the database with SQLite's ``-wal`` and ``-shm``, and ``-head`` beside them.

``-head`` holds the last position that was acknowledged, so that a database that was set back is noticed, and
the lock by which one process owns the journal. (Locks on the database itself are SQLite's: they keep other
programs from reading it.) No file is readable by others, whatever the umask: updates may be private.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from struct import Struct
from zlib import crc32

from txsse.errors import JournalFailed

__all__ = ["Files"]

_MODE = 0o600

# How often the files are looked at while updates are recorded, in seconds.
_LOOK_INTERVAL = 0.1

# How often another process's lock is looked at, in seconds.
_LOCK_INTERVAL = 0.02

_HEAD = re.compile(rb"(\d{19}) ([0-9a-f]{8})\n", re.ASCII)

# ``mxFrame`` in the header of the index of the ``-wal``: https://www.sqlite.org/walformat.html
_FRAMES = Struct("=I")
_FRAMES_OFFSET = 16

_Identity = tuple[int, int]


class Files:
    """
    The files of one journal.

    :param path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head_path = Path(f"{path}-head")
        self._wal_path = Path(f"{path}-wal")
        self._shm_path = Path(f"{path}-shm")
        self._fresh_path = Path(f"{path}-fresh")
        self._head: int | None = None
        self._shm: int | None = None
        self._noted = 0
        self._identities: dict[Path, _Identity] = {}
        self._look_at = 0.0

    def take(self, timeout: float) -> None:
        """
        Lock the journal, and create its database where there is none.

        :param timeout: how long to wait for another process, in seconds.
        :raises JournalFailed: where another process keeps it.
        :raises OSError: where a file cannot be opened.
        """
        over = time.monotonic() + timeout
        while not self._lock():
            if time.monotonic() >= over:
                raise JournalFailed(
                    str(self._path),
                    "another process has the file; stop that one, name another file, or share a Redis",
                )
            time.sleep(_LOCK_INTERVAL)
        # What is left of a copy that was not completed.
        self._fresh_path.unlink(missing_ok=True)
        # SQLite gives its other files the mode of this one. It must not be opened while SQLite has it open:
        # closing it would release all of this process's locks on it.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))

    def _lock(self) -> bool:
        head = os.open(self._head_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(head, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have removed it before it was locked.
            if _identity_if_there(self._head_path) == _identity(head):
                self._head, head = head, -1
        except BlockingIOError:
            pass
        finally:
            if head >= 0:
                os.close(head)
        return self._head is not None

    def watch(self) -> None:
        """
        Take note of which files these are, from now on. SQLite has made its own.
        """
        self._close_shm()
        self._shm = os.open(self._shm_path, os.O_RDONLY | os.O_CLOEXEC)
        paths = (self._path, self._wal_path, self._shm_path, self._head_path)
        self._identities = {path: _identity(path) for path in paths}

    def is_look_due(self, now: float) -> bool:
        """
        Return whether to look for a :meth:`problem` while updates are recorded: not for each of them.
        """
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_INTERVAL
        return True

    def problem(self) -> str | None:
        """
        Return what is wrong where one of the files is not the one that is written to: that one is unlinked,
        and ends with the process.
        """
        for path, identity in self._identities.items():
            if _identity_if_there(path) != identity:
                return (
                    f"{path.name} was removed or replaced while it was in use, so nothing can be recorded; "
                    "restart the service, which begins with the files that are there then"
                )
        return None

    def fresh(self) -> Path:
        """
        Create an empty file, which is to take the place of the database.
        """
        path = self._fresh_path
        path.unlink(missing_ok=True)
        needed = self._path.stat().st_size
        room = os.statvfs(self._path.parent)
        if room.f_bavail * room.f_frsize < needed:
            raise OSError(errno.ENOSPC, f"the file is damaged, and a copy of it takes up to {needed} bytes")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
        return path

    def replace(self, fresh: Path) -> Path:
        """
        Put a file in the place of the database, which has been closed.

        :returns: where the old one is now.
        """
        _sync(fresh)
        damaged = Path(f"{self._path}-damaged")
        for suffix in ("-wal", "-shm"):
            # SQLite would apply them to the new one.
            Path(f"{damaged}{suffix}").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}{suffix}", f"{damaged}{suffix}")
        damaged.unlink(missing_ok=True)
        # At no time is there no database.
        os.link(self._path, damaged)
        os.replace(fresh, self._path)
        _sync(self._path.parent)
        return damaged

    def noted(self) -> int | None:
        """
        Return the last position that was acknowledged; ``None`` where it is not known.
        """
        assert self._head is not None, "the journal has not been locked"
        match = _HEAD.fullmatch(os.pread(self._head, 100, 0))
        if match is None or crc32(match[1]) != int(match[2], 16):
            return None
        self._noted = int(match[1])
        return self._noted

    def note(self, position: int) -> None:
        """
        Take note of the last position, before it is acknowledged. It is one write of a few bytes, which a
        killed process has either made or not; for a power cut, it is as safe as an update with ``NORMAL``.
        """
        assert self._head is not None, "the journal has not been locked"
        if position != self._noted:
            text = b"%019d" % position
            os.pwrite(self._head, b"%b %08x\n" % (text, crc32(text)), 0)
            self._noted = position

    def frames(self) -> int:
        """
        Return how many pages are in the ``-wal``.
        """
        assert self._shm is not None, "the files are not watched"
        frames: int
        (frames,) = _FRAMES.unpack(os.pread(self._shm, _FRAMES.size, _FRAMES_OFFSET))
        return frames

    def release(self) -> None:
        """
        Unlock the journal, after its database was closed.
        """
        self._identities = {}
        self._close_shm()
        head, self._head = self._head, None
        if head is not None:
            os.close(head)

    def _close_shm(self) -> None:
        shm, self._shm = self._shm, None
        if shm is not None:
            os.close(shm)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _identity(file: Path | int) -> _Identity:
    found = os.stat(file)
    return found.st_dev, found.st_ino


def _identity_if_there(path: Path) -> _Identity | None:
    try:
        return _identity(path)
    except OSError:
        return None

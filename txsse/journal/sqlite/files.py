"""
A journal's files: the database, SQLite's ``-wal`` and ``-shm``, and ``-head``.

``-head`` holds the last position that was acknowledged, by which a journal detects that its database was set
back. Its lock ensures that only one process uses the journal. (A lock on the database itself is SQLite's, and
would keep other programs from reading it.) Whatever the umask, other users cannot read any of the files,
because updates may be private.
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

# How often to check the files while updates are recorded, in seconds.
_LOOK_INTERVAL = 0.1

# How often to retry while another process holds the lock, in seconds.
_LOCK_INTERVAL = 0.02

_HEAD = re.compile(rb"(\d{19}) ([0-9a-f]{8})\n", re.ASCII)

# ``mxFrame`` in the header of the WAL index: the number of pages in the ``-wal``. Python's sqlite3 returns it
# only from a checkpoint. Source: https://www.sqlite.org/walformat.html
_FRAMES = Struct("=I")
_FRAMES_OFFSET = 16

_Identity = tuple[int, int]


class Files:
    """
    The files of one journal: their lock, their identities, and the position in ``-head``.

    :param path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head_path = Path(f"{path}-head")
        self._wal_path = Path(f"{path}-wal")
        self._shm_path = Path(f"{path}-shm")
        self._copy_path = Path(f"{path}-fresh")
        self._head_descriptor: int | None = None
        self._shm_descriptor: int | None = None
        self._noted_position = 0
        self._identities: dict[Path, _Identity] = {}
        self._look_at = 0.0

    def take(self, timeout: float) -> None:
        """
        Lock the journal, and create its database file if it does not exist.

        :param timeout: how long to wait for the lock of another process, in seconds.
        :raises JournalFailed: if another process keeps the lock.
        :raises OSError: if a file cannot be opened.
        """
        deadline = time.monotonic() + timeout
        while not self._try_lock():
            if time.monotonic() >= deadline:
                raise JournalFailed(
                    str(self._path),
                    "another process has the file open; stop it, use another file, or share a Redis server",
                )
            time.sleep(_LOCK_INTERVAL)
        # Remove an incomplete copy.
        self._copy_path.unlink(missing_ok=True)
        # SQLite gives its other files the mode of the database. The database must not be opened here while
        # SQLite has it open: closing it would release all locks of this process on it.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))

    def _try_lock(self) -> bool:
        descriptor = os.open(self._head_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have removed the file before this one locked it.
            if _identity_if_there(self._head_path) == _identity(descriptor):
                self._head_descriptor, descriptor = descriptor, -1
        except BlockingIOError:
            pass
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return self._head_descriptor is not None

    def watch(self) -> None:
        """
        Record the identities of the files, for :meth:`problem`. SQLite must have created its files before.
        """
        self._close_shm()
        self._shm_descriptor = os.open(self._shm_path, os.O_RDONLY | os.O_CLOEXEC)
        paths = (self._path, self._wal_path, self._shm_path, self._head_path)
        self._identities = {path: _identity(path) for path in paths}

    def is_look_due(self, now: float) -> bool:
        """
        Return whether to check for a :meth:`problem` now: not for every update, at most every 0.1 s.

        :param now: the time, in seconds.
        """
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_INTERVAL
        return True

    def problem(self) -> str | None:
        """
        Return an error text if a file was removed or replaced; otherwise ``None``.

        Updates would then be written to an unlinked file, which is lost when the process ends.
        """
        for path, identity in self._identities.items():
            if _identity_if_there(path) != identity:
                return (
                    f"{path.name} was removed or replaced while it was in use, so no update can be recorded; "
                    "restart the service, which then uses the files that it finds"
                )
        return None

    def fresh(self) -> Path:
        """
        Create an empty file, into which the readable updates of a damaged database are copied.

        :raises OSError: if the disk has less free space than the database takes.
        """
        path = self._copy_path
        path.unlink(missing_ok=True)
        needed = self._path.stat().st_size
        room = os.statvfs(self._path.parent)
        if room.f_bavail * room.f_frsize < needed:
            raise OSError(errno.ENOSPC, f"the file is damaged, and its copy needs up to {needed} bytes")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
        return path

    def replace(self, fresh: Path) -> Path:
        """
        Replace the database, which has been closed, by another file. Rename the old one to ``-damaged``.

        :returns: the new path of the old database.
        """
        _sync(fresh)
        damaged = Path(f"{self._path}-damaged")
        for suffix in ("-wal", "-shm"):
            # SQLite would apply them to the new database.
            Path(f"{damaged}{suffix}").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}{suffix}", f"{damaged}{suffix}")
        damaged.unlink(missing_ok=True)
        # The order ensures that a database exists at every moment, even if the process is killed in between.
        os.link(self._path, damaged)
        os.replace(fresh, self._path)
        _sync(self._path.parent)
        return damaged

    def noted(self) -> int | None:
        """
        Return the last acknowledged position, from ``-head``; ``None`` if the file is empty or damaged.
        """
        assert self._head_descriptor is not None, "the journal has not been locked"
        match = _HEAD.fullmatch(os.pread(self._head_descriptor, 100, 0))
        if match is None or crc32(match[1]) != int(match[2], 16):
            return None
        self._noted_position = int(match[1])
        return self._noted_position

    def note(self, position: int) -> None:
        """
        Write the last position to ``-head``, before it is acknowledged.

        This is one write of a few bytes, which a killed process has made either completely or not at all. In
        a power cut, it is as safe as an update with ``synchronous="NORMAL"``.
        """
        assert self._head_descriptor is not None, "the journal has not been locked"
        if position != self._noted_position:
            text = b"%019d" % position
            os.pwrite(self._head_descriptor, b"%b %08x\n" % (text, crc32(text)), 0)
            self._noted_position = position

    def frames(self) -> int:
        """
        Return the number of pages in the ``-wal``, without a checkpoint.
        """
        assert self._shm_descriptor is not None, "the files are not watched"
        frames: int
        (frames,) = _FRAMES.unpack(os.pread(self._shm_descriptor, _FRAMES.size, _FRAMES_OFFSET))
        return frames

    def release(self) -> None:
        """
        Unlock the journal, after its database has been closed.
        """
        self._identities = {}
        self._close_shm()
        descriptor, self._head_descriptor = self._head_descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _close_shm(self) -> None:
        shm, self._shm_descriptor = self._shm_descriptor, None
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

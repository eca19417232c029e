"""
Where the last run of ``txsse tail`` ended.

Strategy: the file is replaced at each write: a reader finds the old id or the new one. What is replaced has
to be a regular file: in place of a FIFO, a device or a link there would be a file that nobody asked for.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["read_state", "write_state"]


def read_state(path: Path) -> str:
    """
    Return the id of the last event that was printed, and check that another one can be written.

    :param path: a regular file, a link to one, or a path where there is nothing yet.
    :returns: the id; ``""`` where there is no such file.
    :raises OSError: if it cannot be read, or cannot be replaced by a file of the same owner and mode.
    :raises ValueError: if it is no regular file, or holds something else than an id.
    """
    target, replaced = _target(path)
    text = "" if replaced is None else target.read_text(encoding="utf-8").removesuffix("\n")
    if any(character in text for character in "\r\n\0"):
        raise ValueError("it holds more than an id")
    if replaced is not None and not os.access(target, os.W_OK):
        raise PermissionError(0, "it cannot be written")
    os.unlink(_write(target, replaced, text))
    return text


def write_state(path: Path, last_event_id: str) -> None:
    """
    Write an id into the file, which keeps its owner and its mode. A reader finds the old id or the new one.

    :raises OSError: if that is not possible.
    :raises ValueError: if it is no regular file.
    """
    target, replaced = _target(path)
    name = _write(target, replaced, last_event_id)
    try:
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _target(path: Path) -> tuple[Path, os.stat_result | None]:
    """
    Follow links, and return the file at their end, with what is known of it; ``None`` where there is none.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError("it is a link to a file that does not exist") from None
        return path, None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    return Path(os.path.realpath(path)), found


def _write(target: Path, replaced: os.stat_result | None, last_event_id: str) -> str:
    """
    Write a file beside the target, to replace it.

    :returns: its path.
    """
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(last_event_id + "\n")
        if replaced is not None:
            made = os.stat(name)
            if (made.st_uid, made.st_gid) != (replaced.st_uid, replaced.st_gid):
                try:
                    os.chown(name, replaced.st_uid, replaced.st_gid)
                except PermissionError as error:
                    raise PermissionError(error.errno, "its owner and group cannot be kept") from None
            # Last, because chown clears the bits for another user and group.
            os.chmod(name, stat.S_IMODE(replaced.st_mode))
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    return name

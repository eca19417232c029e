"""
The file of ``txsse tail --state``, which contains the ID to resume from.

Strategy: each write replaces the file, so that a reader finds the old ID or the new one. Only a regular file
is replaced: a FIFO, a device or a link would otherwise become a regular file.
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
    Return the ID of the last event that was printed, and check that another one can be written.

    :param path: a regular file, a link to one, or a path that does not exist yet.
    :returns: the ID; ``""`` if the file does not exist.
    :raises OSError: if the file cannot be read, or cannot be replaced by a file of the same owner and mode.
    :raises ValueError: if it is not a regular file, or contains something else than an ID.
    """
    target, replaced = _target(path)
    text = "" if replaced is None else target.read_text(encoding="utf-8").removesuffix("\n")
    if any(character in text for character in "\r\n\0"):
        raise ValueError("it contains more than an event ID")
    if replaced is not None and not os.access(target, os.W_OK):
        raise PermissionError(0, "it cannot be written")
    os.unlink(_write(target, replaced, text))
    return text


def write_state(path: Path, last_event_id: str) -> None:
    """
    Replace the file by one with another ID, the same owner and the same mode.

    :raises OSError: if that fails.
    :raises ValueError: if it is not a regular file.
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
    Follow links, and return the final path with its ``stat`` result, which is ``None`` if it does not exist.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError("it is a link to a file that does not exist") from None
        return path, None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    return Path(os.path.realpath(path)), found


def _write(target: Path, replaced: os.stat_result | None, last_event_id: str) -> str:
    """
    Write a temporary file in the target's directory, with the owner and mode of the file that it replaces.

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
            # After chown, which clears the set-user-ID and set-group-ID bits.
            os.chmod(name, stat.S_IMODE(replaced.st_mode))
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    return name

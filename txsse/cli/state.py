"""
Where the last run of ``txsse tail`` ended.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["read_state", "write_state"]


def read_state(path: Path) -> str:
    """
    Return the id of the last event that was printed; ``""`` where there is no such file.

    :raises OSError: where it cannot be read.
    :raises ValueError: where it holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
    except FileNotFoundError:
        return ""
    if any(character in text for character in "\r\n\0"):
        raise ValueError("it holds more than an id")
    return text


def write_state(path: Path, last_event_id: str) -> None:
    """
    Put an id into the file, so that whoever reads it finds the old one or the new one, and never a half.

    :raises OSError: where that is not possible.
    """
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(last_event_id + "\n")
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise

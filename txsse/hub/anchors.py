"""
Ids for places in a journal that no update names.

A newcomer is sent the id of the newest update, so that it can resume even if it never gets one. Where that
update is private, or there is none, its id is not for everybody, and the place has a name of its own.
"""

from __future__ import annotations

import re

__all__ = ["Anchors"]

_POSITION = re.compile("[0-9]{1,18}", re.ASCII)


class Anchors:
    """
    Ids of the form ``#name-position``.

    :param name: what tells this record's places from those of another one with the same positions.
    """

    def __init__(self, name: str) -> None:
        self._prefix = f"#{name}-"

    def anchor(self, position: int) -> str:
        """
        Return the id of a place.
        """
        return f"{self._prefix}{position}"

    def find(self, id: str, head: int) -> int | None:
        """
        Return the place that an id names; ``None`` where it names none up to the head.
        """
        if not id.startswith(self._prefix):
            return None
        digits = id[len(self._prefix) :]
        position = int(digits) if _POSITION.fullmatch(digits) else head + 1
        return position if position <= head else None

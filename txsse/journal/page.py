"""
A part of a journal, as it is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from txsse.journal.update import Update

__all__ = ["Entry", "Page"]

# An update and its position.
Entry = tuple[int, Update]


@dataclass(frozen=True)
class Page:
    """
    A part of a journal.

    :ivar entries: updates with their positions, in order.
    :ivar end: the position up to which the reader has now got everything there is.
    :ivar missed: whether updates are missing before these: the journal does not hold them any more, or
        cannot read them.
    """

    entries: list[Entry]
    end: int
    missed: bool

    @property
    def begin(self) -> int:
        """
        The position before the entries, and after everything that is missing: a reader that goes on from it
        gets them.
        """
        return self.entries[0][0] - 1 if self.entries else self.end

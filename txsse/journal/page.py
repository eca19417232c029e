"""
A page: consecutive updates of a journal, as one read returns them.
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
    Consecutive updates of a journal, and the position from which to read the next page.

    :ivar entries: updates with their positions, in order.
    :ivar end: the position after which the next page begins.
    :ivar missed: whether updates are missing before the entries: the journal no longer holds them, or cannot
        read them.
    """

    entries: list[Entry]
    end: int
    missed: bool

    @property
    def begin(self) -> int:
        """
        The position before the entries, and after all missing updates. Reading after it returns the entries.
        """
        return self.entries[0][0] - 1 if self.entries else self.end

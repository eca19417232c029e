"""
Converts ids of stream entries to positions, which only grow, even if the record is set back.

An entry of a Redis stream has an id, ``<milliseconds>-<number>``. This package uses it as a single number. If
a failover loses the newest entries, new entries may have smaller ids than the lost ones. A process that has
read the lost entries begins a new epoch, and uses the count of epochs as the upper part of a position.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["Epochs", "to_number", "to_text"]

_BITS = 128
_MASK = (1 << _BITS) - 1


# Each id is read three times: in the reply of the script, in its entry, and in the next entry.
@lru_cache(maxsize=4096)
def to_number(id: str | bytes) -> int:
    """
    Return the number for an entry's id.
    """
    time, _, number = id.partition("-") if isinstance(id, str) else id.partition(b"-")
    return int(time) << 64 | int(number)


def to_text(number: int) -> str:
    """
    Return the id for an entry's number.
    """
    return f"{number >> 64}-{number & (1 << 64) - 1}"


class Epochs:
    """
    The epochs that one process has seen, which determine the positions of entries.
    """

    def __init__(self) -> None:
        # For each epoch but the first, the number of the last entry before it.
        self._begins: list[int] = []

    def begin(self, number: int) -> None:
        """
        Begin a new epoch after an entry: the record now has other entries after it than before.
        """
        self._begins.append(number)

    def position_of(self, number: int, *, begin: bool = False) -> int:
        """
        Return the position of an entry.

        :param begin: return the position in the current epoch of the last entry before it. All new entries
            have greater positions, and all lost entries have smaller ones.
        """
        if begin:
            return len(self._begins) << _BITS | number
        for count in range(len(self._begins), 0, -1):
            if number > self._begins[count - 1]:
                return count << _BITS | number
        return number

    def number_of(self, position: int) -> int:
        """
        Return the number of the entry at a position.
        """
        return position & _MASK

    def resume(self, position: int) -> tuple[int, bool]:
        """
        Return the number after which to continue reading from a position, and whether updates are lost.

        They are lost if the record was set back to an entry before this position.
        """
        number = position & _MASK
        begin = min(self._begins[position >> _BITS :], default=number)
        return min(number, begin), number > begin

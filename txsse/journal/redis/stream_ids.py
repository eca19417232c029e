"""
Positions that only grow, over a record that may be set back.

An entry in a stream of Redis has an id, ``<milliseconds>-<number>``, here as one number. After a failover
that lost the newest entries, others come whose ids may be smaller than those of the lost ones. A process that
has seen the lost ones counts such epochs, and puts the count before the entry's number.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["Epochs", "to_number", "to_text"]

_BITS = 128
_MASK = (1 << _BITS) - 1


# An id comes three times: in the answer of the script, with its entry, and in the one after it.
@lru_cache(maxsize=4096)
def to_number(id: str | bytes) -> int:
    """
    Read an entry's id.
    """
    time, _, number = id.partition("-") if isinstance(id, str) else id.partition(b"-")
    return int(time) << 64 | int(number)


def to_text(number: int) -> str:
    """
    Write an entry's id.
    """
    return f"{number >> 64}-{number & (1 << 64) - 1}"


class Epochs:
    """
    The positions of entries, for one process.
    """

    def __init__(self) -> None:
        # Before each epoch but the first, the number of the last entry that came before it.
        self._begins: list[int] = []

    def begin(self, number: int) -> None:
        """
        Begin an epoch: after an entry, the record has others than before.
        """
        self._begins.append(number)

    def position_of(self, number: int, *, begin: bool = False) -> int:
        """
        Return the position of an entry.

        :param begin: for the last entry before this epoch: the position from which all that is new is
            greater, and all that is lost is smaller.
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
        Return the number after which a reader goes on that was at a position, and whether the updates that it
        read last are lost.
        """
        number = position & _MASK
        begin = min(self._begins[position >> _BITS :], default=number)
        return min(number, begin), number > begin

"""
Positions that only grow, over a record that may be set back.

An entry in a stream of Redis has an id, ``<milliseconds>-<number>``, here as one number. After a failover
that lost the newest entries, others come whose ids may be smaller than those of the lost ones. A process that
has seen the lost ones counts such forks, and puts the count before the entry's number.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["Timeline", "to_number", "to_text"]

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


class Timeline:
    """
    The positions of entries, for one process.
    """

    def __init__(self) -> None:
        # After each fork, the number of the last entry that came before it.
        self._forks: list[int] = []

    def fork(self, number: int) -> None:
        """
        The record goes on behind an entry with others than before.
        """
        self._forks.append(number)

    def position_of(self, number: int, *, behind_fork: bool = False) -> int:
        """
        Return the position of an entry.

        :param behind_fork: for the one at the last fork, the position from which all that is new is greater,
            and all that is lost is smaller.
        """
        if behind_fork:
            return len(self._forks) << _BITS | number
        for count in range(len(self._forks), 0, -1):
            if number > self._forks[count - 1]:
                return count << _BITS | number
        return number

    def number_of(self, position: int) -> int:
        """
        Return the number of the entry at a position.
        """
        return position & _MASK

    def resume(self, position: int) -> tuple[int, bool]:
        """
        Return the number behind which somebody reads on who has come to a position, and whether what they had
        last is lost.
        """
        number = position & _MASK
        fork = min(self._forks[position >> _BITS :], default=number)
        return min(number, fork), number > fork

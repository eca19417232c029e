"""
Counts and logs the positions of a journal's file that can no longer be read, each of them once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from pathlib import Path

from twisted.logger import Logger

__all__ = ["Damage"]

_log = Logger()

# The maximum number of lines that one process logs, so that a badly damaged file does not fill the log.
_MOST_LINES = 20


class Damage:
    """
    The positions whose updates are damaged or lost.

    :param path: the file, for the log.
    :ivar count: the number of these positions.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._lines = 0
        # The first and the last position of each run, in order. Runs do not overlap.
        self._runs: list[tuple[int, int]] = []

    def note(self, first: int, last: int) -> None:
        """
        Record that a range of positions is lost. Count and log it unless all of them are known.

        :param first: the first lost position.
        :param last: the last lost position, inclusive.
        """
        begin = bisect_left(self._runs, first, key=itemgetter(1))
        end = bisect_right(self._runs, last, key=itemgetter(0))
        known = self._runs[begin:end]
        new = last - first + 1 - sum(min(b, last) - max(a, first) + 1 for a, b in known)
        if not new:
            return
        if known:
            first, last = min(first, known[0][0]), max(last, known[-1][1])
        self._runs[begin:end] = [(first, last)]
        self.count += new
        self._lines += 1
        if self._lines <= _MOST_LINES:
            _log.error(
                "{path}: the updates at positions {first} to {last} are damaged or lost; subscribers that "
                "resume before them are sent stream-reset{more}",
                path=self._path,
                first=first,
                last=last,
                more="; further damage is counted, but not logged" if self._lines == _MOST_LINES else "",
            )

    def forget(self, up_to: int) -> None:
        """
        Forget the positions up to one, after the journal has dropped them. They stay counted.
        """
        del self._runs[: bisect_right(self._runs, up_to, key=itemgetter(1))]

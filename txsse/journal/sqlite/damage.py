"""
Which positions of a journal's file cannot be read any more: counted and logged once each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from pathlib import Path

from twisted.logger import Logger

__all__ = ["Damage"]

_log = Logger()

# How many lines of it the log gets from one process: a file that is damaged all over would fill it.
_MOST_LINES = 20


class Damage:
    """
    Positions that are lost.

    :param path: the file, for the log.
    :ivar count: how many, each counted once.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._lines = 0
        # From the first to the last of each run, in order; no two of them overlap.
        self._runs: list[tuple[int, int]] = []

    def note(self, first: int, last: int) -> None:
        """
        Take note of lost positions, from the first to the last.
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
        Forget positions that the journal has given up.
        """
        del self._runs[: bisect_right(self._runs, up_to, key=itemgetter(1))]

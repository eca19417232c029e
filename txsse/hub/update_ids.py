"""
Ids for updates whose publisher gave none.
"""

from __future__ import annotations

from collections.abc import Callable

from txsse._randomness import Randomness

__all__ = ["IdMaker"]


class IdMaker:
    """
    Make ids that sort as they were made: 14 hexadecimal digits of time in microseconds, up to the year 4253,
    and 8 that are this maker's own. Where the clock stands still, or goes back, the time is counted on; after
    a restart the maker is another one, so that even a clock that was set back repeats nothing.

    :param seconds: the time, in seconds since 1970.
    :param randomness: distinguishes this maker from all others.
    """

    def __init__(self, seconds: Callable[[], float], randomness: Randomness) -> None:
        self._seconds = seconds
        self._last = 0
        self._maker = "-" + randomness.token(4).hex()

    def next(self) -> str:
        """
        Make an id.
        """
        now = int(self._seconds() * 1e6)
        self._last = last = now if now > self._last else self._last + 1
        return f"{last:014x}{self._maker}"

"""
Generated IDs, for updates that are published without one.
"""

from __future__ import annotations

from collections.abc import Callable

from txsse._randomness import Randomness

__all__ = ["IdMaker"]


class IdMaker:
    """
    Generates unique IDs that sort in the order of their generation.

    An ID is 14 hexadecimal digits of time in microseconds, enough up to the year 4253, and 8 random digits
    for this generator. If the clock stands still or is set back, the time is incremented instead. The random
    digits differ after a restart, so that IDs are unique even if the clock was set back in between.

    :param seconds: returns the time, in seconds since 1970.
    :param randomness: the source of the random digits.
    """

    def __init__(self, seconds: Callable[[], float], randomness: Randomness) -> None:
        self._seconds = seconds
        self._last = 0
        self._maker = "-" + randomness.token(4).hex()

    def next(self) -> str:
        """
        Return a new ID.
        """
        now = int(self._seconds() * 1e6)
        self._last = last = now if now > self._last else self._last + 1
        return f"{last:014x}{self._maker}"

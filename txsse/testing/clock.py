"""
A clock for tests, whose time of day can be set.
"""

from __future__ import annotations

from twisted.internet.task import Clock

__all__ = ["WallClock"]


class WallClock(Clock):
    """
    A :class:`~twisted.internet.task.Clock` whose time of day can be set, as that of a computer, while its
    timers go on::

        clock = WallClock()
        clock.advance(10)       # timers are called; the time of day goes on, too
        clock.step(-3600)       # the time of day is set back by an hour; no timer notices
    """

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0

    def wall(self) -> float:
        """
        Return the time of day, in seconds since 1970.
        """
        return self.seconds() + self._ahead

    def step(self, seconds: float) -> None:
        """
        Set the time of day.

        :param seconds: how far forward; less than 0 for back.
        """
        self._ahead += seconds

"""
A clock for tests that need the wall-clock time to jump, as when an operator or NTP sets it.
"""

from __future__ import annotations

from twisted.internet.task import Clock

__all__ = ["WallClock"]


class WallClock(Clock):
    """
    A :class:`~twisted.internet.task.Clock` whose wall-clock time can be set without effect on its timers.

    ::

        clock = WallClock()
        clock.advance(10)       # due timers are called; the wall-clock time advances, too
        clock.step(-3600)       # the wall-clock time is set back by an hour; timers are not affected
    """

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0

    def wall(self) -> float:
        """
        Return the wall-clock time, in seconds since 1970.
        """
        return self.seconds() + self._ahead

    def step(self, seconds: float) -> None:
        """
        Set the wall-clock time forward or back.

        :param seconds: how far forward; negative values set it back.
        """
        self._ahead += seconds

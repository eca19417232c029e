"""
Failures in the log that may come at any rate: a few in full, the rest as a number.

Strategy: whoever can make something fail, again and again, must not fill a disk with tracebacks. The first
ones of each interval are logged; of the others, the next interval's first line says how many they were.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["RateLimitedLog"]

# How many lines are logged in full in each interval, and how long that is, in seconds.
_BURST = 5
_INTERVAL = 60.0


class RateLimitedLog:
    """
    A logger that logs at most so many lines a minute.

    :param log: the logger.
    :param clock: returns the time, in seconds; by default one that is never set back.
    :param burst: how many lines are logged in full in each interval.
    :param interval: how long that is, in seconds.
    """

    def __init__(
        self,
        log: Logger,
        *,
        clock: Callable[[], float] = monotonic,
        burst: int = _BURST,
        interval: float = _INTERVAL,
    ) -> None:
        self._log = log
        self._burst = burst
        self._interval = interval
        self._clock = clock
        self._until = 0.0
        self._left = 0
        self._suppressed = 0

    def failure(self, text: str, failure: Failure | None = None, **fields: Any) -> None:
        """
        Log a failure with its traceback, as :meth:`twisted.logger.Logger.failure` does.
        """
        if self._may_log():
            self._log.failure(text, failure, **fields)

    def error(self, text: str, **fields: object) -> None:
        """
        Log an error in one line.
        """
        if self._may_log():
            self._log.error(text, **fields)

    def summary(self, text: str, **fields: object) -> None:
        """
        Log an error in one line whose field ``count`` is how many there were since the last one.
        """
        count = self._take()
        if count is not None:
            self._log.error(text, count=count, **fields)

    def _may_log(self) -> bool:
        count = self._take()
        if count is None:
            return False
        if count > 1:
            self._log.error("{count} similar errors before this one were not logged", count=count - 1)
        return True

    def _take(self) -> int | None:
        """
        Return how many errors the next line stands for; ``None`` where it is not logged.
        """
        now = self._clock()
        if not self._left and now < self._until:
            self._suppressed += 1
            return None
        if now >= self._until:
            self._until, self._left = now + self._interval, self._burst
        self._left -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed + 1

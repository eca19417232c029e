"""
A logger with a rate limit: it logs the first errors of each interval in full, and only counts the others.

Strategy: a client that makes the server fail again and again must not fill the disk with tracebacks. The
first line of the next interval reports how many errors were not logged.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

__all__ = ["RateLimitedLog"]

# How many errors are logged in each interval, and the length of an interval, in seconds.
_BURST = 5
_INTERVAL = 60.0


class RateLimitedLog:
    """
    A logger that logs at most ``burst`` errors in each interval.

    :param log: the logger.
    :param clock: returns the time, in seconds; by default a monotonic one.
    :param burst: how many errors are logged in each interval.
    :param interval: the length of an interval, in seconds.
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

    def failure(self, text: str, failure: Failure | None = None, **fields: object) -> None:
        """
        Log a failure with its traceback, as :meth:`twisted.logger.Logger.failure` does.
        """
        if self._may_log():
            self._log.failure(text, failure, LogLevel.critical, **fields)

    def error(self, text: str, **fields: object) -> None:
        """
        Log an error in one line.
        """
        if self._may_log():
            self._log.error(text, **fields)

    def summary(self, text: str, **fields: object) -> None:
        """
        Log an error in one line, whose field ``count`` is the number of errors since the last logged one.
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
        Return how many errors the next line stands for; ``None`` if it must not be logged.
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

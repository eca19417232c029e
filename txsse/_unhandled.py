"""
Failures of Deferreds that nobody handles.

Twisted logs each with a traceback when its Deferred is collected. That is right for what should not happen.
It is not for what is expected: while a journal is unavailable, every publication fails in the same way, and
where the program drops what ``hub.publish`` returns, the log fills. Here such failures are one line, at most
one in ten seconds, that says how many there were, what is wrong, and what to write.
"""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txsse._rate_limited_log import RateLimitedLog
from txsse._twisted.deferreds import watch_failure

__all__ = ["Unhandled"]

T = TypeVar("T")


class Unhandled:
    """
    Watches Deferreds until they are collected.

    :param log: where the lines go; ``None`` for nowhere.
    :param expected: the exceptions that are treated so. Twisted logs the others.
    """

    def __init__(self, log: RateLimitedLog | None, *expected: type[Exception]) -> None:
        self._log = log
        self._expected = expected

    def watch(self, deferred: Deferred[T], called: str) -> Deferred[T]:
        """
        Watch a Deferred. It need not be done before it fails: those that do not fail cost nothing.

        :param deferred: the Deferred.
        :param called: what returned it, such as ``hub.publish``.
        :returns: the Deferred.
        """
        watch_failure(deferred, self.dropped, called)
        return deferred

    def dropped(self, failure: Failure, called: str) -> bool:
        """
        Log a failure that nobody handled.

        :returns: whether it is an expected one.
        """
        if not failure.check(*self._expected):
            return False
        if self._log is not None:
            self._log.summary(
                "{called} failed, and nobody handled that: {error} "
                "(failures since the last such line: {count}). "
                "Add an errback to the Deferred that {called} returns, or await it",
                called=called,
                error=str(failure.value),
            )
        return True

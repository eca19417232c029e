"""
Logs expected failures of Deferreds that the program did not handle, in few lines.

Twisted logs each unhandled failure with a traceback when its Deferred is collected. That is right for
unexpected failures. But while a journal is unavailable, every publication fails in the same way, and a
program that drops the Deferreds of ``hub.publish`` would fill its log. This module logs such failures in one
line, at most one in ten seconds, with their number, the error, and the code to write.
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

    :param log: the log for expected failures; ``None`` to log none of them.
    :param expected: the types of expected exceptions. Twisted logs all others.
    """

    def __init__(self, log: RateLimitedLog | None, *expected: type[Exception]) -> None:
        self._log = log
        self._expected = expected

    def watch(self, deferred: Deferred[T], called: str) -> Deferred[T]:
        """
        Watch a Deferred.

        It may have failed already, so a caller need not watch Deferreds that do not fail.

        :param deferred: the Deferred.
        :param called: the function that returned it, such as ``hub.publish``.
        :returns: the Deferred.
        """
        watch_failure(deferred, self.dropped, called)
        return deferred

    def dropped(self, failure: Failure, called: str) -> bool:
        """
        Log an unhandled failure, if it is an expected one.

        :returns: whether it is expected; if not, Twisted logs it.
        """
        if not failure.check(*self._expected):
            return False
        if self._log is not None:
            self._log.summary(
                "{called} failed, and the program did not handle the failure: {error} "
                "(failures since the last such line: {count}). "
                "Add an errback to the Deferred that {called} returns, or await it",
                called=called,
                error=str(failure.value),
            )
        return True

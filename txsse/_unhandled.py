"""
Failures of Deferreds that nobody handles.

Twisted logs each with a traceback when its Deferred is collected. That is right for what should not happen.
It is not for what is expected: while a journal is unavailable, every publication fails in the same way, and
where the program drops what ``hub.publish`` returns, the log fills. Here such failures are one line, at most
one in ten seconds, that says how many there were, what is wrong, and what to write.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txsse._rate_limited_log import RateLimitedLog

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
        # Twisted's own notice of what is unhandled. No interface of Twisted's reaches it; where it is not as
        # expected, Twisted logs on, and so it does for a program that debugs its Deferreds.
        if hasattr(defer, "DebugInfo") and hasattr(Deferred, "_debugInfo") and not deferred.debug:
            notice: Any = _Notice(self, called)
            before = deferred._debugInfo
            if before is not None:
                notice.failResult, before.failResult = before.failResult, None
            deferred._debugInfo = notice
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


class _Notice:
    def __init__(self, unhandled: Unhandled, called: str) -> None:
        self._unhandled = unhandled
        self._called = called
        # Twisted sets it while the Deferred's result is a failure.
        self.failResult: Failure | None = None

    def __del__(self) -> None:
        # A Deferred's own __del__ would be too late: in a cycle, nobody knows which one is called first.
        if self.failResult is not None and not self._unhandled.dropped(self.failResult, self._called):
            # Dropped at once, it logs.
            defer.DebugInfo().failResult = self.failResult

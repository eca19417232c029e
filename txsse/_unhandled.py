"""
Failures of Deferreds that nobody handles.

Twisted logs each with a traceback when its Deferred is collected. That is right for what should not happen.
It is not for what is expected: while a journal is unavailable, every publication fails in the same way, and
where the program drops what ``hub.publish`` returns, the log fills. Here such failures are one line, at most
one in ten seconds, that says how many there were, what is wrong, and what to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txsse._sparing import SparingLog

__all__ = ["Unhandled"]

T = TypeVar("T")


class Unhandled:
    """
    Watches Deferreds until they are collected.

    :param log: where the lines go; ``None`` for nowhere.
    :param expected: the exceptions that are treated so. Twisted logs the others.
    """

    def __init__(self, log: SparingLog | None, *expected: type[Exception]) -> None:
        self._log = log
        self._expected = expected

    def watch(self, deferred: Deferred[T], called: str) -> Deferred[T]:
        """
        Watch a Deferred. This changes its class, so that the many that do not fail need no watching, and cost
        nothing.

        :param deferred: the Deferred. An instance of a class that is not Twisted's is left alone.
        :param called: what returned it, such as ``hub.publish``.
        :returns: the Deferred.
        """
        if type(deferred) is Deferred:
            deferred.__class__ = _Watched
        if isinstance(deferred, _Watched):
            deferred.watched_by, deferred.called_by = self, called
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


class _Watched(Deferred[Any]):
    watched_by: Unhandled
    called_by: str
    _raised = False

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # The failure is raised into the coroutine that awaits this, and stays the result.
        self._raised = True
        return super().__iter__()

    __await__ = __iter__  # type: ignore[assignment]

    def __del__(self) -> None:
        failure = getattr(self, "result", None)
        if isinstance(failure, Failure) and (
            self._raised or self.watched_by.dropped(failure, self.called_by)
        ):
            self.addErrback(_handled)


def _handled(_: Failure) -> None:
    """
    Keep Twisted from logging a failure.
    """

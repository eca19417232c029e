"""
The notice that a Deferred leaves when it is collected with a failure that nothing handled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["watch_failure"]

T = TypeVar("T")


def watch_failure(deferred: Deferred[T], dropped: Callable[[Failure, str], bool], called: str) -> bool:
    """
    Have something called when a Deferred is collected with a failure that nothing handled.

    :param deferred: the Deferred. It need not have a result yet.
    :param dropped: called with the failure and with ``called``; Twisted logs the failure where this returns
        ``False``.
    :param called: what returned the Deferred.
    :returns: ``False`` where this Twisted does not have what is needed, and for a program that debugs its
        Deferreds: then Twisted logs the failure, with a traceback.
    """
    try:
        before, _ = deferred._debugInfo, defer.DebugInfo.failResult
    except AttributeError:
        return False
    if deferred.debug:
        return False
    notice: Any = _Notice(dropped, called)
    if before is not None:
        notice.failResult, before.failResult = before.failResult, None
    deferred._debugInfo = notice
    return True


class _Notice:
    def __init__(self, dropped: Callable[[Failure, str], bool], called: str) -> None:
        self._dropped = dropped
        self._called = called
        # Twisted sets it while the Deferred's result is a failure.
        self.failResult: Failure | None = None

    def __del__(self) -> None:
        # A Deferred's own __del__ would be too late: in a cycle, the order of these calls is not known.
        if self.failResult is not None and not self._dropped(self.failResult, self._called):
            # Collected at once, it logs.
            defer.DebugInfo().failResult = self.failResult

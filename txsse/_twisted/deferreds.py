"""
A hook for Deferreds that are garbage-collected with an unhandled failure, in place of Twisted's log entry.
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
    Call a function when a Deferred is collected with an unhandled failure.

    :param deferred: the Deferred. It need not have a result yet.
    :param dropped: called with the failure and with ``called``; if it returns ``False``, Twisted logs the
        failure.
    :param called: the name of the function that returned the Deferred.
    :returns: ``False`` if this Twisted lacks a private name, or if the program debugs its Deferreds: then
        Twisted logs the failure with a traceback.
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
        # Twisted sets this attribute while the Deferred's result is a failure.
        self.failResult: Failure | None = None

    def __del__(self) -> None:
        # This cannot be a __del__ of the Deferred: in a cycle, the order of finalizers is not defined.
        if self.failResult is not None and not self._dropped(self.failResult, self._called):
            # This DebugInfo is collected at once, and logs the failure as Twisted does.
            defer.DebugInfo().failResult = self.failResult

"""
Calls the callbacks of a program, and logs their failures.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import ParamSpec

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._rate_limited_log import RateLimitedLog

__all__ = ["Callbacks"]

_log = Logger()

_Arguments = ParamSpec("_Arguments")


class Callbacks:
    """
    Calls callbacks. If one fails, or never ends, the hub goes on.
    """

    def __init__(self) -> None:
        self._failures = RateLimitedLog(_log)

    def run(
        self,
        name: str,
        callback: Callable[_Arguments, object],
        *arguments: _Arguments.args,
        **options: _Arguments.kwargs,
    ) -> Deferred[None]:
        """
        Call a callback.

        :param name: its name in the log.
        :returns: a Deferred that fires when the callback, or the awaitable that it returned, has ended. It
            does not fail.
        """
        try:
            returned = callback(*arguments, **options)
        except Exception:
            self._failed(Failure(), name)
            return succeed(None)
        if not isawaitable(returned):
            return succeed(None)
        return Deferred.fromCoroutine(_wait_for(returned)).addErrback(self._failed, name)

    def _failed(self, failure: Failure, name: str) -> None:
        self._failures.failure("{name} failed; the hub goes on", failure, name=name)


async def _wait_for(awaitable: Awaitable[object]) -> None:
    await awaitable

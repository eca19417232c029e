"""
Named timers: at most one of each name runs at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["NamedTimers"]


class NamedTimers:
    """
    The timers of one connection.

    :param reactor: returns the reactor.
    """

    def __init__(self, reactor: Callable[[], IReactorTime]) -> None:
        self._reactor = reactor
        self._calls: dict[str, IDelayedCall] = {}

    def start(self, name: str, seconds: float, then: Callable[..., object], *args: object) -> None:
        """
        Start a timer; it replaces the one with the same name.
        """
        self.cancel(name)
        self._calls[name] = self._reactor().callLater(seconds, then, *args)

    def left(self, name: str) -> float | None:
        """
        Return how many seconds a timer has left; ``None`` if it does not run.
        """
        call = self._calls.get(name)
        if call is None or not call.active():
            return None
        return max(0.0, call.getTime() - self._reactor().seconds())

    def cancel(self, name: str) -> None:
        """
        Cancel a timer, unless it has run.
        """
        call = self._calls.pop(name, None)
        if call is not None and call.active():
            call.cancel()

    def cancel_all(self) -> None:
        """
        Cancel all timers.
        """
        for name in list(self._calls):
            self.cancel(name)

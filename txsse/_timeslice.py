"""
Cooperative time slices: long work that shares one budget in each turn of the reactor.

Without it, a thousand replays at once would keep the reactor from reading, writing and running timers.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txsse._waiters import Waiters

__all__ = ["TimeSlices"]

T = TypeVar("T")

# How long all work in one turn of the reactor may take, in seconds.
_SLICE_SECONDS = 0.01


class TimeSlices:
    """
    The time budget of a turn of the reactor, shared by all work that uses this object.

    :param reactor: the reactor.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._over = 0.0
        self._call: IDelayedCall | None = None
        self._waiting: Waiters[None] = Waiters()

    @property
    def is_over(self) -> bool:
        """
        Whether the budget of this turn is used up, so that the caller has to :meth:`wait`.
        """
        if self._call is None:
            self._begin()
        return self._reactor.seconds() >= self._over

    async def finish(self, steps: Generator[None, None, T]) -> T:
        """
        Run a generator to its end, over as many turns of the reactor as it needs.

        :param steps: yields after each step of the work.
        :returns: the value that the generator returns.
        """
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            if self.is_over:
                await self.wait()

    def wait(self) -> Deferred[None]:
        """
        Return a Deferred that fires in a later turn, after all earlier callers of this method.
        """
        return self._waiting.wait()

    def _begin(self) -> None:
        self._over = self._reactor.seconds() + _SLICE_SECONDS
        self._call = self._reactor.callLater(0, self._next)

    def _next(self) -> None:
        self._call = None
        if self._waiting:
            self._begin()
            self._waiting.fire(None, unless=lambda: self._reactor.seconds() >= self._over)

"""
Work that many have to do at once, by slices, between which the reactor has its turn.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txsse._waiters import Waiters

__all__ = ["TimeSlices"]

T = TypeVar("T")

# How long the work of a turn may take, in seconds.
_SLICE_SECONDS = 0.01


class TimeSlices:
    """
    The time that is left in this turn of the reactor, for all work that shares it.

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
        Whether to :meth:`wait` before more is done.
        """
        if self._call is None:
            self._begin()
        return self._reactor.seconds() >= self._over

    async def finish(self, steps: Generator[None, None, T]) -> T:
        """
        Do a piece of work to its end, over as many turns of the reactor as it takes.

        :returns: what the work returns.
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
        Return a Deferred for a later turn, behind all who wait already.
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

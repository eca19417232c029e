"""
Deferreds for something that happens, as many as there are who wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["Waiters"]

T = TypeVar("T")


class Waiters(Generic[T]):
    """
    Those who wait for the next time that something happens. Each has a Deferred of its own, so that one who
    cancels, or adds callbacks, does not touch the others.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """
        Return a Deferred for the next time.
        """
        waiter: Deferred[T] = Deferred(self._cancelled)
        self._waiting.append(waiter)
        return waiter

    def fire(self, result: T, *, unless: Callable[[], bool] = bool) -> None:
        """
        It happened: those who wait now are told. One who waits again while being told is for the next time.

        :param unless: whether it is over again; then the rest go on waiting.
        """
        everybody = self._everybody()
        while everybody and not unless():
            waiter = everybody.pop(0)
            if not waiter.called:
                waiter.callback(result)
        self._waiting[:0] = everybody

    def fail(self, error: Exception) -> None:
        """
        It will not happen.
        """
        for waiter in self._everybody():
            if not waiter.called:
                waiter.errback(error)

    def _everybody(self) -> list[Deferred[T]]:
        everybody, self._waiting = self._waiting, []
        return everybody

    def _cancelled(self, waiter: Deferred[T]) -> None:
        # One who cancels while the others are being told is not on the list any more.
        if waiter in self._waiting:
            self._waiting.remove(waiter)

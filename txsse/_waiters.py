"""
Deferreds for something that happens, as many as there are who wait.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["SharedCall", "Waiters"]

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


class SharedCall(Generic[T]):
    """
    A coroutine that runs at most once at a time, and whose result all callers share that join it meanwhile.
    """

    def __init__(self) -> None:
        self._waiters: Waiters[T] | None = None

    @property
    def is_running(self) -> bool:
        """
        Whether a call is under way.
        """
        return self._waiters is not None

    def join(self, work: Callable[[], Coroutine[Deferred[object], object, T]]) -> Deferred[T]:
        """
        Join the call that is under way, or begin one.

        :param work: makes the coroutine.
        :returns: a Deferred of the caller's own. Cancelling it does not cancel the coroutine.
        """
        if self._waiters is not None:
            return self._waiters.wait()
        self._waiters = waiters = Waiters[T]()
        joined = waiters.wait()
        Deferred.fromCoroutine(work()).addCallbacks(
            self._returned, self._failed, callbackArgs=(waiters,), errbackArgs=(waiters,)
        )
        return joined

    def _returned(self, result: T, waiters: Waiters[T]) -> None:
        self._waiters = None
        waiters.fire(result)

    def _failed(self, failure: Failure, waiters: Waiters[T]) -> None:
        self._waiters = None
        waiters.fail(cast(Exception, failure.value))

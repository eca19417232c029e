"""
Results that several callers wait for, each with its own Deferred: an event's occurrence, a coroutine's end.
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
    Callers that wait for the next occurrence of an event, in the order of their calls.

    Each has a Deferred of its own, so that a caller that cancels it, or adds callbacks, does not affect the
    others.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """
        Return a Deferred that fires at the next occurrence.
        """
        waiter: Deferred[T] = Deferred(self._cancelled)
        self._waiting.append(waiter)
        return waiter

    def fire(self, result: T, *, unless: Callable[[], bool] = bool) -> None:
        """
        Fire the Deferreds of all callers that wait now.

        A caller that waits again in its callback waits for the next occurrence.

        :param unless: checked before each caller; when it returns true, the remaining callers continue to
            wait.
        """
        waiters = self._take_all()
        while waiters and not unless():
            waiter = waiters.pop(0)
            if not waiter.called:
                waiter.callback(result)
        self._waiting[:0] = waiters

    def fail(self, error: Exception) -> None:
        """
        Fail the Deferreds of all callers that wait now.
        """
        for waiter in self._take_all():
            if not waiter.called:
                waiter.errback(error)

    def _take_all(self) -> list[Deferred[T]]:
        waiters, self._waiting = self._waiting, []
        return waiters

    def _cancelled(self, waiter: Deferred[T]) -> None:
        # While fire() or fail() runs, the Deferreds are not in the list.
        if waiter in self._waiting:
            self._waiting.remove(waiter)


class SharedCall(Generic[T]):
    """
    A coroutine that runs at most once at a time; callers that join while it runs share its result.
    """

    def __init__(self) -> None:
        self._waiters: Waiters[T] | None = None

    @property
    def is_running(self) -> bool:
        """
        Whether the coroutine is running.
        """
        return self._waiters is not None

    def join(self, work: Callable[[], Coroutine[Deferred[object], object, T]]) -> Deferred[T]:
        """
        Wait for the running coroutine, or start one.

        :param work: makes the coroutine; not called while one is running.
        :returns: a Deferred of its own for each caller. Cancelling it does not cancel the coroutine.
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

"""
Conversions between asyncio's futures and Deferreds, for programs that run Twisted's asyncio reactor.

A coroutine that Twisted runs can await only Deferreds, and an asyncio task only futures.
"""

from __future__ import annotations

from asyncio import CancelledError as FutureCancelled
from asyncio import Future, isfuture
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, overload

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["FutureCancelled", "explain_future", "future_to_deferred", "in_task_of_twisted"]

# The error that an asyncio task raises into a coroutine that awaits a Deferred.
_BAD_YIELD = "Task got bad yield"

T = TypeVar("T")

# The error that a future raises into a coroutine that asyncio does not run.
_NOT_AWAITED = "await wasn't used with future"


@overload
def future_to_deferred(work: Future[T]) -> Deferred[T]: ...
@overload
def future_to_deferred(work: T) -> T: ...
def future_to_deferred(work: object) -> object:
    """
    Return a Deferred for a future or task of asyncio; return any other value unchanged.
    """
    return Deferred.fromFuture(work) if isfuture(work) else work


def explain_future(failure: Failure) -> Failure:
    """
    Add a remedy to the error of a coroutine, run by Twisted, that awaited a future of asyncio.
    """
    error = failure.value
    if isinstance(error, RuntimeError) and error.args == (_NOT_AWAITED,):
        error.args = (
            f"{_NOT_AWAITED}: a coroutine that Twisted runs awaits Deferreds; "
            "write await Deferred.fromFuture(asyncio.ensure_future(...))",
        )
    return failure


@contextmanager
def in_task_of_twisted() -> Iterator[None]:
    """
    Add a remedy to the error of an asyncio task whose coroutine awaited a Deferred.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(_BAD_YIELD):
            error.args = (
                f"{_BAD_YIELD}: a task of asyncio awaits futures; "
                "write await Deferred.fromCoroutine(...).asFuture(asyncio.get_running_loop()) "
                "around the coroutine that iterates",
            )
        raise

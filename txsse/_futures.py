"""
Futures of asyncio, where its reactor runs: a coroutine of Twisted's cannot await them as they are.
"""

from __future__ import annotations

from asyncio import CancelledError as FutureCancelled
from asyncio import isfuture
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["FutureCancelled", "explain_future", "future_to_deferred", "in_task_of_twisted"]

# What a task raises into a coroutine that awaits a Deferred.
_BAD_YIELD = "Task got bad yield"

T = TypeVar("T")

# What a future raises into a coroutine that another loop than asyncio's runs.
_NOT_AWAITED = "await wasn't used with future"


def future_to_deferred(work: T) -> T | Deferred[Any]:
    """
    Return a Deferred for a future or task of asyncio; anything else as it is.
    """
    return Deferred.fromFuture(work) if isfuture(work) else work


def explain_future(failure: Failure) -> Failure:
    """
    Say what to write, where a coroutine has awaited a future of asyncio.
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
    Say what to write, where a task of asyncio runs what awaits a Deferred.
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

"""
Waiting with a deadline, for the tests that run on the real reactor or beside real processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from inspect import isawaitable
from typing import Any, TypeVar

__all__ = ["PATIENCE", "until", "wait_until"]

_T = TypeVar("_T")

# The longest wait of a test, in seconds. No step takes nearly as long, even on a busy machine: only a hang
# reaches it. It does not measure speed.
PATIENCE = 60.0

# Pauses between two looks, in seconds: the first, and the longest. Looking may take time from the program
# that brings the condition about.
_PAUSE = 0.01
_MAX_PAUSE = 0.2


async def until(
    look: Callable[[], Any],
    suffices: Callable[[Any], object] = bool,
    what: Callable[[], object] | str = "",
) -> Any:
    """
    Wait on the real reactor until a condition holds.

    :param look: returns a value, or an awaitable of one.
    :param suffices: returns whether that value is the expected one; by default, whether it is true.
    :param what: the condition, for the error: a text, or a function that returns the present state.
    :returns: the value.
    :raises AssertionError: after :data:`PATIENCE`.
    """
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    clock: Any = reactor
    deadline = clock.seconds() + PATIENCE
    while True:
        late = clock.seconds() > deadline
        value = look()
        if isawaitable(value):
            value = await value
        if suffices(value):
            return value
        assert not late, _failure(what, value)
        await deferLater(clock, _PAUSE)


def wait_until(
    look: Callable[[], _T],
    suffices: Callable[[_T], object] = bool,
    what: Callable[[], object] | str = "",
) -> _T:
    """
    Block until a condition holds that another thread or process brings about.

    The parameters are those of :func:`until`; ``look`` returns the value itself.
    """
    deadline = time.monotonic() + PATIENCE
    pause = _PAUSE
    while True:
        late = time.monotonic() > deadline
        value = look()
        if suffices(value):
            return value
        assert not late, _failure(what, value)
        time.sleep(pause)
        pause = min(1.3 * pause, _MAX_PAUSE)


def _failure(what: Callable[[], object] | str, value: object) -> str:
    shown = what if isinstance(what, str) else what()
    return f"this did not happen within {PATIENCE:g} seconds: {shown}; the last value was {value!r}"

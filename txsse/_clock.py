"""
Two clocks: a steady one for timers, and the wall clock for dates.

Twisted's reactors use ``time.time()`` for both. When the system's time is set back, every timer of such a
reactor waits for as long as the step: keep-alives, deadlines and HTTP time-outs. When it is set forward, they
all fire at once. :func:`make_steady` gives a reactor a clock that does not jump, and :func:`wall` returns the
time of day, to compare with dates of other systems: the expiry of a token, the times in a journal's file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IDelayedCall
from twisted.python.runtime import seconds as default_seconds

__all__ = ["Seconds", "Timers", "make_steady", "wall", "wall_of"]

#: Returns a time, in seconds.
Seconds: TypeAlias = Callable[[], float]

R = TypeVar("R")


class Timers(Protocol):
    """
    The methods of a reactor that timers use.
    """

    def seconds(self) -> float:
        """
        Return the time, in seconds; it never jumps, and only differences have a meaning.
        """

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: object) -> IDelayedCall:  # noqa: N802
        """
        Call a function after a delay, in seconds.
        """


# Linux stops CLOCK_MONOTONIC while the system is suspended, but CLOCK_BOOTTIME includes that time. It has
# passed for clients and for Redis, too, so a connection's deadline, the age of a fetched key and the offset
# to another clock have to include it. Other systems have only one monotonic clock.
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def make_steady(reactor: R) -> R:
    """
    Give a reactor's timers a clock that does not jump when the system's time is set.

    From now on, ``seconds()`` of this reactor is the time of day of this call plus the time elapsed since.
    All of Twisted's timers use ``seconds()``, so they become steady as well.

    Three kinds of reactors stay unchanged: those that are steady already, those on which the program has set
    ``seconds``, even to ``time.time``, and objects that are not reactors of Twisted, such as a
    :class:`twisted.internet.task.Clock`.

    :returns: the reactor.
    """
    if (
        isinstance(reactor, ReactorBase)
        and "seconds" not in vars(reactor)
        and type(reactor).seconds is default_seconds
    ):
        steady = _make_seconds()
        reactor.seconds = steady
        for call in reactor.getDelayedCalls():
            # A delayed call that is reset uses its own clock, which would still be the wall clock.
            call.seconds = steady  # type: ignore[attr-defined]
    return reactor


def _make_seconds() -> Callable[[], float]:
    # Called for every timer, and many times in a fan-out: it costs one Python frame more than time.time().
    elapsed = time.monotonic if _BOOTTIME is None else partial(time.clock_gettime, _BOOTTIME)
    begin = time.time() - elapsed()

    def steady_seconds() -> float:
        return begin + elapsed()

    return steady_seconds


def wall_of(reactor: Timers) -> Callable[[], float]:
    """
    Return a function that returns the time of day, in seconds since 1970, which may jump.

    :param reactor: the reactor. If it has a method ``wall``, that is returned; a fake clock's time is that of
        its ``seconds``.
    """
    own: Callable[[], float] | None = getattr(reactor, "wall", None)
    if own is not None:
        return own
    if isinstance(reactor, ReactorBase):
        return time.time
    seconds: Callable[[], float] = reactor.seconds
    return seconds


def wall(reactor: Timers) -> float:
    """
    Return the time of day, in seconds since 1970; see :func:`wall_of`.
    """
    return wall_of(reactor)()

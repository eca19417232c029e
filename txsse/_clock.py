"""
Two clocks: a steady one for timers, and the wall's for dates.

Twisted's reactors take ``time.time()`` for both. When the system's time is set back, every timer of such a
reactor waits for as long as the step: keep-alives, deadlines and HTTP time-outs. When it is set forward, they
all fire at once. :func:`make_steady` gives a reactor a clock that does not jump, and :func:`wall` returns the
time of day, for what has to be compared with dates from elsewhere: the expiry of a token, the times in a
journal's file.
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
    What timers need of a reactor.
    """

    def seconds(self) -> float:
        """
        Return the time, in seconds since some moment. It never jumps; only differences have a meaning.
        """

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: object) -> IDelayedCall:  # noqa: N802
        """
        Call something after a delay, in seconds.
        """


# Linux stops CLOCK_MONOTONIC while the system is suspended, and counts that time in CLOCK_BOOTTIME. For the
# clients and for Redis the time goes on: a connection's deadline, the age of a fetched key and the offset to
# another clock have to count it. Other systems have one monotonic clock.
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def make_steady(reactor: R) -> R:
    """
    Have a reactor's timers go by a clock that does not jump when the system's time is set: ``seconds()`` of
    this reactor is, from now on, the time of day at this moment and what has elapsed since. As all of
    Twisted's timers use it, this mends them, too.

    Nothing is done to a reactor that this was done to already, to one whose program has set ``seconds`` on
    it, even to ``time.time``, and to what is not one of Twisted's reactors, such as a
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
            # A call asks its own clock when it is reset, and would fall back to the wall's.
            call.seconds = steady  # type: ignore[attr-defined]
    return reactor


def _make_seconds() -> Callable[[], float]:
    # Called for every timer, and many times in a fan-out: one frame, as fast as time.time() but for that.
    elapsed = time.monotonic if _BOOTTIME is None else partial(time.clock_gettime, _BOOTTIME)
    begin = time.time() - elapsed()

    def steady_seconds() -> float:
        return begin + elapsed()

    return steady_seconds


def wall_of(reactor: Timers) -> Callable[[], float]:
    """
    Return what returns the time of day, in seconds since 1970. It may jump.

    :param reactor: the reactor. With one that has a method ``wall`` it is that, and with a fake clock it is
        the clock's time.
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

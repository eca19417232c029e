"""
Types of Twisted's objects, for annotations: those that Twisted itself does not name, or names too narrowly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IReactorCore,
    IReactorFromThreads,
    IReactorTime,
    ITCPTransport,
)

__all__ = ["AnyDeferred", "CoreReactor", "StreamTransport"]


class AnyDeferred(Protocol):
    """
    A Deferred with any result. To a type checker, a ``Deferred[int]`` is not a ``Deferred[object]``.
    """

    def addBoth(self, callback: Callable[[object], object], /) -> object:  # noqa: N802
        """
        See :class:`twisted.internet.defer.Deferred`.
        """

    def cancel(self) -> None:
        """
        See :class:`twisted.internet.defer.Deferred`.
        """


class CoreReactor(IReactorCore, IReactorTime, IReactorFromThreads):
    """
    The interfaces that every real reactor has. A :class:`twisted.internet.task.Clock` has only the timers.

    It is a type for annotations; no reactor declares it.
    """


class StreamTransport(ITCPTransport, IConsumer, IPushProducer):
    """
    The interfaces of Twisted's stream transports, over TCP, TLS and UNIX sockets.

    It is a type for annotations of ``Protocol.transport``; no transport declares it.
    """

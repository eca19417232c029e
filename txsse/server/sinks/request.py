"""
Through ``request.write``, which works on any transport.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

from txsse.server.sinks.base import Framed, SinkOwner, Ticks
from txsse.web.pipelining import Pipelining, bound_pipelining

__all__ = ["RequestSink"]


@implementer(IPushProducer)
class RequestSink:
    """
    Write through ``request.write``: TLS, HTTP/1.0, wrapped transports, whatever comes.

    It is the producer that the transport pauses when its buffer is full.
    """

    def __init__(self, request: Request) -> None:
        self.blocked = False
        self.spoke = 0
        self._request = request
        self._owner: SinkOwner | None = None
        self._clock: Ticks = _NoTicks()
        self._refuses = False
        self._pipelining: Pipelining | None = None

    def attach(self, owner: SinkOwner, clock: Ticks) -> None:
        """
        Begin to tell an owner when the sink becomes ready.
        """
        self._owner = owner
        self._clock = clock
        self._request.registerProducer(self, True)
        self._pipelining = bound_pipelining(self._request)

    def write(self, frame: bytes) -> None:
        """
        Send a frame.
        """
        self._request.write(frame)

    def offer(self, frames: Framed) -> bool:
        """
        Send frames, unless the sink is blocked or takes no offers.
        """
        if self.blocked or self._refuses:
            return False
        self.spoke = self._clock.now
        self.write(frames.data)
        return True

    def refuse_offers(self) -> None:
        """
        Take none any more.
        """
        self._refuses = True

    def finish(self) -> None:
        """
        End the response behind what was written.
        """
        self._read_on()
        self._request.unregisterProducer()
        self._request.finish()

    def abort(self) -> None:
        """
        Cut the connection.
        """
        channel: Any = self._request.channel
        channel.transport.abortConnection()

    def detach(self) -> None:
        """
        Forget the owner, and with it the cycle of references that would keep all three until a collection.
        """
        self._owner = None
        self._request.producer = None
        self._read_on()

    def _read_on(self) -> None:
        pipelining, self._pipelining = self._pipelining, None
        if pipelining is not None:
            pipelining.stop()

    def poke(self) -> None:
        """
        Do nothing: a transport tells by itself.
        """

    def pauseProducing(self) -> None:
        """
        The transport's buffer is full.
        """
        self.blocked = True

    def resumeProducing(self) -> None:
        """
        The transport's buffer is empty.
        """
        self.blocked = False
        self._ready()

    def stopProducing(self) -> None:
        """
        The connection is gone; ``notifyFinish`` is what tells.
        """

    def _ready(self) -> None:
        if self._owner is not None:
            self._owner.sink_ready()


class _NoTicks:
    """
    The clock of a sink that has no owner yet.
    """

    now = 0

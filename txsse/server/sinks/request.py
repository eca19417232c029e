"""
A sink that writes with ``request.write``, which works on any transport.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

from txsse._twisted.tcp import transport_of
from txsse.server.sinks.base import Framed, SinkOwner, Ticks
from txsse.web.pipelining import Pipelining, bound_pipelining

__all__ = ["RequestSink"]


@implementer(IPushProducer)
class RequestSink:
    """
    Writes with ``request.write``, on any transport: TLS, HTTP/1.0, wrapped transports.

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
        Become the transport's producer; see :class:`~txsse.server.sinks.base.Sink`.
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
        Send frames, unless the sink is blocked or refuses offers.
        """
        if self.blocked or self._refuses:
            return False
        self.spoke = self._clock.now
        self.write(frames.data)
        return True

    def refuse_offers(self) -> None:
        """
        Refuse offers from now on.
        """
        self._refuses = True

    def finish(self) -> None:
        """
        End the response after the frames that were written.
        """
        self._read_on()
        self._request.unregisterProducer()
        self._request.finish()

    def abort(self) -> None:
        """
        Abort the connection.
        """
        transport_of(self._request.channel).abortConnection()

    @property
    def owner(self) -> SinkOwner | None:
        """
        The object that writes to the sink; ``None`` before it is attached, and after its end.
        """
        return self._owner

    def detach(self) -> None:
        """
        Forget the owner, to break a reference cycle that would last until a garbage collection.
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
        Do nothing: the transport calls :meth:`resumeProducing` without being asked.
        """

    def pauseProducing(self) -> None:
        """
        Block the sink: the transport's buffer is full.
        """
        self.blocked = True

    def resumeProducing(self) -> None:
        """
        Unblock the sink: the transport's buffer is empty.
        """
        self.blocked = False
        self._ready()

    def stopProducing(self) -> None:
        """
        Do nothing: ``notifyFinish`` reports the lost connection.
        """

    def _ready(self) -> None:
        if self._owner is not None:
            self._owner.sink_ready()


class _NoTicks:
    """
    The clock of a sink that has no owner yet.
    """

    now = 0

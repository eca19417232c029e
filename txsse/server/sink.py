"""
Where frames go: through the request, which works on any transport, or straight to the socket's transport;
over HTTP/2 they go by :mod:`txsse.server.http2`.

Strategy: a sink is chosen at the upgrade, by what the transport is. Every sink takes each frame, says in
``blocked`` whether it would rather have no more for now, and calls its owner's ``sink_ready`` when it would.
That is advice, not a promise to lose: a frame written while blocked is sent.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

__all__ = ["DirectSink", "RequestSink", "Sink", "SinkOwner"]


class SinkOwner(Protocol):
    """
    Who writes to a sink.
    """

    def sink_ready(self) -> None:
        """
        The sink takes frames again.
        """


class Sink(Protocol):
    """
    Where a channel's frames go.
    """

    @property
    def blocked(self) -> bool:
        """
        Whether the client is behind, so that frames are better held back.
        """

    def attach(self, owner: SinkOwner) -> None:
        """
        Begin to tell an owner when the sink becomes ready.
        """

    def write(self, frame: bytes) -> None:
        """
        Send a frame.
        """

    def finish(self) -> None:
        """
        End the response behind what was written.
        """

    def abort(self) -> None:
        """
        Cut the stream off, whatever waits to be sent.
        """

    def detach(self) -> None:
        """
        Forget the owner: the request has ended.
        """

    def poke(self) -> None:
        """
        Look again, where the sink was blocked for long.
        """


@implementer(IPushProducer)
class RequestSink:
    """
    Write through ``request.write``: TLS, HTTP/1.0, wrapped transports, whatever comes.

    It is the producer that the transport pauses when its buffer is full.
    """

    def __init__(self, request: Request) -> None:
        self.blocked = False
        self._request = request
        self._owner: SinkOwner | None = None

    def attach(self, owner: SinkOwner) -> None:
        """
        Begin to tell an owner when the sink becomes ready.
        """
        self._owner = owner
        self._request.registerProducer(self, True)

    def write(self, frame: bytes) -> None:
        """
        Send a frame.
        """
        self._request.write(frame)

    def finish(self) -> None:
        """
        End the response behind what was written.
        """
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


class DirectSink(RequestSink):
    """
    Write a chunk to the transport, past ``Request`` and ``HTTPChannel``, which would do no more than that.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        channel: Any = request.channel
        self._transport = channel.transport

    def write(self, frame: bytes) -> None:
        """
        Send a frame as one chunk.
        """
        if self._request.finished:
            # By somebody else's doing; the request refuses it, while the transport may serve the next one.
            super().write(frame)
        else:
            # What the access log reports as the size of the response.
            self._request.sentLength += len(frame)
            self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame))

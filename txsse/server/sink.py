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
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from zope.interface import implementer

from txsse.server.peer import note_error
from txsse.web.pipelining import Pipelining

__all__ = ["DirectSink", "Framed", "RequestSink", "Sink", "SinkOwner", "Ticks", "as_chunk"]


class Framed:
    """
    Frames that go to many sinks: what is made of them is made once, for all.

    :ivar data: the frames, one behind the other.
    :ivar size: how many bytes they are.
    :ivar chunk: the frames as one chunk of HTTP/1.1.
    """

    __slots__ = ("chunk", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.chunk = as_chunk(data)


def as_chunk(data: bytes) -> bytes:
    """
    Frame bytes as a chunk.

    Source: https://www.rfc-editor.org/rfc/rfc9112#name-chunked-transfer-coding
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


class SinkOwner(Protocol):
    """
    Who writes to a sink.
    """

    def sink_ready(self) -> None:
        """
        The sink takes frames again.
        """

    def request_ended(self, result: Failure | None) -> None:
        """
        The response has ended. Only a sink that stands for its request calls this; ``notifyFinish`` does
        otherwise.
        """


class Ticks(Protocol):
    """
    What counts time for the keep-alive.
    """

    @property
    def now(self) -> int:
        """
        The number of the turn.
        """


class Sink(Protocol):
    """
    Where a channel's frames go.

    :ivar spoke: the turn of the keep-alive's clock at which something was sent last.
    """

    spoke: int

    @property
    def blocked(self) -> bool:
        """
        Whether the client is behind, so that frames are better held back.
        """

    def attach(self, owner: SinkOwner, clock: Ticks) -> None:
        """
        Begin to tell an owner when the sink becomes ready.
        """

    def write(self, frame: bytes) -> None:
        """
        Send a frame.
        """

    def offer(self, frames: Framed) -> bool:
        """
        Send what many others are sent too, at the least cost, unless the sink is blocked or takes no offers.

        :returns: whether it was taken: all of it, or nothing.
        """

    def refuse_offers(self) -> None:
        """
        Take none any more: the channel is about to end, behind what it was sent before.
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
        channel = self._request.channel
        if isinstance(channel, HTTPChannel):
            self._pipelining = Pipelining(channel)

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
        self._send(frames)
        return True

    def _send(self, frames: Framed) -> None:
        self.write(frames.data)

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


class DirectSink(RequestSink):
    """
    Write a chunk to the transport, past ``Request`` and ``HTTPChannel``, which would do no more than that;
    and where many get the same and nothing waits to be sent before it, straight to the socket.
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
            self._transport.write(as_chunk(frame))

    def _send(self, frames: Framed) -> None:
        """
        Send frames in this very moment, where nothing waits to be sent before them.
        """
        transport = self._transport
        if transport.dataBuffer or transport._tempDataBuffer or self._request.finished:
            self.write(frames.data)
            return
        self._request.sentLength += frames.size
        try:
            sent = transport.socket.send(frames.chunk)
        except OSError as error:
            # The socket is full, or the connection dead, or the system short of buffers: the transport knows
            # what to do.
            note_error(transport.socket, error)
            sent = 0
        if sent < len(frames.chunk):
            transport.write(frames.chunk[sent:])
            # Though its buffer is far from full, it is to tell when it is empty.
            if transport.producer is not None and not transport.producerPaused:
                transport.producerPaused = True
                transport.producer.pauseProducing()


class _NoTicks:
    """
    The clock of a sink that has no owner yet.
    """

    now = 0

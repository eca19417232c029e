"""
Where frames go: through the request, which works on any transport, or straight to the socket's transport.

Strategy: :func:`choose_sink` looks once, at the upgrade, at what the transport is. Every sink takes each
frame, says in ``blocked`` whether it would rather have no more for now, and calls its owner's
``sink_ready`` when it would. That is advice, not a promise to lose: a frame written while blocked is sent.

Most of what no interface of Twisted's promises is used here; the rest is in :mod:`txsse.server.peer`, and the
encoder of a request in :mod:`txsse.server.upgrade`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

from twisted.internet import tcp
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http import Request
from zope.interface import implementer

__all__ = ["DirectSink", "Http2Sink", "RequestSink", "Sink", "SinkOwner", "choose_sink"]

# How many bytes may wait in an HTTP/2 connection for one stream. The same as a TCP transport's own buffer
# (``abstract.FileDescriptor.bufferSize``), so that a slow reader is noticed at the same point on both.
# Fewer would hold a healthy client up: the connection sends 16 KiB in a turn.
_HTTP2_QUEUE = 65536


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

    @property
    def held(self) -> int:
        """
        How many bytes wait in the sink itself, cut off from a frame whose beginning is on its way. Until
        they have gone, the response must not be finished.
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


def choose_sink(request: Request, *, direct: bool) -> Sink:
    """
    Choose the best sink for a request whose headers have been written.

    :param request: the request.
    :param direct: whether the shortcut may be taken at all.
    """
    if request.clientproto == b"HTTP/2":
        return Http2Sink(request)
    if direct and _goes_straight(request):
        return DirectSink(request)
    return RequestSink(request)


def _goes_straight(request: Request) -> bool:
    """
    Tell whether what ``request.write`` does to a frame is known in full: one chunk, on a plain socket.
    """
    channel: Any = request.channel
    return (
        bool(request.chunked)
        and type(channel) is http.HTTPChannel
        and type(channel.transport) is tcp.Server
        # A subclass, or an instance, that writes in a way of its own wants to see every frame.
        and "write" not in vars(request)
        and type(request).write in (http.Request.write, server.Request.write)
    )


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

    @property
    def held(self) -> int:
        """
        Nothing: the transport takes every frame whole.
        """
        return 0

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
        # What the access log reports as the size of the response.
        self._request.sentLength += len(frame)
        self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame))


class Http2Sink(RequestSink):
    """
    Write to a stream of an HTTP/2 connection, and never more than can leave at once.

    Twisted queues whatever is written. Where the flow-control windows do not let all of it through, its
    sending loop spins until they do, at the cost of a whole processor; where they do, because the client
    asked for windows of 2 GiB and then does not read, the queue grows as large. So this sink writes as much
    as the windows allow, and the queue holds no more than a TCP transport would; the rest of a frame waits
    here.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._rest = b""
        self._rest_begins = 0
        self._call: IDelayedCall | None = None
        self._stream = cast(Any, request.channel)
        self._connection: Any = self._stream._conn
        self._queues: Any = self._connection._outboundStreamQueues

    @property
    def held(self) -> int:
        """
        How many bytes of a frame wait.
        """
        return len(self._rest) - self._rest_begins

    def write(self, frame: bytes) -> None:
        """
        Send a frame, or its beginning.
        """
        self._rest = self._rest[self._rest_begins :] + frame if self.held else frame
        self._rest_begins = 0
        self._push()

    def abort(self) -> None:
        """
        Reset the stream; the connection and its other streams go on.
        """
        self._stream.abortConnection()
        # Twisted tells a request of a reset by the client alone.
        self._request.connectionLost(Failure(ConnectionAborted()))

    def detach(self) -> None:
        """
        Forget the owner.
        """
        super().detach()
        self._rest = b""
        self._rest_begins = 0
        self._forget_call()

    def resumeProducing(self) -> None:
        """
        A window is open again.
        """
        self._forget_call()
        self._look()

    def _forget_call(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _push(self) -> None:
        windows = self._windows()
        room = max(0, min(windows, _HTTP2_QUEUE - _waiting(self._queues[self._stream.streamID])))
        part = self._rest[self._rest_begins : self._rest_begins + room]
        self._rest_begins += len(part)
        if part:
            self._request.write(part)
        if not self.held:
            return
        self.blocked = True
        if room == windows or windows < 0:
            # Has the connection call resumeProducing when the client opens a window.
            self._stream.flowControlBlocked()
        elif self._connection._consumerBlocked is not None:
            self._connection._consumerBlocked.addCallback(self._look)
        else:
            # The connection sends one frame in each turn of the reactor.
            self._call = self._connection._reactor.callLater(0, self._look)

    def _look(self, _: object = None) -> None:
        self._call = None
        if self._owner is None:
            return
        self.blocked = False
        if self.held:
            self._push()
        if not self.blocked:
            self._ready()

    def _windows(self) -> int:
        """
        Return how much more the client lets through on this stream.
        """
        window = self._connection.conn.local_flow_control_window
        this = self._stream.streamID
        # The connection's window is shared: what its streams are about to send is promised already. What
        # a closed window of their own keeps back is not.
        promised = sum(min(_waiting(queue), window(each)) for each, queue in self._queues.items())
        shared = self._connection.conn.outbound_flow_control_window - promised
        return int(min(window(this) - _waiting(self._queues[this]), shared))


def _waiting(queue: Iterable[object]) -> int:
    # The end of a stream stands in its queue as an object that is no bytes.
    return sum(len(data) for data in queue if isinstance(data, bytes))

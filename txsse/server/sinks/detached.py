"""
A sink that replaces the request of its stream, to save memory.

Twisted's objects for a request and its HTTP connection take some 5 kB, and an idle stream does not need them:
nothing is parsed or rendered. If a stream writes directly to its socket, the sink therefore replaces them as
the protocol of the transport, and keeps only the data for the access log. When the stream ends, it passes the
connection to a new protocol, together with anything that the client has sent meanwhile.

:func:`can_detach` checks that Twisted's objects are as expected; if they are not, the request stays.
"""

from __future__ import annotations

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.server import Request as ServerRequest
from zope.interface import implementer

from txsse._twisted.http import channel_of, is_negotiating, is_sole_request, sent_ahead, set_reader
from txsse._twisted.tcp import plain_transport, protocol_of, raw_socket, set_paused, set_protocol
from txsse.server.peer_timeout import PeerTimeout, note_error
from txsse.server.request import StreamRequest
from txsse.server.sinks.base import Framed, SinkOwner, Ticks, as_chunk
from txsse.web.access_log import log_access
from txsse.web.pipelining import MAX_DROPPED, MAX_PIPELINED
from txsse.web.site import Connection

__all__ = ["DetachedSink", "can_detach"]


@implementer(IProtocol, IPushProducer)
class DetachedSink:
    """
    The sink of a channel, and the producer and the protocol of its transport, in one object.

    :param request: the request, whose response headers have been written.
    :param asked: the data kept of the request.
    :param peers: sets the peer time-out of the connection.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_clear",
        "_clock",
        "_dropped",
        "_factory",
        "_held",
        "_owner",
        "_peers",
        "_persistent",
        "_pipelined",
        "_refuses",
        "_sent",
        "_socket",
        "_successor",
        "_transport",
        "blocked",
        "spoke",
    )

    def __init__(self, request: Request, asked: StreamRequest, peers: PeerTimeout) -> None:
        channel = request.channel
        self._transport = transport = plain_transport(channel)
        self._socket = raw_socket(transport)
        asked.detach(transport)
        self._asked = asked
        self.blocked = False
        self.spoke = 0
        self._owner: SinkOwner | None = None
        self._clock: Ticks | None = None
        # Whether offers go directly to the socket: the transport has nothing to send, and offers are not
        # refused.
        self._clear = False
        self._refuses = False
        self._sent: int = request.sentLength
        self._factory = channel.factory
        self._persistent = bool(channel.persistent)
        self._pipelined = b""
        self._dropped = 0
        self._successor: IProtocol | None = None
        self._peers = peers
        self._held = peers.hold_alone(self._socket)
        # Data that arrived in the same packet as the request is still on its way to the old protocol.
        set_reader(channel, self.dataReceived)
        for data in sent_ahead(channel) or ():
            self.dataReceived(data)
        channel.requests.clear()
        # txsse's own class of requests holds resources until its end, and releases them now.
        stream_detached = getattr(request, "stream_detached", None)
        if stream_detached is not None:
            stream_detached()
        request.write = self.write  # type: ignore[method-assign]

    def attach(self, owner: SinkOwner, clock: Ticks) -> None:
        """
        Replace the transport's protocol and producer; see :class:`~txsse.server.sinks.base.Sink`.
        """
        self._owner = owner
        self._clock = clock
        self._transport.unregisterProducer()
        self._transport.registerProducer(self, True)
        # The transport still has the headers to send.
        set_paused(self._transport, True)
        self._take_place(self)
        # Twisted may have paused reading before the stream opened.
        self._transport.resumeProducing()

    def write(self, frame: bytes) -> None:
        """
        Send a frame as one chunk.
        """
        self._sent += len(frame)
        self._write(as_chunk(frame))

    def offer(self, frames: Framed) -> bool:
        """
        Send frames at once, unless the sink is blocked or refuses offers.

        The frames go directly to the socket. The transport would have the reactor watch until the socket is
        writable, at twice the cost of the sending itself, although the socket of a client that keeps up is
        always writable. If the socket accepts only a part, the client is slow: the transport sends the rest,
        and the sink is blocked until it has.

        This is the hub's most frequent operation. Apart from the sending, its cost is the memory that is
        touched, so it touches only this object and the socket.
        """
        if not self._clear:
            return self._offer_to_transport(frames)
        self.spoke = self._clock.now  # type: ignore[union-attr]
        self._sent += frames.size
        chunk = frames.chunk
        try:
            sent = self._socket.send(chunk)
        except OSError as error:
            # The socket is full, the connection is lost, or the system is short of buffers: the transport
            # handles each of these cases.
            note_error(self._socket, error)
            sent = 0
        if sent < frames.chunk_size:
            self._write(chunk[sent:])
            self.blocked = True
        return True

    def _offer_to_transport(self, frames: Framed) -> bool:
        if self.blocked or self._refuses or self._clock is None:
            return False
        self.spoke = self._clock.now
        self.write(frames.data)
        return True

    def refuse_offers(self) -> None:
        """
        Refuse offers from now on.
        """
        self._refuses = True
        self._clear = False

    def _write(self, data: bytes) -> None:
        """
        Send through the transport, which calls :meth:`resumeProducing` when it has sent everything.
        """
        self._clear = False
        set_paused(self._transport, True)
        self._transport.write(data)

    def finish(self) -> None:
        """
        End the response, and pass the connection to a new protocol or close it.
        """
        transport = self._transport
        transport.write(b"0\r\n\r\n")
        transport.unregisterProducer()
        set_paused(transport, False)
        self._peers.release_alone(self._socket, self._held, reused=self._persistent)
        try:
            # Before the rest, which may fail: the channel must end in any case.
            self._ended(None)
        finally:
            if self._persistent:
                self._give_back()
            else:
                transport.loseConnection()

    def _give_back(self) -> None:
        transport = self._transport
        successor = self._factory.buildProtocol(transport.getPeer())
        if isinstance(successor, Connection):
            # The connection has its Connection object already.
            holder = protocol_of(transport)
            assert isinstance(holder, Connection)
            successor = holder.renew(successor)
        self._take_place(successor)
        self._successor = successor
        successor.makeConnection(transport)
        pipelined, self._pipelined = self._pipelined, b""
        if pipelined:
            successor.dataReceived(pipelined)

    def _take_place(self, protocol: IProtocol) -> None:
        holder = protocol_of(self._transport)
        if isinstance(holder, Connection):
            holder.protocol = protocol
        else:
            set_protocol(self._transport, protocol)

    def abort(self) -> None:
        """
        Abort the connection.
        """
        self._transport.abortConnection()

    @property
    def owner(self) -> SinkOwner | None:
        """
        The object that writes to the sink; ``None`` before it is attached, and after its end.
        """
        return self._owner

    def detach(self) -> None:
        """
        Forget the owner.
        """
        self._owner = None

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
        self._clear = not self._refuses
        if self._owner is not None:
            self._owner.sink_ready()

    def stopProducing(self) -> None:
        """
        Do nothing: ``connectionLost`` handles the lost connection.
        """

    def makeConnection(self, transport: object) -> None:
        """
        Do nothing: the connection was made before.
        """

    def connectionMade(self) -> None:
        """
        Do nothing: the connection was made before.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Keep what the client sends after its request until the stream has ended.

        The limits are those of :mod:`txsse.web.pipelining`.
        """
        if self._successor is not None:
            self._successor.dataReceived(data)
            return
        if not self._dropped and len(self._pipelined) + len(data) <= MAX_PIPELINED:
            self._pipelined += data
            return
        self._pipelined = b""
        self._persistent = False
        self._dropped += len(data)
        if self._dropped > MAX_DROPPED:
            self._transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """
        End the channel, with the reason why the connection was lost.
        """
        self._ended(self._peers.explain(reason, self._socket))

    def _ended(self, reason: Failure | None) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            self._asked.sentLength = self._sent
            try:
                owner.request_ended(reason)
            finally:
                log_access(self._factory, self._asked)


def can_detach(request: Request) -> bool:
    """
    Return whether a stream that writes directly to its socket can work without its request.

    :param request: the request, whose response headers have been written.
    """
    channel = request.channel
    transport = plain_transport(channel)
    holder = protocol_of(transport)
    if isinstance(holder, Connection):
        holder = holder.protocol
    return (
        is_sole_request(channel, request)
        and is_negotiating(holder)
        and channel_of(holder) is channel
        and sent_ahead(channel) is not None
        and not transport.producerPaused
        # Other code waits for the end of the request.
        and all(waiting.called for waiting in request.notifications)
        and (hasattr(request, "stream_detached") or not _has_own_end(request))
    )


def _has_own_end(request: Request) -> bool:
    """
    Return whether a request has its own code for its end, such as counting, in its class or its instance.
    """
    return any(
        name in vars(request)
        or getattr(type(request), name) not in (getattr(Request, name), getattr(ServerRequest, name))
        for name in ("finish", "connectionLost")
    )

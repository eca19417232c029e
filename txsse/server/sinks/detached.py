"""
A stream that has let its request go.

Twisted's objects for a request and its HTTP connection take some 5 kB, and are of no use while a stream is
idle: nothing is parsed, nothing is rendered. So where a stream goes straight to its socket anyway, the sink
takes their place below the transport, keeps what the access log will ask for, and gives the connection back
to a new protocol when the stream ends, with whatever the client has sent meanwhile.

:func:`can_detach` looks whether Twisted's objects are as expected; where they are not, the request stays.
"""

from __future__ import annotations

from typing import Any

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
    Sink, producer and protocol of a transport in one.

    :param request: the request, whose headers have been written.
    :param asked: what is kept of it.
    :param peers: what watches over the connection's peer.
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
        channel: Any = request.channel
        self._transport = transport = plain_transport(channel)
        self._socket = raw_socket(transport)
        asked.detach(transport)
        self._asked = asked
        self.blocked = False
        self.spoke = 0
        self._owner: SinkOwner | None = None
        self._clock: Ticks | None = None
        # Whether offers go straight to the socket: nothing waits in the transport, and none are refused.
        self._clear = False
        self._refuses = False
        self._sent: int = request.sentLength
        self._factory = channel.factory
        self._persistent = bool(channel.persistent)
        self._pipelined = b""
        self._dropped = 0
        self._successor: Any = None
        self._peers = peers
        self._held = peers.hold_alone(self._socket)
        # The packet that brought the request may hold more behind it, which is on its way to the old
        # protocol.
        set_reader(channel, self.dataReceived)
        for data in sent_ahead(channel) or ():
            self.dataReceived(data)
        channel.requests.clear()
        # Of a class of txsse's own, which holds something until its end, and gives it up now.
        let_go = getattr(request, "let_go", None)
        if let_go is not None:
            let_go()
        request.write = self.write  # type: ignore[method-assign]

    def attach(self, owner: SinkOwner, clock: Ticks) -> None:
        """
        Take the place of the protocol, and begin to tell an owner when the sink becomes ready.
        """
        self._owner = owner
        self._clock = clock
        self._transport.unregisterProducer()
        self._transport.registerProducer(self, True)
        # The headers are on their way.
        set_paused(self._transport, True)
        self._take_place(self)
        # Twisted may have stopped to read while the stream was about to open.
        self._transport.resumeProducing()

    def write(self, frame: bytes) -> None:
        """
        Send a frame as one chunk.
        """
        self._sent += len(frame)
        self._write(as_chunk(frame))

    def offer(self, frames: Framed) -> bool:
        """
        Send frames in this very moment, unless the sink is blocked or takes no offers.

        The transport would have the reactor watch for the socket to become writable, and then not to watch
        any more, at twice the cost of the sending itself; and the socket of a client that keeps up is always
        writable. One that takes only a part shows that its client does not: the rest goes the transport's
        way, and the sink is blocked until that has left.

        A hub does this all day. Next to the sending, what costs is memory that is touched, so it is this
        object's, the socket's, and no more.
        """
        if not self._clear:
            return self._offer_behind(frames)
        self.spoke = self._clock.now  # type: ignore[union-attr]
        self._sent += frames.size
        chunk = frames.chunk
        try:
            sent = self._socket.send(chunk)
        except OSError as error:
            # The socket is full, or the connection dead, or the system short of buffers: the transport knows
            # what to do.
            note_error(self._socket, error)
            sent = 0
        if sent < frames.chunk_size:
            self._write(chunk[sent:])
            self.blocked = True
        return True

    def _offer_behind(self, frames: Framed) -> bool:
        if self.blocked or self._refuses or self._clock is None:
            return False
        self.spoke = self._clock.now
        self.write(frames.data)
        return True

    def refuse_offers(self) -> None:
        """
        Take none any more.
        """
        self._refuses = True
        self._clear = False

    def _write(self, data: bytes) -> None:
        """
        Have the transport send, and tell when it has.
        """
        self._clear = False
        set_paused(self._transport, True)
        self._transport.write(data)

    def finish(self) -> None:
        """
        End the response, and give the connection back.
        """
        transport = self._transport
        transport.write(b"0\r\n\r\n")
        transport.unregisterProducer()
        set_paused(transport, False)
        self._peers.release_alone(self._socket, self._held, reused=self._persistent)
        try:
            # First, whatever becomes of the connection.
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
            # What stands for the connection is there already.
            holder: Any = protocol_of(transport)
            successor = holder.renew(successor)
        self._take_place(successor)
        self._successor = successor
        successor.makeConnection(transport)
        pipelined, self._pipelined = self._pipelined, b""
        if pipelined:
            successor.dataReceived(pipelined)

    def _take_place(self, protocol: Any) -> None:
        holder = protocol_of(self._transport)
        if isinstance(holder, Connection):
            holder.protocol = protocol
        else:
            set_protocol(self._transport, protocol)

    def abort(self) -> None:
        """
        Cut the connection.
        """
        self._transport.abortConnection()

    def detach(self) -> None:
        """
        Forget the owner.
        """
        self._owner = None

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
        self._clear = not self._refuses
        if self._owner is not None:
            self._owner.sink_ready()

    def stopProducing(self) -> None:
        """
        The connection is gone; ``connectionLost`` is what tells.
        """

    def makeConnection(self, transport: object) -> None:
        """
        Do nothing: the connection is there.
        """

    def connectionMade(self) -> None:
        """
        Do nothing: the connection is there.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Keep what the client sends behind its request until the stream has ended; see
        :mod:`txsse.web.pipelining`.
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
        The connection is gone.
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
    Tell whether a stream that goes straight to its socket can do without its request.

    :param request: the request, whose headers have been written.
    :param asked: what is kept of it.
    """
    channel: Any = request.channel
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
        # Somebody else waits for the request's end.
        and all(waiting.called for waiting in request.notifications)
        and (hasattr(request, "let_go") or not _learns_of_its_end(request))
    )


def _learns_of_its_end(request: Request) -> bool:
    """
    Return whether a request, by its class or by itself, does more at its end than Twisted's, such as to
    count.
    """
    return any(
        name in vars(request)
        or getattr(type(request), name) not in (getattr(Request, name), getattr(ServerRequest, name))
        for name in ("finish", "connectionLost")
    )

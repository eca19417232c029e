"""
A site that can close its connections when a service stops.

It also stops processing data from a connection that is closing.
"""

from __future__ import annotations

from io import BytesIO
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

from txsse._twisted.types import StreamTransport
from txsse._typing import AnyReactor, AnyResource
from txsse.web.access_log import dated_by_wall

__all__ = ["ClosingSite"]

_log = Logger()

# How long a client may take to read its data when the service stops, in seconds.
_CLOSE_TIMEOUT = 5.0

# How long a connection may take to close, once the server has decided to close it: the client reads the rest
# of the response meanwhile. Twisted has no such limit: over TLS it waits indefinitely for the client's
# close_notify; in seconds.
_LINGER = 30.0

# How many bytes are read and dropped from a connection that is closing. Closing it while the client still
# sends would reset it, and the client might lose the response that says what was wrong.
_MAX_DROPPED = 1024 * 1024

# The last data of an HTTP/2 stream leaves in the next turns of the reactor, one frame per turn, and Twisted
# does not notify when the last one has left; in seconds.
_HTTP2_FLUSH = 0.2


class ClosingSite(Site):
    """
    A site that can close its connections.

    ``stopListening`` on its ports leaves connections open, such as idle ones that browsers keep, and leaves
    their time-outs in the reactor.

    :param resource: the root of the web tree.
    :param reactor: the reactor.
    """

    noisy = False

    def __init__(self, resource: AnyResource, *, reactor: AnyReactor) -> None:
        Site.__init__(
            self, resource, reactor=reactor, logFormatter=dated_by_wall(cast(IReactorTime, reactor))
        )
        self._connections: set[Connection] = set()
        self._stops_later = False

    def stopFactory(self) -> None:  # noqa: N802
        """
        Close the access log when the last port is closed.

        Open streams write their lines into the log when they end. While connections are open, :meth:`close`
        therefore closes the log later.
        """
        if self._connections:
            self._stops_later = True
            return
        self._stops_later = False
        try:
            super().stopFactory()
        except OSError:
            # The disk is full, and the file still had data in its buffer.
            _log.failure("the access log cannot be closed")
            # Twisted's method was interrupted, and its timer would continue.
            self.logFile = BytesIO()
            super().stopFactory()

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """
        Serve a connection, and keep a reference to it while it is open.
        """
        protocol = Site.buildProtocol(self, addr)
        return None if protocol is None else self.make_connection(protocol)

    @property
    def connections(self) -> list[Connection]:
        """
        The connections that are open now.
        """
        return list(self._connections)

    def make_connection(self, protocol: IProtocol) -> Connection:
        """
        Make the object that represents a connection.
        """
        return Connection(protocol, self._connections, self.reactor)

    async def close(self) -> None:
        """
        Close all connections after the data that was written to them, and wait until they are closed.
        """
        connections = self._connections.copy()
        for connection in connections:
            connection.close()
        await gatherResults([connection.when_lost() for connection in connections])
        if self._stops_later:
            self.stopFactory()


class Connection(Protocol):
    """
    A connection to a site, between the transport and the HTTP protocol.

    It does not wrap the transport, because a stream checks the type of its transport.

    :param protocol: the HTTP protocol.
    :param connections: the set that contains the connection while it is open.
    :param reactor: the reactor.
    :ivar protocol: the protocol that data is passed to; a stream may replace it.
    """

    transport: StreamTransport

    __slots__ = ("_calls", "_connections", "_dropped", "_lost", "_reactor", "protocol")

    def __init__(self, protocol: IProtocol, connections: set[Connection], reactor: IReactorTime) -> None:
        self.protocol = protocol
        self._connections = connections
        self._reactor = reactor
        self._lost: Deferred[None] | None = None
        self._calls: tuple[IDelayedCall, ...] = ()
        self._dropped = 0

    def renew(self, successor: Connection) -> IProtocol:
        """
        Return the HTTP protocol to use from now on, after a stream has ended.

        :param successor: the connection object that the site has made; this one stays in its place.
        """
        return successor.protocol

    def connectionMade(self) -> None:
        """
        Connect the HTTP protocol to the transport.
        """
        self._connections.add(self)
        assert self.transport is not None
        self.protocol.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """
        Pass data on, unless the connection is closing.

        Twisted's HTTP/2, over TLS, would keep all data that arrives after a protocol error or GOAWAY.
        """
        transport = self.transport
        if getattr(transport, "disconnecting", False):
            self._dropped += len(data)
            if self._dropped > _MAX_DROPPED:
                transport.abortConnection()
            return
        self.protocol.dataReceived(data)
        self.limit_closing_time()

    def limit_closing_time(self) -> None:
        """
        Limit the time that the connection takes to close, if it is closing.
        """
        transport = self.transport
        if getattr(transport, "disconnecting", False) and not self._calls and self in self._connections:
            self._calls = (self._reactor.callLater(self.linger, transport.abortConnection),)

    @property
    def linger(self) -> float:
        """
        How long the connection may take to close, in seconds.
        """
        return _LINGER

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Clean up, and pass the event on: the connection is lost.
        """
        self._connections.discard(self)
        for call in self._calls:
            if call.active():
                call.cancel()
        try:
            self.protocol.connectionLost(reason)
        finally:
            if self._lost is not None:
                self._lost.callback(None)

    def when_lost(self) -> Deferred[None]:
        """
        Return a Deferred that fires when the connection is lost. It may be called once.
        """
        self._lost = Deferred()
        return self._lost

    def close(self) -> None:
        """
        Close the connection after the data that was written to it; abort it if the client does not read that.
        """
        transport = self.transport
        if getattr(transport, "negotiatedProtocol", None) == b"h2":
            self._calls += (self._reactor.callLater(_HTTP2_FLUSH, self._lose),)
        else:
            self._lose()
        self._calls += (self._reactor.callLater(_CLOSE_TIMEOUT, transport.abortConnection),)

    def _lose(self) -> None:
        transport = self.transport
        # A transport with a producer that it has paused, or over TLS with any producer, would wait for more
        # data.
        transport.unregisterProducer()
        transport.loseConnection()

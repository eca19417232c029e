"""
A site whose connections can be closed, for the end of a service, and which reads nothing more from a
connection that is about to close.
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

from txsse._twisted.tcp import StreamTransport
from txsse._typing import AnyReactor, AnyResource
from txsse.web.access_log import dated_by_wall

__all__ = ["ClosingSite"]

_log = Logger()

# How long a client may take to read what was written to it before the service stopped, in seconds.
_CLOSE_TIMEOUT = 5.0

# How long a connection may take to close, once the server has decided to close it: the client reads the rest
# of the answer meanwhile. Twisted has no such limit: over TLS it waits for the client's close_notify without
# end; in seconds.
_LINGER = 30.0

# How many bytes are read and dropped from a connection that is about to close. To close it while the client
# still sends would reset it, and the client might lose the answer that says what was wrong.
_MAX_DROPPED = 1024 * 1024

# What was written to an HTTP/2 stream leaves with the next turns of the reactor, a frame in each, and Twisted
# does not tell when the last one has; in seconds.
_HTTP2_FLUSH = 0.2


class ClosingSite(Site):
    """
    A site that can close its connections. ``stopListening`` on its ports leaves them open: those that are
    idle, as browsers keep them, and their time-outs in the reactor.

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
        The last port is closed. Open streams have their lines in the access log when they end, so with
        connections, the log is closed by :meth:`close`.
        """
        if self._connections:
            self._stops_later = True
            return
        self._stops_later = False
        try:
            super().stopFactory()
        except OSError:
            # What the file still had in its buffer, on a disk that is full.
            _log.failure("the access log cannot be closed")
            # Twisted stops there, and its timer would go on.
            self.logFile = BytesIO()
            super().stopFactory()

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """
        Serve a connection, and remember it while it is there.
        """
        protocol = Site.buildProtocol(self, addr)
        return None if protocol is None else self.make_connection(protocol)

    def make_connection(self, protocol: IProtocol) -> Connection:
        """
        Make what stands for a connection.
        """
        return Connection(protocol, self._connections, self.reactor)

    async def close(self) -> None:
        """
        Close all connections behind what was written to them, and wait until that is done.
        """
        connections = self._connections.copy()
        for connection in connections:
            connection.close()
        await gatherResults([connection.when_lost() for connection in connections])
        if self._stops_later:
            self.stopFactory()


class Connection(Protocol):
    """
    A connection to a site. It stands beside the transport and not in front of it, since a stream looks at
    what its transport is.

    :param protocol: what speaks HTTP.
    :param connections: where to be while the connection is there.
    :param reactor: the reactor.
    :ivar protocol: what speaks to the client; a stream may put itself into its place.
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
        Return what speaks HTTP from now on, behind a stream.

        :param successor: what the site has made for that; this goes on in its place.
        """
        return successor.protocol

    def connectionMade(self) -> None:
        """
        The connection is there.
        """
        self._connections.add(self)
        assert self.transport is not None
        self.protocol.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """
        Pass on what came, unless the connection is about to close: Twisted's HTTP/2, over TLS, would keep all
        that comes after a protocol error or GOAWAY.
        """
        transport = self.transport
        if getattr(transport, "disconnecting", False):
            self._dropped += len(data)
            if self._dropped > _MAX_DROPPED:
                transport.abortConnection()
            return
        self.protocol.dataReceived(data)
        self.look_whether_closing()

    def look_whether_closing(self) -> None:
        """
        Bound the time that the connection takes to close, where it is about to.
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
        The connection is gone.
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
        Return a Deferred that fires when the connection is gone. It is to be asked for once.
        """
        self._lost = Deferred()
        return self._lost

    def close(self) -> None:
        """
        Close the connection behind what was written to it; where the client does not read that, cut it off.
        """
        transport = self.transport
        if getattr(transport, "negotiatedProtocol", None) == b"h2":
            self._calls += (self._reactor.callLater(_HTTP2_FLUSH, self._lose),)
        else:
            self._lose()
        self._calls += (self._reactor.callLater(_CLOSE_TIMEOUT, transport.abortConnection),)

    def _lose(self) -> None:
        transport = self.transport
        # With a producer that it has paused, or over TLS with any, a transport would wait for more to come.
        transport.unregisterProducer()
        transport.loseConnection()

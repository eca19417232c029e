"""
A web server and its clients without a network: Twisted's own protocols, joined in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from twisted.web.server import Site
from zope.interface import implementer

from txsse._typing import AnyResource
from txsse.client.source import EventSource
from txsse.protocol.event import ServerSentEvent

__all__ = ["MemoryAgent", "MemoryPair"]

# What a transport of Twisted's reads at once, and holds before it asks its producer to wait.
_BUFFER = 2**16

_ADDRESS = IPv4Address("TCP", "127.0.0.1", 80)


class MemoryPair:
    """
    A stream and its reader, with no socket between them::

        clock = Clock()
        pair = MemoryPair(SSEResource(handler, upgrader=Upgrader(reactor=clock)), clock=clock)
        pair.advance(60)
        assert [event.data for event in pair.events] == ["a", "b"]

    :param resource: what is read: a resource, or a tree of them.
    :param url: the URL that is read; its host may be any.
    :param clock: the time; ``None`` for a new one. Give the same one to the resource's upgrader or hub.
    :param options: those of :class:`txsse.EventSource`.
    :ivar source: the reader, which has been started.
    :ivar events: the events that came, unless ``event_received`` was given.
    :ivar errors: what the reader told of, unless ``on_error`` was given.
    :ivar agent: the network between them, to stop it and to cut it.
    :ivar clock: the time.
    """

    def __init__(
        self,
        resource: AnyResource,
        url: str = "http://localhost/",
        *,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.agent = MemoryAgent(resource, self.clock)
        self.events: list[ServerSentEvent] = []
        self.errors: list[Exception] = []
        options.setdefault("event_received", self.events.append)
        options.setdefault("on_error", self.errors.append)
        self.source = EventSource(url, reactor=cast(Any, self.clock), agent=self.agent, **options)
        self.source.start()
        self.advance()

    def advance(self, seconds: float = 0.0) -> None:
        """
        Let time go by, and everything happen that is due then.

        :param seconds: how long.
        """
        self.clock.advance(seconds)


@implementer(IAgent)
class MemoryAgent:
    """
    Makes requests of a resource, over connections in memory. Nothing moves but when the clock is advanced.

    :param resource: what answers, whatever the host in the URL.
    :param clock: the time.
    :ivar listening: whether there is a server; connections are refused where not.
    """

    def __init__(self, resource: AnyResource, clock: Clock) -> None:
        self.listening = True
        self._clock = clock
        self._site: Any = Site(resource, reactor=cast(Any, clock))
        self._connections: set[_Connection] = set()
        pool = HTTPConnectionPool(cast(Any, clock), persistent=False)
        self._agent = Agent.usingEndpointFactory(clock, _Endpoints(self._connect), pool)

    @property
    def connections(self) -> int:
        """
        How many connections are open.
        """
        return len(self._connections)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[IResponse]:
        """
        Make a request.
        """
        return cast("Deferred[IResponse]", self._agent.request(method, uri, headers, bodyProducer))

    def cut(self) -> None:
        """
        Lose all connections, with whatever is on its way, as a network does.
        """
        for connection in list(self._connections):
            connection.end(ConnectionLost(), ConnectionLost())

    def _connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if not self.listening:
            return fail(ConnectionRefusedError())
        client = cast(IProtocol, factory.buildProtocol(cast(IAddress, None)))
        server = self._site.buildProtocol(None)
        self._connections.add(_Connection(client, server, self._clock, self._connections.discard))
        return succeed(client)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """
    The one endpoint, for every URL.
    """

    def __init__(self, connect: Callable[[IProtocolFactory], Deferred[IProtocol]]) -> None:
        self._connect = connect

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802
        return _Endpoint(self._connect)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, connect: Callable[[IProtocolFactory], Deferred[IProtocol]]) -> None:
        self._connect = connect

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        return self._connect(protocolFactory)


class _Connection:
    """
    Two protocols, each at one end.

    :param ended: called when it has ended.
    """

    def __init__(
        self,
        client: IProtocol,
        server: IProtocol,
        clock: Clock,
        ended: Callable[[_Connection], None],
    ) -> None:
        self._ended = ended
        self._ends = near, far = _End(self, client, clock), _End(self, server, clock)
        near.other, far.other = far, near
        server.makeConnection(far)
        client.makeConnection(near)

    def end(self, near: Exception, far: Exception, first: _End | None = None) -> None:
        """
        End it, for reasons that both sides are told.

        :param first: who ends it, and is told of the first reason; ``None`` for the client.
        """
        self._ended(self)
        one = first or self._ends[0]
        for end, reason in ((one, near), (one.other, far)):
            end.lose(reason)


@implementer(ITransport, IConsumer, IPushProducer)
class _End:
    """
    What a protocol writes to, and is read from: bytes move when the clock goes on, in pieces, as long as the
    other side reads.
    """

    other: _End

    def __init__(self, connection: _Connection, protocol: IProtocol, clock: Clock) -> None:
        self.connected = True
        self.disconnecting = False
        self._aborted = False
        self._connection = connection
        self._protocol = protocol
        self._clock = clock
        self._held = bytearray()
        self._moving = False
        self._reading = True
        self._producer: Any = None
        # Whether the producer was asked to wait.
        self._waits = False

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            self._held += data
            if self._producer is not None and not self._waits and len(self._held) > _BUFFER:
                self._waits = True
                self._producer.pauseProducing()
            self._move_soon()

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        # A pull producer never gets here: Twisted's web has others in front of it.
        self._producer = producer
        self._waits = False

    def unregisterProducer(self) -> None:  # noqa: N802
        self._producer = None

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True
        self.other._move_soon()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:  # noqa: N802
        self.disconnecting = True
        self._move_soon()

    def abortConnection(self) -> None:
        self._held.clear()
        if self.connected and not self._aborted:
            self._aborted = self.disconnecting = True
            self._clock.callLater(0, self._connection.end, ConnectionAborted(), ConnectionLost(), self)

    def getPeer(self) -> IAddress:  # noqa: N802
        return _ADDRESS

    def getHost(self) -> IAddress:  # noqa: N802
        return _ADDRESS

    def lose(self, reason: Exception) -> None:
        """
        Tell the protocol that the connection is gone.
        """
        if self.connected:
            self.connected = False
            self._held.clear()
            self._protocol.connectionLost(Failure(reason))

    def _move_soon(self) -> None:
        if not self._moving:
            self._moving = True
            self._clock.callLater(0, self._move)

    def _move(self) -> None:
        self._moving = False
        data = bytes(self._held[:_BUFFER])
        if not self.connected or (data and not self.other._reading):
            return
        if data:
            del self._held[:_BUFFER]
            self.other._protocol.dataReceived(data)
            self._move_soon()
        elif self._producer is not None and self._waits:
            self._waits = False
            self._producer.resumeProducing()
        elif self.disconnecting and not self._aborted:
            self._connection.end(ConnectionDone(), ConnectionDone(), self)

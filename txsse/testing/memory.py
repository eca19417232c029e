"""
An in-memory network for tests: Twisted's own HTTP server and client, joined without sockets.

Bytes move only when the test advances a :class:`~twisted.internet.task.Clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict, Unpack, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProducer,
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
from txsse.client.delivery import EventCallback
from txsse.client.source import EventSource
from txsse.protocol.event import ServerSentEvent

__all__ = ["MemoryAgent", "MemoryPair"]

# In bytes: how much Twisted's transports read at once, and buffer before they pause their producer.
_BUFFER = 2**16

_ADDRESS = IPv4Address("TCP", "127.0.0.1", 80)


class SourceOptions(TypedDict, total=False):
    """
    The options of :class:`txsse.EventSource`, but for those that :class:`MemoryPair` sets.
    """

    headers: Mapping[str, str] | Headers | None
    trusted_origins: Iterable[str]
    last_event_id: str
    method: str
    body: bytes | None
    retry: float
    max_retry: float
    reset_backoff_after: float
    max_attempts: int | None
    reconnect_on: Iterable[int]
    connect_timeout: float
    read_timeout: float | None
    max_event_size: int
    event_received: EventCallback | None
    on_error: Callable[[Exception], object] | None


class MemoryPair:
    """
    A resource that serves a stream, and an ``EventSource`` that reads it, with no socket between them.

    ::

        clock = Clock()
        pair = MemoryPair(SSEResource(handler, upgrader=Upgrader(reactor=clock)), clock=clock)
        pair.advance(60)
        assert [event.data for event in pair.events] == ["a", "b"]

    :param resource: the resource under test, or the root of a tree of resources.
    :param url: the URL to request; its host is ignored.
    :param clock: the clock; ``None`` makes a new one. Pass the same one to the resource's upgrader or hub.
    :param options: options of :class:`txsse.EventSource`.
    :ivar source: the ``EventSource``, already started.
    :ivar events: the events received so far, unless ``event_received`` was given.
    :ivar errors: the errors reported so far, unless ``on_error`` was given.
    :ivar agent: the network between them; it can refuse and cut connections.
    :ivar clock: the clock.
    """

    def __init__(
        self,
        resource: AnyResource,
        url: str = "http://localhost/",
        *,
        clock: Clock | None = None,
        **options: Unpack[SourceOptions],
    ) -> None:
        self.clock = clock or Clock()
        self.agent = MemoryAgent(resource, self.clock)
        self.events: list[ServerSentEvent] = []
        self.errors: list[Exception] = []
        options.setdefault("event_received", self.events.append)
        options.setdefault("on_error", self.errors.append)
        self.source = EventSource(url, reactor=self.clock, agent=self.agent, **options)
        self.source.start()
        self.advance()

    def advance(self, seconds: float = 0.0) -> None:
        """
        Advance the clock, and run everything that is due by then.

        :param seconds: by how much; 0 runs only what is due now.
        """
        self.clock.advance(seconds)


@implementer(IAgent)
class MemoryAgent:
    """
    Make requests to a resource over in-memory connections. Nothing is sent until the clock is advanced.

    :param resource: the resource that handles every request, whatever the host in the URL.
    :param clock: the clock.
    :ivar listening: whether the server accepts connections; if not, they are refused.
    """

    def __init__(self, resource: AnyResource, clock: Clock) -> None:
        self.listening = True
        self._clock = clock
        self._site = Site(resource, reactor=clock)
        self._connections: set[_Connection] = set()
        pool = HTTPConnectionPool(clock, persistent=False)
        self._agent = Agent.usingEndpointFactory(clock, _Endpoints(self._connect), pool)

    @property
    def connections(self) -> int:
        """
        The number of open connections.
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
        Lose all connections, as when the network fails: data in transit is lost.
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
    Return the same endpoint for every URL.
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
    A connection between two protocols, a client's and a server's.

    :param ended: called when the connection has ended.
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
        End the connection at both ends.

        :param near: the reason passed to ``connectionLost`` of the protocol at ``first``.
        :param far: the reason for the protocol at the other end.
        :param first: the end that is closed first; ``None`` for the client's.
        """
        self._ended(self)
        one = first or self._ends[0]
        for end, reason in ((one, near), (one.other, far)):
            end.lose(reason)


@implementer(ITransport, IConsumer, IPushProducer)
class _End:
    """
    The transport of one protocol.

    Written bytes reach the other end in pieces, when the clock advances and as long as the other end reads.
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
        self._producer: IPushProducer | None = None
        # Whether the producer is paused.
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

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:  # noqa: N802
        # A pull producer never gets here: twisted.web wraps it in a push producer.
        self._producer = cast(IPushProducer, producer)
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
        Close this end, and call ``connectionLost`` of its protocol.
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

"""
The in-memory network: a resource and an ``EventSource`` on a simulated clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.web.iweb import IResponse
from twisted.web.resource import Resource
from twisted.web.server import Request

from txsse import (
    CloseReason,
    EventSource,
    Hub,
    ReadyState,
    ServerSentEvent,
    SSEChannel,
    SSEResource,
    StreamEnded,
    Upgrader,
)
from txsse.client import source
from txsse.testing import MemoryAgent, MemoryPair, memory
from txsse.testing.memory import SourceOptions


class Opened(SSEResource):
    """
    A resource that keeps its channels.
    """

    def __init__(self, clock: Clock, **options: object) -> None:
        super().__init__(upgrader=Upgrader(reactor=clock, **options))  # type: ignore[arg-type]
        self.channels: list[SSEChannel] = []

    def channel_opened(self, channel: SSEChannel) -> None:
        self.channels.append(channel)


class SourceOptionsTests:
    def test_all_options(self) -> None:
        """
        The options of ``MemoryPair`` for its source are all those of ``EventSource`` that it does not set
        itself, with the same types.
        """
        options = get_type_hints(EventSource.__init__, vars(source))
        for name in ("return", "url", "reactor", "agent"):
            del options[name]
        assert get_type_hints(SourceOptions, vars(memory)) == options


class Answer(Resource):
    """
    A resource whose response is a text.
    """

    isLeaf = True

    def __init__(self, text: bytes) -> None:
        Resource.__init__(self)
        self._text = text

    def render_GET(self, request: Request) -> bytes:
        return self._text


def fetched(resource: Resource) -> bytes:
    """
    Return the body of a response, and check that no connection stays open.
    """
    clock = Clock()
    agent = MemoryAgent(resource, clock)
    body = b""

    class Body(Protocol):
        def dataReceived(self, data: bytes) -> None:
            nonlocal body
            body += data

    def read(response: IResponse) -> None:
        response.deliverBody(Body())

    agent.request(b"GET", b"http://localhost/").addCallback(read)
    clock.advance(0)
    assert not agent.connections
    return body


def texts_of(pair: MemoryPair) -> list[str]:
    return [event.data for event in pair.events]


class PairTests:
    def test_events(self) -> None:
        """
        An event that a resource sends reaches the client when the clock is advanced, and not before.
        """
        clock = Clock()
        opened = Opened(clock)
        pair = MemoryPair(opened, clock=clock)
        assert pair.source.ready_state is ReadyState.OPEN
        opened.channels[0].send("a", event="x", id="1")
        assert not pair.events
        pair.advance()
        assert [event[:3] for event in pair.events] == [("a", "x", "1")]

    def test_time(self) -> None:
        """
        Keep-alives and read timeouts follow the test's clock: without keep-alives, a client with a read
        timeout disconnects.
        """
        clock = Clock()
        patient = MemoryPair(Opened(clock, keepalive=15.0), clock=clock, read_timeout=40.0)
        hasty = MemoryPair(Opened(clock, keepalive=None), clock=clock, read_timeout=40.0)
        for _ in range(7):
            clock.advance(10)
        assert not patient.errors
        assert len(hasty.errors) == 1

    def test_client_closes(self) -> None:
        """
        When the client closes, the server is notified, and no connection and no delayed call is left.
        """
        clock = Clock()
        opened = Opened(clock)
        pair = MemoryPair(opened, clock=clock)
        reasons: list[CloseReason] = []
        opened.channels[0].when_closed().addCallback(reasons.append)
        pair.source.close()
        pair.advance()
        assert reasons == [CloseReason.CLIENT_GONE]
        assert not pair.agent.connections
        assert not clock.getDelayedCalls()

    def test_server_ends_stream(self) -> None:
        """
        When the server ends the stream, the client resumes with its last event ID.
        """
        clock = Clock()
        opened = Opened(clock)
        pair = MemoryPair(opened, clock=clock, retry=2.0)
        opened.channels[0].send("a", id="1")
        opened.channels[0].close()
        pair.advance()
        assert [type(error) for error in pair.errors] == [StreamEnded]
        pair.advance(2)
        assert [channel.last_event_id for channel in opened.channels] == ["", "1"]

    def test_cut(self) -> None:
        """
        Cutting the network loses data in transit, and notifies both the server and the client.
        """
        clock = Clock()
        opened = Opened(clock)
        pair = MemoryPair(opened, clock=clock)
        opened.channels[0].send("lost")
        pair.agent.cut()
        assert not opened.channels[0].is_open
        assert [type(error.__cause__) for error in pair.errors] == [ConnectionLost]
        pair.advance(3)
        assert len(opened.channels) == 2
        assert not pair.events

    def test_server_aborts(self) -> None:
        """
        A server that aborts a connection discards its unsent data, even if the connection is already closing.
        """
        clock = Clock()
        opened = Opened(clock, keep_request=True)
        pair = MemoryPair(opened, clock=clock)
        opened.channels[0].send("lost")
        original: Any = opened.channels[0].request.original
        transport = original.transport
        transport.loseConnection()
        opened.channels[0].abort()
        transport.abortConnection()
        pair.advance()
        assert not pair.events
        assert [type(error.__cause__) for error in pair.errors] == [ConnectionLost]
        assert not pair.agent.connections

    def test_not_listening(self) -> None:
        """
        Connections are refused while the server is not listening.
        """
        clock = Clock()
        opened = Opened(clock)
        agent = MemoryAgent(opened, clock)
        agent.listening = False
        errors: list[Exception] = []
        source = EventSource(
            "http://localhost/", reactor=clock, agent=agent, retry=1.0, on_error=errors.append
        )
        source.start()
        clock.advance(1)
        assert {type(error.__cause__) for error in errors} == {ConnectionRefusedError}
        agent.listening = True
        clock.advance(10)
        assert source.ready_state is ReadyState.OPEN

    def test_slow_reader(self) -> None:
        """
        A slow client makes the server's channel slow, as over a socket.
        """
        clock = Clock()
        opened = Opened(clock, max_buffer=10_000_000)
        work: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            work.append(Deferred())
            return work[-1]

        pair = MemoryPair(opened, clock=clock, event_received=received)
        channel = opened.channels[0]
        for _ in range(300):
            channel.send("x" * 1000)
            pair.advance()
        assert len(work) == 1
        assert channel.is_slow
        while work:
            work.pop().callback(None)
            pair.advance()
        assert not channel.is_slow
        assert not channel.buffered

    def test_hub(self) -> None:
        """
        Several clients of a hub share one clock.
        """
        clock = Clock()
        hub = Hub(reactor=clock)
        pairs = [MemoryPair(hub.resource("news"), clock=clock) for _ in range(3)]
        hub.publish("news", "a")
        clock.advance(0)
        assert [texts_of(pair) for pair in pairs] == [["a"]] * 3

    def test_tree(self) -> None:
        """
        The path and query of the URL select a resource in a tree, as on a server.
        """
        clock = Clock()
        root = Resource()
        asked: list[bytes] = []
        root.putChild(
            b"events",
            SSEResource(lambda channel: asked.append(channel.request.uri), upgrader=Upgrader(reactor=clock)),
        )
        MemoryPair(root, "http://example.org/events?a=b", clock=clock)
        assert asked == [b"/events?a=b"]

    def test_custom_callbacks(self) -> None:
        """
        ``event_received`` and ``on_error`` replace the lists of events and errors.
        """
        clock = Clock()
        opened = Opened(clock)
        got: list[str] = []
        errors: list[Exception] = []
        pair = MemoryPair(
            opened, clock=clock, event_received=lambda event: got.append(event.data), on_error=errors.append
        )
        opened.channels[0].send("a")
        pair.advance()
        pair.agent.cut()
        assert got == ["a"]
        assert len(errors) == 1
        assert not pair.events and not pair.errors

    def test_default_clock(self) -> None:
        """
        Without a clock argument, a pair makes a clock.
        """
        pair = MemoryPair(Answer(b"hello"))
        assert pair.source.ready_state is ReadyState.CLOSED
        assert "text/html" in str(pair.errors[0])


class AgentTests:
    @pytest.mark.parametrize("size", [0, 1, 200_000])
    def test_body(self, size: int) -> None:
        """
        The agent fetches ordinary responses, of any size.
        """
        assert fetched(Answer(b"x" * size)) == b"x" * size

    def test_client_stops_producing(self) -> None:
        """
        A client may end the connection by ``stopProducing`` of the body's transport.
        """
        clock = Clock()
        opened = Opened(clock)
        agent = MemoryAgent(opened, clock)

        class Enough(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.stopProducing()  # type: ignore[union-attr]

        def read(response: IResponse) -> None:
            response.deliverBody(Enough())

        agent.request(b"GET", b"http://localhost/").addCallback(read)
        clock.advance(0)
        opened.channels[0].send("a")
        clock.advance(0)
        assert not opened.channels[0].is_open
        assert not agent.connections


@pytest.fixture(autouse=True)
def _no_global_reactor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    Fail if a test uses the global reactor.
    """

    def refuse() -> None:
        raise AssertionError("the global reactor was used")

    for module in ("txsse.server.upgrade", "txsse.client.source", "txsse.testing.script", "txsse.hub.hub"):
        monkeypatch.setattr(f"{module}.global_reactor", refuse, raising=False)
    yield

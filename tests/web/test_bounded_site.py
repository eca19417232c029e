"""
Tests of the limits on connections, at each point of their life.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h2.settings
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.client import Agent, readBody

from tests.fakes import Client, Http2Client, Http10Client, Wire
from tests.web.bounded_world import PAGE, Page, World
from txsse import SSEResource, Upgrader
from txsse.server.sinks.direct import DirectSink
from txsse.service.config import Config
from txsse.web.bounded_site import BoundedConnection, BoundedSite


@pytest.fixture
def world(plain: Wire) -> Iterator[World]:
    world = World(plain)
    yield world
    world.end()


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def unsent(client: Client) -> int:
    transport: Any = client.transport
    return len(transport.dataBuffer) + transport._tempDataLen


# An HTTP/2 preface with empty SETTINGS.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5)


class TLSTransport(StringTransport):
    """
    A transport that reads after ``loseConnection``, as TLS does until the client closes its side.
    """

    def __init__(self) -> None:
        super().__init__()
        self.negotiatedProtocol: bytes | None = None
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    def unregisterProducer(self) -> None:  # noqa: N802
        self.producer = None


class ClosingTests:
    """
    Connections that are closing, and clients that keep sending.
    """

    @pytest.fixture
    def connection(self, world: World) -> Iterator[Any]:
        connection: Any = world.site().buildProtocol(None)
        yield connection
        connection.connectionLost(Failure(ConnectionDone()))

    def begin(self, connection: Any, first: bytes, negotiated: bytes | None = None) -> tuple[Any, list[int]]:
        """
        Send data, and record the sizes of the data that the protocol receives afterwards.
        """
        transport = TLSTransport()
        transport.negotiatedProtocol = negotiated
        connection.makeConnection(transport)
        connection.dataReceived(first)
        got: list[int] = []
        inner = connection.protocol
        receive = inner.dataReceived
        inner.dataReceived = lambda data: (got.append(len(data)), receive(data))  # type: ignore[func-returns-value]
        return transport, got

    @pytest.mark.parametrize(
        ("first", "negotiated"),
        [
            (b"bad request\r\n\r\n", None),
            (get("/page", "Connection: close"), None),
            (b"GET /page HTTP/1.0\r\n\r\n", None),
            # A HEADERS frame on stream 0, and a GOAWAY, each after the preface and SETTINGS.
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5) + b"\0\0\1\1" + bytes(6),
                b"h2",
            ),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5) + b"\0\0\x08\7" + bytes(13),
                b"h2",
            ),
            (b"no preface at all", b"h2"),
        ],
    )
    def test_data_on_a_closing_connection(
        self, world: World, connection: Any, first: bytes, negotiated: bytes | None
    ) -> None:
        """
        Data on a closing connection is dropped, and too much of it aborts the connection.
        """
        transport, got = self.begin(connection, first, negotiated)
        assert transport.disconnecting
        for _ in range(16):
            connection.dataReceived(b"x" * 65536)
        assert not transport.aborted
        connection.dataReceived(b"x")
        assert transport.aborted
        assert got == []
        world.wire.reactor.advance(0)

    def test_client_does_not_close(self, world: World, connection: Any) -> None:
        """
        A client that keeps its side of a closing connection open is disconnected after the request timeout.
        """
        transport, _ = self.begin(connection, get("/page", "Connection: close"))
        world.wire.reactor.advance(9.9)
        assert not transport.aborted
        world.wire.reactor.advance(0.2)
        assert transport.aborted

    def test_client_does_not_read(self, world: World) -> None:
        """
        A client that does not read the rest of its response is disconnected after the request timeout.
        """
        client = world.connect()
        client.stop_reading()
        client.say(get("/later", "Connection: close"))
        world.later.requests[0].write(PAGE)
        world.later.requests[0].finish()
        world.wire.reactor.advance(9.9)
        assert client.connected
        world.wire.reactor.advance(0.2)
        assert not client.connected

    def test_site_closes_meanwhile(self, world: World, connection: Any) -> None:
        """
        A site that closes does not wait for a connection that is closing already.
        """
        transport, _ = self.begin(connection, get("/page", "Connection: close"))
        connection.close()
        world.wire.reactor.advance(5.1)
        assert transport.aborted


class PipeliningTests:
    """
    Clients that send more requests than they read responses.
    """

    def test_pipelined_requests(self, world: World) -> None:
        """
        A pipelined request is answered when at most 64 KiB of responses are unsent, and finally all are.
        """
        client = world.connect()
        client.stop_reading()
        for _ in range(4):
            client.say(get("/page") * 25)
        assert unsent(client) <= 65536 + 31_000
        assert world.page.count == 3
        client.read_on()
        assert world.page.count == 100
        assert client.body.count(b"HTTP/1.1 200 OK") + 1 == 100

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(
        paths=st.lists(st.sampled_from(["/page", "/nothing", "/page", "/later"]), min_size=1, max_size=200),
        reads=st.lists(st.integers(1, 200_000), max_size=8),
    )
    def test_unsent_is_bounded(self, paths: list[str], reads: list[int]) -> None:
        """
        For any requests and any reading, at most one response and 64 KiB are unsent.
        """
        with pytest.MonkeyPatch.context() as patch:
            world = World(Wire("direct", patch))
            client = world.connect()
            client.stop_reading()
            client.say(b"".join(map(get, paths)))
            for size in reads:
                for request in world.later.requests:
                    if not request.finished:
                        request.write(PAGE)
                        request.finish()
                assert unsent(client) <= 65536 + 31_000
                client.read_some(size)
                assert unsent(client) <= 65536 + 31_000
            world.end()

    @pytest.mark.parametrize("path", ["/page", "/later"])
    def test_flood_of_requests(self, world: World, path: str) -> None:
        """
        A connection whose client sends requests and reads no responses is paused until the client reads.
        """
        client = world.connect()
        client.stop_reading()
        client.say(get(path) * 4)
        for request in world.later.requests:
            request.write(PAGE * 3)
        for _ in range(5):
            if client.transport in world.wire.reactor.readers:
                client.say(get("/nothing") * 300)
        assert client.transport not in world.wire.reactor.readers
        client.read_on()
        while any(not request.finished for request in world.later.requests):
            world.later.requests[-1].finish()
            client.pump()
        assert client.transport in world.wire.reactor.readers

    def test_turns(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Four requests of a connection are answered per turn of the reactor.
        """
        turns: list[Callable[[], object]] = []
        monkeypatch.setattr(BoundedConnection, "call_soon", lambda _, call: turns.append(call))
        client = world.connect()
        client.transport.write = client.transport.writeSequence = lambda data: None
        client.say(get("/page") * 18)
        counts = [world.page.count]
        while turns:
            turns.pop(0)()
            counts.append(world.page.count)
        assert counts == [4, 8, 12, 16, 18]

    def test_client_that_never_reads(self, world: World) -> None:
        """
        A request that waits for its client to read is aborted after the request timeout.
        """
        client = world.connect()
        client.stop_reading()
        client.say(get("/page") * 5)
        world.wire.reactor.advance(9.9)
        assert client.connected
        world.wire.reactor.advance(0.2)
        assert not client.connected

    @pytest.mark.slow
    def test_http2(self, world: World) -> None:
        """
        Over HTTP/2 the streams of a connection share the limit of unsent bytes, and closed windows cause no
        calls.
        """
        client = world.connect(Http2Client)
        client.open_window(0)
        streams = []
        for _ in range(90):
            stream = client.h2.get_next_available_stream_id()
            pseudo = [(":method", "GET"), (":path", "/page"), (":scheme", "https"), (":authority", "x")]
            client.h2.send_headers(stream, pseudo, end_stream=True)
            streams.append(stream)
        client.say(client.h2.data_to_send())
        assert world.page.count == 3
        client.open_window(2**20)
        assert world.page.count == 90
        assert len(client.body) == 90 * len(PAGE)

    def test_http2_client_that_never_reads(self, world: World) -> None:
        """
        Over HTTP/2 a response that is not read is reset after the request timeout, and so are the waiting
        requests.
        """
        client = world.connect(Http2Client)
        client.open_window(0)
        for _ in range(5):
            client.request("/page")
        world.wire.reactor.advance(10.1)
        client.pump()
        assert client.reset
        assert world.page.count == 3
        channel = client.protocol.protocol._channel
        assert channel.streams == {}

    def test_http2_client_that_reads_slowly(self, world: World) -> None:
        """
        Over HTTP/2 a client that keeps reading may take any time.
        """
        client = world.connect(Http2Client)
        client.open_window(1000)
        client.h2.acknowledge_received_data = lambda *_: None
        client.request("/page")
        for _ in range(5):
            world.wire.reactor.advance(9)
            client.h2.increment_flow_control_window(100, client.stream)
            client.say(client.h2.data_to_send())
        assert not client.reset
        assert len(client.body) == 1500

    def test_http2_head(self, world: World) -> None:
        """
        Over HTTP/2 a response without a body ends even if the window is closed.
        """
        client = world.connect(Http2Client)
        client.open_window(0)
        client.request("/page", method="HEAD")
        assert (client.status, client.ended, client.body) == (200, True, b"")

    def test_http2_resource_with_a_producer(self, world: World) -> None:
        """
        Over HTTP/2 a response that a producer writes is sent by Twisted itself.
        """

        class Producer:
            def resumeProducing(self) -> None:
                pass

            pauseProducing = stopProducing = resumeProducing

        client = world.connect(Http2Client)
        client.request("/later")
        request = world.later.requests[0]
        request.registerProducer(Producer(), True)
        request.write(b"abc")
        request.unregisterProducer()
        request.finish()
        client.pump()
        assert (client.body, client.ended) == (b"abc", True)

    @pytest.mark.parametrize("path", ["/page", "/stream"])
    def test_http2_client_resets_a_stream(self, world: World, path: str) -> None:
        """
        An HTTP/2 stream that is reset during its response leaves nothing, and others continue.
        """
        client = world.connect(Http2Client)
        client.open_window(0)
        client.request(path)
        client.disconnect()
        for _ in range(3):
            client.request("/page")
        client.open_window(2**20)
        assert len(client.body) == 3 * len(PAGE)
        assert len(client.protocol.protocol._channel.streams) == 0


class StreamTests:
    """
    Data after the request of a stream.
    """

    @pytest.mark.parametrize("extra", [b"", b"x" * 60_000])
    @pytest.mark.parametrize("keep", [False, True])
    def test_kept(self, world: World, extra: bytes, keep: bool) -> None:
        """
        A stream keeps at most 4 KB of data after its request, and the connection is still read.
        """
        upgrader = Upgrader(reactor=world.wire.reactor, keepalive=None, keep_request=keep)
        world.root.putChild(b"kept", SSEResource(world.channels.append, upgrader=upgrader))
        client = world.connect()
        client.say(get("/kept") + extra)
        for _ in range(10):
            client.say(b"y" * 6000)
        (channel,) = world.channels
        sink: Any = channel.sink
        if keep:
            assert type(sink) is DirectSink
            original: Any = channel.request.original
            kept = sum(map(len, original.channel._dataBuffer))
        else:
            kept = len(sink._pipelined)
        assert kept <= 4096
        assert client.transport in world.wire.reactor.readers
        channel.send("on")
        client.pump()
        assert client.body == b"data: on\n\n"
        channel.close()
        client.pump()
        # The dropped data cannot be answered.
        assert client.ended and not client.connected

    @pytest.mark.parametrize("keep", [False, True])
    def test_flood(self, world: World, keep: bool) -> None:
        """
        A client that sends more than a mebibyte after the request of a stream is disconnected.
        """
        upgrader = Upgrader(reactor=world.wire.reactor, keepalive=None, keep_request=keep)
        world.root.putChild(b"kept", SSEResource(world.channels.append, upgrader=upgrader))
        client = world.connect()
        client.say(get("/kept"))
        for _ in range(17):
            client.say(b"y" * 65536)
        assert not client.connected
        assert not world.channels[0].is_open

    @pytest.mark.parametrize("keep", [False, True])
    def test_data_before_the_upgrade(self, world: World, keep: bool) -> None:
        """
        A stream that opens when Twisted has paused reading resumes it.
        """
        client = world.connect()
        client.say(get("/later"))
        client.say(b"y" * 20_000)
        assert client.transport not in world.wire.reactor.readers
        upgrader = Upgrader(reactor=world.wire.reactor, keepalive=None, keep_request=keep)
        channel = upgrader.upgrade(world.later.requests[0])
        assert client.transport in world.wire.reactor.readers
        client.disconnect()
        assert not channel.is_open

    @pytest.mark.parametrize("keep", [False, True])
    def test_one_more_request(self, world: World, keep: bool) -> None:
        """
        A request that is pipelined after that of a stream is answered when the stream has ended.
        """
        upgrader = Upgrader(reactor=world.wire.reactor, keepalive=None, keep_request=keep)
        world.root.putChild(b"kept", SSEResource(world.channels.append, upgrader=upgrader))
        client = world.connect()
        client.say(get("/kept") + get("/page")[:20])
        client.say(get("/page")[20:])
        assert world.page.count == 0
        world.channels[0].close()
        client.pump()
        assert world.page.count == 1
        client.say(get("/page"))
        assert world.page.count == 2


class FramingTests:
    """
    Heads that another server may parse differently.
    """

    @pytest.mark.parametrize(
        "head",
        [
            "GET /page HTTP/1.1",
            "GET /page HTTP/1.1|Host: a|Host: b",
            "GET /page HTTP/1.1|Host: a|Host: a",
            "GET /page HTTP/1.0|Host: a|Host: b",
            "POST /page HTTP/1.1|Host: a|Transfer-Encoding: identity",
            "POST /page HTTP/1.1|Host: a|Transfer-Encoding: identity|Transfer-Encoding: chunked",
            "POST /page HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: identity",
            "POST /page HTTP/1.1|Host: a|Transfer-Encoding:| chunked",
            "POST /page HTTP/1.1|Host: a|Transfer-Encoding:|\tchunked",
            "GET /page HTTP/1.1|Host: a|X: 1| 2",
            "GET /page HTTP/1.1| Host: a",
        ],
    )
    def test_refused(self, world: World, head: str) -> None:
        """
        An ambiguous head gets 400, and does not reach a resource.
        """
        client = world.connect()
        client.say(head.replace("|", "\r\n").encode() + b"\r\n\r\n0\r\n\r\n")
        assert client.status == 400
        assert world.page.count == 0

    @pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
    @pytest.mark.parametrize("size", [100, 1000, 100_000])
    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET /page?", 414),
            (b"\r\nGET /page?", 414),
            (b"GET /page HTTP/1.1\r\nAuthorization: Bearer ", 431),
        ],
    )
    @pytest.mark.parametrize("before", [0, 1])
    def test_long_line(
        self, world: World, before: int, head: bytes, status: int, size: int, end: bytes
    ) -> None:
        """
        A line of more than 16 KiB gets 414 or 431, however it arrives, and the connection is closed.
        """
        client = world.connect()
        for _ in range(before):
            client.say(get("/page"))
            client.pump()
        head += b"x" * 16385 + end
        client.reset_response()
        for start in range(0, len(head), size):
            client.say(head[start : start + size])
        client.pump()
        assert client.status == status
        assert not client.transport.connected
        assert world.page.count == before

    @pytest.mark.parametrize("head", ["GET /page HTTP/1.0", "GET /page HTTP/1.1|Host: a"])
    def test_host_in_http_1_0(self, world: World, head: str) -> None:
        """
        An HTTP/1.0 request needs no Host.
        """
        client = world.connect(Http10Client)
        client.say(head.replace("|", "\r\n").encode() + b"\r\n\r\n")
        assert client.status == 200

    def test_chunked_in_any_case(self, world: World) -> None:
        """
        The name of a transfer coding is accepted in any case.
        """
        client = world.connect()
        client.say(b"POST /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n")
        assert client.status == 200

    def test_http2(self, world: World) -> None:
        """
        Over HTTP/2 a request may have both ``:authority`` and Host, if they are equal.
        """
        client = world.connect(Http2Client)
        client.request("/page", headers={"Host": "x"})
        assert client.status == 200


class HeadTests:
    """
    Long heads, and many requests at once.
    """

    @pytest.mark.parametrize("http2", [False, True])
    def test_long(self, world: World, http2: bool) -> None:
        """
        A request with a head above the limit closes the connection, and does not reach a resource.
        """
        client = world.connect(Http2Client if http2 else Client)
        client.request("/page", headers={f"X-{number}": "x" * 1000 for number in range(80 if http2 else 20)})
        assert not client.transport.connected or client.transport.disconnecting
        assert world.page.count == 0

    def test_streams_of_one_connection(self, world: World) -> None:
        """
        An HTTP/2 connection has at most a hundred streams.
        """
        client = world.connect(Http2Client)
        for _ in range(100):
            client.request("/later")
        assert len(world.later.requests) == 100
        client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        client.h2.remote_settings.acknowledge()
        client.request("/later")
        assert client.transport.disconnecting or not client.transport.connected
        assert len(world.later.requests) == 100


class IdleTests:
    @pytest.mark.parametrize(("kind", "seconds"), [(Client, 10), (Http2Client, 60)])
    def test_connection_without_a_request(
        self, world: World, kind: Callable[..., Client], seconds: float
    ) -> None:
        """
        An idle connection is closed after the request timeout; over HTTP/2, after a minute.
        """
        site = world.site()
        site.timeOut = 60
        client = world.connect(kind, site)
        client.request("/page")
        world.wire.reactor.advance(seconds - 0.1)
        assert client.transport.connected
        world.wire.reactor.advance(0.2)
        client.pump()
        assert not client.transport.connected


class CountTests:
    """
    The limit of connections.
    """

    def test_too_many(self, world: World) -> None:
        """
        Connections above the limit are closed at once, with at most one log line in ten seconds.
        """
        site = world.site(max_connections=2, request_timeout=100)
        first, _ = world.connect(site=site), world.connect(site=site)
        with capturedLogs() as logged:
            assert site.buildProtocol(None) is None
            assert site.buildProtocol(None) is None
            world.wire.reactor.advance(9.9)
            assert site.buildProtocol(None) is None
            assert len(logged) == 1
            world.wire.reactor.advance(0.1)
            assert site.buildProtocol(None) is None
            assert len(logged) == 2
        first.disconnect()
        assert site.buildProtocol(None) is not None


class PublicTests:
    """
    The public use of BoundedSite.
    """

    @pytest_twisted.ensureDeferred
    async def test_example(self) -> None:
        """
        The example in the documentation serves a web tree, and closes.
        """
        text = (Path(__file__).parent.parent.parent / "docs" / "limits.rst").read_text(encoding="utf-8")
        shown = textwrap.dedent(text.partition(".. code-block:: python\n")[2].partition("\nIt keeps")[0])
        assert "tcp:8080" in shown
        names: dict[str, Any] = {"root": Page()}
        lines = shown.strip().splitlines()
        lines[-1] = f"listening = {lines[-1]}".replace("tcp:8080", "tcp:0:interface=127.0.0.1")
        exec("\n".join(lines), names)
        port = await names["listening"]
        answer = await Agent(reactor).request(b"GET", f"http://127.0.0.1:{port.getHost().port}/".encode())
        assert await readBody(answer) == PAGE
        await port.stopListening()
        await names["site"].close()

    def test_defaults(self, world: World) -> None:
        """
        BoundedSite has the same default limits as the service.
        """
        site = BoundedSite(world.root, reactor=world.wire.reactor)
        config = Config(url="https://hub.example/")
        assert (site.max_body, site.max_bodies) == (config.max_body, config.max_bodies)
        assert site.request_timeout == config.request_timeout

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"max_body": "1"}, "max_body must be a number of bytes, not str"),
            ({"max_bodies": 1.5}, "max_bodies must be a number of bytes, not float"),
            ({"request_timeout": True}, "request_timeout must be a number of seconds, not bool"),
            ({"max_connections": "9"}, "max_connections must be a number of connections or None, not str"),
        ],
    )
    def test_wrong_types(self, world: World, options: dict[str, Any], problem: str) -> None:
        """
        Arguments of another type raise TypeError at once.
        """
        with pytest.raises(TypeError, match=problem):
            BoundedSite(world.root, reactor=world.wire.reactor, **options)

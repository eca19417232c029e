"""
Requests that take neither all of the memory nor for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.web.resource import Resource

from tests.fakes import Client, Http2Client, Wire
from txsse import SSEChannel, SSEResource, Upgrader
from txsse.server.detached import DetachedSink
from txsse.service.request import BoundedSite


class Echo(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self.args: list[Any] = []
        self.types: list[Any] = []

    def render(self, request: Any) -> bytes:
        self.args.append(request.args)
        self.types.append(request.getHeader(b"Content-Type"))
        self.bodies.append(request.content.read())
        return b"%d" % len(self.bodies[-1])


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def channels() -> list[SSEChannel]:
    """
    Those that were opened.
    """
    return []


@pytest.fixture
def connect(plain: Wire, echo: Echo, channels: list[SSEChannel]) -> Iterator[Callable[..., Client]]:
    """
    Connects clients to a site whose requests may have a thousand bytes, and ten seconds.
    """
    clients: list[Client] = []

    def connect(kind: Callable[..., Client] = Client) -> Client:
        root = Resource()
        upgrader = Upgrader(reactor=plain.reactor, keepalive=None, keep_request=False)
        root.putChild(b"echo", echo)
        root.putChild(b"stream", SSEResource(channels.append, upgrader=upgrader))
        site = BoundedSite(root, reactor=plain.reactor, max_body=1000, request_timeout=10)
        site.timeOut = None
        site.log = lambda request: None
        clients.append(kind(plain, site))
        return clients[-1]

    yield connect
    for client in clients:
        if client.transport.connected:
            client.disconnect(clean=False)
    assert plain.reactor.getDelayedCalls() == []


def post(size: int, head: str = "") -> bytes:
    return f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{head}\r\n".encode()


class SizeTests:
    def test_just_enough(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        As much as there may be is passed on.
        """
        client = connect()
        client.say(post(1000) + b"x" * 1000)
        assert (client.status, client.body) == (200, b"1000")
        assert echo.bodies == [b"x" * 1000]

    def test_too_much(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        What is too much is refused, and nobody sees it.
        """
        client = connect()
        client.say(post(1001) + b"x" * 1001)
        assert (client.status, client.body) == (413, b"a request may have 1000 bytes\n")
        assert echo.bodies == []
        client.reset_response()
        client.say(post(3) + b"abc")
        assert client.body == b"3"

    def test_chunks(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        It is the same where nobody has said how much comes.
        """
        client = connect()
        client.say(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            client.say(b"64\r\n" + b"x" * 100 + b"\r\n")
        client.say(b"0\r\n\r\n")
        assert client.status == 413
        assert echo.bodies == []

    def test_far_too_much(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        Who goes on and on is cut off, and nothing of it is held.
        """
        client = connect()
        client.say(post(10**12))
        for _ in range(81):
            if client.transport.connected:
                client.say(b"x" * 100)
        assert not client.connected and client.reset

    def test_http2(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        So it is over HTTP/2, where the connection stays.
        """
        client: Any = connect(Http2Client)
        pseudo = [(":method", "POST"), (":path", "/echo"), (":scheme", "https"), (":authority", "x")]
        for size, status in ((1000, 200), (1001, 413)):
            client.stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(client.stream, pseudo)
            client.h2.send_data(client.stream, b"x" * size, end_stream=True)
            client.reset_response()
            client.say(client.h2.data_to_send())
            assert client.status == status
        client.stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(client.stream, pseudo)
        client.h2.send_data(client.stream, b"x" * 8001)
        client.say(client.h2.data_to_send())
        assert client.reset
        assert len(echo.bodies) == 1

    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
    def test_nobody_reads_the_form(self, connect: Callable[..., Client], echo: Echo, kind: str) -> None:
        """
        Twisted would, before anybody has asked who sent it: a megabyte of empty fields takes it long.
        """
        client = connect()
        client.say(post(7, f"Content-Type: {kind}\r\n") + b"a=1&b=2")
        assert client.body == b"7"
        assert echo.args == [{}]
        assert echo.types == [kind.encode()]


class TimeTests:
    def test_silent(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        A connection that says nothing ends.
        """
        client = connect()
        plain.reactor.advance(9.9)
        assert client.connected
        plain.reactor.advance(0.2)
        assert not client.connected

    @pytest.mark.parametrize("beginning", [b"P", b"GET /echo HTTP/1.1\r\nX: ", post(100)])
    def test_drip(self, connect: Callable[..., Client], plain: Wire, beginning: bytes) -> None:
        """
        One that sends a byte now and then has no more time than others: before the request line, in the
        head, and in the body.
        """
        client = connect()
        client.say(beginning)
        for _ in range(9):
            plain.reactor.advance(1)
            client.say(b"x")
        assert client.connected
        plain.reactor.advance(1.1)
        assert not client.connected

    def test_one_after_the_other(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        Each request has its own time.
        """
        client = connect()
        for _ in range(5):
            plain.reactor.advance(6)
            client.reset_response()
            client.say(post(3)[:20])
            plain.reactor.advance(3)
            client.say(post(3)[20:] + b"abc")
            assert client.body == b"3"
        plain.reactor.advance(11)
        assert not client.connected

    def test_stream(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        A stream may last; and it takes as little as it may, which a subclass of anything could cost it.
        """
        client = connect()
        client.request("/stream")
        assert client.status == 200
        assert isinstance(client.protocol.protocol, DetachedSink)
        plain.reactor.advance(3600)
        assert client.connected

    def test_stream_behind_a_stream(
        self, connect: Callable[..., Client], plain: Wire, channels: list[SSEChannel]
    ) -> None:
        """
        Behind a stream the connection is used again, and each request has its time as before.
        """
        client = connect()
        for _ in range(2):
            client.reset_response()
            client.request("/stream")
            plain.reactor.advance(100)
            channels[-1].close()
            client.pump()
            assert client.ended and client.connected
            client.reset_response()
            client.say(post(3) + b"abc")
            assert client.body == b"3"
        client.reset_response()
        client.say(post(1001) + b"x" * 1001)
        assert client.status == 413
        client.reset_response()
        client.request("/stream")
        plain.reactor.advance(100)
        assert client.connected
        channels[-1].close()
        client.pump()
        client.say(b"P")
        plain.reactor.advance(11)
        assert not client.connected

    def test_http2(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        Over HTTP/2 the stream alone is reset; other streams go on.
        """
        client: Any = connect(Http2Client)
        client.request("/stream")
        assert client.status == 200
        client.stream = client.h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":path", "/echo"), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(client.stream, pseudo)
        client.say(client.h2.data_to_send())
        for _ in range(11):
            plain.reactor.advance(1)
            if not client.reset:
                client.h2.send_data(client.stream, b"x")
                client.say(client.h2.data_to_send())
        client.pump()
        assert client.reset
        assert client.transport.connected

"""
Tests of the limits on request bodies and responses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.fakes import Client, Http2Client, Wire
from txsse import SSEChannel, SSEResource, Upgrader
from txsse.server.sinks.detached import DetachedSink
from txsse.web.bounded_site import BoundedSite

METHODS = ("GET", "POST")


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
    Collect the channels that are opened.
    """
    return []


@pytest.fixture
def connect(plain: Wire, echo: Echo, channels: list[SSEChannel]) -> Iterator[Callable[..., Client]]:
    """
    Return a function that connects a client to a site with limits of 1,000 bytes and ten seconds.
    """
    clients: list[Client] = []
    sites: list[BoundedSite] = []

    def connect(kind: Callable[..., Client] = Client, **options: Any) -> Client:
        root = Resource()
        upgrader = Upgrader(reactor=plain.reactor, keepalive=None, keep_request=False, methods=METHODS)
        root.putChild(b"echo", echo)
        root.putChild(b"stream", SSEResource(channels.append, upgrader=upgrader))
        site = BoundedSite(root, reactor=plain.reactor, max_body=1000, request_timeout=10, **options)
        site.timeOut = None
        site.log = lambda request: None  # type: ignore[method-assign]
        sites.append(site)
        clients.append(kind(plain, site))
        return clients[-1]

    yield connect
    for client in clients:
        if client.transport.connected:
            Client.disconnect(client, clean=False)
    assert plain.reactor.getDelayedCalls() == []
    # Whatever the outcome of the requests, no body is counted afterwards.
    assert [site.bodies for site in sites] == [0] * len(sites)


def post(size: int, head: str = "") -> bytes:
    return f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{head}\r\n".encode()


class SizeTests:
    def test_largest_body(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        A body of the largest size reaches the resource.
        """
        client = connect()
        client.say(post(1000) + b"x" * 1000)
        assert (client.status, client.body) == (200, b"1000")
        assert echo.bodies == [b"x" * 1000]

    def test_body_above_the_limit(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        A body above the limit gets 413, and does not reach the resource.
        """
        client = connect()
        client.say(post(1001) + b"x" * 1001)
        assert (client.status, client.body) == (413, b"a request body may have at most 1000 bytes\n")
        assert echo.bodies == []
        client.reset_response()
        client.say(post(3) + b"abc")
        assert client.body == b"3"

    def test_chunks(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        A chunked body above the limit gets 413.
        """
        client = connect()
        client.say(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            client.say(b"64\r\n" + b"x" * 100 + b"\r\n")
        client.say(b"0\r\n\r\n")
        assert client.status == 413
        assert echo.bodies == []

    def test_body_far_above_the_limit(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        A client that sends far more than the limit is disconnected.
        """
        client = connect()
        client.say(post(10**12))
        for _ in range(81):
            if client.transport.connected:
                client.say(b"x" * 100)
        assert not client.connected and client.reset

    def test_http2(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        Over HTTP/2 a body above the limit gets 413, and the connection stays open.
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

    def test_declared(self, connect: Callable[..., Client]) -> None:
        """
        A Content-Length above the limit gets 413 before the body arrives, and the connection stays usable.
        """
        client = connect()
        client.say(post(1001))
        assert (client.status, client.body) == (413, b"a request body may have at most 1000 bytes\n")
        client.say(b"x" * 1001)
        client.reset_response()
        client.say(post(3) + b"abc")
        assert client.body == b"3"

    def test_form_for_the_resource(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        With parse_forms, forms are in ``request.args``.
        """
        client = connect(parse_forms=True)
        client.say(post(7, "Content-Type: application/x-www-form-urlencoded\r\n") + b"a=1&b=2")
        assert echo.args == [{b"a": [b"1"], b"b": [b"2"]}]

    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
    def test_form_is_not_parsed(self, connect: Callable[..., Client], echo: Echo, kind: str) -> None:
        """
        By default no form is parsed: a megabyte of empty fields would take long, before the sender is
        authenticated.
        """
        client = connect()
        client.say(post(7, f"Content-Type: {kind}\r\n") + b"a=1&b=2")
        assert client.body == b"7"
        assert echo.args == [{}]
        assert echo.types == [kind.encode()]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class Http2Poster:
    """
    Sends requests on one HTTP/2 connection.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.streams: list[int] = []

    def begin(self, path: str = "/echo", **fields: str) -> int:
        client = self.client
        stream: int = client.h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":path", path), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(stream, [*pseudo, *fields.items()])
        client.say(client.h2.data_to_send())
        self.streams.append(stream)
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.client.h2.send_data(stream, data, end_stream=end)
        self.client.say(self.client.h2.data_to_send())

    def reset(self, stream: int) -> None:
        self.client.h2.reset_stream(stream)
        self.client.say(self.client.h2.data_to_send())


CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class UnfinishedTests:
    """
    Requests whose bodies are not sent, or not completely.
    """

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
    @pytest.mark.parametrize("http2", [False, True])
    def test_no_descriptors(self, connect: Callable[..., Client], http2: bool) -> None:
        """
        No unfinished request opens a file, whatever size it declares.
        """
        before = open_files()
        if http2:
            poster = Http2Poster(connect(Http2Client))
            for _ in range(50):
                poster.begin()
                poster.begin(**{"content-length": "1000"})
        else:
            for head in (CHUNKED, CHUNKED + b"5\r\nabc", post(1000), post(10**9)):
                connect().say(head)
        assert open_files() == before

    def test_budget(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        A body above the total limit gets 503, until the requests with the other bodies end.
        """
        poster = Http2Poster(connect(Http2Client, max_bodies=2500))
        first, second, third = (poster.begin() for _ in range(3))
        for stream in (first, second):
            poster.send(stream, b"x" * 1000)
        poster.client.reset_response()
        poster.send(third, b"x" * 501, end=True)
        assert poster.client.status == 503
        assert poster.client.headers["retry-after"] == "5"
        assert poster.client.body == b"the server holds too many request bodies at the moment\n"
        poster.reset(first)
        poster.client.reset_response()
        poster.send(poster.begin(), b"y" * 501, end=True)
        assert poster.client.body == b"501"
        assert echo.bodies == [b"y" * 501]

    def test_body_of_a_get(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        The body of an HTTP/2 GET is not kept.
        """
        client: Any = connect(Http2Client, max_bodies=1)
        client.stream = client.h2.get_next_available_stream_id()
        pseudo = [(":method", "GET"), (":path", "/echo"), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(client.stream, pseudo)
        client.h2.send_data(client.stream, b"x" * 900, end_stream=True)
        client.say(client.h2.data_to_send())
        assert (client.status, echo.bodies) == (200, [b""])

    @pytest.mark.parametrize("head", [post(10), CHUNKED])
    def test_body_that_is_not_wanted(self, connect: Callable[..., Client], echo: Echo, head: bytes) -> None:
        """
        A body that the site does not want is dropped, and the request is answered as usual.
        """
        client = connect(wants_body=lambda request: False)
        client.say(head)
        assert client.status == 0
        client.say(b"0123456789" if head == post(10) else b"3\r\nabc\r\n0\r\n\r\n")
        assert (client.status, echo.bodies) == (200, [b""])

    @pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
    def test_answered_before_the_body(self, connect: Callable[..., Client], echo: Echo, expect: str) -> None:
        """
        A request that is refused by its head gets its response instead of 100 Continue, and the connection
        stays usable.
        """

        def refuse(request: Any) -> bool:
            assert (request.method, request.uri, request.path) == (b"POST", b"/echo", b"/echo")
            assert request.getHeader(b"Authorization") is None
            request.setResponseCode(401)
            request.setHeader(b"Content-Length", b"2")
            request.write(b"no")
            request.finish()
            return False

        client = connect(wants_body=refuse)
        client.say(post(900, expect))
        assert (client.status, client.body) == (401, b"no")
        client.say(b"x" * 900)
        assert (client.raw, echo.bodies) == (b"", [])
        client.reset_response()
        client.say(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.body == b"0"

    def test_answered_before_the_body_on_http2(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        Over HTTP/2 a request that is refused by its head gets its response at once; the stream ends after the
        body.
        """

        def refuse(request: Any) -> bool:
            request.setResponseCode(401)
            request.write(b"no")
            request.finish()
            return False

        poster = Http2Poster(connect(Http2Client, wants_body=refuse))
        stream = poster.begin()
        client = poster.client
        assert (client.status, client.body, client.ended) == (401, b"no", False)
        poster.send(stream, b"x" * 500)
        poster.send(stream, b"x" * 400, end=True)
        assert (client.body, client.ended, echo.bodies) == (b"no", True, [])

    def test_body_that_is_wanted(self, connect: Callable[..., Client], echo: Echo) -> None:
        """
        A request with Expect gets 100 Continue if the site wants its body.
        """
        client = connect()
        client.say(post(3, "Expect: 100-continue\r\n"))
        assert client.status == 100
        client.reset_response()
        client.say(b"abc")
        assert (client.status, echo.bodies) == (200, [b"abc"])

    def test_answered_early_and_then_silent(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        A client that has its response early, and does not send the body, is disconnected after the request
        timeout.
        """
        client = connect()
        client.say(post(2000))
        assert client.status == 413
        plain.reactor.advance(9.9)
        assert client.connected
        plain.reactor.advance(0.2)
        assert not client.connected

    def test_timeout_of_the_second_request(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        The request timeout applies to the second request of a connection, too.
        """
        client = connect()
        client.say(post(1) + b"x")
        plain.reactor.advance(100)
        client.say(post(2000))
        plain.reactor.advance(10.1)
        assert not client.connected


class TimeTests:
    def test_silent(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        A connection without a request is closed after the request timeout.
        """
        client = connect()
        plain.reactor.advance(9.9)
        assert client.connected
        plain.reactor.advance(0.2)
        assert not client.connected

    @pytest.mark.parametrize("beginning", [b"P", b"GET /echo HTTP/1.1\r\nX: ", post(100)])
    def test_drip(self, connect: Callable[..., Client], plain: Wire, beginning: bytes) -> None:
        """
        A client that sends a byte from time to time is disconnected after the request timeout, in the head or
        the body.
        """
        client = connect()
        client.say(beginning)
        for _ in range(9):
            plain.reactor.advance(1)
            client.say(b"x")
        assert client.connected
        plain.reactor.advance(1.1)
        assert not client.connected

    def test_several_requests(self, connect: Callable[..., Client], plain: Wire) -> None:
        """
        Each request of a connection has the whole request timeout.
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
        The request timeout does not end a stream, and its request is detached.
        """
        client = connect()
        client.request("/stream")
        assert client.status == 200
        assert isinstance(client.protocol.protocol, DetachedSink)
        plain.reactor.advance(3600)
        assert client.connected

    def test_requests_after_a_stream(
        self, connect: Callable[..., Client], plain: Wire, channels: list[SSEChannel]
    ) -> None:
        """
        After a stream the connection serves other requests, with the same limits.
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
        Over HTTP/2 the request timeout resets only the stream, and other streams continue.
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


class StreamTests:
    def test_body_of_a_request_that_became_a_stream(
        self, connect: Callable[..., Client], channels: list[SSEChannel]
    ) -> None:
        """
        The body of a request is not counted any more when the stream is detached.
        """
        client = connect()
        client.say(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        (channel,) = channels
        assert isinstance(channel.sink, DetachedSink)
        assert client.protocol.site.bodies == 0
        channel.close()


class Http2AnswerTests:
    """
    Responses over HTTP/2 that are written in several parts.
    """

    @pytest.fixture
    def later(self, plain: Wire) -> Iterator[tuple[Any, list[Any]]]:
        requests: list[Any] = []

        class Later(Resource):
            isLeaf = True

            def render(self, request: Any) -> int:
                requests.append(request)
                return NOT_DONE_YET

        site = BoundedSite(Later(), reactor=plain.reactor)
        site.timeOut = None
        site.log = lambda request: None  # type: ignore[method-assign]
        client = Http2Client(plain, site)
        yield client, requests
        Client.disconnect(client, clean=False)

    def test_parts(self, later: tuple[Any, list[Any]]) -> None:
        """
        A response over HTTP/2 sends all of its parts before it ends.
        """
        client, requests = later
        client.request()
        requests[0].write(b"x" * 50_000)
        requests[0].write(b"y" * 50_000)
        client.pump()
        assert client.body == b"x" * 50_000 + b"y" * 50_000
        assert not client.ended
        requests[0].finish()
        client.pump()
        assert client.ended

    def test_head(self, later: tuple[Any, list[Any]]) -> None:
        """
        Over HTTP/2 the response to HEAD has no body, whatever the resource writes.
        """
        client, requests = later
        client.request(method="HEAD")
        requests[0].write(b"x")
        requests[0].finish()
        client.pump()
        assert (client.status, client.body, client.ended) == (200, b"", True)

    def test_stream_not_as_expected(
        self, later: tuple[Any, list[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If Twisted's HTTP/2 stream is not as expected, Twisted queues the response.
        """
        monkeypatch.setattr("txsse._twisted.http2.stream_of", lambda request: None)
        client, requests = later
        client.request()
        requests[0].write(b"x" * 1000)
        requests[0].finish()
        client.pump()
        assert (client.body, client.ended) == (b"x" * 1000, True)

    def test_lost_before_its_turn(self, later: tuple[Any, list[Any]]) -> None:
        """
        An HTTP/2 request whose connection is lost in the same turn is not answered.
        """
        client, requests = later
        pseudo = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(client.h2.get_next_available_stream_id(), pseudo, end_stream=True)
        client.protocol.dataReceived(client.h2.data_to_send())
        client.transport.connectionLost(Failure(ConnectionLost()))
        client.reactor.run_soon()
        assert requests == []


class HeadTests:
    @pytest.mark.parametrize("kind", [Client, Http2Client])
    def test_unknown_head(
        self,
        connect: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
        kind: Callable[..., Client],
    ) -> None:
        """
        If Twisted does not provide the head of a request early, the request is refused after its body.
        """
        monkeypatch.setattr("txsse.web.bounded_request.head_of", lambda channel: None)
        monkeypatch.setattr("txsse._twisted.http2.head_of", lambda channel: None)
        client = connect(kind)
        if kind is Client:
            client.say(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
            assert client.status == 0
            client.say(b"x" * 1001)
        else:
            pseudo = [(":method", "POST"), (":path", "/echo"), (":scheme", "https"), (":authority", "x")]
            client.stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(client.stream, [*pseudo, ("content-length", "1001")])
            client.say(client.h2.data_to_send())
            assert client.status == 0
            client.h2.send_data(client.stream, b"x" * 1001, end_stream=True)
            client.say(client.h2.data_to_send())
        assert client.status == 413

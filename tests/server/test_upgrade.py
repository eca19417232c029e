"""
Tests of the upgrade from a request to a channel: options, headers, refusals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, capturedLogs, globalLogPublisher
from twisted.web.http import Request
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory

from tests.fakes import Wire
from txsse import ChannelClosed, CloseReason, SSEChannel, SSEResource, Upgrader, UpgradeRefused, upgrade
from txsse.server import upgrade as upgrade_module
from txsse.server.peer_timeout import PeerTimeout
from txsse.server.sinks.direct import DirectSink
from txsse.server.upgrade import DEFAULT_MAX_BUFFER


class Rendering(Resource):
    """
    A resource of an application, which upgrades in ``render_GET``.
    """

    isLeaf = True

    def __init__(self, upgrader: Upgrader) -> None:
        super().__init__()
        self.upgrader = upgrader
        self.requests: list[Request] = []
        self.channels: list[SSEChannel] = []
        self.refused: list[UpgradeRefused] = []

    def render_GET(self, request: Request) -> int:
        self.requests.append(request)
        try:
            self.channels.append(self.upgrader.upgrade(request))
        except UpgradeRefused as refused:
            self.refused.append(refused)
        return NOT_DONE_YET

    render_POST = render_GET


class HeaderTests:
    def test_sent_at_once(self, wire: Wire) -> None:
        """
        The response headers of a stream are sent before the first event, so that onopen fires.
        """
        resource = Rendering(wire.upgrader())
        client = wire.connect(resource).request()
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream"
        assert client.headers["cache-control"] == "no-cache, no-store, no-transform"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.body == b""
        resource.channels[0].close()

    def test_retry(self, wire: Wire) -> None:
        """
        The option retry is sent first in the stream, in milliseconds.
        """
        resource = Rendering(wire.upgrader(retry=5.0))
        client = wire.connect(resource).request()
        assert client.body == b"retry: 5000\n\n"
        resource.channels[0].close()

    def test_own_headers(self, wire: Wire) -> None:
        """
        The option headers adds response headers, replaces the default ones, or removes them.
        """
        headers = {"X-Mine": "ä", "Cache-Control": "no-cache", "X-Accel-Buffering": None}
        resource = Rendering(wire.upgrader(headers=headers))
        client = wire.connect(resource).request()
        assert client.headers["x-mine"].encode("latin-1") == "ä".encode()
        assert client.headers["cache-control"] == "no-cache"
        assert "x-accel-buffering" not in client.headers
        assert resource.requests[0].responseHeaders.getRawHeaders("Cache-Control") == ["no-cache"]
        resource.channels[0].close()

    def test_own_vary(self, plain: Wire) -> None:
        """
        A Vary of the option headers is added to the upgrader's own, whatever its case.
        """
        options: dict[str, Any] = {"headers": {"vary": "Accept"}, "allow_origins": ["https://a.example"]}
        resource = Rendering(plain.upgrader(**options))
        plain.connect(resource).request()
        assert resource.requests[0].responseHeaders.getRawHeaders("Vary") == ["Origin", "Accept"]
        resource.channels[0].close()

    def test_own_headers_of_a_head(self, wire: Wire) -> None:
        """
        A HEAD gets the headers that a GET would get; a refusal has none of the option headers.
        """
        resource = SSEResource(upgrader=wire.upgrader(headers={"X-Mine": "1", "X-Accel-Buffering": None}))
        client = wire.connect(resource).request(method="HEAD")
        assert client.headers["x-mine"] == "1"
        assert "x-accel-buffering" not in client.headers
        refused = wire.connect(resource).request(headers={"Accept": "text/html"})
        assert refused.status == 406
        assert "x-mine" not in refused.headers

    def test_headers_that_the_resource_has_set(self, plain: Wire) -> None:
        """
        An upgrade keeps cookies and other headers that the resource has set.
        """

        class WithCookie(Rendering):
            def render_GET(self, request: Request) -> int:
                request.addCookie(b"a", b"b")
                request.setHeader(b"Vary", b"Cookie")
                return super().render_GET(request)

        resource = WithCookie(plain.upgrader(allow_origins=["https://a.example"]))
        client = plain.connect(resource).request()
        assert client.headers["set-cookie"] == "a=b"
        assert resource.requests[0].responseHeaders.getRawHeaders("Vary") == ["Cookie", "Origin"]
        resource.channels[0].close()

    def test_status_that_the_resource_has_set(self, plain: Wire) -> None:
        """
        The status of a stream is always 200, since browsers do not reconnect after any other.
        """

        class NotFound(Rendering):
            def render_GET(self, request: Request) -> int:
                request.setResponseCode(404)
                return super().render_GET(request)

        resource = NotFound(plain.upgrader())
        assert plain.connect(resource).request().status == 200
        resource.channels[0].close()

    def test_cors(self, wire: Wire) -> None:
        """
        A page of a listed origin may read the stream, whatever the notation in the list.
        """
        options: dict[str, Any] = {"allow_origins": ["HTTPS://A.example:443"], "allow_credentials": True}
        resource = Rendering(wire.upgrader(**options))
        client = wire.connect(resource).request(headers={"Origin": "https://a.example"})
        assert client.headers["access-control-allow-origin"] == "https://a.example"
        assert client.headers["access-control-allow-credentials"] == "true"
        assert client.headers["vary"] == "Origin"
        resource.channels[0].close()

    @pytest.mark.parametrize(("any_accept", "status"), [(True, 200), (False, 406)])
    def test_post_that_accepts_json(self, wire: Wire, any_accept: bool, status: int) -> None:
        """
        A POST that accepts only JSON opens a stream with the option any_accept, and gets 406 without it.
        """
        channels: list[SSEChannel] = []
        upgrader = wire.upgrader(methods=("POST",), any_accept=any_accept)
        client = wire.connect(SSEResource(channels.append, upgrader=upgrader))
        client.request(method="POST", headers={"Content-Length": "0", "Accept": "application/json"})
        assert client.status == status
        for channel in channels:
            assert client.headers["content-type"] == "text/event-stream"
            channel.send("x")
            client.pump()
            assert client.body == b"data: x\n\n"
            channel.close()
        assert bool(channels) is any_accept

    def test_post(self, wire: Wire) -> None:
        """
        A POST opens a stream if the option methods includes it.
        """
        resource = Rendering(wire.upgrader(methods=["GET", "POST"]))
        client = wire.connect(resource).request(method="POST", headers={"Content-Length": "0"})
        assert client.status == 200
        resource.channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        resource.channels[0].close()


class LastEventIdTests:
    def opened_with(self, wire: Wire, path: str, id: str | None = None, **options: Any) -> str:
        resource = Rendering(wire.upgrader(**options))
        headers = {} if id is None else {"Last-Event-ID": id.encode().decode("latin-1")}
        client = wire.connect(resource).request(path, headers=headers)
        assert client.status == 200
        (channel,) = resource.channels
        channel.close()
        return channel.last_event_id

    def test_none(self, wire: Wire) -> None:
        """
        On its first request, a client has an empty Last-Event-ID.
        """
        assert self.opened_with(wire, "/") == ""

    def test_header(self, wire: Wire) -> None:
        """
        The Last-Event-ID header is decoded as UTF-8.
        """
        assert self.opened_with(wire, "/", "ä€7") == "ä€7"

    def test_query_parameter(self, wire: Wire) -> None:
        """
        The query parameter replaces the Last-Event-ID header; if the request has both, the header counts.
        """
        assert self.opened_with(wire, "/?lastEventId=a%20%C3%A4") == "a ä"
        assert self.opened_with(wire, "/?lastEventId=query", "header") == "header"

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("lastEventId=a&lastEventId=a", "a"),
            ("lastEventId=old&lastEventId=new", "new"),
            ("lastEventId=a&lastEventId=", "a"),
            ("lastEventId=&lastEventId=", ""),
        ],
    )
    def test_several_parameters(self, wire: Wire, query: str, found: str) -> None:
        """
        Of several query parameters the last one counts: a polyfill appends it to a URL that may have one
        already.
        """
        assert self.opened_with(wire, f"/?{query}") == found

    def test_empty_header(self, wire: Wire) -> None:
        """
        An empty Last-Event-ID header is ignored, and the query parameter counts.
        """
        assert self.opened_with(wire, "/?lastEventId=7", "") == "7"
        assert self.opened_with(wire, "/", "") == ""

    @pytest.mark.parametrize("header", ["7\r\nLast-Event-ID: 7", "\r\nLast-Event-ID: 7"])
    def test_header_twice(self, plain: Wire, header: str) -> None:
        """
        Two equal Last-Event-ID headers count as one, and an empty one is ignored.
        """
        assert self.opened_with(plain, "/?lastEventId=8", header) == "7"

    def test_two_headers(self, plain: Wire) -> None:
        """
        Two different Last-Event-ID headers are refused with 400, since the client's position is unknown.
        """
        client = plain.connect(Rendering(plain.upgrader()))
        client.request(headers={"Last-Event-ID": "7\r\nLast-Event-ID: 8"})
        assert client.status == 400

    def test_other_parameter(self, plain: Wire) -> None:
        """
        The option last_event_id_parameter sets the name of the query parameter, or disables it.
        """
        options: dict[str, Any] = {"last_event_id_parameter": "last_event_id"}
        assert self.opened_with(plain, "/?last_event_id=7", **options) == "7"
        assert self.opened_with(plain, "/?lastEventId=7", **options) == ""
        assert self.opened_with(plain, "/?lastEventId=7", last_event_id_parameter=None) == ""


class RefusalTests:
    def test_refusal_of_an_accept_header(self, wire: Wire) -> None:
        """
        A refused client gets a response, and the caller an exception with its status and reason.
        """
        resource = Rendering(wire.upgrader())
        client = wire.connect(resource).request(headers={"Accept": "text/html"})
        assert client.status == 406
        (refused,) = resource.refused
        assert refused.status == 406
        assert str(refused) == "406: only text/event-stream is available here"
        assert client.body == b"only text/event-stream is available here\n"

    @pytest.mark.parametrize(
        ("method", "accept", "expected"),
        [
            ("GET", "text/html", (406, "41", "text/plain; charset=utf-8")),
            ("HEAD", "text/html", (406, "41", "text/plain; charset=utf-8")),
            ("HEAD", "*/*", (200, None, "text/event-stream")),
            ("OPTIONS", "*/*", (204, None, None)),
        ],
    )
    def test_headers_of_refusals(
        self, wire: Wire, method: str, accept: str, expected: tuple[int, str | None, str | None]
    ) -> None:
        """
        A response to HEAD has the headers of the response to GET; for a stream, it has no Content-Length.
        """
        resource = SSEResource(upgrader=wire.upgrader())
        client = wire.connect(resource).request(method=method, headers={"Accept": accept})
        found = client.headers
        assert (client.status, found.get("content-length"), found.get("content-type")) == expected
        client.disconnect(clean=False)

    def test_exception_that_is_not_caught(self, wire: Wire) -> None:
        """
        If UpgradeRefused is not caught, the client still gets one complete response, and the connection stays
        usable.
        """

        class Careless(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> int:
                wire.upgrader().upgrade(request)
                return NOT_DONE_YET

        logged: list[LogEvent] = []
        globalLogPublisher.addObserver(logged.append)  # type: ignore[arg-type]
        client = wire.connect(Careless()).request(method="HEAD")
        globalLogPublisher.removeObserver(logged.append)  # type: ignore[arg-type]
        assert client.status == 200
        assert client.body == b""
        assert [e["log_failure"].type for e in logged if "log_failure" in e] == [UpgradeRefused]
        if wire.kind != "http10":
            client.reset_response()
            client.request(headers={"Accept": "text/html"})
            assert client.status == 406
            assert client.body == b"only text/event-stream is available here\n"

    @pytest.mark.parametrize("clean", [True, False])
    def test_client_that_has_disconnected(self, wire: Wire, clean: bool) -> None:
        """
        If the client has disconnected before the upgrade, UpgradeRefused has no status.
        """
        decided: Deferred[Request] = Deferred()

        class Thoughtful(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> int:
                decided.addCallback(lambda _: wire.upgrader().upgrade(request))
                return NOT_DONE_YET

        client = wire.connect(Thoughtful()).request()
        client.disconnect(clean=clean)
        errors: list[Any] = []
        decided.callback(None)  # type: ignore[arg-type]
        decided.addErrback(errors.append)
        assert errors[0].type is UpgradeRefused
        assert errors[0].value.status is None
        assert "disconnected" in errors[0].value.reason

    def test_request_that_is_finished(self, plain: Wire) -> None:
        """
        A finished request is refused, and nothing is written into the next response.
        """
        resource = Rendering(plain.upgrader())
        client = plain.connect(resource).request()
        resource.channels[0].close()
        with pytest.raises(UpgradeRefused) as caught:
            resource.upgrader.upgrade(resource.requests[0])
        assert caught.value.status is None
        client.pump()
        assert client.ended

    def test_response_that_has_begun(self, plain: Wire) -> None:
        """
        A request whose response has begun is refused.
        """

        class Early(Rendering):
            def render_GET(self, request: Request) -> int:
                request.write(b"something")
                return super().render_GET(request)

        resource = Early(plain.upgrader())
        plain.connect(resource).request().disconnect()
        assert "begun" in resource.refused[0].reason

    def test_request_without_a_channel(self, plain: Wire) -> None:
        """
        A request that was passed to another process is refused.
        """
        resource = Rendering(plain.upgrader())
        plain.connect(resource).request()
        resource.channels[0].close()
        request = resource.requests[0]
        request.finished = 0
        with pytest.raises(UpgradeRefused, match="disconnected"):
            resource.upgrader.upgrade(request)

    def test_request_with_a_producer(self, plain: Wire) -> None:
        """
        A request with a producer is refused, and its producer can continue.
        """

        class Produced(Rendering):
            def render_GET(self, request: Request) -> int:
                request.registerProducer(object(), True)
                return super().render_GET(request)

        resource = Produced(plain.upgrader(max_lifetime=100.0))
        client = plain.connect(resource).request()
        assert "has another producer" in resource.refused[0].reason
        resource.requests[0].unregisterProducer()
        resource.requests[0].write(b"theirs")
        client.pump()
        assert client.body == b"theirs"
        client.disconnect()

    def test_second_upgrade(self, plain: Wire) -> None:
        """
        A second upgrade of a request is refused, and its channel stays open.
        """
        resource = Rendering(plain.upgrader())
        plain.connect(resource).request()
        with pytest.raises(UpgradeRefused, match="begun"):
            resource.upgrader.upgrade(resource.requests[0])
        assert resource.channels[0].is_open
        resource.channels[0].close()


class GzipTests:
    @pytest.mark.parametrize("accept", ["text/event-stream", "text/html"])
    def test_wrapper_is_bypassed(self, wire: Wire, accept: str) -> None:
        """
        If a resource is wrapped for gzip, events and refusals are still sent at once, uncompressed.
        """
        inner = Rendering(wire.upgrader())
        resource = EncodingResourceWrapper(inner, [GzipEncoderFactory()])
        client = wire.connect(resource)
        client.request(headers={"Accept-Encoding": "gzip", "Accept": accept})
        assert "content-encoding" not in client.headers
        if inner.channels:
            inner.channels[0].send("now")
            client.pump()
            assert client.body == b"data: now\n\n"
            inner.channels[0].close()
            client.pump()
            assert client.ended
        else:
            assert client.body == b"only text/event-stream is available here\n"


class Http2KeepaliveTests:
    @pytest.mark.parametrize(("keepalive", "comments"), [(None, 10), (50.0, 10), (5.0, 20)])
    def test_site_timeout(self, plain: Wire, keepalive: float | None, comments: int) -> None:
        """
        Over HTTP/2, comments are sent at half of Site.timeOut, after which Twisted would cut the connection.
        """
        plain.kind = "http2"
        resource = Rendering(plain.upgrader(keepalive=keepalive))
        client = plain.connect(resource, timeout=20)
        client.request()
        for _ in range(100):
            plain.reactor.advance(1)
            client.pump()
        assert resource.channels[0].is_open
        assert client.body == b":\n\n" * comments
        resource.channels[0].close()
        client.pump()
        client.disconnect(clean=False)

    def test_http1_leaves_it_to_the_site(self, plain: Wire) -> None:
        """
        Over HTTP/1.1, Site.timeOut does not apply to open streams, and no comment is sent for it.
        """
        resource = Rendering(plain.upgrader())
        client = plain.connect(resource, timeout=20)
        client.request()
        plain.reactor.pump([1.0] * 100)
        client.pump()
        assert resource.channels[0].is_open
        assert client.body == b""
        client.disconnect()


class OptionTests:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"retry": -1}, "retry"),
            ({"keepalive": 0}, "keepalive must be a positive number of seconds, not 0"),
            ({"keepalive": float("nan")}, "keepalive"),
            ({"keepalive": float("inf")}, "keepalive"),
            ({"flush_timeout": -1}, "flush_timeout"),
            ({"max_lifetime": 0}, "max_lifetime"),
            ({"peer_timeout": 0}, "peer_timeout"),
            ({"peer_timeout": 30 * 86400}, "peer_timeout must be at most 2147484 seconds"),
            ({"headers": {"X Y": "1"}}, "headers: 'X Y' is not a valid header name"),
            ({"headers": {"": "1"}}, "headers: '' is not a valid header name"),
            ({"headers": {"X:": "1"}}, "headers: 'X:' is not a valid header name"),
            ({"headers": {"X\r\nEvil": "1"}}, "is not a valid header name"),
            ({"headers": {"Ä": "1"}}, "is not a valid header name"),
            ({"headers": {"X": "a\r\nEvil: b"}}, "headers: the value of X holds CR, LF or NUL"),
            ({"headers": {"X": "\0"}}, "the value of X"),
            ({"max_buffer": -1}, "max_buffer"),
            ({"max_total_buffer": -1}, "max_total_buffer"),
            ({"slow_policy": "wait"}, "slow_policy must be one of close, drop, latest, replay, not 'wait'"),
            ({"keep_headers": "X"}, r"keep_headers must be a list of strings, not a single one: \['X'\]"),
            ({"keep_headers": ["X:"]}, "keep_headers: 'X:' is not a valid header name"),
            ({"methods": "GET"}, r"methods must be a list of strings, not a single one: \['GET'\]"),
            ({"allow_origins": "https://a.example"}, "allow_origins must be a list"),
            ({"allow_headers": "X"}, "allow_headers must be a list"),
            ({"allow_origins": ["a.example"]}, "'a.example' is not an origin"),
            ({"allow_origins": ["https://a.example/"]}, "is not an origin"),
            ({"allow_origins": ["://a.example"]}, "is not an origin"),
            ({"allow_origins": ["https://"]}, "is not an origin"),
            ({"allow_origins": ["*"], "allow_credentials": True}, "allow_credentials needs a list"),
        ],
    )
    def test_invalid_options(self, options: dict[str, Any], message: str) -> None:
        """
        An invalid option is refused at once, with its name.
        """
        with pytest.raises(ValueError, match=message):
            Upgrader(**options)

    def test_any_accept_of_another_type(self) -> None:
        """
        An any_accept that is not a bool is refused, since it might mean a list of media types.
        """
        message = "any_accept must be True, to ignore the Accept header, or False, not list"
        with pytest.raises(TypeError, match=message):
            Upgrader(any_accept=["application/json"])  # type: ignore[arg-type]

    def test_options_without_a_limit(self, plain: Wire) -> None:
        """
        None disables keepalive, max_lifetime and peer_timeout.
        """
        options: dict[str, Any] = {"keepalive": None, "max_lifetime": None, "peer_timeout": None}
        resource = Rendering(plain.upgrader(**options))
        plain.connect(resource).request().disconnect()
        assert resource.channels[0].close_reason is CloseReason.CLIENT_GONE

    def test_less_than_a_second(self, plain: Wire) -> None:
        """
        An option in seconds may be a fraction of a second.
        """
        resource = Rendering(plain.upgrader(max_lifetime=0.5))
        client = plain.connect(resource).request()
        plain.reactor.advance(0.5)
        client.pump()
        assert client.ended

    def test_nothing_is_buffered(self, plain: Wire) -> None:
        """
        With max_buffer=0, a client is disconnected as soon as it is slow.
        """
        resource = Rendering(plain.upgrader(max_buffer=0))
        client = plain.connect(resource).request()
        (channel,) = resource.channels
        client.stop_reading()
        while not channel.is_slow:
            channel.send("x" * 4096)
        with pytest.raises(ChannelClosed):
            channel.send("")
        plain.reactor.run_soon()

    def test_channels_share_one_clock(self, wire: Wire) -> None:
        """
        All idle streams share one delayed call in the reactor.
        """
        resource = Rendering(wire.upgrader(keepalive=15.0))
        clients = [wire.connect(resource).request() for _ in range(10)]
        wire.reactor.run_soon()
        assert len(wire.reactor.getDelayedCalls()) == 1
        for client in clients:
            client.disconnect(clean=False)

    @pytest.mark.parametrize("dumps", [lambda value: f"<{value}>", lambda value: f"<{value}>".encode()])
    def test_dumps(self, plain: Wire, dumps: Any) -> None:
        """
        The option dumps may be another JSON library, which returns str or bytes.
        """
        resource = Rendering(plain.upgrader(dumps=dumps))
        client = plain.connect(resource).request()
        resource.channels[0].send_json(7, event="e", id="1")
        client.pump()
        assert client.body == b"id: 1\nevent: e\ndata: <7>\n\n"
        client.disconnect()

    def test_send_xml(self, plain: Wire) -> None:
        """
        send_xml sends a dataclass as an element.
        """

        @dataclass
        class Person:
            Name: str
            Age: int

        resource = Rendering(plain.upgrader())
        client = plain.connect(resource).request()
        resource.channels[0].send_xml(Person("Ernst", 23), event="person")
        client.pump()
        assert client.body == (b"event: person\ndata: <Person><Name>Ernst</Name><Age>23</Age></Person>\n\n")
        client.disconnect()


class PeerTests:
    def test_held_while_the_stream_is_open(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The peer time-out of the connection is set when a stream begins, and restored when it ends.
        """
        calls: list[object] = []

        class Peers(PeerTimeout):
            def hold(self, request: Request) -> Any:
                calls.append(request)
                return "held"

            def release(self, held: object, *, reused: bool = True) -> None:
                calls.append((held, reused))

            def hold_alone(self, connection: object) -> Any:
                calls.append(resource.requests[0])
                return 7

            def release_alone(self, connection: object, before: object, *, reused: bool) -> None:
                assert before == 7
                calls.append(("held", reused))

        monkeypatch.setattr(upgrade_module, "PeerTimeout", Peers)
        resource = Rendering(wire.upgrader())
        client = wire.connect(resource).request()
        assert calls == resource.requests
        resource.channels[0].close()
        client.pump()
        # HTTP/1.0 closes the connection after the response.
        assert calls == [*resource.requests, ("held", wire.kind != "http10")]
        client.disconnect(clean=False)


class DefaultOptionTests:
    def test_preflight(self, plain: Wire) -> None:
        """
        By default, pages of listed origins may set the usual headers, and send no cookies.
        """
        resource = SSEResource(upgrader=plain.upgrader(allow_origins=["https://a.example"]))
        headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
        client = plain.connect(resource).request(method="OPTIONS", headers=headers)
        assert client.status == 204
        assert client.headers["access-control-allow-origin"] == "https://a.example"
        assert client.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
        assert client.headers["access-control-allow-headers"] == (
            "Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID"
        )
        assert "access-control-allow-credentials" not in client.headers

    def test_repeated_preflights(self, plain: Wire) -> None:
        """
        All preflights get the same response, even if the options are iterators.
        """
        origin = "https://a.example"
        options: dict[str, Any] = {
            "methods": iter(["GET"]),
            "allow_origins": iter([origin]),
            "allow_headers": iter(["X"]),
        }
        resource = SSEResource(upgrader=plain.upgrader(**options))
        for _ in range(2):
            headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            client = plain.connect(resource).request(method="OPTIONS", headers=headers)
            assert client.headers["access-control-allow-headers"] == "X"
            assert client.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"

    def test_every_origin(self, plain: Wire) -> None:
        """
        With ``*``, pages of all origins may read the stream, without credentials.
        """
        resource = Rendering(plain.upgrader(allow_origins=["*"]))
        client = plain.connect(resource).request(headers={"Origin": "https://a.example"})
        assert client.headers["access-control-allow-origin"] == "*"
        client.disconnect()

    @pytest.mark.parametrize(("length", "status"), [(1024, 200), (1025, 400)])
    def test_longest_last_event_id(self, plain: Wire, length: int, status: int) -> None:
        """
        By default, the longest Last-Event-ID has 1024 bytes.
        """
        client = plain.connect(Rendering(plain.upgrader()))
        assert client.request(headers={"Last-Event-ID": "x" * length}).status == status
        client.disconnect()

    def test_max_buffer(self, plain: Wire) -> None:
        """
        By default, one mebibyte is buffered for a slow client.
        """
        resource = Rendering(plain.upgrader())
        client = plain.connect(resource).request()
        (channel,) = resource.channels
        client.stop_reading()
        while not channel.is_slow:
            channel.send("x" * 4096)
        channel.send("y" * (2**20 - len("data: \n\n")))
        assert channel.buffered == DEFAULT_MAX_BUFFER == 2**20
        with pytest.raises(ChannelClosed):
            channel.send("")
        plain.reactor.run_soon()

    def test_flush_timeout(self, plain: Wire) -> None:
        """
        By default, a closed channel has 30 seconds to flush.
        """
        resource = Rendering(plain.upgrader())
        client = plain.connect(resource).request()
        (channel,) = resource.channels
        client.stop_reading()
        while not channel.buffered:
            channel.send("x" * 4096)
        channel.close()
        plain.reactor.advance(29.9)
        assert channel.close_reason is CloseReason.SERVER_CLOSED
        plain.reactor.advance(0.1)
        assert channel.close_reason is CloseReason.FLUSH_TIMEOUT

    def test_direct_writes_keepalive_and_peer_timeout(
        self, plain: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        By default, frames go directly to the transport, keepalive is 15 seconds, and peer_timeout is 60.
        """
        timeouts: list[float | None] = []

        class Peers(PeerTimeout):
            def __init__(self, seconds: float | None) -> None:
                timeouts.append(seconds)
                super().__init__(seconds)

        monkeypatch.setattr(upgrade_module, "PeerTimeout", Peers)
        resource = Rendering(Upgrader(reactor=plain.reactor))
        client = plain.connect(resource).request()
        assert type(resource.channels[0]._sink) is DirectSink
        assert timeouts == [60.0]
        plain.reactor.pump([0.1] * 149)
        client.pump()
        assert client.body == b""
        plain.reactor.pump([0.1] * 2)
        client.pump()
        assert client.body == b":\n\n"
        client.disconnect()


class DefaultUpgraderTests:
    @pytest.fixture(autouse=True)
    def default(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """
        Make the default upgrader use the fake reactor.
        """
        monkeypatch.setattr(upgrade_module, "global_reactor", lambda: plain.reactor)
        upgrade_module.default_upgrader.cache_clear()
        yield
        upgrade_module.default_upgrader.cache_clear()

    def test_upgrade(self, plain: Wire) -> None:
        """
        upgrade() needs only the request, and uses the global reactor.
        """
        channels: list[SSEChannel] = []

        class Smallest(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> int:
                channels.append(upgrade(request))
                return NOT_DONE_YET

        client = plain.connect(Smallest()).request()
        channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        assert channels[0].reactor is plain.reactor
        assert isinstance(SSEResource(), Resource)
        client.disconnect()


class FinishTests:
    def test_request_that_other_code_finishes(self, wire: Wire) -> None:
        """
        If other code finishes the request, the stream ends cleanly, and nothing is logged.
        """
        requests: list[Any] = []
        reasons: list[CloseReason] = []

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> int:
                requests.append(request)
                channel = wire.upgrader().upgrade(request)
                channel.when_closed().addCallback(reasons.append)
                return NOT_DONE_YET

        with capturedLogs() as logged:
            client = wire.connect(Page()).request()
            requests[0].finish()
            client.pump()
        assert client.ended
        assert reasons == [CloseReason.SERVER_CLOSED]
        assert logged == []

"""
Uses txsse as a program does: streams over HTTP/1.1, HTTP/2 and TLS, BoundedSite, and the client.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import ssl
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, react
from twisted.logger import Logger
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import GzipEncoderFactory, Site

from tests.fakes import WIRES, Client, Http2Client, Wire
from txsse import (
    EventSource,
    Hub,
    InvalidResponse,
    JournalFailed,
    SSEChannel,
    SSEResource,
    StreamRefused,
    Upgrader,
)
from txsse._rate_limited_log import RateLimitedLog
from txsse._unhandled import Unhandled
from txsse.server.sinks import http2
from txsse.testing import MemoryPair
from txsse.web.bounded_site import BoundedSite


def run(certificate: str) -> dict[str, Any]:
    """
    Use all features, and return the observations.
    """
    monkeypatch = pytest.MonkeyPatch()
    found: dict[str, Any] = {"sinks": [stream(Wire(kind, monkeypatch)) for kind in WIRES]}
    for kind in (Client, Http2Client):
        found[f"early {kind.__name__}"] = bounded(Wire("direct", monkeypatch), kind)
    read_ahead(Wire("detached", monkeypatch))
    monkeypatch.undo()
    in_memory()
    found["lines"] = dropped()

    def main(reactor: Any) -> Deferred[None]:
        return ensureDeferred(over_sockets(reactor, certificate, found))

    with pytest.raises(SystemExit) as ended:
        react(main)
    assert ended.value.code in (0, None)
    return found


def stream(wire: Wire) -> str:
    """
    Run a subscriber of a hub through slow reading, pipelining and disconnection; return the class of its
    sink.
    """
    # The plain sink of HTTP/2 uses the global reactor.
    http2.global_reactor = lambda: wire.reactor  # type: ignore[attr-defined]
    hub = Hub(reactor=wire.reactor, upgrader=wire.upgrader(max_buffer=2**20))
    hub.start()
    channels: list[SSEChannel] = []

    def opened(channel: SSEChannel) -> None:
        channels.append(channel)
        hub.subscribe(channel, "news")

    client: Any = wire.connect(SSEResource(opened, upgrader=hub.upgrader))
    if wire.kind == "http2":
        open_window(client)
    client.request()
    (channel,) = channels
    for number in range(3):
        hub.publish("news", f"live {number}")
        client.pump()
    assert client.body.count(b"data: live") == 3, client.body
    # A reader that is slow for a while.
    client.stop_reading()
    channel.send("y" * 200_000)
    for _ in range(10):
        hub.publish("news", "held back")
        wire.reactor.advance(0)
    client.read_on()
    client.pump()
    assert client.body.count(b"y") == 200_000
    assert client.body.count(b"held back") == 10
    channel.close()
    client.pump()
    assert client.ended
    # Send another request on the same connection, and then lose the connection.
    if wire.kind != "http10":
        if wire.kind != "http2":
            client.reset_response()
        client.request()
        assert len(channels) == 2
        channels[1].abort()
        wire.reactor.run_soon()
        client.pump()
        assert client.reset
        assert not channels[1].is_open
    name = type(channels[0].sink).__name__
    if client.transport.connected:
        Client.disconnect(client, clean=False)
    hub.stop()
    wire.reactor.advance(60)
    return name


def open_window(client: Any) -> None:
    """
    Open the HTTP/2 windows: with a closed window, Twisted's sending loop calls itself in each turn, so a fake
    clock never becomes idle.
    """
    client.open_window(2**20)


class Echo(Resource):
    """
    Answers with the body of the request.
    """

    isLeaf = True

    def render(self, request: Any) -> bytes:
        body: bytes = request.content.read()
        return b"z" * 200_000 if request.method == b"GET" else body


def bounded(wire: Wire, kind: Any) -> bool:
    """
    Send bodies to a BoundedSite; return whether it refuses a body that is too large before the body has
    arrived.
    """
    site = BoundedSite(Echo(), reactor=wire.reactor, max_body=1000, request_timeout=10.0)
    site.timeOut = None
    site.log = lambda request: None  # type: ignore[method-assign]
    if kind is Http2Client and b"h2" not in site.acceptableProtocols():
        return False
    client: Any = kind(wire, site)
    early = False
    if kind is Client:
        client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n")
        early = client.status == 413
        client.say(b"x" * 3000)
        assert client.status == 413
        client.reset_response()
        client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        assert client.body == b"abc"
        client.reset_response()
        client.request()
        assert len(client.body) == 200_000
        # Send several chunks at once.
        client.reset_response()
        client.stop_reading()
        client.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        client.read_on()
        client.pump()
        assert client.body.count(b"z") == 10 * 200_000
        client.reset_response()
        client.say(b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n")
        assert client.status == 400
    else:
        fields = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "x")]
        client.stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(client.stream, [*fields, ("content-length", "3000")])
        client.say(client.h2.data_to_send())
        early = client.status == 413
        client.h2.send_data(client.stream, b"x" * 3000, end_stream=True)
        client.say(client.h2.data_to_send())
        assert client.status == 413
        client.body = b""
        open_window(client)
        client.request()
        client.pump()
        assert client.body.count(b"z") == 200_000
    if client.transport.connected:
        Client.disconnect(client, clean=False)
    wire.reactor.advance(60)
    return early


def read_ahead(wire: Wire) -> None:
    """
    Send a request pipelined after that of a stream, and one with a gzip encoder.
    """
    channels: list[SSEChannel] = []
    resource = SSEResource(channels.append, upgrader=wire.upgrader())
    client = wire.connect(EncodingResourceWrapper(resource, [GzipEncoderFactory()]))
    request = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"
    client.say(request + request)
    channels[0].send("first")
    client.pump()
    assert client.body == b"data: first\n\n", client.body
    channels[0].close()
    client.pump()
    client.reset_response()
    client.pump()
    assert len(channels) == 2
    Client.disconnect(client, clean=False)


def in_memory() -> None:
    """
    Run client and server without sockets.
    """
    clock = Clock()
    channels: list[SSEChannel] = []
    pair = MemoryPair(SSEResource(channels.append, upgrader=Upgrader(reactor=clock)), clock=clock)
    channels[0].send("x")
    pair.advance()
    assert [event.data for event in pair.events] == ["x"]
    pair.agent.cut()
    pair.source.close()
    pair.advance(60)


def dropped() -> int:
    """
    Drop an unhandled failure; return how many lines txsse logged for it in place of Twisted's traceback.
    """
    lines: list[Any] = []
    log: Any = Logger(observer=lines.append)  # type: ignore[arg-type]
    unhandled = Unhandled(RateLimitedLog(log), JournalFailed)
    deferred: Deferred[Any] = Deferred()
    unhandled.watch(deferred, "hub.publish")
    deferred.errback(JournalFailed("x", "it is full"))
    del deferred
    gc.collect()
    return len(lines)


class Script(Protocol):
    """
    Answers each request with the next response of the factory.
    """

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        factory: Any = self.factory
        transport.write(factory.replies.pop(0))
        transport.loseConnection()


async def over_sockets(reactor: Any, certificate: str, found: dict[str, Any]) -> None:
    """
    Run the client against the server over TCP and TLS, and against a server with unusual responses.
    """

    def greet(channel: SSEChannel) -> None:
        channel.send_from(str(number) for number in range(1000))

    site = Site(SSEResource(greet))
    site.log = lambda request: None  # type: ignore[method-assign]
    plain = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    options = ssl.PrivateCertificate.loadPEM(Path(certificate).read_bytes()).options()
    secure = await SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1").listen(site)
    for scheme, port in (("http", plain), ("https", secure)):
        source = EventSource(f"{scheme}://localhost:{port.getHost().port}/", reactor=reactor)
        events = []
        async for event in source:
            events.append(event.data)
            if len(events) == 1000:
                break
        assert events == [str(number) for number in range(1000)]
        source.close()
    script: Any = Factory.forProtocol(Script)
    script.noisy = False
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    chunks = b"".join(b"9\r\ndata: %d\n\n\r\n" % number for number in range(9)) + b"0\r\n\r\n"
    script.replies = [
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        head + b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 9\n\n\r\nnonsense\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20_000,
        head + b"\r\ndata: 10\n\n",
    ]
    script.replies += [b"HTTP/1.1 204 No Content\r\n\r\n"] * 3
    odd = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(script)
    errors: list[Exception] = []
    source = EventSource(
        f"http://127.0.0.1:{odd.getHost().port}/",
        reactor=reactor,
        retry=0.1,
        max_retry=0.1,
        on_error=errors.append,
    )
    events = []
    try:
        async for event in source:
            events.append(event.data)
    except StreamRefused as error:
        assert error.status == 204
    assert events == [str(number) for number in range(11)]
    found["invalid"] = sum(isinstance(error, InvalidResponse) for error in errors)
    for port in (plain, secure, odd):
        await port.stopListening()

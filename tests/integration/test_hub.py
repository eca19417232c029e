"""
The hub on the real reactor: many clients over real sockets, TLS and HTTP/2, which disconnect and resume.
"""

from __future__ import annotations

import random
import socket
import struct
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import pytest
import pytest_twisted
from twisted.internet import reactor, ssl
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.task import LoopingCall, deferLater

from tests.integration.clients import Http2Reader, Reader, connect, listen, listen_tls
from tests.waiting import until
from txsse import CloseReason, EventStreamParser, Hub, HubStopped, MemoryJournal, Upgrader
from txsse.protocol.event import ServerSentEvent


class Http1Stream(Reader):
    """
    A stream over HTTP/1.1, resumed if there is a last event ID.

    :ivar body: the bytes received, without any framing.
    :ivar ended: whether the stream ended properly.
    """

    def __init__(self, last_id: str) -> None:
        resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        super().__init__(f"GET / HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n".encode())
        self.body = bytearray()
        self.ended = False
        self._raw = bytearray()
        self._in_body = False

    def dataReceived(self, data: bytes) -> None:
        self._raw += data
        if not self._in_body:
            head, found, rest = self._raw.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 200 "), bytes(head)
            self._in_body = True
            self._raw = rest
        while not self.ended:
            size, found, _ = self._raw.partition(b"\r\n")
            end = len(size) + 2 + int(size or b"0", 16) + 2
            if not found or len(self._raw) < end:
                break
            assert self._raw[end - 2 : end] == b"\r\n", "broken framing"
            self.body += self._raw[len(size) + 2 : end - 2]
            self.ended = not int(size, 16)
            del self._raw[:end]


class Http2Stream(Http2Reader):
    """
    A stream over HTTP/2, resumed if there is a last event ID.
    """

    def __init__(self, last_id: str) -> None:
        super().__init__(b"")
        self._last_id = last_id

    def connectionMade(self) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        fields = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "x")]
        if self._last_id:
            fields.append(("last-event-id", self._last_id))
        self.h2.send_headers(1, fields, end_stream=True)
        self.ended = False
        self.flush()

    @property
    def body(self) -> bytes:
        return self.received


async def open_stream(kind: str, port: Any, certificate: Path, last_id: str) -> Any:
    """
    Connect over plain TCP, TLS or HTTP/2, and request the stream.
    """
    number = port.getHost().port
    if kind == "plain":
        return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", number), Http1Stream(last_id))
    options = ssl.optionsForClientTLS(
        "127.0.0.1",
        trustRoot=ssl.Certificate.loadPEM(certificate.read_bytes()),
        acceptableProtocols=[b"h2"] if kind == "HTTP/2" else [b"http/1.1"],
    )
    endpoint = wrapClientTLS(options, HostnameEndpoint(reactor, b"127.0.0.1", number))
    stream = Http2Stream(last_id) if kind == "HTTP/2" else Http1Stream(last_id)
    return await connectProtocol(endpoint, stream)


class Visitor:
    """
    A client that keeps the events that it received over all of its connections.
    """

    def __init__(self, kind: str, port: Any, certificate: Path) -> None:
        self.received: list[ServerSentEvent] = []
        self.last_id = ""
        self.connections = 0
        self.stream: Any = None
        self._where = (kind, port, certificate)

    async def connect(self) -> None:
        """
        Connect, or reconnect with the last event ID.
        """
        self.connections += 1
        self._parser = EventStreamParser(last_event_id=self.last_id)
        self._fed = 0
        self.stream = await open_stream(*self._where, self.last_id)

    def look(self) -> int:
        """
        Parse the bytes that have arrived, and return the number of events over all connections.
        """
        received = bytes(self.stream.body[self._fed :])
        self._fed += len(received)
        self.received += self._parser.feed(received)
        self.last_id = self._parser.last_event_id
        return len(self.received)

    async def cut(self, *, reset: bool) -> None:
        """
        Abort or reset the connection, and parse the bytes that arrived before.
        """
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.stream.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.stream.transport.abortConnection()
        await until(lambda: self.stream.closed)
        self.look()


async def serve(hub: Hub, kind: str, certificate: Path) -> Any:
    resource = hub.resource("topic")
    return await (listen(resource) if kind == "plain" else listen_tls(resource, certificate))


@pytest.mark.slow
class ResumingTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("kind", ["plain", "TLS", "HTTP/2"])
    async def test_disconnects_while_much_is_published(self, kind: str, certificate: Path) -> None:
        """
        Clients that disconnect and resume again and again get the whole record, once and in order.
        """
        wanted = 3000
        chance = random.Random(kind)
        hub = Hub()
        port = await serve(hub, kind, certificate)
        visitors = [Visitor(kind, port, certificate) for _ in range(8)]
        for visitor in visitors:
            await visitor.connect()
        for visitor in visitors:
            await until(lambda visitor=visitor: visitor.look() or visitor.last_id)  # type: ignore[misc]
        record: list[str] = []

        def publish() -> None:
            for _ in range(chance.choice([1, 1, 2, 10])):
                record.append(f"{len(record)} " + "x" * chance.choice([0, 10, 100, 5000]))
                hub.publish("topic", record[-1])

        async def visit(visitor: Visitor) -> None:
            while visitor.look() < wanted:
                enough = min(wanted, visitor.look() + chance.choice([1, 5, 50, 300]))
                while visitor.look() < enough:
                    await deferLater(reactor, chance.choice([0, 0.001, 0.01]))
                await visitor.cut(reset=kind == "plain" and chance.random() < 0.5)
                if chance.random() < 0.3:
                    # Updates are published meanwhile, which the client misses.
                    await deferLater(reactor, 0.03)
                await visitor.connect()

        publishing = LoopingCall(publish)
        publishing.start(0.002)
        results = await DeferredList([ensureDeferred(visit(visitor)) for visitor in visitors])
        publishing.stop()
        assert [result for succeeded, result in results if not succeeded] == []
        for visitor in visitors:
            await until(lambda visitor=visitor: visitor.look() >= len(record))  # type: ignore[misc]
            assert visitor.connections > 10
            assert [event.data for event in visitor.received] == record
            await visitor.cut(reset=False)
        await until(lambda: not hub.subscribers.total)
        assert hub.metrics().replayed > 0
        assert hub.metrics().gaps == 0
        await port.stopListening()


@pytest.mark.slow
class ManySubscribersTests:
    @pytest_twisted.ensureDeferred
    async def test_one_subscriber_reads_nothing(self) -> None:
        """
        A subscriber that reads nothing delays none of a thousand others, uses no buffer, and later gets every
        update from the journal.
        """
        hub = Hub(journal=MemoryJournal(max_count=1000))
        large = await listen(hub.resource(["small", "large"]))
        small = await listen(hub.resource("small"))
        slow = await connect(large, receive_buffer=4096)
        await until(lambda: hub.subscribers.total == 1)
        slow.transport.pauseProducing()
        readers = [await connect(small) for _ in range(1000)]
        await until(lambda: hub.subscribers.total == 1001)
        large_ones = 0
        while not hub.metrics().replaying:
            await hub.publish("large", f"large {large_ones:05} " + "x" * 100_000)
            large_ones += 1
            await deferLater(reactor, 0)
        for number in range(100):
            await hub.publish("small", f"small {number:05}")
            expected = b"data: small %05d\n\n" % number
            await until(lambda end=expected: all(end in reader.received for reader in readers))  # type: ignore[misc]
            assert hub.metrics().buffered == 0
        assert (hub.metrics().slow_replays, hub.metrics().replaying) == (1, 1)
        slow.transport.resumeProducing()
        await until(lambda: b"data: small 00099\n\n" in slow.received)
        seen = [line[6:17] for line in slow.received.splitlines() if line.startswith(b"data: ")]
        assert seen == [
            *(b"large %05d" % number for number in range(large_ones)),
            *(b"small %05d" % number for number in range(100)),
        ]
        await until(lambda: not hub.metrics().replaying)
        await hub.publish("small", "live again")
        await until(lambda: b"data: live again\n\n" in slow.received)
        for reader in [slow, *readers]:
            reader.transport.abortConnection()
        await until(lambda: not hub.subscribers.total)
        await large.stopListening()
        await small.stopListening()


@pytest.mark.slow
class PeerTimeoutTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs TCP_USER_TIMEOUT")
    @pytest.mark.parametrize("policy", ["replay", "close", "drop", "latest"])
    async def test_client_reads_nothing(self, policy: Any, certificate: Path) -> None:
        """
        A client that reads nothing is disconnected by the peer time-out, under every overflow policy, and
        counted for that reason.
        """
        hub = Hub(
            upgrader=Upgrader(peer_timeout=0.5, slow_policy=policy, max_buffer=2**40, max_total_buffer=2**40)
        )
        port = await serve(hub, "plain", certificate)
        stuck = await connect(port, receive_buffer=4096)
        await until(lambda: hub.subscribers.total == 1)
        stuck.transport.pauseProducing()
        while not (hub.metrics().replaying or hub.metrics().buffered):
            await hub.publish("topic", "x" * 100_000)
            await deferLater(reactor, 0)
        await until(lambda: not hub.subscribers.total)
        assert hub.metrics().closes == {CloseReason.PEER_TIMEOUT: 1}
        stuck.transport.abortConnection()
        await until(lambda: stuck.closed)
        await hub.stop()
        await port.stopListening()


@pytest.mark.slow
class StopTests:
    @pytest_twisted.ensureDeferred
    async def test_shutdown_with_many_subscribers(self, certificate: Path) -> None:
        """
        At shutdown each subscriber gets the updates before it, the farewell and a randomised retry time; a
        client that does not read is reset at the deadline, and a late one is sent a retry time.
        """
        hub = Hub()
        port = await serve(hub, "plain", certificate)
        stuck = await connect(port, receive_buffer=4096)
        await until(lambda: hub.subscribers.total == 1)
        stuck.transport.pauseProducing()
        while not hub.metrics().replaying:
            await hub.publish("topic", "x" * 100_000)
            await deferLater(reactor, 0)
        visitors = [Visitor("plain", port, certificate) for _ in range(300)]
        for visitor in visitors:
            await visitor.connect()
        await until(lambda: hub.subscribers.total == 301)
        began = reactor.seconds()
        hub.publish("topic", "the last one")
        farewell = ServerSentEvent("bye", event="farewell")
        stopped = hub.stop(farewell=farewell, retry=(1.0, 3.0), deadline=1.0)
        with pytest.raises(HubStopped):
            await hub.publish("topic", "too late")
        late = await connect(port)
        # A stream that ends at once: after any other response a browser does not reconnect.
        await until(lambda: b"retry: " in late.received)
        head, _, body = late.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nRetry-After: " in head
        assert b"data" not in body
        await until(lambda: all(visitor.stream.ended for visitor in visitors))
        await stopped
        assert reactor.seconds() - began >= 1.0
        for visitor in visitors:
            visitor.look()
            assert [event.data for event in visitor.received] == ["the last one", "bye"]
            assert visitor.received[1].event == "farewell"
        times = [visitor._parser.retry for visitor in visitors]
        assert all(time is not None and 1.0 <= time <= 3.0 for time in times)
        assert len(set(times)) > 200
        assert hub.metrics().closes == {CloseReason.DRAINED: 300, CloseReason.FLUSH_TIMEOUT: 1}
        assert hub.subscribers.total == 0
        for reader in [stuck, late, *(visitor.stream for visitor in visitors)]:
            reader.transport.abortConnection()
        await until(lambda: stuck.closed)
        await port.stopListening()

"""
Channels on the real reactor, over real sockets, TLS and HTTP/2.
"""

from __future__ import annotations

import gc
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import httpx_sse
import pytest
import pytest_twisted
import sseclient
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.integration.clients import GET, Reader, connect, connect_tls, listen, listen_tls
from tests.waiting import until
from txsse import CloseReason, ServerSentEvent, SSEChannel, SSEResource, Upgrader, broadcast


class TransportTests:
    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("kind", ["plain", "not direct", "HTTP/1.0", "TLS", "HTTP/2"])
    async def test_events_and_end(self, kind: str, certificate: Path) -> None:
        """
        A channel's events arrive when they are sent, large ones complete, and the stream ends properly, over
        every transport.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=Upgrader(direct_writes=kind != "not direct"))
        if kind in ("TLS", "HTTP/2"):
            port = await listen_tls(resource, certificate)
            reader = await connect_tls(port, certificate, http2=kind == "HTTP/2")
        else:
            port = await listen(resource)
            request = GET.replace(b"HTTP/1.1", b"HTTP/1.0") if kind == "HTTP/1.0" else GET
            reader = await connect(port, request)
        await until(lambda: channels)
        (channel,) = channels
        assert channel.request.clientproto == (b"HTTP/2" if kind == "HTTP/2" else reader_version(kind))
        channel.send("first")
        await until(lambda: b"data: first\n\n" in reader.received)
        large = "y" * 3_000_000
        channel.send(large)
        channel.send("last")
        channel.close()
        await until(lambda: b"data: last\n\n" in reader.received)
        assert reader.received.count(b"y") >= 3_000_000
        assert await channel.when_closed() is CloseReason.SERVER_CLOSED
        if kind == "HTTP/2":
            await until(lambda: reader.ended)
        elif kind == "HTTP/1.0":
            await until(lambda: reader.closed)
        else:
            await until(lambda: reader.received.endswith(b"0\r\n\r\n"))
        reader.transport.loseConnection()
        await until(lambda: reader.closed)
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("kind", ["plain", "TLS", "HTTP/2"])
    async def test_client_disconnects(self, kind: str, certificate: Path) -> None:
        """
        The channel is closed when the client disconnects, over every transport.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append)
        if kind == "plain":
            port = await listen(resource)
            reader = await connect(port)
        else:
            port = await listen_tls(resource, certificate)
            reader = await connect_tls(port, certificate, http2=kind == "HTTP/2")
        await until(lambda: channels)
        reader.transport.abortConnection()
        assert await channels[0].when_closed() is CloseReason.CLIENT_GONE
        await port.stopListening()

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_broadcast(self, certificate: Path) -> None:
        """
        A broadcast reaches clients over TCP, HTTP/1.0, TLS and HTTP/2, in order and complete, while another
        client disconnects, and one reads nothing until its channel is closed.
        """
        channels: set[SSEChannel] = set()
        reasons: list[CloseReason] = []

        def opened(channel: SSEChannel) -> None:
            def closed(reason: CloseReason) -> None:
                channels.remove(channel)
                reasons.append(reason)

            channels.add(channel)
            channel.when_closed().addCallback(closed)

        resource = SSEResource(opened, upgrader=Upgrader(max_buffer=300_000))
        port, secure = await listen(resource), await listen_tls(resource, certificate)
        readers = [
            await connect(port),
            await connect(port, GET.replace(b"HTTP/1.1", b"HTTP/1.0")),
            await connect_tls(secure, certificate, http2=False),
            await connect_tls(secure, certificate, http2=True),
        ]
        gone, slow = await connect(port), await connect(port, receive_buffer=4096)
        await until(lambda: len(channels) == 6)
        slow.transport.pauseProducing()
        text = "y" * 100_000
        numbers = 0
        while CloseReason.SLOW_READER not in reasons:
            broadcast(channels, ServerSentEvent(f"{text} {numbers}"))
            if numbers == 3:
                gone.transport.abortConnection()
            last = f"y {numbers}\n\n".encode()
            await until(partial(have_received, readers, last))
            numbers += 1
        await until(lambda: len(reasons) == 2)
        assert reasons == [CloseReason.CLIENT_GONE, CloseReason.SLOW_READER]
        assert broadcast(channels, "last") == 4
        await until(partial(have_received, readers, b"data: last\n\n"))
        for reader in readers:
            found = [int(number) for number in re.findall(rb"y (\d+)\n", reader.received)]
            assert found == list(range(numbers))
        for reader in [*readers, slow]:
            reader.transport.abortConnection()
        await until(lambda: not channels)
        assert broadcast(channels, "none") == 0
        await port.stopListening()
        await secure.stopListening()

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("kind", ["plain", "TLS", "HTTP/2"])
    async def test_slow_reader_is_closed(self, kind: str, certificate: Path) -> None:
        """
        The overflow policy ``close`` ends the stream of a client that never reads, over every transport.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=Upgrader(max_buffer=100_000))
        if kind == "plain":
            port = await listen(resource)
            reader = await connect(port)
        else:
            port = await listen_tls(resource, certificate)
            reader = await connect_tls(port, certificate, http2=kind == "HTTP/2")
        await until(lambda: channels)
        (channel,) = channels
        reader.transport.pauseProducing()
        while channel.is_open:
            try:
                channel.send("x" * 10_000)
            except Exception:
                assert channel.close_reason is CloseReason.SLOW_READER
            await deferLater(reactor, 0)
        assert await channel.when_closed() is CloseReason.SLOW_READER
        reader.transport.abortConnection()
        await until(lambda: reader.closed)
        await port.stopListening()


def have_received(readers: list[Reader], end: bytes) -> bool:
    # Framing may follow.
    return all(end in reader.received[-100:] for reader in readers)


def reader_version(kind: str) -> bytes:
    return b"HTTP/1.0" if kind == "HTTP/1.0" else b"HTTP/1.1"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def alive(kind: type) -> int:
    gc.collect()
    return sum(isinstance(found, kind) for found in gc.get_objects())


@pytest.mark.slow
class LeakTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts files in Linux's /proc")
    async def test_thousand_clients_connect_and_disconnect(self) -> None:
        """
        A thousand clients that disconnect or reset leave no channel, delayed call or open file in the server.
        """
        handlers: dict[int, Callable[[SSEChannel], Any]] = {
            0: lambda channel: None,
            1: lambda channel: deferLater(reactor, 1000),
            2: lambda channel: channel.send_from(["x"] * 1000),
            3: lambda channel: channel.drain(),
        }
        opened: list[int] = []
        closed: list[CloseReason] = []

        def handler(channel: SSEChannel) -> Any:
            opened.append(len(opened))
            channel.when_closed().addCallback(closed.append)
            channel.send("hello")
            return handlers[len(opened) % 4](channel)

        upgrader = Upgrader(max_lifetime=1000.0, keepalive=100.0)
        port = await listen(SSEResource(handler, upgrader=upgrader))

        async def visit(number: int) -> None:
            reader = await connect(port)
            await until(lambda: b"hello" in reader.received)
            if number % 2:
                # A reset: the kernel discards what was not sent yet.
                linger = struct.pack("ii", 1, 0)
                reader.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                reader.transport.abortConnection()
            else:
                reader.transport.loseConnection()
            await until(lambda: reader.closed)

        async def rest() -> None:
            await until(lambda: len(closed) == len(opened))
            await deferLater(reactor, 0.05)

        await visit(0)
        await rest()
        calls, files, channels = len(reactor.getDelayedCalls()), open_files(), alive(SSEChannel)
        for _ in range(50):
            await DeferredList([ensureDeferred(visit(number)) for number in range(20)])
        await rest()
        assert len(opened) == 1001
        assert len(reactor.getDelayedCalls()) <= calls
        assert open_files() <= files
        assert alive(SSEChannel) <= channels
        await port.stopListening()


class SlowReaderTests:
    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_thousand_others_are_not_delayed(self) -> None:
        """
        A client that reads nothing delays none of a thousand others: each event reaches them before the next
        is sent.
        """
        channels: list[SSEChannel] = []
        upgrader = Upgrader(max_buffer=200_000)
        port = await listen(SSEResource(channels.append, upgrader=upgrader))
        slow = await connect(port, receive_buffer=4096)
        await until(lambda: channels)
        (slow_channel,) = channels
        slow.transport.pauseProducing()
        readers = [await connect(port) for _ in range(1000)]
        await until(lambda: len(channels) == 1001)
        most_held = 0
        number = 0
        while slow_channel.is_open:
            for channel in list(channels):
                if channel.is_open:
                    try:
                        # The others get small events, so that the test ends soon.
                        channel.send(f"{number:05}" + ("x" * 100_000 if channel is slow_channel else ""))
                    except Exception:
                        assert channel is slow_channel
            original: Any = slow_channel.request.original
            transport = original.transport
            most_held = max(most_held, slow_channel.buffered)
            assert len(transport.dataBuffer) + transport._tempDataLen <= 65536 + 100_100
            expected = b"data: %05d\n\n" % number
            await until(lambda end=expected: all(end in reader.received for reader in readers))  # type: ignore[misc]
            number += 1
        assert 0 < most_held <= 200_000
        assert slow_channel.close_reason is CloseReason.SLOW_READER
        for reader in [slow, *readers]:
            reader.transport.abortConnection()
        await until(lambda: not any(channel.is_open for channel in channels))
        await port.stopListening()

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs TCP_USER_TIMEOUT")
    @pytest.mark.parametrize("pipelined", [0, 50_000])
    @pytest.mark.parametrize("options", [{}, {"keep_request": True}, {"direct_writes": False}], ids=str)
    async def test_peer_timeout(self, options: dict[str, Any], pipelined: int) -> None:
        """
        A channel is closed when its client acknowledges no bytes for the peer time-out, even if the server
        has stopped reading what that client sends.
        """
        channels: list[SSEChannel] = []
        upgrader = Upgrader(peer_timeout=0.5, slow_policy="drop", **options)
        port = await listen(SSEResource(channels.append, upgrader=upgrader))
        reader = await connect(port, receive_buffer=4096)
        await until(lambda: channels)
        (channel,) = channels
        reader.transport.write(b"x" * pipelined)
        reader.transport.pauseProducing()
        while not channel.is_slow:
            channel.send("x" * 10_000)
            await deferLater(reactor, 0)
        await until(lambda: not channel.is_open)
        assert channel.close_reason is CloseReason.PEER_TIMEOUT
        reader.transport.abortConnection()
        await until(lambda: reader.closed)
        await port.stopListening()

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs TCP_USER_TIMEOUT")
    @pytest.mark.parametrize("http2", [False, True])
    async def test_peer_timeout_over_tls(self, certificate: Path, http2: bool) -> None:
        """
        A channel over TLS, or over HTTP/2 with open windows, is closed when its client acknowledges no bytes
        for the peer time-out.
        """
        channels: list[SSEChannel] = []
        upgrader = Upgrader(peer_timeout=0.5, slow_policy="drop")
        port = await listen_tls(SSEResource(channels.append, upgrader=upgrader), certificate)
        reader: Any = await connect_tls(port, certificate, http2=http2)
        await until(lambda: channels)
        (channel,) = channels
        if http2:
            for stream in (None, 1):
                reader.h2.increment_flow_control_window(2**30, stream)
            reader.flush()
        reader.transport.pauseProducing()
        while channel.is_open:
            channel.send("x" * 100_000)
            await deferLater(reactor, 0)
        assert channel.close_reason is CloseReason.PEER_TIMEOUT
        reader.transport.abortConnection()
        await until(lambda: reader.closed)
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_client_that_resets(self) -> None:
        """
        A channel whose client resets the connection is closed as disconnected, and not as timed out.
        """
        channels: list[SSEChannel] = []
        port = await listen(SSEResource(channels.append))
        reader = await connect(port)
        await until(lambda: channels)
        reader.transport.abortConnection()
        assert await channels[0].when_closed() is CloseReason.CLIENT_GONE
        await until(lambda: reader.closed)
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs TCP_USER_TIMEOUT")
    async def test_connection_is_reused(self) -> None:
        """
        The peer time-out of a connection is removed at the end of a stream, and set again for the next
        stream.
        """
        channels: list[SSEChannel] = []
        upgrader = Upgrader(peer_timeout=12.5, keep_request=True)
        port = await listen(SSEResource(channels.append, upgrader=upgrader))
        reader = await connect(port)
        await until(lambda: channels)
        original: Any = channels[0].request.original
        found = original.transport.getHandle()
        option = socket.TCP_USER_TIMEOUT
        assert found.getsockopt(socket.IPPROTO_TCP, option) == 12_500
        channels[0].close()
        assert found.getsockopt(socket.IPPROTO_TCP, option) == 0
        reader.transport.write(GET)
        await until(lambda: len(channels) == 2)
        assert found.getsockopt(socket.IPPROTO_TCP, option) == 12_500
        reader.transport.loseConnection()
        await until(lambda: not channels[1].is_open)
        await port.stopListening()


TEXTS = ["plain", "", "two\nlines\n", " space", "ä€😀", ": colon", "data: x", "\u2028"]


class ForeignClientTests:
    @pytest_twisted.ensureDeferred
    async def test_httpx_sse(self) -> None:
        """
        httpx-sse reads the data, types, ids and retry times that a channel sends.
        """

        def handler(channel: SSEChannel) -> None:
            for number, text in enumerate(TEXTS):
                channel.send(text, event="kind", id=str(number), retry=1.5)
            channel.close()

        port = await listen(SSEResource(handler))

        def read() -> list[Any]:
            url = f"http://127.0.0.1:{port.getHost().port}/"
            with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
                return list(source.iter_sse())

        events = await deferToThread(read)
        assert [(e.data, e.event, e.id, e.retry) for e in events] == [
            (text, "kind", str(number), 1500) for number, text in enumerate(TEXTS)
        ]
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_sseclient(self) -> None:
        """
        sseclient-py reads the data, types and ids that a channel sends.
        """

        def handler(channel: SSEChannel) -> None:
            for number, text in enumerate(TEXTS):
                channel.send(text, event="kind", id=str(number))
            channel.close()

        port = await listen(SSEResource(handler))

        def read() -> list[Any]:
            url = f"http://127.0.0.1:{port.getHost().port}/"
            with httpx.stream("GET", url) as response:

                class Bytes:
                    def __iter__(self) -> Any:
                        return response.iter_bytes()

                    def close(self) -> None:
                        """
                        Do nothing; the library calls it.
                        """

                return list(sseclient.SSEClient(cast(Any, Bytes())).events())

        events = await deferToThread(read)
        assert [(e.data, e.event, e.id) for e in events] == [
            (text, "kind", str(number)) for number, text in enumerate(TEXTS)
        ]
        await port.stopListening()

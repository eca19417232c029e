"""
The client on the real reactor: against txsse's own server, and against a server that sends scripted bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS

from tests.integration.clients import listen, listen_tls
from tests.waiting import until
from txsse import (
    ConnectionFailed,
    EventSource,
    Hub,
    ReadyState,
    ServerSentEvent,
    SSEChannel,
    SSEResource,
    StreamEnded,
)
from txsse.cli.insecure_tls import TrustAnyone

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class Script(Protocol):
    """
    Passes each request to a function, which sends the scripted response.
    """

    def __init__(self, play: Callable[[Script, bytes], None]) -> None:
        self._play = play
        self._request = b""

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            request, self._request = self._request, b""
            self._play(self, request)

    def say(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def end(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


async def scripted(play: Callable[[Script, bytes], None]) -> Any:
    """
    Listen, and run a script for each connection.
    """

    class Scripts(Factory):
        noisy = False

        def buildProtocol(self, addr: object) -> Script:
            return Script(play)

    return await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Scripts())


def url(port: Any, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{port.getHost().port}/"


class OwnServerTests:
    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_server_ends_streams(self) -> None:
        """
        A client that reconnects after each end of a stream gets every event once and in order.
        """

        async def count(channel: SSEChannel) -> None:
            number = int(channel.last_event_id or 0)
            for _ in range(3):
                number += 1
                channel.send(f"{number}", id=str(number), retry=0.01)

        port = await listen(SSEResource(count))
        got: list[str] = []
        source = EventSource(url(port))
        async for event in source:
            got.append(event.data)
            if len(got) == 10:
                source.close()
        assert got == [str(number) for number in range(1, 11)]
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_updates_while_disconnected(self) -> None:
        """
        A client that reconnects to a hub gets the updates that were published while it was disconnected.
        """
        hub = Hub()
        port = await listen(hub.resource("news"))
        got: list[str] = []
        source = EventSource(url(port), retry=0.01, event_received=lambda event: got.append(event.data))
        source.start()
        await source.when_open()
        await until(lambda: hub.subscribers.total == 1 and source.last_event_id)
        for subscriber in hub.subscribers:
            subscriber.channel.close()
        for number in range(100):
            await hub.publish("news", str(number))
        await until(lambda: len(got) == 100)
        assert got == [str(number) for number in range(100)]
        source.close()
        await hub.stop()
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_certificate(self, certificate: Path) -> None:
        """
        A client refuses a server whose certificate is not trusted, with an error that says so.
        """
        port = await listen_tls(SSEResource(lambda channel: channel.send("secret")), certificate)
        errors: list[Exception] = []
        suspicious = EventSource(url(port, "https"), max_attempts=1, on_error=errors.append)
        suspicious.start()
        assert await suspicious.when_closed() is errors[0]
        assert "the server's certificate is self-signed" in str(errors[0])
        trusted = trustRootFromCertificates([Certificate.loadPEM(certificate.read_bytes())])
        agents = [
            Agent(reactor, contextFactory=BrowserLikePolicyForHTTPS(trustRoot=trusted)),
            Agent(reactor, contextFactory=TrustAnyone()),
        ]
        for agent in agents:
            source = EventSource(url(port, "https"), agent=agent)
            assert (await source.__anext__()).data == "secret"
            source.close()
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_slow_program(self) -> None:
        """
        A program that handles events slowly makes the server wait, and the source buffers few events.
        """
        channels: list[SSEChannel] = []
        port = await listen(SSEResource(channels.append))
        taken: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            taken.append(Deferred())
            return taken[-1]

        source = EventSource(url(port), event_received=received)
        source.start()
        await until(lambda: channels)
        sending = channels[0].send_from("x" * 1000 for _ in range(100_000))
        await until(lambda: channels[0].is_slow)
        for _ in range(20):
            await deferLater(reactor, 0.005)
        assert len(taken) == 1
        assert len(source._delivery.pending) < 200
        source.close()
        await sending
        await port.stopListening()


class ScriptedServerTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("framing", ["chunked", "length", "until the end"])
    async def test_one_byte_at_a_time(self, framing: str) -> None:
        """
        A client that receives single bytes dispatches each event with its last byte, whatever the HTTP
        framing.
        """
        body = "id: 1\ndata: ä\n\ndata: b\n\n".encode()

        def play(script: Script, request: bytes) -> None:
            if framing == "chunked":
                script.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            elif framing == "length":
                script.say(HEAD + b"Content-Length: 1000\r\n\r\n")
            else:
                script.say(HEAD + b"\r\n")
            drip(script, list(body))

        def drip(script: Script, rest: list[int]) -> None:
            if rest:
                byte = bytes([rest.pop(0)])
                script.say(b"1\r\n" + byte + b"\r\n" if framing == "chunked" else byte)
                reactor.callLater(0.001, drip, script, rest)

        port = await scripted(play)
        source = EventSource(url(port))
        assert (await source.__anext__())[:3] == ("ä", "message", "1")
        assert (await source.__anext__())[:3] == ("b", "message", "1")
        assert source.ready_state is ReadyState.OPEN
        source.close()
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_stream_cut_after_each_byte(self) -> None:
        """
        A client resumes after the last complete event, wherever the stream was cut.
        """
        body = b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n"
        requests: list[bytes] = []

        def play(script: Script, request: bytes) -> None:
            requests.append(request)
            if len(requests) <= len(body):
                script.say(HEAD + b"\r\n" + body[: len(requests)])
                script.end()
            else:
                script.say(HEAD + b"\r\nid: 3\ndata: end\n\n")

        port = await scripted(play)
        source = EventSource(url(port), retry=0.001, max_retry=0.001, max_attempts=None)
        ids: list[str | None] = []
        async for event in source:
            ids.append(event.id)
            if event.data == "end":
                source.close()
        first = body.index(b"\n\n") + 2
        # Each cut after the end of an event repeats that event, since this server does not resume.
        assert ids == ["1"] * (len(body) - first) + ["1", "2", "3"]
        for number, request in enumerate(requests, start=1):
            before = number - 1
            expected = b"2" if before == len(body) else b"1" if before >= first else None
            sent = [line for line in request.split(b"\r\n") if line.lower().startswith(b"last-event-id:")]
            assert [line[-1:] for line in sent] == ([] if expected is None else [expected])
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_connection_reset(self) -> None:
        """
        A connection reset is reported to the program as an error, and the client reconnects.
        """
        errors: list[Exception] = []
        attempts: list[Script] = []

        def play(script: Script, request: bytes) -> None:
            attempts.append(script)
            script.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n: hello\n\n\r\n")
            if len(attempts) == 1:
                reactor.callLater(0.01, script.transport.abortConnection)  # type: ignore[union-attr]
            elif len(attempts) == 2:
                reactor.callLater(0.01, script.say, b"0\r\n\r\n")

        port = await scripted(play)
        source = EventSource(url(port), retry=0.01, on_error=errors.append)
        source.start()
        await until(lambda: len(attempts) == 3)
        assert isinstance(errors[0], ConnectionFailed)
        assert "the stream was cut short" in str(errors[0])
        assert isinstance(errors[1], StreamEnded)
        source.close()
        await port.stopListening()

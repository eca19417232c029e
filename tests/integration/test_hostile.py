"""
Hostile servers, on the real reactor: the memory that the client uses stays bounded, and the program gets an
error that says what is wrong.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import endpoints, reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from tests.integration.test_client import HEAD
from tests.integration.test_standard import (
    _nothing_left,  # noqa: F401
    answering,
    following,
    played,
    redirect,
    serving,
)
from tests.waiting import until
from txsse import (
    EventSource,
    EventTooLarge,
    PeerSilent,
    ReadyState,
    ServerSentEvent,
    SSEError,
    StreamEnded,
    StreamRefused,
)
from txsse.testing import CUT, HOLD, Reply, Step

CHUNK = 2**16
LIMIT = 2**20
LONG = b"x" * 1000

# Twice the number of the smallest possible events in one read.
MOST_EVENTS = 2 * CHUNK // len("data\n\n")


class Holding:
    """
    The most that a source has held so far.

    :ivar size: bytes of an incomplete event.
    :ivar events: events that were not yet delivered to the program.
    """

    def __init__(self) -> None:
        self.size = 0
        self.events = 0

    def look(self, source: EventSource) -> None:
        parser = source._following.parser
        self.size = max(self.size, len(parser._pending) + sum(map(len, parser._data)))
        self.events = max(self.events, len(source._delivery.pending))


class Flood(Protocol):
    """
    A server that sends a beginning, and then repeats a text as fast as the client reads it, up to
    :data:`MOST` bytes.

    :ivar sent: the number of bytes sent.
    :ivar lost: whether the connection is closed.
    """

    # More than the buffers of two sockets hold: a flood that sent less was stopped by the client in time.
    MOST = 16 * 2**20

    def __init__(self, first: bytes, again: bytes) -> None:
        self.sent = 0
        self.lost = False
        self._first = first
        self._again = again * (CHUNK // len(again))
        self._paused = False

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(self._first)
        transport.registerProducer(self, True)
        self._send()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        reactor.callLater(0, self._send)

    def stopProducing(self) -> None:
        self._paused = True

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True

    def cut(self) -> None:
        transport: Any = self.transport
        self._paused = True
        if not self.lost:
            transport.abortConnection()

    def _send(self) -> None:
        transport: Any = self.transport
        while not self._paused and not self.lost:
            if self.sent > self.MOST:
                self.cut()
                return
            transport.write(self._again)
            self.sent += len(self._again)


@asynccontextmanager
async def flooding(first: bytes, again: bytes) -> AsyncIterator[tuple[str, list[Flood]]]:
    """
    Run a server that floods each client.
    """

    class Floods(Factory):
        noisy = False

        def buildProtocol(self, addr: object) -> Flood:
            floods.append(Flood(first, again))
            return floods[-1]

    floods: list[Flood] = []
    endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port: Any = await endpoint.listen(Floods())
    try:
        yield f"http://127.0.0.1:{port.getHost().port}/", floods
        await until(lambda: all(flood.lost for flood in floods))
    finally:
        await port.stopListening()


def watched(steps: Iterator[Step], followed: Callable[[], EventSource], holding: Holding) -> Iterator[Step]:
    """
    Pass steps on, and after each one measure what the source holds.
    """
    for step in steps:
        yield step
        yield 0.0
        holding.look(followed())


class EndlessTests:
    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("first", "again"),
        [
            ("data: ", "x" * CHUNK),
            ("event: ", "x" * CHUNK),
            ("id: ", "x" * CHUNK),
            ("", "x" * CHUNK),
            (":", "x" * CHUNK),
            ("", "data: x\n" * (CHUNK // 8)),
            ("", "data\n" * (CHUNK // 5)),
            ("data: x\n", "event: x\nid: x\nretry: 1\n" * (CHUNK // 24)),
        ],
        ids=["data", "event", "id", "field", "comment", "lines", "short lines", "fields"],
    )
    @pytest.mark.parametrize("pulled", [False, True])
    async def test_endless_line_or_event(self, first: str, again: str, pulled: bool) -> None:
        """
        A client that gets an endless line or event delivers the events before it, fails at the size limit,
        and does not reconnect.
        """

        def steps() -> Iterator[Step]:
            yield "data: before\n\n" + first
            yield from repeat(again)

        holding = Holding()
        async with serving(Reply(watched(steps(), lambda: source, holding))) as server:
            texts: list[str] = []
            errors: list[Exception] = []
            source = EventSource(server.url, max_event_size=LIMIT, on_error=errors.append)
            if pulled:
                with pytest.raises(EventTooLarge, match="more than 1048576 bytes"):
                    async for event in source:
                        texts.append(event.data)
            else:
                source.add_listener("message", lambda event: texts.append(event.data))
                source.start()
                assert isinstance(await source.when_closed(), EventTooLarge)
            assert [type(error) for error in errors] == [EventTooLarge]
            assert (texts, len(server.visits)) == (["before"], 1)
            assert holding.size <= LIMIT + CHUNK
            parser = source._following.parser
            assert (len(parser._pending), parser._data) == (0, [])

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_many_comments(self) -> None:
        """
        A client skips 64 MB of comments without keeping them, and delivers the event after them.
        """

        def steps() -> Iterator[Step]:
            chunk = b":" + b"c" * 98 + b"\n"
            yield from repeat(chunk * (CHUNK // 100), 1024)
            yield "data: after all\n\n"
            yield HOLD

        holding = Holding()
        async with (
            serving(Reply(watched(steps(), lambda: followed.source, holding))) as server,
            following(server.url, max_event_size=1000) as followed,
        ):
            await until(lambda: followed.texts == ["after all"])
            # No more than the line that was cut.
            assert (holding.size < 100, holding.events, followed.errors) == (True, 0, [])

    @pytest_twisted.ensureDeferred
    async def test_body_of_a_redirect_and_a_refusal(self) -> None:
        """
        A client does not read the endless body of a redirect, and of a refusal only the beginning; it closes
        the connection.
        """
        sent = 0

        def steps() -> Iterator[Step]:
            nonlocal sent
            while True:
                sent += CHUNK
                yield "x" * CHUNK

        async with (
            serving(
                Reply(steps(), status=302, headers={"Location": "/b"}), Reply(steps(), status=404)
            ) as server,
            following(server.url) as followed,
        ):
            assert isinstance(await followed.source.when_closed(), StreamRefused)
            await until(lambda: not server.resource.open)
            # Twice what fits into the buffers of two sockets.
            assert sent < 32 * 2**20

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("first", "again"),
        [
            (b"HTTP/1.1 200 OK\r\n", b"A: %s\r\n" % LONG),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n", b" %s\r\n" % LONG),
            (b"", b"HTTP/1.1 100 %s\r\n\r\n" % LONG),
            (b"HTTP/1.1 103 x\r\n", b"A: %s\r\n\r\nHTTP/1.1 103 x\r\n" % LONG),
        ],
        ids=["fields", "continuation lines", "interim replies", "interim replies with fields"],
    )
    async def test_endless_head(self, first: bytes, again: bytes) -> None:
        """
        A client gives up an endless response head by its size, before the time-out for connecting.
        """
        async with flooding(first, again) as (url, floods), following(url, max_attempts=1) as followed:
            assert await followed.source.when_closed() is followed.errors[0]
            assert floods[0].sent < floods[0].MOST

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("first", "again"),
        [(b"", b"x"), (b"HTTP/1.1 200 ", b"x"), (b"HTTP/1.1 200 OK\r\nA: ", b"x")],
        ids=["no HTTP", "status line", "field"],
    )
    async def test_endless_line_of_the_head(self, first: bytes, again: bytes) -> None:
        """
        A client gives up a response head with an endless line by its size.
        """
        async with flooding(first, again) as (url, floods), following(url, max_attempts=2) as followed:
            assert await followed.source.when_closed() is followed.errors[1]
            assert len(floods) == len(followed.errors) == 2
            assert all(flood.sent < flood.MOST for flood in floods)


class ManyTests:
    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("pulled", [False, True])
    async def test_many_tiny_events(self, pulled: bool) -> None:
        """
        A slow program gets all of 300,000 tiny events, and the client never buffers more than one read
        contained.
        """
        count = 0
        holding = Holding()

        def received(event: ServerSentEvent) -> Deferred[None] | None:
            nonlocal count
            count += 1
            if count % 1000:
                return None
            holding.look(followed.source)
            return deferLater(reactor, 0)

        async def pull() -> None:
            async for event in followed.source:
                work = received(event)
                if work is not None:
                    await work

        options = {"event_received": None if pulled else received}
        async with (
            serving(["data\n\n" * 300_000, HOLD]) as server,
            following(server.url, **options) as followed,
        ):
            pulling = Deferred.fromCoroutine(pull()) if pulled else None
            await until(lambda: count == 300_000)
            assert 0 < holding.events <= MOST_EVENTS
            assert followed.errors == []
            followed.source.close()
            await (pulling or followed.source.when_closed())

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        "pulled",
        [
            False,
            pytest.param(True),
        ],
    )
    async def test_blocking_program(self, pulled: bool) -> None:
        """
        A program that blocks for each of many events of one read leaves the reactor turns in between.
        """

        def work(event: ServerSentEvent) -> None:
            nonlocal count  # type: ignore[misc]
            if not count:
                turning.start(0)
            count += 1
            started = reactor.seconds()
            while reactor.seconds() < started + 0.001:
                """
                Block the reactor.
                """
            if count == 300:
                turning.stop()

        def turn() -> None:
            nonlocal turns  # type: ignore[misc]
            turns += 1

        async def pull() -> None:
            async for event in followed.source:
                work(event)

        count = turns = 0
        turning = LoopingCall(turn)
        options = {"event_received": None if pulled else work}
        async with (
            serving(["data\n\n" * 300, HOLD]) as server,
            following(server.url, **options) as followed,
        ):
            pulling = Deferred.fromCoroutine(pull()) if pulled else None
            await until(lambda: count == 300)
            followed.source.close()
            await (pulling or followed.source.when_closed())
        assert turns > 3

    @pytest_twisted.ensureDeferred
    async def test_many_short_streams(self) -> None:
        """
        A client does not read the next stream before a slow program has handled the events of the stream
        before.
        """
        working: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            working.append(Deferred())
            return working[-1]

        holding = Holding()
        # Each is short enough to arrive in one read, with its end.
        replies: list[list[Step]] = [["retry: 0\n" + "data\n\n" * 2000]] * 40
        async with (
            serving(*replies) as server,
            following(server.url, retry=0.0, event_received=received) as followed,
        ):
            await until(lambda: working)
            for _ in range(100):
                await deferLater(reactor, 0.001)
            holding.look(followed.source)
            assert len(server.visits) <= 2
            assert holding.events <= MOST_EVENTS

    @pytest_twisted.ensureDeferred
    async def test_slow_agent(self) -> None:
        """
        A slow program makes the server wait, even if the agent returns the response late.
        """
        working: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            working.append(Deferred())
            return working[-1]

        holding = Holding()
        steps = repeat("data\n\n" * (CHUNK // 6), 200)
        async with (
            serving(Reply(watched(steps, lambda: followed.source, holding))) as server,
            following(server.url, event_received=received, agent=LateAgent()) as followed,
        ):
            await until(lambda: working)
            for _ in range(100):
                await deferLater(reactor, 0.001)
            assert holding.events <= 2 * MOST_EVENTS


@implementer(IAgent)
class LateAgent:
    """
    An agent that returns responses 50 milliseconds after they arrive.
    """

    def __init__(self) -> None:
        self._agent = Agent(reactor)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[IResponse]:
        requested: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
        return requested.addCallback(lambda response: deferLater(reactor, 0.05, lambda: response))


class MalformedTests:
    @pytest_twisted.ensureDeferred
    async def test_bytes_that_are_not_utf8(self) -> None:
        """
        Invalid UTF-8 arrives as U+FFFD and a NUL as a NUL, without an error.
        """
        script = await played(
            [
                b"data: \xff\xfe\x00\n\n",
                b"data: \xc3",
                b"\n\n",
                b"data: \xed\xa0\x80\xf4\x90\x80\x80\n\n",
                b"\x00\n\n",
            ],
            [b"\xff\xfe" + "data: UTF-16\n\n".encode("utf-16-le"), CUT],
            [bytes(range(256)) * 100 + b"\n\ndata: after\n\n"],
        )
        assert script.texts == ["\ufffd\ufffd\0", "\ufffd", "\ufffd" * 7, "after"]
        assert [type(error).__name__ for error in script.errors] == [
            "StreamEnded",
            "ConnectionFailed",
            "StreamEnded",
            "StreamRefused",
        ]

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("digits", [16, 1000, 5000, CHUNK * 2])
    async def test_huge_retry_time(self, digits: int) -> None:
        """
        A retry time with very many digits is reduced to the longest that the reactor can wait for.
        """
        async with (
            serving(["data: a\n\nretry: " + "9" * digits + "\n\n"]) as server,
            following(server.url) as followed,
        ):
            await until(lambda: followed.errors)
            assert followed.source.retry == 10.0**12
            assert followed.source.ready_state is ReadyState.CONNECTING
            followed.source.close()
            assert (len(server.visits), followed.texts) == (1, ["a"])

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("status", [301, 307])
    async def test_redirect_loop(self, status: int) -> None:
        """
        A client follows 20 redirects of a loop, and then fails.
        """
        async with (
            serving(*[redirect(status, "/b"), redirect(status, "/")] * 20) as server,
            following(server.url) as followed,
        ):
            error = await followed.source.when_closed()
            assert isinstance(error, StreamRefused)
            assert (error.status, error.url) == (status, server.url)
            assert "more than 20 redirects" in str(error)
            assert (len(server.visits), followed.errors) == (21, [error])

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        "location", ["", "ftp://127.0.0.1/", "javascript:alert(1)", "http://", "http://[::1", "http://%00/"]
    )
    async def test_redirect_to_invalid_url(self, location: str) -> None:
        """
        A redirect to a URL that is not one of HTTP fails at once, and one to its own URL after 20 redirects.
        """
        script = await played(*[redirect(302, location)] * 30)
        assert script.end == 302
        assert len(script.visits) == (21 if location == "" else 1)

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        "value", ["text/event-stream, text/html", "x" * 10_000, "text/event-stream\0", "text/\x01\x7f", "é"]
    )
    async def test_invalid_media_type(self, value: str) -> None:
        """
        A response with an invalid media type is refused, since it is not text/event-stream.
        """
        script = await played(Reply(["data: a\n\n"], headers={"Content-Type": value}))
        assert (script.end, script.texts) == (200, [])


class FramingTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("length", "texts", "error"),
        [
            (12, ["a"], "StreamEnded"),
            (9, ["a"], "StreamEnded"),
            (8, [], "StreamEnded"),
            (0, [], "StreamEnded"),
            (1000, ["a", "b"], "ConnectionFailed"),
        ],
    )
    async def test_wrong_content_length(self, length: int, texts: list[str], error: str) -> None:
        """
        A body longer than its Content-Length is cut off there, a shorter one is a lost connection, and in
        both cases the client reconnects.
        """

        def play(script: Any, request: bytes) -> None:
            requests.append(request)
            if len(requests) == 1:
                script.say(HEAD + b"Content-Length: %d\r\n\r\ndata: a\n\ndata: b\n\n" % length)
                script.end()
            else:
                script.say(HEAD + b"\r\n")

        requests: list[bytes] = []
        async with answering(play) as url, following(url) as followed:
            await until(lambda: len(requests) > 1)
            assert followed.texts == texts
            assert type(followed.errors[0]).__name__ == error

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("size", "problem"),
        [
            (b"-1", "Chunk-size must be an integer"),
            (b"+9", "Chunk-size must be an integer"),
            (b"0x9", "Chunk-size must be an integer"),
            (b"", "Chunk-size must be an integer"),
            (b"z", "Chunk-size must be an integer"),
            (b"1", "Chunk did not end with CRLF"),
            (b"9;" + b"x" * 2000, "Chunk size line exceeds maximum"),
            (b"F" * 2000, "Chunk size line exceeds maximum"),
        ],
    )
    async def test_invalid_chunk_size(self, size: bytes, problem: str) -> None:
        """
        An invalid chunk size is an error that says what is wrong, and the client reconnects.
        """

        def play(script: Any, request: bytes) -> None:
            requests.append(request)
            script.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\ndata: a\n\n\r\n")

        requests: list[bytes] = []
        async with answering(play) as url, following(url) as followed:
            await until(lambda: len(requests) > 1)
            assert problem in str(followed.errors[0])
            assert followed.events == []

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("size", [b"7FFFFFFFFFFFFFFF", b"F" * 1000])
    async def test_huge_chunk(self, size: bytes) -> None:
        """
        A client parses a chunk of enormous size as it arrives.
        """

        def play(script: Any, request: bytes) -> None:
            script.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
            script.say(b"data: a\n\n" + b":" * CHUNK * 4 + b"\ndata: b\n\n")

        async with answering(play) as url, following(url) as followed:
            await until(lambda: followed.texts == ["a", "b"])
            assert followed.errors == []

    @pytest_twisted.ensureDeferred
    async def test_chunks_of_a_byte(self) -> None:
        """
        A client parses a stream whose chunks have one byte each.
        """
        text = ": comment\ndata: a\n\n" * 2000

        def play(script: Any, request: bytes) -> None:
            chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text.encode())
            script.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)

        async with answering(play) as url, following(url) as followed:
            await until(lambda: len(followed.events) == 2000)
            assert followed.errors == []

    @pytest_twisted.ensureDeferred
    async def test_endless_trailers(self) -> None:
        """
        A client gives up endless trailers by their size.
        """
        first = HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\n"
        async with flooding(first, b"A: b\r\n") as (url, floods), following(url, max_attempts=1) as followed:
            error = await followed.source.when_closed()
            assert "Trailer headers data is too long" in str(error)
            assert (followed.texts, followed.errors) == (["a"], [error])
            assert floods[0].sent < floods[0].MOST


class EncodingTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
    async def test_declared(self, encoding: str) -> None:
        """
        A client refuses a compressed response, which it did not request: it neither decompresses nor parses
        the body, so the body cannot grow.
        """
        body = gzip.compress(b"data: a\n\n" * 1_000_000)
        script = await played(Reply([body], headers={"Content-Encoding": encoding}))
        assert (script.end, script.texts) == (200, [])
        assert f"sends the stream as {encoding}, which the client did not request" in str(script.errors[0])

    @pytest_twisted.ensureDeferred
    async def test_not_declared(self) -> None:
        """
        A compressed body without a Content-Encoding is parsed as text, and contains no event.
        """
        script = await played([gzip.compress(b"data: a\n\n" * 1_000_000)])
        assert (script.end, script.texts) == (204, [])
        assert isinstance(script.errors[0], StreamEnded)


INVALID = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.9\r\n", "wrong number of parts"),
    "status": (b"HTTP/1.1 abc OK\r\n", "non-integer status code"),
    "version": (b"HTTP/x.y 200 OK\r\n", "HTTP/x.y"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "conflicting Content-Length"),
}

# For these, the error does not say what is wrong.
OTHER_INVALID = {
    "field without a colon": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "continuation of nothing": b"HTTP/1.1 200 OK\r\n continued\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "line too long": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20_000 + b"\r\n\r\n",
}


class InvalidResponseTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(("reply", "problem"), INVALID.values(), ids=INVALID)
    async def test_invalid_response(self, reply: bytes, problem: str) -> None:
        """
        An invalid HTTP response is an error that shows what is wrong with it, and the client reconnects.
        """

        def play(script: Any, request: bytes) -> None:
            requests.append(request)
            script.say(reply)

        requests: list[bytes] = []
        async with answering(play) as url, following(url) as followed:
            await until(lambda: len(requests) > 1)
            assert problem in repr(followed.errors[0])

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("reply", OTHER_INVALID.values(), ids=OTHER_INVALID)
    async def test_invalid_response_without_details(self, reply: bytes) -> None:
        """
        Any other invalid response head is an SSEError, too.
        """

        def play(script: Any, request: bytes) -> None:
            script.say(reply)

        async with answering(play) as url, following(url, max_attempts=1) as followed:
            error = await followed.source.when_closed()
            assert isinstance(error, SSEError)


class SlowTests:
    @pytest_twisted.ensureDeferred
    async def test_slow_endless_line(self) -> None:
        """
        Single bytes of an endless line do not count as progress: the stream times out as if the server sent
        nothing.
        """

        def steps() -> Iterator[Step]:
            yield "data: "
            while not silent:
                if dripping:
                    dripped.append(dripping.pop())
                    yield "x"
                yield 0.001
            yield HOLD

        silent: list[bool] = []
        dripping: list[bool] = []
        dripped: list[bool] = []
        # With a fake clock the test does not depend on the machine's speed.
        clock = Clock()
        options = {"reactor": clock, "agent": Agent(reactor), "read_timeout": 10.0, "max_attempts": 1}
        async with serving(Reply(steps())) as server, following(server.url, **options) as followed:
            source = followed.source
            await source.when_open()
            pending = source._following.parser._pending
            await until(lambda: pending == b"data: ")
            for _ in range(9):
                clock.advance(1.0)
                dripping.append(True)
                await until(lambda: not dripping and len(pending) == len("data: ") + len(dripped))
            assert len(dripped) == 9
            assert (source.ready_state, followed.errors) == (ReadyState.OPEN, [])
            silent.append(True)
            clock.advance(1.0)
            error = await source.when_closed()
            assert isinstance(error, PeerSilent)
            assert (str(error), followed.errors) == ("nothing came for 10 s", [error])

    @pytest_twisted.ensureDeferred
    async def test_slow_head(self) -> None:
        """
        A response head that arrives slowly is bounded by the time-out for connecting.
        """

        def play(script: Any, request: bytes) -> None:
            scripts.append(script)
            script.say(b"HTTP/1.1 200 OK\r\n")

        scripts: list[Any] = []
        clock = Clock()
        options = {"reactor": clock, "agent": Agent(reactor), "connect_timeout": 10.0, "max_attempts": 1}
        async with answering(play) as url, following(url, **options) as followed:
            await until(lambda: scripts)
            for _ in range(10):
                assert followed.source.ready_state is ReadyState.CONNECTING
                scripts[0].say(b"A: b\r\n")
                clock.advance(1.0)
            assert isinstance(await followed.source.when_closed(), PeerSilent)

    @pytest_twisted.ensureDeferred
    async def test_slow_program(self) -> None:
        """
        A server that has to wait for a slow program does not time out.
        """

        def steps() -> Iterator[Step]:
            while True:
                yield "data: a\n\n"
                yield 0.001

        def received(event: ServerSentEvent) -> Deferred[None]:
            working.append(Deferred())
            return working[-1]

        working: list[Deferred[None]] = []
        clock = Clock()
        options = {"reactor": clock, "agent": Agent(reactor), "read_timeout": 10.0}
        async with (
            serving(Reply(steps()), [HOLD]) as server,
            following(server.url, event_received=received, **options) as followed,
        ):
            await until(lambda: working)
            clock.advance(10.1)
            assert followed.errors == []


class Deaf(Flood):
    """
    A server that does not read from its connection, and so never sees TLS's close_notify.
    """

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.pauseProducing()
        super().dataReceived(data)


@asynccontextmanager
async def deaf(certificate: Path, first: bytes, again: bytes) -> AsyncIterator[tuple[str, list[Deaf]]]:
    """
    Run a server that floods each client over TLS and reads nothing after the request.
    """

    class DeafServers(Factory):
        noisy = False

        def buildProtocol(self, addr: object) -> Deaf:
            floods.append(Deaf(first, again))
            return floods[-1]

    floods: list[Deaf] = []
    loaded = ssl.PrivateCertificate.loadPEM(certificate.read_bytes())
    endpoint = endpoints.SSL4ServerEndpoint(reactor, 0, loaded.options(), interface="127.0.0.1")
    port: Any = await endpoint.listen(DeafServers())
    try:
        yield f"https://127.0.0.1:{port.getHost().port}/", floods
    finally:
        for flood in floods:
            flood.cut()
        await port.stopListening()


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class CloseNotifyTests:
    """
    Disconnecting from a TLS server that floods the client and never reads its close_notify.
    """

    @pytest.fixture(autouse=True)
    def _trusted(self, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # OpenSSL reads the trusted certificates from here.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    @pytest_twisted.ensureDeferred
    async def test_closed(self, certificate: Path) -> None:
        """
        A closed source disconnects from a TLS server that floods it and ignores close_notify.
        """
        async with (
            deaf(certificate, HEAD + b"\r\n", b": comment\n") as (url, floods),
            following(url) as followed,
        ):
            await followed.source.when_open()
            followed.source.close()
            await until(lambda: floods[0].lost)
            assert floods[0].sent < floods[0].MOST

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize(
        ("first", "again"),
        [
            pytest.param(b"HTTP/1.1 200 OK\r\n", b"A: %s\r\n" % LONG, id="head"),
            pytest.param(b"HTTP/1.1 200 OK\r\nA: ", b"x", id="line"),
            pytest.param(CHUNKED + b"0\r\n\r\n", b"x", id="after the last chunk"),
            pytest.param(CHUNKED + b"z\r\n", b"x", id="no chunk"),
            pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"x", id="no content"),
            pytest.param(b"HTTP/1.1 404 Not Found\r\n\r\n", b"x", id="refusal"),
            pytest.param(b"HTTP/1.1 302 Found\r\nLocation: ftp://x/\r\n\r\n", b"x", id="redirect"),
        ],
    )
    async def test_finished_response(self, certificate: Path, first: bytes, again: bytes) -> None:
        """
        A client that is done with a response disconnects from a TLS server that ignores close_notify,
        whatever the response was.
        """
        async with (
            deaf(certificate, first, again) as (url, floods),
            following(url, max_attempts=1) as followed,
        ):
            assert await followed.source.when_closed() is not None
            await until(lambda: floods[0].lost)
            assert floods[0].sent < floods[0].MOST

    @pytest_twisted.ensureDeferred
    async def test_server_keeps_connections_open(self, certificate: Path) -> None:
        """
        A client keeps no connection open to a TLS server that does not close it after the end of a stream.
        """
        first = HEAD + b"Content-Length: 20\r\n\r\nretry: 1\ndata: a\n\n"
        async with deaf(certificate, first, b"x") as (url, floods), following(url) as followed:
            await until(lambda: len(floods) > 3)
            followed.source.close()
            await until(lambda: all(flood.lost for flood in floods))
            assert all(flood.sent < flood.MOST for flood in floods)

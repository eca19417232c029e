"""
Hostile servers: memory stays bounded, and the program receives an error that names the problem.
"""

from __future__ import annotations

import tracemalloc

import pytest

from tests.client.fakes import STREAM, Followed
from txsse import EventTooLarge, ReadyState, StreamRefused

CHUNK = 65536
LIMIT = 1024 * 1024


class EndlessTests:
    @pytest.mark.parametrize(
        ("first", "more"),
        [
            (b"data: ", b"x" * CHUNK),
            (b"", b"data: " + b"x" * 1000 + b"\n"),
            (b"event: ", b"x" * CHUNK),
            (b"id: ", b"x" * CHUNK),
            (b"x", b"x" * CHUNK),
        ],
    )
    def test_line_or_event(self, first: bytes, more: bytes) -> None:
        """
        A line or an event above the size limit ends the source permanently, since it would arrive again.
        """
        followed = Followed(max_event_size=LIMIT)
        response = followed.request.reply()
        response.bring(first)
        for _ in range(2 * LIMIT // len(more) + 2):
            if followed.source.ready_state is ReadyState.OPEN:
                response.bring(more)
        assert followed.source.ready_state is ReadyState.CLOSED
        assert isinstance(followed.source.last_error, EventTooLarge)
        assert response.transport.cut
        assert followed.texts == []
        assert followed.clock.getDelayedCalls() == []

    @pytest.mark.slow
    def test_comments(self) -> None:
        """
        A hundred megabytes of comments take no memory, and events after them are delivered.
        """
        followed = Followed(max_event_size=LIMIT)
        response = followed.request.reply()
        chunk = b":" + b"c" * (CHUNK - 2) + b"\n"
        response.bring(chunk)
        tracemalloc.start()
        try:
            for _ in range(1600):
                response.bring(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 10 * CHUNK
        response.bring(b"data: after all\n\n")
        assert followed.texts == ["after all"]

    def test_tiny_events(self) -> None:
        """
        A source that the program does not read holds the tiny events of one read, and pauses the server.
        """
        followed = Followed(push=False)
        response = followed.request.reply()
        response.bring(b"data\n\n" * (CHUNK // 6))
        assert response.transport.paused
        assert len(followed.source._delivery.pending) == CHUNK // 6


class NonsenseTests:
    @pytest.mark.parametrize("retry", [b"9" * 1000, b"-1", b"1.5", b"1e3", "٣".encode(), b"", b" 1"])
    def test_retry(self, retry: bytes) -> None:
        """
        An invalid or huge retry field does not shorten the reconnection delay, and overflows nothing.
        """
        followed = Followed(retry=2.0)
        response = followed.request.reply()
        response.bring(b"retry: " + retry + b"\n\n")
        response.end()
        assert followed.source.ready_state is ReadyState.CONNECTING
        (call,) = followed.clock.getDelayedCalls()
        assert call.getTime() >= 2.0
        followed.source.close()
        assert followed.clock.getDelayedCalls() == []

    def test_invalid_utf8(self) -> None:
        """
        The client decodes invalid bytes to U+FFFD, keeps NULs in data, and ignores an id that contains a NUL.
        """
        followed = Followed(retry=1.0)
        response = followed.request.reply()
        response.bring(b"id: 1\ndata: \xff\xfe\x00\n\nid: 2\x00\ndata: b\n\n")
        assert followed.texts == ["\ufffd\ufffd\x00", "b"]
        assert followed.source.last_event_id == "1"

    @pytest.mark.parametrize(
        "headers",
        [
            {**STREAM, "Content-Encoding": "gzip"},
            {"Content-Type": "\x00"},
            {"Content-Type": "text/event-stream, text/html"},
            {"Content-Type": "x" * 100_000},
        ],
    )
    def test_headers(self, headers: dict[str, str]) -> None:
        """
        A reply with an unusable Content-Type or Content-Encoding is refused, and its connection aborted.
        """
        followed = Followed()
        response = followed.request.reply(200, headers)
        followed.clock.advance(3)
        assert isinstance(followed.source.last_error, StreamRefused)
        assert response.transport.cut

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "location", ["", "\x00", "http://[", "//", "https://example.org:99999999/", "x" * 100_000, "é" * 10]
    )
    def test_redirects(self, location: str) -> None:
        """
        A redirect to any invalid location, or in a circle, ends the source with StreamRefused.
        """
        followed = Followed()
        for _ in range(25):
            if followed.source.ready_state is ReadyState.CONNECTING and not followed.request.answer.called:
                followed.request.reply(302, {"Location": location})
        followed.clock.advance(3)
        assert len(followed.agent.requests) <= 21
        assert isinstance(followed.source.last_error, StreamRefused)
        assert followed.source.ready_state is ReadyState.CLOSED

"""
Servers that mean no good: memory stays bounded, the error has a name, and the program is told.
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
        A line, or an event, without an end is given up at the limit, for good: it would come again.
        """
        followed = Followed(max_event_size=LIMIT)
        response = followed.asked.reply()
        response.bring(first)
        for _ in range(2 * LIMIT // len(more) + 2):
            if followed.source.ready_state is ReadyState.OPEN:
                response.bring(more)
        assert followed.source.ready_state is ReadyState.CLOSED
        assert isinstance(followed.source.last_error, EventTooLarge)
        assert response.transport.cut
        assert followed.texts == []
        assert followed.clock.getDelayedCalls() == []

    def test_comments(self) -> None:
        """
        Comments are no events, and a hundred megabytes of them take no memory.
        """
        followed = Followed(max_event_size=LIMIT)
        response = followed.asked.reply()
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
        A packet full of them, to a program that takes its time, and no packet more.
        """
        followed = Followed(push=False)
        response = followed.asked.reply()
        response.bring(b"data\n\n" * (CHUNK // 6))
        assert response.transport.paused
        assert len(followed.source._delivery.pending) == CHUNK // 6


class NonsenseTests:
    @pytest.mark.parametrize("retry", [b"9" * 1000, b"-1", b"1.5", b"1e3", "٣".encode(), b"", b" 1"])
    def test_retry(self, retry: bytes) -> None:
        """
        A time that is none, or longer than anybody lives, changes nothing; and nothing overflows.
        """
        followed = Followed(retry=2.0)
        response = followed.asked.reply()
        response.bring(b"retry: " + retry + b"\n\n")
        response.end()
        assert followed.source.ready_state is ReadyState.CONNECTING
        (call,) = followed.clock.getDelayedCalls()
        assert call.getTime() >= 2.0
        followed.source.close()
        assert followed.clock.getDelayedCalls() == []

    def test_bytes_that_are_no_text(self) -> None:
        """
        They arrive as what stands for them, NULs as they are, and an id with a NUL is none.
        """
        followed = Followed(retry=1.0)
        response = followed.asked.reply()
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
        A reply that is none is refused, and the connection cut.
        """
        followed = Followed()
        response = followed.asked.reply(200, headers)
        followed.clock.advance(3)
        assert isinstance(followed.source.last_error, StreamRefused)
        assert response.transport.cut

    @pytest.mark.parametrize(
        "location", ["", "\x00", "http://[", "//", "https://example.org:99999999/", "x" * 100_000, "é" * 10]
    )
    def test_redirects(self, location: str) -> None:
        """
        Wherever it leads, it ends: in another request, or with a name for what is wrong.
        """
        followed = Followed()
        for _ in range(25):
            if followed.source.ready_state is ReadyState.CONNECTING and not followed.asked.answer.called:
                followed.asked.reply(302, {"Location": location})
        followed.clock.advance(3)
        assert len(followed.agent.requests) <= 21
        assert isinstance(followed.source.last_error, StreamRefused)
        assert followed.source.ready_state is ReadyState.CLOSED

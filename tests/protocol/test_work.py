"""
``EventStreamParser``: the work that a stream takes is linear, by counts and not by times.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest

from tests.protocol.ways import in_bytes, message
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser


class Weighed(bytes):
    """
    Bytes that count the bytes touched by joins and searches, and raise above a budget.
    """

    __slots__ = ()

    work = 0
    budget = 0

    @classmethod
    def weigh(cls, size: int) -> None:
        cls.work += size
        if cls.work > cls.budget:
            raise AssertionError(f"more than {cls.budget} bytes were touched")

    def __add__(self, other: Any) -> Weighed:
        self.weigh(len(self) + len(other))
        return Weighed(bytes(self) + bytes(other))

    def __radd__(self, other: Any) -> Weighed:
        self.weigh(len(self) + len(other))
        return Weighed(bytes(other) + bytes(self))

    def __contains__(self, other: Any) -> bool:
        self.weigh(len(self))
        return bytes(self).__contains__(other)


def _weighed(name: str) -> Any:
    original = getattr(bytes, name)

    def method(self: Weighed, *arguments: Any) -> Any:
        self.weigh(len(self))
        return original(self, *arguments)

    return method


for _name in (
    "find",
    "rfind",
    "index",
    "rindex",
    "split",
    "rsplit",
    "splitlines",
    "partition",
    "replace",
    "decode",
):
    setattr(Weighed, _name, _weighed(_name))


class Observed(EventStreamParser):
    """
    A parser that counts the input of its inner steps.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.joined: list[int] = []
        self.decoded = 0
        self.interpreted = 0

    def _read_lines(self, lines: bytes, events: list[ServerSentEvent]) -> None:
        self.joined.append(len(lines))
        super()._read_lines(lines, events)

    def _read_text(self, text: str, events: list[ServerSentEvent]) -> int:
        self.decoded += len(text)
        return super()._read_text(text, events)

    def _read_each(self, lines: list[str], events: list[ServerSentEvent]) -> int:
        self.interpreted += len(lines)
        return super()._read_each(lines, events)


class LinearWorkTests:
    """
    The parser joins, searches and decodes each byte a fixed number of times.
    """

    def test_long_line_byte_by_byte(self) -> None:
        """
        A line of 100,000 one-byte chunks is joined once, when its end has arrived.
        """
        size = 100_000
        parser = Observed()
        parser.feed(b"data: ")
        for _ in repeat(None, size):
            parser.feed(b"x")
        assert len(parser._pending) == 6 + size
        assert parser.joined == []
        assert parser.feed(b"\n") == []
        assert parser.joined == [6 + size + 1]
        assert parser.feed(b"\n") == [message("x" * size)]

    @pytest.mark.slow
    def test_long_line_of_weighed_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Later chunks of a line do not touch its earlier bytes again: each byte is searched twice, for LF and
        for CR.
        """
        size = 100_000
        monkeypatch.setattr(Weighed, "work", 0)
        monkeypatch.setattr(Weighed, "budget", 4 * size)
        parser = EventStreamParser()
        byte = Weighed(b"x")
        parser.feed(b"data: ")
        for _ in repeat(None, size):
            parser.feed(byte)
        assert 0 < Weighed.work <= 4 * size

    def test_many_lines_byte_by_byte(self) -> None:
        """
        Each line of a stream in single bytes is joined, decoded and parsed once, however many came before it.
        """
        stream = b"data: some text\r\nid: 5\r\n\r\n" * 2000
        parser = Observed()
        events = [event for byte in in_bytes(stream) for event in parser.feed(byte)]
        assert events == [message("some text", "5")] * 2000
        # The LF of each CR LF is removed before.
        assert sum(parser.joined) == parser.decoded == len(stream) - 3 * 2000
        assert parser.interpreted == 3 * 2000

    @pytest.mark.parametrize("size", [1, 100])
    def test_block_of_many_lines(self, size: int) -> None:
        """
        The lines of an open block are not parsed again when further lines arrive.
        """
        lines = [b"data: %06d\n" % number for number in range(2000)]
        parser = Observed()
        for start in range(0, len(lines), size):
            assert parser.feed(b"".join(lines[start : start + size])) == []
            assert parser.interpreted == start + size
            assert sum(parser.joined) == parser.decoded == 13 * (start + size)
        (event,) = parser.feed(b"\n")
        assert event.data == "\n".join(f"{number:06}" for number in range(2000))

    @pytest.mark.parametrize("size", [1, 5, 17, 4096])
    def test_chunk_above_the_size_limit(self, size: int) -> None:
        """
        In a chunk above the size limit, where sizes are checked line by line, each line is still parsed once.
        """
        stream = b"data: 1\ndata: 2\n\n" * 500
        parser = Observed(max_event_size=14)
        events = [
            event
            for start in range(0, len(stream), size)
            for event in parser.feed(stream[start : start + size])
        ]
        assert events == [message("1\n2")] * 500
        assert sum(parser.joined) == len(stream)
        assert parser.interpreted == 3 * 500

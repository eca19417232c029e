"""
``EventStreamParser``: the size limit, and the memory that a stream takes.
"""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.protocol.ways import BOM, feed, feed_all_ways, in_bytes, kept, message
from txsse.protocol.parser import DEFAULT_MAX_EVENT_SIZE, EventStreamParser, EventTooLarge

LIMIT = 20


class MaxEventSizeTests:
    """
    The size of an event is that of its lines, without comments and line ends; no line may be longer.
    """

    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=repr)
    @pytest.mark.parametrize(
        "lines",
        [
            [b"data: 45678901234567"],
            [b"data: 45678901234567890"[:LIMIT]],
            [b"data: 5678", b"data: 4567"],
            [b"id: 5", b"event: 34", b"data: "],
            [b"id: 5", b": comments are free", b"event: 34", b": very", b"data: ", b":"],
            [b"data", b"data", b"data", b"data", b"data"],
            ["data: ééééééé".encode()],
            [b"data: \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"],
            [b"unknown", b"fields: count"],
            [b"retry: 5", b"retry: 12345"],
        ],
    )
    def test_at_the_limit_and_beyond(self, lines: list[bytes], end: bytes) -> None:
        """
        An event of exactly the size limit passes, and one byte more is refused; received bytes count, not
        decoded ones.
        """
        assert sum(len(line) for line in lines if not line.startswith(b":")) == LIMIT
        block = end.join([*lines, b"", b""])
        passed = feed_all_ways(block * 3, max_event_size=LIMIT)
        assert not passed.too_large
        for number, line in enumerate(lines):
            if not line.startswith(b":"):
                larger = end.join([*lines[:number], line + b"0", *lines[number + 1 :], b"", b""])
                refused = feed_all_ways(block * 3 + larger + block, max_event_size=LIMIT)
                assert refused.too_large
                assert refused.events == passed.events

    @pytest.mark.parametrize("name", [b"data: ", b":", b"x", b"id: ", b"retry: "])
    def test_line_at_the_limit_and_beyond(self, name: bytes) -> None:
        """
        A line of any kind, also a comment, is refused above the size limit, with or without its end.
        """
        line = name.ljust(LIMIT, b"1")
        for before in (b"\n", b"data: a\n\n", b":\r\n"):
            for after in (b"", b"\n", b"\r\n\r\n"):
                assert not feed_all_ways(before + line + after, max_event_size=LIMIT).too_large
                assert feed_all_ways(before + line + b"1" + after, max_event_size=LIMIT).too_large

    def test_byte_order_mark(self) -> None:
        """
        A byte order mark does not count as a part of the first line.
        """
        line = b"data: 45678901234567"
        for stream in (BOM + line, BOM + line + b"\n\n"):
            assert not feed_all_ways(stream, max_event_size=LIMIT).too_large
        for stream in (BOM + line + b"8", BOM + line + b"8\n"):
            assert feed_all_ways(stream, max_event_size=LIMIT).too_large
        assert feed_all_ways(line + b"8\n", max_event_size=LIMIT).too_large

    def test_count_of_each_block(self) -> None:
        """
        A blank line resets the size, after a block with or without an event.
        """
        for block in (b"data: 678901234567\n\n", b"id: 45678901234567\n\n", b"x\nxx\nxxx\r\n\r\n"):
            assert not feed_all_ways(block * 5, max_event_size=LIMIT).too_large

    def test_events_in_the_error(self) -> None:
        """
        The error contains the limit and the events that the same call had completed.
        """
        parser = EventStreamParser(max_event_size=LIMIT)
        assert parser.feed(b"data: 1\n\n") == [message("1")]
        with pytest.raises(EventTooLarge, match="more than 20 bytes") as caught:
            parser.feed(b"data: 2\n\nid: 5\ndata: 3\n\n" + b"data: " + b"x" * 15 + b"\n\ndata: 4\n\n")
        assert caught.value.limit == LIMIT
        assert caught.value.events == [message("2"), message("3", "5")]
        assert parser.last_event_id == "5"

    @pytest.mark.parametrize(
        "stream", [b"data: " + b"x" * 15, b"\n" + b"x" * 21 + b"\n", b"data: 67890\n" * 2]
    )
    def test_fed_after_the_error(self, stream: bytes) -> None:
        """
        After a refusal, the parser refuses every further chunk, and the error contains no events.
        """
        parser = EventStreamParser(max_event_size=LIMIT)
        with pytest.raises(EventTooLarge):
            parser.feed(b"\ndata: 1\n\n" + stream)
        for chunk in (b"\n\n", b"data: 2\n\n", b""):
            with pytest.raises(EventTooLarge) as caught:
                parser.feed(chunk)
            assert caught.value.limit == LIMIT
            assert caught.value.events == []
        assert kept(parser) == 0

    def test_default(self) -> None:
        """
        The default size limit is 4 MiB.
        """
        assert DEFAULT_MAX_EVENT_SIZE == 4 * 1024 * 1024
        text = b"x" * (DEFAULT_MAX_EVENT_SIZE - 6)
        assert feed([b"data: ", text, b"\n\n"]).events == [message(text.decode())]
        assert feed([b"data: ", text, b"x\n\n"]).too_large

    @pytest.mark.parametrize("limit", [0, -1])
    def test_limit_below_one_byte(self, limit: int) -> None:
        """
        A size limit below one byte is rejected by the constructor.
        """
        with pytest.raises(ValueError, match=f"not {limit}$"):
            EventStreamParser(max_event_size=limit)

    def test_one_byte(self) -> None:
        """
        A size limit of one byte still accepts blank lines, comments and line ends.
        """
        assert not feed_all_ways(b"\n:\n\r\nx\n\n:\r\r", max_event_size=1).too_large


class EndlessStreamTests:
    """
    Endless streams are refused, or pass without being kept in memory.
    """

    @pytest.mark.parametrize("size", [1, 7, 4096])
    @pytest.mark.parametrize("name", [b"data: ", b":", b"x", b"id: "])
    def test_line(self, name: bytes, size: int) -> None:
        """
        A line without an end is refused at the size limit, and its memory released.
        """
        parser = EventStreamParser(max_event_size=1000)
        parser.feed(b"data: before\n\n" + name)
        with pytest.raises(EventTooLarge):
            for _ in range(2000):
                parser.feed(b"1" * size)
                assert kept(parser) <= 2 * 1000 + 100
        assert kept(parser) <= 100

    @pytest.mark.parametrize("size", [1, 100])
    @pytest.mark.parametrize(
        "line", [b"data: x\n", b"data\r\n", b"data:\r", b"x\n", b"id: 1\n", b"retry: 1\n"]
    )
    def test_block(self, line: bytes, size: int) -> None:
        """
        A block without an end is refused at the size limit, whatever its lines are.
        """
        parser = EventStreamParser(max_event_size=1000)
        with pytest.raises(EventTooLarge):
            for _ in range(2000):
                parser.feed(line * size)
                assert kept(parser) <= 2 * 1000 + 100
        assert kept(parser) <= 100

    def test_comments(self) -> None:
        """
        Endless comments, between events and within one, take no memory.
        """
        parser = EventStreamParser(max_event_size=1000)
        comments = (
            b": keep-alive, " + b"as it comes every fifteen seconds while nothing else does, " * 4 + b"\n"
        )
        comments *= 1200
        assert parser.feed(b"data: a\n") == []
        for _ in range(36):
            assert parser.feed(comments) == []
            assert kept(parser) <= 10
        assert parser.feed(b"\n") == [message("a")]
        for _ in range(36):
            assert parser.feed(comments.replace(b"\n", b"\n\n")) == []
            assert kept(parser) <= 10
        assert parser.feed(b"data: b\n\n") == [message("b")]

    def test_events(self) -> None:
        """
        Endless events, in chunks far above the size limit, take no memory.
        """
        parser = EventStreamParser(max_event_size=100)
        for _ in range(10):
            assert len(parser.feed(b"id: 1\ndata: x\n\n" * 1000)) == 1000
            assert kept(parser) <= 10

    def test_empty_chunks(self) -> None:
        """
        Empty chunks take no memory.
        """
        parser = EventStreamParser()
        parser.feed(b"data")
        before = kept(parser)
        for _ in range(1000):
            assert parser.feed(b"") == []
        assert kept(parser) == before


# Some of them fit the small limits and some do not; an invalid byte counts as one, and decodes to three.
PIECES = [
    *b"\n|\n|\r|\r\n|\n\n|data: |data|data: x\n|data: \xff\xfe\xff\n\n|:|: comment\n|id: 1|id: 2\n".split(
        b"|"
    ),
    *b"event: e\n|retry: 5\n|retry: 7\n\n|x| |xxxxxxxx|\0|\xff|\xe2\x82|\xe2\x82\xac".split(b"|"),
    *b"\xef\xbb\xbf|\xef|\xbb\xbf".split(b"|"),
]


@st.composite
def streams_in_chunks(draw: st.DrawFn) -> list[bytes]:
    """
    Draw a stream, cut at some places, among them line ends.
    """
    stream = b"".join(draw(st.lists(st.sampled_from(PIECES), max_size=40)))
    ends = [place for found in re.finditer(b"[\r\n]", stream) for place in found.span()]
    anywhere = st.integers(0, len(stream))
    cuts = sorted(draw(st.lists(anywhere | st.sampled_from(ends) if ends else anywhere, max_size=8)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


def exceeds(stream: bytes, limit: int) -> bool:
    """
    Return whether a stream exceeds the limit, line by line as the limit is documented.
    """
    *lines, rest = re.split(b"\r\n|\n|\r", stream)
    # Until the first line has its end, it may still begin with a byte order mark.
    rest_limit = limit if lines else limit + len(BOM)
    if lines:
        lines[0] = lines[0].removeprefix(BOM)
    size = 0
    for line in lines:
        if not line:
            size = 0
        elif not line.startswith(b":"):
            size += len(line)
        if max(size, len(line)) > limit:
            return True
    return len(rest) > rest_limit


class EveryCutTests:
    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(streams_in_chunks(), st.integers(1, 40))
    @example([b"data: \xff\xff\n", b"data: \xff\xff\n\n"], 16)
    @example([b"data: \xff\xff\n", b"data: \xff\xff\n\n"], 15)
    @example([b"\xef\xbb\xbfxxxx"], 4)
    @example([b"xxxxxxx"], 4)
    def test_any_stream_and_limit(self, chunks: list[bytes], limit: int) -> None:
        """
        The outcome of a stream does not depend on how it is cut, for any size limit.
        """
        stream = b"".join(chunks)
        whole = feed([stream], max_event_size=limit)
        assert whole.too_large == exceeds(stream, limit)
        assert feed(chunks, max_event_size=limit) == whole
        for size in (1, 2, 3, 5, 8):
            assert feed(in_bytes(stream, size), max_event_size=limit) == whole

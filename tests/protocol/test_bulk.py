"""
The bulk parser: blocks of one shape that are parsed at once give the same events as line by line.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from txsse.protocol import parser as parser_module
from txsse.protocol.bulk import columns
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser

Fields = tuple[str, str, str, float | None]


def interpret(stream: bytes, last_event_id: str = "") -> tuple[list[Fields], str, float | None]:
    """
    Interpret a whole stream, with each step of the standard's text in plain code.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

    :returns: the events, the last event ID, the reconnection time in seconds.
    """
    events: list[Fields] = []
    reconnection_time: float | None = None
    data_buffer = ""
    event_type_buffer = ""
    last_event_id_buffer = last_event_id
    # Not in the standard: an event also contains the retry time of its own block.
    block_time: float | None = None

    text = stream.decode("utf-8", "replace")
    if text[:1] == "\ufeff":
        text = text[1:]
    # The text after the last line end is not a line.
    for line in re.split("\r\n|\r|\n", text)[:-1]:
        if line == "":
            last_event_id = last_event_id_buffer
            if data_buffer != "":
                if data_buffer[-1] == "\n":
                    data_buffer = data_buffer[:-1]
                name = "message"
                if event_type_buffer != "":
                    name = event_type_buffer
                events.append((data_buffer, name, last_event_id, block_time))
            data_buffer = ""
            event_type_buffer = ""
            block_time = None
            continue
        if line[0] == ":":
            continue
        if ":" in line:
            colon = line.index(":")
            field, value = line[:colon], line[colon + 1 :]
            if value[:1] == " ":
                value = value[1:]
        else:
            field, value = line, ""
        if field == "event":
            event_type_buffer = value
        elif field == "data":
            data_buffer += value
            data_buffer += "\n"
        elif field == "id":
            if "\0" not in value:
                last_event_id_buffer = value
        elif field == "retry":
            if re.fullmatch("[0-9]+", value):
                reconnection_time = block_time = int(value) / 1000
    return events, last_event_id, reconnection_time


def parse(chunks: list[bytes]) -> tuple[list[Fields], str, float | None]:
    """
    Feed chunks to a new parser; return the events, the last event ID and the reconnection time.
    """
    parser = EventStreamParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    assert all(type(event) is ServerSentEvent for event in events)
    return (
        [(data, event or "", id or "", retry) for data, event, id, retry in events],
        parser.last_event_id,
        parser.retry,
    )


class ColumnsTests:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("data: a\n\n", {"data": ["a"]}),
            ("data: a\n\ndata: b\n\ndata: \n\n", {"data": ["a", "b", ""]}),
            ("data: data: a\n\ndata: : \n\n", {"data": ["data: a", ": "]}),
            ("id: 1\ndata: a\n\nid: 2\ndata: b\n\n", {"id": ["1", "2"], "data": ["a", "b"]}),
            ("data: a\nid: 1\n\ndata: b\nid: \n\n", {"data": ["a", "b"], "id": ["1", ""]}),
            (
                "event: e\nid: 1\ndata: a\n\nevent: \nid: id: 2\ndata:  b\n\n",
                {"event": ["e", ""], "id": ["1", "id: 2"], "data": ["a", " b"]},
            ),
        ],
    )
    def test_one_shape(self, text: str, expected: dict[str, list[str]]) -> None:
        """
        Blocks with the same fields in the same order are split into one list for each field.
        """
        assert columns(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("data: a\n\ndata: b\ndata: c\n\n", id="two lines of data in one block"),
            pytest.param("data: a\ndata: b\n\ndata: c\ndata: d\n\n", id="two lines of data in each"),
            pytest.param("data: a\n\n\ndata: b\n\n", id="a blank line too many"),
            pytest.param("\n\ndata: a\n\n", id="blank lines before"),
            pytest.param("\n\n", id="blank lines alone"),
            pytest.param("data: a\n\nid: 1\n\n", id="other fields"),
            pytest.param("id: 1\ndata: a\n\ndata: b\nid: 2\n\n", id="another order"),
            pytest.param("id: 1\ndata: a\n\nid: 2\n\ndata: b\n", id="another height"),
            pytest.param("id: 1\ndata: a\n\nid: 2\n\n\n", id="a field missing"),
            pytest.param("id: 1\ndata: a\n\nid: 2\ndata: b\nevent: c\n\n", id="a field more"),
            pytest.param("id: 1\n\nid: 2\n\n", id="no data"),
            pytest.param("data:a\n\ndata:b\n\n", id="no space"),
            pytest.param("id: 1\ndata: a\n\nid:2\ndata: b\n\n", id="no space in one"),
            pytest.param("id: 1\ndata: a\n\nid: 2\ndata\n\n", id="no colon in one"),
            pytest.param("id\ndata: a\n\nid\ndata: b\n\n", id="no colon"),
            pytest.param("retry: 1\ndata: a\n\nretry: 2\ndata: b\n\n", id="retry"),
            pytest.param(": c\ndata: a\n\n: c\ndata: b\n\n", id="comments"),
            pytest.param("x: c\ndata: a\n\nx: c\ndata: b\n\n", id="an unknown field"),
            pytest.param("Data: a\n\nData: b\n\n", id="capitals"),
            pytest.param("id: 1\nid: 2\ndata: a\n\nid: 3\nid: 4\ndata: b\n\n", id="a field twice"),
            pytest.param(
                "id: 1\ndata: a\n\nid: 2\ndata: b\nid: 3\nid: 4\ndata: c\n\n", id="an id for a blank line"
            ),
            pytest.param("data: a\n\ndata: b\ndata: c\ndata: d\n\n", id="data for a blank line"),
            pytest.param("id: 1\ndata: a\n\nide: 2\ndata: b\n\n", id="a longer name"),
        ],
    )
    def test_other_shapes(self, text: str) -> None:
        """
        Blocks that differ in shape, or have other fields than data, event and id, are not split into columns.
        """
        assert columns(text) is None


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """
    Record the number of blocks in each call of ``columns``, 0 if it refused the text.
    """
    counts: list[int] = []

    def noting(text: str) -> dict[str, list[str]] | None:
        found = columns(text)
        counts.append(len(found["data"]) if found else 0)
        return found

    monkeypatch.setattr(parser_module, "columns", noting)
    return counts


class LongStreamTests:
    """
    Streams that are long enough for the bulk parser: their events, and which path parsed them.
    """

    @pytest.mark.parametrize(
        "block",
        [
            "data: {}\n\n",
            "id: {}\ndata: x\n\n",
            "data: {}\nid: {}\n\n",
            "event: e{}\ndata: {}\n\n",
            "event: \ndata: {}\n\n",
            "id: \nevent: e\ndata: {}\n\n",
            "data: é\u2028\x85{}\nevent: e\nid: {}\n\n",
        ],
        ids=ascii,
    )
    def test_blocks_of_one_shape(self, block: str, taken: list[int]) -> None:
        """
        The bulk parser returns the same events as the standard's steps for a hundred blocks of one shape.
        """
        stream = "".join(block.replace("{}", str(number)) for number in range(100)).encode()
        for chunk in (stream, stream.replace(b"\n", b"\r\n"), stream.replace(b"\n", b"\r")):
            assert parse([chunk]) == interpret(stream)
        assert taken == [100, 100, 100]

    @pytest.mark.parametrize(
        "odd",
        [
            "data: a\ndata: b\n\n",
            "data: a\n\n",
            "id: 7\n\n",
            ": c\n\n",
            "\n",
            "event: e\nid: 1\ndata: a\n\n",
            "id:1\ndata:a\n\n",
            "id\ndata: a\n\n",
            "data: a\nid: 1\n\n",
            "retry: 5\ndata: a\n\n",
            "x: 1\ndata: a\n\n",
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("place", [0, 50, 100])
    def test_one_block_of_another_shape(self, odd: str, place: int, taken: list[int]) -> None:
        """
        A block of another shape among a hundred makes the parser read line by line, with the same events.
        """
        blocks = [f"id: {number}\ndata: x\n\n" for number in range(100)]
        blocks.insert(place, odd)
        stream = "".join(blocks).encode()
        assert parse([stream]) == interpret(stream)
        assert taken == [0]

    def test_short_stream(self, taken: list[int]) -> None:
        """
        A short stream is not passed to the bulk parser.
        """
        stream = b"data: x\n\n" * 50
        assert parse([stream]) == interpret(stream)
        assert taken == []

    @pytest.mark.parametrize("value", ["\0", "a\0", "\0a"], ids=ascii)
    def test_id_with_nul(self, value: str) -> None:
        """
        The bulk parser ignores an id with a NUL: the events have the previous id.
        """
        stream = f"id: 1\ndata: x\n\nid: {value}\ndata: x\n\n".encode() * 50
        events, last_event_id, _ = parse([stream])
        assert {id for _, _, id, _ in events} == {"1"}
        assert len(events) == 100
        assert last_event_id == "1"

    def test_data_with_nul(self) -> None:
        """
        Data with a NUL is delivered by a long stream.
        """
        stream = b"id: 1\ndata: a\0b\n\n" * 100
        assert parse([stream]) == interpret(stream) == ([("a\0b", "message", "1", None)] * 100, "1", None)

    @pytest.mark.parametrize("block", [b"data: x\n\n", b"event: e\ndata: x\n\n"])
    def test_id_carried_over(self, block: bytes, taken: list[int]) -> None:
        """
        Blocks without an id have the last event ID of the stream, and do not change it.
        """
        parser = EventStreamParser()
        assert parser.feed(b"id: 7\n\n") == []
        assert {event.id for event in parser.feed(block * 100)} == {"7"}
        assert parser.last_event_id == "7"
        (event,) = parser.feed(b"data: y\n\n")
        assert (event.event, event.id) == ("message", "7")
        assert taken == [100]

    def test_last_id_of_many(self, taken: list[int]) -> None:
        """
        The last event ID after many blocks is that of the last block.
        """
        parser = EventStreamParser(last_event_id="before")
        parser.feed(b"".join(b"id: %d\ndata: x\n\n" % number for number in range(100)) + b"id: open\n")
        assert parser.last_event_id == "99"
        assert parser.feed(b"id: 98\0\ndata: y\n\n") == [("y", "message", "open", None)]
        assert taken == [100]

    def test_reset_id_of_many(self, taken: list[int]) -> None:
        """
        An empty id in the last of many blocks resets the last event ID.
        """
        parser = EventStreamParser(last_event_id="before")
        parser.feed(b"id: 5\ndata: x\n\n" * 100 + b"id: \ndata: x\n\n")
        assert parser.last_event_id == ""
        assert taken == [101]

    @pytest.mark.parametrize(
        "opened",
        [
            "id: 8\n",
            "event: e\n",
            "data: a\n",
            "data:\n",
            "retry: 5\n",
            "id: 8\nevent: e\nretry: 5\ndata: a\n",
            *["x\n", ": c\n", ": c\nid: 8\n", "event: e\n: c\n"],
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("rest", ["\n", "data: b\n\n", "data: b\n\n: c\n\n", "\n\n\n"], ids=repr)
    def test_block_open_before(self, opened: str, rest: str) -> None:
        """
        A block that an earlier chunk began receives its own lines and no others.
        """
        first = opened.encode()
        second = rest.encode() + b"id: 9\nevent: f\ndata: x\n\n" * 100
        assert parse([first, second]) == interpret(first + second)

    def test_rest_of_an_open_block(self, taken: list[int]) -> None:
        """
        The blocks after the rest of an open block are still parsed in bulk.
        """
        parse([b"data: a\n", b"data: b\n\n" + b"id: 1\ndata: x\n\n" * 100])
        parse([b"data: a\n", b"\n" + b"id: 1\ndata: x\n\n" * 100])
        assert taken == [100, 100]

    def test_block_open_throughout(self, taken: list[int]) -> None:
        """
        A chunk that ends no block is not passed to the bulk parser, however long it is.
        """
        chunks = [b"data: a\n", b"data: b\n" * 100, b"data: c\n" * 100, b"\n"]
        assert parse(chunks) == interpret(b"".join(chunks))
        assert taken == []

    def test_block_open_after(self, taken: list[int]) -> None:
        """
        A block that begins at the end of a chunk is completed by the next chunk.
        """
        chunks = [
            b"data: x\n\n" * 100 + b"event: e\ndata: y\nretry: 5\n",
            b"data: z\n\n" + b"data: x\n\n" * 100,
        ]
        assert parse(chunks) == interpret(b"".join(chunks))
        assert taken == [100, 100]

    @pytest.mark.slow
    def test_cut_at_every_byte(self) -> None:
        """
        A stream of blocks of one shape gives the same events wherever it is cut in two.
        """
        stream = b"".join(b"id: %d\r\nevent: e\r\ndata: \xc3\xa9\r\n\r\n" % number for number in range(50))
        expected = interpret(stream)
        for cut in range(len(stream)):
            assert parse([stream[:cut], stream[cut:]]) == expected, f"cut at {cut}"

    def test_invalid_utf_8(self, taken: list[int]) -> None:
        """
        Invalid bytes at line ends become U+FFFD, and the line ends stay, when many blocks are parsed at once.
        """
        stream = b"id: \xe2\x82\ndata: \xf0\x9f\n\n" * 100
        assert parse([stream]) == interpret(stream) == ([("�", "message", "�", None)] * 100, "�", None)
        assert taken == [100]

    def test_size_of_the_open_block(self) -> None:
        """
        The size of an open block after many blocks counts against the size limit.
        """
        parser = EventStreamParser(max_event_size=2000)
        assert len(parser.feed(b"data: x\n\n" * 100 + b"data: " + b"y" * 994 + b"\n: comment\n")) == 100
        assert parser.feed(b"data: " + b"y" * 994 + b"\n") == []
        (event,) = parser.feed(b"\n")
        assert len(event.data) == 2 * 994 + 1


NAMES = ["data", "event", "id"]
VALUES = [
    *b"| |x|1|two words|: |data: x|id: 5|\xc3\xa9|\xe2\x80\xa8|\xc2\x85|\x0b\x1c".split(b"|"),
    *b"\0|a\0b|\xff|\xe2\x82|\xef\xbb\xbf".split(b"|"),
    b"x" * 90,
]
LINES = [
    *b"|||data: x|data: y|data:|data|data:x|data:  x|Data: x| data: x|data: id: 1|data: \xff".split(b"|"),
    *b"event: e|event: |event|id: 1|id: 2|id:|id|id: \0|id: 3\0|id: \xe2\x82|retry: 5|retry: 60".split(b"|"),
    *b"retry: x|retry|: comment|:|unknown: x|x|\xef\xbb\xbfdata: x|\0".split(b"|"),
    b"data: " + b"long " * 40,
]


@st.composite
def blocks(draw: st.DrawFn) -> list[bytes]:
    """
    Draw the lines of a few blocks of one shape, repeated many times.
    """
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 3))]
    few = draw(st.lists(st.tuples(*[st.sampled_from(VALUES) for _ in names]), min_size=1, max_size=4))
    lines = [
        line
        for values in few
        for line in [
            *(b"%b: %b" % (name.encode(), value) for name, value in zip(names, values, strict=True)),
            b"",
        ]
    ]
    return lines * draw(st.integers(1, 60))


@st.composite
def streams_in_chunks(draw: st.DrawFn) -> list[bytes]:
    """
    Draw a stream that is mostly long and of blocks of one shape, with a few other lines, cut at some places,
    among them line ends.
    """
    lines = draw(st.lists(st.sampled_from(LINES), max_size=8))
    for _ in range(draw(st.integers(1, 2))):
        lines += draw(st.one_of(blocks(), st.lists(st.sampled_from(LINES), max_size=60)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(lines)))
        # Instead of a line, or before it.
        lines[place : place + draw(st.integers(0, 1))] = [draw(st.sampled_from(LINES))]
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))
    stream = end.join([draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), *lines])
    ends = [place for found in re.finditer(b"[\r\n]", stream) for place in found.span()]
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)) | st.sampled_from([0, *ends]), max_size=4)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


class EveryStreamTests:
    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(streams_in_chunks())
    @example([b"data: a\rdata: b", b"\n\n"])
    def test_same_events_as_in_the_standard(self, chunks: list[bytes]) -> None:
        """
        The parser returns the events that the standard's steps give for any stream, whole and in chunks.
        """
        stream = b"".join(chunks)
        expected = interpret(stream)
        assert parse([stream]) == expected
        assert parse(chunks) == expected

    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(
        st.lists(st.sampled_from([line + b"\n" for line in LINES] + [b"\r", b"\r\n"]), max_size=60), st.data()
    )
    def test_mixed_line_ends(self, parts: list[bytes], data: Any) -> None:
        """
        The parser returns the events that the standard's steps give for any mixture of line ends, in chunks
        of any size.
        """
        stream = b"".join(parts).replace(b"\n\n", data.draw(st.sampled_from([b"\n\n", b"\r\r", b"\r\n\n"])))
        expected = interpret(stream)
        assert parse([stream]) == expected
        for size in (1, 2, 3, 5, data.draw(st.integers(6, 50))):
            assert parse([stream[start : start + size] for start in range(0, len(stream), size)]) == expected

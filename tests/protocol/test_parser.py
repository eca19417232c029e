"""
``EventStreamParser`` follows the standard for each stream, however it is cut.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5
(parsing) and 9.2.6 (interpreting).
"""

from __future__ import annotations

import pytest

from tests.protocol.ways import BOM, data_of, feed, feed_all_ways, in_bytes, message
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser


class ExamplesOfTheStandardTests:
    """
    The examples of sections 9.2.1 and 9.2.6 of the standard, verbatim.
    """

    def test_stock_ticker(self) -> None:
        """
        In the standard's stock ticker example, three data lines are one event.
        """
        assert feed_all_ways(b"data: YHOO\ndata: +2\ndata: 10\n\n").events == [message("YHOO\n+2\n10")]

    def test_comment_id_and_spaces(self) -> None:
        """
        In the standard's example of four blocks, a comment is no event, an empty id resets it, and one
        leading space of two stays.
        """
        outcome = feed_all_ways(
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
        )
        assert outcome.events == [
            message("first event", "1"),
            message("second event"),
            message(" third event"),
        ]
        assert outcome.last_event_id == ""

    def test_no_final_blank_line(self) -> None:
        """
        In the standard's example without the final blank line, the last event is not dispatched.
        """
        stream = b"data: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"
        assert feed_all_ways(stream).events == [message("first event", "1"), message("second event")]

    def test_empty_and_newline(self) -> None:
        """
        In the standard's example, ``data`` alone is an empty event, two of them a line end, and the last one
        unfinished.
        """
        assert feed_all_ways(b"data\n\ndata\ndata\n\ndata:").events == [message(""), message("\n")]

    def test_space_after_the_colon(self) -> None:
        """
        In the standard's example, one space after the colon makes no difference.
        """
        assert feed_all_ways(b"data:test\n\ndata: test\n\n").events == [message("test"), message("test")]

    def test_three_messages(self) -> None:
        """
        The messages of the standard's introduction have one line, two lines and one line.
        """
        assert data_of(
            b"data: This is the first message.\n\n"
            b"data: This is the second message, it\ndata: has two lines.\n\n"
            b"data: This is the third message.\n\n"
        ) == [
            "This is the first message.",
            "This is the second message, it\nhas two lines.",
            "This is the third message.",
        ]

    def test_named_messages(self) -> None:
        """
        The named messages of the standard's introduction have the types add and remove.
        """
        outcome = feed_all_ways(
            b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n"
        )
        assert [(event.event, event.data) for event in outcome.events] == [
            ("add", "73857293"),
            ("remove", "2153"),
            ("add", "113411"),
        ]


class WebPlatformTests:
    """
    Streams of the browsers' own suite, https://github.com/web-platform-tests/wpt, directory eventsource.
    """

    @pytest.mark.parametrize(
        ("stream", "expected"),
        [
            pytest.param(
                b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n"
                b" data:32\ndata:4\n\n",
                ["\0\n 2\n1\n3\n\n4"],
                id="format-field-parsing",
            ),
            pytest.param(
                b"data:1\r:\0\n:\r\ndata:2\n:%b\rdata:3\n:data:fail\r:%b\ndata:4\n\n"
                % (b"x" * 60, b"x" * 60),
                ["1\n2\n3\n4"],
                id="format-comments",
            ),
            pytest.param(b"data:test\r\ndata\ndata:test\r\n\r\n", ["test\n\ntest"], id="format-newlines"),
            pytest.param(
                b"data:\ttest\rdata: \ndata:test\n\n", ["\ttest\n\ntest"], id="format-leading-space"
            ),
            pytest.param(b"data:\n\ndata\ndata\n\ndata:test\n\n", ["", "\n", "test"], id="format-field-data"),
            pytest.param(b"data:\0\n\n\n\n", ["\0"], id="format-null-character"),
            pytest.param(b"data:test\n\n:\ndata", ["test"], id="event-data"),
            pytest.param(
                b"retry:1000\ndata:test1\n\nid:test\ndata:test2",
                ["test1"],
                id="format-data-before-final-empty-line",
            ),
            pytest.param(
                b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", ["1", "3"], id="format-bom"
            ),
            pytest.param(
                b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\ndata:3\n\n", ["2", "3"], id="format-bom-2"
            ),
            pytest.param("data:ok…\n\n".encode(), ["ok…"], id="format-utf-8"),
        ],
    )
    def test_data(self, stream: bytes, expected: list[str]) -> None:
        """
        Each stream of the web platform tests gives the same data as in a browser.
        """
        assert data_of(stream) == expected


class LineEndTests:
    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=repr)
    def test_one_kind(self, end: bytes) -> None:
        """
        LF, CR and CR LF each end lines and blocks.
        """
        stream = end.join([b"data: a", b"data: b", b"", b": c", b"", b"id: 7", b"data: d", b"", b""])
        assert feed_all_ways(stream).events == [message("a\nb"), message("d", "7")]

    @pytest.mark.parametrize("first", [b"\n", b"\r", b"\r\n"], ids=repr)
    @pytest.mark.parametrize("second", [b"\n", b"\r", b"\r\n"], ids=repr)
    def test_mixed(self, first: bytes, second: bytes) -> None:
        """
        Any two consecutive line ends are an empty line, except that CR and LF are one line end.
        """
        events = feed_all_ways(b"data: a%b%bdata: b\n\n" % (first, second)).events
        if (first, second) == (b"\r", b"\n"):
            assert events == [message("a\nb")]
        else:
            assert events == [message("a"), message("b")]

    def test_lf_cr(self) -> None:
        """
        LF CR is two line ends, and a further LF belongs to the CR.
        """
        assert data_of(b"data: a\n\rdata: b\n\r\ndata: c\n\r\n") == ["a", "b", "c"]

    def test_cr_ends_its_line_at_once(self) -> None:
        """
        A CR ends its line at once, and an LF that follows in a later chunk is not another line end.
        """
        parser = EventStreamParser()
        assert parser.feed(b"data: x\r\r") == [message("x")]
        assert parser.feed(b"\n") == []
        assert parser.feed(b"data: y\r") == []
        assert parser.feed(b"\n") == []
        assert parser.feed(b"data: z\n\n") == [message("y\nz")]

    def test_empty_chunk_between_cr_and_lf(self) -> None:
        """
        An empty chunk between CR and LF does not separate them.
        """
        parser = EventStreamParser()
        assert parser.feed(b"data: x\r") == []
        assert parser.feed(b"") == []
        assert parser.feed(b"\n") == []
        assert parser.feed(b"\r") == [message("x")]

    def test_second_lf_after_a_cr(self) -> None:
        """
        Only one LF belongs to a CR: the next one ends the block.
        """
        parser = EventStreamParser()
        assert parser.feed(b"data: x\r") == []
        assert parser.feed(b"\n\n") == [message("x")]

    @pytest.mark.parametrize(
        "chunks", [[b"data: x\r", b"data: y"], [b"data: x\rdata: y"], [b"data: x\rdata: ", b"y"]]
    )
    def test_lf_after_a_cr_and_a_line(self, chunks: list[bytes]) -> None:
        """
        An LF after further bytes of a line is a line end, and does not belong to an earlier CR.
        """
        parser = EventStreamParser()
        for chunk in chunks:
            assert parser.feed(chunk) == []
        assert parser.feed(b"\n") == []
        assert parser.feed(b"\n") == [message("x\ny")]

    @pytest.mark.parametrize(
        "character", "\0\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x85\xa0\u2028\u2029\ufeff", ids=ascii
    )
    def test_other_line_ends_of_unicode(self, character: str) -> None:
        """
        Characters that only Python or JavaScript treats as line ends stay in the data.
        """
        text = f"{character}a{character}{character}b{character}"
        assert data_of(f"data:{text}\ndata: {text}\n\n".encode()) == [f"{text}\n{text}"]

    def test_only_blank_lines(self) -> None:
        """
        Blank lines dispatch no event.
        """
        assert feed_all_ways(b"\n\n\r\r\r\n\r\n\n") == ([], "", None, False)

    def test_empty_stream(self) -> None:
        """
        An empty stream contains no event.
        """
        assert feed_all_ways(b"") == ([], "", None, False)


class ByteOrderMarkTests:
    def test_at_the_beginning(self) -> None:
        """
        A byte order mark at the beginning is skipped, also if a chunk ends within it.
        """
        assert feed_all_ways(BOM + b"id: 1\ndata: x\n\n").events == [message("x", "1")]

    def test_only_the_mark(self) -> None:
        """
        A stream that consists of a byte order mark has no event, and its first line may follow.
        """
        assert feed_all_ways(BOM).events == []
        assert feed_all_ways(BOM + b"\n\ndata: x\n\n").events == [message("x")]

    def test_second(self) -> None:
        """
        A second byte order mark is text: it makes the first field an unknown one.
        """
        assert feed_all_ways(BOM + BOM + b"data: x\ndata: y\n\n").events == [message("y")]

    @pytest.mark.parametrize("line", [b"\n", b"\r", b"\r\n", b":\n", b"data: a\n"], ids=repr)
    def test_on_a_later_line(self, line: bytes) -> None:
        """
        A byte order mark after a line end is text.
        """
        assert data_of(line + BOM + b"data: x\ndata: y\n\n") == ["a\ny" if b"data" in line else "y"]

    def test_in_a_value(self) -> None:
        """
        A byte order mark in data is delivered.
        """
        assert data_of(b"data:" + BOM + b"x" + BOM + b"\ndata: " + BOM + b"\n\n") == ["\ufeffx\ufeff\n\ufeff"]

    @pytest.mark.parametrize("part", [b"\xef", b"\xef\xbb", b"\xef\xbb\xbe", b"\xfe\xff", b"\xff\xfe"])
    def test_parts_and_other_encodings(self, part: bytes) -> None:
        """
        A part of a byte order mark, or that of another encoding, is text.
        """
        assert data_of(part + b"data: x\ndata: y\n\n") == ["y"]


class FieldTests:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (b"data", ""),
            (b"data:", ""),
            (b"data: ", ""),
            (b"data:  ", " "),
            (b"data:x", "x"),
            (b"data: x", "x"),
            (b"data:  x", " x"),
            (b"data:\tx", "\tx"),
            (b"data: x ", "x "),
            (b"data::x", ":x"),
            (b"data: a: b", "a: b"),
            (b"data: data: x", "data: x"),
            (b"data\ndata", "\n"),
            (b"data\ndata: \ndata:", "\n\n"),
            (b"data: a\ndata\ndata: b", "a\n\nb"),
            (b"data: a\ndata: b\ndata:", "a\nb\n"),
            (b"data: a\nevent: e\ndata: b\nid: 1\n: c\ndata:d", "a\nb\nd"),
        ],
    )
    def test_data(self, lines: bytes, expected: str) -> None:
        """
        The data of an event is the values of its data lines, without one leading space each, joined by LF.
        """
        assert data_of(lines + b"\n\n") == [expected]

    @pytest.mark.parametrize(
        "line",
        [
            *b"Data: x|DATA: x|dat: x|data2: x|datax| data: x|data : x|\tdata: x|data\0: x|d\xff: x".split(
                b"|"
            ),
            *b"x|x: data: y| | : x|\0|\xc3\xa9: x|: x|:|::|:data: x|: data: x|:\xff".split(b"|"),
        ],
    )
    def test_comments_and_unknown_fields(self, line: bytes) -> None:
        """
        A comment, or a field with an unknown name, dispatches no event and changes none.
        """
        assert feed_all_ways(line + b"\n\n") == ([], "", None, False)
        assert data_of(b"%b\ndata: a\n%b\ndata: b\n%b\n\n" % (line, line, line)) == ["a\nb"]

    @pytest.mark.parametrize("line", [b"Event: e", b"ID: 5", b"Id: 5", b"Retry: 5", b"event : e", b" id: 5"])
    def test_case_and_spaces_of_the_others(self, line: bytes) -> None:
        """
        Field names are compared with case and spaces.
        """
        assert feed_all_ways(line + b"\ndata: x\n\n") == ([message("x")], "", None, False)

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (b"event: e", "e"),
            (b"event:e", "e"),
            (b"event:  e ", " e "),
            (b"event: a: b", "a: b"),
            (b"event: \0", "\0"),
            (b"event: a\nevent: b", "b"),
            (b"event: a\nevent", "message"),
            (b"event: a\nevent:", "message"),
            (b"event: a\nevent: ", "message"),
            (b"event", "message"),
            (b"event: message", "message"),
        ],
    )
    def test_event(self, lines: bytes, expected: str) -> None:
        """
        The last type of a block counts, before or after its data; an empty one means ``message``.
        """
        for block in (lines + b"\ndata: x\n\n", b"data: x\n" + lines + b"\n\n"):
            assert feed_all_ways(block).events == [ServerSentEvent("x", expected, "")]

    def test_event_in_a_block_without_data(self) -> None:
        """
        A block without data dispatches no event, and its type does not apply to the next.
        """
        assert feed_all_ways(b"event: e\n\ndata: x\n\n").events == [message("x")]

    def test_event_of_the_block_before(self) -> None:
        """
        A type applies to one event only.
        """
        events = feed_all_ways(b"event: e\ndata: x\n\ndata: y\n\n").events
        assert [event.event for event in events] == ["e", "message"]

    @pytest.mark.parametrize(
        "rest",
        [
            *b"|d|data|data: x|data: x\n|data: x\r|data: x\r\n|data: x\ndata: y\n".split(b"|"),
            *b"event: e\ndata: x\n:\n|id: 5\ndata: x\n|id: 5\n|id: 5|retry: 5".split(b"|"),
        ],
    )
    def test_unfinished_at_the_end(self, rest: bytes) -> None:
        """
        A block without a blank line at the end of the stream is dropped, and so is a line without an end.
        """
        assert feed_all_ways(b"id: 1\ndata: done\n\n" + rest) == ([message("done", "1")], "1", None, False)


class LastEventIdTests:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (b"id: 5", "5"),
            (b"id:5", "5"),
            (b"id:  5 ", " 5 "),
            (b"id: a:b", "a:b"),
            ("id: é\u2028".encode(), "é\u2028"),
            (b"id: 4\nid: 5", "5"),
            (b"id", ""),
            (b"id:", ""),
            (b"id: ", ""),
            (b"id: 5\nid", ""),
            (b"id: 5\nid: \0", "5"),
            (b"id: 5\nid: 6\0", "5"),
            (b"id: 5\nid: \x006", "5"),
            (b"id: \x006\nid: 5", "5"),
        ],
    )
    def test_in_a_block(self, lines: bytes, expected: str) -> None:
        """
        The last id of a block counts, before or after its data; an id with a NUL is ignored.
        """
        for block in (lines + b"\ndata: x\n\n", b"data: x\n" + lines + b"\n\n"):
            assert feed_all_ways(b"id: before\n\n" + b"id:\n" + block) == (
                [message("x", expected)],
                expected,
                None,
                False,
            )

    def test_with_nul_only(self) -> None:
        """
        An id with a NUL leaves the previous one in force.
        """
        outcome = feed_all_ways(b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n")
        assert outcome.events == [message("a", "1"), message("b", "1")]
        assert outcome.last_event_id == "1"

    def test_later_events(self) -> None:
        """
        An id also applies to later events without an id.
        """
        outcome = feed_all_ways(b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\ndata: d\n\nid\ndata: e\n\n")
        assert [event.id for event in outcome.events] == ["", "1", "1", "2", ""]
        assert outcome.last_event_id == ""

    def test_block_without_data(self) -> None:
        """
        An id in a block without data dispatches no event, and applies to later events.
        """
        assert feed_all_ways(b"id: 1\n\n") == ([], "1", None, False)
        assert feed_all_ways(b"id: 1\n\ndata: x\n\n").events == [message("x", "1")]

    def test_unfinished_block(self) -> None:
        """
        An id takes effect at the blank line of its block, so that a client resumes before an unfinished
        block.
        """
        parser = EventStreamParser()
        for chunk, expected in [
            (b"id: 1\n", ""),
            (b"data: x\n", ""),
            (b"\n", "1"),
            (b"id: 2\r", "1"),
            (b"\n", "1"),
            (b": still open\n", "1"),
            (b"\r", "2"),
            (b"\nid\n", "2"),
            (b"\n", ""),
        ]:
            parser.feed(chunk)
            assert parser.last_event_id == expected, chunk

    def test_initial_id(self) -> None:
        """
        A parser that continues another stream begins with its last event ID.
        """
        assert EventStreamParser(last_event_id="7").last_event_id == "7"
        assert feed_all_ways(b"data: x\n\nid: 8\n\n", last_event_id="7") == (
            [message("x", "7")],
            "8",
            None,
            False,
        )
        assert feed_all_ways(b"\n: x\n\n", last_event_id="7").last_event_id == "7"
        assert feed_all_ways(b"id\ndata: x\n\n", last_event_id="7").events == [message("x")]


class RetryTests:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b": 5000", 5.0),
            (b":5000", 5.0),
            (b": 0", 0.0),
            (b": 1", 0.001),
            (b": 0010", 0.01),
            (b": 999999999999999", 999999999999.999),
            (b": " + b"0" * 5000, 0.0),
            (b": " + b"0" * 5000 + b"7", 0.007),
        ],
        ids=lambda value: repr(value)[:12],
    )
    def test_digits(self, value: bytes, seconds: float) -> None:
        """
        ASCII digits are a number of milliseconds, with or without leading zeros.
        """
        lines = b"retry%b\ndata: x\n\n" % value
        assert feed([lines]) == feed(in_bytes(lines))
        assert feed([lines]) == ([ServerSentEvent("x", "message", "", seconds)], "", seconds, False)

    @pytest.mark.parametrize("digits", [16, 400, 4300, 4301, 100_000])
    @pytest.mark.parametrize("digit", [b"1", b"9"])
    def test_too_many_digits(self, digit: bytes, digits: int) -> None:
        """
        A retry time of any number of digits is capped at a time that is legal in an event.
        """
        parser = EventStreamParser()
        assert parser.feed(b"retry: %b\n" % (digit * digits)) == []
        assert parser.retry is not None
        assert parser.retry >= 999_999_999_999
        assert ServerSentEvent(retry=parser.retry).retry == parser.retry

    @pytest.mark.parametrize(
        "value",
        [
            *"+5|-5|5.0|5s|s5|5 | 5|\t5|5\t|5_000|1e3|0x5|5,0|5\0|\0|inf|NaN|5:5|".split("|"),
            *"٣|５|²|௩|5٣|é|\ufeff5|5\x0b|5\x85|5\u2028".split("|"),
        ],
        ids=ascii,
    )
    def test_not_digits(self, value: str) -> None:
        """
        A retry value that is not only ASCII digits is ignored.
        """
        stream = f"retry: 1\n\nretry: {value}\ndata: x\n\n".encode()
        assert feed_all_ways(stream) == ([message("x")], "", 0.001, False)

    @pytest.mark.parametrize("line", [b"retry", b"retry:", b"retry: ", b"retry:  5", b"retry: \xb2"])
    def test_no_value(self, line: bytes) -> None:
        """
        A retry field without digits, or with digits after a second space, is ignored.
        """
        assert feed_all_ways(line + b"\n\n").retry is None

    def test_effect_at_the_line_end(self) -> None:
        """
        A retry time takes effect at the end of its line, also in a block without data.
        """
        parser = EventStreamParser()
        assert parser.retry is None
        parser.feed(b"retry: 5000")
        assert parser.retry is None
        parser.feed(b"\r")
        assert parser.retry == 5
        parser.feed(b"\nretry: 6000\nretry: x\n")
        assert parser.retry == 6

    def test_on_events(self) -> None:
        """
        An event contains the last retry time of its own block; the parser keeps the last one of the stream.
        """
        outcome = feed_all_ways(
            b"retry: 1\n\ndata: a\n\nretry: 2\nretry: 3\ndata: b\nretry: x\n\ndata: c\n\n"
        )
        assert [event.retry for event in outcome.events] == [None, 0.003, None]
        assert outcome.retry == 0.003


class InvalidUtf8Tests:
    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=repr)
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"\xff", "�"),
            (b"\xffa\xfe", "�a�"),
            (b"\x80", "�"),
            (b"\xc3", "�"),
            (b"\xe2", "�"),
            (b"\xe2\x82", "�"),
            (b"\xf0\x9f\x98", "�"),
            (b"\xe2\x82a", "�a"),
            (b"\xe2\xe2\x82\xac", "�€"),
            (b"\xc0\xaf", "��"),
            (b"\xe0\x80\xaf", "���"),
            (b"\xed\xa0\x80", "���"),
            (b"\xf4\x90\x80\x80", "����"),
            (b"\xf8\x88\x80\x80\x80", "�����"),
        ],
    )
    def test_in_data(self, value: bytes, expected: str, end: bytes) -> None:
        """
        Invalid bytes in data become U+FFFD as in a browser, and never swallow a line end.
        """
        stream = end.join([b"data: " + value, b"data:" + value + b"x", b"", b""])
        assert data_of(stream) == [f"{expected}\n{expected}x"]

    def test_in_the_other_fields(self) -> None:
        """
        Invalid bytes in a type and an id become U+FFFD.
        """
        outcome = feed_all_ways(b"event: \xff\nid: \xe2\x82\ndata: x\n\n")
        assert outcome.events == [ServerSentEvent("x", "�", "�")]

    def test_no_surrogates(self) -> None:
        """
        Invalid bytes never decode to a surrogate, so that every parsed event can be encoded again.
        """
        for first in range(0x80, 0x100):
            (event,) = feed([b"data: %b\x80\xa0\n\n" % bytes([first])]).events
            assert ServerSentEvent(*event) == event

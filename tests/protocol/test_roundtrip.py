"""
Encoded events are received unchanged by the parser of txsse and, where they are correct, by those of other
packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from txsse.errors import NotOneEvent
from txsse.protocol.encoder import encode_comment, encode_event, encode_retry
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser

try:
    import httpx
    import httpx_sse
except ImportError:
    httpx_sse = None  # type: ignore[assignment]
try:
    import sseclient
except ImportError:
    sseclient = None  # type: ignore[assignment]

every = settings(derandomize=True, deadline=None, max_examples=100)

# Characters that some parser has treated specially; twice, so that they are drawn often.
AWKWARD = list("\0\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f \x7f\x85\xa0\u2028\u2029\ufeff\ufffd:é😀")


def texts(exclude: str = "") -> st.SearchStrategy[str]:
    """
    Draw any text that has a UTF-8 form, without the excluded characters.
    """
    awkward = st.sampled_from([character for character in AWKWARD if character not in exclude])
    characters = st.characters(codec="utf-8", exclude_characters=exclude)
    words = st.sampled_from(
        ["\r\n", "data: ", "data", ":", ": ", "id: 1", "\n\n", "\r\r", "event", "retry: 1"]
    )
    if exclude:
        words = words.filter(lambda word: not set(word) & set(exclude))
    return st.lists(st.one_of(awkward, characters, words), max_size=8).map("".join)


def types() -> st.SearchStrategy[str | None]:
    """
    Draw any legal type, or none.
    """
    return st.none() | texts("\r\n")


def ids() -> st.SearchStrategy[str | None]:
    """
    Draw any legal id, or none.
    """
    return st.none() | texts("\r\n\0")


def retries() -> st.SearchStrategy[float | None]:
    """
    Draw a reconnection time that 15 digits of milliseconds can represent, or none.
    """
    return st.none() | st.floats(0, 999_999_999_999.999) | st.integers(0, 999_999_999_999) | st.floats(0, 10)


def events() -> st.SearchStrategy[ServerSentEvent]:
    """
    Draw any legal event.
    """
    return st.builds(ServerSentEvent, texts(), types(), ids(), retries())


def one_line_end(text: str) -> str:
    """
    Convert each line end to LF, as the parser does.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n")


def milliseconds(retry: float | None) -> int | None:
    """
    Round a time to milliseconds, as the encoder does.
    """
    return None if retry is None else round(retry * 1000)


def fields(event: ServerSentEvent, id: str) -> tuple[str, str, str, int | None]:
    """
    Return the fields of an event as received after a given last event ID.
    """
    current = id if event.id is None else event.id
    return one_line_end(event.data), event.event or "message", current, milliseconds(event.retry)


def fields_of_all(sent: list[ServerSentEvent]) -> list[tuple[str, str, str, int | None]]:
    """
    Return the fields of the events of one stream as received: an id applies until the next one.
    """
    expected = []
    id = ""
    for event in sent:
        expected.append(fields(event, id))
        id = expected[-1][2]
    return expected


def ours(chunks: list[bytes]) -> list[tuple[str, str, str, int | None]]:
    """
    Parse with the parser of txsse.
    """
    parser = EventStreamParser()
    received = [event for chunk in chunks for event in parser.feed(chunk)]
    return [(event.data, event.event or "", event.id or "", milliseconds(event.retry)) for event in received]


def cut(stream: bytes, places: list[float]) -> list[bytes]:
    """
    Cut a stream at some fractions of its length.
    """
    cuts = sorted(int(place * len(stream)) for place in places)
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


def places() -> st.SearchStrategy[list[float]]:
    """
    Draw places to cut at.
    """
    return st.lists(st.floats(0, 1), max_size=4)


class OurParserTests:
    @every
    @given(events())
    def test_one_event(self, event: ServerSentEvent) -> None:
        """
        Any event is received with LF for its line ends, its type or ``message``, its id, and its time in
        milliseconds.
        """
        parser = EventStreamParser()
        (received,) = parser.feed(encode_event(event))
        assert ours([encode_event(event)]) == [fields(event, "")]
        assert parser.last_event_id == received.id
        assert parser.retry == received.retry

    @every
    @given(events(), events(), places())
    def test_two_encodings_together(
        self, first: ServerSentEvent, second: ServerSentEvent, at: list[float]
    ) -> None:
        """
        Any two encoded events in a row are received as two events, however the stream is cut.
        """
        stream = encode_event(first) + encode_event(second)
        assert ours([stream]) == ours(cut(stream, at)) == fields_of_all([first, second])

    @every
    @given(events())
    def test_encoded_again(self, event: ServerSentEvent) -> None:
        """
        A received event can be encoded again, and is received unchanged.
        """
        (received,) = EventStreamParser().feed(encode_event(event))
        assert ServerSentEvent(*received) == received
        assert EventStreamParser().feed(encode_event(received)) == [received]

    @every
    @given(texts(), texts(), events())
    def test_comments_around(self, before: str, after: str, event: ServerSentEvent) -> None:
        """
        A comment before or after an event does not change it, and is not an event.
        """
        stream = encode_comment(before) + encode_event(event) + encode_comment(after)
        assert ours([stream]) == [fields(event, "")]

    @every
    @given(st.lists(events(), min_size=1, max_size=3), st.integers(10, 40))
    def test_many(self, few: list[ServerSentEvent], times: int) -> None:
        """
        Many events that are parsed in bulk are received like single ones.
        """
        sent = few * times
        assert ours([b"".join(map(encode_event, sent))]) == fields_of_all(sent)

    @every
    @given(st.integers(0, 999_999_999_999_999))
    @example(999_999_999_999_999)
    def test_every_millisecond(self, time: int) -> None:
        """
        Any reconnection time of whole milliseconds is received unchanged.
        """
        parser = EventStreamParser()
        parser.feed(encode_retry(time / 1000))
        assert parser.retry == time / 1000

    @pytest.mark.parametrize("time", [10**15 - 1, 10**15])
    def test_longest_times(self, time: int) -> None:
        """
        The longest reconnection times of an event are received.
        """
        (received,) = EventStreamParser().feed(encode_event(ServerSentEvent(retry=time / 1000)))
        assert milliseconds(received.retry) == time


def by_httpx_sse(chunks: list[bytes]) -> Iterator[tuple[str, str, str, int | None]]:
    """
    Parse with httpx-sse, through a response of httpx.
    """
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter(chunks))
    for event in httpx_sse.EventSource(response).iter_sse():
        yield event.data, event.event, event.id, event.retry


@pytest.mark.skipif(httpx_sse is None, reason="needs httpx-sse: pip install httpx-sse httpx")
class ParseTests:
    @every
    @given(events())
    @example(ServerSentEvent("\r\n\r", "", "", 0.0004))
    def test_encoded(self, event: ServerSentEvent) -> None:
        """
        ``ServerSentEvent.parse`` returns the event that was encoded, with LF as line ends, the time in whole
        milliseconds, and no type for an empty one; encoded again, it is the same.
        """
        frame = encode_event(event)
        parsed = ServerSentEvent.parse(frame)
        expected = (one_line_end(event.data), event.event or None, event.id, milliseconds(event.retry))
        assert (parsed.data, parsed.event, parsed.id, milliseconds(parsed.retry)) == expected
        assert encode_event(parsed) == frame
        assert ServerSentEvent.parse(frame.decode()) == ServerSentEvent.parse(frame[:-1]) == parsed

    @every
    @given(
        st.lists(st.sampled_from(["data: a", "data", "event: b", "id: c", "id", "retry: 5", ": d", "", "x"])),
        st.sampled_from(["\n", "\r", "\r\n"]),
    )
    def test_same_as_the_parser_of_streams(self, lines: list[str], end: str) -> None:
        """
        ``ServerSentEvent.parse`` returns the event that ``EventStreamParser`` returns for the same text, or
        refuses the text.
        """
        text = end.join([*lines, "", ""])
        received = EventStreamParser().feed(text.encode())
        try:
            parsed = ServerSentEvent.parse(text)
        except NotOneEvent as refused:
            assert len(received) != 1 or "it has more lines" in str(refused)
        else:
            (event,) = received
            assert (event.data, event.retry) == (parsed.data, parsed.retry)
            assert (event.event, event.id) == (parsed.event or "message", parsed.id or "")


class HttpxSseTests:
    """
    httpx-sse 0.4.3.

    With the output of this encoder it has one fault: once an id is in force, it dispatches an event without
    data for every blank line after comments.
    """

    # Other faults concern bytes that the encoder never writes: it does not skip a byte order mark, dispatches
    # blocks that have an id, a type or a time but no data, and accepts "+5" and "٣" as times.

    @every
    @given(st.lists(events(), min_size=1, max_size=3), places())
    def test_events(self, sent: list[ServerSentEvent], at: list[float]) -> None:
        """
        The parser of httpx-sse receives any events.
        """
        stream = b"".join(map(encode_event, sent))
        assert list(by_httpx_sse(cut(stream, at))) == fields_of_all(sent)

    @every
    @given(texts(), events())
    def test_comments(self, comment: str, event: ServerSentEvent) -> None:
        """
        The parser of httpx-sse dispatches no event for a comment before an event.
        """
        stream = encode_comment(comment) + encode_event(event)
        assert list(by_httpx_sse([stream])) == [fields(event, "")]


def by_sseclient(chunks: list[bytes]) -> Iterator[tuple[str, str, str | None, str | None]]:
    """
    Parse with sseclient-py, as from a response in chunks.
    """
    for event in sseclient.SSEClient(iter(chunks)).events():
        yield event.data, event.event, event.id, event.retry


@pytest.mark.skipif(sseclient is None, reason="needs sseclient-py: pip install sseclient-py")
class SseclientTests:
    """
    sseclient-py 1.9.0.

    It reads the output of this encoder like the parser of txsse, except that an id does not apply to later
    events, and that times stay digits.
    """

    # Other faults concern bytes that the encoder never writes: it does not skip a byte order mark, keeps ids
    # with NUL and times that are not digits, dispatches an unfinished event at the end, raises for invalid
    # UTF-8, and does not recognise the end of a block where two line ends differ (LF CR LF, CR CR LF).

    @every
    @given(st.lists(events(), min_size=1, max_size=3), places())
    def test_events(self, sent: list[ServerSentEvent], at: list[float]) -> None:
        """
        The parser of sseclient-py receives any events.
        """
        stream = b"".join(map(encode_event, sent))
        expected = [
            (data, name, event.id, None if time is None else str(time))  # see the class
            for event, (data, name, _, time) in zip(sent, fields_of_all(sent), strict=True)
        ]
        assert list(by_sseclient(cut(stream, at))) == expected

    @every
    @given(texts(), texts(), events())
    def test_comments(self, before: str, after: str, event: ServerSentEvent) -> None:
        """
        The parser of sseclient-py dispatches no event for a comment.
        """
        stream = encode_comment(before) + encode_event(event) + encode_comment(after)
        assert [data for data, _, _, _ in by_sseclient([stream])] == [one_line_end(event.data)]

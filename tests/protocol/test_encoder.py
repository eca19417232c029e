"""
The bytes of encoded events, comments and reconnection times.
"""

from __future__ import annotations

from typing import Any

import pytest

from txsse.errors import InvalidField
from txsse.protocol.encoder import encode_comment, encode_event, encode_retry
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser


class Disguised(str):
    """
    A ``str`` with another ``str()``, such as a member of ``class Kind(str, Enum)`` since Python 3.11:
    ``f"{Kind.PRICE}"`` is ``Kind.PRICE``, whatever its value.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "other\nid: injected"


class EncodeEventTests:
    @pytest.mark.parametrize(
        ("data", "lines"),
        [
            ("", b"data: \n"),
            ("x", b"data: x\n"),
            (" x ", b"data:  x \n"),
            (":x", b"data: :x\n"),
            ("a\nb", b"data: a\ndata: b\n"),
            ("a\n", b"data: a\ndata: \n"),
            ("\na", b"data: \ndata: a\n"),
            ("\n", b"data: \ndata: \n"),
            ("\n\n", b"data: \ndata: \ndata: \n"),
            ("a\rb", b"data: a\ndata: b\n"),
            ("a\r\nb", b"data: a\ndata: b\n"),
            ("a\r\r\n\nb", b"data: a\ndata: \ndata: \ndata: b\n"),
            ("a\n\rb", b"data: a\ndata: \ndata: b\n"),
            ("é€😀", b"data: \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\n"),
            ("\ufeffx", b"data: \xef\xbb\xbfx\n"),
            ("a\n\nevent: b\nid: c", b"data: a\ndata: \ndata: event: b\ndata: id: c\n"),
        ],
    )
    def test_data(self, data: str, lines: bytes) -> None:
        """
        Each line of the data, also an empty last one, becomes a ``data:`` line; an empty line ends the block.
        """
        assert encode_event(ServerSentEvent(data)) == lines + b"\n"

    @pytest.mark.parametrize("character", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", ids=ascii)
    def test_other_line_ends_of_unicode(self, character: str) -> None:
        """
        Characters that only ``str.splitlines`` treats as line ends are encoded unchanged.
        """
        text = f"a{character}b"
        encoded = text.encode()
        event = ServerSentEvent(text, text, text)
        assert encode_event(event) == b"id: %b\nevent: %b\ndata: %b\n\n" % (encoded, encoded, encoded)

    def test_all_fields(self) -> None:
        """
        The other fields are encoded before the data, one line each.
        """
        event = ServerSentEvent("a\nb", "e", "i", 1.5)
        assert encode_event(event) == b"retry: 1500\nid: i\nevent: e\ndata: a\ndata: b\n\n"

    def test_empty_type(self) -> None:
        """
        An empty type is not encoded: it means ``message``, as no type does.
        """
        assert encode_event(ServerSentEvent("x", event="")) == b"data: x\n\n"

    def test_type_message(self) -> None:
        """
        A type is encoded, also the default one.
        """
        assert encode_event(ServerSentEvent("x", event="message")) == b"event: message\ndata: x\n\n"

    def test_empty_id(self) -> None:
        """
        An empty id is encoded, since it resets the client's last event ID; no id is not encoded.
        """
        assert encode_event(ServerSentEvent("x", id="")) == b"id: \ndata: x\n\n"
        assert encode_event(ServerSentEvent("x", id=None)) == b"data: x\n\n"

    def test_leading_space(self) -> None:
        """
        A value that begins with a space is preceded by another one, which a parser removes.
        """
        assert encode_event(ServerSentEvent(" d", " e", " i")) == b"id:  i\nevent:  e\ndata:  d\n\n"

    @pytest.mark.parametrize(
        ("seconds", "milliseconds"),
        [
            (0, b"0"),
            (0.0, b"0"),
            (-0.0, b"0"),
            (3, b"3000"),
            (0.001, b"1"),
            (0.0004, b"0"),
            (0.0006, b"1"),
            (0.29, b"290"),  # 0.29 * 1000 is 289.99999999999994
            (1.005, b"1005"),
            (1e9, b"1000000000000"),  # never in scientific notation
            (10**12, b"1000000000000000"),
        ],
    )
    def test_retry(self, seconds: float, milliseconds: bytes) -> None:
        """
        A reconnection time is encoded in whole milliseconds, rounded, in ASCII digits.
        """
        assert encode_event(ServerSentEvent("x", retry=seconds)) == b"retry: %b\ndata: x\n\n" % milliseconds

    @pytest.mark.parametrize("field", ["data", "event", "id"])
    def test_subclass_of_str(self, field: str) -> None:
        """
        For a subclass of str, the checked text is encoded, whatever its ``str()`` returns.
        """
        fields: Any = {field: Disguised("x")}
        (event,) = EventStreamParser().feed(encode_event(ServerSentEvent(**fields)))
        assert getattr(event, field) == "x"


class EncodeCommentTests:
    @pytest.mark.parametrize(
        ("text", "block"),
        [
            ("", b":\n\n"),
            ("x", b": x\n\n"),
            (" x", b":  x\n\n"),
            ("é", b": \xc3\xa9\n\n"),
            ("data: x", b": data: x\n\n"),
            ("a\nb", b": a\n: b\n\n"),
            ("a\rb", b": a\n: b\n\n"),
            ("a\r\nb", b": a\n: b\n\n"),
            ("a\n", b": a\n: \n\n"),
            ("\n", b": \n: \n\n"),
            ("a\n\ndata: x\n\n", b": a\n: \n: data: x\n: \n: \n\n"),
            ("a\u2028b\x85c", b": a\xe2\x80\xa8b\xc2\x85c\n\n"),
        ],
    )
    def test_block(self, text: str, block: bytes) -> None:
        """
        Each line of a comment becomes a comment line; an empty text gives the shortest comment.
        """
        assert encode_comment(text) == block

    @pytest.mark.parametrize(
        "text",
        ["", "x", "data: x", "\ndata: x", "\rdata: x\r\r", "\r\n\r\ndata: x\r\n\r\n", "x\n\nid: 9\n\n"],
    )
    def test_parsed(self, text: str) -> None:
        """
        No comment dispatches an event, sets an id or a retry time, or changes the events around it.
        """
        before = encode_event(ServerSentEvent("a", "e", "1", 2))
        after = encode_event(ServerSentEvent("b"))
        parser = EventStreamParser()
        events = parser.feed(before + encode_comment(text) + after)
        assert events == [("a", "e", "1", 2.0), ("b", "message", "1", None)]
        assert (parser.last_event_id, parser.retry) == ("1", 2.0)

    def test_lone_surrogate(self) -> None:
        """
        A comment with a lone surrogate, which has no UTF-8 form, is rejected.
        """
        with pytest.raises(InvalidField, match=r"^comment: "):
            encode_comment("\ud800")

    @pytest.mark.parametrize("value", [b"x", None, 1])
    def test_of_another_type(self, value: object) -> None:
        """
        A comment that is not a str is rejected.
        """
        with pytest.raises(TypeError, match=r"^comment must be str"):
            encode_comment(value)  # type: ignore[arg-type]

    def test_subclass_of_str(self) -> None:
        """
        For a comment of a subclass of str, the checked text is encoded.
        """
        assert encode_comment(Disguised("x")) == b": x\n\n"


class EncodeRetryTests:
    @pytest.mark.parametrize(("seconds", "block"), [(0, b"retry: 0\n\n"), (2.5, b"retry: 2500\n\n")])
    def test_block(self, seconds: float, block: bytes) -> None:
        """
        An encoded reconnection time sets the time and dispatches no event.
        """
        assert encode_retry(seconds) == block
        parser = EventStreamParser()
        assert parser.feed(block) == []
        assert parser.retry == seconds

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
    def test_out_of_range(self, seconds: float) -> None:
        """
        A reconnection time that is negative or not finite is rejected.
        """
        with pytest.raises(InvalidField, match=r"^retry: "):
            encode_retry(seconds)

    def test_of_another_type(self) -> None:
        """
        A reconnection time of True is rejected.
        """
        with pytest.raises(TypeError):
            encode_retry(True)

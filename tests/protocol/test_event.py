"""
``ServerSentEvent``: legal values are accepted, and illegal values rejected by every way to build an event.
"""

from __future__ import annotations

import copy
import math
import pickle
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from txsse.errors import InvalidField, NotOneEvent, SSEError
from txsse.protocol.encoder import encode_comment, encode_event
from txsse.protocol.event import ServerSentEvent, check_text, parsed_event, parsed_events
from txsse.protocol.parser import EventStreamParser

# C0, DEL and C1, and the three others that some parser treats as a line end or ignores.
CONTROLS = [chr(code) for code in [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF]]
LINE_ENDS = "\r\n"
SURROGATES = ["\ud800", "\udbff", "\udc00", "\udfff"]

MAX_RETRY = 10**12

every_control = pytest.mark.parametrize("control", CONTROLS, ids=lambda text: f"U+{ord(text):04X}")
PLACES = ["{}", "{}b", "a{}", "a{}b", "é{}{}ü"]


def illegal(data: str = "", event: Any = None, id: Any = None, retry: Any = None) -> ServerSentEvent:
    """
    Build an event without checks, as only this module and the parser can.
    """
    return parsed_event(data, event, id, retry)


def built(*values: Any, **fields: Any) -> ServerSentEvent:
    """
    Build an event from fields whose names are known only at run time.
    """
    return ServerSentEvent(*values, **fields)


def received(event: ServerSentEvent) -> ServerSentEvent:
    """
    Return the event that the parser receives from the encoder.
    """
    (arrived,) = EventStreamParser().feed(encode_event(event))
    return arrived


class ServerSentEventTests:
    def test_defaults(self) -> None:
        """
        An event without arguments has empty data and no other field.
        """
        event = ServerSentEvent()
        assert (event.data, event.event, event.id, event.retry) == ("", None, None, None)

    def test_by_position_and_by_name(self) -> None:
        """
        The fields of an event can be given by position and by name.
        """
        event = ServerSentEvent("d", "e", "i", 1.5)
        assert event == ServerSentEvent(retry=1.5, id="i", event="e", data="d")
        assert (event.data, event.event, event.id, event.retry) == ("d", "e", "i", 1.5)

    @pytest.mark.parametrize("name", ["data", "event", "id", "retry", "other"])
    def test_immutable(self, name: str) -> None:
        """
        An event is immutable, and has no other attributes.
        """
        with pytest.raises(AttributeError):
            setattr(ServerSentEvent("x"), name, "y")

    def test_equal_and_hashable(self) -> None:
        """
        Events with equal fields are equal, and hashable.
        """
        assert len({ServerSentEvent("x", id="1"), ServerSentEvent("x", id="1"), ServerSentEvent("x")}) == 2

    @pytest.mark.parametrize("field", ["data", "event", "id"])
    @pytest.mark.parametrize("value", [b"x", 1, 1.5, True, ["x"]])
    def test_field_of_another_type(self, field: str, value: Any) -> None:
        """
        A text field that is not a str is rejected, and the error names the field and the type.
        """
        with pytest.raises(TypeError, match=f"^{field} must be str, not {type(value).__name__}$"):
            built(**{field: value})

    def test_data_none(self) -> None:
        """
        None is rejected as data.
        """
        with pytest.raises(TypeError, match=r"^data must be str, not NoneType$"):
            ServerSentEvent(None)  # type: ignore[arg-type]


class EveryControlCharacterTests:
    """
    Each control character in each field: rejected where it would break the format, otherwise delivered
    unchanged.
    """

    @every_control
    def test_in_data(self, control: str) -> None:
        """
        Data may contain every control character; only line ends change, to LF.
        """
        for place in PLACES:
            data = place.format(control, control)
            expected = data.replace("\r", "\n")
            assert received(ServerSentEvent(data)) == (expected, "message", "", None)

    @pytest.mark.parametrize("data", ["\r\n", "a\r\n", "\r\nb", "a\r\nb", "a\r\n\r\nb", "a\r\r\nb", "a\n\rb"])
    def test_cr_lf_in_data(self, data: str) -> None:
        """
        CR LF in data is one line end, and is delivered as one LF.
        """
        assert received(ServerSentEvent(data)).data == data.replace("\r\n", "\n").replace("\r", "\n")

    @every_control
    @pytest.mark.parametrize("field", ["event", "id"])
    def test_in_event_and_id(self, field: str, control: str) -> None:
        """
        A line end in a type or an id, and a NUL in an id, is rejected with field, position and character;
        others are delivered.
        """
        for place in PLACES:
            value = place.format(control, control)
            if control in LINE_ENDS or (field == "id" and control == "\0"):
                with pytest.raises(InvalidField) as caught:
                    built("x", **{field: value})
                error = caught.value
                assert (error.field, error.position, error.character) == (
                    field,
                    value.index(control),
                    control,
                )
            else:
                event = received(built("x", **{field: value}))
                assert getattr(event, field) == value
                assert event.data == "x"

    @every_control
    def test_in_a_comment(self, control: str) -> None:
        """
        A comment may contain every control character, and never becomes an event or changes one.
        """
        for place in PLACES:
            text = place.format(control, control)
            comment = encode_comment(text)
            if control in LINE_ENDS:
                assert comment == b": %b\n\n" % text.replace(control, "\n: ").encode()
            else:
                assert comment == b": %b\n\n" % text.encode()
            parser = EventStreamParser()
            assert parser.feed(comment + encode_event(ServerSentEvent("x"))) == [("x", "message", "", None)]
            assert (parser.last_event_id, parser.retry) == ("", None)


class InvalidFieldTests:
    @pytest.mark.parametrize("surrogate", SURROGATES, ids=ascii)
    @pytest.mark.parametrize("field", ["data", "event", "id"])
    def test_lone_surrogate(self, field: str, surrogate: str) -> None:
        """
        A lone surrogate, which has no UTF-8 form, is rejected in every field.
        """
        for place in PLACES:
            value = place.format(surrogate, surrogate)
            with pytest.raises(InvalidField) as caught:
                built(**{field: value})
            error = caught.value
            assert (error.field, error.position, error.character) == (
                field,
                value.index(surrogate),
                surrogate,
            )

    def test_surrogate_pair(self) -> None:
        """
        Two surrogates are rejected, and not joined to one character.
        """
        with pytest.raises(InvalidField) as caught:
            ServerSentEvent("a\ud83d\ude00")
        assert (caught.value.position, caught.value.character) == (1, "\ud83d")

    def test_lone_surrogate_in_a_comment(self) -> None:
        """
        A lone surrogate in a comment is rejected when the comment is encoded.
        """
        with pytest.raises(InvalidField) as caught:
            encode_comment("ab\udc00")
        assert (caught.value.field, caught.value.position, caught.value.character) == ("comment", 2, "\udc00")

    def test_characters_beyond_the_bmp(self) -> None:
        """
        Characters beyond the BMP are delivered in every field.
        """
        assert received(ServerSentEvent("😀", "😀", "😀")) == ("😀", "😀", "😀", None)

    @pytest.mark.parametrize(
        ("value", "where"),
        [
            ("ab\ncd", r"id: U\+000A \(line feed\) at position 2 "),
            ("\r\n", r"id: U\+000D \(carriage return\) at position 0 "),
            ("a\0", r"id: U\+0000 \(null\) at position 1 "),
            ("\ud800", r"id: U\+D800 at position 0 "),
        ],
    )
    def test_message(self, value: str, where: str) -> None:
        """
        The error message of an illegal character contains field, code point, name and position.
        """
        with pytest.raises(InvalidField, match=f"^{where}"):
            ServerSentEvent(id=value)

    def test_unicode_name(self) -> None:
        """
        The error message contains the Unicode name of the character.
        """
        error = InvalidField("comment", "is not allowed", position=7, character="\u2028")
        assert str(error) == "comment: U+2028 (LINE SEPARATOR) at position 7 is not allowed"

    def test_error_classes(self) -> None:
        """
        The error for an illegal field is an SSEError and a ValueError.
        """
        with pytest.raises(SSEError):
            ServerSentEvent(event="\n")
        with pytest.raises(ValueError, match="event"):
            ServerSentEvent(event="\n")

    def test_several_illegal_fields(self) -> None:
        """
        Of several illegal fields, the error names the first.
        """
        with pytest.raises(InvalidField) as caught:
            ServerSentEvent("fine", "fine", "a\nb", -1)
        assert caught.value.field == "id"

    @pytest.mark.parametrize("text", ["plain", "\n", "\r", "\0", "é\u2028"])
    def test_check_text_without_a_pattern(self, text: str) -> None:
        """
        Without a pattern of illegal characters, check_text rejects only surrogates.
        """
        check_text("comment", text)


class RetryTests:
    @pytest.mark.parametrize("retry", [0, 0.0, -0.0, 1, 0.001, 2.5, 3600, 10**9, MAX_RETRY])
    def test_legal(self, retry: float) -> None:
        """
        A retry time from 0 to 10**12 seconds is accepted unchanged.
        """
        assert ServerSentEvent(retry=retry).retry == retry

    @pytest.mark.parametrize(
        "retry",
        [
            *[-1, -0.001, -5e-324, -(10**400)],
            *[math.nan, math.inf, -math.inf],
            *[math.nextafter(MAX_RETRY, math.inf), 2**53, 1e300, 10**400],
        ],
        ids=lambda retry: repr(retry)[:12],
    )
    def test_out_of_range(self, retry: float) -> None:
        """
        A retry time that is negative, not finite or too large is rejected without a position.
        """
        with pytest.raises(InvalidField, match=r"^retry: ") as caught:
            ServerSentEvent(retry=retry)
        assert (caught.value.field, caught.value.position, caught.value.character) == ("retry", None, None)

    @pytest.mark.parametrize("retry", [10**5000, -(10**5000)], ids=["positive", "negative"])
    def test_more_digits_than_python_prints(self, retry: int) -> None:
        """
        A retry time with more digits than Python prints is rejected like any other.
        """
        with pytest.raises(InvalidField):
            ServerSentEvent(retry=retry)

    @pytest.mark.parametrize("retry", [True, False, "1", b"1", 1j, [1], Fraction(1, 2)], ids=repr)
    def test_of_another_type(self, retry: Any) -> None:
        """
        A retry time that is not an int or a float is rejected; a bool is rejected too.
        """
        with pytest.raises(TypeError, match=f"^retry must be .*, not {type(retry).__name__}$"):
            ServerSentEvent(retry=retry)


ILLEGAL = [
    illegal("\ud800"),
    illegal(event="a\nb"),
    illegal(event="a\rb"),
    illegal(id="a\nid: b"),
    illegal(id="\0"),
    illegal(retry=-1.0),
    illegal(retry=math.nan),
]

COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy]


class OtherWaysToBuildTests:
    """
    Other ways to build a named tuple: each applies the same checks.
    """

    def test_make_from_legal_fields(self) -> None:
        """
        The method _make builds an event of the class that it is called on.
        """
        event = ServerSentEvent._make(["d", "e", "i", 2])
        assert type(event) is ServerSentEvent
        assert event == ("d", "e", "i", 2)

    @pytest.mark.parametrize("fields", ILLEGAL, ids=ascii)
    def test_make_from_illegal_fields(self, fields: ServerSentEvent) -> None:
        """
        The method _make rejects illegal fields.
        """
        with pytest.raises(InvalidField):
            ServerSentEvent._make(tuple(fields))

    def test_replace_by_a_legal_value(self) -> None:
        """
        The method _replace changes one field and keeps the others.
        """
        event = ServerSentEvent("d", "e", "i", 2)._replace(event="f")
        assert type(event) is ServerSentEvent
        assert event == ("d", "f", "i", 2)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("data", "\ud800"), ("event", "\n"), ("event", "\r"), ("id", "\n"), ("id", "\0"), ("retry", -1)],
    )
    def test_replace_by_an_illegal_value(self, field: str, value: Any) -> None:
        """
        The method _replace, and copy.replace where it exists, reject illegal fields.
        """
        event = ServerSentEvent("d", "e", "i", 2)
        with pytest.raises(InvalidField) as caught:
            event._replace(**{field: value})
        assert caught.value.field == field
        if sys.version_info >= (3, 13):
            with pytest.raises(InvalidField):
                copy.replace(event, **{field: value})

    @pytest.mark.parametrize("copied", COPIES)
    def test_copy_of_a_legal_event(self, copied: Callable[[Any], Any]) -> None:
        """
        A copy of an event is equal and of the same class.
        """
        event = ServerSentEvent("d", "e", "i", 2)
        assert copied(event) == event
        assert type(copied(event)) is ServerSentEvent

    @pytest.mark.parametrize("copied", COPIES)
    @pytest.mark.parametrize("event", ILLEGAL, ids=ascii)
    def test_copy_of_an_illegal_event(self, event: ServerSentEvent, copied: Callable[[Any], Any]) -> None:
        """
        An event with illegal fields that was built without checks cannot be copied.
        """
        with pytest.raises(InvalidField):
            copied(event)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle_of_a_legal_event(self, protocol: int) -> None:
        """
        An event can be pickled and unpickled.
        """
        event = ServerSentEvent("d", "e", "i", 2)
        loaded = pickle.loads(pickle.dumps(event, protocol))
        assert loaded == event
        assert type(loaded) is ServerSentEvent

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("event", ILLEGAL, ids=ascii)
    def test_pickle_of_an_illegal_event(self, event: ServerSentEvent, protocol: int) -> None:
        """
        A pickle with illegal fields cannot be unpickled.
        """
        pickled = pickle.dumps(event, protocol)
        with pytest.raises(InvalidField):
            pickle.loads(pickled)

    def test_subclass(self) -> None:
        """
        A subclass of ServerSentEvent keeps the checks and its own class.
        """

        class Price(ServerSentEvent):
            __slots__ = ()

        assert type(Price("1")._replace(data="2")) is Price
        with pytest.raises(InvalidField):
            Price("1")._replace(id="\n")


class ParseTests:
    @pytest.mark.parametrize(
        ("text", "event"),
        [
            ("data: x\n\n", ServerSentEvent("x")),
            ("data\n\n", ServerSentEvent("")),
            ("data:x\ndata:  y\ndata:\n\n", ServerSentEvent("x\n y\n")),
            ("event: a\nid: 7\nretry: 1500\ndata: x\n\n", ServerSentEvent("x", "a", "7", 1.5)),
            ("event\nid\nretry\ndata: x\n\n", ServerSentEvent("x", None, "", None)),
            ("event: message\ndata: x\n\n", ServerSentEvent("x", "message")),
            # The last field of a name counts. An ID with NUL, a wrong retry and unknown fields are ignored.
            ("id: 6\nid: 7\nid: a\0b\nx: y\ndata: x\n\n", ServerSentEvent("x", id="7")),
            ("retry: 1\nretry: -1\ndata: x\n\n", ServerSentEvent("x", retry=0.001)),
            ("retry: 9" + "9" * 5000 + "\ndata: x\n\n", ServerSentEvent("x", retry=10.0**12)),
            # Any line end, also mixed.
            ("event: a\rdata: x\r\ndata: y\n\r", ServerSentEvent("x\ny", "a")),
            ("data: \x85\u2028\x0b\n\n", ServerSentEvent("\x85\u2028\x0b")),
            # One byte order mark is removed.
            ("\ufeffdata: x\n\n", ServerSentEvent("x")),
            # Comments and empty lines around it.
            (": a\n\n\n: b\ndata: x\n: c\ndata: y\n\n\n: d\n\n:", ServerSentEvent("x\ny")),
            # The end may be missing.
            ("data: x\n", ServerSentEvent("x")),
            ("data: x\r", ServerSentEvent("x")),
            ("id: 7\ndata: x", ServerSentEvent("x", id="7")),
            ("data: x\nid: 7", ServerSentEvent("x", id="7")),
        ],
    )
    def test_one_event(self, text: str, event: ServerSentEvent) -> None:
        """
        The text of one event is parsed to the event, as ``str`` and as bytes; it has no type and no ID that
        the text does not have.
        """
        for given in (text, text.encode()):
            parsed = ServerSentEvent.parse(given)
            assert parsed == event
            assert [type(field) for field in parsed] == [type(field) for field in event]

    def test_datastar(self) -> None:
        """
        A text as ``datastar-py`` returns it, of a subclass of ``str``, is parsed.
        """

        class DatastarEvent(str):
            __slots__ = ()

        text = DatastarEvent("event: datastar-patch-elements\ndata: mode inner\ndata: elements <b>x</b>\n\n")
        parsed = ServerSentEvent.parse(text)
        assert parsed == ServerSentEvent("mode inner\nelements <b>x</b>", "datastar-patch-elements")
        assert encode_event(parsed).decode() == text
        assert type(ServerSentEvent.parse(DatastarEvent("data: x")).data) is str

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n\n",
            ": keep-alive\n\n",
            "id: 7\n\n",
            "event: ping\n\n",
            "retry: 1\n",
            "It works.",
            "Data: x",
        ],
    )
    def test_no_event(self, text: str) -> None:
        """
        A text without a data line, which clients would ignore, is refused with advice.
        """
        with pytest.raises(NotOneEvent, match=r"no line that begins with 'data:'.* ServerSentEvent\(text\)"):
            ServerSentEvent.parse(text)

    @pytest.mark.parametrize(
        "text",
        [
            "data: x\n\ndata: y\n\n",
            "data: x\r\rdata: y",
            "data: x\n\nid: 7\n\n",
            "retry: 1\n\ndata: x\n\n",
            "data: x\n\ndat",
            "x\n\ndata: x\n\n",
        ],
    )
    def test_several_blocks(self, text: str) -> None:
        """
        A text with more than one block of lines is refused, even if only one of them is an event: the other
        fields would be lost.
        """
        with pytest.raises(NotOneEvent, match=r"more lines after .* EventStreamParser") as caught:
            ServerSentEvent.parse(text)
        assert isinstance(caught.value, SSEError)
        assert isinstance(caught.value, ValueError)

    def test_invalid_utf8(self) -> None:
        """
        An invalid byte becomes U+FFFD, as in the parser of streams.
        """
        assert ServerSentEvent.parse(b"data: a\xffb\n\n") == ServerSentEvent("a\ufffdb")

    def test_lone_surrogate(self) -> None:
        """
        A text with a lone surrogate is refused with the name of the field.
        """
        with pytest.raises(InvalidField, match=r"id: U\+D800 at position 1"):
            ServerSentEvent.parse("data: x\nid: a\ud800\n\n")

    @pytest.mark.parametrize("text", [None, 7, bytearray(b"data: x\n\n"), ["data: x"], ServerSentEvent("x")])
    def test_of_another_type(self, text: Any) -> None:
        """
        A value that is neither ``str`` nor ``bytes`` is refused with an example.
        """
        with pytest.raises(TypeError, match=r"text must be str or bytes, such as 'data: 17\\n\\n', not"):
            ServerSentEvent.parse(text)

    def test_subclass(self) -> None:
        """
        A subclass of ``ServerSentEvent`` parses to its own class.
        """

        class Own(ServerSentEvent):
            __slots__ = ()

        assert type(Own.parse("data: x\n\n")) is Own


class ParsedEventTests:
    """
    The parser's constructors, which check nothing, because a stream cannot contain illegal values.
    """

    def test_one(self) -> None:
        """
        The function parsed_event builds one event from its four fields.
        """
        event = parsed_event("d", "e", "i", 2.0)
        assert type(event) is ServerSentEvent
        assert event == ServerSentEvent("d", "e", "i", 2.0)

    def test_many(self) -> None:
        """
        The function parsed_events builds events from a column for each field, without a retry time.
        """
        events = parsed_events(["a", "b"], ["e", "f"], ["1", "2"])
        assert events == [ServerSentEvent("a", "e", "1"), ServerSentEvent("b", "f", "2")]
        assert {type(event) for event in events} == {ServerSentEvent}

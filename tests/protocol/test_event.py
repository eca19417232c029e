"""
``ServerSentEvent``: what can be built, and that nothing else can.
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

from txsse.errors import InvalidField, SSEError
from txsse.protocol.encoder import encode_comment, encode_event
from txsse.protocol.event import ServerSentEvent, check_text, parsed_event, parsed_events
from txsse.protocol.parser import EventStreamParser

# C0, DEL and C1, and the three others that some parser takes for a line end or for nothing.
CONTROLS = [chr(code) for code in [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF]]
LINE_ENDS = "\r\n"
SURROGATES = ["\ud800", "\udbff", "\udc00", "\udfff"]

MAX_RETRY = 10**12

every_control = pytest.mark.parametrize("control", CONTROLS, ids=lambda text: f"U+{ord(text):04X}")
PLACES = ["{}", "{}b", "a{}", "a{}b", "é{}{}ü"]


def illegal(data: str = "", event: Any = None, id: Any = None, retry: Any = None) -> ServerSentEvent:
    """
    Build an event around its checks, as only this module and the parser's door can.
    """
    return parsed_event(data, event, id, retry)


def built(*values: Any, **fields: Any) -> ServerSentEvent:
    """
    Build an event from fields whose names are only known at run time.
    """
    return ServerSentEvent(*values, **fields)


def received(event: ServerSentEvent) -> ServerSentEvent:
    """
    Send one event through the encoder and the parser.
    """
    (arrived,) = EventStreamParser().feed(encode_event(event))
    return arrived


class ServerSentEventTests:
    def test_nothing_given(self) -> None:
        """
        All fields have defaults: no text, and nothing said about the rest.
        """
        event = ServerSentEvent()
        assert (event.data, event.event, event.id, event.retry) == ("", None, None, None)

    def test_by_position_and_by_name(self) -> None:
        """
        The fields have one order and the names of the design.
        """
        event = ServerSentEvent("d", "e", "i", 1.5)
        assert event == ServerSentEvent(retry=1.5, id="i", event="e", data="d")
        assert (event.data, event.event, event.id, event.retry) == ("d", "e", "i", 1.5)

    @pytest.mark.parametrize("name", ["data", "event", "id", "retry", "other"])
    def test_assigned_to(self, name: str) -> None:
        """
        An event is immutable, and has no place for other attributes.
        """
        with pytest.raises(AttributeError):
            setattr(ServerSentEvent("x"), name, "y")

    def test_equal_and_hashable(self) -> None:
        """
        Events are equal by their fields, and can be kept in a set.
        """
        assert len({ServerSentEvent("x", id="1"), ServerSentEvent("x", id="1"), ServerSentEvent("x")}) == 2

    @pytest.mark.parametrize("field", ["data", "event", "id"])
    @pytest.mark.parametrize("value", [b"x", 1, 1.5, True, ["x"]])
    def test_text_of_another_type(self, field: str, value: Any) -> None:
        """
        A text field takes ``str`` alone; the error names the field and the type.
        """
        with pytest.raises(TypeError, match=f"^{field} must be str, not {type(value).__name__}$"):
            built(**{field: value})

    def test_data_none(self) -> None:
        """
        ``None`` is no text; only the optional fields take it.
        """
        with pytest.raises(TypeError, match=r"^data must be str, not NoneType$"):
            ServerSentEvent(None)  # type: ignore[arg-type]


class EveryControlCharacterTests:
    """
    Each control character in each field: refused where the format has no place for it, otherwise it
    arrives as it was sent.
    """

    @every_control
    def test_in_data(self, control: str) -> None:
        """
        Data takes every character; only line ends change, to LF.
        """
        for place in PLACES:
            data = place.format(control, control)
            expected = data.replace("\r", "\n")
            assert received(ServerSentEvent(data)) == (expected, "message", "", None)

    @pytest.mark.parametrize("data", ["\r\n", "a\r\n", "\r\nb", "a\r\nb", "a\r\n\r\nb", "a\r\r\nb", "a\n\rb"])
    def test_cr_lf_in_data(self, data: str) -> None:
        """
        CR LF is one line end, and arrives as one LF.
        """
        assert received(ServerSentEvent(data)).data == data.replace("\r\n", "\n").replace("\r", "\n")

    @every_control
    @pytest.mark.parametrize("field", ["event", "id"])
    def test_in_event_and_id(self, field: str, control: str) -> None:
        """
        A type and an id take every character but line ends, and an id no NUL either; the error tells
        the field, the position and the character.
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
        A comment takes every character, and with any of them it is no event and touches none.
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
        A lone surrogate has no UTF-8 form, so no field takes one.
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

    def test_surrogates_that_look_like_a_pair(self) -> None:
        """
        Two surrogates are two, in Python: they are refused, not joined.
        """
        with pytest.raises(InvalidField) as caught:
            ServerSentEvent("a\ud83d\ude00")
        assert (caught.value.position, caught.value.character) == (1, "\ud83d")

    def test_lone_surrogate_in_a_comment(self) -> None:
        """
        A comment, which has no value of its own, is checked when it is encoded.
        """
        with pytest.raises(InvalidField) as caught:
            encode_comment("ab\udc00")
        assert (caught.value.field, caught.value.position, caught.value.character) == ("comment", 2, "\udc00")

    def test_characters_beyond_the_bmp(self) -> None:
        """
        What is no surrogate in Python, however UTF-16 writes it, is fine in every field.
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
        The message alone is enough to find the character: field, code point, name and position.
        """
        with pytest.raises(InvalidField, match=f"^{where}"):
            ServerSentEvent(id=value)

    def test_name_from_the_character_database(self) -> None:
        """
        A character that Unicode has named is told by that name.
        """
        error = InvalidField("comment", "is not allowed", position=7, character="\u2028")
        assert str(error) == "comment: U+2028 (LINE SEPARATOR) at position 7 is not allowed"

    def test_caught_as(self) -> None:
        """
        An illegal field is an error of txsse, and a ValueError for those who do not know it.
        """
        with pytest.raises(SSEError):
            ServerSentEvent(event="\n")
        with pytest.raises(ValueError, match="event"):
            ServerSentEvent(event="\n")

    def test_the_fields_in_their_order(self) -> None:
        """
        Of several illegal fields, the first is told.
        """
        with pytest.raises(InvalidField) as caught:
            ServerSentEvent("fine", "fine", "a\nb", -1)
        assert caught.value.field == "id"

    @pytest.mark.parametrize("text", ["plain", "\n", "\r", "\0", "é\u2028"])
    def test_check_text_without_a_pattern(self, text: str) -> None:
        """
        Where no character is named as illegal, only surrogates are refused.
        """
        check_text("comment", text)


class RetryTests:
    @pytest.mark.parametrize("retry", [0, 0.0, -0.0, 1, 0.001, 2.5, 3600, 10**9, MAX_RETRY])
    def test_legal(self, retry: float) -> None:
        """
        Every number of seconds from 0 to 10**12 is kept as it was given.
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
        What is negative, not finite or too large is refused as a whole, with no position.
        """
        with pytest.raises(InvalidField, match=r"^retry: ") as caught:
            ServerSentEvent(retry=retry)
        assert (caught.value.field, caught.value.position, caught.value.character) == ("retry", None, None)

    @pytest.mark.parametrize("retry", [10**5000, -(10**5000)], ids=["positive", "negative"])
    def test_more_digits_than_python_prints(self, retry: int) -> None:
        """
        A number that cannot even be printed is refused like any other.
        """
        with pytest.raises(InvalidField):
            ServerSentEvent(retry=retry)

    @pytest.mark.parametrize("retry", [True, False, "1", b"1", 1j, [1], Fraction(1, 2)], ids=repr)
    def test_of_another_type(self, retry: Any) -> None:
        """
        Only ``int`` and ``float`` are numbers of seconds; ``bool`` is a mistake.
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


class BackDoorTests:
    """
    The other ways to a named tuple: each leads through the same checks.
    """

    def test_make_from_legal_fields(self) -> None:
        """
        ``_make`` builds an event, of the class that it is called on.
        """
        event = ServerSentEvent._make(["d", "e", "i", 2])
        assert type(event) is ServerSentEvent
        assert event == ("d", "e", "i", 2)

    @pytest.mark.parametrize("fields", ILLEGAL, ids=ascii)
    def test_make_from_illegal_fields(self, fields: ServerSentEvent) -> None:
        """
        ``_make`` refuses what the class refuses.
        """
        with pytest.raises(InvalidField):
            ServerSentEvent._make(tuple(fields))

    def test_replace_by_a_legal_value(self) -> None:
        """
        ``_replace`` changes one field and keeps the others.
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
        ``_replace``, and ``copy.replace`` where there is one, refuse what the class refuses.
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
        A copy is equal and of the same class.
        """
        event = ServerSentEvent("d", "e", "i", 2)
        assert copied(event) == event
        assert type(copied(event)) is ServerSentEvent

    @pytest.mark.parametrize("copied", COPIES)
    @pytest.mark.parametrize("event", ILLEGAL, ids=ascii)
    def test_copy_of_an_illegal_event(self, event: ServerSentEvent, copied: Callable[[Any], Any]) -> None:
        """
        Even an event that came about by force does not multiply.
        """
        with pytest.raises(InvalidField):
            copied(event)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle_of_a_legal_event(self, protocol: int) -> None:
        """
        An event survives a pickle.
        """
        event = ServerSentEvent("d", "e", "i", 2)
        loaded = pickle.loads(pickle.dumps(event, protocol))
        assert loaded == event
        assert type(loaded) is ServerSentEvent

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("event", ILLEGAL, ids=ascii)
    def test_pickle_of_an_illegal_event(self, event: ServerSentEvent, protocol: int) -> None:
        """
        A pickle that holds an illegal event cannot be loaded.
        """
        pickled = pickle.dumps(event, protocol)
        with pytest.raises(InvalidField):
            pickle.loads(pickled)

    def test_subclass(self) -> None:
        """
        A subclass keeps the checks and its own class through every door.
        """

        class Price(ServerSentEvent):
            __slots__ = ()

        assert type(Price("1")._replace(data="2")) is Price
        with pytest.raises(InvalidField):
            Price("1")._replace(id="\n")


class ParsedEventTests:
    """
    The parser's own door, which checks nothing because nothing illegal can come out of a stream.
    """

    def test_one(self) -> None:
        """
        One event is built from its four fields.
        """
        event = parsed_event("d", "e", "i", 2.0)
        assert type(event) is ServerSentEvent
        assert event == ServerSentEvent("d", "e", "i", 2.0)

    def test_many(self) -> None:
        """
        Many are built from a column for each field, and ask for no reconnection time.
        """
        events = parsed_events(["a", "b"], ["e", "f"], ["1", "2"])
        assert events == [ServerSentEvent("a", "e", "1"), ServerSentEvent("b", "f", "2")]
        assert {type(event) for event in events} == {ServerSentEvent}

"""
Values as JSON and XML.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import Enum
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse._serialize import to_json, to_xml


@dataclass
class Person:
    Name: str
    Age: int


@attrs.define
class Place:
    name: str
    people: list[Person]


class Colour(Enum):
    RED = "red"


class JsonTests:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "null"),
            ({"a": [1, 2.5, True, None, "x"]}, '{"a":[1,2.5,true,null,"x"]}'),
            ("ä€😀\u2028", '"ä€😀\u2028"'),
            ("\ud800", '"\\ud800"'),
            (["ä", "\udfff"], '["\\u00e4","\\udfff"]'),
            (Person("Ernst", 23), '{"Name":"Ernst","Age":23}'),
            (Place("x", [Person("a", 1)]), '{"name":"x","people":[{"Name":"a","Age":1}]}'),
            ({"deep": (Person("a", 1),)}, '{"deep":[{"Name":"a","Age":1}]}'),
        ],
    )
    def test_values(self, value: object, text: str) -> None:
        """
        ``to_json`` takes all values that json takes, and dataclasses and attrs classes at any depth.
        """
        assert to_json(value) == text

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": -float("inf")}])
    def test_infinite_numbers(self, value: object) -> None:
        """
        ``to_json`` refuses NaN and infinity, which no browser could parse.
        """
        with pytest.raises(ValueError, match="JSON"):
            to_json(value)

    @pytest.mark.parametrize("value", [object(), {1, 2}, Person, Place, b"bytes"])
    def test_values_without_a_form(self, value: object) -> None:
        """
        ``to_json`` refuses other values, and classes themselves, with an error that says what to do.
        """
        with pytest.raises(TypeError, match=r"has no JSON form; convert it, or give Upgrader\(dumps"):
            to_json(value)

    @settings(derandomize=True, deadline=None)
    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text()
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_any_value(self, value: Any) -> None:
        """
        ``to_json`` writes any JSON value in one line, from which the same value is read.
        """
        text = to_json(value)
        assert json.loads(text) == value
        assert "\n" not in text and "\r" not in text
        text.encode()


@dataclass
class Everything:
    text: str
    number: float
    yes: bool
    nothing: None
    day: date
    moment: datetime
    hour: time
    colour: Colour
    person: Person
    many: list[int] = field(default_factory=lambda: [1, 2])
    pair: tuple[Person, Person] = (Person("a", 1), Person("b", 2))
    empty: tuple[int, ...] = ()


class XmlTests:
    def test_person(self) -> None:
        """
        ``to_xml`` writes a dataclass as an element of its fields, as the Go library's example.
        """
        assert to_xml(Person("Ernst", 23)) == "<Person><Name>Ernst</Name><Age>23</Age></Person>"

    def test_every_kind_of_field(self) -> None:
        """
        ``to_xml`` writes each type of field in the form that the documentation names.
        """
        moment = datetime(2026, 11, 22, 7, 48, tzinfo=UTC)
        value = Everything(
            "a < b & c", 1.5, True, None, date(2026, 11, 22), moment, time(7, 48), Colour.RED, Person("x", 1)
        )
        assert to_xml(value) == (
            "<Everything><text>a &lt; b &amp; c</text><number>1.5</number><yes>true</yes>"
            "<day>2026-11-22</day><moment>2026-11-22T07:48:00+00:00</moment><hour>07:48:00</hour>"
            "<colour>red</colour><person><Name>x</Name><Age>1</Age></person>"
            "<many>1</many><many>2</many>"
            "<pair><Name>a</Name><Age>1</Age></pair><pair><Name>b</Name><Age>2</Age></pair></Everything>"
        )

    def test_false(self) -> None:
        """
        ``to_xml`` writes False as ``false``, and not as 0.
        """
        assert to_xml(Person("x", False)).endswith("<Age>false</Age></Person>")

    def test_attrs_class(self) -> None:
        """
        ``to_xml`` writes an attrs class like a dataclass.
        """
        assert to_xml(Place("x", [Person("a", 1)])) == (
            "<Place><name>x</name><people><Name>a</Name><Age>1</Age></people></Place>"
        )

    def test_element(self) -> None:
        """
        ``to_xml`` writes an element unchanged, without the text that follows it in its parent.
        """
        parent = ElementTree.fromstring('<p><a b="1">x</a>tail</p>')
        assert to_xml(parent[0]) == '<a b="1">x</a>'
        assert parent[0].tail == "tail"
        assert to_xml(ElementTree.ElementTree(parent)) == '<p><a b="1">x</a>tail</p>'

    @pytest.mark.parametrize("value", [1, "text", None, {"a": 1}, [Person("a", 1)], Person])
    def test_values_without_a_form(self, value: object) -> None:
        """
        ``to_xml`` refuses other values, and classes themselves, with an error that says what to give.
        """
        with pytest.raises(TypeError, match="has no XML form: give an ElementTree element"):
            to_xml(value)

    @pytest.mark.parametrize("value", [{"a": 1}, b"bytes", [[1]], object()])
    def test_fields_without_a_form(self, value: Any) -> None:
        """
        ``to_xml`` refuses a field of an unsupported type, with an error that names the field.
        """
        with pytest.raises(TypeError, match="the field Name holds"):
            to_xml(Person(value, 1))

    @pytest.mark.parametrize("character", ["\0", "\x08", "\x1b", "\ufffe", "\uffff", "\ud800"])
    def test_characters_that_xml_cannot_hold(self, character: str) -> None:
        """
        ``to_xml`` refuses characters that XML forbids, in values and in elements, with an error that names
        the code point.
        """
        message = f"XML cannot hold U\\+{ord(character):04X}"
        with pytest.raises(ValueError, match=message):
            to_xml(Person(f"a{character}", 1))
        element = ElementTree.Element("a")
        element.text = character
        with pytest.raises(ValueError, match=message):
            to_xml(element)

    @pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "a\nb", "\t", "\x85", "\u2028", "😀", " a "])
    def test_text_reads_back(self, text: str) -> None:
        """
        An XML parser reads the same text that ``to_xml`` wrote, line ends included.
        """
        found = ElementTree.fromstring(to_xml(Person(text, 1))).find("Name")
        assert found is not None
        assert found.text == text

"""
Converts values to text for the data of an event: UTF-8 bytes, JSON and XML.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Iterable
from datetime import date, datetime, time
from enum import Enum
from xml.etree import ElementTree

import attrs

from txsse.errors import InvalidField

__all__ = ["to_json", "to_text", "to_xml"]


def to_text(data: str | bytes) -> str:
    """
    Return a text, decoded if it is UTF-8 bytes.

    :param data: the text, or its bytes in UTF-8.
    :raises InvalidField: for bytes that are not UTF-8.
    """
    if isinstance(data, bytes):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = data[error.start]
            raise InvalidField("data", f"byte 0x{byte:02X} is not UTF-8", position=error.start) from None
    return data


def to_json(value: object) -> str:
    """
    Write a value as JSON, without spaces between its elements.

    :param value: any value that :mod:`json` accepts; instances of dataclasses and attrs classes, at any
        depth, become objects of their fields.
    :raises TypeError: for a value that has no JSON form.
    :raises ValueError: for NaN and the infinities: ``JSON.parse`` in the browser refuses them.
    """
    # A str may contain a lone surrogate, UTF-8 may not: only such a text is escaped to ASCII.
    text = _dump_text(value)
    return text if _encodes(text) else _dump_ascii(value)


def _as_fields(value: object) -> dict[str, object]:
    fields = _fields(value)
    if fields is None:
        raise TypeError(
            f"{type(value).__name__} has no JSON form; convert it, or give Upgrader(dumps=...) one"
        )
    return dict(fields)


_dump_text = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_fields
).encode
_dump_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_as_fields).encode


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fields(value: object) -> list[tuple[str, object]] | None:
    """
    Return the fields of an instance of a dataclass or attrs class; ``None`` for any other value.
    """
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        names: Iterable[str] = (field.name for field in dataclasses.fields(value))
    elif attrs.has(kind := type(value)):
        names = (field.name for field in attrs.fields(kind))
    else:
        return None
    return [(name, getattr(value, name)) for name in names]


def to_xml(value: object) -> str:
    """
    Write a value as XML, without a declaration.

    :param value: an :mod:`~xml.etree.ElementTree` element or tree, or an instance of a dataclass or attrs
        class, which becomes an element of the class's name with one child for each field. A field's value may
        be text, a number, a ``bool`` (``true``, ``false``), a date or time (ISO 8601), an ``Enum`` (its
        value), another instance, or a list or tuple of these (one child for each item); ``None`` is omitted.
    :raises TypeError: for any other value.
    :raises ValueError: for a character that XML cannot contain, such as NUL.

    Source: https://www.w3.org/TR/xml/#charsets
    """
    if isinstance(value, ElementTree.ElementTree):
        value = value.getroot()
    if isinstance(value, ElementTree.Element):
        # The tail of an element is text of its parent, after the element.
        element = copy.copy(value)
        element.tail = None
    else:
        fields = _fields(value)
        if fields is None:
            raise TypeError(
                f"{type(value).__name__} has no XML form: "
                "give an ElementTree element, or an instance of a dataclass or attrs class"
            )
        element = _to_element(type(value).__name__, fields)
    text = ElementTree.tostring(element, encoding="unicode")
    if illegal := _NOT_XML.search(text):
        raise ValueError(f"XML cannot hold U+{ord(illegal.group()):04X}")
    # A CR ends a line of an event, so it has to be written as a character reference.
    return text.replace("\r", "&#13;")


_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _to_element(name: str, fields: Iterable[tuple[str, object]]) -> ElementTree.Element:
    element = ElementTree.Element(name)
    for field, value in fields:
        items = value if isinstance(value, list | tuple) else [value]
        element.extend([_to_child(field, item) for item in items if item is not None])
    return element


def _to_child(name: str, value: object) -> ElementTree.Element:
    fields = _fields(value)
    if fields is not None:
        return _to_element(name, fields)
    child = ElementTree.Element(name)
    child.text = _to_text(name, value)
    return child


def _to_text(name: str, value: object) -> str:
    if isinstance(value, Enum):
        return _to_text(name, value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise TypeError(f"the field {name} holds {type(value).__name__}, which has no XML form")

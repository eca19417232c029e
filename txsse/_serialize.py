"""
Values of the program as text: bytes, JSON and XML.
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
    Read text that may have come as its UTF-8 form.

    :param data: the text, or its bytes.
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
    Write a value as JSON, as compact as it goes.

    :param value: anything that :mod:`json` takes, and instances of dataclasses and attrs classes as
        objects of their fields, at any depth.
    :raises TypeError: for a value that has no JSON form.
    :raises ValueError: for NaN and the infinities: ``JSON.parse`` in the browser refuses them.
    """
    # Python's JSON may hold a lone surrogate, UTF-8 may not: then, and only then, escape.
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
    Return the fields of an instance of a dataclass or attrs class, ``None`` for anything else.
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
        class: an element of the class's name with one child for each field. A field's value may be text, a
        number, a ``bool`` (``true``, ``false``), a date or time (ISO 8601), an ``Enum`` (its value),
        another instance, or a list or tuple of these (one child for each item); ``None`` is left out.
    :raises TypeError: for anything else.
    :raises ValueError: for a character that XML cannot hold, such as NUL.

    Source: https://www.w3.org/TR/xml/#charsets
    """
    if isinstance(value, ElementTree.ElementTree):
        value = value.getroot()
    if isinstance(value, ElementTree.Element):
        # Its tail is text of the parent's, behind the element.
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
    # Lines of an event end at CR too, so a CR must be written as what it is.
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

"""
The types of the service's options: text, lists, flags, counts, sizes, durations, origins.

Strategy: a value is text, from the command line or the environment, or a value of TOML; ``read`` of a type
accepts both, and raises :exc:`ValueError` with what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from txsse.web.origin import parse_origin

__all__ = [
    "COUNT",
    "DURATION",
    "FLAG",
    "INTERVAL",
    "LIMIT",
    "LIST",
    "ORIGINS",
    "ORIGINS_OR_ANY",
    "SIZE",
    "SIZE_LIMIT",
    "TEXT",
    "OptionType",
]


@dataclass(frozen=True)
class OptionType:
    """
    The type of an option's value.

    :ivar name: the placeholder of a value in help texts; ``""`` for a flag, which has no value.
    :ivar read: converts a value; raises :exc:`ValueError` with the rest of a sentence that begins with the
        value.
    :ivar many: whether an option may be given several times.
    """

    name: str
    read: Callable[[object], object]
    many: bool = False


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a string")
    return value


def _list(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("is not a list of strings")
    return tuple(value)


def _origins(value: object) -> tuple[str, ...]:
    return tuple(map(_origin, _list(value)))


def _origins_or_any(value: object) -> tuple[str, ...]:
    return tuple(each if each == "*" else _origin(each) for each in _list(value))


def _origin(text: str) -> str:
    try:
        return parse_origin(text)
    except ValueError as error:
        raise ValueError(f"holds {text!r}, which is {error}") from None


_FLAGS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise ValueError("is neither true nor false")


def _count(value: object) -> int:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("is not a whole number from 1 on")
    return value


_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE = re.compile(r"([0-9]{1,12})\s*([kmg]?)(?:i?b)?", re.ASCII | re.IGNORECASE)


def _size(value: object) -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        value = int(found[1]) * _UNITS[found[2].lower()]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("is not a number of bytes; write it like 65536, 64KiB or 1MiB")
    return value


_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|[smhd]?)", re.ASCII)


def _duration(value: object) -> float:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        value = float(found[1]) * _SECONDS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("is not a time; write it like 15, 1.5s, 10m, 1h or 7d")
    return float(value)


def _or_off(read: Callable[[object], object]) -> Callable[[object], object]:
    def read_or_off(value: object) -> object:
        if value == "off":
            return None
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{error}, or off for no limit") from None

    return read_or_off


TEXT = OptionType("TEXT", _text)
LIST = OptionType("TEXT", _list, many=True)
ORIGINS = OptionType("ORIGIN", _origins, many=True)
ORIGINS_OR_ANY = OptionType("ORIGIN", _origins_or_any, many=True)
FLAG = OptionType("", _flag)
COUNT = OptionType("N", _count)
SIZE = OptionType("BYTES", _size)
DURATION = OptionType("TIME", _duration)

#: A count, a size and a duration that may also be ``off``, which reads as ``None``.
LIMIT = OptionType("N", _or_off(_count))
SIZE_LIMIT = OptionType("BYTES", _or_off(_size))
INTERVAL = OptionType("TIME", _or_off(_duration))

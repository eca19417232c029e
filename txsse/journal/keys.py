"""
Keys of streams, as texts that nodes send each other.

A hub without other nodes accepts any hashable key. A key that other nodes must recognise is a ``str``, an
``int``, or a tuple of these.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass

from txsse._arguments import wrong_type

__all__ = ["MAX_KEY_BYTES", "Anonymous", "decode_key", "decode_name", "encode_key", "encode_name"]

#: The maximum length of a key's text, in bytes: nodes hold keys in memory, and send them in messages. A key
#: of 512 bytes always fits: as JSON, a character takes up to six times as much.
MAX_KEY_BYTES = 4096

# How deep tuples may be nested.
_MAX_DEPTH = 8


def encode_key(key: Hashable) -> str:
    """
    Return the text of a key.

    :raises TypeError: for a key that other nodes could not recognise.
    :raises ValueError: for a key whose text is too long.
    """
    text = _to_text(_to_json(key, _MAX_DEPTH))
    if len(text) > MAX_KEY_BYTES:
        raise ValueError(f"the key takes {len(text)} bytes as JSON, and {MAX_KEY_BYTES} is the limit")
    return text


def decode_key(text: str) -> Hashable:
    """
    Return the key of a text.

    :raises ValueError: for a text that :func:`encode_key` does not make.
    """
    try:
        return _from_json(json.loads(text))
    except RecursionError:
        raise ValueError("the key is nested too deeply") from None


@dataclass(frozen=True)
class Anonymous:
    """
    The name of a stream without a key. It is no tuple, so it equals no key.

    :ivar node: a text that is unique to its node.
    :ivar number: a text that is unique at that node.
    """

    node: str
    number: str


def encode_name(name: Hashable) -> str:
    """
    Return the text of a key of any length, of ``None``, or of a stream without a key.
    """
    if name is None:
        return "null"
    if isinstance(name, Anonymous):
        return _to_text({"anonymous": [name.node, name.number]})
    return _to_text(_to_json(name, _MAX_DEPTH))


def decode_name(text: str) -> Hashable:
    """
    Return what a text of :func:`encode_name` stands for.

    :raises ValueError: for any other text.
    """
    if text == "null":
        return None
    if text.startswith("{"):
        found = json.loads(text).get("anonymous")
        if not isinstance(found, list) or len(found) != 2:
            raise ValueError("not a name")
        return Anonymous(str(found[0]), str(found[1]))
    return decode_key(text)


def _to_text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _to_json(key: Hashable, depth: int) -> object:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int):
        return int(key)
    if isinstance(key, tuple) and depth:
        return [_to_json(each, depth - 1) for each in key]
    raise wrong_type(
        "key", key, "a str, an int, or a tuple of these, where a hub shares its journal with other nodes"
    )


def _from_json(value: object) -> Hashable:
    if isinstance(value, list):
        return tuple(map(_from_json, value))
    if isinstance(value, str | int):
        return value
    raise ValueError("not a key")

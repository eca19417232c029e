"""
Keys of streams, as texts that nodes send each other.

A hub without other nodes accepts any hashable key. A key that other nodes must recognise is a ``str``, an
``int``, or a tuple of these.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

from txsse._arguments import wrong_type

__all__ = ["MAX_KEY_BYTES", "decode_key", "encode_key"]

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
    text = json.dumps(_to_json(key, _MAX_DEPTH), separators=(",", ":"))
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


def _from_json(value: Any) -> Hashable:
    if isinstance(value, list):
        return tuple(map(_from_json, value))
    if isinstance(value, str | int):
        return value
    raise ValueError("not a key")

"""
Updates as entries of a stream, and back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from txsse.hub.timeline import to_number
from txsse.hub.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = ["NOT_OURS", "time_of", "to_arguments", "to_update", "to_updates"]

# What reading an entry raises that no hub has written.
NOT_OURS = (KeyError, ValueError, TypeError, RecursionError)


_NONE: Mapping[bytes, Update] = MappingProxyType({})

_GIVEN = (b"0", b"1")


def to_arguments(update: Update) -> tuple[bytes, ...]:
    """
    Write an update as the script takes it.
    """
    event = update.event
    given = _GIVEN[event.event is not None] + _GIVEN[event.retry is not None] + _GIVEN[update.private]
    return (
        update.id.encode(),
        _to_json(update.topics),
        (event.event or "").encode(),
        b"" if event.retry is None else repr(event.retry).encode(),
        b"1",
        event.data.encode(),
        given,
    )


# Most of what is published goes to the same few topics again.
@lru_cache(maxsize=1024)
def _to_json(topics: tuple[str, ...]) -> bytes:
    return json.dumps(topics, ensure_ascii=False).encode()


def _to_fields(update: Update) -> list[bytes]:
    """
    Write an update as the script stores it, behind its id.
    """
    event = update.event
    fields = [b"topics", _to_json(update.topics), b"data", event.data.encode()]
    if event.event is not None:
        fields += [b"event", event.event.encode()]
    if event.retry is not None:
        fields += [b"retry", repr(event.retry).encode()]
    if update.private:
        fields += [b"private", b"1"]
    return fields


def to_update(entry: Any, own: Mapping[bytes, Update] = _NONE) -> tuple[int, int, Update]:
    """
    Read an entry: its number, that of the one before it, and the update.

    :param own: updates by their ids, of which one is taken that is the same: making another costs more.
    """
    number, flat = entry
    if len(flat) > 3:
        known = own.get(flat[3])
        if known is not None and flat[4:] == _to_fields(known):
            return to_number(number), to_number(flat[1]), known
    fields = {name: value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    retry = fields.get(b"retry")
    event = ServerSentEvent(
        fields[b"data"], fields.get(b"event"), fields[b"id"], None if retry is None else float(retry)
    )
    update = Update(json.loads(fields[b"topics"]), event, private=b"private" in fields)
    return to_number(number), to_number(fields[b"after"]), update


def to_updates(entries: Iterable[Any]) -> Iterator[tuple[int, Update]]:
    """
    Read entries with their numbers, but for those that are none of a hub's.
    """
    for entry in entries:
        with suppress(*NOT_OURS):
            number, _, update = to_update(entry)
            yield number, update


def time_of(number: int) -> float:
    """
    Return when an entry was made, in seconds.
    """
    return (number >> 64) / 1000

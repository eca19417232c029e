"""
Updates as entries of a stream, and back.

Strategy: an entry carries a checksum of its update, so that a bit that flips in it is noticed. The checksum
does not cover what the script adds when it stores the entry: its id, and `after`, the id of the entry before
it. An `after` that was changed does not fit the record, and the follower notices that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from zlib import crc32

from txsse.journal.redis.stream_ids import to_number
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = [
    "Arguments",
    "DamagedEntry",
    "ForeignEntry",
    "Own",
    "is_repeated",
    "is_unfinished",
    "time_of",
    "to_arguments",
    "to_update",
    "to_updates",
]


class DamagedEntry(Exception):
    """
    An entry held an update, and cannot be read.
    """


class ForeignEntry(Exception):
    """
    An entry was not written by a hub.
    """


# What reading an entry raises that is not as a hub has written it.
_UNREADABLE = (LookupError, ValueError, TypeError, RecursionError)

# What the script takes of an update: its id, topics, type, retry time, the mark of a private one, data; which
# of the optional ones are present; and the checksum.
Arguments = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]

# Updates with their arguments, by their ids.
Own = Mapping[bytes, tuple[Update, Arguments]]

_NONE: Own = MappingProxyType({})

_GIVEN = (b"0", b"1")
_ONE = ord("1")


def to_arguments(update: Update) -> Arguments:
    """
    Write an update as the script takes it.
    """
    event = update.event
    given = _GIVEN[event.event is not None] + _GIVEN[event.retry is not None] + _GIVEN[update.private]
    id, topics, data = update.id.encode(), _to_json(update.topics), event.data.encode()
    type = b"" if event.event is None else event.event.encode()
    # Equal updates have equal fields, so that the script can compare them.
    retry = b"" if event.retry is None else repr(float(event.retry)).encode()
    return id, topics, type, retry, b"1", data, given, _checksum(given, id, topics, type, retry, data)


def _checksum(*values: bytes) -> bytes:
    """
    Return the checksum of an update: of its values, and which of the optional ones are present.
    """
    # A byte that no UTF-8 has, so that nothing moves from one value to the next unnoticed.
    return b"%d" % crc32(b"\xff".join(values))


# Most of what is published goes to the same few topics again.
@lru_cache(maxsize=1024)
def _to_json(topics: tuple[str, ...]) -> bytes:
    return json.dumps(topics, ensure_ascii=False).encode()


@lru_cache(maxsize=1024)
def _from_json(topics: bytes) -> tuple[str, ...]:
    return tuple(json.loads(topics.decode()))


def _is_stored(arguments: Arguments, flat: list[bytes]) -> bool:
    """
    Tell whether these are the fields that the script has made of an update, whatever came before it.
    """
    id, topics, type, retry, private, data, given, crc = arguments
    fields = [b"after", flat[1], b"id", id, b"topics", topics, b"data", data, b"crc", crc]
    if given != b"000":
        optional = (b"event", type), (b"retry", retry), (b"private", private)
        fields += [each for one, pair in zip(given, optional, strict=True) if one == _ONE for each in pair]
    return flat == fields or (is_unfinished((b"", flat)) and flat[:-2] == fields)


def to_update(entry: Any, own: Own = _NONE) -> tuple[int, int, Update]:
    """
    Read an entry: its number, that of the one before it, and the update.

    :param own: updates of this process, of which one is taken that is the same: making another costs more.
    :raises DamagedEntry: for an entry of a hub's that cannot be read.
    :raises ForeignEntry: for another one.
    """
    try:
        id, flat = entry
        if flat[0] != b"after":
            raise ValueError("the script begins with what came before")
        number, after = to_number(id), to_number(flat[1])
        known = own.get(flat[3])
        update = known[0] if known is not None and _is_stored(known[1], flat) else _to_update(flat)
    except _UNREADABLE:
        names = entry[1][::2]
        # One of both remains, however few bytes of it have changed.
        error = DamagedEntry if b"crc" in names or b"after" in names else ForeignEntry
        raise error(entry[0]) from None
    if after >= number:
        # No follower could go on behind such an entry.
        raise DamagedEntry(entry[0])
    return number, after, update


def _to_update(flat: list[bytes]) -> Update:
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    id, topics, data = fields[b"id"], fields[b"topics"], fields[b"data"]
    type, retry, private = fields.get(b"event"), fields.get(b"retry"), fields.get(b"private")
    given = _GIVEN[type is not None] + _GIVEN[retry is not None] + _GIVEN[private == b"1"]
    if fields[b"crc"] != _checksum(given, id, topics, type or b"", retry or b"", data):
        raise ValueError("the checksum is another one")
    event = ServerSentEvent(
        data.decode(),
        None if type is None else type.decode(),
        id.decode(),
        None if retry is None else float(retry),
    )
    return Update(_from_json(topics), event, private=private is not None)


def to_updates(entries: Iterable[Any]) -> Iterator[tuple[int, Update | None]]:
    """
    Read entries with their numbers, but for those that no hub has written; damaged ones are ``None``.
    """
    for entry in entries:
        try:
            number, _, update = to_update(entry)
        except DamagedEntry:
            yield to_number(entry[0]), None
        except ForeignEntry:
            continue
        else:
            yield number, update


def is_repeated(entry: Any) -> bool:
    """
    Tell whether an older entry had the same id when this one was stored.
    """
    flat = entry[1]
    return b"again" in flat[-4::2]


def is_unfinished(entry: Any) -> bool:
    """
    Return whether the next entry belongs to the same batch.
    """
    flat = entry[1]
    return len(flat) > 1 and flat[-2] == b"more"


def time_of(number: int) -> float:
    """
    Return when an entry was made, in seconds.
    """
    return (number >> 64) / 1000

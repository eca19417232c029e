"""
Encodes updates as arguments of the script, and decodes them from entries of the stream.

Strategy: an entry carries a checksum of its update, which reveals damage. The checksum does not cover the
parts that the script adds when it stores the entry: the entry's id, and `after`, the id of the entry before
it. A damaged `after` does not match the previous entry, which the follower detects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from zlib import crc32

from txsse.journal.redis.replies import StreamEntry, as_entry
from txsse.journal.redis.retained_rows import from_retain, to_retain
from txsse.journal.redis.stream_ids import to_number
from txsse.journal.retained import size_under_one_topic
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
    "to_topics",
    "to_update",
    "to_updates",
]


class DamagedEntry(Exception):
    """
    The entry was written by a hub, but is damaged.
    """


class ForeignEntry(Exception):
    """
    The entry was not written by a hub.
    """


# The exceptions that decoding a damaged or foreign entry may raise.
_UNREADABLE = (AttributeError, LookupError, ValueError, TypeError, RecursionError)

# The arguments of the script for one update: its id, topics, type, retry time, the value of `private`, data;
# which of the optional fields are present; and the checksum. If the update is retained or removes a retained
# one, also the value of `retain`, and its size without a topic. Most updates do without these two.
Arguments = tuple[bytes, ...]

# Updates of this process with their arguments, by id.
Own = Mapping[bytes, tuple[Update, Arguments]]

_NONE: Own = MappingProxyType({})

_GIVEN = (b"0", b"1")
_ONE = ord("1")


def to_arguments(update: Update) -> Arguments:
    """
    Return the arguments of the script for an update.
    """
    event = update.event
    given = _GIVEN[event.event is not None] + _GIVEN[event.retry is not None] + _GIVEN[update.private]
    id, topics, data = update.id.encode(), _to_json(update.topics), event.data.encode()
    type = b"" if event.event is None else event.event.encode()
    # Equal updates must have equal fields, by which the script compares them.
    retry = b"" if event.retry is None else repr(float(event.retry)).encode()
    if update.retention is None:
        return id, topics, type, retry, b"1", data, given, _checksum(given, id, topics, type, retry, data)
    retain = to_retain(update.retention)
    given += b"1"
    crc = _checksum(given, id, topics, type, retry, data, retain)
    size = b"%d" % size_under_one_topic(update.retention.key, len(update.frame_without_id))
    return id, topics, type, retry, b"1", data, given, crc, retain, size


def _checksum(*values: bytes) -> bytes:
    """
    Return the checksum of an update, over its values and the flags of the optional ones.
    """
    # The separator is a byte that UTF-8 never contains, so that moving bytes from one value to the next
    # changes the checksum.
    return b"%d" % crc32(b"\xff".join(values))


# Most updates are published to the same few topics.
@lru_cache(maxsize=1024)
def _to_json(topics: tuple[str, ...]) -> bytes:
    return json.dumps(topics, ensure_ascii=False).encode()


@lru_cache(maxsize=1024)
def to_topics(topics: bytes) -> tuple[str, ...]:
    """
    Return the topics of an update for their argument of the script.
    """
    return tuple(json.loads(topics.decode()))


def _is_stored(arguments: Arguments, flat: list[bytes]) -> bool:
    """
    Return whether an entry has the fields that the script stores for an update, apart from `after`.
    """
    id, topics, type, retry, private, data, given, crc, *retention = arguments
    fields = [b"after", flat[1], b"id", id, b"topics", topics, b"data", data, b"crc", crc]
    if given != b"000":
        optional = (b"event", type), (b"retry", retry), (b"private", private)
        fields += [each for one, pair in zip(given, optional, strict=False) if one == _ONE for each in pair]
        if retention:
            fields += [b"retain", retention[0]]
    return flat == fields or (is_unfinished((b"", flat)) and flat[:-2] == fields)


def to_update(entry: StreamEntry, own: Own = _NONE) -> tuple[int, int, Update]:
    """
    Decode an entry.

    :param own: updates of this process. If the entry is that of one of them, this object is returned, which
        is cheaper than to decode it.
    :returns: the number of the entry, the number of the entry before it, and the update.
    :raises DamagedEntry: if a hub wrote the entry, and it is damaged.
    :raises ForeignEntry: if no hub wrote the entry.
    :raises JournalFailed: if the server has sent no entry.
    """
    try:
        id, flat = entry
        if flat[0] != b"after":
            raise ValueError("the first field of an entry must be 'after'")
        number, after = to_number(id), to_number(flat[1])
        known = own.get(flat[3])
        update = known[0] if known is not None and _is_stored(known[1], flat) else _to_update(flat)
    except _UNREADABLE:
        names = as_entry(entry)[1][::2]
        # Damage to a few bytes leaves at least one of these two names.
        error = DamagedEntry if b"crc" in names or b"after" in names else ForeignEntry
        raise error(entry[0]) from None
    if after >= number:
        # This is damage, after which a follower would not find the next entry.
        raise DamagedEntry(entry[0])
    return number, after, update


def _to_update(flat: list[bytes]) -> Update:
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    id, topics, data = fields[b"id"], fields[b"topics"], fields[b"data"]
    type, retry, private = fields.get(b"event"), fields.get(b"retry"), fields.get(b"private")
    given = _GIVEN[type is not None] + _GIVEN[retry is not None] + _GIVEN[private == b"1"]
    retain = fields.get(b"retain")
    retention = None
    if retain is None:
        crc = _checksum(given, id, topics, type or b"", retry or b"", data)
    else:
        crc = _checksum(given + b"1", id, topics, type or b"", retry or b"", data, retain)
        retention = from_retain(retain)
    if fields[b"crc"] != crc:
        raise ValueError("the checksum does not match")
    event = ServerSentEvent(
        data.decode(),
        None if type is None else type.decode(),
        id.decode(),
        None if retry is None else float(retry),
    )
    return Update(to_topics(topics), event, private=private is not None, retention=retention)


def to_updates(entries: Iterable[StreamEntry]) -> Iterator[tuple[int, Update | None]]:
    """
    Decode entries, with their numbers; ``None`` for a damaged one. Entries that no hub wrote are skipped.
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


def is_repeated(entry: StreamEntry) -> bool:
    """
    Return whether the stream held an older entry with the same update id when this one was stored.
    """
    flat = entry[1]
    return b"again" in flat[-4::2]


def is_unfinished(entry: StreamEntry) -> bool:
    """
    Return whether the next entry belongs to the same batch.
    """
    flat = entry[1]
    return len(flat) > 1 and flat[-2] == b"more"


def time_of(number: int) -> float:
    """
    Return the time at which an entry was stored, in seconds, by its number.
    """
    return (number >> 64) / 1000

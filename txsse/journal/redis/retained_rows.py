"""
Encodes how an update is retained, and decodes the hash of retained updates.

Strategy: the script makes the rows of the hash in the same call in which it stores the update. A row has a
checksum, which covers its field in the hash too. The script computes it, so it is one that Lua has in Redis.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

from txsse.journal.redis.stream_ids import Epochs, to_number
from txsse.journal.retained import Retained
from txsse.journal.retention import Retention
from txsse.protocol.encoder import encode_event
from txsse.protocol.event import ServerSentEvent

__all__ = ["Row", "from_retain", "to_retain", "to_row"]

# A byte that UTF-8 never contains.
_SEPARATOR = b"\xff"


class Row(NamedTuple):
    """
    A row of the hash: an update as it is retained under one topic.

    :ivar position: the position of the update.
    :ivar place: which of the update's topics it is.
    :ivar topic: the topic.
    :ivar retained: the update, with this topic.
    """

    position: int
    place: int
    topic: str
    retained: Retained


def to_retain(retention: Retention) -> bytes:
    """
    Return the value of the field ``retain`` of an entry.
    """
    # Equal updates must have equal fields, by which the script compares them.
    seconds = b"" if retention.seconds is None else repr(retention.seconds).encode()
    return _SEPARATOR.join((retention.key.encode(), seconds, _to_owner(retention.owner)))


def from_retain(retain: bytes) -> Retention:
    """
    Return what :func:`to_retain` has encoded.

    :raises ValueError: for any other bytes.
    """
    key, seconds, owner = retain.split(_SEPARATOR)
    return Retention(key.decode(), float(seconds) if seconds else None, _from_owner(owner))


def to_row(field: bytes, value: bytes, epochs: Epochs) -> Row | None:
    """
    Decode a field of the hash and its value; ``None`` if they are damaged.

    :param epochs: converts the entry of the update to its position.
    """
    checksum, _, rest = value.partition(_SEPARATOR)
    if hashlib.sha1(field + _SEPARATOR + rest).hexdigest()[:16].encode() != checksum:
        return None
    try:
        topic, key = field.split(_SEPARATOR)
        entry, expires, _, private, place, owner, type, retry, data = rest.split(_SEPARATOR)
        number, until = to_number(entry), float(expires or math.inf)
        if number <= 0 or math.isnan(until):
            return None
        event = ServerSentEvent(data.decode(), type.decode() or None, retry=float(retry) if retry else None)
        position, name = epochs.position_of(number), topic.decode()
        retained = Retained(
            position,
            (name,),
            private == b"1",
            key.decode(),
            _from_owner(owner),
            until,
            encode_event(event),
        )
        return Row(position, int(place), name, retained)
    except ValueError:
        return None


def _to_owner(owner: str | None) -> bytes:
    # An owner is not checked, and may be any text, even one with lone surrogates.
    return b"" if owner is None else b"=" + owner.encode("utf-8", "surrogatepass")


def _from_owner(owner: bytes) -> str | None:
    return owner[1:].decode("utf-8", "surrogatepass") if owner else None

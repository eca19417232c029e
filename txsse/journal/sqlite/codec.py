"""
Updates as rows of SQLite, each with a checksum over all of its columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct, error
from typing import Any
from zlib import crc32

from txsse.journal.page import Entry
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = ["COLUMNS", "CREATE", "SIZE", "Row", "decode", "encode", "encode_all", "sum_of"]

# Text is in blobs: SQLite fails a whole query over one text that is not UTF-8. What is short comes first, so
# that it is read without the text behind it, which may be long.
CREATE = """
CREATE TABLE updates (
    position INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    checksum INTEGER NOT NULL,
    private INTEGER NOT NULL,
    retry REAL,
    id BLOB NOT NULL,
    topics BLOB NOT NULL,
    type BLOB,
    data BLOB NOT NULL,
    superseded INTEGER NOT NULL,
    UNIQUE (id, superseded)
)
"""

COLUMNS = "position, time, checksum, private, retry, id, topics, type, data"

# What a row takes in the file beside its text.
_OVERHEAD = 100

# How many bytes a row takes, roughly. SQLite knows it from the row's header, and checks that against the
# row's place in the file, so a damaged row cannot claim a size that would have all others trimmed.
SIZE = (
    "coalesce(length(id), 0) + coalesce(length(topics), 0) + coalesce(length(type), 0) + "
    f"coalesce(length(data), 0) + {_OVERHEAD}"
)

# Position, time, private, retry, and how long the texts are, so that no byte can move from one to the next.
_FIXED = Struct("<qdbdiiii")

_NO_RETRY = -1.0

Row = tuple[int, float, int, int, float | None, bytes, bytes, bytes | None, bytes]


def encode(position: int, time: float, update: Update) -> tuple[Row, int]:
    """
    Return the row for an update, and how many bytes it takes, as :data:`SIZE` counts them.
    """
    text, kind, _, retry = update.event
    id = update.id.encode()
    topics = _to_json(update.topics)
    type = None if kind is None else kind.encode()
    data = text.encode()
    private = 1 if update.private else 0
    checksum = _checksum(position, time, private, retry, id, topics, type, data)
    size = len(id) + len(topics) + len(data) + _OVERHEAD + (len(type) if type else 0)
    return (position, time, checksum, private, retry, id, topics, type, data), size


def encode_all(first: int, batch: Sequence[tuple[Update, float]]) -> tuple[list[Row], int]:
    """
    Return the rows for updates, each with its time, from a position on; and how many bytes they take.
    """
    rows, total = [], 0
    for position, (update, time) in enumerate(batch, first):
        row, size = encode(position, time, update)
        rows.append(row)
        total += size
    return rows, total


def decode(row: tuple[Any, ...]) -> tuple[Entry, float] | None:
    """
    Return the update in a row, with its position and time; ``None`` for a row that is not as it was written.
    """
    position, time, checksum, private, retry, id, topics, type, data = row
    try:
        if _checksum(position, time, private, retry, id, topics, type, data) != checksum:
            return None
        event = ServerSentEvent(data.decode(), None if type is None else type.decode(), id.decode(), retry)
        return (position, Update(json.loads(topics), event, private=bool(private))), time
    except (AttributeError, TypeError, ValueError, error):
        # Damage may leave values of any type in any column.
        return None


def sum_of(*values: object) -> int:
    """
    Return the checksum of a small row: numbers and blobs.
    """
    return crc32(repr(values).encode())


def _checksum(
    position: int,
    time: float,
    private: int,
    retry: float | None,
    id: bytes,
    topics: bytes,
    type: bytes | None,
    data: bytes,
) -> int:
    fixed = _FIXED.pack(
        position,
        time,
        private,
        _NO_RETRY if retry is None else retry,
        len(id),
        len(topics),
        -1 if type is None else len(type),
        len(data),
    )
    return crc32(data, crc32(fixed + id + topics + (type or b"")))


# Most of what is published goes to the same few topics again.
@lru_cache(maxsize=1024)
def _to_json(topics: tuple[str, ...]) -> bytes:
    return json.dumps(topics).encode()

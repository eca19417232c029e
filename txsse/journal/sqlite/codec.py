"""
Encodes updates as rows of an SQLite table, each with a checksum over all of its columns, and decodes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct, error
from typing import cast
from zlib import crc32

from txsse.journal.page import Entry
from txsse.journal.retention import Retention
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = [
    "COLUMNS",
    "CREATE",
    "PLAIN_COLUMNS",
    "SIZE",
    "PlainRow",
    "Row",
    "decode",
    "encode",
    "encode_all",
    "sum_of",
]

# Text is stored in blobs, because a single text that is not UTF-8 makes SQLite fail the whole query. The
# short columns come first, so that SQLite can read them without the data, which may be long.
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
    retention BLOB,
    data BLOB NOT NULL,
    superseded INTEGER NOT NULL,
    UNIQUE (id, superseded)
)
"""

# The columns of a row without a retention, and all columns. A row without a retention is inserted without
# this column: a parameter for it would make the insertion a tenth slower.
PLAIN_COLUMNS = "position, time, checksum, private, retry, id, topics, type, data"
COLUMNS = f"{PLAIN_COLUMNS}, retention"

# The size of a row in the file in addition to its text, in bytes.
_OVERHEAD = 100

# The approximate size of a row, in bytes. SQLite takes the lengths from the row's header, and checks them
# against the row's place in the file, so a damaged row cannot claim a size for which all other rows would be
# deleted.
SIZE = (
    "coalesce(length(id), 0) + coalesce(length(topics), 0) + coalesce(length(type), 0) + "
    f"coalesce(length(retention), 0) + coalesce(length(data), 0) + {_OVERHEAD}"
)

# Position, time, private, retry, and the lengths of the texts, so that moving a byte from one text to the
# next changes the checksum.
_FIXED = Struct("<qdbdiiii")

_NO_RETRY = -1.0

PlainRow = tuple[int, float, int, int, float | None, bytes, bytes, bytes | None, bytes]
Row = tuple[int, float, int, int, float | None, bytes, bytes, bytes | None, bytes, bytes | None]


def encode(position: int, time: float, update: Update) -> tuple[PlainRow | Row, int]:
    """
    Return the row for an update, and its size in bytes as :data:`SIZE` computes it.

    The row has no retention, not even ``None``, if the update is not retained.
    """
    text, kind, _, retry = update.event
    id = update.id.encode()
    topics = _to_json(update.topics)
    type = None if kind is None else kind.encode()
    data = text.encode()
    private = 1 if update.private else 0
    checksum = _checksum(position, time, private, retry, id, topics, type, data)
    size = len(id) + len(topics) + len(data) + _OVERHEAD + (len(type) if type else 0)
    if update.retention is None:
        return (position, time, checksum, private, retry, id, topics, type, data), size
    retention = _retention_to_json(update.retention)
    checksum = crc32(retention, checksum)
    row = (position, time, checksum, private, retry, id, topics, type, data, retention)
    return row, size + len(retention)


def encode_all(first: int, batch: Sequence[tuple[Update, float]]) -> tuple[list[PlainRow | Row], int]:
    """
    Return the rows for a batch, and their total size in bytes.

    :param first: the position of the first update.
    :param batch: updates, each with its time.
    """
    rows, total = [], 0
    for position, (update, time) in enumerate(batch, first):
        row, size = encode(position, time, update)
        rows.append(row)
        total += size
    return rows, total


def decode(row: tuple[object, ...]) -> tuple[Entry, float] | None:
    """
    Return the update in a row, with its position and time; ``None`` for a damaged row.
    """
    # A check of each column would cost more than the exception of a rare damaged row.
    position, time, checksum, private, retry, id, topics, type, data, retention = cast(Row, row)
    try:
        found = _checksum(position, time, private, retry, id, topics, type, data)
        if (found if retention is None else crc32(retention, found)) != checksum:
            return None
        event = ServerSentEvent(data.decode(), None if type is None else type.decode(), id.decode(), retry)
        update = Update(
            json.loads(topics),
            event,
            private=bool(private),
            retention=None if retention is None else Retention(*json.loads(retention)),
        )
        return (position, update), time
    except (AttributeError, TypeError, ValueError, error):
        # Damage may leave values of any type in any column.
        return None


def sum_of(*values: object) -> int:
    """
    Return the checksum of a small row, of numbers and blobs.
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
    """
    Return the checksum of a row without its retention, which is added to it.
    """
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


def _retention_to_json(retention: Retention) -> bytes:
    return json.dumps((retention.key, retention.seconds, retention.owner)).encode()


# Most updates are published to the same few topics.
@lru_cache(maxsize=1024)
def _to_json(topics: tuple[str, ...]) -> bytes:
    return json.dumps(topics).encode()

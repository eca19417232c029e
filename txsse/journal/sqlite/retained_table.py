"""
The table of retained updates in a journal's file: its rows, each with a checksum, and its statements.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from txsse.journal.retained import Retained, size_under_one_topic
from txsse.journal.sqlite.codec import sum_of
from txsse.journal.sqlite.table_scan import rows_after
from txsse.journal.update import Update

__all__ = [
    "CREATE",
    "RetainedScan",
    "Size",
    "copy_retained",
    "delete_misplaced",
    "delete_rows",
    "expired_rows",
    "put",
    "remove",
    "scan",
    "size_at",
]

# A row for each topic and key. `place` is the place of the topic among those of the update. `expires` is
# NULL for an update that does not expire, so that it is not in the index. Text is stored in blobs, because a
# single text that is not UTF-8 makes SQLite fail the whole query.
CREATE = (
    """
CREATE TABLE retained (
    number INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    expires REAL,
    checksum INTEGER NOT NULL,
    private INTEGER NOT NULL,
    place INTEGER NOT NULL,
    topic BLOB NOT NULL,
    key BLOB NOT NULL,
    owner BLOB,
    frame BLOB NOT NULL,
    UNIQUE (topic, key)
)
""",
    "CREATE INDEX retained_by_expiry ON retained (expires) WHERE expires IS NOT NULL",
)

_COLUMNS = "number, position, expires, checksum, private, place, topic, key, owner, frame"

# The size of a row, as RetainedUpdates computes it. SQLite takes the lengths from the row's header, and
# checks them against the row's place in the file, so a damaged row cannot claim any size.
_SIZE = (
    "coalesce(length(frame), 0) + 2 * coalesce(length(key), 0) + coalesce(length(topic), 0) + "
    f"{size_under_one_topic('', b'')}"
)

_INSERT = f"INSERT INTO retained ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "

# A row that is replaced keeps its number, so that only the index by expiry is written, too.
_REPLACE = (
    "ON CONFLICT (topic, key) DO UPDATE SET position = excluded.position, expires = excluded.expires, "
    "checksum = excluded.checksum, private = excluded.private, place = excluded.place, "
    "owner = excluded.owner, frame = excluded.frame"
)

# Numbers beyond this are not read. SQLite gives new rows the next number, so only damage produces them.
_MOST = 2**62

# An owner comes from the token of a publisher, in whose JSON a lone surrogate is possible.
_SURROGATES = "surrogatepass"


class Size(NamedTuple):
    """
    A row without its content.

    :ivar number: its number.
    :ivar bytes: its size, in bytes.
    :ivar is_expired: whether it has expired.
    """

    number: int
    bytes: int
    is_expired: bool


class RetainedScan(NamedTuple):
    """
    The rows of the table.

    :ivar rows: the undamaged rows, each with one topic: of several with one topic and key, the newest.
    :ivar damaged: the numbers of the other rows that can be read.
    :ivar is_torn: whether SQLite could not read some rows.
    """

    rows: list[Retained]
    damaged: list[int]
    is_torn: bool


def scan(connection: sqlite3.Connection) -> RetainedScan:
    """
    Read the whole table, and skip the rows that SQLite cannot read.
    """
    found: dict[tuple[str, str], tuple[int, Retained, int]] = {}
    damaged: list[int] = []
    errors: list[sqlite3.Error] = []
    for row in rows_after(connection, _COLUMNS, 0, table="retained", skipped=errors.append):
        decoded = _decode(row)
        if decoded is None:
            damaged.append(row[0])
            continue
        retained, place = decoded
        name = retained.topics[0], retained.key
        known = found.get(name)
        # Two rows with one name: the index was damaged when the later one was inserted.
        if known is not None:
            older, newer = sorted((known, (row[0], retained, place)), key=lambda each: each[1].position)
            damaged.append(older[0])
            found[name] = newer
        else:
            found[name] = row[0], retained, place
    ordered = sorted(found.values(), key=lambda each: (each[1].position, each[2]))
    return RetainedScan([retained for _, retained, _ in ordered], damaged, bool(errors))


def put(
    connection: sqlite3.Connection, position: int, update: Update, frame: bytes, expires: float | None
) -> None:
    """
    Retain an update under each of its topics.

    :param position: its position.
    :param frame: the event as sent on the wire, without its ID.
    :param expires: when it expires, in seconds since 1970; ``None`` for never.
    """
    retention = update.retention
    assert retention is not None
    key, private = retention.key.encode(), 1 if update.private else 0
    owner = None if retention.owner is None else retention.owner.encode(errors=_SURROGATES)
    rows = []
    for place, topic in enumerate(update.topics):
        texts = topic.encode(), key, owner, frame
        checksum = _checksum(position, expires, private, place, *texts)
        rows.append((None, position, expires, checksum, private, place, *texts))
    connection.executemany(_INSERT + _REPLACE, rows)


def remove(connection: sqlite3.Connection, topics: Iterable[str], key: str) -> None:
    """
    Delete the rows of a key under these topics.
    """
    connection.executemany(
        "DELETE FROM retained WHERE topic = ? AND key = ?",
        [(topic.encode(), key.encode()) for topic in topics],
    )


def size_at(connection: sqlite3.Connection, topic: str, key: str, now: float) -> Size | None:
    """
    Return the row of a topic and a key; ``None`` if it does not exist.

    :param now: the time, in seconds since 1970.
    """
    # SQLite compares the times, because damage may leave a value of any type.
    row = connection.execute(
        f"SELECT number, {_SIZE}, coalesce(expires <= ?, 0) FROM retained WHERE topic = ? AND key = ?",
        [now, topic.encode(), key.encode()],
    ).fetchone()
    return None if row is None else Size(row[0], row[1], bool(row[2]))


def expired_rows(connection: sqlite3.Connection, now: float, limit: int) -> list[Size]:
    """
    Return rows that have expired, at most ``limit``.

    :param now: the time, in seconds since 1970.
    """
    rows = connection.execute(
        f"SELECT number, {_SIZE} FROM retained WHERE expires <= ? ORDER BY expires LIMIT ?", [now, limit]
    )
    return [Size(number, bytes, True) for number, bytes in rows]


def delete_rows(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """
    Delete the rows with these numbers.
    """
    connection.executemany("DELETE FROM retained WHERE number = ?", ([number] for number in numbers))


def delete_misplaced(connection: sqlite3.Connection) -> int:
    """
    Delete the rows whose numbers are damaged so that :func:`scan` does not read them.

    :returns: how many there were.
    """
    before, after = (
        connection.execute(f"DELETE FROM retained WHERE number {side} ?", [end]).rowcount
        for side, end in (("<", 1), (">", _MOST))
    )
    return before + after


def copy_retained(damaged: sqlite3.Connection, fresh: sqlite3.Connection) -> None:
    """
    Copy the undamaged rows of a damaged database into an empty table.
    """
    for number, *row in rows_after(damaged, _COLUMNS, 0, table="retained"):
        if _decode((number, *row)) is not None:
            # A damaged table may have a number twice.
            fresh.execute(f"{_INSERT}{_REPLACE} WHERE excluded.position > retained.position", (None, *row))


def _decode(row: tuple[object, ...]) -> tuple[Retained, int] | None:
    """
    Return the retained update in a row, with the place of its topic; ``None`` for a damaged row.
    """
    _, position, expires, checksum, private, place, topic, key, owner, frame = row
    # Damage may leave values of any type in any column.
    if not (isinstance(topic, bytes) and isinstance(key, bytes) and isinstance(frame, bytes)):
        return None
    if not (isinstance(position, int) and isinstance(private, int) and isinstance(place, int)):
        return None
    if not ((owner is None or isinstance(owner, bytes)) and (expires is None or isinstance(expires, float))):
        return None
    if _checksum(position, expires, private, place, topic, key, owner, frame) != checksum:
        return None
    try:
        retained = Retained(
            position,
            (topic.decode(),),
            bool(private),
            key.decode(),
            None if owner is None else owner.decode(errors=_SURROGATES),
            math.inf if expires is None else expires,
            frame,
        )
    except ValueError:
        return None
    return retained, place


def _checksum(
    position: int,
    expires: float | None,
    private: int,
    place: int,
    topic: bytes,
    key: bytes,
    owner: bytes | None,
    frame: bytes,
) -> int:
    # The frame may be long: its repr would take as much memory again.
    return crc32(frame, sum_of(position, expires, private, place, topic, key, owner, len(frame)))

"""
The table of retained updates in a journal's file: its rows, each with a checksum, and its statements.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

from txsse.journal.retained import Retained, size_under_one_topic
from txsse.journal.sqlite.codec import sum_of
from txsse.journal.sqlite.errors import is_damage
from txsse.journal.sqlite.table_scan import rows_after
from txsse.journal.update import Update

__all__ = [
    "CREATE",
    "RetainedScan",
    "Size",
    "copy_retained",
    "delete_rows",
    "expired_rows",
    "put",
    "remove",
    "rewrite",
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
    frame BLOB NOT NULL
)
""",
    "CREATE UNIQUE INDEX retained_by_name ON retained (topic, key)",
    "CREATE INDEX retained_by_expiry ON retained (expires) WHERE expires IS NOT NULL",
)

_COLUMNS = "number, position, expires, checksum, private, place, topic, key, owner, frame"

# Whether statements find the row by its topic and key: text is read as bytes, but is not equal to them.
_IS_FOUND = "typeof(topic) = 'blob' AND typeof(key) = 'blob'"

# The size of a row, as RetainedUpdates computes it. SQLite takes the lengths from the row's header, and
# checks them against the row's place in the file, so a damaged row cannot claim any size.
_SIZE = (
    "coalesce(length(frame), 0) + 2 * coalesce(length(key), 0) + coalesce(length(topic), 0) + "
    f"{size_under_one_topic('', 0)}"
)

_INSERT = f"INSERT INTO retained ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "

# A row that is replaced keeps its number, so that only the index by expiry is written, too.
_REPLACE = (
    "ON CONFLICT (topic, key) DO UPDATE SET position = excluded.position, expires = excluded.expires, "
    "checksum = excluded.checksum, private = excluded.private, place = excluded.place, "
    "owner = excluded.owner, frame = excluded.frame"
)

# The content of both indexes, which is read without the rows.
_NAMES = f"SELECT number, topic, key, {_IS_FOUND} FROM retained INDEXED BY retained_by_name"
_TIMES = "SELECT number, expires FROM retained INDEXED BY retained_by_expiry WHERE expires IS NOT NULL"

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

    :ivar rows: the undamaged rows, each with one topic: of several with one topic and key, the newest. They
        are in the order of their positions and topics.
    :ivar is_damaged: whether other rows exist, SQLite could not read some, or an index differs from the rows.
    """

    rows: list[Retained]
    is_damaged: bool


def scan(connection: sqlite3.Connection) -> RetainedScan:
    """
    Read the whole table, and skip the rows that SQLite cannot read.
    """
    found: dict[tuple[str, str], tuple[int, Retained, int]] = {}
    damaged: list[object] = []
    columns = f"{_COLUMNS}, {_IS_FOUND}"
    for row in rows_after(connection, columns, 0, table="retained", skipped=damaged.append):
        values: list[object] = [*row]
        is_found = values.pop()
        decoded = _decode(values) if is_found else None
        if decoded is None:
            damaged.append(row[0])
            continue
        retained, place = decoded
        name = retained.topics[0], retained.key
        known = found.get(name)
        if known is not None:
            # The index was damaged when the later one was inserted.
            damaged.append(row[0])
        if known is None or known[1].position < retained.position:
            found[name] = row[0], retained, place
    ordered = sorted(found.values(), key=lambda each: (each[1].position, each[2]))
    is_damaged = bool(damaged) or not _agree(connection, ordered)
    return RetainedScan([retained for _, retained, _ in ordered], is_damaged)


def _agree(connection: sqlite3.Connection, found: Iterable[tuple[int, Retained, int]]) -> bool:
    """
    Return whether the indexes have exactly these rows.

    A row that an index lacks could neither be replaced nor removed, and would be back after a restart.
    """
    names: set[object] = set()
    times: set[object] = set()
    for number, row, _ in found:
        names.add((number, row.topics[0].encode(), row.key.encode(), 1))
        if row.expires < math.inf:
            times.add((number, row.expires))
    try:
        return all(
            len(entries := connection.execute(query).fetchall()) == len(rows) and rows == set(entries)
            for query, rows in ((_NAMES, names), (_TIMES, times))
        )
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return False


def rewrite(connection: sqlite3.Connection, rows: Iterable[Retained]) -> None:
    """
    Replace all rows, also those that cannot be read, and thereby the indexes.

    :param rows: rows with one topic each, in the order of their positions and topics.
    """
    connection.execute("DELETE FROM retained")
    for place, row in enumerate(rows):
        expires = None if row.expires == math.inf else row.expires
        _write(
            connection, row.position, row.topics, row.private, row.key, row.owner, row.frame, expires, place
        )


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
    _write(
        connection, position, update.topics, update.private, retention.key, retention.owner, frame, expires, 0
    )


def _write(
    connection: sqlite3.Connection,
    position: int,
    topics: Iterable[str],
    is_private: bool,
    key: str,
    owner: str | None,
    frame: bytes,
    expires: float | None,
    first: int,
) -> None:
    """
    Insert or replace the rows of an update.

    :param first: the place of the first topic.
    """
    private = 1 if is_private else 0
    owner_bytes = None if owner is None else owner.encode(errors=_SURROGATES)
    rows = []
    for place, topic in enumerate(topics, first):
        texts = topic.encode(), key.encode(), owner_bytes, frame
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


def copy_retained(damaged: sqlite3.Connection, fresh: sqlite3.Connection) -> None:
    """
    Copy the undamaged rows of a damaged database into an empty table.
    """
    for row in rows_after(damaged, _COLUMNS, 0, table="retained"):
        if _decode(row) is not None:
            # A damaged table may have a number twice, so the rows get new ones.
            values = (None, *row[1:])
            fresh.execute(f"{_INSERT}{_REPLACE} WHERE excluded.position > retained.position", values)


def _decode(row: Sequence[object]) -> tuple[Retained, int] | None:
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

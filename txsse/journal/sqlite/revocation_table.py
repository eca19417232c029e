"""
The table of revoked tokens in a journal's file: its rows, each with a checksum, and its statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from txsse.journal.revocations import Revocation, merge
from txsse.journal.sqlite.codec import sum_of
from txsse.journal.sqlite.table_scan import rows_after

__all__ = ["CREATE", "RevocationPage", "copy_revocations", "delete", "page_after", "record", "size_of"]

# Text is stored in blobs, because a single text that is not UTF-8 makes SQLite fail the whole query. A row
# that is replaced gets a greater number, so that a reader which reads in order of the numbers misses none.
CREATE = (
    """
CREATE TABLE revocations (
    number INTEGER PRIMARY KEY,
    claim BLOB NOT NULL,
    value BLOB NOT NULL,
    at REAL NOT NULL,
    expires REAL NOT NULL,
    checksum INTEGER NOT NULL,
    UNIQUE (claim, value)
)
""",
    "CREATE INDEX revocations_by_expiry ON revocations (expires)",
)

_COLUMNS = "number, claim, value, at, expires, checksum"

# The approximate size of a row with its two index entries in addition to its texts, in bytes.
_OVERHEAD = 100

# How many rows of expired revocations one transaction deletes, so that updates need not wait for long.
_STEP = 1000


class RevocationPage(NamedTuple):
    """
    Some rows of the table.

    :ivar found: the revocations.
    :ivar damaged: the numbers of damaged rows.
    :ivar is_torn: whether SQLite could not read some rows.
    :ivar end: the number of the last row; ``None`` after the last page.
    """

    found: list[Revocation]
    damaged: list[int]
    is_torn: bool
    end: int | None


def size_of(revocation: Revocation) -> int:
    """
    Return the approximate size of a revocation's row, in bytes.
    """
    return 2 * (len(revocation.claim.encode()) + len(revocation.value.encode())) + _OVERHEAD


def record(connection: sqlite3.Connection, revocation: Revocation, now: float, max_count: int) -> bool:
    """
    Insert a revocation, or give its row the later times of both. Delete some rows of expired ones.

    :param now: the time, in seconds since 1970.
    :returns: whether it is recorded: ``False`` if it is new, and the table has ``max_count`` rows.
    """
    delete(connection, (), now)
    name = revocation.claim.encode(), revocation.value.encode()
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM revocations WHERE claim = ? AND value = ?", name
    ).fetchone()
    if row is None:
        (count,) = connection.execute("SELECT count(*) FROM revocations").fetchone()
        if count >= max_count:
            return False
    known = None if row is None else _decode(row)
    if known is not None and (known.claim, known.value) != (revocation.claim, revocation.value):
        # The index is damaged.
        known = None
    merged = merge(revocation, known, now)
    values = (*name, merged.at, merged.expires)
    connection.execute(
        "REPLACE INTO revocations (claim, value, at, expires, checksum) VALUES (?, ?, ?, ?, ?)",
        (*values, sum_of(*values)),
    )
    return True


def page_after(connection: sqlite3.Connection, after: int, limit: int) -> RevocationPage:
    """
    Read rows in order, and skip those that SQLite cannot read.

    :param after: the number after which to begin.
    :param limit: the maximum number of rows.
    """
    found: list[Revocation] = []
    damaged: list[int] = []
    errors: list[sqlite3.Error] = []
    end: int | None = None
    for row in rows_after(connection, _COLUMNS, after, limit, table="revocations", skipped=errors.append):
        end = row[0]
        revocation = _decode(row)
        if revocation is None:
            damaged.append(row[0])
        else:
            found.append(revocation)
    return RevocationPage(found, damaged, bool(errors), end)


def delete(connection: sqlite3.Connection, numbers: Iterable[int], now: float) -> None:
    """
    Delete the rows with these numbers, and some of those of expired revocations.

    :param now: the time, in seconds since 1970.
    """
    connection.execute(
        "DELETE FROM revocations WHERE number IN "
        "(SELECT number FROM revocations WHERE expires <= ? ORDER BY expires LIMIT ?)",
        [now, _STEP],
    )
    connection.executemany("DELETE FROM revocations WHERE number = ?", ([number] for number in numbers))


def copy_revocations(damaged: sqlite3.Connection, fresh: sqlite3.Connection) -> None:
    """
    Copy the undamaged rows of a damaged database into an empty table. They keep their numbers.
    """
    for row in rows_after(damaged, _COLUMNS, 0, table="revocations"):
        if _decode(row) is not None:
            fresh.execute("REPLACE INTO revocations VALUES (?, ?, ?, ?, ?, ?)", row)


def _decode(row: tuple[object, ...]) -> Revocation | None:
    """
    Return the revocation in a row; ``None`` for a damaged row.
    """
    _, claim, value, at, expires, checksum = row
    if sum_of(claim, value, at, expires) != checksum:
        return None
    # Damage may leave values of any type in any column.
    if not (isinstance(claim, bytes) and isinstance(value, bytes)):
        return None
    if not (isinstance(at, float) and isinstance(expires, float)):
        return None
    try:
        return Revocation(claim.decode(), value.decode(), at, expires)
    except ValueError:
        return None

"""
Rows by the ids of their updates, of which several may have the same.

Strategy: the newest row with an id has 0 in its column `superseded`, and each older one its own position. The
pair is unique. So recording an update whose id is new takes no query more than the insertion, which does
nothing where a row with the id is there; and the earliest row with an id is found in one look at the index,
however many there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from txsse.journal.sqlite.codec import Row
from txsse.journal.sqlite.errors import is_damage
from txsse.journal.sqlite.table_scan import verified

__all__ = ["earliest", "find", "insert", "insert_all", "newest", "repeated", "supersede"]

_INSERT = "INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id, superseded) DO NOTHING"

_SUPERSEDED = (
    "SELECT position, superseded FROM updates WHERE id = ? AND superseded > ? ORDER BY superseded LIMIT 1"
)

_NEWEST = "SELECT position FROM updates WHERE id = ? AND superseded = 0"


def insert_all(connection: sqlite3.Connection, rows: Sequence[Row]) -> bool:
    """
    Insert rows; those with an id that is in the table are left out.

    :returns: whether none was.
    """
    return connection.executemany(_INSERT, rows).rowcount == len(rows)


def insert(connection: sqlite3.Connection, row: Row) -> bool:
    """
    Insert a row, unless its id is in the table.

    :returns: whether it was inserted.
    """
    return bool(connection.execute(_INSERT, row).rowcount)


def supersede(connection: sqlite3.Connection, id: bytes) -> None:
    """
    Have a newer row take the place of the newest one with its id.
    """
    connection.execute("UPDATE updates SET superseded = position WHERE id = ? AND superseded = 0", [id])


def newest(connection: sqlite3.Connection, id: bytes) -> int:
    """
    Return the position of the newest row with an id that is in the table; 0 where the index is damaged.
    """
    row = connection.execute(_NEWEST, [id]).fetchone()
    return 0 if row is None else row[0]


def earliest(connection: sqlite3.Connection, id: bytes, floor: int) -> int | None:
    """
    Return the position of the earliest row with an id.

    :param floor: the position up to which rows do not count.
    """
    row = connection.execute(_SUPERSEDED, [id, floor]).fetchone()
    if row is not None:
        # Otherwise the index is damaged, and may hide an earlier one.
        return row[0] if row[0] == row[1] else None
    position = newest(connection, id)
    return position if position > floor else None


def find(connection: sqlite3.Connection, id: bytes, floor: int) -> int | None:
    """
    Return the position of the earliest update with an id, if it can be read.

    :param floor: the position up to which rows do not count.
    """
    try:
        position = earliest(connection, id, floor)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return None
    found = None if position is None else verified(connection, position)
    # The index may be damaged, and not the row.
    return position if found is not None and found[0][1].id.encode() == id else None


def repeated(connection: sqlite3.Connection, ids: Iterable[str], floor: int) -> set[str]:
    """
    Return those of some ids that older rows have, too.
    """
    return {id for id in ids if connection.execute(_SUPERSEDED, [id.encode(), floor]).fetchone() is not None}

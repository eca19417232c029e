"""
Inserts rows, and finds them by the ids of their updates. Several rows may have the same id.

Strategy: the newest row with an id has 0 in its column `superseded`; each older one has its own position
there. The pair of id and `superseded` is unique. Therefore recording an update with a new id takes a single
statement, an insertion that does nothing if the id exists; and the earliest row with an id is found by one
lookup in the index, however many rows have the id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from txsse.journal.sqlite.codec import COLUMNS, PLAIN_COLUMNS, PlainRow, Row
from txsse.journal.sqlite.errors import is_damage
from txsse.journal.sqlite.table_scan import verified

__all__ = ["earliest", "find", "insert", "insert_all", "newest", "repeated", "supersede"]

_NO_CONFLICT = "ON CONFLICT (id, superseded) DO NOTHING"
_INSERT_PLAIN = (
    f"INSERT INTO updates ({PLAIN_COLUMNS}, superseded) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) {_NO_CONFLICT}"
)
_INSERT = (
    f"INSERT INTO updates ({COLUMNS}, superseded) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) {_NO_CONFLICT}"
)
_PLAIN_LENGTH = len(PLAIN_COLUMNS.split(","))

_SUPERSEDED = (
    "SELECT position, superseded FROM updates WHERE id = ? AND superseded > ? ORDER BY superseded LIMIT 1"
)

_NEWEST = "SELECT position FROM updates WHERE id = ? AND superseded = 0"


def insert_all(connection: sqlite3.Connection, rows: Sequence[PlainRow | Row]) -> bool:
    """
    Insert the rows whose ids are not in the table.

    :param rows: rows of updates that are not retained.
    :returns: whether all rows were inserted.
    """
    return connection.executemany(_INSERT_PLAIN, rows).rowcount == len(rows)


def insert(connection: sqlite3.Connection, row: tuple[object, ...]) -> bool:
    """
    Insert a row, if its id is not in the table.

    :param row: a row as :func:`~txsse.journal.sqlite.codec.encode` returns it, or one that it can decode.
    :returns: whether it was inserted.
    """
    return bool(connection.execute(_INSERT_PLAIN if len(row) == _PLAIN_LENGTH else _INSERT, row).rowcount)


def supersede(connection: sqlite3.Connection, id: bytes) -> None:
    """
    Mark the newest row with an id as superseded, so that a newer one can be inserted.
    """
    connection.execute("UPDATE updates SET superseded = position WHERE id = ? AND superseded = 0", [id])


def newest(connection: sqlite3.Connection, id: bytes) -> int:
    """
    Return the position of the newest row with an id that is in the table; 0 if the index is damaged.
    """
    row = connection.execute(_NEWEST, [id]).fetchone()
    return 0 if row is None else row[0]


def earliest(connection: sqlite3.Connection, id: bytes, floor: int) -> int | None:
    """
    Return the position of the earliest row with an id; ``None`` if no row has it, or the index is damaged.

    :param floor: the position up to which to ignore rows.
    """
    row = connection.execute(_SUPERSEDED, [id, floor]).fetchone()
    if row is not None:
        # If these two differ, the index is damaged, and may hide an earlier row.
        return row[0] if row[0] == row[1] else None
    position = newest(connection, id)
    return position if position > floor else None


def find(connection: sqlite3.Connection, id: bytes, floor: int) -> int | None:
    """
    Return the position of the earliest update with an id; ``None`` if no row has it, or it cannot be read.

    :param floor: the position up to which to ignore rows.
    """
    try:
        position = earliest(connection, id, floor)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return None
    found = None if position is None else verified(connection, position)
    # The index may be damaged although the row is not.
    return position if found is not None and found[0][1].id.encode() == id else None


def repeated(connection: sqlite3.Connection, ids: Iterable[str], floor: int) -> set[str]:
    """
    Return those of the given ids that an older row also has.

    :param floor: the position up to which to ignore rows.
    """
    return {id for id in ids if connection.execute(_SUPERSEDED, [id.encode(), floor]).fetchone() is not None}

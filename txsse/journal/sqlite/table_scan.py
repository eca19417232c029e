"""
Reads the table of updates, even if it is damaged.

Strategy: positions are consecutive, so a missing position reveals a lost update, whatever the cause: a
damaged row, a page of the file that SQLite cannot read, or a transaction that was lost with the ``-wal``. A
query that fails half-way is continued at the next position from which a query succeeds.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeAlias, cast

from txsse.journal.page import Entry
from txsse.journal.sqlite.codec import COLUMNS, SIZE, decode
from txsse.journal.sqlite.errors import is_damage

__all__ = ["KeyedRow", "TableScan", "newest", "rows_after", "survey", "verified"]

# A row: its integer key, and other columns, whose values may be of any type if they are damaged.
KeyedRow: TypeAlias = tuple[int, *tuple[object, ...]]

# An upper bound of all positions; its negative is a lower bound.
_END = 2**62

# How many rows at either end of the table are checked to find an undamaged one.
_EDGE = 1000


@dataclass
class TableScan:
    """
    A summary of the table.

    :ivar floor: the position before the oldest row.
    :ivar head: the position of the newest undamaged row; 0 if the table is empty.
    :ivar damaged: the number of damaged rows after that one.
    :ivar count: the number of rows.
    :ivar bytes: their size, in bytes.
    """

    floor: int
    head: int
    damaged: int
    count: int
    bytes: int


def verified(connection: sqlite3.Connection, position: int) -> tuple[Entry, float] | None:
    """
    Return the update at a position with its time; ``None`` if the row is missing or damaged.
    """
    try:
        row = connection.execute(f"SELECT {COLUMNS} FROM updates WHERE position = ?", [position]).fetchone()
    except sqlite3.Error as error:
        _unless_damage(error)
        return None
    return None if row is None else decode(row)


def rows_after(
    connection: sqlite3.Connection,
    columns: str,
    after: int,
    limit: int = _END,
    *,
    up_to: int = _END,
    table: str = "updates",
    skipped: Callable[[sqlite3.Error], object] | None = None,
) -> Generator[KeyedRow, None, None]:
    """
    Read rows in order, and skip those that SQLite cannot read.

    :param columns: the columns, the table's integer key first.
    :param after: the position, or other key, after which to begin.
    :param limit: the maximum number of rows.
    :param up_to: the last key, inclusive.
    :param skipped: called with the error when rows are skipped.
    """
    query = f"SELECT {columns} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"
    begin: int | None = after + 1
    skip = 0
    while begin is not None:
        rows = connection.cursor()
        try:
            for row in rows.execute(query, [begin, up_to, limit]):
                limit -= 1
                # The key in a damaged row may be any value.
                if row[0] >= begin:
                    begin, skip = row[0] + 1, 0
                yield row
            return
        except sqlite3.Error as error:
            _unless_damage(error)
            if skipped is not None:
                skipped(error)
        finally:
            # A reader that stops in the middle would keep the ``-wal`` from being reset.
            rows.close()
        if begin + skip >= up_to:
            return
        # If each query returns an earlier row before it fails, the search must not advance by single keys.
        begin = _next_readable(connection, query, begin + skip, up_to)
        skip = 2 * skip + 1


def _next_readable(connection: sqlite3.Connection, query: str, bad: int, up_to: int) -> int | None:
    """
    Return a position after a damaged one from which a query succeeds; ``None`` if no such position exists.

    This takes about 2 log n queries. Readable rows between two damaged pages may be skipped.
    """

    def succeeds(begin: int) -> bool:
        try:
            connection.execute(query, [begin, up_to, 1]).fetchone()
        except sqlite3.Error as error:
            _unless_damage(error)
            return False
        return True

    step = 1
    while not succeeds(good := min(bad + step, up_to)):
        if good == up_to:
            return None
        bad, step = good, step * 2
    while good - bad > 1:
        middle = (good + bad) // 2
        if succeeds(middle):
            good = middle
        else:
            bad = middle
    return good


def newest(
    connection: sqlite3.Connection, head: int, floor: int
) -> Generator[tuple[Entry, float], None, None]:
    """
    Read updates with their times backwards from the head, as far as none is missing or damaged.
    """
    query = f"SELECT {COLUMNS} FROM updates WHERE position > ? AND position <= ? ORDER BY position DESC"
    try:
        for row in connection.execute(query, [floor, head]):
            found = decode(row) if row[0] == head else None
            if found is None:
                return
            yield found
            head -= 1
    except sqlite3.Error as error:
        _unless_damage(error)


def survey(connection: sqlite3.Connection) -> TableScan:
    """
    Summarise the whole table. This reads the lengths of the texts, not the texts.
    """
    try:
        count, bytes = connection.execute(
            f"SELECT count(*), coalesce(sum({SIZE}), 0) FROM updates"
        ).fetchone()
        oldest, newest = (
            [row[0] for row in connection.execute(f"SELECT position FROM updates ORDER BY position {order}")]
            for order in (f"LIMIT {_EDGE}", f"DESC LIMIT {_EDGE}")
        )
    except sqlite3.Error as error:
        _unless_damage(error)
        count = bytes = 0
        oldest, last = [], deque[int](maxlen=_EDGE)
        for row in rows_after(connection, f"position, {SIZE}", -_END):
            # SQLite computes the size.
            position, size = cast("tuple[int, int]", row)
            count += 1
            bytes += size
            last.append(position)
            if len(oldest) < _EDGE:
                oldest.append(position)
        newest = list(reversed(last))
    first, before = _edge(connection, oldest)
    head, damaged = _edge(connection, newest)
    # The position in a damaged row may be any value, but the number of rows is right.
    return TableScan(max(first - before - 1, 0), head, damaged, count, bytes)


def _edge(connection: sqlite3.Connection, positions: Iterable[int]) -> tuple[int, int]:
    """
    Return the position of the first undamaged row, and the number of damaged rows before it.
    """
    damaged, position = 0, 0
    for position in positions:
        if verified(connection, position) is not None:
            return position, damaged
        damaged += 1
    return position, max(damaged - 1, 0)


def _unless_damage(error: sqlite3.Error) -> None:
    if not is_damage(error):
        raise error

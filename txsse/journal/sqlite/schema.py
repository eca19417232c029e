"""
The database of a journal: how it is opened or made, and its small tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from txsse.errors import JournalFailed
from txsse.journal.sqlite.codec import CREATE, sum_of
from txsse.journal.sqlite.errors import is_damage

__all__ = [
    "MOST_VISITS",
    "Visit",
    "connect",
    "create",
    "mark",
    "marked",
    "put_visits",
    "transaction",
    "visits",
]

# "txss", so that another program's file is not taken for a journal.
_APPLICATION = 0x74787373
_SCHEMA = 3

# Each process that has opened the file: a secret of its own, and the position where it began. The
# mark is a position that was recorded, where no row shows it. What fills the probe shows that there is room.
_CREATE_OTHERS = (
    "CREATE TABLE visits (number INTEGER PRIMARY KEY, secret BLOB, begin INTEGER, checksum INTEGER)",
    "CREATE TABLE mark (number INTEGER PRIMARY KEY, position INTEGER, checksum INTEGER)",
    "CREATE TABLE probe (filler BLOB)",
)
MOST_VISITS = 100

# A secret, and the position where its visit began.
Visit = tuple[bytes, int]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """
    Do it all or nothing.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        if connection.in_transaction:
            connection.execute("COMMIT")
    except BaseException:
        # Where the disk is full, SQLite has done so already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def connect(path: Path, *, synchronous: str, timeout: float) -> sqlite3.Connection:
    """
    Open a database.

    :param timeout: how long to wait for another program's lock, in seconds.
    :raises JournalFailed: where it is none of ours.
    """
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        # A text in a damaged row may be none.
        connection.text_factory = bytes
        with transaction(connection):
            _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        # SQLite's automatic checkpoint hides errors, a failed fsync as well.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        # From the first read on, SQLite has all of its files.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables and not schema and not application:
        create(connection)
    elif application != _APPLICATION:
        raise JournalFailed(str(path), "is the database of another program; name another file")
    elif schema != _SCHEMA:
        age, advice = ("an older", "move it away")
        if schema > _SCHEMA:
            age, advice = ("a newer", "install that version again")
        raise JournalFailed(
            str(path),
            f"was made by {age} txsse (its schema is {schema}, and {_SCHEMA} is known here); {advice}, or "
            "name another file",
        )


def create(connection: sqlite3.Connection) -> None:
    """
    Create the tables.
    """
    for statement in (CREATE, *_CREATE_OTHERS):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_SCHEMA}")


def mark(connection: sqlite3.Connection, position: int) -> None:
    """
    Record that a position was reached.
    """
    connection.execute("REPLACE INTO mark VALUES (1, ?, ?)", [position, sum_of(1, position)])


def marked(connection: sqlite3.Connection) -> int:
    """
    Return the position of the mark; 0 where it cannot be read.
    """
    rows = _read(connection, "SELECT number, position, checksum FROM mark")
    return max((position for _, position in filter(None, rows)), default=0)


def visits(connection: sqlite3.Connection) -> list[Visit]:
    """
    Return the visits, in order. Where one of them cannot be read, it is not known where the one before it
    ended, so that those up to it are of no use.
    """
    found: list[Visit] = []
    for visit in _read(connection, "SELECT number, secret, begin, checksum FROM visits ORDER BY number"):
        if visit is None:
            found.clear()
        else:
            found.append((visit[1], visit[2]))
    return found


def put_visits(connection: sqlite3.Connection, visits: Sequence[Visit]) -> None:
    """
    Record visits in the place of those that are there.
    """
    connection.execute("DELETE FROM visits")
    for number, (secret, begin) in enumerate(visits):
        row = (number, secret, begin)
        connection.execute("INSERT INTO visits VALUES (?, ?, ?, ?)", (*row, sum_of(*row)))


def _read(connection: sqlite3.Connection, query: str) -> list[tuple[Any, ...] | None]:
    """
    Return rows whose last column is the checksum of the others, without it; ``None`` for one that is not as
    it was written.
    """
    try:
        rows = connection.execute(query).fetchall()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return []
    return [row[:-1] if sum_of(*row[:-1]) == row[-1] else None for row in rows]

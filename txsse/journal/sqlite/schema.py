"""
Opens or creates the database of a journal, and reads and writes its small tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from txsse.errors import JournalFailed
from txsse.journal.sqlite.codec import CREATE, sum_of
from txsse.journal.sqlite.errors import is_damage
from txsse.journal.sqlite.retained_table import CREATE as CREATE_RETAINED
from txsse.journal.sqlite.revocation_table import CREATE as CREATE_REVOCATIONS

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

# "txss". It distinguishes a journal from the database of another program.
_APPLICATION = 0x74787373
_SCHEMA = 5

# visits: for each process that has opened the file, its secret, and the position at which it began. mark: a
# position that was recorded, for when no row shows it. probe: data that is written to test whether the disk
# has room.
_CREATE_OTHERS = (
    "CREATE TABLE visits (number INTEGER PRIMARY KEY, secret BLOB, begin INTEGER, checksum INTEGER)",
    "CREATE TABLE mark (number INTEGER PRIMARY KEY, position INTEGER, checksum INTEGER)",
    "CREATE TABLE probe (filler BLOB)",
)
MOST_VISITS = 100

# A visit is the use of the file by one process: its secret, and the position at which it began.
Visit = tuple[bytes, int]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """
    Run the body in a transaction: commit it at the end, or roll it back if the body raises an exception.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        if connection.in_transaction:
            connection.execute("COMMIT")
    except BaseException:
        # If the disk is full, SQLite has already rolled back.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def connect(path: Path, *, synchronous: str, timeout: float) -> sqlite3.Connection:
    """
    Open a database. If it is empty, create its tables.

    :param synchronous: ``NORMAL`` or ``FULL``.
    :param timeout: how long to wait for another program's lock, in seconds.
    :raises JournalFailed: if it is not a journal, or has another schema.
    """
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        # A text in a damaged row may not be UTF-8.
        connection.text_factory = bytes
        with transaction(connection):
            _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        # SQLite's automatic checkpoint hides errors, even a failed fsync.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        # The first read makes SQLite create all of its files.
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
        raise JournalFailed(str(path), "is the database of another program; use another file")
    elif schema != _SCHEMA:
        age, advice = ("an older", "move it away")
        if schema > _SCHEMA:
            age, advice = ("a newer", "install that version again")
        raise JournalFailed(
            str(path),
            f"was made by {age} version of txsse (its schema is {schema}; this version reads {_SCHEMA}); "
            f"{advice}, or use another file",
        )


def create(connection: sqlite3.Connection) -> None:
    """
    Create the tables of a journal in an empty database.
    """
    for statement in (CREATE, *_CREATE_OTHERS, *CREATE_REVOCATIONS, *CREATE_RETAINED):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_SCHEMA}")


def mark(connection: sqlite3.Connection, position: int) -> None:
    """
    Record that a position was reached, for when no row shows it.
    """
    connection.execute("REPLACE INTO mark VALUES (1, ?, ?)", [position, sum_of(1, position)])


def marked(connection: sqlite3.Connection) -> int:
    """
    Return the position of the mark; 0 if it is missing or cannot be read.
    """
    rows = _read(connection, "SELECT number, position, checksum FROM mark")
    return max((row[1] for row in rows if row is not None and isinstance(row[1], int)), default=0)


def visits(connection: sqlite3.Connection) -> list[Visit]:
    """
    Return the visits, in order: those after the last damaged one.

    A visit ends where the next one begins. If one cannot be read, the end of the visit before it is unknown,
    so the visits up to it are useless.
    """
    found: list[Visit] = []
    for visit in _read(connection, "SELECT number, secret, begin, checksum FROM visits ORDER BY number"):
        match visit:
            case _, bytes(secret), int(begin):
                found.append((secret, begin))
            case _:
                found.clear()
    return found


def put_visits(connection: sqlite3.Connection, visits: Sequence[Visit]) -> None:
    """
    Replace all visits by these.
    """
    connection.execute("DELETE FROM visits")
    for number, (secret, begin) in enumerate(visits):
        row = (number, secret, begin)
        connection.execute("INSERT INTO visits VALUES (?, ?, ?, ?)", (*row, sum_of(*row)))


def _read(connection: sqlite3.Connection, query: str) -> list[tuple[object, ...] | None]:
    """
    Return the rows of a query, without their last column; ``None`` for a damaged row.

    The last column must be the checksum of the others.
    """
    try:
        rows = connection.execute(query).fetchall()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return []
    return [row[:-1] if sum_of(*row[:-1]) == row[-1] else None for row in rows]

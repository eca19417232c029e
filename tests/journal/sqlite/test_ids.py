"""
Tests of finding the rows of a journal's file by the ids of their updates.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.journal.journals import update
from txsse.journal.sqlite.database import Bounds, Database
from txsse.journal.sqlite.ids import earliest, newest, repeated
from txsse.journal.sqlite.salvage import copy_readable

NOW = time.time()
BOUNDS = Bounds(1000, 10**9, 10**9)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """
    Return an open file of a journal, with updates of the ids a, b, a, a, c, a.
    """
    database = Database(
        tmp_path / "journal.sqlite", BOUNDS, synchronous="NORMAL", lock_timeout=1.0, seconds=monotonic
    )
    database.open(NOW)
    database.begin_visit(b"0123456789abcdef")
    database.append([(update(id, str(number)), NOW) for number, id in enumerate("abaaca")])
    yield database
    database.close()


def test_earliest_and_newest(database: Database) -> None:
    """
    The newest row with an id is found, and the earliest one after the floor.
    """
    connection = database._opened
    assert [earliest(connection, b"a", floor) for floor in range(7)] == [1, 3, 3, 4, 6, 6, None]
    assert [newest(connection, id) for id in (b"a", b"b", b"c", b"d")] == [6, 2, 5, 0]


def test_repeated(database: Database) -> None:
    """
    An id counts as repeated while an older row with it is after the floor.
    """
    connection = database._opened
    assert repeated(connection, "abcd", 0) == repeated(connection, "abcd", 3) == {"a"}
    assert repeated(connection, "abcd", 4) == set()


def test_single_index_lookup(database: Database) -> None:
    """
    SQLite finds the earliest row with an id by one lookup in an index, without reading other rows.
    """
    connection = database._opened
    plans: list[str] = []
    connection.set_trace_callback(plans.append)
    earliest(connection, b"a", 0)
    connection.set_trace_callback(None)
    (plan,) = connection.execute(f"EXPLAIN QUERY PLAN {plans[0]}").fetchall()
    assert b"COVERING INDEX" in plan[3]
    assert b"superseded>" in plan[3]


def test_damaged(database: Database) -> None:
    """
    A superseded row whose column does not have its position is damaged, and is not found.
    """
    connection = database._opened
    connection.execute("UPDATE updates SET superseded = 2 WHERE position = 1")
    assert earliest(connection, b"a", 0) is None
    assert database.find("a", NOW) is None


def test_copied(database: Database, tmp_path: Path) -> None:
    """
    A copy of the readable rows has the same order of rows with one id.
    """
    copy_readable(database._opened, tmp_path / "copy", floor=0, head=6)
    with sqlite3.connect(tmp_path / "copy") as copy:
        rows = copy.execute("SELECT position, superseded FROM updates ORDER BY position").fetchall()
    copy.close()
    assert rows == [(1, 1), (2, 0), (3, 3), (4, 4), (5, 0), (6, 0)]

"""
Tests of the table of retained updates: its rows, and every kind of damage to them.
"""

from __future__ import annotations

import math
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, formatEvent

from tests.journal.sqlite.test_damage import PAGE, change
from txsse import ServerSentEvent, Update
from txsse.journal.resume_ids import new_secret
from txsse.journal.retained import Retained
from txsse.journal.retained_updates import RetainedUpdates
from txsse.journal.retention import Retention
from txsse.journal.sqlite import retained_table
from txsse.journal.sqlite.codec import sum_of
from txsse.journal.sqlite.database import Bounds, Database
from txsse.journal.sqlite.retained_table import (
    CREATE,
    RetainedScan,
    Size,
    copy_retained,
    delete_rows,
    expired_rows,
    put,
    remove,
    rewrite,
    scan,
    size_at,
)

NOW = 1_700_000_000.0

_numbers = count()


def retained(
    key: str,
    data: str = "x",
    topics: str | tuple[str, ...] = "news",
    *,
    owner: str | None = None,
    private: bool = False,
    seconds: float | None = None,
    id: str | None = None,
) -> Update:
    event = ServerSentEvent(data, id=id or f"id {next(_numbers)}")
    return Update(topics, event, private=private, retention=Retention(key, seconds, owner))


def connect(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = bytes
    return connection


def new_table(path: Path | str = ":memory:") -> sqlite3.Connection:
    connection = connect(path)
    for statement in CREATE:
        connection.execute(statement)
    return connection


@pytest.fixture
def table() -> Iterator[sqlite3.Connection]:
    """
    Return an empty table in memory.
    """
    with closing(new_table()) as connection:
        yield connection


def add(connection: sqlite3.Connection, position: int, update: Update, expires: float | None = None) -> None:
    put(connection, position, update, update.frame_without_id, expires)


def entries(found: RetainedScan) -> list[tuple[int, str, str]]:
    return [(row.position, row.topics[0], row.key) for row in found.rows]


class RowTests:
    def test_unchanged(self, table: sqlite3.Connection) -> None:
        """
        A retained update is read as it was written, in the order of positions and of its topics.
        """
        whole = retained("ü \t", "a\nb", ("b ü", "a\0"), owner="me ß ü", private=True)
        add(table, 7, whole, 1e12)
        add(table, 3, retained("ü \t"))
        found = scan(table)
        assert not found.is_damaged
        frame = whole.frame_without_id
        assert found.rows == [
            Retained(3, ("news",), False, "ü \t", None, math.inf, b"data: x\n\n"),
            Retained(7, ("b ü",), True, "ü \t", "me ß ü", 1e12, frame),
            Retained(7, ("a\0",), True, "ü \t", "me ß ü", 1e12, frame),
        ]

    def test_replaced(self, table: sqlite3.Connection) -> None:
        """
        An update replaces the rows of its topics and key in every column, and no other ones.
        """
        add(table, 1, retained("a", "1", ("x", "y", "z"), owner="me", private=True), 5.0)
        add(table, 2, retained("b", "2", "x"))
        add(table, 3, retained("a", "3", ("z", "x")))
        found = scan(table).rows
        assert [(row.position, row.topics) for row in found] == [
            (1, ("y",)),
            (2, ("x",)),
            (3, ("z",)),
            (3, ("x",)),
        ]
        assert found[-1] == Retained(3, ("x",), False, "a", None, math.inf, b"data: 3\n\n")

    def test_removed(self, table: sqlite3.Connection) -> None:
        """
        Rows are deleted by topics and key, or by number.
        """
        add(table, 1, retained("a", topics=("x", "y", "z")))
        add(table, 2, retained("b", topics="x"))
        remove(table, ("x", "z", "no"), "a")
        assert entries(scan(table)) == [(1, "y", "a"), (2, "x", "b")]
        row = size_at(table, "y", "a", 0.0)
        assert row is not None
        delete_rows(table, [row.number])
        assert entries(scan(table)) == [(2, "x", "b")]

    def test_size(self, table: sqlite3.Connection) -> None:
        """
        SQLite computes the same size of a row as the store in memory.
        """
        update = retained("ü" * 40, "ü" * 99, "topic ü")
        add(table, 1, update, 10.0)
        memory = RetainedUpdates(lambda: 0.0)
        memory.restore(scan(table).rows, 1)
        (number,) = table.execute("SELECT number FROM retained").fetchone()
        key = "ü" * 40
        assert size_at(table, "topic ü", key, 9.9) == Size(number, memory.size, False)
        assert size_at(table, "topic ü", key, 10.0) == Size(number, memory.size, True)
        assert size_at(table, "topic", key, 0.0) is None
        assert size_at(table, "topic ü", "key", 0.0) is None
        assert expired_rows(table, 10.0, 5) == [Size(number, memory.size, True)]

    def test_expired(self, table: sqlite3.Connection) -> None:
        """
        Expired rows are found in the order of their times, by an index that has no others.
        """
        for number, expires in enumerate([5.0, None, 3.0, 7.0, 4.0]):
            add(table, number, retained(str(number)), expires)
        numbers = [row[0] for row in table.execute("SELECT number FROM retained ORDER BY position")]
        assert [row.number for row in expired_rows(table, 5.0, 9)] == [numbers[2], numbers[4], numbers[0]]
        assert [row.number for row in expired_rows(table, 5.0, 2)] == [numbers[2], numbers[4]]
        plan = table.execute(
            "EXPLAIN QUERY PLAN SELECT number FROM retained WHERE expires <= 5 ORDER BY expires"
        ).fetchall()
        assert b"retained_by_expiry" in plan[0][3] and len(plan) == 1


# A value of each other type, and a changed one, for each column.
DAMAGES = [
    *(("position", value) for value in (4, 2**62, -5, "x", 1.5, b"2")),
    *(("expires", value) for value in (None, 0.0, 1e300, "x", b"x")),
    *(("checksum", value) for value in (0, "x", b"x", 1.5)),
    *(("private", value) for value in (1, 7, "x", 0.5, b"")),
    *(("place", value) for value in (1, -1, "x", 0.5, b"")),
    *(("topic", value) for value in (b"olds", b"", b"\xff", "news", 7, None)),
    *(("key", value) for value in (b"secreT", b"", b"\xff", "secret", 7, None)),
    *(("owner", value) for value in (None, b"mE", b"", "mE", 7)),
    *(("frame", value) for value in (b"data: y\n\n", b"", "data: y\n\n", 7, 0.5, None)),
]


class DamageTests:
    @pytest.mark.parametrize(("column", "value"), DAMAGES)
    def test_column(self, table: sqlite3.Connection, column: str, value: object) -> None:
        """
        A row with a changed value, or one of another type, is skipped. The other rows are read, and the table
        can be repaired.
        """
        # Without the NOT NULL constraints, which a flipped bit can also violate.
        table.execute("DROP TABLE retained")
        for statement in CREATE:
            table.execute(statement.replace(" BLOB NOT NULL", " BLOB"))
        add(table, 1, retained("a"))
        add(table, 2, retained("secret", owner="me"), 1e9)
        add(table, 3, retained("b"))
        table.execute(f"UPDATE retained SET {column} = ? WHERE position = 2", [value])
        found = scan(table)
        assert entries(found) == [(1, "news", "a"), (3, "news", "b")]
        assert found.is_damaged
        rewrite(table, found.rows)
        assert scan(table) == RetainedScan(found.rows, False)

    @pytest.mark.parametrize(("column", "value"), DAMAGES)
    def test_copied(self, table: sqlite3.Connection, column: str, value: object) -> None:
        """
        A damaged row is not copied, except if only the types of its texts are wrong; the others are.
        """
        add(table, 1, retained("secret", owner="me"), 1e9)
        add(table, 2, retained("b"))
        rows = table.execute("SELECT * FROM retained").fetchall()
        columns = [each[1].decode() for each in table.execute("PRAGMA table_info(retained)")]
        row = [*rows[0]]
        was, row[columns.index(column)] = row[columns.index(column)], value
        is_same = isinstance(value, str) and was == value.encode()
        with closing(new_table()) as damaged, closing(new_table()) as fresh:
            damaged.execute("DROP TABLE retained")
            damaged.execute(CREATE[0].replace(" BLOB NOT NULL", " BLOB"))
            damaged.executemany(f"INSERT INTO retained VALUES ({', '.join('?' * 10)})", [row, rows[1]])
            copy_retained(damaged, fresh)
            expected = [(1, "news", "secret")] * is_same + [(2, "news", "b")]
            assert entries(scan(fresh)) == expected

    @pytest.mark.parametrize("number", [0, -5, -(2**63), 2**62 + 1, 2**63 - 1])
    def test_number(self, table: sqlite3.Connection, number: int) -> None:
        """
        A row whose number is damaged so that it cannot be read is deleted by a repair.
        """
        add(table, 1, retained("a"))
        add(table, 2, retained("b"), 1e9)
        table.execute("UPDATE retained SET number = ? WHERE position = 1", [number])
        found = scan(table)
        assert entries(found) == [(2, "news", "b")]
        assert found.is_damaged
        rewrite(table, found.rows)
        assert scan(table) == RetainedScan(found.rows, False)

    @pytest.mark.parametrize("index", ["retained_by_name", "retained_by_expiry"])
    @pytest.mark.parametrize("how", ["missing", "changed", "twice"])
    def test_index(self, index: str, how: str, tmp_path: Path) -> None:
        """
        If an index differs from the rows, this is detected, and repaired without a loss.
        """
        path = tmp_path / "table"
        with closing(new_table(path)) as table:
            for number in range(5):
                add(table, number, retained(f"a long key {number}"), 1e9 + number)
            expected = scan(table)
            assert not expected.is_damaged
            (root,) = table.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [index]).fetchone()
            (size,) = table.execute("PRAGMA page_size").fetchone()
        content = bytearray(path.read_bytes())
        page = (root - 1) * size
        # The page has the number of its entries, and their offsets. https://www.sqlite.org/fileformat2.html
        if how == "missing":
            content[page + 4] -= 1
        elif how == "twice":
            content[page + 8 : page + 10] = content[page + 10 : page + 12]
        else:
            # The last byte of an entry is part of its number.
            offset = page + int.from_bytes(content[page + 8 : page + 10], "big")
            content[offset + content[offset]] ^= 64
        path.write_bytes(content)
        with closing(connect(path)) as table:
            found = scan(table)
            assert found == RetainedScan(expected.rows, True)
            rewrite(table, found.rows)
            assert scan(table) == expected

    def test_unreadable_index(self, table: sqlite3.Connection) -> None:
        """
        An index that SQLite cannot read counts as damaged; an error of another kind is raised.
        """
        add(table, 1, retained("a"))

        class Failing:
            def __init__(self, code: int) -> None:
                self.error = sqlite3.DatabaseError("failed")
                self.error.sqlite_errorcode = code  # type: ignore[misc]

            def cursor(self) -> sqlite3.Cursor:
                return table.cursor()

            def execute(self, *_: object) -> None:
                raise self.error

        assert scan(Failing(11)) == RetainedScan(scan(table).rows, True)  # type: ignore[arg-type]
        with pytest.raises(sqlite3.DatabaseError, match="failed"):
            scan(Failing(10))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("topic", "key"), [(b"\xff", b"x"), (b"x", b"\xff"), (b"x", 7), ("x", b"x")], ids=str
    )
    def test_foreign_row(self, table: sqlite3.Connection, topic: object, key: object) -> None:
        """
        A row of another program that is not a retained update is skipped, although its checksum is right.
        """
        checksum = sum_of(1, None, 0, 0, topic, key, None, 0)
        table.execute(
            "INSERT INTO retained VALUES (1, 1, NULL, ?, 0, 0, ?, ?, NULL, x'')", [checksum, topic, key]
        )
        assert scan(table) == RetainedScan([], True)

    @pytest.mark.parametrize("positions", [(1, 2), (2, 1)])
    def test_repeated_name(self, table: sqlite3.Connection, positions: tuple[int, int]) -> None:
        """
        Of two rows with one topic and key, which a damaged index allowed, only the newest counts.
        """
        rows = []
        for number, position in enumerate(positions, 1):
            add(table, position, retained("a", str(position)))
            rows += [(number, *row[1:]) for row in table.execute("SELECT * FROM retained").fetchall()]
        table.execute("DROP TABLE retained")
        for statement in CREATE:
            table.execute(statement.replace("UNIQUE", ""))
        table.executemany(f"INSERT INTO retained VALUES ({', '.join('?' * 10)})", rows)
        found = scan(table)
        assert entries(found) == [(2, "news", "a")]
        assert found.is_damaged
        with closing(new_table()) as fresh:
            copy_retained(table, fresh)
            assert scan(fresh) == RetainedScan(found.rows, False)

    def test_number_twice(self, table: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If a damaged table has one number twice, both rows are copied.
        """
        add(table, 1, retained("a"))
        add(table, 2, retained("b"))
        rows = [(5, *row[1:]) for row in table.execute("SELECT * FROM retained").fetchall()]
        monkeypatch.setattr(retained_table, "rows_after", lambda *_, **__: iter(rows))
        with closing(new_table()) as fresh:
            copy_retained(table, fresh)
            monkeypatch.undo()
            assert entries(scan(fresh)) == [(1, "news", "a"), (2, "news", "b")]


def texts_of(logged: list[LogEvent]) -> list[str]:
    return [text for event in logged if "retained" in (text := formatEvent(event))]


def open_database(path: Path) -> Database:
    database = Database(
        path, Bounds(10**6, 10**9, 10**9), synchronous="NORMAL", lock_timeout=0.0, seconds=monotonic
    )
    database.open(NOW)
    database.begin_visit(new_secret())
    return database


def rows_of(database: Database) -> list[Retained]:
    loaded = database.take_loaded()
    assert loaded is not None
    assert (database._retained.count, database._retained.bytes) == (loaded.count, loaded.size)
    found = []
    after = 0
    while True:
        page = loaded.read_now(None, after, 10**9)
        found += [row for _, row in page.entries]
        after = page.end
        if after >= 10**9:
            return found


class FlippedBitsTests:
    @given(st.integers(0, 2**32))
    @settings(deadline=None, derandomize=True, max_examples=60)
    def test_random_bits(self, seed: int) -> None:
        """
        With random flipped bits in a file, each retained update that is read is as written, new ones are
        recorded, and the next process finds the same ones.
        """
        rng = random.Random(seed)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "journal"
            database = open_database(path)
            written: dict[str, tuple[int, bytes]] = {}
            for number in range(0, 150, 10):
                batch = [retained(f"key {n % 99}", "x" * (n % 700)) for n in range(number, number + 10)]
                positions = database.append_retaining([(each, NOW) for each in batch], [False] * 10)
                for position, each in zip(positions, batch, strict=True):
                    assert isinstance(position, int) and each.retention is not None
                    written[each.retention.key] = position, each.frame_without_id
            database.finish()
            content = bytearray(path.read_bytes())
            for _ in range(rng.choice((1, 1, 3, 30))):
                content[rng.randrange(PAGE, len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            database = open_database(path)
            before = rows_of(database)
            for row in before:
                assert (row.topics, row.owner, row.private) == (("news",), None, False)
                assert written[row.key] == (row.position, row.frame)
            updates = [retained("new"), retained(f"key {rng.randrange(99)}", "changed")]
            positions = database.append_retaining([(each, NOW) for each in updates], [False] * 2)
            assert positions == [151, 152]
            salvaged = database.take_loaded()
            if salvaged is not None:
                before = [row for row in before if salvaged.find("news", row.key) is not None]
            database.finish()
            database = open_database(path)
            after = rows_of(database)
            changed = {each.retention.key for each in updates if each.retention is not None}
            assert [row for row in after if row.key not in changed] == [
                row for row in before if row.key not in changed
            ]
            assert [row.position for row in after if row.key in changed] == positions
            database.finish()


class FileTests:
    def test_head(self, tmp_path: Path) -> None:
        """
        If no other row shows how far the positions had got, those of retained updates are not used again.
        """
        path = tmp_path / "journal"
        database = open_database(path)
        positions = database.append_retaining([(retained(key), NOW) for key in "abc"], [False] * 3)
        assert positions == [1, 2, 3]
        database.finish()
        change(path, "DELETE FROM updates")
        change(path, "DELETE FROM mark")
        Path(f"{path}-head").unlink()
        database = open_database(path)
        assert [row.position for row in rows_of(database)] == [1, 2, 3]
        assert database.append_retaining([(retained("d"), NOW)], [False]) == [4]
        database.finish()

    def test_changed_at(self, tmp_path: Path) -> None:
        """
        After a restart, the newest change may be at the head, because an update may have removed a row there;
        unless no row is left, so that a hub which retains nothing need not send states.
        """
        path = tmp_path / "journal"
        database = open_database(path)
        removal = Update("news", ServerSentEvent("a", "unretain", "removal"), retention=Retention("a", None))
        database.append_retaining(
            [(each, NOW) for each in (retained("a"), retained("b"), removal)], [False] * 3
        )
        database.finish()
        database = open_database(path)
        loaded = database.take_loaded()
        assert loaded is not None and (loaded.count, loaded.changed_at) == (1, 3)
        assert database.take_loaded() is None
        last = Update("news", ServerSentEvent("b", "unretain", "last"), retention=Retention("b", None))
        database.append_retaining([(last, NOW)], [False])
        database.finish()
        database = open_database(path)
        loaded = database.take_loaded()
        assert loaded is not None and (loaded.count, loaded.changed_at) == (0, 0)
        database.finish()

    def test_damage_is_logged_once(self, tmp_path: Path, logged: list[LogEvent]) -> None:
        """
        Damaged rows are deleted, and logged once without their content, also if their numbers are damaged.
        """
        path = tmp_path / "journal"
        database = open_database(path)
        database.append_retaining([(retained(key), NOW) for key in ("a", "secret", "b")], [False] * 3)
        database.finish()
        assert not texts_of(logged)
        change(path, "UPDATE retained SET number = -1 WHERE number = 1")
        change(path, "UPDATE retained SET frame = x'00' WHERE key = ?", b"secret")
        for _ in range(2):
            database.open(NOW)
            database.begin_visit(new_secret())
            assert [row.key for row in rows_of(database)] == ["b"]
            database.finish()
        (text,) = texts_of(logged)
        assert text == (
            f"{path}: records of retained updates are damaged, and those that cannot be read are skipped; "
            "publish these updates again, with their keys"
        )
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM retained").fetchone() == (1,)

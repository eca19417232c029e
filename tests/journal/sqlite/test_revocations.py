"""
Tests of the list of revoked tokens in a journal's file: restarts, limits, damage, and failed writes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import gatherResults
from twisted.logger import LogEvent, formatEvent

from tests.journal.journals import Subject, acknowledged_before_a_kill, sqlite
from tests.journal.sqlite.test_damage import PAGE, change
from tests.journal.sqlite.test_journal import problem_of
from txsse import TooManyRevocations
from txsse.journal.revocations import Revocation, merge
from txsse.journal.sqlite import checkpoint as sqlite_checkpoint
from txsse.journal.sqlite.codec import sum_of
from txsse.journal.sqlite.revocation_table import CREATE, delete, page_after, record

NAME = attrgetter("claim", "value")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def new(path: Path) -> Iterator[Callable[..., Subject]]:
    """
    Make journals that use one file, one after the other, and stop them after the test.
    """
    made: list[Subject] = []

    def make(**options: Any) -> Subject:
        made.append(sqlite(path, **options))
        return made[-1]

    yield make
    for subject in made:
        pytest_twisted.blockon(subject.journal.stop())


def revoked(subject: Subject, *values: str, seconds: float = 1000.0, at: float = 0.0) -> list[Revocation]:
    now = subject.now()
    return [Revocation("jti", value, now + at, now + seconds) for value in values]


async def add(subject: Subject, *values: str, **times: float) -> list[Revocation]:
    added = revoked(subject, *values, **times)
    await gatherResults([subject.journal.revocations.add(each) for each in added])
    return added


async def load(subject: Subject) -> list[str]:
    return sorted(each.value for each in await subject.journal.revocations.load())


def rows_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM revocations").fetchone()
        return int(count)


# The first byte of a page with the rows of a table, or with the entries of an index.
# Source: https://www.sqlite.org/fileformat2.html
TABLE, INDEX = 0x0D, 0x0A


def overwrite(path: Path, kind: int, which: slice) -> None:
    """
    Overwrite pages of the list, or of its index by claim and value.
    """
    content = path.read_bytes()
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    numbers = [number for number, page in enumerate(pages) if page[0] == kind and b"jti" in page]
    with path.open("r+b") as file:
        for number in numbers[which]:
            file.seek(number * PAGE)
            file.write(b"\xff" * PAGE)


def texts_of(logged: list[LogEvent]) -> list[str]:
    return [text for event in logged if "revoked" in (text := formatEvent(event))]


class RestartTests:
    @pytest_twisted.ensureDeferred
    async def test_next_process(self, new: Callable[..., Subject]) -> None:
        """
        The next process with a SQLite journal has the same list of revoked tokens.
        """
        first = new()
        await first.start()
        added = await add(first, "1", "2")
        await first.journal.stop()
        second = new()
        await second.start()
        assert await second.journal.revocations.load() == added

    @pytest.mark.process
    @pytest_twisted.ensureDeferred
    async def test_killed(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A token that was revoked remains revoked although the process was killed directly afterwards.
        """
        acknowledged = acknowledged_before_a_kill(f"sqlite:{path}", module="tests.journal.revoking")
        subject = new()
        await subject.start()
        assert set(acknowledged) <= set(await load(subject))

    @pytest_twisted.ensureDeferred
    async def test_after_stop(self, new: Callable[..., Subject]) -> None:
        """
        A journal that has been stopped neither records revocations nor loads them, and its error says so.
        """
        subject = new()
        await subject.start()
        await subject.journal.stop()
        for work in (subject.journal.revocations.load(), add(subject, "1")):
            assert "has not been started, or has been stopped" in await problem_of_any(work)


async def problem_of_any(work: Any) -> str:
    try:
        await work
    except Exception as error:
        return str(getattr(error, "subFailure", error))
    return ""


class LimitTests:
    @pytest_twisted.ensureDeferred
    async def test_full(self, new: Callable[..., Subject]) -> None:
        """
        A full list refuses a new revocation until one expires; this is not a problem of the journal.
        """
        subject = new()
        await subject.start()
        revocations = subject.journal.revocations
        revocations._max_count = 3
        await add(subject, "1", seconds=10)
        await add(subject, "2", "3", seconds=100)
        with pytest.raises(TooManyRevocations, match="3 have not expired"):
            await revocations.add(revoked(subject, "4")[0])
        assert subject.journal.problem is None
        await add(subject, "2", seconds=200)
        assert await load(subject) == ["1", "2", "3"]
        subject.advance(50)
        await add(subject, "4")
        assert await load(subject) == ["2", "3", "4"]
        with pytest.raises(TooManyRevocations):
            await revocations.add(revoked(subject, "5")[0])
        assert await subject.append("1") == [1]

    @pytest.mark.parametrize("how", ["add", "load"])
    @pytest_twisted.ensureDeferred
    async def test_expired(
        self, new: Callable[..., Subject], path: Path, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Expired revocations are deleted from the file by each call that adds one or loads all, in steps.
        """
        monkeypatch.setattr("txsse.journal.sqlite.revocation_table._STEP", 30)
        monkeypatch.setattr("txsse.journal.sqlite.revocations._PAGE_COUNT", 7)
        subject = new()
        await subject.start()
        await add(subject, *map(str, range(40)), seconds=10)
        await add(subject, "long")
        subject.advance(20)
        left = []
        for _ in range(2):
            if how == "add":
                await add(subject, "long")
            else:
                assert await load(subject) == ["long"]
            left.append(rows_in(path))
        assert left == [11, 1]

    @pytest_twisted.ensureDeferred
    async def test_changed_while_loading(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Revocations that are added while the list is read, page by page, are neither missed nor doubled.
        """
        monkeypatch.setattr("txsse.journal.sqlite.revocations._PAGE_COUNT", 3)
        subject = new()
        await subject.start()
        await add(subject, *"abcdefghi")
        loading = subject.journal.revocations.load()
        adding = add(subject, *"abc", at=5.0)
        await adding
        found = await loading
        assert sorted(each.value for each in found) == list("abcdefghi")


class FileTests:
    @pytest_twisted.ensureDeferred
    async def test_older_file(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A journal does not start with a file that an older version made, without the list of revoked tokens.
        """
        subject = new()
        await subject.start()
        await subject.journal.stop()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE revocations")
            connection.execute("PRAGMA user_version = 4")
        problem = await problem_of(subject.start())
        assert "was made by an older version of txsse (its schema is 4; this version reads 5)" in problem

    @pytest.mark.parametrize("suffix", ["", "-wal", "-head"])
    @pytest_twisted.ensureDeferred
    async def test_removed(self, new: Callable[..., Subject], path: Path, suffix: str) -> None:
        """
        After a file of a journal is removed, revoking fails until the journal is started again.
        """
        subject = new()
        await subject.start()
        await add(subject, "1")
        Path(f"{path}{suffix}").unlink()
        subject.journal._database._files._look_at = 0.0
        for _ in range(2):
            problem = await problem_of(subject.journal.revocations.add(revoked(subject, "2")[0]))
            assert "was removed or replaced while it was in use" in problem
            assert str(subject.journal.problem) == problem
        assert "1" in await load(subject)

    @pytest_twisted.ensureDeferred
    async def test_replaced(self, new: Callable[..., Subject], path: Path, tmp_path: Path) -> None:
        """
        A journal that is started with a file from a backup has the list of revoked tokens of the backup.
        """
        subject = new()
        await subject.start()
        await add(subject, "1")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM INTO ?", [str(tmp_path / "copy")])
        await add(subject, "2")
        await subject.journal.stop()
        os.replace(tmp_path / "copy", path)
        await subject.start()
        assert await load(subject) == ["1"]

    @pytest_twisted.ensureDeferred
    async def test_locked(self, new: Callable[..., Subject], path: Path) -> None:
        """
        While another program holds a write lock, revoking fails and the list can be loaded, also if it has
        expired revocations; then revoking works again.
        """
        subject = new(lock_timeout=0.05)
        await subject.start()
        await add(subject, "1")
        await add(subject, "expired", seconds=-1)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            problem = await problem_of(subject.journal.revocations.add(revoked(subject, "2")[0]))
            assert "another program holds a lock on the file; end its transaction" in problem
            assert await load(subject) == ["1"]
            assert "another program holds a lock" in str(subject.journal.problem)
        await add(subject, "2")
        assert subject.journal.problem is None
        assert await load(subject) == ["1", "2"]

    @pytest_twisted.ensureDeferred
    async def test_checkpoint(
        self, new: Callable[..., Subject], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Revocations count for the checkpoints, without which the ``-wal`` would grow without a limit.
        """
        monkeypatch.setattr(sqlite_checkpoint, "_PAGES", 20)
        subject = new()
        await subject.start()
        await add(subject, *map(str, range(500)))
        assert Path(f"{path}-wal").stat().st_size < 200 * PAGE


class DamageTests:
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("claim", b"sub"),
            ("claim", 7),
            ("value", b"3"),
            ("value", b"\xff"),
            ("value", "text"),
            ("at", 0.0),
            ("at", b"x"),
            ("expires", 1e300),
            ("expires", "x"),
            ("checksum", 0),
            ("checksum", b"x"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_column(
        self, new: Callable[..., Subject], path: Path, column: str, value: object, logged: list[LogEvent]
    ) -> None:
        """
        A damaged record of a revoked token is skipped, deleted, and logged once without its content.
        """
        subject = new()
        await subject.start()
        await add(subject, "1", "secret", "2")
        await subject.journal.stop()
        change(path, f"UPDATE revocations SET {column} = ? WHERE value = ?", value, b"secret")
        await subject.start()
        for _ in range(2):
            assert await load(subject) == ["1", "2"]
        (text,) = texts_of(logged)
        assert text == (
            f"{path}: records of revoked tokens are damaged and are skipped; revoke again the tokens that "
            "must not be accepted"
        )
        assert rows_in(path) == 2
        assert (subject.journal.problem, subject.journal.damaged) == (None, 0)
        await add(subject, "secret")
        assert await load(subject) == ["1", "2", "secret"]

    @pytest.mark.parametrize(
        ("claim", "value", "at"),
        [
            (b"", b"x", 1.0),
            (b"jti", b"\xff", 1.0),
            (b"jti", b"x" * 5000, 1.0),
            (7, b"x", 1.0),
            (b"jti", b"x", b"1"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_foreign_row(
        self, new: Callable[..., Subject], path: Path, claim: object, value: bytes, at: object
    ) -> None:
        """
        A row of another program that is not a revocation is skipped, although its checksum is right.
        """
        subject = new()
        await subject.start()
        row = claim, value, at, subject.now() + 1000
        change(
            path,
            "INSERT INTO revocations (claim, value, at, expires, checksum) VALUES (?, ?, ?, ?, ?)",
            *row,
            sum_of(*row),
        )
        await add(subject, "1")
        assert await load(subject) == ["1"]

    @pytest_twisted.ensureDeferred
    async def test_damaged_row_is_replaced(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A revocation whose record is damaged can be added again.
        """
        subject = new()
        await subject.start()
        await add(subject, "1", seconds=2000)
        change(path, "UPDATE revocations SET at = 1e300")
        (again,) = await add(subject, "1")
        assert await subject.journal.revocations.load() == [again]

    @pytest_twisted.ensureDeferred
    async def test_pages(self, new: Callable[..., Subject], path: Path, logged: list[LogEvent]) -> None:
        """
        If SQLite cannot read pages of the list, the other revocations are loaded, and this is logged once.
        """
        subject = new()
        await subject.start()
        await add(subject, *(f"{number:0500}" for number in range(200)))
        await subject.journal.stop()
        overwrite(path, TABLE, slice(3, 5))
        await subject.start()
        for _ in range(2):
            assert 150 < len(await load(subject)) < 200
        assert len(texts_of(logged)) == 1
        assert await subject.append("1") == [1]

    @pytest_twisted.ensureDeferred
    async def test_index(self, new: Callable[..., Subject], path: Path) -> None:
        """
        If SQLite cannot read the index of the list, adding a revocation replaces the file by a copy with all
        readable revocations.
        """
        subject = new()
        await subject.start()
        await add(subject, *map(str, range(300)))
        await subject.append("1")
        await subject.journal.stop()
        overwrite(path, INDEX, slice(None))
        change(path, "UPDATE revocations SET checksum = 1 WHERE number = 7")
        await subject.start()
        await add(subject, "new")
        # The copy does not have the damaged one.
        assert rows_in(path) == 300
        assert len(await load(subject)) == 300
        assert subject.journal.problem is None
        assert Path(f"{path}-damaged").exists()
        assert await subject.ids_after(0) == ["1"]
        await subject.journal.stop()
        await subject.start()
        assert len(await load(subject)) == 300


calls = st.lists(
    st.one_of(
        st.integers(1, 40),
        st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.integers(0, 100), st.integers(0, 100)),
    )
)


class TableTests:
    @given(calls, st.integers(1, 5))
    def test_any_calls(self, given: list[Any], max_count: int) -> None:
        """
        After any calls, and any time, the table has exactly the revocations that have not expired.
        """
        now = 0.0
        expected: dict[tuple[str, str], Revocation] = {}
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.text_factory = bytes
            for statement in CREATE:
                connection.execute(statement)
            for call in given:
                if isinstance(call, int):
                    now += call
                    delete(connection, (), now)
                    expected = {name: each for name, each in expected.items() if each.expires > now}
                else:
                    added = Revocation(*call)
                    name = added.claim, added.value
                    expected = {name: each for name, each in expected.items() if each.expires > now}
                    fits = name in expected or len(expected) < max_count
                    assert record(connection, added, now, max_count) == fits
                    if fits:
                        expected[name] = merge(added, expected.get(name), now)
                found = page_after(connection, 0, 100).found
                assert sorted(found, key=NAME) == sorted(expected.values(), key=NAME)

    def test_other_row_by_a_damaged_index(self) -> None:
        """
        The times of another revocation, which a damaged index returns, do not count.
        """

        class Damaged:
            def __init__(self, connection: sqlite3.Connection) -> None:
                self.connection = connection

            def execute(self, statement: str, *values: Any) -> Any:
                if "WHERE claim" in statement:
                    statement, values = statement.replace("value = ?", "? IS NOT NULL"), values
                return self.connection.execute(statement, *values)

            def executemany(self, *values: Any) -> Any:
                return self.connection.executemany(*values)

        with closing(sqlite3.connect(":memory:")) as connection:
            connection.text_factory = bytes
            for statement in CREATE:
                connection.execute(statement)
            record(connection, Revocation("jti", "1", 50, 60), 0, 9)
            added = Revocation("jti", "2", 10, 20)
            record(Damaged(connection), added, 0, 9)  # type: ignore[arg-type]
            assert added in page_after(connection, 0, 9).found

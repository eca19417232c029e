"""
Tests of retained updates in a journal's file: restarts, limits, expiry, failed writes and damage.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent

from tests.journal.journals import Subject, acknowledged_before_a_kill, sqlite, update
from tests.journal.retaining import retained as numbered
from tests.journal.sqlite.test_damage import PAGE, change
from tests.journal.sqlite.test_journal import problem_of
from tests.journal.sqlite.test_retained_table import connect, new_table, retained, texts_of
from tests.waiting import until
from txsse import ServerSentEvent, Update
from txsse.errors import NotRetained, RetainedFull
from txsse.journal.position import OLDEST
from txsse.journal.retained import Retained
from txsse.journal.retained_updates import RetainedUpdates
from txsse.journal.retention import Retention
from txsse.journal.revocations import Revocation
from txsse.journal.sqlite import SQLiteJournal, retained_rows
from txsse.journal.sqlite.database import Database
from txsse.journal.sqlite.retained_rows import RetainedBounds, RetainedRows
from txsse.journal.sqlite.retained_table import put, scan


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


def removal(key: str, topics: str | tuple[str, ...] = "news", *, id: str = "") -> Update:
    event = ServerSentEvent(key, "unretain", id or retained(key).id)
    return Update(topics, event, retention=Retention(key))


async def publish(subject: Subject, *updates: Update) -> list[Any]:
    """
    Append updates in one turn, and return the position of each, or the type of its error.
    """
    results: list[Any] = []
    for recorded in [subject.journal.append(each) for each in updates]:
        try:
            results.append(await recorded)
        except (NotRetained, RetainedFull) as error:
            results.append(type(error))
    return results


def rows_in_memory(memory: RetainedUpdates) -> list[Retained]:
    rows: list[Retained] = []
    after = 0
    while after < 2**62:
        page = memory.read_now(None, after, 2**62)
        rows += [row for _, row in page.entries]
        after = page.end
    return rows


def check(subject: Subject, path: Path, *keys: str) -> None:
    """
    Check that the file and the memory have the same rows, with these keys, and count them in the same way.
    """
    rows = rows_in_memory(subject.journal.retained)
    counted = subject.journal._database._retained
    assert (counted.count, counted.bytes) == (subject.journal.retained.count, subject.journal.retained.size)
    with closing(connect(path)) as connection:
        stored = RetainedUpdates(lambda: 0.0)
        found = scan(connection)
        stored.restore(found.rows, 0)
    assert not found.is_damaged
    assert [replace(row, expires=0) for row in rows_in_memory(stored)] == [
        replace(row, expires=0) for row in rows
    ]
    assert [row.key for row in rows] == list(keys)


def count_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM retained").fetchone()
        return int(count)


class RestartTests:
    @pytest_twisted.ensureDeferred
    async def test_next_process(self, new: Callable[..., Subject], path: Path) -> None:
        """
        The next process retains the same updates, also those that are no longer held; a journal that is
        started again does, too.
        """
        first = new(max_count=2)
        await first.start()
        await publish(first, retained("a", owner="me"), retained("b", topics=("x", "y")))
        await publish(first, retained("a", "2", topics="x"), *(update(str(n)) for n in range(200)))
        rows = rows_in_memory(first.journal.retained)
        await first.journal.stop()
        second = new()
        for subject in (second, second):
            memory = subject.journal.retained
            await subject.start()
            assert rows_in_memory(memory) == rows
            assert memory.changed_at == subject.journal.head
            assert (memory.count, memory.owned("me")) == (4, 1)
            await subject.journal.stop()
        await second.start()
        assert await publish(second, removal("b", "x"), removal("b", "z")) == [204, NotRetained]
        check(second, path, "a", "b", "a")

    @pytest.mark.process
    @pytest_twisted.ensureDeferred
    async def test_killed(self, new: Callable[..., Subject], path: Path) -> None:
        """
        After a kill of the process, exactly the newest updates of the record are retained.
        """
        acknowledged = acknowledged_before_a_kill(f"sqlite:{path}", module="tests.journal.retaining")
        subject = new()
        await subject.start()
        ids = await subject.ids_after(OLDEST)
        assert ids[: len(acknowledged)] == acknowledged
        expected: dict[str, int] = {}
        for position, id in enumerate(ids, 1):
            each = numbered(int(id))
            assert each.retention is not None
            if each.unretains:
                del expected[each.retention.key]
            else:
                expected[each.retention.key] = position
        check(subject, path, *sorted(expected, key=lambda key: expected[key]))
        assert subject.journal.retained.count == 2 * len(expected)

    @pytest.mark.parametrize("loss", ["removed", "damaged"])
    @pytest_twisted.ensureDeferred
    async def test_lost_wal(self, new: Callable[..., Subject], path: Path, tmp_path: Path, loss: str) -> None:
        """
        Updates that were lost with the ``-wal`` are not retained, and their positions are not used again.
        """
        subject = new()
        await subject.start()
        await publish(subject, retained("a", "1"), retained("b"))
        subject.journal._database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await publish(subject, retained("a", "2"), removal("b"), retained("c"))
        stopped = tmp_path / "stopped"
        for suffix in ("", "-wal", "-head"):
            shutil.copy(f"{path}{suffix}", f"{stopped}{suffix}")
        wal = Path(f"{stopped}-wal")
        if loss == "removed":
            wal.unlink()
        else:
            wal.write_bytes(bytes(wal.stat().st_size))
        after = sqlite(stopped)
        await after.start()
        check(after, stopped, "a", "b")
        assert after.journal.retained.changed_at == 5
        assert await publish(after, retained("a", "3")) == [6]
        check(after, stopped, "b", "a")
        await after.journal.stop()

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_many(
        self, new: Callable[..., Subject], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        100,000 retained updates are read and arranged in the thread, while the reactor does other work.
        """
        first = new()
        await first.start()
        await first.append("1")
        await first.journal.stop()
        with closing(connect(path)) as connection:
            connection.execute("BEGIN")
            for number in range(100_000):
                each = retained(str(number), topics=f"topic {number % 1000}", id="1")
                put(connection, 1 + number, each, each.frame_without_id, None)
            connection.execute("COMMIT")
        threads: list[threading.Thread] = []
        restore = RetainedUpdates.restore

        def note(self: RetainedUpdates, *arguments: Any) -> None:
            threads.append(threading.current_thread())
            restore(self, *arguments)

        monkeypatch.setattr(RetainedUpdates, "restore", note)
        turns: list[int] = []
        loop = LoopingCall(lambda: turns.append(len(threads)))
        loop.start(0.001)
        await new().start()
        loop.stop()
        assert len(threads) == 1 and threads[0] is not threading.current_thread()
        # There were turns before and after the rows had been read.
        assert turns.count(0) > 5 and turns.count(1) > 5


class TransactionTests:
    @pytest_twisted.ensureDeferred
    async def test_refused_batch(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A batch that is refused in the middle does not affect the other updates of its transaction.
        """
        subject = new(max_retained=3)
        follower = await subject.start()
        journal = subject.journal
        known = retained("a", "1")
        batches: list[int] = []
        append = Database.append_retaining

        def note(database: Database, batch: Any, more: Any) -> Any:
            batches.append(len(batch))
            return append(database, batch, more)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Database, "append_retaining", note)
            recorded: list[Any] = [
                journal.append(known),
                journal.append(retained("b")),
                journal.append_many(
                    [
                        known,
                        update("in between"),
                        removal("b"),
                        retained("c", id="1"),
                        retained("d"),
                        retained("e"),
                        retained("f"),
                    ]
                ),
                journal.append(retained("c", "2", id="1")),
                journal.append_many([retained("no"), removal("no"), removal("no")]),
                journal.append_many([removal("b"), retained("d"), known, update("last")]),
                journal.append_many([]),
            ]
            for refused in (2, 4):
                with pytest.raises((RetainedFull, NotRetained)):
                    await recorded[refused]
        assert batches == [1, 7 + 1 + 1 + 3 + 4]
        assert [await recorded[number] for number in (0, 1, 3, 5, 6)] == [1, 2, 3, [4, 5, 1, 6], []]
        assert [position for position, _ in follower.given] == [1, 2, 3, 4, 5, 6]
        assert await subject.ids_after(0) == [each.id for _, each in follower.given]
        check(subject, path, "a", "c", "d")
        assert await subject.find("in between") is None
        assert journal.problem is None

    @pytest_twisted.ensureDeferred
    async def test_repeated(self, new: Callable[..., Subject], path: Path) -> None:
        """
        An equal update is a no-op in a full journal, and one with the same id and another retention is not.
        """
        subject = new(max_retained=1, recent_bytes=1)
        await subject.start()
        first, other = retained("a", id="1"), retained("b", id="1")
        gone = removal("a", id="2")
        assert await publish(subject, first, first, other, gone, gone, first) == [1, 1, RetainedFull, 2, 2, 1]
        assert await publish(subject, gone, first, other, other, first) == [2, 1, 3, 3, RetainedFull]
        assert await subject.find("1") == 1
        assert [(await subject.journal.at(position)).retention for position in (1, 2, 3)] == [
            each.retention for each in (first, gone, other)
        ]
        check(subject, path, "b")

    @pytest_twisted.ensureDeferred
    async def test_full_disk(self, new: Callable[..., Subject], path: Path) -> None:
        """
        If the disk is full, nothing is retained, removed or counted; later updates are.
        """
        subject = new()
        follower = await subject.start()
        await publish(subject, retained("a"), retained("b"))
        connection = subject.journal._database._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        for _ in range(2):
            for recorded in [
                subject.journal.append(each)
                for each in (retained("a", "2"), removal("b"), retained("c", "x" * 20_000))
            ]:
                assert "the disk is full; make room" in await problem_of(recorded)
            check(subject, path, "a", "b")
        connection.execute("PRAGMA max_page_count = 100000")
        # As much as failed last: the update, and its copy in the table of retained updates.
        await subject.journal._tidy_now()
        assert subject.journal.problem is None
        assert await publish(subject, retained("c", "x" * 20_000), removal("b")) == [3, 4]
        check(subject, path, "a", "c")
        assert len(follower.given) == 4

    @pytest_twisted.ensureDeferred
    async def test_refused_while_the_disk_is_full(self, new: Callable[..., Subject]) -> None:
        """
        An update that is refused does not end the problem of a full disk, as nothing was written.
        """
        subject = new(max_retained=1)
        await subject.start()
        await publish(subject, retained("a"))
        connection = subject.journal._database._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        assert "the disk is full" in await problem_of(subject.append("1", data="x" * 20_000))
        assert await publish(subject, retained("b", "x" * 40_000)) == [RetainedFull]
        assert "the disk is full" in str(subject.journal.problem)

    @pytest_twisted.ensureDeferred
    async def test_large(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An update is retained under many topics, and each row counts for the checkpoints.
        """
        counted: list[tuple[int, int]] = []
        has_committed = Database._has_committed

        def note(database: Database, count: int, size: int) -> None:
            counted.append((count, size))
            has_committed(database, count, size)

        monkeypatch.setattr(Database, "_has_committed", note)
        subject = new()
        await subject.start()
        large = retained("a", "x" * 1000, tuple(map(str, range(100))))
        await publish(subject, large)
        assert counted[-1] == (101, 101 * len(large.frame))
        assert subject.journal.retained.count == 100

    @pytest.mark.parametrize("options", [{"max_retained": 0}, {"max_retained_bytes": -1}])
    def test_invalid_options(self, path: Path, options: dict[str, Any]) -> None:
        """
        A limit of retained updates has to be greater than 0.
        """
        with pytest.raises(ValueError, match=r"max_retained(_bytes)? must be more than 0"):
            SQLiteJournal(path, **options)


class ExpiryTests:
    @pytest_twisted.ensureDeferred
    async def test_in_steps(
        self, new: Callable[..., Subject], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Expired rows are deleted in steps, even if no client publishes.
        """
        monkeypatch.setattr(retained_rows, "_STEP", 30)
        subject = new()
        await subject.start()
        await publish(subject, *(retained(str(number), seconds=10) for number in range(70)))
        await publish(subject, retained("long", seconds=100), retained("ever"))
        assert await subject.journal._tidy_now() is False
        subject.advance(11)
        counts = []
        for more in (True, True, True, False):
            assert await subject.journal._tidy_now() is more
            counts.append(count_in(path))
        assert counts == [42, 12, 2, 2]
        check(subject, path, "long", "ever")
        subject.advance(100)
        subject.journal._tidying.reset(0)
        await until(lambda: count_in(path) == 1)

    @pytest_twisted.ensureDeferred
    async def test_makes_room(
        self, new: Callable[..., Subject], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Expired rows make room for new ones as soon as they have expired, however many there are.
        """
        monkeypatch.setattr(retained_rows, "_STEP", 2)
        subject = new(max_retained=10)
        await subject.start()
        await publish(subject, *(retained(str(number), seconds=10) for number in range(9)), retained("ever"))
        assert await publish(subject, retained("no")) == [RetainedFull]
        subject.advance(11)
        new_ones = [retained(f"new {number}") for number in range(10)]
        assert await publish(subject, removal("8"), *new_ones) == [NotRetained, *range(11, 20), RetainedFull]
        check(subject, path, "ever", *(f"new {number}" for number in range(9)))

    @pytest_twisted.ensureDeferred
    async def test_expired_before_the_start(self, new: Callable[..., Subject], path: Path) -> None:
        """
        Updates that expired while no process ran are not retained at the start, and are deleted later.
        """
        first = new()
        await first.start()
        await publish(first, retained("a", seconds=10), retained("b"), retained("c", seconds=1000))
        await first.journal.stop()
        second = new(max_retained=3)
        second.advance(11)
        await second.start()
        # They are not even in memory, where dropping many of them would block the reactor.
        assert second.journal.retained.count == 2
        assert [row.key for row in rows_in_memory(second.journal.retained)] == ["b", "c"]
        assert count_in(path) == 3
        assert await publish(second, retained("d")) == [4]
        check(second, path, "b", "c", "d")

    @pytest_twisted.ensureDeferred
    async def test_lower_limits(self, new: Callable[..., Subject], path: Path) -> None:
        """
        If a limit is lowered, no update is dropped, and new ones are refused until enough are removed.
        """
        first = new()
        await first.start()
        await publish(first, *map(retained, "abcd"))
        await first.journal.stop()
        second = new(max_retained=2)
        await second.start()
        assert await publish(second, retained("e"), retained("a", "y")) == [RetainedFull, 5]
        removals = [removal(key) for key in "abc"]
        assert await publish(second, *removals, retained("e")) == [6, 7, 8, 9]
        check(second, path, "d", "e")

    @pytest_twisted.ensureDeferred
    async def test_tidying_fails(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A deletion of expired rows that failed is counted when it succeeds.
        """
        subject = new()
        await subject.start()
        await publish(subject, retained("a", seconds=10), retained("b"))
        subject.advance(11)
        connection = subject.journal._database._connection
        connection.execute("PRAGMA query_only = ON")
        assert await subject.journal._tidy_now() is False
        assert "cannot be written" in str(subject.journal.problem)
        assert subject.journal._database._retained.count == 2
        connection.execute("PRAGMA query_only = OFF")
        assert await subject.journal._tidy_now() is True
        check(subject, path, "b")


steps = st.lists(
    st.one_of(
        st.integers(1, 40),
        st.tuples(
            st.lists(st.sampled_from("abü"), min_size=1, max_size=3, unique=True),
            st.sampled_from("12"),
            st.one_of(st.none(), st.integers(0, 3000)),
            st.one_of(st.none(), st.integers(1, 60)),
        ),
    ),
    max_size=40,
)


class LimitTests:
    @given(steps, st.integers(1, 5), st.integers(500, 6000), st.integers(1, 3))
    @settings(deadline=None, derandomize=True, max_examples=300)
    def test_any_calls(self, calls: list[Any], count: int, size: int, step: int) -> None:
        """
        The file refuses and retains exactly the updates that the store in memory refuses and retains.
        """
        now = 0.0
        memory = RetainedUpdates(lambda: now, max_count=count, max_bytes=size)
        rows = RetainedRows(Path("file"), RetainedBounds(count, size))
        with closing(new_table()) as connection, pytest.MonkeyPatch.context() as patched:
            patched.setattr(retained_rows, "_STEP", step)
            for position, call in enumerate(calls, 1):
                if isinstance(call, int):
                    now += call
                    continue
                topics, key, length, seconds = call
                each = (
                    removal(key, tuple(topics))
                    if length is None
                    else retained(key, "x" * length, tuple(topics), seconds=seconds)
                )
                change = rows.check(connection, each, now)
                refusal = memory.refusal([each])
                assert type(change) is type(refusal) or refusal is None
                if not isinstance(change, NotRetained | RetainedFull):
                    assert refusal is None
                    rows.retain(connection, position, each, now, change)
                    memory.apply(position, each)
            while rows.has_expired(connection, now):
                assert rows.delete_expired(connection, now)
            memory.find("", "")
            assert (rows.count, rows.bytes) == (memory.count, memory.size)
            loaded = RetainedUpdates(lambda: now)
            loaded.adopt(RetainedRows(Path("file"), RetainedBounds()).load(connection, now))
            assert rows_in_memory(loaded) == rows_in_memory(memory)
            assert (loaded.count, loaded.size) == (memory.count, memory.size)


# The first byte of a page with the rows of a table, or with the entries of an index.
# Source: https://www.sqlite.org/fileformat2.html
TABLE, INDEX = 0x0D, 0x0A


def overwrite(path: Path, kind: int, text: bytes, which: slice) -> None:
    """
    Overwrite pages of a table or an index that have a text.
    """
    content = path.read_bytes()
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    numbers = [number for number, page in enumerate(pages) if page[0] == kind and text in page]
    assert numbers[which]
    with path.open("r+b") as file:
        for number in numbers[which]:
            file.seek(number * PAGE)
            file.write(b"\xff" * PAGE)


async def fill(subject: Subject, count: int = 300) -> list[str]:
    """
    Retain updates under a topic that only the table of retained updates has in this form, and stop.
    """
    keys = [f"key-{number:04}" for number in range(count)]
    await subject.start()
    await publish(subject, *(retained(key, "x" * 200, "the topic") for key in keys))
    await subject.journal.stop()
    return keys


class DamageTests:
    @pytest_twisted.ensureDeferred
    async def test_row(self, new: Callable[..., Subject], path: Path, logged: list[LogEvent]) -> None:
        """
        A damaged row is skipped, logged once without its content, and has no effect on others. The update can
        be published again.
        """
        subject = new()
        keys = await fill(subject, 3)
        change(path, "UPDATE retained SET frame = x'00' WHERE number = 2")
        for _ in range(2):
            await subject.start()
            check(subject, path, keys[0], keys[2])
            assert (subject.journal.problem, subject.journal.damaged) == (None, 0)
            await subject.journal.stop()
        (text,) = texts_of(logged)
        assert not any(secret in text for secret in ("key-", "topic", "xx"))
        await subject.start()
        assert await publish(subject, removal(keys[1], "the topic")) == [NotRetained]
        assert await publish(subject, retained(keys[1], topics="the topic")) == [4]
        check(subject, path, keys[0], keys[2], keys[1])

    @pytest_twisted.ensureDeferred
    async def test_pages(self, new: Callable[..., Subject], path: Path, logged: list[LogEvent]) -> None:
        """
        If SQLite cannot read pages of the table, the other updates are retained, also by the next process.
        """
        subject = new()
        keys = await fill(subject)
        overwrite(path, TABLE, b"the topickey-", slice(3, 5))
        await subject.start()
        kept = [row.key for row in rows_in_memory(subject.journal.retained)]
        assert 150 < len(kept) < 300 and set(kept) < set(keys)
        check(subject, path, *kept)
        lost = next(key for key in keys if key not in kept)
        results = await publish(
            subject,
            removal(lost, "the topic"),
            retained(lost, topics="the topic"),
            removal(kept[0], "the topic"),
        )
        assert results == [NotRetained, 301, 302]
        check(subject, path, *kept[1:], lost)
        assert len(texts_of(logged)) == 1
        await subject.journal.stop()
        await subject.start()
        check(subject, path, *kept[1:], lost)

    @pytest_twisted.ensureDeferred
    async def test_index(self, new: Callable[..., Subject], path: Path) -> None:
        """
        If the index by topic and key is damaged, no retained update is lost.
        """
        subject = new()
        keys = await fill(subject)
        overwrite(path, INDEX, b"the topickey-", slice(None))
        await subject.start()
        check(subject, path, *keys)
        assert await publish(subject, removal(keys[0], "the topic")) == [301]
        check(subject, path, *keys[1:])
        await subject.journal.stop()
        await subject.start()
        check(subject, path, *keys[1:])

    @pytest.mark.parametrize("writer", ["update", "retained", "revocation", "tidy"])
    @pytest_twisted.ensureDeferred
    async def test_salvaged(
        self, new: Callable[..., Subject], path: Path, writer: str, logged: list[LogEvent]
    ) -> None:
        """
        If SQLite cannot write to the file, the copy has all readable retained updates, and so has the memory.
        """
        subject = new()
        keys = await fill(subject)
        await subject.start()
        revocation = Revocation("jti", "1", 0.0, 1e12)
        await subject.journal.revocations.add(revocation)
        await publish(subject, retained("expires", seconds=10))
        database = subject.journal._database
        database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # One row is lost while the journal is open.
        change(path, "UPDATE retained SET frame = x'00' WHERE number = 1")
        subject.advance(20)
        fault = {
            "update": ("INSERT INTO updates", 1),
            "retained": ("INSERT INTO retained", 1),
            "revocation": ("REPLACE INTO revocations", 1),
            "tidy": ("DELETE FROM retained", 1),
        }[writer]
        database._connection = Corrupt(database._connection, *fault)
        if writer == "update":
            await subject.append("1")
        elif writer == "retained":
            await publish(subject, retained("new"))
        elif writer == "revocation":
            await subject.journal.revocations.add(Revocation("jti", "2", 0.0, 1e12))
        else:
            assert await subject.journal._tidy_now() is True
        assert Path(f"{path}-damaged").exists()
        await subject.journal._tidy_now()
        more = ["new"] if writer == "retained" else []
        check(subject, path, *keys[1:], *more)
        assert subject.journal.problem is None
        assert await publish(subject, removal(keys[0], "the topic")) == [NotRetained]
        position = subject.journal.head + 1
        assert await publish(subject, retained(keys[0], topics="the topic")) == [position]
        check(subject, path, *keys[1:], *more, keys[0])
        assert revocation in await subject.journal.revocations.load()

    @pytest_twisted.ensureDeferred
    async def test_locked(self, new: Callable[..., Subject], path: Path) -> None:
        """
        While another program holds a write lock, retaining fails and changes nothing; then it works again.
        """
        subject = new(lock_timeout=0.05)
        await subject.start()
        await publish(subject, retained("a"))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert "another program holds a lock" in await problem_of(subject.journal.append(removal("a")))
        check(subject, path, "a")
        assert await publish(subject, removal("a")) == [2]
        check(subject, path)


class Corrupt:
    """
    A connection to a file in which a statement fails once, because SQLite detects that the file is damaged.
    """

    def __init__(self, connection: sqlite3.Connection, statement: str, times: int) -> None:
        self._connection = connection
        self._statement = statement
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _fail(self, statement: str) -> None:
        if self._times and statement.startswith(self._statement):
            self._times -= 1
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    def execute(self, statement: str, *values: Any) -> Any:
        self._fail(statement)
        return self._connection.execute(statement, *values)

    def executemany(self, statement: str, *values: Any) -> Any:
        self._fail(statement)
        return self._connection.executemany(statement, *values)

"""
Tests of the journal in a SQLite file: restarts, transactions, deletion, and errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from gc import collect
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent

from tests.journal.journals import Follower, Later, Subject, acknowledged_before_a_kill, sqlite, update
from tests.processes import finish, python
from tests.waiting import until
from txsse import Hub, JournalFailed, Update
from txsse.journal.page import Entry
from txsse.journal.position import OLDEST
from txsse.journal.sqlite import SQLiteJournal, waiting_updates
from txsse.journal.sqlite.database import Database
from txsse.journal.sqlite.retention import Retention

T = TypeVar("T")


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


async def problem_of(work: Awaitable[object]) -> str:
    """
    Wait for a failure, and return its text.
    """
    with pytest.raises(JournalFailed) as raised:
        await work
    return str(raised.value)


def head_of(path: Path) -> Path:
    return Path(f"{path}-head")


def rows_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM updates").fetchone()
        return int(count)


class RestartTests:
    @pytest_twisted.ensureDeferred
    async def test_next_process(self, new: Callable[..., Subject]) -> None:
        """
        The next process with a SQLite journal finds the recorded updates, and continues their positions.
        """
        first = new()
        await first.start()
        positions = await first.append("1", "2", "3")
        await first.journal.stop()
        second = new()
        follower = await second.start()
        assert second.journal.head == positions[-1]
        assert await second.journal.at(second.journal.head) == update("3")
        assert [await second.find(id) for id in ("1", "2", "3")] == positions
        assert await second.append("2") == [positions[1]]
        (fourth,) = await second.append("4")
        assert fourth > positions[-1]
        assert await second.ids_after(0) == ["1", "2", "3", "4"]
        assert [each.id for _, each in follower.given] == ["4"]

    @pytest_twisted.ensureDeferred
    async def test_many_clients_after_a_restart(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        After a restart, clients that resume are served from memory, without reading the file.
        """
        first = new()
        await first.start()
        await first.append(*map(str, range(100)))
        await first.journal.stop()
        second = new()
        await second.start()

        def refuse(*_: object) -> None:
            raise AssertionError("the file was read")

        for name in ("find", "read", "at"):
            monkeypatch.setattr(Database, name, refuse)
        assert await second.find("50") is not None
        assert await second.find("never") is None
        assert len(await second.ids_after(0)) == 100
        assert (await second.journal.at(second.journal.head)).id == "99"

    @pytest_twisted.ensureDeferred
    async def test_memory_after_a_restart(self, new: Callable[..., Subject]) -> None:
        """
        After a restart, as many of the newest updates are in memory as recent_bytes allows.
        """
        first = new()
        await first.start()
        await first.append(*map(str, range(100)), data="x" * 1000)
        await first.journal.stop()
        second = new(recent_bytes=30_000)
        await second.start()
        assert second.journal._recent.read(second.journal.head - 5, 0.0).entries
        assert second.journal._recent.floor > 50
        assert len(await second.ids_after(0)) == 100

    @pytest_twisted.ensureDeferred
    async def test_newest_part_in_memory(self, new: Callable[..., Subject]) -> None:
        """
        Updates beyond recent_bytes are read from the file, without a gap between them and those in memory.
        """
        for recent_bytes in (1, 20_000, 10**9):
            subject = new(recent_bytes=recent_bytes)
            await subject.start()
            await subject.append(*map(str, range(100)))
            expected = [str(number) for number in range(100)]
            for after in range(0, 100, 7):
                assert await subject.ids_after(after) == expected[after:]
            await subject.journal.stop()

    @pytest_twisted.ensureDeferred
    async def test_positions_of_dropped_updates(self, new: Callable[..., Subject]) -> None:
        """
        The next process does not reuse positions, even if all updates were dropped.
        """
        first = new(max_age=60.0)
        await first.start()
        (position,) = await first.append("1")
        first.advance(61)
        await first.journal._tidy_now()
        await first.journal.stop()
        second = new(max_age=60.0)
        await second.start()
        assert second.journal.head == position
        assert await second.ids_after(OLDEST) == []
        assert (await second.read(0)).missed
        assert (await second.append("2"))[0] > position

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_lower_limits(self, new: Callable[..., Subject]) -> None:
        """
        Lower limits of the next process apply to the updates in the file.
        """
        first = new()
        await first.start()
        await first.append(*map(str, range(3000)))
        await first.journal.stop()
        second = new(max_count=10)
        await second.start()
        assert await second.ids_after(OLDEST) == [str(number) for number in range(2990, 3000)]
        assert await second.find("2989") is None

    @pytest_twisted.ensureDeferred
    async def test_started_again(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A journal that failed to start can be started again, and so can one that was stopped.
        """
        path.mkdir()
        subject = new()
        assert "cannot be opened" in await problem_of(subject.start())
        path.rmdir()
        for number in range(3):
            await subject.start()
            await subject.append(str(number))
            await subject.journal.stop()
        assert rows_in(path) == 3

    @pytest.mark.parametrize("works", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_stopped_while_it_starts(
        self, new: Callable[..., Subject], path: Path, works: bool
    ) -> None:
        """
        A journal that is stopped while it starts finishes its start, successful or not, and then its thread.
        """
        if not works:
            path.mkdir()
        subject = new()
        starting = subject.journal.start(Follower())
        stopping = subject.journal.stop()
        if works:
            await starting
        else:
            await problem_of(starting)
        await stopping
        assert not subject.journal._worker.is_running
        assert subject.journal._tidying is None

    @pytest_twisted.ensureDeferred
    async def test_started_again_after_a_stop_by_a_publisher(
        self, new: Callable[..., Subject], failures: list[LogEvent]
    ) -> None:
        """
        A journal that was stopped as soon as an update was recorded can be started again, and works.
        """
        subject = new()
        await subject.start()
        await subject.append("1")
        await subject.journal.stop()
        await subject.start()
        for id in ("2", "3"):
            await subject.append(id)
            # The failure was in a callback after the publisher's. The thread forgets a result with the next.
            await deferLater(reactor, 0.0)
        collect()
        assert not failures

    @pytest_twisted.ensureDeferred
    async def test_id_of_several_updates(self, new: Callable[..., Subject]) -> None:
        """
        The next process finds the earliest update with an id, however few updates are in its memory.
        """
        subject = new()
        await subject.start()
        for id, data in ("state", "1"), ("other", "x"), ("state", "2"), ("state", "1"):
            await subject.append(id, data=data)
        await subject.journal.stop()
        for recent_bytes in (10**6, 120, 1):
            subject = new(recent_bytes=recent_bytes)
            await subject.start()
            assert await subject.append("state", data="1") == [4]
            assert await subject.find("state") == 1
            await subject.journal.stop()


class ClockTests:
    @pytest_twisted.ensureDeferred
    async def test_time_set_forward(self, new: Callable[..., Subject]) -> None:
        """
        The age of an update in a file is by the time of day: after this is set forward by an hour, the update
        is an hour older.
        """
        subject = new(max_age=1800.0)
        await subject.start()
        await subject.append("1")
        subject.step(3600)
        await subject.append("2")
        assert await subject.ids_after(OLDEST) == ["2"]

    @pytest_twisted.ensureDeferred
    async def test_time_set_back_before_the_next_process(self, new: Callable[..., Subject]) -> None:
        """
        If the time of day is set back before a process starts, it finds all updates and continues their
        positions.
        """
        first = new(max_age=1800.0)
        await first.start()
        positions = await first.append("1", "2")
        await first.journal.stop()
        second = new(max_age=1800.0)
        second.step(-3600)
        await second.start()
        positions += await second.append("3")
        assert positions == [1, 2, 3]
        assert await second.ids_after(OLDEST) == ["1", "2", "3"]
        second.step(3600)
        assert await second.ids_after(OLDEST) == ["1", "2", "3"]
        second.advance(1810)
        assert await second.ids_after(OLDEST) == []


class ResumeIdTests:
    """
    Resume IDs of several processes.
    """

    @pytest_twisted.ensureDeferred
    async def test_after_restarts(self, new: Callable[..., Subject]) -> None:
        """
        A process finds the resume IDs of all earlier processes with its file.
        """
        ids = []
        for number in range(3):
            subject = new()
            await subject.start()
            ids.append(subject.journal.resume_id(subject.journal.head))
            await subject.append(str(number))
            ids.append(subject.journal.resume_id(subject.journal.head))
            await subject.journal.stop()
        subject = new()
        await subject.start()
        assert [await subject.find(id) for id in ids] == [0, 1, 1, 2, 2, 3]
        assert len(set(ids)) == 6

    @pytest_twisted.ensureDeferred
    async def test_file_set_back(self, new: Callable[..., Subject], path: Path) -> None:
        """
        After the file is replaced by an older copy, resume IDs made after the copy are not found, even if
        other updates have their positions.
        """
        subject = new()
        await subject.start()
        await subject.append("1", "2")
        known = subject.journal.resume_id(subject.journal.head)
        await subject.journal.stop()
        copy = path.read_bytes()
        await subject.start()
        also_known = subject.journal.resume_id(subject.journal.head)
        await subject.append("3", "4")
        lost = subject.journal.resume_id(subject.journal.head)
        await subject.journal.stop()
        path.write_bytes(copy)
        head_of(path).unlink()
        await subject.start()
        await subject.append("5", "6", "7")
        assert await subject.find(known) == 2
        assert await subject.find(also_known) is None
        assert await subject.find(lost) is None

    @pytest_twisted.ensureDeferred
    async def test_file_set_back_while_open(self, new: Callable[..., Subject], path: Path) -> None:
        """
        After the file is replaced by a copy from the same process, resume IDs made after the copy are not
        found.
        """
        subject = new()
        await subject.start()
        await subject.append("1")
        known = subject.journal.resume_id(subject.journal.head)
        subject.journal._database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        copy = path.read_bytes()
        await subject.append("2")
        lost = subject.journal.resume_id(subject.journal.head)
        await subject.journal.stop()
        path.write_bytes(copy)
        head_of(path).unlink()
        await subject.start()
        await subject.append("3", "4")
        for _ in range(2):
            assert await subject.find(known) == 1
            assert await subject.find(lost) is None
            await subject.journal.stop()
            await subject.start()

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_many_restarts(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A file holds the secrets of resume IDs of the last 100 processes.
        """
        ids = []
        subject = new()
        for _ in range(105):
            await subject.start()
            ids.append(subject.journal.resume_id(subject.journal.head))
            await subject.journal.stop()
        await subject.start()
        assert [await subject.find(id) for id in ids] == [None] * 6 + [0] * 99
        await subject.journal.stop()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM visits").fetchone() == (100,)


class CommitTests:
    @pytest_twisted.ensureDeferred
    async def test_together(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Updates that are appended while a transaction runs are recorded together in the next one, in order.
        """
        batches: list[int] = []
        append = Database.append

        def count(self: Database, batch: list[Any]) -> list[int]:
            batches.append(len(batch))
            return append(self, batch)

        monkeypatch.setattr(Database, "append", count)
        subject = new()
        follower = await subject.start()
        recorded = [subject.journal.append(update(str(number))) for number in range(2500)]
        positions = [await each for each in recorded]
        assert positions == sorted(positions)
        assert [each.id for _, each in follower.given] == [str(number) for number in range(2500)]
        assert batches == [1, 1000, 1000, 499]

    @pytest_twisted.ensureDeferred
    async def test_same_id_in_one_transaction(self, new: Callable[..., Subject]) -> None:
        """
        An update that equals an earlier one in its transaction has the position of that one.
        """
        subject = new()
        follower = await subject.start()
        recorded = [subject.journal.append(update(id)) for id in ("1", "2", "2", "1", "3")]
        one, two, three, four, five = [await each for each in recorded]
        assert (two, one) == (three, four)
        assert one < two < five
        assert [each.id for _, each in follower.given] == ["1", "2", "3"]

    @pytest_twisted.ensureDeferred
    async def test_differing_updates_in_one_transaction(self, new: Callable[..., Subject]) -> None:
        """
        Each update is compared with the newest one with its id, even if that is in the same transaction.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1", data="a")
        recorded = [subject.journal.append(update("1", data)) for data in "baab"]
        assert [await each for each in recorded] == [2, 3, 3, 4]
        assert [each.event.data for _, each in follower.given] == ["a", "b", "a", "b"]

    @pytest_twisted.ensureDeferred
    async def test_published_by_the_follower(self, new: Callable[..., Subject]) -> None:
        """
        An update that the follower appends, while it is given others, is compared with the newest recorded
        one.
        """
        subject = new()

        class Publishing(Follower):
            def update_appended(self, entry: Entry) -> None:
                super().update_appended(entry)
                if len(self.given) == 1:
                    again.append(subject.journal.append(update("1", "a")))

        again: list[Deferred[int]] = []
        follower = Publishing()
        await subject.journal.start(follower)
        subject.journal.append(update("0"))
        recorded = [subject.journal.append(update("1", data)) for data in "ab"]
        for each in recorded:
            await each
        assert await again[0] == 4
        assert [each.event.data for _, each in follower.given] == ["x", "a", "b", "a"]

    @pytest_twisted.ensureDeferred
    async def test_slow_disk(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The reactor continues to run while a transaction waits for the disk.
        """
        release = Event()
        append = Database.append

        def slow(self: Database, batch: Any) -> list[int]:
            release.wait()
            return append(self, batch)

        monkeypatch.setattr(Database, "append", slow)
        subject = new()
        follower = await subject.start()
        recorded = subject.journal.append(update("1"))
        for _ in range(10):
            await deferLater(reactor, 0.001)
        assert not recorded.called
        assert not follower.given
        release.set()
        assert await recorded == subject.journal.head

    @pytest_twisted.ensureDeferred
    async def test_too_much_at_once(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        An update fails at once if it would exceed max_pending, unless no other one waits.
        """
        release = Event()
        append = Database.append

        def slow(self: Database, batch: Any) -> list[int]:
            release.wait()
            return append(self, batch)

        monkeypatch.setattr(Database, "append", slow)
        subject = new(max_pending=2000)
        await subject.start()
        first = subject.journal.append(update("1", data="x" * 5000))
        assert "wait to be recorded" in await problem_of(subject.journal.append(update("2")))
        assert "wait to be recorded" in await problem_of(subject.journal.append_many([update("2")]))
        release.set()
        await first
        await subject.append("2")

    @pytest_twisted.ensureDeferred
    async def test_stop(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A journal that is stopped first records the appended updates and gives them to its follower.
        """
        subject = new()
        follower = await subject.start()
        recorded = [subject.journal.append(update(str(number))) for number in range(2500)]
        await subject.journal.stop()
        assert all(each.called for each in recorded)
        assert len(follower.given) == 2500
        assert rows_in(path) == 2500
        assert "has been stopped" in await problem_of(subject.journal.append(update("late")))
        assert not Path(f"{path}-wal").exists()

    @pytest.mark.process
    @pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
    @pytest_twisted.ensureDeferred
    async def test_process_killed(self, path: Path, synchronous: str) -> None:
        """
        Updates that were acknowledged before the process was killed are in the file, in order.
        """
        acknowledged = acknowledged_before_a_kill(f"sqlite:{path}", synchronous)
        subject = sqlite(path)
        await subject.start()
        kept = await subject.ids_after(0)
        assert kept[: len(acknowledged)] == acknowledged
        await subject.append("next")
        await subject.journal.stop()

    @pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
    @pytest_twisted.ensureDeferred
    async def test_synchronous(self, new: Callable[..., Subject], synchronous: str) -> None:
        """
        The file is in WAL mode, and SQLite's synchronous setting is that of the option.
        """
        subject = new(synchronous=synchronous)
        await subject.start()
        connection = subject.journal._database._connection
        assert connection.execute("PRAGMA synchronous").fetchone() == ({"NORMAL": 1, "FULL": 2}[synchronous],)
        assert connection.execute("PRAGMA journal_mode").fetchone() == (b"wal",)

    @pytest.mark.parametrize(
        "options", [{"max_count": 0}, {"max_bytes": -1}, {"max_age": 0.0}, {"synchronous": "OFF"}]
    )
    def test_invalid_options(self, path: Path, options: dict[str, Any]) -> None:
        """
        An invalid option of a SQLite journal raises ValueError with its name.
        """
        (name,) = options
        with pytest.raises(ValueError, match=name):
            SQLiteJournal(path, **options)


class TidyTests:
    @pytest_twisted.ensureDeferred
    async def test_during_publishing(self, new: Callable[..., Subject], path: Path) -> None:
        """
        While updates are recorded, as many rows are deleted as are added.
        """
        subject = new(max_count=100)
        await subject.start()
        for hundred in range(10):
            recorded = [subject.journal.append(update(f"{hundred} {number}")) for number in range(100)]
            for each in recorded:
                await each
        await subject.journal.stop()
        assert rows_in(path) == 100

    @pytest_twisted.ensureDeferred
    async def test_in_steps(
        self, new: Callable[..., Subject], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Rows of updates that are too old are deleted in steps of 1000, even if no client publishes.
        """
        steps: list[int] = []
        delete = Retention.delete

        def note(self: Retention, connection: sqlite3.Connection, count: int, head: int) -> None:
            steps.append(count)
            delete(self, connection, count, head)

        subject = new(max_age=60.0)
        await subject.start()
        for each in [subject.journal.append(update(str(number))) for number in range(2500)]:
            await each
        monkeypatch.setattr(Retention, "delete", note)
        subject.advance(61)
        subject.journal._tidying.reset(0)
        await until(lambda: len(steps) == 3)

        def has_finished() -> bool:
            tidying = subject.journal._tidying
            return tidying is not None and tidying.getTime() > reactor.seconds() + 3

        await until(has_finished)
        assert steps == [1000, 1000, 1000]
        await subject.journal.stop()
        assert rows_in(path) == 0

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_file_does_not_grow(self, new: Callable[..., Subject], path: Path) -> None:
        """
        The space of deleted rows is used again, so the file does not grow.
        """
        subject = new(max_bytes=200_000)
        await subject.start()
        sizes = []
        for ten in range(10):
            for each in [
                subject.journal.append(update(f"{ten} {number}", data="x" * 1000)) for number in range(1000)
            ]:
                await each
            await subject.journal.stop()
            sizes.append(path.stat().st_size)
            await subject.start()
        assert max(sizes) < 8_000_000
        assert sizes[-1] < 1.1 * sizes[1]


class TroubleTests:
    """
    Errors about a file say what is wrong and what to do.
    """

    @pytest_twisted.ensureDeferred
    async def test_not_a_journal(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A journal does not start with a file that is not a database, and the error says to move it away.
        """
        path.write_bytes(b"This is a letter and not a database. " * 100)
        subject = new()
        problem = await problem_of(subject.start())
        assert problem.startswith(f"{path}: is not a journal, or is damaged; move it away")
        assert isinstance(subject.journal.problem, JournalFailed)
        path.unlink()
        await subject.start()
        assert subject.journal.problem is None

    @pytest_twisted.ensureDeferred
    async def test_database_of_another_program(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A journal does not start with the database of another program, and does not change it.
        """
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE updates (a)")
        assert "is the database of another program" in await problem_of(new().start())
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM updates").fetchone() == (0,)

    @pytest_twisted.ensureDeferred
    async def test_other_schema(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A journal does not start with a file of a newer or older version of txsse, and the error says which.
        """
        subject = new()
        await subject.start()
        await subject.journal.stop()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 6")
        assert "was made by a newer version of txsse" in await problem_of(subject.start())
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 1")
        assert "was made by an older version of txsse" in await problem_of(subject.start())
        assert "move it away" in await problem_of(subject.start())

    @pytest_twisted.ensureDeferred
    async def test_no_directory(self, tmp_path: Path) -> None:
        """
        If the directory of a journal's file does not exist, the error says to check it.
        """
        subject = sqlite(tmp_path / "nowhere" / "journal.sqlite")
        assert "check that its directory exists" in await problem_of(subject.start())

    @pytest_twisted.ensureDeferred
    async def test_locked(self, new: Callable[..., Subject]) -> None:
        """
        A second journal fails to start with a file that is in use, and starts when the first one has stopped.
        """
        first, second = new(), new(lock_timeout=0.05)
        await first.start()
        await first.append("1")
        assert "another process has the file" in await problem_of(second.start())
        await first.journal.stop()
        await second.start()
        assert await second.ids_after(0) == ["1"]

    @pytest_twisted.ensureDeferred
    async def test_damaged_in_the_middle(self, new: Callable[..., Subject], path: Path) -> None:
        """
        If nearly the whole file is destroyed, its updates are one gap, and new ones are recorded.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        await subject.append(*map(str, range(300)), data="x" * 500)
        await subject.journal.stop()
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 3 * 4096))
        await subject.start()
        assert await subject.append("next") == [301]
        page = await subject.read(0)
        assert ([each.id for _, each in page.entries], page.missed) == (["next"], True)
        assert subject.journal.damaged == 300
        assert subject.journal.problem is None

    @pytest_twisted.ensureDeferred
    async def test_full_disk(self, new: Callable[..., Subject], logged: list[LogEvent]) -> None:
        """
        If the disk is full, publishing fails with advice, and reading works. The problem ends when as much as
        failed can be written. Its beginning and end are logged once.
        """
        subject = new(recent_bytes=1)
        follower = await subject.start()
        await subject.append("1", "2")
        connection = subject.journal._database._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        for _ in range(2):
            batch = [subject.journal.append(update(f"{n}", data="x" * 20_000)) for n in (3, 4)]
            for recorded in batch:
                assert "the disk is full; make room" in await problem_of(recorded)
        assert await subject.ids_after(0) == ["1", "2"]
        # A successful read must not end the problem.
        assert await subject.find("nothing") is None
        assert await subject.journal._tidy_now() is False
        assert isinstance(subject.journal.problem, JournalFailed)
        connection.execute("PRAGMA max_page_count = 100000")
        # A successful write of smaller updates must not end the problem.
        await subject.append("4", "3")
        assert isinstance(subject.journal.problem, JournalFailed)
        await subject.journal._tidy_now()
        assert subject.journal.problem is None
        assert await subject.ids_after(0) == ["1", "2", "4", "3"]
        assert [each.id for _, each in follower.given] == ["1", "2", "4", "3"]
        texts = [formatEvent(event) for event in logged]
        assert len([text for text in texts if "the disk is full" in text]) == 1
        assert len([text for text in texts if "works again" in text]) == 1

    @pytest_twisted.ensureDeferred
    async def test_full_without_publishers(self, new: Callable[..., Subject]) -> None:
        """
        If no client publishes after the disk was full, the journal tests every five seconds whether it has
        room.
        """
        subject = new()
        await subject.start()
        journal = subject.journal
        connection = journal._database._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        await problem_of(subject.append("1", data="x" * 20_000))

        async def look() -> None:
            call = journal._tidying
            call.reset(0)
            await until(lambda: journal._tidying not in (None, call))

        for _ in range(2):
            assert 4 < journal._tidying.getTime() - reactor.seconds() <= 5
            await look()
            assert journal.problem is not None
        connection.execute("PRAGMA max_page_count = 100000")
        await look()
        assert journal.problem is None
        assert await subject.ids_after(OLDEST) == []

    @pytest_twisted.ensureDeferred
    async def test_read_only(self, new: Callable[..., Subject]) -> None:
        """
        If the file is read-only, publishing fails with an error that says to check the owner.
        """
        subject = new()
        await subject.start()
        connection = subject.journal._database._connection
        connection.execute("PRAGMA query_only = ON")
        assert "cannot be written; check the owner" in await problem_of(subject.append("1"))
        connection.execute("PRAGMA query_only = OFF")
        await subject.append("1")

    @pytest_twisted.ensureDeferred
    async def test_no_updates_dropped_for_failed_ones(self, new: Callable[..., Subject]) -> None:
        """
        Updates that were dropped in a transaction which then failed are still held.
        """
        subject = new(recent_bytes=1, max_count=3)
        await subject.start()
        await subject.append("1", "2", "3")
        connection = subject.journal._database._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        recorded = [subject.journal.append(update(str(n), data="x" * 9000)) for n in (4, 5, 6, 7)]
        for each in recorded:
            await problem_of(each)
        assert await subject.ids_after(OLDEST) == ["1", "2", "3"]
        connection.execute("PRAGMA max_page_count = 100000")
        await subject.append("4")
        assert await subject.ids_after(OLDEST) == ["2", "3", "4"]

    @pytest_twisted.ensureDeferred
    async def test_failure_in_the_middle(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A transaction that fails in the middle, in an append or a deletion, changes nothing.
        """

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        subject = new(recent_bytes=1, max_age=60.0)
        await subject.start()
        await subject.append("1")
        with monkeypatch.context() as patched:
            patched.setattr(Database, "_has_appended", fail)
            patched.setattr(Retention, "delete", fail)
            assert "see the system's log" in await problem_of(subject.append("2"))
            subject.advance(61)
            assert await subject.journal._tidy_now() is False
        assert await subject.ids_after(OLDEST) == []
        await subject.append("3")
        assert await subject.ids_after(OLDEST) == ["3"]

    @pytest_twisted.ensureDeferred
    async def test_error_that_has_no_advice(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The text of an unknown error of SQLite is passed on to the publisher.
        """

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("no such luck")

        subject = new()
        await subject.start()
        with monkeypatch.context() as patched:
            patched.setattr(Database, "append", fail)
            assert (await problem_of(subject.append("1"))).endswith("no such luck")

    @pytest_twisted.ensureDeferred
    async def test_stopped_while_it_tidies(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A journal that is stopped while it deletes rows schedules no further deletion.
        """
        release = Event()
        monkeypatch.setattr(Database, "tidy", lambda *_: not release.wait())
        subject = new()
        await subject.start()
        subject.journal._tidying.reset(0)
        await until(lambda: subject.journal._tidying is None)
        stopping = subject.journal.stop()
        release.set()
        await stopping
        assert subject.journal._tidying is None

    @pytest_twisted.ensureDeferred
    async def test_tidying_fails(self, new: Callable[..., Subject]) -> None:
        """
        A deletion of rows that failed is retried.
        """
        subject = new(max_age=60.0)
        await subject.start()
        await subject.append("1")
        subject.advance(61)
        connection = subject.journal._database._connection
        connection.execute("PRAGMA query_only = ON")
        assert await subject.journal._tidy_now() is False
        assert subject.journal.problem is not None
        connection.execute("PRAGMA query_only = OFF")
        assert await subject.journal._tidy_now() is True

    @pytest_twisted.ensureDeferred
    async def test_hub(self, path: Path) -> None:
        """
        If a hub cannot start its journal, publishing fails, and the next publication starts the journal
        again.
        """
        path.mkdir()
        hub = Hub(journal=SQLiteJournal(path, reactor=Later()), reactor=reactor)  # type: ignore[arg-type]
        assert "cannot be opened" in await problem_of(hub.publish("news", "x"))
        path.rmdir()
        await hub.publish("news", "x")
        await hub.stop()
        assert rows_in(path) == 1


BEFORE = """
import os, sys
from twisted.internet import reactor
from txsse import Hub
from txsse.journal.sqlite import SQLiteJournal
from txsse.journal.sqlite import journal as sqlite_module

hub = Hub(journal=SQLiteJournal(sys.argv[1]))
published = hub.publish("news", "x", id="7")
"""

FORK = """
if os.fork():
    os.wait()
    os._exit(0)
"""

RUN = """
published.addCallback(print).addCallback(lambda _: reactor.stop())
reactor.run()
"""


@pytest.mark.process
class ReactorTests:
    """
    A journal that is used before the reactor runs.
    """

    @pytest.mark.parametrize(
        ("script", "printed"),
        [(BEFORE, ""), (BEFORE + RUN, "7\n"), (BEFORE + FORK + RUN, "7\n")],
        ids=["never", "later", "after a fork"],
    )
    def test_used_before(self, path: Path, script: str, printed: str) -> None:
        """
        An update published before the reactor runs is recorded when it runs, also after a fork; without a
        reactor, the interpreter exits.
        """
        ran = finish(python("-c", script, str(path)))
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, printed, "")
        assert path.exists() is bool(printed)


class BatchTests:
    @pytest_twisted.ensureDeferred
    async def test_one_transaction(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A batch is recorded in one transaction, however many updates waited before it.
        """
        monkeypatch.setattr(waiting_updates, "MAX_BATCH_COUNT", 3)
        subject = sqlite(tmp_path / "a.sqlite")
        await subject.start()
        batches: list[list[str]] = []
        append = Database.append

        def recording(database: Database, batch: Any) -> Any:
            batches.append([each.id for each, _ in batch])
            return append(database, batch)

        monkeypatch.setattr(Database, "append", recording)
        journal = subject.journal
        recorded: list[Deferred[Any]] = [journal.append(update(str(number))) for number in range(3)]
        recorded += [journal.append_many([update(f"batch {number}") for number in range(5)])]
        recorded += [journal.append(update("last"))]
        await gatherResults(recorded)
        (found,) = [each for each in batches if "batch 0" in each]
        assert [id for id in found if "batch" in id] == [f"batch {number}" for number in range(5)]
        await journal.stop()

    @pytest_twisted.ensureDeferred
    async def test_failed_transaction(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If one update of a batch cannot be recorded, none is, and the follower is given none.
        """
        subject = sqlite(tmp_path / "a.sqlite")
        follower = await subject.start()
        await subject.append("1")
        append = Database._append

        def failing(database: Database, connection: Any, each: Update, now: float) -> int:
            if each.id == "3":
                raise sqlite3.OperationalError("database or disk is full")
            return append(database, connection, each, now)

        with monkeypatch.context() as patch:
            patch.setattr(Database, "_append", failing)
            with pytest.raises(JournalFailed):
                # A known id makes the database insert each update of the batch separately.
                await subject.journal.append_many([update(id) for id in ("2", "1", "3")])
        assert await subject.ids_after(0) == ["1"]
        assert [each.id for _, each in follower.given] == ["1"]
        assert await subject.journal.append_many([update(id) for id in ("2", "1", "3")]) == [2, 1, 3]
        await subject.journal.stop()

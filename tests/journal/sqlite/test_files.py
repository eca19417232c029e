"""
Tests of the files of a SQLite journal: permissions, locks, removal while in use, backups, and failed writes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogEvent, formatEvent

from tests.journal.journals import Subject, sqlite, update
from tests.journal.sqlite.test_journal import head_of, problem_of
from tests.processes import finish, python
from txsse.journal.sqlite import checkpoint as sqlite_checkpoint
from txsse.journal.sqlite.files import Files

SHELL = shutil.which("sqlite3")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record" / "journal.sqlite"


@pytest.fixture
def new(path: Path) -> Iterator[Callable[..., Subject]]:
    path.parent.mkdir()
    made: list[Subject] = []

    def make(**options: Any) -> Subject:
        made.append(sqlite(path, **options))
        return made[-1]

    yield make
    for subject in made:
        pytest_twisted.blockon(subject.journal.stop())


def backup(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])


class ModeTests:
    @pytest_twisted.ensureDeferred
    async def test_open_umask(self, new: Callable[..., Subject], path: Path) -> None:
        """
        The files of a SQLite journal are readable by their owner only, whatever the umask.
        """
        before = os.umask(0)
        try:
            subject = new()
            await subject.start()
            await subject.append("1")
            subject.journal._database._salvage()
            await subject.append("2")
        finally:
            os.umask(before)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        names = {f"{path.name}{suffix}" for suffix in ("", "-wal", "-shm", "-head", "-damaged")}
        assert names <= set(modes)
        assert set(modes.values()) == {0o600}


class RemovedTests:
    @pytest.mark.parametrize(
        ("how", "suffix"),
        [
            *((how, suffix) for how in ("removed", "replaced") for suffix in ("", "-wal", "-shm", "-head")),
            ("directory", ""),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_while_in_use(
        self, new: Callable[..., Subject], path: Path, tmp_path: Path, how: str, suffix: str
    ) -> None:
        """
        After a file of a journal is removed or replaced, publishing fails until the journal is started again.
        """
        subject = new()
        await subject.start()
        await subject.append("1", "2")
        journal = subject.journal
        file = Path(f"{path}{suffix}")
        if how == "directory":
            path.parent.rename(tmp_path / "moved")
            path.parent.mkdir()
        elif how == "removed":
            file.unlink()
        else:
            shutil.copy(file, tmp_path / "copy")
            os.replace(tmp_path / "copy", file)
        assert await journal._tidy_now() is False
        problem = await problem_of(subject.append("3"))
        assert "was removed or replaced while it was in use" in problem
        assert "restart the service" in problem
        assert str(journal.problem) == problem
        # Updates in memory can be read, and a read does not end the problem.
        assert await subject.ids_after(0) == ["1", "2"]
        assert await journal._tidy_now() is False
        await problem_of(subject.append("4"))
        await journal.stop()
        for each in path.parent.iterdir():
            each.unlink()
        await subject.start()
        assert journal.problem is None
        assert await subject.append("5") == [1]

    @pytest_twisted.ensureDeferred
    async def test_removed_before_a_commit(self, new: Callable[..., Subject], path: Path) -> None:
        """
        An update that was committed to a removed file fails.
        """
        subject = new()
        await subject.start()
        await subject.append("1")
        path.unlink()
        subject.journal._database._files._look_at = 0.0
        recorded = subject.journal.append(update("2"))
        assert "was removed or replaced" in await problem_of(recorded)
        assert "was removed or replaced" in str(subject.journal.problem)


class OwnerTests:
    def test_removed_before_it_is_locked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A lock on a ``-head`` file that was removed meanwhile does not count, and the new file is locked.
        """
        path = tmp_path / "journal"
        flock = fcntl.flock
        removed: list[Path] = []

        def remove(file: int, operation: int) -> None:
            if not removed:
                removed.append(head_of(path))
                removed[0].unlink()
            flock(file, operation)

        monkeypatch.setattr(fcntl, "flock", remove)
        files = Files(path)
        files.take(5.0)
        assert head_of(path).exists()
        other = Files(path)
        with pytest.raises(Exception, match="another process has the file"):
            other.take(0.0)
        files.release()
        other.take(0.0)
        other.release()
        other.release()

    @pytest_twisted.ensureDeferred
    async def test_lock_of_another_program(self, new: Callable[..., Subject], path: Path) -> None:
        """
        While another program holds a write lock, publishing fails with an error that says so; then it works
        again.
        """
        subject = new(lock_timeout=0.05)
        await subject.start()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            problem = await problem_of(subject.append("1"))
            assert "another program holds a lock on the file; end its transaction" in problem
            assert subject.journal.problem is not None
        await subject.append("1")
        assert subject.journal.problem is None


class BackupTests:
    @pytest_twisted.ensureDeferred
    async def test_during_publishing(self, new: Callable[..., Subject], path: Path, tmp_path: Path) -> None:
        """
        Other programs can read and copy the file of a running journal, and the copy is a valid journal.
        """
        subject = new()
        await subject.start()
        await subject.append("1", "2", "3")
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM updates").fetchone() == (3,)
        backup(path, tmp_path / "copy")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "other")) as target:
            source.backup(target)
        await subject.append("4")
        for name in ("copy", "other"):
            copy = sqlite(tmp_path / name)
            await copy.start()
            assert await copy.ids_after(0) == ["1", "2", "3"]
            await copy.journal.stop()

    @pytest.mark.process
    @pytest.mark.skipif(SHELL is None, reason="needs the command sqlite3 (Debian: sqlite3)")
    @pytest_twisted.ensureDeferred
    async def test_documented_commands(self, new: Callable[..., Subject], path: Path, tmp_path: Path) -> None:
        """
        The documented commands of the sqlite3 program copy the file of a running journal.
        """
        subject = new()
        await subject.start()
        await subject.append("1")
        for command in (
            f".backup {tmp_path}/1",
            f"VACUUM INTO '{tmp_path}/2'",
            "SELECT count(*) FROM updates",
        ):
            finish([str(SHELL), str(path), command], check=True)
        assert (tmp_path / "1").exists()
        assert (tmp_path / "2").exists()
        assert await subject.append("2") == [2]

    @pytest_twisted.ensureDeferred
    async def test_restored_backup(self, new: Callable[..., Subject], path: Path, tmp_path: Path) -> None:
        """
        After a backup is restored next to the existing ``-head``, the updates since the backup are a gap, and
        their positions are not used again.
        """
        subject = new()
        await subject.start()
        await subject.append("1", "2")
        known = subject.journal.resume_id(subject.journal.head)
        backup(path, tmp_path / "copy")
        await subject.append("3", "4")
        await subject.journal.stop()
        os.replace(tmp_path / "copy", path)
        await subject.start()
        assert subject.journal.damaged == 2
        assert await subject.find("3") is None
        assert await subject.find(known) == 2
        page = await subject.read(2)
        assert (page.entries, page.missed, page.end) == ([], True, 4)
        assert await subject.append("5") == [5]

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_long_transaction(
        self, new: Callable[..., Subject], path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[LogEvent]
    ) -> None:
        """
        A long read transaction of another program does not block publishing. The growth of the ``-wal`` is
        logged, and its space is used again afterwards.
        """
        monkeypatch.setattr(sqlite_checkpoint, "_PAGES", 10)
        monkeypatch.setattr(sqlite_checkpoint, "_MANY_PAGES", 100)
        subject = new(max_count=10)
        await subject.start()
        subject.journal._database._checkpoints._warn_at = 100

        async def publish(count: int) -> None:
            for number in range(count):
                await subject.append(f"{subject.journal.head} {number}", data="x" * 20_000)

        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM updates").fetchone()
            await publish(100)
            assert subject.journal.problem is None
        lines = [formatEvent(event) for event in logged]
        grown = [line for line in lines if "another program keeps a transaction open" in line]
        assert 1 <= len(grown) <= 4
        await publish(20)
        size = Path(f"{path}-wal").stat().st_size
        await publish(100)
        assert Path(f"{path}-wal").stat().st_size == size


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) { return access(getenv("FAIL_FILE"), F_OK) == 0; }

int fsync(int file) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(file);
}

int fdatasync(int file) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(file);
}
"""

PROGRAM = """
import os, sys
from twisted.internet import defer, task
from tests.journal.journals import Follower, update
from txsse import JournalFailed
from txsse.journal.sqlite import SQLiteJournal

async def main(reactor, path, synchronous, flag):
    journal = SQLiteJournal(path, synchronous=synchronous)
    await journal.start(Follower())
    await journal.append(update("before"))
    open(flag, "w").close()
    failed = None
    for number in range(2000):
        try:
            await journal.append(update(str(number), data="x" * 10_000))
        except JournalFailed as error:
            failed = error
            break
    assert failed is not None and failed.uncertain, failed
    assert "could not flush the file" in failed.problem, failed
    os.unlink(flag)
    for _ in range(3):
        # The system now reports success, which does not show that the data is safe.
        await journal._tidy_now()
        try:
            await journal.append(update("after"))
        except JournalFailed as error:
            assert "restart the service" in error.problem
        else:
            raise AssertionError("it was retried")
        assert "could not flush" in str(journal.problem)
    await journal.stop()
    await journal.start(Follower())
    await journal.append(update("after"))
    await journal.stop()
    print("done")

task.react(main, sys.argv[1:])
"""


@pytest.mark.process
class SyncTests:
    @pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
    @pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, for a libc whose fsync fails")
    def test_fsync_fails(self, tmp_path: Path, synchronous: str) -> None:
        """
        After fsync fails, in a commit or a checkpoint, publishing fails until the journal is started again.
        """
        (tmp_path / "shim.c").write_text(SHIM)
        shim = tmp_path / "shim.so"
        build = ["gcc", "-shared", "-fPIC", "-o", str(shim), str(tmp_path / "shim.c"), "-ldl"]
        finish(build, check=True)
        flag = tmp_path / "flag"
        done = finish(
            python("-c", PROGRAM, str(tmp_path / "journal"), synchronous, str(flag)),
            env={"LD_PRELOAD": str(shim), "FAIL_FILE": str(flag)},
        )
        assert done.stdout.endswith("done\n"), done.stderr


class ProbeTests:
    @pytest_twisted.ensureDeferred
    async def test_full_disk(self, new: Callable[..., Subject]) -> None:
        """
        The problem remains until the disk has room for as many bytes as could not be written.
        """
        subject = new()
        await subject.start()
        connection = subject.journal._database._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 40}")
        await problem_of(subject.append("1", data="x" * 500_000))
        for _ in range(3):
            await subject.journal._tidy_now()
            assert "the disk is full" in str(subject.journal.problem)
        connection.execute(f"PRAGMA max_page_count = {pages + 140}")
        await subject.journal._tidy_now()
        assert subject.journal.problem is None
        await subject.append("1", data="x" * 500_000)

    @pytest_twisted.ensureDeferred
    async def test_checkpoint_fails(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If the disk is too full for a checkpoint, the journal has a problem, and the committed update
        succeeds.
        """

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        subject = new()
        await subject.start()
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_checkpoint, "_PAGES", 1)
            patched.setattr(sqlite_checkpoint.Checkpoints, "run", fail)
            assert await subject.append("1", data="x" * 500_000) == [1]
            assert "the disk is full" in str(subject.journal.problem)
            await subject.journal._tidy_now()
            assert "the disk is full" in str(subject.journal.problem)
        await subject.journal._tidy_now()
        assert subject.journal.problem is None

    @pytest_twisted.ensureDeferred
    async def test_last_checkpoint_fails(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        """
        If the last checkpoint fails, stopping the journal fails, and the file is closed all the same.
        """

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        subject = new()
        await subject.start()
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_checkpoint.Checkpoints, "run", fail)
            assert "see the system's log" in await problem_of(subject.journal.stop())
        await subject.start()
        await subject.append("1")

"""
Tests of reading a journal's file: damage is skipped, other errors are raised.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest

from tests.journal.journals import update
from txsse.errors import JournalFailed
from txsse.journal.resume_ids import new_secret
from txsse.journal.sqlite import pages as sqlite_pages
from txsse.journal.sqlite.database import Bounds, Database
from txsse.journal.sqlite.schema import visits
from txsse.journal.sqlite.table_scan import newest, rows_after, survey, verified

NOW = 1_700_000_000.0


class BrokenDisk:
    """
    A fake connection to a file on a disk that fails.
    """

    def execute(self, *_: object) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    def cursor(self) -> BrokenDisk:
        return self

    def close(self) -> None:
        pass


def open_database(path: Path, **bounds: Any) -> Database:
    chosen: dict[str, Any] = {"count": 10**6, "bytes": 10**9, "age": 10.0**9, **bounds}
    database = Database(path, Bounds(**chosen), synchronous="NORMAL", lock_timeout=0.0, seconds=monotonic)
    database.open(NOW)
    database.begin_visit(new_secret())
    return database


class ErrorTests:
    @pytest.mark.parametrize(
        "read",
        [
            lambda connection: verified(connection, 1),
            lambda connection: list(rows_after(connection, "position", 0)),
            lambda connection: list(newest(connection, 1, 0)),
            survey,
            visits,
        ],
    )
    def test_disk(self, read: Callable[[Any], object]) -> None:
        """
        An error of the disk is raised by each function that reads the file, and is not taken for damage.
        """
        with pytest.raises(sqlite3.OperationalError):
            read(BrokenDisk())

    def test_find(self, tmp_path: Path) -> None:
        """
        An error of the disk is raised by a search for an id; a closed file raises JournalFailed.
        """
        database = open_database(tmp_path / "journal")
        connection, database._connection = database._connection, BrokenDisk()  # type: ignore[assignment]
        with pytest.raises(sqlite3.OperationalError):
            database.find("1", NOW)
        database._connection = connection
        database.close()
        with pytest.raises(JournalFailed, match="is not open"):
            database.find("1", NOW)


class SalvageTests:
    def test_copy_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the copy of a damaged file cannot be written either, it is copied again at each probe, not each
        update.
        """
        database = open_database(tmp_path / "journal")
        database.append([(update("1"), NOW)])
        salvaged = []
        salvage = Database._salvage

        def count(self: Database) -> None:
            salvaged.append(1)
            salvage(self)

        def fail(*_: object) -> None:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        monkeypatch.setattr(Database, "_salvage", count)
        with monkeypatch.context() as patched:
            patched.setattr(Database, "_append_new", fail)
            for _ in range(3):
                with pytest.raises(JournalFailed, match="is damaged"):
                    database.append([(update("2"), NOW)])
            assert len(salvaged) == 1
        database.probe()
        assert len(salvaged) == 2
        assert database.append([(update("2"), NOW)]) == [2]
        assert [each.id for _, each in database.read(0, NOW).entries] == ["1", "2"]
        database.finish()

    def test_rows_not_copied(self, tmp_path: Path) -> None:
        """
        The copy of a damaged file has no damaged and no dropped rows.
        """
        path = tmp_path / "journal"
        database = open_database(path, count=5)
        database.append([(update(str(number)), NOW) for number in range(1, 11)])
        database.finish()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE updates SET time = 1 WHERE position = 8")
            connection.commit()
        database.open(NOW)
        database.begin_visit(new_secret())
        database._salvage()
        page = database.read(5, NOW)
        assert ([position for position, _ in page.entries], page.missed) == ([6, 7], False)
        page = database.read(7, NOW)
        assert ([position for position, _ in page.entries], page.missed) == ([9, 10], True)
        assert database.append([(update("11"), NOW)]) == [11]
        database.finish()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM updates").fetchone() == (5,)

    def test_file_not_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the copy cannot replace the damaged file, the file stays in use.
        """
        path = tmp_path / "journal"
        database = open_database(path)
        database.append([(update("1"), NOW)])

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr("os.link", fail)
            with pytest.raises(OSError, match="Input/output"):
                database._salvage()
        assert database.append([(update("2"), NOW)]) == [2]
        database.tidy(NOW)
        database.finish()


class HeadTests:
    def test_damaged_end_without_head_file(self, tmp_path: Path) -> None:
        """
        Without ``-head``, the number of damaged rows after the last undamaged one determines the head.
        """
        path = tmp_path / "journal"
        database = open_database(path)
        database.append([(update(str(number)), NOW) for number in range(1, 11)])
        database.finish()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE updates SET position = 10000 + position WHERE position > 8")
            connection.execute("DELETE FROM mark")
            connection.commit()
        Path(f"{path}-head").unlink()
        database.open(NOW)
        database.begin_visit(new_secret())
        assert database.head == 10
        assert database.append([(update("11"), NOW)]) == [11]
        database.finish()

    def test_head_file_not_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An update whose position cannot be written to ``-head`` fails, and so do all later ones.
        """
        database = open_database(tmp_path / "journal")

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr("os.pwrite", fail)
            with pytest.raises(JournalFailed, match="see the system's log"):
                database.append([(update("1"), NOW)])
        with pytest.raises(JournalFailed, match="see the system's log"):
            database.append([(update("2"), NOW)])
        assert database.trouble.is_final
        database.finish()


class RetentionTests:
    def test_oldest_rows_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the oldest rows cannot be read, no further update is dropped, and the counts start again at 0.
        """
        database = open_database(tmp_path / "journal", count=2)
        database.append([(update(str(number)), NOW) for number in range(1, 4)])
        database._retention.begin(0, 10, 10**6)
        monkeypatch.setattr("txsse.journal.sqlite.retention.rows_after", lambda *_, **__: iter(()))
        database._advance_floor(NOW)
        assert database.floor == 0
        database.finish()

    def test_page_of_damaged_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A page of only damaged rows is empty, and the next page begins after its last row.
        """
        monkeypatch.setattr(sqlite_pages, "_PAGE_ROWS", 3)
        path = tmp_path / "journal"
        database = open_database(path)
        database.append([(update(str(number)), NOW) for number in range(1, 11)])
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE updates SET time = 1 WHERE position < 6")
            connection.commit()
        ends, after = [], 0
        while after < 10:
            page = database.read(after, NOW)
            after = page.end
            ends.append((after, page.missed))
        assert ends == [(3, True), (6, True), (9, False), (10, False)]
        database.finish()


class DamagedDisk(BrokenDisk):
    """
    A fake connection to a file that is wholly damaged.
    """

    def execute(self, *_: object) -> Any:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


class WronglyLinkedDisk(BrokenDisk):
    """
    A fake connection to a file in which each query returns an early row, and then fails, up to a key.

    :param first: the first key after the damage.
    :ivar queries: the number of queries.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.queries = 0

    def execute(self, *arguments: object) -> Any:
        _, values = arguments
        self.queries += 1
        self.rows = self.read(*cast("list[int]", values))
        return self

    def read(self, begin: int, up_to: int, limit: int) -> Iterator[tuple[int]]:
        if begin >= self.first:
            yield from [(key,) for key in range(begin, min(self.first + 3, up_to + 1))]
            return
        yield (-(2**61),)
        DamagedDisk().execute()

    def __iter__(self) -> Iterator[tuple[int]]:
        return self.rows

    def fetchone(self) -> tuple[int] | None:
        return next(self.rows, None)


class DamageTests:
    @pytest.mark.parametrize("first", [1, 2**40, 2**62, 2**62 + 1])
    def test_no_progress(self, first: int) -> None:
        """
        If each query returns an early row before it fails, the reading ends after few queries.
        """
        disk = WronglyLinkedDisk(first)
        found = [row[0] for row in rows_after(disk, "x", -(2**62))]  # type: ignore[arg-type]
        assert found[0] == -(2**61)
        assert disk.queries < 500
        disk = WronglyLinkedDisk(10)
        assert [row[0] for row in rows_after(disk, "x", 8)][-3:] == [10, 11, 12]  # type: ignore[arg-type]

    def test_wholly_damaged(self, tmp_path: Path) -> None:
        """
        In a file that is wholly damaged, no update and no visit is found.
        """
        database = open_database(tmp_path / "journal")
        connection, database._connection = database._connection, DamagedDisk()  # type: ignore[assignment]
        assert database.find("1", NOW) is None
        assert database.at(1, NOW) is None
        assert visits(database._connection) == []  # type: ignore[arg-type]
        database._connection = connection
        database.finish()

    def test_survey(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The first and last positions of a table are found although a page between them is damaged.
        """
        monkeypatch.setattr("txsse.journal.sqlite.table_scan._EDGE", 3)
        path = tmp_path / "journal"
        database = open_database(path)
        for number in range(1, 101):
            database.append([(update(str(number), data="x" * 1000), NOW)])
        database.finish()
        content = path.read_bytes()
        page = content.index(b"50[") // 4096
        path.write_bytes(content[: page * 4096] + bytes(4096) + content[(page + 1) * 4096 :])
        with closing(sqlite3.connect(path)) as connection:
            found = survey(connection)
        assert (found.floor, found.head, found.damaged) == (0, 100, 0)
        assert 90 < found.count < 100


class SyncTests:
    def test_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the flush in a checkpoint fails, the committed update fails as uncertain, and so do all later
        writes.
        """

        def fail(*_: object) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

        database = open_database(tmp_path / "journal")
        with monkeypatch.context() as patched:
            patched.setattr("txsse.journal.sqlite.checkpoint._PAGES", 1)
            patched.setattr("txsse.journal.sqlite.checkpoint.Checkpoints.run", fail)
            with pytest.raises(JournalFailed, match="could not flush") as raised:
                database.append([(update("1", data="x" * 500_000), NOW)])
            assert raised.value.uncertain
        for work in (database.probe, lambda: database.append([(update("2"), NOW)])):
            with pytest.raises(JournalFailed, match="restart the service"):
                work()
        database.finish()

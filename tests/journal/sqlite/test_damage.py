"""
Tests of a journal in a damaged file: readable updates are served, and damaged ones are reported.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, formatEvent

from tests.integration.clients import listen
from tests.journal.journals import Subject, sqlite, update
from tests.journal.sqlite.test_journal import head_of, problem_of
from tests.waiting import until
from txsse import EventSource, Hub
from txsse.journal.position import OLDEST
from txsse.journal.resume_ids import new_secret
from txsse.journal.sqlite import SQLiteJournal
from txsse.journal.sqlite.codec import sum_of
from txsse.journal.sqlite.damage import Damage
from txsse.journal.sqlite.database import Bounds, Database

NOW = 1_700_000_000.0
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def new(path: Path) -> Iterator[Callable[..., Subject]]:
    made: list[Subject] = []

    def make(**options: Any) -> Subject:
        options.setdefault("recent_bytes", 1)
        made.append(sqlite(path, **options))
        return made[-1]

    yield make
    for subject in made:
        pytest_twisted.blockon(subject.journal.stop())


def change(path: Path, statement: str, *values: object) -> None:
    """
    Change a file without changing its checksums.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, values)
        connection.commit()


def flip(path: Path, text: bytes, replacement: bytes) -> None:
    """
    Replace all occurrences of a text in a file.
    """
    content = path.read_bytes()
    assert text in content
    assert len(text) == len(replacement)
    path.write_bytes(content.replace(text, replacement))


async def walk(subject: Subject, after: int) -> list[str | int]:
    """
    Read to the head, and return the positions, with ``gap`` before each page after missing updates.
    """
    seen: list[Any] = []
    for _ in range(100):
        page = await subject.read(after)
        await subject.check_gap(page)
        seen += ["gap"] * page.missed + [position for position, _ in page.entries]
        assert page.end > after or page.end >= subject.journal.head
        after = page.end
        if after >= subject.journal.head:
            return seen
    raise AssertionError("the journal does not end")


async def fill(new: Callable[..., Subject], count: int, **options: Any) -> None:
    subject = new()
    await subject.start()
    recorded = [
        subject.journal.append(update(f"id-{number:04}", **{"data": f"text-{number:04}", **options}))
        for number in range(1, count + 1)
    ]
    for each in recorded:
        await each
    await subject.journal.stop()


class RecordTests:
    """
    Damage within one record.
    """

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_small_tables_of_another_type(self, new: Callable[..., Subject], path: Path) -> None:
        """
        Values of another type in the small tables of a file count as damaged, although their checksums match.
        """
        await fill(new, 3)
        change(path, "INSERT INTO visits VALUES (?, ?, ?, ?)", 90, 7, 1, sum_of(90, 7, 1))
        change(path, "INSERT INTO visits VALUES (?, ?, ?, ?)", 91, b"x", b"1", sum_of(91, b"x", b"1"))
        change(path, "INSERT INTO mark VALUES (?, ?, ?)", 90, b"99", sum_of(90, b"99"))
        subject = new()
        await subject.start()
        assert subject.journal.problem is None
        assert await walk(subject, 0) == [1, 2, 3]
        assert await subject.append("new") == [4]

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("data", b"text-0201"),
            ("data", None),
            ("data", 7),
            ("id", b"id-020O"),
            ("topics", b'["olds"]'),
            ("type", b""),
            ("type", 0.5),
            ("private", 1),
            ("private", "x"),
            ("retry", 0.0),
            ("retry", "soon"),
            ("time", 1e300),
            ("time", -1.0),
            ("time", "never"),
            ("checksum", 0),
            ("position", 2**62),
            ("position", -5),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_damaged_column(
        self, new: Callable[..., Subject], path: Path, column: str, value: object, logged: list[LogEvent]
    ) -> None:
        """
        A damaged record is skipped and reported as a gap in its place, counted once, and logged once without
        its content. Later updates are recorded.
        """
        await fill(new, 400)
        with closing(sqlite3.connect(path)) as connection:
            if value is None:
                # Drop the NOT NULL constraint, which a flipped bit can also violate.
                connection.execute("PRAGMA writable_schema = ON")
                connection.execute(
                    "UPDATE sqlite_schema SET sql = replace(sql, 'data BLOB NOT NULL', 'data BLOB')"
                )
                connection.commit()
        change(path, f"UPDATE updates SET {column} = ? WHERE position = 200", value)
        subject = new()
        await subject.start()
        assert subject.journal.problem is None
        for _ in range(2):
            assert await walk(subject, OLDEST) == [*range(1, 200), "gap", *range(201, 401)]
            assert await walk(subject, 199) == ["gap", *range(201, 401)]
            assert await walk(subject, 200) == [*range(201, 401)]
        assert await subject.find("id-0200") is None
        assert await subject.journal.at(200) is None
        assert subject.journal.damaged == 1
        assert subject.journal.problem is None
        assert await subject.append("next") == [401]
        assert (await walk(subject, 150))[-1] == 401
        lines = [formatEvent(event) for event in logged]
        assert len([line for line in lines if "200" in line]) == 1
        assert not any(text in line for line in lines for text in ("text-0", "id-0", '["'))

    @pytest_twisted.ensureDeferred
    async def test_newest_records_damaged(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A journal whose newest records are damaged starts, continues its positions, and reports a gap at the
        end.
        """
        await fill(new, 30)
        change(path, "UPDATE updates SET data = CAST(x'ff' AS TEXT) WHERE position > 27")
        for recent_bytes in (1, 10**6):
            subject = new(recent_bytes=recent_bytes)
            await subject.start()
            assert subject.journal.head == 30
            assert await subject.journal.at(subject.journal.head) is None
            assert await walk(subject, 20) == [*range(21, 28), "gap"]
            assert subject.journal.damaged == 3
            await subject.journal.stop()
        subject = new(recent_bytes=10**6)
        await subject.start()
        assert await subject.append("next") == [31]
        assert await walk(subject, 25) == [26, 27, "gap", 31]
        assert await walk(subject, 30) == [31]

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_all_records_damaged(self, new: Callable[..., Subject], path: Path) -> None:
        """
        One read of a file whose records are all damaged scans a limited number of rows.
        """
        await fill(new, 9000)
        change(path, "UPDATE updates SET checksum = 0")
        subject = new()
        await subject.start()
        assert await walk(subject, 0) == ["gap"] * 3
        assert subject.journal.damaged == 9000
        assert await subject.append("next") == [9001]
        assert (await walk(subject, 0))[-2:] == ["gap", 9001]

    @pytest_twisted.ensureDeferred
    async def test_published_again(self, new: Callable[..., Subject], path: Path) -> None:
        """
        An update whose record is damaged is recorded when published again, and the gap in its old place
        remains.
        """
        await fill(new, 10)
        change(path, "UPDATE updates SET data = x'00' WHERE position = 5")
        subject = new()
        await subject.start()
        assert await subject.append("id-0005", data="text-0005") == [11]
        assert await subject.append("id-0006", data="text-0006") == [6]
        assert await walk(subject, 3) == [4, "gap", *range(6, 12)]

    @pytest_twisted.ensureDeferred
    async def test_oldest_position_damaged(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A damaged position in the oldest row does not change which updates a journal holds.
        """
        await fill(new, 10)
        change(path, "DELETE FROM updates WHERE position < 4")
        change(path, "UPDATE updates SET position = -1000 WHERE position = 4")
        subject = new()
        await subject.start()
        assert await walk(subject, OLDEST) == ["gap", *range(5, 11)]
        assert subject.journal.damaged == 1

    @pytest_twisted.ensureDeferred
    async def test_ids_that_disagree(self, new: Callable[..., Subject], path: Path) -> None:
        """
        If the index and the row of an update have different ids, the id is not found, and the row can be
        deleted.
        """
        await fill(new, 200)
        content = path.read_bytes()
        # In the row, the id is followed by the topics; in the index, it is not.
        spot = content.index(b"id-0007[")
        path.write_bytes(content[:spot] + b"id-9907" + content[spot + 7 :])
        subject = new(max_count=50)
        await subject.start()
        assert await subject.find("id-9907") is None
        for number in range(200):
            await subject.append(str(number))
        assert subject.journal.problem is None
        assert await walk(subject, OLDEST) == [*range(351, 401)]

    @pytest.mark.parametrize("value", [1e300, -1.0, "never"])
    @pytest_twisted.ensureDeferred
    async def test_damaged_time(self, new: Callable[..., Subject], path: Path, value: object) -> None:
        """
        A damaged time in a row neither keeps older updates for ever nor drops newer ones too early.
        """
        await fill(new, 20)
        change(path, "UPDATE updates SET time = ? WHERE position = 5", value)
        subject = new(max_age=60.0)
        await subject.start()
        assert await walk(subject, 5) == [*range(6, 21)]
        subject.advance(61)
        assert await walk(subject, OLDEST) == []

    @pytest_twisted.ensureDeferred
    async def test_clock_set_back(self, new: Callable[..., Subject]) -> None:
        """
        Updates whose time is in the future, as the clock was set back, are not damaged, and are held.
        """
        first = new(max_age=60.0)
        first.advance(1000)
        await first.start()
        await first.append("1", "2")
        await first.journal.stop()
        second = new(max_age=60.0)
        await second.start()
        assert await walk(second, OLDEST) == [1, 2]


class FileTests:
    """
    Damage of whole pages of the file.
    """

    @pytest_twisted.ensureDeferred
    async def test_damaged_visit(self, new: Callable[..., Subject], path: Path) -> None:
        """
        The resume IDs of a process are not found if the record of its end, or a later one, is damaged.
        """
        ids = []
        for number in range(3):
            subject = new()
            await subject.start()
            await subject.append(str(number))
            ids.append(subject.journal.resume_id(subject.journal.head))
            await subject.journal.stop()
        change(path, "UPDATE visits SET begin = 'x' WHERE number = 1")
        subject = new()
        await subject.start()
        assert [await subject.find(id) for id in ids] == [None, None, 3]
        await subject.journal.stop()
        change(path, "UPDATE mark SET position = 2000000")
        await subject.start()
        assert await subject.append("next") == [4]

    @pytest_twisted.ensureDeferred
    async def test_damaged_header(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A file with a destroyed header cannot be opened, and each attempt has the same error.
        """
        await fill(new, 10)
        content = path.read_bytes()
        path.write_bytes(bytes(200) + content[200:])
        subject = new()
        for _ in range(3):
            problem = await problem_of(subject.start())
            assert problem.startswith(f"{path}: is not a journal, or is damaged; move it away")

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_any_damaged_page(self, new: Callable[..., Subject], path: Path, tmp_path: Path) -> None:
        """
        If any page of the file except the first is destroyed, the journal starts, serves the other updates,
        and records new ones.
        """
        await fill(new, 300, data="x" * 300)
        whole = path.read_bytes()
        noted = head_of(path).read_bytes()
        pages = len(whole) // PAGE
        assert pages > 30
        for page in [*range(1, 9), *range(9, pages - 1, 7), pages - 1]:
            for filler in (b"\0", b"\xff", b"\x0d\x05"):
                for other in tmp_path.iterdir():
                    other.unlink()
                path.write_bytes(whole[: page * PAGE] + (filler * PAGE)[:PAGE] + whole[(page + 1) * PAGE :])
                head_of(path).write_bytes(noted)
                subject = new()
                await subject.start()
                assert await subject.append("next") == [301]
                seen = await walk(subject, 0)
                complete = [position for position in seen if position != "gap"]
                assert complete == sorted(set(complete))
                assert (complete == list(range(1, 302))) == ("gap" not in seen)
                assert not [
                    (a, b)
                    for a, b in zip([0, *seen], seen, strict=False)
                    if "gap" not in (a, b) and a + 1 != b  # type: ignore[operator]
                ]
                assert subject.journal.problem is None
                await subject.journal.stop()

    @pytest_twisted.ensureDeferred
    async def test_no_room_for_a_copy(
        self, new: Callable[..., Subject], path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If a damaged file cannot be written and the disk has no room for a copy, publishing fails until it
        has.
        """
        await fill(new, 300, data="x" * 300)
        subject = new()
        await subject.start()
        with closing(sqlite3.connect(path)) as connection:
            (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index'").fetchone()
        connection = subject.journal._database._connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await subject.journal.stop()
        content = path.read_bytes()
        path.write_bytes(content[: (root - 1) * PAGE] + b"\xff" * PAGE + content[root * PAGE :])
        statvfs = os.statvfs(path)
        full = os.statvfs_result((*statvfs[:4], 0, *statvfs[5:]))
        await subject.start()
        journal = subject.journal
        shutil.rmtree(f"{path}-damaged", ignore_errors=True)
        with monkeypatch.context() as patched:
            patched.setattr(os, "statvfs", lambda _: full)
            for id in ("1", "2"):
                assert "the disk is full" in await problem_of(subject.append(id))
            assert await journal._tidy_now() is False
            assert journal.problem is not None
            assert (await walk(subject, 0))[-1] == 300
        assert await journal._tidy_now() is False
        assert journal.problem is None
        assert await subject.append("1") == [301]
        assert Path(f"{path}-damaged").exists()


class LostTailTests:
    """
    Acknowledged updates that are missing from the file.
    """

    @pytest.mark.parametrize("loss", ["removed", "truncated", "damaged"])
    @pytest_twisted.ensureDeferred
    async def test_lost_wal(
        self, new: Callable[..., Subject], path: Path, tmp_path: Path, loss: str, logged: list[LogEvent]
    ) -> None:
        """
        Updates lost with the ``-wal`` are a gap, are counted and logged, and their positions are not used
        again.
        """
        await fill(new, 10)
        subject = new()
        await subject.start()
        subject.journal._database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await subject.append(*(f"lost {number}" for number in range(5)))
        stopped = tmp_path / "stopped"
        for suffix in ("", "-wal", "-head"):
            shutil.copy(f"{path}{suffix}", f"{stopped}{suffix}")
        wal = Path(f"{stopped}-wal")
        if loss == "removed":
            wal.unlink()
        else:
            wal.write_bytes(wal.read_bytes()[:5000] if loss == "truncated" else bytes(wal.stat().st_size))
        for count in (5, 0):
            after = sqlite(stopped, recent_bytes=10**6)
            await after.start()
            assert after.journal.damaged == count
            assert after.journal.head == 15
            assert await walk(after, 8) == [9, 10, "gap"]
            assert await after.find("lost 3") is None
            await after.journal.stop()
        after = sqlite(stopped, recent_bytes=10**6)
        await after.start()
        assert await after.append("next") == [16]
        assert await walk(after, 8) == [9, 10, "gap", 16]
        assert await walk(after, OLDEST) == [*range(1, 11), "gap", 16]
        assert await walk(after, 15) == [16]
        await after.journal.stop()
        assert [line for line in map(formatEvent, logged) if "11 to 15 are damaged or lost" in line]

    @pytest.mark.parametrize("content", [None, b"", b"0000000000000000099 00000000\n", b"\xff" * 29])
    @pytest_twisted.ensureDeferred
    async def test_damaged_head_file(
        self, new: Callable[..., Subject], path: Path, content: bytes | None, logged: list[LogEvent]
    ) -> None:
        """
        If ``-head`` is missing or damaged, this is logged, and positions continue after the newest row.
        """
        await fill(new, 10)
        head_of(path).unlink()
        if content is not None:
            head_of(path).write_bytes(content)
        subject = new()
        await subject.start()
        assert await subject.append("next") == [11]
        assert subject.journal.damaged == 0
        assert [line for line in map(formatEvent, logged) if "-head is missing or damaged" in line]
        await subject.journal.stop()
        assert head_of(path).read_bytes().startswith(b"0000000000000000011 ")

    @pytest_twisted.ensureDeferred
    async def test_dropped_with_its_neighbours(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A gap is no longer reported to a replay of all updates, once the updates before it are dropped.
        """
        await fill(new, 10)
        head_of(path).write_bytes(b"0000000000000000020 4fcf2a5a\n")
        from zlib import crc32

        text = b"0000000000000000020"
        head_of(path).write_bytes(b"%b %08x\n" % (text, crc32(text)))
        subject = new(max_count=5)
        await subject.start()
        assert subject.journal.head == 20
        await subject.append(*map(str, range(6)))
        assert await walk(subject, OLDEST) == [*range(22, 27)]
        assert await walk(subject, 3) == ["gap", *range(22, 27)]


@pytest.mark.slow
class HubTests:
    @pytest_twisted.ensureDeferred
    async def test_resumed(self, new: Callable[..., Subject], path: Path) -> None:
        """
        A client that resumes before a damaged record is sent one stream-reset in its place, and then live
        updates; if it resumes from the reset's id, it is sent no other reset.
        """
        await fill(new, 1500, data="x" * 3000)
        flip(path, b"id-0200", b"id-\xff200")
        hub = Hub(journal=SQLiteJournal(path))
        port = await listen(hub.resource("news"))
        got: list[str | None] = []
        source = EventSource(
            f"http://127.0.0.1:{port.getHost().port}/",
            last_event_id="id-0100",
            event_received=lambda event: got.append(event.id),
        )
        source.start()
        await until(lambda: len(got) == 1400)
        await hub.publish("news", "x", id="live")
        await until(lambda: got[-1] == "live")
        ids = [f"id-{number:04}" for number in range(101, 1501)]
        reset = got[99]
        assert got == [*ids[:99], reset, *ids[100:], "live"]
        assert hub.metrics().gaps == 1
        assert hub.problem is None
        source.close()
        got.clear()
        url = f"http://127.0.0.1:{port.getHost().port}/"
        assert reset is not None
        source = EventSource(url, last_event_id=reset, event_received=lambda event: got.append(event.id))
        source.start()
        await until(lambda: got[-1:] == ["live"])
        assert got == [*ids[100:], "live"]
        assert hub.metrics().gaps == 1
        source.close()
        await hub.stop()
        await port.stopListening()


class DamageTests:
    @given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=30), st.integers(0, 90))
    @settings(deadline=None, derandomize=True, max_examples=200)
    def test_counted_once(self, runs: list[tuple[int, int]], floor: int) -> None:
        """
        Each lost position counts once, however the noted ranges overlap, also after older ones are forgotten.
        """
        damage = Damage(Path("file"))
        lost: set[int] = set()
        for first, more in runs:
            damage.note(first, first + more)
            lost.update(range(first, first + more + 1))
            assert damage.count == len(lost)
        damage.forget(floor)
        for position in sorted(lost):
            if position > floor:
                damage.note(position, position)
        assert damage.count == len(lost)

    def test_lines(self, logged: list[LogEvent]) -> None:
        """
        A journal logs at most 20 lines about damage, and the last one says so.
        """
        damage = Damage(Path("file"))
        for position in range(0, 200, 2):
            damage.note(position, position)
        assert damage.count == 100
        lines = [formatEvent(event) for event in logged]
        assert len(lines) == 20
        assert lines[-1].endswith("further damage is counted, but not logged")


class FlippedBitsTests:
    """
    Flipped bits anywhere in the file except its first page.
    """

    @given(st.integers(0, 2**32))
    @settings(deadline=None, derandomize=True, max_examples=60)
    def test_random_bits(self, seed: int) -> None:
        """
        With random flipped bits in a file, each read update is as written, each missing one is within a gap,
        and new updates are recorded.
        """
        rng = random.Random(seed)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "journal"
            written = [(update(f"id-{n}", data="x" * (n % 700)), NOW) for n in range(150)]
            database = Database(
                path, Bounds(10**6, 10**9, 10**9), synchronous="NORMAL", lock_timeout=0.0, seconds=monotonic
            )
            database.open(NOW)
            database.begin_visit(new_secret())
            for number in range(0, 150, 10):
                database.append(written[number : number + 10])
            database.finish()
            content = bytearray(path.read_bytes())
            for _ in range(rng.choice((1, 1, 3, 30))):
                content[rng.randrange(PAGE, len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            database.open(NOW)
            database.begin_visit(new_secret())
            assert database.head == 150
            written.append((update("next"), NOW))
            assert database.append(written[-1:]) == [151]
            after = 0
            while after < database.head:
                page = database.read(after, NOW)
                expected = after + 1
                for position, found in page.entries:
                    assert position == expected or (page.missed and position > expected)
                    assert found == written[position - 1][0]
                    expected = position + 1
                assert page.end > after
                assert page.missed or page.end == expected - 1
                after = page.end
            database.finish()

"""
A journal's file, by SQLite. Everything here blocks, and belongs to one thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from txsse.errors import JournalFailed
from txsse.hub.entry import Entry, Page
from txsse.hub.place import OLDEST
from txsse.hub.recent import PAGE_BYTES, PAGE_COUNT
from txsse.hub.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = ["Bounds", "Database"]

# "txss", so that another program's file is not taken for a journal.
_APPLICATION = 0x74787373
_SCHEMA = 1

# What comes first is read to find out what is too much, without the text behind it, which may be long.
_CREATE = """
CREATE TABLE updates (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    size INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE,
    private INTEGER NOT NULL,
    topics TEXT NOT NULL,
    type TEXT,
    retry REAL,
    data TEXT NOT NULL
)
"""

# Each process that has opened the file: a secret of its own, and the position where the last one ended.
_CREATE_VISITS = "CREATE TABLE IF NOT EXISTS visits (number INTEGER PRIMARY KEY, secret BLOB, begin INTEGER)"
_MOST_VISITS = 100

_INSERT = "INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
_COLUMNS = "position, time, id, private, topics, type, retry, data"

# What a row takes in the file beside its text.
_OVERHEAD = 100

# How many rows are deleted, or looked at, at once.
_STEP = 1000


@dataclass(frozen=True)
class Bounds:
    """
    How much a journal holds: updates, bytes and seconds.
    """

    count: int
    bytes: int
    age: float


class Database:
    """
    Updates in a file.

    :param path: the file, which is made where there is none.
    :param bounds: what it holds; the oldest go first.
    :param synchronous: ``NORMAL`` or ``FULL``, as SQLite has them.
    :param lock_timeout: how long to wait for another process that has the file, in seconds.
    :ivar head: the position of the newest update, whether it is still here or not.
    :ivar floor: the position up to which nothing is here any more.
    """

    def __init__(self, path: Path, bounds: Bounds, *, synchronous: str, lock_timeout: float) -> None:
        self.head = 0
        self.floor = 0
        self._path = path
        self._bounds = bounds
        self._synchronous = synchronous
        self._lock_timeout = lock_timeout
        self._connection: sqlite3.Connection | None = None
        self._count = 0
        self._bytes = 0
        # The oldest that are there: their positions, times and sizes.
        self._oldest: deque[tuple[int, float, int]] = deque()

    def open(self, now: float) -> None:
        """
        Open the file, or make it.

        :raises JournalFailed: where it is none of ours.
        :raises sqlite3.Error: where it cannot be opened.
        """
        self.close()
        connection = sqlite3.connect(
            self._path, timeout=self._lock_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
            (self.head,) = connection.execute(
                "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'updates'), 0)"
            ).fetchone()
            oldest, self._count, self._bytes = connection.execute(
                "SELECT min(position), count(*), coalesce(sum(size), 0) FROM updates"
            ).fetchone()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.floor = self.head if oldest is None else oldest - 1
        self._oldest.clear()
        self._advance_floor(now)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # One process has the file for itself: positions are counted here, and the newest part is in memory.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables and not schema and not application:
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        elif application != _APPLICATION:
            raise JournalFailed(str(self._path), "is the database of another program; name another file")
        elif schema != _SCHEMA:
            raise JournalFailed(
                str(self._path),
                f"was made by a newer txsse (its schema is {schema}, and {_SCHEMA} is known here); "
                "install that version again, or name another file",
            )
        connection.execute(_CREATE_VISITS)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def begin_visit(self, secret: bytes) -> list[tuple[bytes, int]]:
        """
        Record that a process goes on with the file.

        :param secret: what its places are named by.
        :returns: the secrets of the last processes, this one's at the end, and the position where each ended.
        """
        connection = self._opened
        with _transaction(connection):
            connection.execute("INSERT INTO visits (secret, begin) VALUES (?, ?)", [secret, self.head])
            connection.execute(
                "DELETE FROM visits WHERE number <= (SELECT max(number) FROM visits) - ?", [_MOST_VISITS]
            )
        rows = connection.execute("SELECT secret, begin FROM visits ORDER BY number").fetchall()
        ends = [begin for _, begin in rows[1:]]
        return [(row[0], end) for row, end in zip(rows, [*ends, self.head], strict=True)]

    def append(self, batch: Iterable[tuple[Update, float]]) -> list[int]:
        """
        Record updates, all of them or none.

        :param batch: updates, with the time of each.
        :returns: the position of each: a known one, where its id is that of an update which is here.
        :raises sqlite3.Error: where they cannot be recorded.
        """
        connection = self._opened
        before = self.head, self.floor, self._count, self._bytes
        try:
            with _transaction(connection):
                positions = [self._append(connection, update, now) for update, now in batch]
                # As much as comes goes, so that there is nothing left to do behind a burst.
                self._delete(connection, len(positions))
        except BaseException:
            self.head, self.floor, self._count, self._bytes = before
            self._oldest.clear()
            raise
        return positions

    def _append(self, connection: sqlite3.Connection, update: Update, now: float) -> int:
        event, topics = update.event, _to_json(update.topics)
        size = len(update.frame) + sum(map(len, update.topics)) + _OVERHEAD
        private = int(update.private)
        row = (self.head + 1, now, size, update.id, private, topics, event.event, event.retry, event.data)
        if not connection.execute(_INSERT, row).rowcount:
            known = self.find(update.id, now)
            if known is not None:
                return known
            connection.execute("DELETE FROM updates WHERE id = ?", [update.id])
            connection.execute(_INSERT, row)
        self.head += 1
        self._count += 1
        self._bytes += size
        self._advance_floor(now)
        return self.head

    def find(self, id: str, now: float) -> int | None:
        """
        Return the position of an update.
        """
        self._advance_floor(now)
        row = self._opened.execute("SELECT position FROM updates WHERE id = ?", [id]).fetchone()
        return row[0] if row is not None and row[0] > self.floor else None

    def at(self, position: int, now: float) -> Update | None:
        """
        Return the update at a position.
        """
        self._advance_floor(now)
        row = self._opened.execute(
            f"SELECT {_COLUMNS} FROM updates WHERE position = ? AND position > ?", [position, self.floor]
        ).fetchone()
        return None if row is None else _to_entry(row)[0][1]

    def read(self, after: int, now: float) -> Page:
        """
        Read on behind a position.
        """
        self._advance_floor(now)
        rows = self._opened.execute(
            f"SELECT {_COLUMNS} FROM updates WHERE position > ? ORDER BY position LIMIT {PAGE_COUNT}",
            [max(after, self.floor)],
        )
        entries: list[Entry] = []
        size = 0
        for row in rows:
            entry, _ = _to_entry(row)
            entries.append(entry)
            size += len(entry[1].frame)
            if size >= PAGE_BYTES:
                break
        missed = OLDEST < after < self.floor
        return Page(entries, entries[-1][0] if entries else max(after, self.head), missed)

    def newest(self, count: int, size: int) -> list[tuple[Entry, float]]:
        """
        Return the newest updates with their times, in order.

        :param count: how many at most.
        :param size: how many bytes of frames at most.
        """
        rows = self._opened.execute(
            f"SELECT {_COLUMNS} FROM updates WHERE position > ? ORDER BY position DESC LIMIT ?",
            [self.floor, count],
        )
        entries = []
        for row in rows:
            entry, time = _to_entry(row)
            size -= len(entry[1].frame)
            if size < 0:
                break
            entries.append((entry, time))
        return entries[::-1]

    def last_id(self, now: float) -> str | None:
        """
        Return the id of the newest update.
        """
        self._advance_floor(now)
        row = self._opened.execute(
            "SELECT id FROM updates WHERE position > ? ORDER BY position DESC LIMIT 1", [self.floor]
        ).fetchone()
        return None if row is None else str(row[0])

    def probe(self) -> None:
        """
        Take some room, and give it back.

        :raises sqlite3.Error: where there is none.
        """
        connection = self._opened
        with _transaction(connection):
            connection.execute("INSERT INTO visits (number, secret) VALUES (-1, zeroblob(65536))")
            connection.execute("DELETE FROM visits WHERE number = -1")

    def tidy(self, now: float) -> bool:
        """
        Delete some of what is too much or too old.

        :returns: whether there is more of it.
        """
        self._advance_floor(now)
        connection = self._opened
        row = connection.execute("SELECT min(position) FROM updates").fetchone()
        if row[0] is None or row[0] > self.floor:
            return False
        with _transaction(connection):
            self._delete(connection, _STEP)
        return True

    def close(self) -> None:
        """
        Let go of the file.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "the file has not been opened"
        return self._connection

    def _delete(self, connection: sqlite3.Connection, count: int) -> None:
        connection.execute(
            "DELETE FROM updates WHERE position IN "
            "(SELECT position FROM updates WHERE position <= ? ORDER BY position LIMIT ?)",
            [self.floor, count],
        )

    def _advance_floor(self, now: float) -> None:
        """
        Give up what is too much or too old. That it goes from the file is another matter.
        """
        bounds, too_old = self._bounds, now - self._bounds.age
        while self._count:
            if not self._oldest:
                self._oldest.extend(self._read_oldest())
            position, time, size = self._oldest[0]
            if self._count <= bounds.count and self._bytes <= bounds.bytes and time > too_old:
                return
            self._oldest.popleft()
            self.floor = position
            self._count -= 1
            self._bytes -= size

    def _read_oldest(self) -> Sequence[tuple[int, float, int]]:
        return self._opened.execute(
            "SELECT position, time, size FROM updates WHERE position > ? ORDER BY position LIMIT ?",
            [self.floor, _STEP],
        ).fetchall()


# Most of what is published goes to the same few topics again.
@lru_cache(maxsize=1024)
def _to_json(topics: tuple[str, ...]) -> str:
    return json.dumps(topics)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Where the disk is full, SQLite has done so already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _to_entry(row: tuple[int, float, str, int, str, str | None, float | None, str]) -> tuple[Entry, float]:
    position, time, id, private, topics, type, retry, data = row
    event = ServerSentEvent(data, type, id, retry)
    return (position, Update(json.loads(topics), event, private=bool(private))), time

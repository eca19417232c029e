"""
A third-party journal in one module: a file with one line of JSON for each update.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from txsse import IJournal, ServerSentEvent, Update
from txsse.journal.base import check_batch
from txsse.journal.interfaces import IFollower
from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.resume_ids import ResumeIds, new_secret

PAGE = 100


@implementer(IJournal)
class ToyJournal:
    problem: Exception | None = None
    damaged = 0

    def __init__(self, path: Path, *, max_count: int = 10_000) -> None:
        self.head = 0
        self._path = path
        self._max_count = max_count
        self._floor = 0
        self._entries: list[Entry] = []

    def start(self, follower: IFollower) -> Deferred[None]:
        return execute(self._start, follower)

    def append(self, update: Update) -> Deferred[int]:
        return execute(lambda: self._append([update])[0])

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        check_batch(updates)
        return execute(self._append, updates)

    def find(self, id: str) -> Deferred[int | None]:
        found = next((position for position, update in self._entries if update.id == id), None)
        return succeed(self._resume_ids.find(id, self.head) if found is None else found)

    def at(self, position: int) -> Deferred[Update | None]:
        return succeed(next((update for each, update in self._entries if each == position), None))

    def read(self, after: int) -> Deferred[Page]:
        page = [entry for entry in self._entries if entry[0] > after][:PAGE]
        end = page[-1][0] if page else max(after, self.head)
        return succeed(Page(page, end, missed=OLDEST < after < self._floor))

    def resume_id(self, position: int) -> str:
        return self._resume_ids.resume_id(position)

    def stop(self) -> Deferred[None]:
        return execute(self._file.close)

    def _start(self, follower: IFollower) -> None:
        self._follower = follower
        if not self._path.exists():
            self._path.write_bytes(new_secret().hex().encode() + b"\n")
        secret, *lines = self._path.read_bytes().split(b"\n")
        self._resume_ids = ResumeIds(bytes.fromhex(secret.decode()))
        batch: list[Entry] = []
        complete = read = len(secret) + 1
        for line in lines[:-1]:
            entry, more = _from_line(line)
            batch.append(entry)
            read += len(line) + 1
            if not more:
                self._keep(batch)
                batch, complete = [], read
        self._file = self._path.open("ab")
        # A batch is one write. If a crash cut it off, its last line is missing; then the rest is removed.
        self._file.truncate(complete)

    def _append(self, updates: Sequence[Update]) -> list[int]:
        newest = {update.id: (position, update) for position, update in self._entries}
        positions: list[int] = []
        batch: list[Entry] = []
        for update in updates:
            known = newest.get(update.id)
            if known is None or known[1] != update:
                known = newest[update.id] = self.head + len(batch) + 1, update
                batch.append(known)
            positions.append(known[0])
        self._file.write(b"".join(_to_line(each, more=each is not batch[-1]) for each in batch))
        self._file.flush()
        for entry in batch:
            self._keep([entry])
            self._follower.update_appended(entry)
        return positions

    def _keep(self, entries: list[Entry]) -> None:
        self._entries += entries
        self.head = self._entries[-1][0]
        for position, _ in self._entries[: -self._max_count]:
            self._floor = position
        del self._entries[: -self._max_count]


def _to_line(entry: Entry, *, more: bool) -> bytes:
    position, update = entry
    return json.dumps([position, update.topics, update.event, update.private, more]).encode() + b"\n"


def _from_line(line: bytes) -> tuple[Entry, bool]:
    position, topics, event, private, more = json.loads(line)
    return (position, Update(topics, ServerSentEvent(*event), private=private)), more

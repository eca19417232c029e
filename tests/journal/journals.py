"""
Journals of all kinds, to be held against the same contract.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.fakes import FakeReactor
from tests.processes import python, start
from txsse import MemoryJournal, ServerSentEvent, Update
from txsse.journal.page import Entry, Page
from txsse.journal.redis import RedisJournal
from txsse.journal.sqlite import SQLiteJournal
from txsse.testing.journal_contract import JournalFactory


class Follower:
    """
    Notes what it is given: as a follower of a journal, and as a listener of its cluster.
    """

    def __init__(self) -> None:
        self.told: list[Entry] = []
        self.missed: list[int] = []
        self.counts: dict[str, int] = {}
        self.topics: set[str] = set()
        self.messages: list[str] = []

    def update_appended(self, entry: Entry) -> None:
        self.told.append(entry)

    def updates_missed(self, position: int) -> None:
        self.missed.append(position)

    def subscriber_counts(self) -> dict[str, int]:
        return self.counts

    def changed_topics(self) -> set[str]:
        # Any may have, since a test just replaces them; those that are gone too.
        self.topics |= set(self.counts)
        return self.topics

    def message_received(self, message: str) -> Deferred[None] | None:
        self.messages.append(message)
        return None


@dataclass
class Subject:
    """
    A journal with what is needed to test it.

    :ivar journal: the journal, not started.
    :ivar advance: has time go by for the journal.
    :ivar step: sets its time of day, as somebody does with the system's.
    """

    journal: Any
    advance: Callable[[float], None]
    step: Callable[[float], None] = lambda seconds: None

    async def start(self) -> Follower:
        follower = Follower()
        await self.journal.start(follower)
        if isinstance(self.journal, RedisJournal):
            await self.journal.cluster.start(follower)
        return follower

    async def append(self, *ids: str, **options: Any) -> list[int]:
        return [await self.journal.append(update(id, **options)) for id in ids]

    async def find(self, id: str) -> int | None:
        found: int | None = await self.journal.find(id)
        return found

    async def read(self, after: int) -> Page:
        page: Page = await self.journal.read(after)
        return page

    async def check_gap(self, page: Page) -> None:
        """
        Check that a client that was notified of what is missing before a page, and resumes from the id that
        came with that, gets the page, and is not notified again.
        """
        if not page.missed or (not page.entries and page.end < self.journal.head):
            # What follows an empty page is missing, too.
            return
        position = await self.find(self.journal.resume_id(page.begin))
        assert position == page.begin
        again = await self.read(position)
        assert (again.entries[:1], again.missed) == (page.entries[:1], False)

    async def ids_after(self, position: int) -> list[str]:
        """
        Read to the end.
        """
        ids: list[str] = []
        while True:
            page = await self.read(position)
            await self.check_gap(page)
            ids += [update.id for _, update in page.entries]
            position = page.end
            if position >= self.journal.head:
                return ids


class Maker(Protocol):
    """
    Makes a subject with the bounds of a journal.
    """

    def __call__(
        self, *, max_count: int = 1000, max_bytes: int = 10**9, max_age: float | None = None
    ) -> Subject: ...


class ContractFactory(JournalFactory):
    """
    Makes the journals of one kind for the contract.

    :param new: returns a function that makes journals with a record of their own, from bounds.
    """

    bounds = ("max_count", "max_bytes", "max_age")

    def __init__(self, new: Callable[[], Callable[..., Subject]], *, persists: bool) -> None:
        self.persists = persists
        self._new = new
        self._make = new()
        self._made: list[Subject] = []

    def __call__(self, **bounds: Any) -> Any:
        self._made.append(self._make(**bounds))
        return self._made[-1].journal

    def another(self) -> JournalFactory:
        return ContractFactory(self._new, persists=self.persists)

    def advance(self, seconds: float) -> None:
        self._made[-1].advance(seconds)


def memory(*, max_count: int = 1000, max_bytes: int = 10**9, max_age: float | None = None) -> Subject:
    reactor = FakeReactor()
    journal = MemoryJournal(max_count=max_count, max_bytes=max_bytes, max_age=max_age, reactor=reactor)
    return Subject(journal, reactor.advance, reactor.step)


class Later:
    """
    The real reactor, at another time.
    """

    def __init__(self) -> None:
        self.later = 0.0
        self.ahead = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def seconds(self) -> float:
        return float(reactor.seconds()) + self.later

    def wall(self) -> float:
        return time.time() + self.later + self.ahead

    def advance(self, seconds: float) -> None:
        self.later += seconds

    def step(self, seconds: float) -> None:
        self.ahead += seconds


def sqlite(path: Path, **options: Any) -> Subject:
    """
    A journal in a file. It has to be stopped.
    """
    later = Later()
    options.setdefault("max_age", None)
    return Subject(
        SQLiteJournal(path, reactor=later, **options),  # type: ignore[arg-type]
        later.advance,
        later.step,
    )


def redis(url: str, **options: Any) -> Subject:
    """
    A journal in a Redis. It has to be stopped.
    """
    later = Later()
    options.setdefault("max_age", None)
    journal = RedisJournal(url, reactor=later, **options)  # type: ignore[arg-type]
    return Subject(journal, later.advance, later.step)


def silence(subject: Subject) -> None:
    """
    End a node's heartbeat, as if it had died.
    """
    subject.journal.cluster._cancel_heartbeat()
    subject.journal.cluster._reactor = None


def update(id: str, data: str = "x", topics: str = "news", **options: Any) -> Update:
    return Update(topics, ServerSentEvent(data, id=id), **options)


def acknowledged_before_a_kill(*arguments: str) -> list[str]:
    """
    Run a process that publishes, kill it in the middle, and return the ids that were acknowledged.

    :param arguments: those of ``tests.journal.publishing``.
    """
    with start(python("-m", "tests.journal.publishing", *arguments)) as program:
        program.wait_for(r"^\d+$", 500)
        program.kill()
        # The last line may be incomplete.
        acknowledged = [line.strip() for line in program.out.splitlines(keepends=True) if line.endswith("\n")]
        assert program.process.returncode == -signal.SIGKILL
    assert acknowledged == [str(number) for number in range(len(acknowledged))]
    return acknowledged

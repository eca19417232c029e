"""
Journals of all kinds for tests, with a clock that the test advances.
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
    A fake hub, which records its calls: as follower of a journal, and as listener of its cluster.

    :ivar given: the updates that it was given.
    :ivar missed: the positions up to which it was notified of missed updates.
    """

    def __init__(self) -> None:
        self.given: list[Entry] = []
        self.missed: list[int] = []
        self.counts: dict[str, int] = {}
        self.topics: set[str] = set()
        self.messages: list[str] = []
        self.missed_messages = 0

    def update_appended(self, entry: Entry) -> None:
        self.given.append(entry)

    def updates_missed(self, position: int) -> None:
        self.missed.append(position)

    def subscriber_counts(self) -> dict[str, int]:
        return self.counts

    def changed_topics(self) -> set[str]:
        # A test replaces the counts, so any topic may have changed, also a removed one.
        self.topics |= set(self.counts)
        return self.topics

    def messages_missed(self) -> None:
        self.missed_messages += 1

    def message_received(self, message: str) -> Deferred[str | None] | str | None:
        self.messages.append(message)
        return None


@dataclass
class Subject:
    """
    A journal and its clock.

    :ivar journal: the journal, not started.
    :ivar advance: advances the journal's clock, by seconds.
    :ivar now: returns the journal's time of day, in seconds since 1970.
    :ivar step: sets the journal's time of day forward, by seconds, as an operator sets that of the system.
    """

    journal: Any
    advance: Callable[[float], None]
    step: Callable[[float], None] = lambda seconds: None
    now: Callable[[], float] = time.time

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
        Check that a client which was notified of a gap before a page, and resumes from the resume ID in that
        notification, gets the page, and is not notified again.
        """
        if not page.missed or (not page.entries and page.end < self.journal.head):
            # After an empty page, further updates are missing.
            return
        position = await self.find(self.journal.resume_id(page.begin))
        assert position == page.begin
        again = await self.read(position)
        assert (again.entries[:1], again.missed) == (page.entries[:1], False)

    async def ids_after(self, position: int) -> list[str]:
        """
        Read page by page to the head, and return the ids of all updates.
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
    Makes a subject with the limits of a journal.
    """

    def __call__(
        self, *, max_count: int = 1000, max_bytes: int = 10**9, max_age: float | None = None
    ) -> Subject: ...


class ContractFactory(JournalFactory):
    """
    Makes the journals of one kind for the contract.

    :param new: returns a function that makes journals from limits; all of one function share a record.
    """

    bounds = ("max_count", "max_bytes", "max_age", "max_retained", "max_retained_bytes")

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

    def now(self) -> float:
        return self._made[-1].now()


def memory(
    *, max_count: int = 1000, max_bytes: int = 10**9, max_age: float | None = None, **options: Any
) -> Subject:
    reactor = FakeReactor()
    bounds: dict[str, Any] = {"max_count": max_count, "max_bytes": max_bytes, "max_age": max_age}
    journal = MemoryJournal(reactor=reactor, **bounds, **options)
    return Subject(journal, reactor.advance, reactor.step, reactor.wall)


class Later:
    """
    The real reactor, with a clock that can be advanced.
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
    Return a journal in a file. The caller has to stop it.
    """
    later = Later()
    options.setdefault("max_age", None)
    return Subject(
        SQLiteJournal(path, reactor=later, **options),  # type: ignore[arg-type]
        later.advance,
        later.step,
        later.wall,
    )


def redis(url: str, **options: Any) -> Subject:
    """
    Return a journal in Redis. The caller has to stop it.
    """
    later = Later()
    options.setdefault("max_age", None)
    journal = RedisJournal(url, reactor=later, **options)  # type: ignore[arg-type]
    return Subject(journal, later.advance, later.step, later.wall)


def silence(subject: Subject) -> None:
    """
    Stop a node's heartbeats, as if its process had died.
    """
    subject.journal.cluster._cancel_heartbeat()
    subject.journal.cluster._reactor = None


def update(id: str, data: str = "x", topics: str = "news", **options: Any) -> Update:
    return Update(topics, ServerSentEvent(data, id=id), **options)


def acknowledged_before_a_kill(*arguments: str, module: str = "tests.journal.publishing") -> list[str]:
    """
    Run a process that publishes, kill it while it does, and return the acknowledged ids.

    :param arguments: the arguments of the module.
    :param module: the module; ``tests.journal.revoking`` adds revocations, and prints their values.
    """
    with start(python("-m", module, *arguments)) as program:
        program.wait_for(r"^\d+$", 500)
        program.kill()
        # The last line may be incomplete.
        acknowledged = [line.strip() for line in program.out.splitlines(keepends=True) if line.endswith("\n")]
        assert program.process.returncode == -signal.SIGKILL
    assert acknowledged == [str(number) for number in range(len(acknowledged))]
    return acknowledged

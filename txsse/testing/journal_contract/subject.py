"""
The journal that a check is about, and what the checks need of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import wraps
from typing import Any
from unittest import SkipTest

from twisted.internet.interfaces import IDelayedCall

from txsse._reactor import global_reactor
from txsse.journal.interfaces import AnyJournal
from txsse.journal.page import Entry, Page
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = ["CHECKS", "Follower", "JournalFactory", "Subject", "check", "equal", "expect", "make_update"]


class JournalFactory:
    """
    Makes journals for one check: a subclass says how.

    :cvar persists: whether a journal that is made after another one was stopped goes on with its record.
    :cvar bounds: which of the options ``max_count``, ``max_bytes`` and ``max_age`` its journals have.
    """

    persists: bool = False
    bounds: Collection[str] = ()

    def __call__(self, **bounds: Any) -> AnyJournal:
        """
        Make a journal, not started. The first one of a factory has an empty record; those after it have the
        same record, if it persists. A check stops one before it starts the next.

        :param bounds: of those that the factory names; as many as the check is about. The others are to be so
            wide that a few thousand small updates are held.
        """
        raise NotImplementedError

    def another(self) -> JournalFactory:
        """
        Return a factory of another record.
        """
        raise SkipTest("the factory makes no other record")

    def advance(self, seconds: float) -> None:
        """
        Have time pass for the journals; needed for ``max_age``.
        """
        raise NotImplementedError


class Follower:
    """
    Records what it is given.

    :ivar entries: the updates, with their positions.
    :ivar turns: how many of them were given in each turn of the reactor.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.turns: list[int] = []
        self.missed: list[int] = []
        self._call: IDelayedCall | None = None
        self.appended: Callable[[Entry], None] = lambda entry: None

    @property
    def ids(self) -> list[str]:
        return [update.id for _, update in self.entries]

    def update_appended(self, entry: Entry) -> None:
        if self._call is None or not self._call.active():
            self.turns.append(0)
            self._call = global_reactor().callLater(0, int)
        self.turns[-1] += 1
        self.entries.append(entry)
        self.appended(entry)

    def updates_missed(self, position: int) -> None:
        self.missed.append(position)

    def end(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()


class Subject:
    """
    The journal that a check is about.
    """

    def __init__(self, factory: JournalFactory) -> None:
        self.factory = factory
        self.journal: Any = None
        self.follower = Follower()

    async def start(self, **bounds: float) -> Follower:
        """
        Start a journal with some bounds; the one before it is stopped.
        """
        for name in bounds:
            if name not in self.factory.bounds:
                raise SkipTest(f"the journal has no {name}")
        await self.stop()
        self.journal = self.factory(**bounds)
        self.follower = Follower()
        await self.journal.start(self.follower)
        return self.follower

    async def restart(self) -> Follower:
        """
        Start another journal with the same record.
        """
        if not self.factory.persists:
            raise SkipTest("the journal does not persist")
        return await self.start()

    async def stop(self) -> None:
        journal, self.journal = self.journal, None
        self.follower.end()
        if journal is not None:
            await journal.stop()

    async def append(self, *ids: str, **options: Any) -> list[int]:
        return [await self.journal.append(make_update(id, **options)) for id in ids]

    async def find(self, id: str) -> int | None:
        found: int | None = await self.journal.find(id)
        return found

    async def read(self, after: int) -> Page:
        page: Page = await self.journal.read(after)
        return page

    async def ids_after(self, position: int) -> list[str]:
        """
        Read page by page to the end.
        """
        ids: list[str] = []
        while True:
            page = await self.read(position)
            positions = [position for position, _ in page.entries]
            expect(
                positions == sorted(set(positions)) and all(each > position for each in positions),
                "a page has updates after a position, in order",
            )
            expect(not positions or page.end >= positions[-1], "a page ends at its last update, or later")
            ids += [update.id for _, update in page.entries]
            if page.end >= self.journal.head:
                return ids
            expect(page.end > position, "each page ends after the one before it")
            position = page.end


Check = Callable[[JournalFactory], Awaitable[None]]

#: The checks: coroutine functions that take a :class:`JournalFactory`.
CHECKS: list[Check] = []


def check(check: Callable[[Subject], Awaitable[None]]) -> Check:
    """
    Register a check. It is given a subject, whose journal is stopped at its end.
    """

    @wraps(check)
    async def run(make: JournalFactory) -> None:
        subject = Subject(make)
        try:
            await check(subject)
        finally:
            await subject.stop()

    CHECKS.append(run)
    return run


def make_update(id: str, data: str = "x", topics: str | Sequence[str] = "news", **options: Any) -> Update:
    """
    Make an update.
    """
    return Update(topics, ServerSentEvent(data, id=id), **options)


def expect(holds: object, sentence: str) -> None:
    """
    Raise unless a sentence of the contract holds.
    """
    # Not ``assert``: it has no message without the help of a runner, and may be switched off.
    if not holds:
        raise AssertionError(sentence)


def equal(found: object, expected: object, sentence: str) -> None:
    """
    Raise unless what was found is what a sentence of the contract says.
    """
    expect(found == expected, f"{sentence}: expected {expected!r}, found {found!r}")

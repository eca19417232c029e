"""
The journal under test, its follower, and the functions that the contract checks use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import wraps
from typing import TypedDict, Unpack
from unittest import SkipTest

from twisted.internet.interfaces import IDelayedCall

from txsse._clock import wall
from txsse._reactor import global_reactor
from txsse.journal.interfaces import AnyJournal
from txsse.journal.page import Entry, Page
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = ["CHECKS", "Follower", "JournalFactory", "Subject", "check", "equal", "expect", "make_update"]


class UpdateOptions(TypedDict, total=False):
    """
    The options of :func:`make_update`.
    """

    data: str
    topics: str | Sequence[str]
    private: bool


class JournalFactory:
    """
    A factory of journals for one check; subclasses make the journal under test.

    :cvar persists: whether a journal that is made after another one was stopped has the same record.
    :cvar bounds: which of the options ``max_count``, ``max_bytes``, ``max_age``, ``max_retained`` and
        ``max_retained_bytes`` the journals have.
    """

    persists: bool = False
    bounds: Collection[str] = ()

    def __call__(self, **bounds: int) -> AnyJournal:
        """
        Make a journal that is not started.

        The first journal of a factory has an empty record; later ones have the same record if it persists. A
        check stops one journal before it starts the next.

        :param bounds: the bounds that the check needs, of those named in ``bounds``. The factory chooses the
            others, large enough to hold a few thousand small updates.
        """
        raise NotImplementedError

    def another(self) -> JournalFactory:
        """
        Return a factory of journals with another record.
        """
        raise SkipTest("the factory makes no other record")

    def advance(self, seconds: float) -> None:
        """
        Let time pass for the journals; needed for ``max_age``, ``revocations`` and ``retained``.

        :param seconds: how much time passes.
        """
        raise NotImplementedError

    def now(self) -> float:
        """
        Return the time of day of the journals, in seconds since 1970; by default that of the reactor.
        """
        return wall(global_reactor())


class Follower:
    """
    A follower that records its calls.

    :ivar entries: the updates, with their positions.
    :ivar turns: the number of updates given in each turn of the reactor.
    :ivar missed: the arguments of ``updates_missed``.
    :ivar appended: called with each entry after it is recorded.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.turns: list[int] = []
        self.missed: list[int] = []
        self._call: IDelayedCall | None = None
        self.appended: Callable[[Entry], None] = lambda entry: None

    @property
    def ids(self) -> list[str]:
        """
        The ids of the updates.
        """
        return [update.id for _, update in self.entries]

    def update_appended(self, entry: Entry) -> None:
        """
        Record an update, count it for the current turn, and call ``appended``.
        """
        if self._call is None or not self._call.active():
            self.turns.append(0)
            self._call = global_reactor().callLater(0, int)
        self.turns[-1] += 1
        self.entries.append(entry)
        self.appended(entry)

    def updates_missed(self, position: int) -> None:
        """
        Record the position.
        """
        self.missed.append(position)

    def end(self) -> None:
        """
        Stop the counting of turns.
        """
        if self._call is not None and self._call.active():
            self._call.cancel()


class Subject:
    """
    The journal under test, with its factory and follower.
    """

    def __init__(self, factory: JournalFactory) -> None:
        self.factory = factory
        self._journal: AnyJournal | None = None
        self.follower = Follower()

    @property
    def journal(self) -> AnyJournal:
        """
        The journal that was started last.
        """
        assert self._journal is not None, "call start() first"
        return self._journal

    async def start(self, **bounds: int) -> Follower:
        """
        Stop the previous journal, if any, and start a new one with the given bounds.
        """
        for name in bounds:
            if name not in self.factory.bounds:
                raise SkipTest(f"the journal has no {name}")
        await self.stop()
        self._journal = self.factory(**bounds)
        self.follower = Follower()
        await self.journal.start(self.follower)
        return self.follower

    async def restart(self) -> Follower:
        """
        Stop the journal, and start another one with the same record.
        """
        if not self.factory.persists:
            raise SkipTest("the journal does not persist")
        return await self.start()

    async def stop(self) -> None:
        """
        Stop the journal and its follower, if any.
        """
        journal = self.forget()
        self.follower.end()
        if journal is not None:
            await journal.stop()

    def forget(self) -> AnyJournal | None:
        """
        Return the journal; it is not stopped when the check ends.
        """
        journal, self._journal = self._journal, None
        return journal

    async def append(self, *ids: str, **options: Unpack[UpdateOptions]) -> list[int]:
        """
        Append an update for each id, one after the other, and return their positions.
        """
        return [await self.journal.append(make_update(id, **options)) for id in ids]

    async def find(self, id: str) -> int | None:
        """
        Find the position of an id.
        """
        return await self.journal.find(id)

    async def read(self, after: int) -> Page:
        """
        Read a page after a position.
        """
        return await self.journal.read(after)

    async def ids_after(self, position: int) -> list[str]:
        """
        Read all pages after a position, check that they are consistent, and return the updates' ids.
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
    Register a check: a coroutine function of a subject. The subject's journal is stopped after the check.
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


def make_update(
    id: str, data: str = "x", topics: str | Sequence[str] = "news", *, private: bool = False
) -> Update:
    """
    Make an update with an id.
    """
    return Update(topics, ServerSentEvent(data, id=id), private=private)


def expect(holds: object, sentence: str) -> None:
    """
    Raise :exc:`AssertionError` with a sentence of the contract unless it holds.
    """
    # Not ``assert``: it has no message unless a test runner rewrites it, and ``python -O`` removes it.
    if not holds:
        raise AssertionError(sentence)


def equal(found: object, expected: object, sentence: str) -> None:
    """
    Raise :exc:`AssertionError` with a sentence of the contract unless two values are equal.
    """
    expect(found == expected, f"{sentence}: expected {expected!r}, found {found!r}")

"""
The contract suite for journals: a third-party journal passes it, and each mutant that breaks one sentence
fails it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater

from tests.fakes import Wire
from tests.hub.fakes import World, result_of
from tests.journal.journals import update
from tests.trials.toy_journal import ToyJournal
from txsse import BatchTooLarge, Update
from txsse.journal.interfaces import IFollower
from txsse.journal.page import Page
from txsse.journal.position import OLDEST
from txsse.journal.resume_ids import ResumeIds, new_secret
from txsse.testing.journal_contract import CHECKS, JournalFactory
from txsse.testing.journal_contract.subject import Check


class ToyFactory(JournalFactory):
    persists = True
    bounds = ("max_count",)

    def __init__(self, path: Path, kind: Callable[..., ToyJournal] = ToyJournal) -> None:
        self._path = path
        self._kind = kind

    def __call__(self, **bounds: Any) -> ToyJournal:
        return self._kind(self._path, **bounds)

    def another(self) -> JournalFactory:
        return ToyFactory(self._path.with_suffix(".another"), self._kind)


class ToyTests:
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest_twisted.ensureDeferred
    async def test_contract(self, tmp_path: Path, check: Check) -> None:
        """
        A third-party journal passes each check of the contract, or the check does not apply to it.
        """
        try:
            await check(ToyFactory(tmp_path / "toy"))
        except SkipTest as skipped:
            assert str(skipped) in (
                "the journal has no max_bytes",
                "the journal has no max_age",
                "the journal has no revocations",
                "the journal retains no updates",
                "the journal has no max_retained",
            )

    def test_hub(self, plain: Wire, tmp_path: Path) -> None:
        """
        A hub works with a third-party journal, and a second hub resumes from the same file.
        """
        world = World(plain, journal=ToyJournal(tmp_path / "toy"))
        live = world.join()
        first, _ = world.publish("a", "b")
        assert live.texts == ["a", "b"]
        id = result_of(world.hub.resume_id())
        world.end()
        world = World(plain, journal=ToyJournal(tmp_path / "toy"))
        world.publish("c")
        assert world.join(last_event_id=first).texts == ["b", "c"]
        assert world.join(last_event_id=id).texts == ["c"]
        world.end()

    def test_batch_that_a_crash_cut_off(self, tmp_path: Path) -> None:
        """
        If a crash cuts a batch off, the toy journal keeps no update of it.
        """
        path = tmp_path / "toy"
        updates = [update(id) for id in ("1", "2", "3")]
        journal = ToyJournal(path)
        result_of(journal.start(NoFollower()))
        result_of(journal.append(updates[0]))
        result_of(journal.append_many(updates[1:]))
        whole = path.read_bytes()
        for lost in range(1, len(whole.split(b"\n")[-2]) + 2):
            path.write_bytes(whole[:-lost])
            journal = ToyJournal(path)
            result_of(journal.start(NoFollower()))
            assert journal.head == 1
            result_of(journal.append_many(updates[1:]))
            assert path.read_bytes() == whole


class NoFollower:
    def update_appended(self, entry: object) -> None: ...

    def updates_missed(self, position: int) -> None: ...


class NoOrder(ToyJournal):
    """
    The follower is given the newest update first.
    """

    def _append(self, updates: Sequence[Update]) -> list[int]:
        follower, given = self._follower, []

        class Collecting(NoFollower):
            def update_appended(self, entry: Any) -> None:
                given.append(entry)

        self._follower = Collecting()
        try:
            return super()._append(updates)
        finally:
            self._follower = follower
            for entry in reversed(given):
                follower.update_appended(entry)


class Twice(ToyJournal):
    """
    The follower is given each update twice.
    """

    def start(self, follower: IFollower) -> Deferred[None]:
        class Doubling(NoFollower):
            def update_appended(self, entry: Any) -> None:
                follower.update_appended(entry)
                follower.update_appended(entry)

        return super().start(Doubling())


class LatestId(ToyJournal):
    """
    ``find`` returns the newest update with an id, not the earliest.
    """

    def find(self, id: str) -> Deferred[int | None]:
        newest = [position for position, update in self._entries if update.id == id]
        return succeed(newest[-1]) if newest else super().find(id)


class ForgottenIds(ToyJournal):
    """
    An equal update is recorded again.
    """

    def append(self, update: Update) -> Deferred[int]:
        entries, self._entries = self._entries, []
        try:
            return super().append(update)
        finally:
            self._entries = entries + self._entries


class IdsAlone(ToyJournal):
    """
    Updates are compared by id only: a different update with a known id is not recorded.
    """

    def append(self, update: Update) -> Deferred[int]:
        known = [position for position, each in self._entries if each.id == update.id]
        return succeed(known[-1]) if known else super().append(update)


class NoBatches(ToyJournal):
    """
    The updates of a batch are appended one by one, each in a turn of its own.
    """

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        async def append_each() -> list[int]:
            positions = []
            for each in updates:
                positions.append(await self.append(each))
                await deferLater(reactor, 0)
            return positions

        return Deferred.fromCoroutine(append_each())


class BatchesInTurns(ToyJournal):
    """
    A batch is recorded in two parts, in two turns of the reactor.
    """

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        middle = len(updates) // 2
        first = super().append_many(updates[:middle])

        async def rest() -> list[int]:
            positions = await first
            await deferLater(reactor, 0)
            return positions + await ToyJournal.append_many(self, updates[middle:])

        return Deferred.fromCoroutine(rest())


class NoLimit(ToyJournal):
    """
    A batch may have any size.
    """

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        return succeed(self._append(updates))


class PartOfALargeBatch(ToyJournal):
    """
    The beginning of a batch is recorded, although it is too large.
    """

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        try:
            return super().append_many(updates)
        except BatchTooLarge as error:
            self._append(updates[:1])
            return fail(error)


class Unbounded(ToyJournal):
    """
    Nothing is dropped.
    """

    def __init__(self, path: Path, *, max_count: int = 0) -> None:
        super().__init__(path)


class NothingMissed(ToyJournal):
    """
    A gap is not reported.
    """

    def read(self, after: int) -> Deferred[Page]:
        return super().read(after).addCallback(lambda page: Page(page.entries, page.end, False))


class OldestMissed(ToyJournal):
    """
    A gap is reported to a reader that reads from the oldest update.
    """

    def read(self, after: int) -> Deferred[Page]:
        return super().read(max(after, 0) if self._floor else after)


class PageIncluded(ToyJournal):
    """
    A page includes the update at the position that it is to begin after.
    """

    def read(self, after: int) -> Deferred[Page]:
        return super().read(after - 1 if after > OLDEST + 1 else after)


class WholeRecord(ToyJournal):
    """
    A page has all updates that are held, and no limit.
    """

    def read(self, after: int) -> Deferred[Page]:
        page = [entry for entry in self._entries if entry[0] > after]
        end = page[-1][0] if page else max(after, self.head)
        return succeed(Page(page, end, missed=OLDEST < after < self._floor))


class PlainResumeIds(ToyJournal):
    """
    A resume ID discloses how many updates there are.
    """

    def resume_id(self, position: int) -> str:
        return f"#{position}"

    def find(self, id: str) -> Deferred[int | None]:
        return succeed(int(id[1:])) if re.fullmatch("#[0-9]+", id) else super().find(id)


class LostResumeIds(ToyJournal):
    """
    A resume ID is valid in one process only.
    """

    def start(self, follower: IFollower) -> Deferred[None]:
        started = super().start(follower)
        self._resume_ids = ResumeIds(new_secret())
        return started


class Forgetful(ToyJournal):
    """
    The record does not persist.
    """

    def _keep(self, entries: Any) -> None:
        if hasattr(self, "_file"):
            super()._keep(entries)


class Replaying(ToyJournal):
    """
    The follower is given updates that were recorded before the start.
    """

    def start(self, follower: IFollower) -> Deferred[None]:
        started = super().start(follower)
        for entry in self._entries:
            follower.update_appended(entry)
        return started


class Dropping(ToyJournal):
    """
    Privacy is not recorded.
    """

    def _append(self, updates: Sequence[Update]) -> list[int]:
        return super()._append([Update(each.topics, each.event) for each in updates])


class Late(ToyJournal):
    """
    ``stop`` does not wait for appended updates.
    """

    def append(self, update: Update) -> Deferred[int]:
        return deferLater(reactor, 0, lambda: 0 if self._file.closed else self._append([update])[0])


MUTANTS = [
    NoOrder,
    Twice,
    LatestId,
    ForgottenIds,
    IdsAlone,
    NoBatches,
    BatchesInTurns,
    NoLimit,
    PartOfALargeBatch,
    Unbounded,
    NothingMissed,
    OldestMissed,
    PageIncluded,
    WholeRecord,
    PlainResumeIds,
    LostResumeIds,
    Forgetful,
    Replaying,
    Dropping,
    Late,
]


class MutantTests:
    @pytest.mark.slow
    @pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
    @pytest_twisted.ensureDeferred
    async def test_caught(self, tmp_path: Path, mutant: type[ToyJournal]) -> None:
        """
        A journal that breaks one sentence of the contract fails at least one check.
        """
        failed = []
        for check in CHECKS:
            path = tmp_path / getattr(check, "__name__", "")
            try:
                await check(ToyFactory(path, mutant))
            except SkipTest:
                continue
            except Exception as error:
                failed.append(error)
        assert failed
        assert any(isinstance(error, AssertionError) for error in failed)

    @pytest_twisted.ensureDeferred
    async def test_skipped(self, tmp_path: Path) -> None:
        """
        Checks that need an option which the factory does not name are skipped.
        """

        class Plain(JournalFactory):
            def __call__(self, **bounds: Any) -> ToyJournal:
                return ToyJournal(tmp_path / str(len(list(tmp_path.iterdir()))))

        skipped: dict[str, str] = {}
        for check in CHECKS:
            awaited: Awaitable[None] = check(Plain())
            try:
                await awaited
            except SkipTest as reason:
                skipped[str(reason)] = getattr(check, "__name__", "")
        assert set(skipped) == {
            "the journal has no max_count",
            "the journal has no max_retained",
            "the journal retains no updates",
            "the journal has no max_bytes",
            "the journal has no max_age",
            "the journal has no revocations",
            "the journal does not persist",
            "the factory makes no other record",
        }
        with pytest.raises(NotImplementedError):
            JournalFactory()()
        with pytest.raises(NotImplementedError):
            JournalFactory().advance(1.0)

"""
The contract checks for retained updates: a third-party journal passes them, and each mutant that breaks one
sentence fails one.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import walk_tb
from typing import Any
from unittest import SkipTest

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.hub.fakes import result_of
from tests.trials.toy_journal import ToyJournal
from txsse import NotRetained, RetainedFull, Update
from txsse.journal.interfaces import IFollower, IRetainingJournal
from txsse.journal.page import Entry
from txsse.journal.retained import IRetained, Retained, RetainedPage
from txsse.testing.journal_contract import CHECKS, JournalFactory, retained_bounds, retaining
from txsse.testing.journal_contract.subject import Check

MODULES = [retaining, retained_bounds]
RETAINING = [check for check in CHECKS if check.__module__ in [module.__name__ for module in MODULES]]

Name = tuple[str, str]


@implementer(IRetained)
class ToyRetained:
    """
    A dict of the retained updates, by topic and key.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[Name, Retained] = {}
        self.changed_at = 0

    def is_live(self, row: Retained) -> bool:
        return row.expires > self.clock.seconds()

    def live(self) -> dict[Name, Retained]:
        return {name: row for name, row in self.rows.items() if self.is_live(row)}

    @property
    def count(self) -> int:
        return len(self.live())

    @property
    def size(self) -> int:
        return sum(self.size_of(topic, row) for (topic, _), row in self.live().items())

    @property
    def is_empty(self) -> bool:
        return not self.live()

    def size_of(self, topic: str, row: Retained) -> int:
        return len(topic) + len(row.key) + len(row.frame) + 100

    def topics(self) -> Collection[str]:
        return {topic for topic, _ in self.live()}

    def find(self, topic: str, key: str) -> Retained | None:
        row = self.live().get((topic, key))
        return None if row is None else self.under_its_topics(row)

    def under_its_topics(self, row: Retained) -> Retained:
        return replace(
            row, topics=tuple(each for each in row.topics if self.rows.get((each, row.key)) == row)
        )

    def owned(self, owner: str) -> int:
        return sum(row.owner == owner for row in self.live().values())

    def is_wanted(self, topic: str, topics: Collection[str] | None) -> bool:
        return topics is None or topic in topics

    def is_between(self, position: int, after: int, up_to: int) -> bool:
        return after < position <= up_to

    def read(self, topics: Collection[str] | None, after: int, up_to: int) -> Deferred[RetainedPage]:
        found = {
            row.position: self.under_its_topics(row)
            for (topic, _), row in self.live().items()
            if self.is_wanted(topic, topics) and self.is_between(row.position, after, up_to)
        }
        return succeed(self.to_page(sorted(found.items()), up_to))

    def to_page(self, found: list[tuple[int, Retained]], up_to: int) -> RetainedPage:
        page = found[:100]
        return RetainedPage(page, up_to if len(page) == len(found) else page[-1][0])

    def to_row(self, position: int, update: Update) -> Retained:
        retention = update.retention
        assert retention is not None
        seconds = inf if retention.seconds is None else retention.seconds
        return Retained(
            position,
            update.topics,
            update.private,
            retention.key,
            retention.owner,
            self.clock.seconds() + seconds,
            update.frame_without_id,
        )

    def apply(self, position: int, update: Update) -> None:
        if update.retention is not None:
            self.changed_at = position
            for topic in update.topics:
                if update.unretains:
                    self.remove(topic, update.retention.key)
                else:
                    self.keep((topic, update.retention.key), self.to_row(position, update))

    def keep(self, name: Name, row: Retained) -> None:
        self.rows[name] = row

    def remove(self, topic: str, key: str) -> None:
        self.rows.pop((topic, key), None)

    def save(self) -> tuple[dict[Name, Retained], int]:
        return self.rows, self.changed_at

    def load(self, saved: tuple[dict[Name, Retained], int]) -> None:
        self.rows, self.changed_at = saved


@implementer(IRetainingJournal)
class ToyRetaining(ToyJournal):
    """
    The toy journal, with retained updates in a second file.
    """

    kind: type[ToyRetained] = ToyRetained

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        max_count: int = 10_000,
        max_retained: int = 10_000,
        max_retained_bytes: int = 10**9,
    ) -> None:
        super().__init__(path, max_count=max_count)
        self.max_retained = max_retained
        self.max_retained_bytes = max_retained_bytes
        self.retained = self.kind(clock)
        self.saved = path.with_suffix(".retained")

    def start(self, follower: IFollower) -> Deferred[None]:
        return super().start(follower).addCallback(lambda _: self.load())

    def load(self) -> None:
        if self.saved.exists():
            self._entries, self.head, saved = pickle.loads(self.saved.read_bytes())
            self.retained.load(saved)

    def stop(self) -> Deferred[None]:
        saved = self._entries, self.head, self.retained.save()
        self.saved.write_bytes(pickle.dumps(saved))
        return super().stop()

    def _append(self, updates: Sequence[Update]) -> list[int]:
        positions, new = self.plan(updates)
        refused = self.refusal(new)
        if refused is not None:
            return self.refuse(refused, new)
        self.record(new)
        return positions

    def plan(self, updates: Sequence[Update]) -> tuple[list[int], list[Entry]]:
        """
        Return the positions of updates, and those that are no repetitions.
        """
        newest = {update.id: (position, update) for position, update in self._entries}
        positions: list[int] = []
        new: list[Entry] = []
        for update in updates:
            known = newest.get(update.id)
            if known is None or known[1] != update:
                known = newest[update.id] = self.head + len(new) + 1, update
                new.append(known)
            positions.append(known[0])
        return positions, new

    def refusal(self, new: list[Entry]) -> Exception | None:
        before = dict(self.retained.rows), self.retained.changed_at
        try:
            for position, update in new:
                refused = None if update.retention is None else self.refusal_of(position, update)
                if refused is not None:
                    return refused
                self.retained.apply(position, update)
            return None
        finally:
            self.retained.rows, self.retained.changed_at = before

    def refusal_of(self, position: int, update: Update) -> Exception | None:
        retained = self.retained
        assert update.retention is not None
        live = self.counted()
        held = [(topic, update.retention.key) for topic in update.topics]
        held = [name for name in held if name in live]
        if update.unretains:
            return None if held else NotRetained(update.topics, update.retention.key)
        row = retained.to_row(position, update)
        count = len(live) + len(update.topics) - len(held)
        size = sum(retained.size_of(topic, each) for (topic, _), each in live.items())
        more = sum(retained.size_of(topic, row) for topic in update.topics)
        more -= sum(retained.size_of(name[0], live[name]) for name in held)
        too_many = len(held) < len(update.topics) and count > self.max_retained
        if too_many or (self.needs_room(more, held) and size + more > self.max_retained_bytes):
            return RetainedFull(self.max_retained, self.max_retained_bytes)
        return None

    def counted(self) -> dict[Name, Retained]:
        return self.retained.live()

    def needs_room(self, more: int, held: list[Name]) -> bool:
        return more > 0

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        raise refused

    def record(self, new: list[Entry]) -> None:
        for position, update in new:
            self.retained.apply(position, update)
            self.give(position, update)

    def give(self, position: int, update: Update) -> None:
        self._keep([(position, update)])
        self._follower.update_appended((position, update))


class Factory(JournalFactory):
    persists = True
    bounds = ("max_count", "max_retained", "max_retained_bytes")

    def __init__(self, path: Path, kind: Callable[..., ToyJournal]) -> None:
        self.path = path
        self.kind = kind
        self.clock = Clock()

    def __call__(self, **bounds: Any) -> ToyJournal:
        return self.kind(self.path / "journal", self.clock, **bounds)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


MUTANTS: dict[str, type[ToyRetaining]] = {}


def mutant(kind: type) -> type:
    """
    Register a mutant: of the journal, or of its retained updates.
    """
    if issubclass(kind, ToyRetaining):
        MUTANTS[kind.__name__] = kind
    else:
        MUTANTS[kind.__name__] = type(kind.__name__, (ToyRetaining,), {"kind": kind})
    return kind


@mutant
class NeverEmpty(ToyRetained):
    """
    It never says that it is empty.
    """

    is_empty = False


@mutant
class AlwaysEmpty(ToyRetained):
    """
    It always says that it is empty.
    """

    is_empty = True


@mutant
class CountsItself(ToyRetained):
    """
    The size has an overhead even if nothing is retained.
    """

    @property
    def size(self) -> int:
        return super().size + 1


@mutant
class WithId(ToyRetained):
    """
    The frame has the ID.
    """

    def to_row(self, position: int, update: Update) -> Retained:
        return replace(super().to_row(position, update), frame=update.frame)


@mutant
class Public(ToyRetained):
    """
    Private updates become public.
    """

    def to_row(self, position: int, update: Update) -> Retained:
        return replace(super().to_row(position, update), private=False)


@mutant
class WithoutData(ToyRetained):
    """
    Empty data is no data.
    """

    def to_row(self, position: int, update: Update) -> Retained:
        row = super().to_row(position, update)
        return replace(row, frame=row.frame.replace(b"data: \n\n", b"\n"))


@mutant
class FindsNothing(ToyRetained):
    """
    No update is found.
    """

    def find(self, topic: str, key: str) -> Retained | None:
        return None


@mutant
class FindsKeys(ToyRetained):
    """
    An update is found by its key alone.
    """

    def find(self, topic: str, key: str) -> Retained | None:
        rows = [row for (_, each), row in self.live().items() if each == key]
        return self.under_its_topics(rows[0]) if rows else None


@mutant
class CountsUpdates(ToyRetained):
    """
    An update under two topics is one.
    """

    @property
    def count(self) -> int:
        return len({row.position for row in self.live().values()})


@mutant
class FirstTopics(ToyRetained):
    """
    Only the first topics count.
    """

    def topics(self) -> Collection[str]:
        return {row.topics[0] for row in self.live().values()}


@mutant
class OwnedUpdates(ToyRetained):
    """
    An update under two topics counts once for its owner.
    """

    def owned(self, owner: str) -> int:
        return len({row.position for row in self.live().values() if row.owner == owner})


@mutant
class EveryOwner(ToyRetained):
    """
    Updates without an owner count for all.
    """

    def owned(self, owner: str) -> int:
        return sum(row.owner in (owner, None) for row in self.live().values())


@mutant
class OwnedForEver(ToyRetained):
    """
    An owner's updates are counted when they are published.
    """

    def keep(self, name: Name, row: Retained) -> None:
        super().keep(name, row)
        self.owners = [*getattr(self, "owners", []), row.owner]

    def owned(self, owner: str) -> int:
        return getattr(self, "owners", []).count(owner)


@mutant
class OwnedExpired(ToyRetained):
    """
    Expired updates count for their owner.
    """

    def owned(self, owner: str) -> int:
        return sum(row.owner == owner for row in self.rows.values())


@mutant
class OwnersInMemory(ToyRetained):
    """
    The owners are not recorded in their index.
    """

    def load(self, saved: tuple[dict[Name, Retained], int]) -> None:
        super().load(saved)
        self.restarted = True

    def owned(self, owner: str) -> int:
        return 0 if hasattr(self, "restarted") else super().owned(owner)


@mutant
class WithoutRetention(ToyRetaining):
    """
    The record does not have the retention of private updates.
    """

    def give(self, position: int, update: Update) -> None:
        super().give(
            position, Update(update.topics, update.event, private=True) if update.private else update
        )


@mutant
class ChangedByAll(ToyRetained):
    """
    Every update is a change.
    """

    def apply(self, position: int, update: Update) -> None:
        super().apply(position, update)
        self.changed_at = position


@mutant
class ChangedByRetaining(ToyRetained):
    """
    A removal is no change.
    """

    def apply(self, position: int, update: Update) -> None:
        before = self.changed_at
        super().apply(position, update)
        if update.unretains:
            self.changed_at = before


@mutant
class OldestStays(ToyRetained):
    """
    The oldest update of a key is retained.
    """

    def keep(self, name: Name, row: Retained) -> None:
        self.rows.setdefault(name, row)


@mutant
class OneTopic(ToyRetained):
    """
    A key is retained under one topic.
    """

    def keep(self, name: Name, row: Retained) -> None:
        self.rows = {each: known for each, known in self.rows.items() if each[1] != name[1] or known is row}
        super().keep(name, row)


@mutant
class AllTopics(ToyRetained):
    """
    A retained update keeps all of its topics.
    """

    def under_its_topics(self, row: Retained) -> Retained:
        return row


@mutant
class SizeOfAll(ToyRetained):
    """
    Replaced updates still count for the size.
    """

    def keep(self, name: Name, row: Retained) -> None:
        super().keep(name, row)
        self.extra = getattr(self, "extra", 0) + len(row.frame)

    @property
    def size(self) -> int:
        return super().size + getattr(self, "extra", 0)


@mutant
class RemovesEverywhere(ToyRetained):
    """
    A key is removed under all topics.
    """

    def remove(self, topic: str, key: str) -> None:
        self.rows = {name: row for name, row in self.rows.items() if name[1] != key}


@mutant
class RemovesUnderOne(ToyRetained):
    """
    A key is removed under one topic only.
    """

    def apply(self, position: int, update: Update) -> None:
        if update.unretains:
            update = Update(update.topics[:1], update.event, retention=update.retention)
        super().apply(position, update)


@mutant
class Tombstones(ToyRetained):
    """
    A removed update leaves something.
    """

    def remove(self, topic: str, key: str) -> None:
        super().remove(topic, key)
        self.gone = True

    @property
    def is_empty(self) -> bool:
        return super().is_empty and not hasattr(self, "gone")


@mutant
class SilentRemoval(ToyRetaining):
    """
    The follower is not given removals.
    """

    def give(self, position: int, update: Update) -> None:
        if update.unretains:
            self._keep([(position, update)])
        else:
            super().give(position, update)


@mutant
class RemovalAgain(ToyRetaining):
    """
    A repeated removal is recorded again.
    """

    def plan(self, updates: Sequence[Update]) -> tuple[list[int], list[Entry]]:
        entries = [(self.head + index + 1, update) for index, update in enumerate(updates)]
        return [position for position, _ in entries], entries

    def refusal_of(self, position: int, update: Update) -> Exception | None:
        known = update.unretains and any(each.id == update.id for _, each in self._entries)
        return None if known else super().refusal_of(position, update)


@mutant
class LenientRemoval(ToyRetaining):
    """
    A removal needs no retained update.
    """

    def refusal_of(self, position: int, update: Update) -> Exception | None:
        return None if update.unretains else super().refusal_of(position, update)


@mutant
class StrictRemoval(ToyRetaining):
    """
    A removal needs a retained update under each topic.
    """

    def refusal_of(self, position: int, update: Update) -> Exception | None:
        live, key = self.retained.live(), update.retention.key if update.retention else ""
        if update.unretains and any((topic, key) not in live for topic in update.topics):
            return NotRetained(update.topics, key)
        return super().refusal_of(position, update)


@mutant
class RefusedIsRecorded(ToyRetaining):
    """
    A refused update is recorded.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        for position, update in new:
            self.give(position, update)
        raise refused


@mutant
class RefusedRemovalIsRecorded(ToyRetaining):
    """
    A refused removal is recorded.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        if isinstance(refused, NotRetained):
            for position, update in new:
                self.give(position, update)
        raise refused


@mutant
class RefusedTakesPosition(ToyRetaining):
    """
    A refused update takes a position.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        self.head += len(new)
        raise refused


@mutant
class RefusedIsFound(ToyRetaining):
    """
    A refused update is found by its ID.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        self._entries += new
        raise refused


@mutant
class RefusedIsRetained(ToyRetaining):
    """
    A refused update is retained.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        for position, update in new:
            self.retained.apply(position, update)
        raise refused


@mutant
class RefusedIsGiven(ToyRetaining):
    """
    The follower is given a refused update.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        for entry in new:
            self._follower.update_appended(entry)
        raise refused


@mutant
class PartialBatch(ToyRetaining):
    """
    A batch is retained up to the refused update.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        for position, update in new[:-1]:
            self.retained.apply(position, update)
        raise refused


@mutant
class PartialRemovals(ToyRetaining):
    """
    A batch is recorded up to a removal that is refused.
    """

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        if isinstance(refused, NotRetained):
            self.record(new[:-1])
        raise refused


@mutant
class RetainsLater(ToyRetaining):
    """
    An update is retained when the follower has been given it.
    """

    def record(self, new: list[Entry]) -> None:
        for position, update in new:
            self.give(position, update)
            self.retained.apply(position, update)


@mutant
class RetainsTheBatch(ToyRetaining):
    """
    A batch is retained before the follower is given its first update.
    """

    def record(self, new: list[Entry]) -> None:
        for position, update in new:
            self.retained.apply(position, update)
        for position, update in new:
            self.give(position, update)


@mutant
class Forgetful(ToyRetained):
    """
    Retained updates do not persist.
    """

    def save(self) -> tuple[dict[Name, Retained], int]:
        return {}, self.changed_at


@mutant
class PublicLater(ToyRetained):
    """
    Private updates become public at a restart.
    """

    def load(self, saved: tuple[dict[Name, Retained], int]) -> None:
        rows, self.changed_at = saved
        self.rows = {name: replace(row, private=False) for name, row in rows.items()}


@mutant
class SizeInMemory(ToyRetained):
    """
    The size does not persist.
    """

    def load(self, saved: tuple[dict[Name, Retained], int]) -> None:
        super().load(saved)
        self.before = self.size

    @property
    def size(self) -> int:
        return super().size - getattr(self, "before", 0)


@mutant
class TimeIsLost(ToyRetained):
    """
    After a restart, updates do not expire.
    """

    def load(self, saved: tuple[dict[Name, Retained], int]) -> None:
        rows, self.changed_at = saved
        self.rows = {name: replace(row, expires=inf) for name, row in rows.items()}


@mutant
class LessTime(ToyRetained):
    """
    A restart halves the time.
    """

    def load(self, saved: tuple[dict[Name, Retained], int]) -> None:
        rows, self.changed_at = saved
        self.rows = {name: replace(row, expires=row.expires / 2) for name, row in rows.items()}


@mutant
class SavedOnce(ToyRetaining):
    """
    After a restart, changes do not persist.
    """

    def stop(self) -> Deferred[None]:
        return succeed(None) if self.saved.exists() else super().stop()


@mutant
class IgnoresTopics(ToyRetained):
    """
    All updates are read, whatever the topics.
    """

    def is_wanted(self, topic: str, topics: Collection[str] | None) -> bool:
        return topics != set()


@mutant
class FirstTopicIsRead(ToyRetained):
    """
    An update is read under its first topic only.
    """

    def read(self, topics: Collection[str] | None, after: int, up_to: int) -> Deferred[RetainedPage]:
        found = {
            row.position: row
            for row in map(self.under_its_topics, self.live().values())
            if self.is_wanted(row.topics[0], topics) and self.is_between(row.position, after, up_to)
        }
        return succeed(self.to_page(sorted(found.items()), up_to))


@mutant
class NotUpTo(ToyRetained):
    """
    The last position is not read.
    """

    def is_between(self, position: int, after: int, up_to: int) -> bool:
        return after < position < up_to


@mutant
class Unordered(ToyRetained):
    """
    A page is in the order of the keys.
    """

    def to_page(self, found: list[tuple[int, Retained]], up_to: int) -> RetainedPage:
        page = super().to_page(found, up_to)
        return RetainedPage(sorted(page.entries, key=lambda entry: entry[1].key), page.end)


@mutant
class Unplaced(ToyRetained):
    """
    A retained update has another position than its entry.
    """

    def to_page(self, found: list[tuple[int, Retained]], up_to: int) -> RetainedPage:
        page = super().to_page(found, up_to)
        return RetainedPage([(each, replace(row, position=each + 1)) for each, row in page.entries], page.end)


@mutant
class NoEnd(ToyRetained):
    """
    The last page ends at its last update.
    """

    def to_page(self, found: list[tuple[int, Retained]], up_to: int) -> RetainedPage:
        page = super().to_page(found, up_to)
        return RetainedPage(page.entries, page.entries[-1][0] if page.entries else 0)


@mutant
class LateEnd(ToyRetained):
    """
    The last page ends later.
    """

    def to_page(self, found: list[tuple[int, Retained]], up_to: int) -> RetainedPage:
        page = super().to_page(found, up_to)
        return RetainedPage(page.entries, page.end + (page.end == up_to))


@mutant
class OnePage(ToyRetained):
    """
    All are one page.
    """

    def to_page(self, found: list[tuple[int, Retained]], up_to: int) -> RetainedPage:
        return RetainedPage(found, up_to)


@mutant
class Truncated(ToyRetained):
    """
    A large update is cut.
    """

    def to_row(self, position: int, update: Update) -> Retained:
        row = super().to_row(position, update)
        return replace(row, frame=row.frame[:65536])


@mutant
class WithinTheBounds(ToyRetaining):
    """
    The journal's bounds drop retained updates.
    """

    def _keep(self, entries: list[Entry]) -> None:
        super()._keep(entries)
        held = {position for position, _ in self._entries}
        rows = self.retained.rows
        self.retained.rows = {name: row for name, row in rows.items() if row.position in held}


@mutant
class RetainedAreHeld(ToyRetaining):
    """
    Retained updates stay in the record, too.
    """

    def _keep(self, entries: list[Entry]) -> None:
        before = self._entries + entries
        super()._keep(entries)
        rows = {row.position for row in self.retained.rows.values()}
        self._entries = [each for each in before if each in self._entries or each[0] in rows]


@mutant
class Unbounded(ToyRetaining):
    """
    There is no limit.
    """

    def refusal_of(self, position: int, update: Update) -> Exception | None:
        refused = super().refusal_of(position, update)
        return None if isinstance(refused, RetainedFull) else refused


@mutant
class NoBytes(ToyRetaining):
    """
    There is no limit of bytes.
    """

    def needs_room(self, more: int, held: list[Name]) -> bool:
        return False


@mutant
class GrowsFreely(ToyRetaining):
    """
    A retained update may grow over the limit.
    """

    def needs_room(self, more: int, held: list[Name]) -> bool:
        return not held


@mutant
class Evicts(ToyRetaining):
    """
    The oldest update makes room.
    """

    def refusal_of(self, position: int, update: Update) -> Exception | None:
        refused = super().refusal_of(position, update)
        return None if isinstance(refused, RetainedFull) else refused

    def record(self, new: list[Entry]) -> None:
        super().record(new)
        rows = self.retained.rows
        while len(rows) > self.max_retained:
            del rows[min(rows, key=lambda name: rows[name].position)]


@mutant
class LastRefused(ToyRetaining):
    """
    The last update of a batch decides.
    """

    def refusal(self, new: list[Entry]) -> Exception | None:
        refused = super().refusal(new)
        return (
            None if len(new) > 1 and new[-1][1].unretains and isinstance(refused, RetainedFull) else refused
        )


@mutant
class LenientBatch(ToyRetaining):
    """
    A batch is not refused.
    """

    def refusal(self, new: list[Entry]) -> Exception | None:
        return None if len(new) > 1 else super().refusal(new)


@mutant
class RemovalsFirst(ToyRetaining):
    """
    A batch removes first.
    """

    def record(self, new: list[Entry]) -> None:
        super().record(sorted(new, key=lambda entry: not entry[1].unretains))


@mutant
class RetainsOnceInABatch(ToyRetaining):
    """
    The first update of a batch with a key counts.
    """

    def record(self, new: list[Entry]) -> None:
        keys: set[str] = set()
        for position, update in new:
            key = update.retention.key if update.retention else update.id
            if key not in keys or update.unretains:
                self.retained.apply(position, update)
            keys.add(key)
            self.give(position, update)


@mutant
class BatchIsNew(ToyRetaining):
    """
    A repetition in a batch gets a position.
    """

    def plan(self, updates: Sequence[Update]) -> tuple[list[int], list[Entry]]:
        positions, new = super().plan(updates)
        return list(range(positions[0], positions[0] + len(positions))), new


@mutant
class Poisoned(ToyRetaining):
    """
    A refused update makes the next ones fail.
    """

    def _append(self, updates: Sequence[Update]) -> list[int]:
        if hasattr(self, "refused"):
            raise self.refused
        return super()._append(updates)

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        self.refused = refused
        raise refused


@mutant
class ForEver(ToyRetained):
    """
    No update expires.
    """

    def is_live(self, row: Retained) -> bool:
        return True


@mutant
class Early(ToyRetained):
    """
    Updates expire early.
    """

    def is_live(self, row: Retained) -> bool:
        return row.expires - 5 > self.clock.seconds()


@mutant
class ExpiredAreFound(ToyRetained):
    """
    Expired updates are found.
    """

    def find(self, topic: str, key: str) -> Retained | None:
        row = self.rows.get((topic, key))
        return None if row is None else self.under_its_topics(row)


@mutant
class ExpiredAreRead(ToyRetained):
    """
    Expired updates are read.
    """

    def read(self, topics: Collection[str] | None, after: int, up_to: int) -> Deferred[RetainedPage]:
        found = {
            row.position: self.under_its_topics(row)
            for (topic, _), row in self.rows.items()
            if self.is_wanted(topic, topics) and self.is_between(row.position, after, up_to)
        }
        return succeed(self.to_page(sorted(found.items()), up_to))


@mutant
class ExpiredAreRemoved(ToyRetaining):
    """
    Expired updates can be removed.
    """

    def counted(self) -> dict[Name, Retained]:
        return self.retained.rows


@mutant
class OldTime(ToyRetained):
    """
    The time of the update that was replaced counts.
    """

    def keep(self, name: Name, row: Retained) -> None:
        known = self.rows.get(name)
        super().keep(name, row if known is None else replace(row, expires=known.expires))


@mutant
class AnyTopic(ToyRetaining):
    """
    A key that is retained under one topic needs no room under others.
    """

    def refusal_of(self, position: int, update: Update) -> Exception | None:
        key = update.retention.key if update.retention else ""
        if not update.unretains and any((topic, key) in self.retained.live() for topic in update.topics):
            return None
        return super().refusal_of(position, update)


@mutant
class RemovalsLast(ToyRetaining):
    """
    A batch removes last.
    """

    def record(self, new: list[Entry]) -> None:
        for position, update in sorted(new, key=lambda entry: entry[1].unretains):
            self.retained.apply(position, update)
        for position, update in new:
            self.give(position, update)


class Counting(ToyRetained):
    """
    Counts refused updates, too.
    """

    refused = 0

    @property
    def count(self) -> int:
        return super().count + self.refused


@mutant
class CountsRefused(ToyRetaining):
    """
    Refused updates are counted.
    """

    kind = Counting

    def refuse(self, refused: Exception, new: list[Entry]) -> list[int]:
        assert isinstance(self.retained, Counting)
        self.retained.refused += 1
        raise refused


class Failures:
    """
    How a journal fails the checks: the errors, and the lines of the modules where they were raised.
    """

    def __init__(self, kind: Callable[..., ToyJournal]) -> None:
        self.errors: list[BaseException] = []
        self.lines: set[tuple[str, int]] = set()
        with TemporaryDirectory() as directory:
            for number, check in enumerate(RETAINING):
                path = Path(directory, str(number))
                path.mkdir()
                try:
                    result_of(Deferred.fromCoroutine(check(Factory(path, kind))))  # type: ignore[arg-type]
                except Exception as error:
                    self.errors.append(error)
                    for frame, line in walk_tb(error.__traceback__):
                        self.lines.add((Path(frame.f_code.co_filename).name, line))


@cache
def failures_of(name: str) -> Failures:
    return Failures(MUTANTS[name])


def expectations() -> set[tuple[str, int]]:
    """
    Return the lines of all calls of ``expect`` and ``equal`` in the modules.
    """
    found = set()
    for module in MODULES:
        assert module.__file__ is not None
        path = Path(module.__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("expect", "equal", "expect_full"):
                    found.add((path.name, node.lineno))
    return found


class ContractTests:
    @pytest.mark.parametrize("check", RETAINING, ids=lambda check: check.__name__)
    def test_contract(self, tmp_path: Path, check: Check) -> None:
        """
        A third-party journal that retains updates passes each check of the contract.
        """
        result_of(Deferred.fromCoroutine(check(Factory(tmp_path, ToyRetaining))))  # type: ignore[arg-type]

    @pytest.mark.parametrize("check", RETAINING, ids=lambda check: check.__name__)
    def test_without(self, tmp_path: Path, check: Check) -> None:
        """
        A journal that retains no updates skips each check.
        """

        def make(path: Path, clock: Clock, *, max_count: int = 1000, **bounds: int) -> ToyJournal:
            return ToyJournal(path, max_count=max_count)

        with pytest.raises(SkipTest, match="the journal retains no updates"):
            result_of(Deferred.fromCoroutine(check(Factory(tmp_path, make))))  # type: ignore[arg-type]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", MUTANTS)
    def test_caught(self, name: str) -> None:
        """
        A journal that breaks one sentence of the contract fails at least one check with it.
        """
        assert any(isinstance(error, AssertionError) for error in failures_of(name).errors)

    @pytest.mark.slow
    def test_each_expectation(self) -> None:
        """
        Each expectation of the checks is the one that some mutant fails first.
        """
        failed = {line for name in MUTANTS for line in failures_of(name).lines}
        assert sorted(expectations() - failed) == []

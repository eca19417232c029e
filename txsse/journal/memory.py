"""
The journal that keeps updates in the memory of one process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from txsse._clock import make_steady, wall
from txsse._randomness import randomness_of
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.journal.base import (
    DEFAULT_AGE,
    DEFAULT_BYTES,
    DEFAULT_COUNT,
    check_batch,
    check_bounds,
    check_retained_bounds,
    not_started,
)
from txsse.journal.interfaces import IFollower, IRetainingJournal
from txsse.journal.page import Page
from txsse.journal.resume_ids import ResumeIds, new_secret
from txsse.journal.retained_updates import DEFAULT_MAX_RETAINED, DEFAULT_MAX_RETAINED_BYTES, RetainedUpdates
from txsse.journal.revocations import MemoryRevocations
from txsse.journal.update import Update
from txsse.journal.window import Window

__all__ = ["MemoryJournal"]


@implementer(IRetainingJournal)
class MemoryJournal:
    """
    A journal in memory. Its updates are lost when the process ends.

    :param max_count: the maximum number of updates.
    :param max_bytes: the maximum size of the updates in memory, in bytes, approximately.
    :param max_age: the maximum age of an update, in seconds; ``None`` for no such limit.
    :param max_retained: the maximum number of retained updates.
    :param max_retained_bytes: the maximum size of the retained updates in memory, in bytes, approximately.
    :param reactor: the reactor, for its clock; ``None`` for the global one.
    :raises ValueError: if a limit is not greater than 0.
    :ivar retained: the retained updates, an :class:`~txsse.journal.retained.IRetained`.
    :ivar revocations: the list of revoked tokens, an :class:`~txsse.journal.revocations.IRevocations`; it is
        lost when the process ends, as the updates are.
    """

    def __init__(
        self,
        *,
        max_count: int = DEFAULT_COUNT,
        max_bytes: int = DEFAULT_BYTES,
        max_age: float | None = DEFAULT_AGE,
        max_retained: int = DEFAULT_MAX_RETAINED,
        max_retained_bytes: int = DEFAULT_MAX_RETAINED_BYTES,
        reactor: AnyReactor | None = None,
    ) -> None:
        check_bounds(max_count, max_bytes, max_age)
        check_retained_bounds(max_retained, max_retained_bytes)
        self.problem: Exception | None = None
        # Updates in memory are never damaged.
        self.damaged = 0
        self.revocations = MemoryRevocations(self._wall)
        self.retained = RetainedUpdates(
            lambda: self._now(), max_count=max_retained, max_bytes=max_retained_bytes
        )
        self._reactor = cast("IReactorTime | None", reactor)
        self._follower: IFollower | None = None
        # Set when the journal is started, so that the time of an update takes a single call.
        self._now: Callable[[], float] = not_started
        # A new secret for each process, because the next process uses the same positions for other updates.
        self._resume_ids = ResumeIds(new_secret(randomness_of(reactor)))
        self._recent = Window(
            max_count=max_count, max_bytes=max_bytes, max_age=math.inf if max_age is None else max_age
        )

    @property
    def head(self) -> int:
        """
        The position of the newest update; 0 before the first.
        """
        return self._recent.head

    def start(self, follower: IFollower) -> Deferred[None]:
        """
        Start the journal: give its follower every update that is appended from now on.
        """
        self._follower = follower
        self._now = make_steady(self._reactor or global_reactor()).seconds
        return succeed(None)

    def _wall(self) -> float:
        return wall(self._reactor or global_reactor())

    def append(self, update: Update) -> Deferred[int]:
        """
        Record an update. The Deferred has already fired.
        """
        recent, now = self._recent, self._now()
        known = recent.find_equal(update, now)
        if known is not None:
            return succeed(known)
        assert self._follower is not None, "the journal has not been started"
        position = recent.head + 1
        if update.retention is not None:
            refused = self.retained.append(position, update)
            if refused is not None:
                return fail(refused)
        self._follower.update_appended(recent.add(position, update, now))
        return succeed(position)

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        """
        Record several updates. The Deferred has already fired.
        """
        check_batch(updates)
        now = self._now()
        # The position of each update that is recorded already. By ID: where in the batch the newest update
        # is, and for each update, where the first of those is that are equal.
        known: dict[int, int] = {}
        newest: dict[str, int] = {}
        origins: list[int] = []
        for index, update in enumerate(updates):
            origin = newest.get(update.id)
            if origin is not None and updates[origin] == update:
                origins.append(origin)
                continue
            position = self._recent.find_equal(update, now) if origin is None else None
            if position is not None:
                known[index] = position
            newest[update.id] = index
            origins.append(index)
        new = [
            update
            for index, update in enumerate(updates)
            if update.retention is not None and origins[index] == index and index not in known
        ]
        refused = self.retained.refusal(new) if new else None
        if refused is not None:
            return fail(refused)
        # From here on, nothing is refused, even if a retained update expires meanwhile.
        positions: list[int] = []
        for index, update in enumerate(updates):
            if origins[index] < index:
                positions.append(positions[origins[index]])
            elif index in known:
                positions.append(known[index])
            else:
                positions.append(self._record(update, now))
        return succeed(positions)

    def _record(self, update: Update, now: float) -> int:
        assert self._follower is not None, "the journal has not been started"
        position = self._recent.head + 1
        if update.retention is not None:
            self.retained.apply(position, update)
        entry = self._recent.add(position, update, now)
        self._follower.update_appended(entry)
        return position

    def find(self, id: str) -> Deferred[int | None]:
        """
        Look up the id of an update, or a resume ID.
        """
        position = self._recent.find(id, self._now())
        return succeed(self._resume_ids.find(id, self.head) if position is None else position)

    def at(self, position: int) -> Deferred[Update | None]:
        """
        Return the update at a position.
        """
        return succeed(self._recent.at(position, self._now()))

    def read(self, after: int) -> Deferred[Page]:
        """
        Read the updates after a position.
        """
        return succeed(self._recent.read(after, self._now()))

    def resume_id(self, position: int) -> str:
        """
        Return an opaque resume ID for a position.
        """
        return self._resume_ids.resume_id(position)

    def stop(self) -> Deferred[None]:
        """
        Do nothing: the updates stay in memory until the process ends.
        """
        return succeed(None)

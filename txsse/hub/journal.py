"""
The ordered record of updates that a hub replays from and follows: the contract, and the journal in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface, implementer

from txsse._reactor import global_reactor
from txsse.hub.place import OLDEST
from txsse.hub.update import Update

__all__ = ["Entry", "IFollower", "IJournal", "MemoryJournal", "Page"]

# An update and its position.
Entry = tuple[int, Update]

# For how many updates, bytes and seconds a client may be away, unless it is said otherwise.
_DEFAULT_COUNT = 10_000
_DEFAULT_BYTES = 64 * 1024 * 1024
_DEFAULT_AGE = 24 * 3600.0

# What an update takes beside its text: the objects, and their places in the journal.
_OVERHEAD = 600


class IFollower(Protocol):
    """
    Who follows a journal: the hub.
    """

    def update_appended(self, entry: Entry) -> None:
        """
        The journal has a new update.
        """

    def updates_missed(self, position: int) -> None:
        """
        The journal lost sight of what was appended up to a position, and goes on behind it.
        """


@dataclass(frozen=True)
class Page:
    """
    A part of a journal.

    :ivar entries: updates with their positions, in order.
    :ivar end: the position up to which the reader has now got everything there is.
    :ivar missed: whether updates are missing before these: the journal does not hold them any more.
    """

    entries: list[Entry]
    end: int
    missed: bool


class IJournal(Interface):
    """
    An ordered record of updates.

    The position of an update is an ``int``; a later update has a greater one, and they need not be
    consecutive. 0 is the position before all of them. What is read is bounded by the number of updates, by
    their bytes and by their age, all three at once; the oldest go first.

    An id stands for one update: while the journal holds an update, another one with its id is taken for the
    same, and is not appended again. So a publisher that did not hear whether an update arrived may publish it
    once more.

    Every method that returns a Deferred may fail with whatever befell the journal; it goes on then where it
    was. Follower and methods are called in the reactor's thread.
    """

    head: int = Attribute("""The position of the newest update that the follower was told of.""")

    def start(follower: IFollower) -> Deferred[None]:  # noqa: N805
        """
        Begin. From now on the follower is told of every update once, in the order of their positions: of
        those of this process before the Deferred of ``append`` fires. It is not told of those that are there.

        :returns: a Deferred that fires when :attr:`head` is known.
        """

    def append(update: Update) -> Deferred[int]:  # noqa: N805
        """
        Record an update.

        :returns: a Deferred that fires with its position, once it is as durable as this journal promises.
        """

    def find(id: str) -> Deferred[int | None]:  # noqa: N805
        """
        Look an update up, in a time that does not depend on how many there are.

        :returns: a Deferred that fires with its position; with ``None`` where the journal does not hold it.
        """

    def read(after: int) -> Deferred[Page]:  # noqa: N805
        """
        Read on behind a position, a part that is convenient to be sent at once. Behind
        :data:`~txsse.hub.place.OLDEST` comes the oldest update that there is, and none is missed.
        """

    def last_id() -> Deferred[str | None]:
        """
        Return the id of the update at :attr:`head`; ``None`` where the journal holds none.
        """

    def stop() -> Deferred[None]:
        """
        End, behind what was appended.
        """


@implementer(IJournal)
class MemoryJournal:
    """
    A journal in memory, which ends with the process.

    :param max_count: how many updates it holds.
    :param max_bytes: how many bytes of memory they take, roughly.
    :param max_age: for how long it holds one, in seconds; ``None`` for as long as the others let it.
    :param reactor: whose clock it is; ``None`` for the global one.
    :raises ValueError: for a bound that holds nothing.
    """

    def __init__(
        self,
        *,
        max_count: int = _DEFAULT_COUNT,
        max_bytes: int = _DEFAULT_BYTES,
        max_age: float | None = _DEFAULT_AGE,
        reactor: IReactorTime | None = None,
    ) -> None:
        for name, bound in (("max_count", max_count), ("max_bytes", max_bytes), ("max_age", max_age)):
            if bound is not None and not bound > 0:
                raise ValueError(f"{name} must be more than 0, not {bound}")
        self.head = 0
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._max_age = math.inf if max_age is None else max_age
        self._reactor = reactor
        self._follower: IFollower | None = None
        # Positions are consecutive: that of an entry is its index and the base. The entries before the first
        # are gone; that they keep their places for a while saves moving the others at each append.
        self._entries: list[Entry | None] = []
        self._times: list[float] = []
        self._first = 0
        self._base = 1
        self._bytes = 0
        self._positions: dict[str, int] = {}

    def start(self, follower: IFollower) -> Deferred[None]:
        """
        Begin.
        """
        self._follower = follower
        self._reactor = self._reactor or global_reactor()
        return succeed(None)

    def append(self, update: Update) -> Deferred[int]:
        """
        Keep an update.
        """
        assert self._reactor is not None, "the journal has not been started"
        assert self._follower is not None
        now = self._reactor.seconds()
        if update.id in self._positions:
            self._trim()
            known = self._positions.get(update.id)
            if known is not None:
                return succeed(known)
        self.head = position = self.head + 1
        entry = (position, update)
        self._entries.append(entry)
        self._times.append(now)
        self._bytes += _size(update)
        self._positions[update.id] = position
        if (
            self._bytes > self._max_bytes
            or len(self._positions) > self._max_count
            or self._times[self._first] <= now - self._max_age
        ):
            self._trim()
        self._follower.update_appended(entry)
        return succeed(position)

    def find(self, id: str) -> Deferred[int | None]:
        """
        Look an id up.
        """
        self._trim()
        return succeed(self._positions.get(id))

    def read(self, after: int) -> Deferred[Page]:
        """
        Read on behind a position: some 64 KiB, or some 256 updates.
        """
        self._trim()
        oldest = self._base + self._first
        missed = OLDEST < after < oldest - 1
        entries: list[Entry] = []
        size = 0
        position = max(after + 1, oldest)
        while position <= self.head and size < _PAGE_BYTES and len(entries) < _PAGE_COUNT:
            entry = self._entries[position - self._base]
            assert entry is not None
            entries.append(entry)
            size += len(entry[1].frame)
            position += 1
        return succeed(Page(entries, position - 1, missed))

    def last_id(self) -> Deferred[str | None]:
        """
        Return the id of the newest update.
        """
        self._trim()
        entry = self._entries[-1] if self._entries else None
        return succeed(None if entry is None else entry[1].id)

    def stop(self) -> Deferred[None]:
        """
        Do nothing: it all ends with the process.
        """
        return succeed(None)

    def _trim(self) -> None:
        """
        Forget what is too much or too old.
        """
        assert self._reactor is not None, "the journal has not been started"
        too_old = self._reactor.seconds() - self._max_age
        while self._first < len(self._entries):
            if (
                len(self._positions) <= self._max_count
                and self._bytes <= self._max_bytes
                and self._times[self._first] > too_old
            ):
                break
            entry = self._entries[self._first]
            assert entry is not None
            self._bytes -= _size(entry[1])
            del self._positions[entry[1].id]
            self._entries[self._first] = None
            self._first += 1
        if self._first > _GONE_ENTRIES and self._first * 2 > len(self._entries):
            del self._entries[: self._first]
            del self._times[: self._first]
            self._base += self._first
            self._first = 0


_PAGE_BYTES = 65536
_PAGE_COUNT = 256

# How many places of entries that are gone are never worth tidying up.
_GONE_ENTRIES = 64


def _size(update: Update) -> int:
    """
    Return roughly how much memory an update takes: its text is there as it was given, and as it is sent.
    """
    return 2 * len(update.frame) + _OVERHEAD

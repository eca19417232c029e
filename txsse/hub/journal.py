"""
The ordered record of updates that a hub replays from and follows: the contract, and the journal in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Protocol, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface, implementer

from txsse._arguments import check_number
from txsse._clock import make_steady
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.hub.anchors import Anchors, new_secret
from txsse.hub.entry import Entry, Page
from txsse.hub.recent import Recent
from txsse.hub.update import Update

__all__ = [
    "DEFAULT_AGE",
    "DEFAULT_BYTES",
    "DEFAULT_COUNT",
    "Alone",
    "IFollower",
    "IJournal",
    "MemoryJournal",
    "check_bounds",
    "not_started",
]

# For how many updates, bytes and seconds a client may be away, unless it is said otherwise.
DEFAULT_COUNT = 10_000
DEFAULT_BYTES = 64 * 1024 * 1024
DEFAULT_AGE = 24 * 3600.0


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

    def subscriber_counts(self) -> Mapping[str, int]:
        """
        Return how many subscribers want each topic by its name; ``*`` for how many there are in all. It is a
        view: it shows how things are when it is looked at, and 0 for a topic that it does not have.
        """

    def changed_topics(self) -> Collection[str]:
        """
        Return the topics whose counts may have changed since this was asked last; at first, any of them.
        """


class IJournal(Interface):
    """
    An ordered record of updates.

    The position of an update is an ``int``; a later update has a greater one, and they need not be
    consecutive. 0 is the position before all of them. What is read is bounded by the number of updates, by
    their bytes and by their age, all three at once; the oldest go first.

    Ids: an update is equal to another one if both have the same topics, data, type, id, retry time and
    privacy. Appending an update that is equal to the newest one with its id that the journal holds is a
    no-op, so a publisher that did not hear whether an update was recorded may publish it once more. An
    update that differs from that one is appended, although its id is held: of the updates A, B and A with
    one id, all three are appended. A client that resumes from an id goes on after the *earliest* update with
    it that the journal holds, so that it misses none of the others.

    Every method that returns a Deferred may fail with whatever befell the journal; it goes on then where it
    was. Follower and methods are called in the reactor's thread.
    """

    head: int = Attribute("""The position of the newest update that the follower was told of.""")

    problem: Exception | None = Attribute(
        """
        What is wrong at the moment; ``None`` where nothing is. That records are damaged is not: the others
        can be read, and new ones are recorded.
        """
    )

    damaged: int = Attribute(
        """
        How many records this process has found that cannot be read. Each is counted once, is logged without
        its content, and is skipped by :meth:`read`.
        """
    )

    def start(follower: IFollower) -> Deferred[None]:  # noqa: N805
        """
        Begin. From now on the follower is told of every update once, in the order of their positions: of
        those of this process before the Deferred of ``append`` fires. It is not told of those that are there.

        :returns: a Deferred that fires when :attr:`head` is known.
        """

    def append(update: Update) -> Deferred[int]:  # noqa: N805
        """
        Record an update.

        :returns: a Deferred that fires with its position, once it is as durable as this journal promises;
            with that of the equal update, where it is a no-op.
        """

    def find(id: str) -> Deferred[int | None]:  # noqa: N805
        """
        Look an update up, in a time that does not depend on how many there are.

        :returns: a Deferred that fires with the position of the earliest update with the id; with ``None``
            where the journal holds none.
        """

    def at(position: int) -> Deferred[Update | None]:  # noqa: N805
        """
        Return the update at a position that ``find`` returned; ``None`` where the journal does not hold it
        any more.
        """

    def read(after: int) -> Deferred[Page]:  # noqa: N805
        """
        Read on behind a position, a part that is convenient to be sent at once. Behind
        :data:`~txsse.hub.place.OLDEST` comes the oldest update that there is, and what was before it is not
        missed.

        A page does not cross a damaged record unnoticed. It ends before one; the next page, which begins
        there, skips that one and those that follow it at once, and says ``missed``, also behind
        :data:`~txsse.hub.place.OLDEST`. Where only damaged records follow, the page is empty, says
        ``missed``, and ends at :attr:`head`.
        """

    def last_id() -> Deferred[str | None]:
        """
        Return the id of the update at :attr:`head`; ``None`` where the journal holds none.
        """

    def anchor(position: int) -> str:  # noqa: N805
        """
        Return an id that ``find`` takes for a position, at any node with this journal, and that discloses
        nothing of the updates there. In a record that was set back, or is another one, it is not found.

        :param position: :attr:`head`, or one before it, whether or not there is an update.
        """

    def subscribers_elsewhere(topic: str) -> Deferred[int]:  # noqa: N805
        """
        Return how many subscribers want a topic by its name at the other nodes with this journal; ``*`` for
        how many there are in all. Where there are no others, it is 0.
        """

    def put_note(name: str, note: str | None) -> None:  # noqa: N805
        """
        Show the other nodes with this journal a note of this one's, until the node ends; ``None`` takes it
        back. Whoever is told of an update that is appended later finds it so. Where there are no others,
        nothing is done.
        """

    def notes_elsewhere(name: str) -> Deferred[list[str]]:  # noqa: N805
        """
        Return the notes of the other nodes: those with a name, and those whose names begin with it and a
        slash.
        """

    def stop() -> Deferred[None]:
        """
        End, behind what was appended.
        """


class Alone:
    """
    A journal that no other node has.
    """

    @property
    def damaged(self) -> int:
        """
        What is in memory is not damaged.
        """
        return 0

    def subscribers_elsewhere(self, topic: str) -> Deferred[int]:
        """
        There are no others.
        """
        return succeed(0)

    def put_note(self, name: str, note: str | None) -> None:
        """
        There is nobody to show it to.
        """

    def notes_elsewhere(self, name: str) -> Deferred[list[str]]:
        """
        There are no others.
        """
        return succeed([])


@implementer(IJournal)
class MemoryJournal(Alone):
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
        max_count: int = DEFAULT_COUNT,
        max_bytes: int = DEFAULT_BYTES,
        max_age: float | None = DEFAULT_AGE,
        reactor: AnyReactor | None = None,
    ) -> None:
        check_bounds(max_count, max_bytes, max_age)
        self.problem: Exception | None = None
        self._reactor = cast("IReactorTime | None", reactor)
        self._follower: IFollower | None = None
        # Bound when the journal is started: an update's time is one call.
        self._now: Callable[[], float] = not_started
        # The next process begins at 0 again.
        self._anchors = Anchors(new_secret())
        self._recent = Recent(
            max_count=max_count, max_bytes=max_bytes, max_age=math.inf if max_age is None else max_age
        )

    @property
    def head(self) -> int:
        """
        The position of the newest update.
        """
        return self._recent.head

    def start(self, follower: IFollower) -> Deferred[None]:
        """
        Begin.
        """
        self._follower = follower
        self._now = make_steady(self._reactor or global_reactor()).seconds
        return succeed(None)

    def append(self, update: Update) -> Deferred[int]:
        """
        Keep an update.
        """
        assert self._follower is not None, "the journal has not been started"
        recent, now = self._recent, self._now()
        known = recent.find_equal(update, now)
        if known is not None:
            return succeed(known)
        entry = recent.add(recent.head + 1, update, now)
        self._follower.update_appended(entry)
        return succeed(entry[0])

    def find(self, id: str) -> Deferred[int | None]:
        """
        Look an id up.
        """
        position = self._recent.find(id, self._now())
        return succeed(self._anchors.find(id, self.head) if position is None else position)

    def at(self, position: int) -> Deferred[Update | None]:
        """
        Return the update at a position.
        """
        return succeed(self._recent.at(position, self._now()))

    def read(self, after: int) -> Deferred[Page]:
        """
        Read on behind a position.
        """
        return succeed(self._recent.read(after, self._now()))

    def last_id(self) -> Deferred[str | None]:
        """
        Return the id of the newest update.
        """
        return succeed(self._recent.last_id(self._now()))

    def anchor(self, position: int) -> str:
        """
        Return an id for a position.
        """
        return self._anchors.anchor(position)

    def stop(self) -> Deferred[None]:
        """
        Do nothing: it all ends with the process.
        """
        return succeed(None)


def not_started() -> float:
    """
    Stand for the clock of a journal that has not been started.
    """
    raise AssertionError("the journal has not been started")


def check_bounds(max_count: int, max_bytes: int, max_age: float | None) -> None:
    """
    Check the bounds of a journal.

    :raises ValueError: for one that holds nothing.
    :raises TypeError: for one that is no number.
    """
    bounds: dict[str, float] = {"max_count": max_count, "max_bytes": max_bytes}
    if max_age is not None:
        bounds["max_age"] = max_age
    for name, bound in bounds.items():
        check_number(name, bound)
        if not bound > 0:
            raise ValueError(f"{name} must be more than 0, not {bound}")

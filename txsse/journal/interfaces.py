"""
The interfaces of a journal and its follower. :mod:`txsse.testing.journal_contract` tests an implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from txsse.journal.page import Entry, Page
from txsse.journal.retained import IRetained
from txsse.journal.update import Update

__all__ = ["AnyJournal", "IFollower", "IJournal", "IRetainingJournal"]


class IFollower(Protocol):
    """
    The receiver of a journal's new updates: the hub.
    """

    def update_appended(self, entry: Entry) -> None:
        """
        Receive a new update of the journal. This must neither raise an exception nor append an update.
        """

    def updates_missed(self, position: int) -> None:
        """
        Learn that updates up to a position were not given to the follower, and never will be.

        The next update that the follower is given comes after this position. :meth:`read <IJournal.read>`
        returns the skipped updates that the journal still holds.
        """


class IJournal(Interface):
    """
    An ordered record of updates.

    The position of an update is an ``int``. A later update has a greater position; positions need not be
    consecutive. Position 0 is before all updates, and no position is used twice. Three limits apply together:
    the number of updates, their size in bytes, and their age. The oldest updates are dropped first.

    Ids: two updates are equal if they have the same topics, data, type, id, retry time, privacy and
    retention. Appending an update that equals the newest held update with its id is a no-op, so a publisher
    that does not know whether an update was recorded may publish it again. An update that differs from that
    one is appended, although its id is held: of the updates A, B and A with one id, all three are appended. A
    client that resumes from an id continues after the *earliest* held update with this id, so that it misses
    none of the later ones.

    Every Deferred may fail, with :exc:`~txsse.errors.JournalFailed` if the journal knows the cause. The
    journal remains usable after a failure. The journal calls its follower in the reactor's thread, and its
    methods must be called in that thread.
    """

    head: int = Attribute("""The position of the newest update that the follower was given.""")

    problem: Exception | None = Attribute(
        """
        The current problem; ``None`` while the journal works. Damaged records are not a problem: the journal
        can read all others and record new ones.
        """
    )

    damaged: int = Attribute(
        """
        The number of unreadable records that this process has found. Each is counted once, is logged without
        its content, and is skipped by :meth:`read`.
        """
    )

    def start(follower: IFollower) -> Deferred[None]:  # noqa: N805
        """
        Start the journal. From now on, give the follower every new update once, in the order of positions.

        The follower is given an update that this process appends before the Deferred of ``append`` fires. It
        is not given the updates that the journal holds already.

        :returns: a Deferred that fires when :attr:`head` is known.
        """

    def append(update: Update) -> Deferred[int]:  # noqa: N805
        """
        Record an update.

        :returns: a Deferred that fires with the update's position, once the update is as durable as this
            journal promises. If the call is a no-op, this is the position of the equal update.
        """

    def append_many(updates: Sequence[Update]) -> Deferred[list[int]]:  # noqa: N805
        """
        Record several updates in one transaction: all of them, or none.

        The updates are recorded in the given order, with no other update between them. At every node, the
        follower is given all of them in one turn of the reactor, or none, even if the server or a process
        ends meanwhile.

        An update that equals the newest one with its id, in the journal or earlier in the batch, is a no-op,
        as with :meth:`append`.

        :returns: a Deferred that fires with the position of each update, once all are as durable as this
            journal promises. An empty batch records nothing.
        :raises BatchTooLarge: if the batch has more than ``MAX_BATCH_COUNT`` updates, or more than
            ``MAX_BATCH_BYTES`` bytes on the wire.
        """

    def find(id: str) -> Deferred[int | None]:  # noqa: N805
        """
        Look up the id of an update, or a resume ID, in a time independent of the number of updates.

        :returns: a Deferred that fires with the position of the earliest update with this id, or with the
            position that the resume ID stands for; with ``None`` if the journal does not know the id.
        """

    def at(position: int) -> Deferred[Update | None]:  # noqa: N805
        """
        Return the update at a position, such as :attr:`head` or one that ``find`` returned.

        :returns: a Deferred that fires with the update; with ``None`` if the journal holds no update there
            (any more).
        """

    def read(after: int) -> Deferred[Page]:  # noqa: N805
        """
        Read the updates after a position, as one page of a size that can be sent at once.

        The page has ``missed`` set if updates after the position have been dropped. After
        :data:`~txsse.journal.position.OLDEST`, a page begins with the oldest held update, and dropped updates
        do not set ``missed``. The last page ends at :attr:`head`.

        A page ends before a damaged record. The next page, which begins there, skips this record and the
        damaged ones directly after it, and has ``missed`` set, also after
        :data:`~txsse.journal.position.OLDEST`. If only damaged records follow, the page is empty, has
        ``missed`` set, and ends at :attr:`head`.
        """

    def resume_id(position: int) -> str:  # noqa: N805
        """
        Return an opaque resume ID for a position.

        ``find`` accepts it at every node with this journal. It discloses nothing about the updates at and
        before the position. It begins with ``#``, with which no update's id may begin. After the record was
        set back or replaced, ``find`` no longer knows it.

        :param position: :attr:`head`, or a position before it, whether or not it holds an update.
        """

    def stop() -> Deferred[None]:
        """
        Stop the journal, after the appended updates are recorded and their Deferreds have fired.
        """


class IRetainingJournal(IJournal):
    """
    A journal that retains updates with a :attr:`retention <txsse.Update>`.

    Of each topic and key, it retains the newest update, whether or not it still holds that as one of its
    updates. In one transaction with recording an update, it retains the update under each of its topics, or
    removes the retained updates that the update removes. Retained updates are as durable as the others.

    They have limits of their own: how many there are, and their size in bytes. None is dropped for a new one:
    ``append`` fails with :exc:`~txsse.errors.RetainedFull`, and records nothing. It fails with
    :exc:`~txsse.errors.NotRetained` for an update that removes none. ``append_many`` fails with these errors,
    and records nothing, if any of its updates is refused. A call of ``append`` that is a no-op retains and
    removes nothing, and is not refused.
    """

    retained: IRetained = Attribute(
        """
        The retained updates. When the follower is given an update, it has been retained already.
        """
    )


class _Journal(Protocol):
    @property
    def head(self) -> int: ...

    @property
    def problem(self) -> Exception | None: ...

    @property
    def damaged(self) -> int: ...

    def start(self, follower: IFollower, /) -> Deferred[None]: ...

    def append(self, update: Update, /) -> Deferred[int]: ...

    def append_many(self, updates: Sequence[Update], /) -> Deferred[list[int]]: ...

    def find(self, id: str, /) -> Deferred[int | None]: ...

    def at(self, position: int, /) -> Deferred[Update | None]: ...

    def read(self, after: int, /) -> Deferred[Page]: ...

    def resume_id(self, position: int, /) -> str: ...

    def stop(self) -> Deferred[None]: ...


# For type checkers that do not support zope.interface; see :mod:`txsse._typing`.
AnyJournal: TypeAlias = IJournal | _Journal

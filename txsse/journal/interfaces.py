"""
The contract of a journal, and of its follower. :mod:`txsse.testing.journal_contract` checks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from txsse.journal.page import Entry, Page
from txsse.journal.update import Update

__all__ = ["AnyJournal", "IFollower", "IJournal"]


class IFollower(Protocol):
    """
    What a journal gives its new updates to: the hub.
    """

    def update_appended(self, entry: Entry) -> None:
        """
        The journal has a new update. This must neither raise, nor append another one.
        """

    def updates_missed(self, position: int) -> None:
        """
        The journal cannot give the follower all updates up to a position, and goes on after it. :meth:`read
        <IJournal.read>` returns those that it holds.
        """


class IJournal(Interface):
    """
    An ordered record of updates.

    The position of an update is an ``int``; a later update has a greater one, and they need not be
    consecutive. 0 is the position before all of them, and no position is used twice. What the journal holds
    is bounded by the number of updates, by their bytes and by their age, all three at once; the oldest are
    dropped first.

    Ids: an update is equal to another one if both have the same topics, data, type, id, retry time and
    privacy. Appending an update that is equal to the newest one with its id that the journal holds is a
    no-op, so a publisher that did not hear whether an update was recorded may publish it once more. An
    update that differs from that one is appended, although its id is held: of the updates A, B and A with
    one id, all three are appended. A client that resumes from an id goes on after the *earliest* update with
    it that the journal holds, so that it misses none of the others.

    Every Deferred may fail, with :exc:`~txsse.errors.JournalFailed` if the journal knows what is wrong; the
    journal can be used again afterwards. Follower and methods are called in the reactor's thread.
    """

    head: int = Attribute("""The position of the newest update that the follower was given.""")

    problem: Exception | None = Attribute(
        """
        What is wrong at the moment; ``None`` if it works. Damaged records are no problem: the others can be
        read, and new ones are recorded.
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
        Begin. From now on the follower is given every new update once, in the order of their positions; those
        that this process appends before the Deferred of ``append`` fires. It is not given those that are held
        already.

        :returns: a Deferred that fires when :attr:`head` is known.
        """

    def append(update: Update) -> Deferred[int]:  # noqa: N805
        """
        Record an update.

        :returns: a Deferred that fires with its position, once it is as durable as this journal promises. If
            it is a no-op, this is the position of the equal update.
        """

    def append_many(updates: Sequence[Update]) -> Deferred[list[int]]:  # noqa: N805
        """
        Record several updates in one transaction: all of them, or none. They are recorded in their order,
        with no other update between them. At every node, the follower is given all of them in one turn of the
        reactor, or none, even if the server or a process ends meanwhile.

        An update that is equal to the newest one with its id, in the journal or earlier in the batch, is a
        no-op, as with :meth:`append`.

        :returns: a Deferred that fires with the position of each, once they are as durable as this journal
            promises. An empty batch records nothing.
        :raises BatchTooLarge: for more than ``MAX_BATCH_COUNT`` updates, or more than
            ``MAX_BATCH_BYTES`` bytes on the wire.
        """

    def find(id: str) -> Deferred[int | None]:  # noqa: N805
        """
        Look up the id of an update, or a resume ID, in a time that does not depend on how many updates there
        are.

        :returns: a Deferred that fires with the position of the earliest update with the id; with ``None`` if
            the journal holds none.
        """

    def at(position: int) -> Deferred[Update | None]:  # noqa: N805
        """
        Return the update at a position, such as :attr:`head` or one that ``find`` returned; ``None`` if the
        journal holds none there (any more).
        """

    def read(after: int) -> Deferred[Page]:  # noqa: N805
        """
        Read the updates after a position: a page of them that is convenient to be sent at once. The page says
        ``missed`` if updates after the position have been dropped. After
        :data:`~txsse.journal.position.OLDEST` comes the oldest update that is held, and nothing is missed. A
        page after which nothing follows ends at :attr:`head`.

        A page ends before a damaged record. The next page, which begins there, skips that record and the
        damaged ones that follow it directly, and says ``missed``, also after
        :data:`~txsse.journal.position.OLDEST`. If only damaged records follow, the page is empty, says
        ``missed``, and ends at :attr:`head`.
        """

    def resume_id(position: int) -> str:  # noqa: N805
        """
        Return an opaque id for a position. ``find`` accepts it at every node with this journal, and it
        discloses nothing of the updates there. It begins with ``#``, as the id of no update does. In a record
        that was set back or replaced it is not found.

        :param position: :attr:`head`, or one before it, whether or not there is an update.
        """

    def stop() -> Deferred[None]:
        """
        End, after what was appended is recorded and its Deferreds have fired.
        """


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


# To type checkers that do not know zope.interface; see :mod:`txsse._typing`.
AnyJournal: TypeAlias = IJournal | _Journal

"""
The retained updates of a journal: of each topic and key the newest update, beyond the journal's limits.

A client that opens a stream is sent those of its topics first. Each node has all of them in memory, so that
this needs no server and no file, and agrees with the updates that its hub was given so far.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

__all__ = [
    "AnyRetained",
    "IRetained",
    "Retained",
    "RetainedPage",
    "size_under_one_topic",
]

# The memory of a retained update in addition to its texts, in bytes: its object, and its entries in the
# indexes below.
_OVERHEAD = 800


@dataclass(slots=True)
class Retained:
    """
    A retained update. It must not be changed.

    :ivar position: the update's position in the journal.
    :ivar topics: the topics under which it is still the newest one with its key.
    :ivar private: whether it is private.
    :ivar key: its key.
    :ivar owner: who counts as its publisher, for a quota.
    :ivar expires: when it expires, in seconds of the journal's clock; infinity for never.
    :ivar frame: the event as it is sent on the wire, without its ID.
    :ivar size: its approximate memory under one topic, in bytes, without that topic's name.
    """

    position: int
    topics: tuple[str, ...]
    private: bool
    key: str
    owner: str | None
    expires: float
    frame: bytes
    size: int = field(init=False)

    def __post_init__(self) -> None:
        """
        Compute the size.
        """
        self.size = size_under_one_topic(self.key, len(self.frame))


def size_under_one_topic(key: str, size: int) -> int:
    """
    Return the approximate memory of a retained update under one topic, in bytes, without the topic's name.

    :param size: the size of its frame without the ID, in bytes.
    """
    return size + 2 * (len(key) if key.isascii() else len(key.encode())) + _OVERHEAD


@dataclass(frozen=True)
class RetainedPage:
    """
    Some retained updates, in the order of their positions.

    :ivar entries: the updates with their positions.
    :ivar end: the position after which the next page begins; the last page ends where the reader wants it to.
    """

    entries: list[tuple[int, Retained]]
    end: int


class IRetained(Interface):
    """
    The retained updates of a journal, as far as its follower has been given them.

    ``txsse.testing.journal_contract`` tests an implementation, such as
    :class:`~txsse.journal.retained_updates.RetainedUpdates`, which is in memory.
    """

    count: int = Attribute(
        """How many there are: an update that is retained under two topics counts twice."""
    )

    size: int = Attribute("""Their approximate size, in bytes.""")

    is_empty: bool = Attribute("""Whether it is certain that no update is retained.""")

    changed_at: int = Attribute("""The position of the newest update that has retained or removed one.""")

    def topics() -> Iterable[str]:
        """
        Return the topics under which updates are retained.
        """

    def find(topic: str, key: str) -> Retained | None:  # noqa: N805
        """
        Return the retained update of a topic and a key; ``None`` if none is retained.
        """

    def owned(owner: str) -> int:  # noqa: N805
        """
        Return how many retained updates have an owner.
        """

    def read(topics: Collection[str] | None, after: int, up_to: int) -> Deferred[RetainedPage]:  # noqa: N805
        """
        Read the retained updates with positions after ``after`` and up to ``up_to``, as one page.

        The Deferred fires when the page agrees with the updates that the journal's follower has been given.

        :param topics: the topics under which they are retained; ``None`` for all.
        """


class _Retained(Protocol):
    @property
    def count(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def is_empty(self) -> bool: ...

    @property
    def changed_at(self) -> int: ...

    def topics(self) -> Iterable[str]: ...

    def find(self, topic: str, key: str, /) -> Retained | None: ...

    def owned(self, owner: str, /) -> int: ...

    def read(self, topics: Collection[str] | None, after: int, up_to: int, /) -> Deferred[RetainedPage]: ...


# For type checkers that do not support zope.interface; see :mod:`txsse._typing`.
AnyRetained: TypeAlias = IRetained | _Retained

"""
The updates that a subscriber wants and may receive, now and at earlier positions of the journal.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from txsse.topics.topic_set import TopicSet

__all__ = ["Earlier", "Restricted", "may_have", "seek"]


@dataclass(frozen=True)
class Earlier:
    """
    Topics and grants that a subscriber had up to a position.

    :ivar up_to: the position; ``None`` if the journal has not been started yet.
    """

    __slots__ = ("private", "topics", "up_to")

    up_to: int | None
    topics: TopicSet
    private: TopicSet


class Restricted(Protocol):
    """
    An update, or one that is retained: the object that the rights of a subscriber are applied to.
    """

    @property
    def topics(self) -> tuple[str, ...]:
        """
        The topics that it was published to.
        """

    @property
    def private(self) -> bool:
        """
        Whether it is private.
        """


def may_have(topics: TopicSet, private: TopicSet, update: Restricted) -> bool:
    """
    Return whether a subscriber with these topics and grants may receive an update.
    """
    return topics.has(update.topics) and (not update.private or private.has(update.topics))


def seek(topics: TopicSet, private: TopicSet, update: Restricted) -> Generator[None, None, bool]:
    """
    Return the same as :func:`may_have`, in steps.
    """
    if not (yield from topics.seek(update.topics)):
        return False
    return not update.private or (yield from private.seek(update.topics))

"""
Read-only views of a hub's subscribers and their counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from txsse.hub.subscriber import Subscriber
from txsse.topics.topic_set import ALL

__all__ = ["Counts", "Subscribers"]


class Counts(Mapping[str, int]):
    """
    How many subscribers each topic has, for the other nodes; ``*`` stands for all subscribers.

    This is a view: with 100,000 topics, a copy would take milliseconds.
    """

    def __init__(self, members: Collection[object], by_topic: Mapping[str, int]) -> None:
        self._members = members
        self._by_topic = by_topic

    def __getitem__(self, topic: str) -> int:
        return len(self._members) if topic == ALL else self._by_topic[topic]

    def __iter__(self) -> Iterator[str]:
        yield ALL
        yield from self._by_topic

    def __len__(self) -> int:
        return 1 + len(self._by_topic)


class Subscribers:
    """
    A view of the subscribers of a hub, for its program; it reflects later changes.

    :ivar by_topic: how many subscribers name each topic, not counting patterns that match it; 0 for any other
        topic.
    """

    def __init__(self, members: Collection[Subscriber], by_topic: Mapping[str, int]) -> None:
        self._members = members
        self.by_topic = by_topic

    @property
    def total(self) -> int:
        """
        The number of subscribers.
        """
        return len(self._members)

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[Subscriber]:
        # A copy: the caller may close channels while it iterates.
        return iter(list(self._members))

    def __getitem__(self, topic: str) -> int:
        return self.by_topic[topic]

    def __repr__(self) -> str:
        return f"<Subscribers {self.total} in all, of {len(self.by_topic)} topics>"

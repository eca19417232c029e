"""
Read-only views of a hub's subscribers and their counts.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from txsse.hub.subscriber import Subscriber
from txsse.hub.topic_index import TopicIndex
from txsse.server.access import check_key
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

    def __init__(
        self,
        members: Collection[Subscriber],
        index: TopicIndex[Subscriber],
        by_key: Mapping[Hashable, Iterable[Subscriber]],
    ) -> None:
        self._members = members
        self._index = index
        self._by_key = by_key
        self.by_topic = index.counts()

    def of(self, topic: str) -> list[Subscriber]:
        """
        Return the subscribers of a topic, by its name or by a pattern.

        :param topic: the name of the topic.
        """
        return self._index.audience((topic,))

    def with_key(self, key: Hashable) -> list[Subscriber]:
        """
        Return the subscribers whose streams have a key.

        :param key: the key; see :class:`~txsse.Access`.
        :raises TypeError: if it is not hashable.
        """
        check_key(key)
        return list(self._by_key.get(key, ()))

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

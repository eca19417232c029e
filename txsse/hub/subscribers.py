"""
The subscribers of a hub, for whoever looks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from txsse.hub.subscriber import Subscriber
from txsse.journal.update import ALL

__all__ = ["Counts", "Subscribers"]


class Counts(Mapping[str, int]):
    """
    How many subscribers want each topic, and under ``*`` how many there are in all. A view: with 100,000
    topics, a copy would take milliseconds.
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
    The subscribers of a hub. It shows how things are when it is looked at.

    :ivar by_topic: how many want each topic by its name.
    """

    def __init__(self, members: Collection[Subscriber], by_topic: Mapping[str, int]) -> None:
        self._members = members
        self.by_topic = by_topic

    @property
    def total(self) -> int:
        """
        How many there are in all.
        """
        return len(self._members)

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[Subscriber]:
        # A copy: who is closed on the way leaves.
        return iter(list(self._members))

    def __getitem__(self, topic: str) -> int:
        return self.by_topic[topic]

    def __repr__(self) -> str:
        return f"<Subscribers {self.total} in all, of {len(self.by_topic)} topics>"

"""
Who is to get an update: members by the topics that they want.

Strategy: what is asked for most often, an exact topic, is one look into a dictionary, beside however many
other topics and members there are. A pattern is asked about a topic once; the answer is remembered for the
topics used last, and only patterns that came since are asked anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from txsse.hub.topics import ISelector, TopicSet, selects

__all__ = ["TopicIndex"]

M = TypeVar("M")

# How many topics' matching patterns are remembered.
_REMEMBERED_TOPICS = 10_000


class TopicIndex(Generic[M]):
    """
    Members by topic.
    """

    def __init__(self) -> None:
        # Members in dictionaries without values: sets that keep their order.
        self._exact: dict[str, dict[M, None]] = {}
        self._all: dict[M, None] = {}
        self._selectors: dict[ISelector, _Selected[M]] = {}
        self._newest = 0
        # The topics whose counts have changed; ``None`` as long as nobody asks for them.
        self._changed: set[str] | None = None
        self._remembered: OrderedDict[str, _Remembered[M]] = OrderedDict()

    def add(self, member: M, wanted: TopicSet) -> None:
        """
        Take in a member.
        """
        if self._changed is not None:
            self._changed.update(wanted.exact)
        if wanted.all:
            self._all[member] = None
        for topic in wanted.exact:
            members = self._exact.get(topic)
            if members is None:
                self._exact[topic] = {member: None}
            else:
                members[member] = None
        for selector in wanted.selectors:
            selected = self._selectors.get(selector)
            if selected is None:
                self._newest += 1
                selected = self._selectors[selector] = _Selected(self._newest)
            selected.members[member] = None

    def remove(self, member: M, wanted: TopicSet) -> None:
        """
        Forget a member that was added with the same topics.
        """
        if self._changed is not None:
            self._changed.update(wanted.exact)
        if wanted.all:
            self._all.pop(member, None)
        for topic in wanted.exact:
            members = self._exact.get(topic, {})
            members.pop(member, None)
            if not members:
                self._exact.pop(topic, None)
        for selector in wanted.selectors:
            selected = self._selectors.get(selector)
            if selected is not None:
                selected.members.pop(member, None)
                if not selected.members:
                    del self._selectors[selector]

    def audience(self, topics: tuple[str, ...]) -> list[M]:
        """
        Return the members that want any of these topics, each once.
        """
        groups = [self._all] if self._all else []
        for topic in topics:
            members = self._exact.get(topic)
            if members:
                groups.append(members)
            if self._selectors:
                groups += self._selected(topic)
        if len(groups) == 1:
            return list(groups[0])
        union: dict[M, None] = {}
        for group in groups:
            union.update(group)
        return list(union)

    def counts(self) -> Mapping[str, int]:
        """
        Return how many members want each topic, without those that want it by a pattern. It is a view: it
        shows how things are when it is looked at.
        """
        return _Counts(self._exact)

    def take_changed(self) -> set[str]:
        """
        Return the topics whose counts may have changed since this was called last.
        """
        changed, self._changed = self._changed, set()
        return set() if changed is None else changed

    def _selected(self, topic: str) -> list[dict[M, None]]:
        remembered = self._remembered.get(topic)
        if remembered is None:
            remembered = self._remembered[topic] = _Remembered()
            if len(self._remembered) > _REMEMBERED_TOPICS:
                self._remembered.popitem(last=False)
        else:
            self._remembered.move_to_end(topic)
        if remembered.asked < self._newest:
            for selector, selected in reversed(self._selectors.items()):
                if selected.number <= remembered.asked:
                    break
                if selects(selector, topic):
                    remembered.matching.append(selected)
            remembered.asked = self._newest
        # Patterns that nobody has any more.
        if any(not selected.members for selected in remembered.matching):
            remembered.matching = [selected for selected in remembered.matching if selected.members]
        return [selected.members for selected in remembered.matching]


class _Selected(Generic[M]):
    """
    The members that want what a pattern selects.

    :param number: the patterns' numbers grow as they come.
    """

    __slots__ = ("members", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.members: dict[M, None] = {}


class _Remembered(Generic[M]):
    """
    The patterns that select a topic, among all up to the number asked.
    """

    __slots__ = ("asked", "matching")

    def __init__(self) -> None:
        self.asked = 0
        self.matching: list[_Selected[M]] = []


class _Counts(Mapping[str, int], Generic[M]):
    def __init__(self, exact: dict[str, dict[M, None]]) -> None:
        self._exact = exact

    def __getitem__(self, topic: str) -> int:
        # A topic that nobody wants has no subscribers, and is no mistake.
        return len(self._exact.get(topic, ()))

    def __contains__(self, topic: object) -> bool:
        return topic in self._exact

    def __iter__(self) -> Iterator[str]:
        return iter(self._exact)

    def __len__(self) -> int:
        return len(self._exact)

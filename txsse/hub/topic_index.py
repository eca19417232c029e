"""
Who is to get an update: members by the topics that they want.

Strategy: what is asked for most often, an exact topic, is one look into a dictionary, beside however many
other topics and members there are. A pattern is asked about a topic once; the answer is remembered for the
topics used last, and only patterns that came since are asked anew. To ask many patterns about many topics
goes by steps, between which the reactor may have its turn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from typing import Generic, TypeVar

from txsse.hub.topics import STEP_WEIGHT, ISelector, TopicSet, selects, weight_of

__all__ = ["TopicIndex"]

M = TypeVar("M")

# How many topics' matching patterns are remembered.
_REMEMBERED_TOPICS = 10_000

# How many patterns are remembered for all of them together, in some 2 MB: where each topic has many.
_REMEMBERED_PATTERNS = 200_000

# What it weighs to go through the members of a pattern, beside asking one.
_GROUP_WEIGHT = 10


class TopicIndex(Generic[M]):
    """
    Members by topic.

    :ivar weight: what all patterns weigh together, each of them once, however many members have it.
    """

    def __init__(self) -> None:
        # Members in dictionaries without values: sets that keep their order.
        self._exact: dict[str, dict[M, None]] = {}
        self._all: dict[M, None] = {}
        self._selectors: dict[ISelector, _Selected[M]] = {}
        self.weight = 0
        self._newest = 0
        # The topics whose counts have changed; ``None`` as long as nobody asks for them.
        self._changed: set[str] | None = None
        self._asked = 0
        self._remembered: OrderedDict[str, _Remembered[M]] = OrderedDict()
        self._remembered_patterns = 0

    def new_weight(self, wanted: TopicSet) -> int:
        """
        Return what those of a member's patterns weigh that nobody else has.
        """
        return sum(weight_of(selector) for selector in wanted.selectors if selector not in self._selectors)

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
                selected = self._selectors[selector] = _Selected(self._newest, weight_of(selector))
                self.weight += selected.weight
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
                    self.weight -= selected.weight
                    del self._selectors[selector]

    def audience(self, topics: tuple[str, ...]) -> list[M]:
        """
        Return the members that want any of these topics, each once.
        """
        steps = self.find_audience(topics)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                audience: list[M] = end.value
                return audience

    def find_audience(self, topics: tuple[str, ...]) -> Generator[None, None, list[M]]:
        """
        Return the same, in steps. Members that are added or removed between two of them may be there or not.
        """
        # A pattern may select many of the topics.
        groups: dict[int, dict[M, None]] = {id(self._all): self._all} if self._all else {}
        for topic in topics:
            members = self._exact.get(topic)
            if members:
                groups[id(members)] = members
            if self._selectors:
                for selected in (yield from self._selected(topic)):
                    groups[id(selected.members)] = selected.members
        if len(groups) == 1:
            return list(*groups.values())
        union: dict[M, None] = {}
        for group in groups.values():
            union.update(group)
            if self._is_step(_GROUP_WEIGHT):
                yield
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

    def _selected(self, topic: str) -> Generator[None, None, list[_Selected[M]]]:
        remembered = self._remembered.get(topic)
        if remembered is None:
            remembered = self._remembered[topic] = _Remembered()
        else:
            self._remembered.move_to_end(topic)
        matching = remembered.matching
        if remembered.asked < self._newest:
            newest, new, found = self._newest, [], []
            for selector, selected in reversed(self._selectors.items()):
                if selected.number <= remembered.asked:
                    break
                new.append((selector, selected))
            for selector, selected in new:
                if selects(selector, topic):
                    found.append(selected)
                if self._is_step(selected.weight):
                    yield
            remembered.asked = newest
            matching = [*matching, *found]
        # Patterns that nobody has any more.
        if any(not selected.members for selected in matching):
            matching = [selected for selected in matching if selected.members]
        self._remember(topic, remembered, matching)
        if self._is_step(_GROUP_WEIGHT * len(matching)):
            yield
        return matching

    def _remember(self, topic: str, remembered: _Remembered[M], matching: list[_Selected[M]]) -> None:
        if self._remembered.get(topic) is remembered:
            self._remembered_patterns += len(matching) - len(remembered.matching)
        remembered.matching = matching
        while len(self._remembered) > 1 and (
            len(self._remembered) > _REMEMBERED_TOPICS or self._remembered_patterns > _REMEMBERED_PATTERNS
        ):
            _, oldest = self._remembered.popitem(last=False)
            self._remembered_patterns -= len(oldest.matching)

    def _is_step(self, weight: int) -> bool:
        """
        Tell whether so much has been done, with this, that the reactor may have its turn.
        """
        self._asked += weight
        if self._asked < STEP_WEIGHT:
            return False
        self._asked = 0
        return True


class _Selected(Generic[M]):
    """
    The members that want what a pattern selects.

    :param number: the patterns' numbers grow as they come.
    :param weight: what the pattern weighs.
    """

    __slots__ = ("members", "number", "weight")

    def __init__(self, number: int, weight: int) -> None:
        self.number = number
        self.weight = weight
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

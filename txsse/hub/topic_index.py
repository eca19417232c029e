"""
An index from topics to members: which subscribers want an update.

Strategy: an exact topic, the most frequent case, is one dictionary look-up, however many topics and members
there are. A pattern is matched with a topic once. The results are cached for the topics used last, and only
newer patterns are matched when a topic is used again. Matching many patterns with many topics runs in steps,
between which the reactor may have its turn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from typing import Generic, TypeVar

from txsse.topics.topic_set import STEP_WEIGHT, ISelector, TopicSet, selects, weight_of

__all__ = ["TopicIndex"]

M = TypeVar("M")

# For how many topics the matching patterns are cached.
_REMEMBERED_TOPICS = 10_000

# How many matching patterns are cached for all topics together, in some 2 MB: each topic may have many.
_REMEMBERED_PATTERNS = 200_000

# The weight of collecting a pattern's members, in addition to that of matching it.
_GROUP_WEIGHT = 10


class TopicIndex(Generic[M]):
    """
    Members by the topics and patterns that they want.

    :ivar weight: the weight of all patterns together. Each counts once, however many members have it.
    """

    def __init__(self) -> None:
        # Dictionaries without values: sets that keep their order.
        self._exact: dict[str, dict[M, None]] = {}
        self._all: dict[M, None] = {}
        self._selectors: dict[ISelector, _Selected[M]] = {}
        self.weight = 0
        self._newest = 0
        # The topics whose counts have changed; ``None`` until ``take_changed`` is called first.
        self._changed: set[str] | None = None
        self._asked = 0
        self._remembered: OrderedDict[str, _Remembered[M]] = OrderedDict()
        self._remembered_patterns = 0

    def new_weight(self, wanted: TopicSet) -> int:
        """
        Return the weight of those of a new member's patterns that no other member has.
        """
        return sum(weight_of(selector) for selector in wanted.selectors if selector not in self._selectors)

    def freed_weight(self, member: M, given_up: TopicSet) -> int:
        """
        Return the weight of those of a member's patterns that no other member has.
        """
        return sum(
            weight_of(selector)
            for selector in given_up.selectors
            if self._selectors[selector].members.keys() == {member}
        )

    def replace(self, member: M, before: TopicSet, after: TopicSet) -> None:
        """
        Replace the topics of a member. Topics that it keeps stay in place, so no pattern is matched anew.
        """
        self.remove(member, before.without(after))
        self.add(member, after.without(before))

    def add(self, member: M, wanted: TopicSet) -> None:
        """
        Add a member.
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
        Remove a member that was added with the same topics.
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
        Return the same as :meth:`audience`, in steps.

        Members that are added or removed between two steps may be included or not.
        """
        # Each group of members once: a pattern may match several of the topics.
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
        Return how many members want each topic by its name, not by a pattern, as a live view.
        """
        return _Counts(self._exact)

    def take_changed(self) -> set[str]:
        """
        Return the topics whose counts may have changed since the last call.

        The first call begins to record them, and returns no topics.
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
        # Patterns may have lost their last member since they were matched.
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
        Add to the work done, and return whether it makes up a step.
        """
        self._asked += weight
        if self._asked < STEP_WEIGHT:
            return False
        self._asked = 0
        return True


class _Selected(Generic[M]):
    """
    A pattern's members.

    :param number: the pattern's number: later patterns have greater ones.
    :param weight: the pattern's weight.
    """

    __slots__ = ("members", "number", "weight")

    def __init__(self, number: int, weight: int) -> None:
        self.number = number
        self.weight = weight
        self.members: dict[M, None] = {}


class _Remembered(Generic[M]):
    """
    The patterns that match a topic, among all patterns up to the number ``asked``.
    """

    __slots__ = ("asked", "matching")

    def __init__(self) -> None:
        self.asked = 0
        self.matching: list[_Selected[M]] = []


class _Counts(Mapping[str, int], Generic[M]):
    def __init__(self, exact: dict[str, dict[M, None]]) -> None:
        self._exact = exact

    def __getitem__(self, topic: str) -> int:
        # A topic without subscribers is no error: its count is 0.
        return len(self._exact.get(topic, ()))

    def __contains__(self, topic: object) -> bool:
        return topic in self._exact

    def __iter__(self) -> Iterator[str]:
        return iter(self._exact)

    def __len__(self) -> int:
        return len(self._exact)

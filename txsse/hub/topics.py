"""
What a subscriber wants: exact topics, all of them (``*``), and whatever else can tell whether a topic is
meant.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeAlias

from twisted.logger import Logger
from zope.interface import Interface

__all__ = ["ALL", "ISelector", "TopicSet", "Topics", "selects"]

_log = Logger()

ALL = "*"


class ISelector(Interface):
    """
    A pattern of topics.

    Selectors are kept in dictionaries: those that mean the same are to be equal and have the same hash, so
    that a thousand subscribers with one pattern cost one match. What a selector answers must not change, and
    must not take long, whatever the topic: it comes from whoever publishes.
    """

    def matches(topic: str) -> bool:  # noqa: N805
        """
        Tell whether a topic is meant.
        """


Topics: TypeAlias = "str | ISelector | Iterable[str | ISelector]"


class TopicSet:
    """
    Topics and patterns, told apart. It does not change.

    :param topics: a topic, a selector, or several of them; ``*`` for all topics.
    :raises TypeError: for anything else.
    """

    __slots__ = ("all", "exact", "selectors")

    def __init__(self, topics: Topics = ()) -> None:
        given: Iterable[object]
        if isinstance(topics, str) or ISelector.providedBy(topics):
            given = [topics]
        elif isinstance(topics, Iterable):
            given = topics
        else:
            raise TypeError(f"topics must be strings or selectors, not {type(topics).__name__}")
        exact: dict[str, None] = {}
        selectors: dict[ISelector, None] = {}
        self.all = False
        for topic in given:
            if topic == ALL:
                self.all = True
            elif isinstance(topic, str):
                exact[topic] = None
            elif ISelector.providedBy(topic):
                selectors[topic] = None
            else:
                raise TypeError(f"a topic must be a string or a selector, not {type(topic).__name__}")
        self.exact = tuple(exact)
        self.selectors = tuple(selectors)

    @property
    def key(self) -> Hashable:
        """
        What is the same for all with the same topics and patterns.
        """
        return self.all, self.exact, self.selectors

    def __len__(self) -> int:
        return len(self.exact) + len(self.selectors) + self.all

    def __iter__(self) -> Iterator[object]:
        return iter((*self.exact, *self.selectors, *([ALL] if self.all else [])))

    def __repr__(self) -> str:
        return f"TopicSet({[*self.exact, *self.selectors, *([ALL] if self.all else [])]!r})"

    def has(self, topics: Iterable[str]) -> bool:
        """
        Tell whether any of an update's topics is among these.
        """
        if self.all:
            return True
        return any(
            topic in self.exact or any(selects(selector, topic) for selector in self.selectors)
            for topic in topics
        )


def selects(selector: ISelector, topic: str) -> bool:
    """
    Ask a selector. One that fails selects nothing: the others' updates do not depend on it.
    """
    try:
        return bool(selector.matches(topic))
    except Exception:
        _log.failure("{selector} failed on a topic", selector=selector, topic=topic)
        return False

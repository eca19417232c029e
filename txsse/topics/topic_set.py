"""
The topics of a subscription: exact topics, all topics (``*``), and selectors, which are patterns of topics.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Iterator
from typing import Protocol, TypeAlias

from twisted.logger import Logger
from zope.interface import Interface

from txsse._arguments import wrong_type

__all__ = ["ALL", "STEP_WEIGHT", "ISelector", "TopicSet", "Topics", "selects", "weight_of"]

_log = Logger()

# Stands for all topics. No topic may have this name.
ALL = "*"

# The weight of a selector without a ``weight``.
_DEFAULT_WEIGHT = 100

#: The weight of the selectors that are matched in one step of a longer piece of work. URL patterns and
#: templates take at most 0.1 µs for each unit of weight and a topic of 2 KB, so a step takes a millisecond,
#: plus one selector.
STEP_WEIGHT = 10_000


class ISelector(Interface):
    """
    A pattern of topics. :class:`txsse.TopicPattern` is one for topics that are paths.

    Selectors are keys of dictionaries: selectors with the same meaning must be equal and have the same hash,
    so that a thousand subscribers with one pattern cost one match. The result of a selector must never
    change. It must be fast for any topic: topics come from publishers.

    A selector may have an attribute ``weight``, an integer that does not change: its cost in memory and time,
    which counts toward the limit of a :class:`~txsse.Hub`. A unit is a tenth of a KiB of memory, or 0.1 µs
    for a topic of 2 KB, whichever is more. The default is 100.
    """

    def matches(topic: str) -> bool:  # noqa: N805
        """
        Return whether the pattern matches a topic.
        """


class _Selector(Protocol):
    # An ISelector for type checkers: see txsse._typing.
    def matches(self, topic: str, /) -> bool: ...


_Topic: TypeAlias = "str | ISelector | _Selector"
Topics: TypeAlias = "_Topic | Iterable[_Topic]"


class TopicSet:
    """
    An immutable set of exact topics and selectors.

    :param topics: a topic, a selector, or several of them; ``*`` for all topics.
    :raises TypeError: for anything else.
    """

    __slots__ = ("all", "exact", "selectors")

    def __init__(self, topics: Topics = ()) -> None:
        given: Iterable[object]
        if isinstance(topics, bytes):
            raise wrong_type("topics", topics, "str, such as 'news', or several of them")
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

    def includes(self, other: TopicSet) -> bool:
        """
        Return whether this set has every topic and selector of another one, or ``*``.

        A selector that matches an exact topic does not count: this is a comparison, and matches nothing.
        """
        return self.all or not other.without(self)

    def without(self, other: TopicSet) -> TopicSet:
        """
        Return the topics and selectors that another set does not have.
        """
        rest = TopicSet()
        rest.all = self.all and not other.all
        exact, selectors = frozenset(other.exact), frozenset(other.selectors)
        rest.exact = tuple(topic for topic in self.exact if topic not in exact)
        rest.selectors = tuple(selector for selector in self.selectors if selector not in selectors)
        return rest

    @property
    def key(self) -> Hashable:
        """
        A hashable value that is equal for sets with the same topics and selectors.
        """
        return self.all, self.exact, self.selectors

    def __len__(self) -> int:
        return len(self.exact) + len(self.selectors) + self.all

    def __iter__(self) -> Iterator[str | ISelector]:
        return iter((*self.exact, *self.selectors, *([ALL] if self.all else [])))

    def __repr__(self) -> str:
        return f"TopicSet({[*self.exact, *self.selectors, *([ALL] if self.all else [])]!r})"

    def has(self, topics: Iterable[str]) -> bool:
        """
        Return whether the set matches any of an update's topics.
        """
        if self._has_exactly(topics := tuple(topics)):
            return True
        return any(selects(selector, topic) for topic in topics for selector in self.selectors)

    def seek(self, topics: Iterable[str]) -> Generator[None, None, bool]:
        """
        Return the same as :meth:`has`, in steps. The reactor may have its turn after each.
        """
        if self._has_exactly(topics := tuple(topics)):
            return True
        asked = 0
        for topic in topics:
            for selector in self.selectors:
                if selects(selector, topic):
                    return True
                asked += weight_of(selector)
                if asked >= STEP_WEIGHT:
                    asked = 0
                    yield
        return False

    def _has_exactly(self, topics: tuple[str, ...]) -> bool:
        # A set: there may be a hundred topics on each side.
        return self.all or not frozenset(self.exact).isdisjoint(topics)


def weight_of(selector: ISelector) -> int:
    """
    Return the weight of a selector: its cost in memory and time.
    """
    weight: int = getattr(selector, "weight", _DEFAULT_WEIGHT)
    return weight


def selects(selector: ISelector, topic: str) -> bool:
    """
    Match a selector with a topic. A selector that raises is logged, and does not match.

    Its error must not affect other subscribers.
    """
    try:
        return bool(selector.matches(topic))
    except Exception:
        _log.failure("{selector} failed on a topic", selector=selector, topic=topic)
        return False

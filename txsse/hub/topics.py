"""
What a subscriber wants: exact topics, all of them (``*``), and whatever else can tell whether a topic is
meant.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Iterator
from typing import Protocol, TypeAlias

from twisted.logger import Logger
from zope.interface import Interface

from txsse._arguments import wrong_type
from txsse.journal.update import ALL

__all__ = ["STEP_WEIGHT", "ISelector", "TopicSet", "Topics", "selects", "weight_of"]

_log = Logger()

# What a selector weighs that does not say so.
_DEFAULT_WEIGHT = 100

#: How much weight is asked in one step of a longer piece of work. URL patterns and templates take 0.1 µs at
#: most for each unit of weight and a topic of 2 KB, so a step takes a millisecond, and one selector more.
STEP_WEIGHT = 10_000


class ISelector(Interface):
    """
    A pattern of topics.

    Selectors are kept in dictionaries: those that mean the same are to be equal and have the same hash, so
    that a thousand subscribers with one pattern cost one match. What a selector answers must not change, and
    must not take long, whatever the topic: it comes from whoever publishes.

    A selector may have an attribute ``weight``, an integer that does not change: what it costs to hold and to
    ask, for the bound of a :class:`~txsse.Hub`. A unit is a tenth of a KiB of memory, or 0.1 µs for a topic
    of 2 KB, whichever is more. A selector without one weighs 100.
    """

    def matches(topic: str) -> bool:  # noqa: N805
        """
        Tell whether a topic is meant.
        """


class _Selector(Protocol):
    # An ISelector for type checkers: see txsse._typing.
    def matches(self, topic: str, /) -> bool: ...


_Topic: TypeAlias = "str | ISelector | _Selector"
Topics: TypeAlias = "_Topic | Iterable[_Topic]"


class TopicSet:
    """
    Topics and patterns, told apart. It does not change.

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
        if self._has_exactly(topics := tuple(topics)):
            return True
        return any(selects(selector, topic) for topic in topics for selector in self.selectors)

    def seek(self, topics: Iterable[str]) -> Generator[None, None, bool]:
        """
        Tell the same as :meth:`has`, in steps: after each, the caller may let the reactor have its turn.
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
        # A hundred topics may be asked about a hundred.
        return self.all or not frozenset(self.exact).isdisjoint(topics)


def weight_of(selector: ISelector) -> int:
    """
    Return what a selector costs to hold and to ask.
    """
    weight: int = getattr(selector, "weight", _DEFAULT_WEIGHT)
    return weight


def selects(selector: ISelector, topic: str) -> bool:
    """
    Ask a selector. One that fails selects nothing: the others' updates do not depend on it.
    """
    try:
        return bool(selector.matches(topic))
    except Exception:
        _log.failure("{selector} failed on a topic", selector=selector, topic=topic)
        return False

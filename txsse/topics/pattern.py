"""
:class:`TopicPattern`: selects topics by the segments of their paths, with the wildcards ``*`` and ``**``.

Strategy: a pattern is cut at its ``**``. The segments before the first one and after the last one have their
places at the ends of a topic, and are compared there, one by one; this decides most patterns, however long
the topic is. Only a pattern with more than one ``**`` passes over the segments in between, once: the parts of
the pattern that are reachable are bits of one integer. So a topic is matched without backtracking, whatever
the topic and the pattern are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zope.interface import implementer

from txsse._arguments import wrong_type
from txsse.topics.topic_set import ISelector

__all__ = ["MAX_PATTERN_LENGTH", "TopicPattern"]

#: The maximum length of a pattern, in characters. Patterns may come from clients; a path of a file may have
#: 4,096, and no topic that people write comes near half of that.
MAX_PATTERN_LENGTH = 2048

_ONE = "*"
_ANY = "**"

# Weights, in the unit of ISelector: 0.1 µs for a topic of 2 KB, or a tenth of a KiB of memory. As measured,
# a match takes 1 µs, and 0.1 µs for each segment that is compared at an end of the topic. A topic of 2 KB has
# up to 2,049 segments, each of which takes 0.1 µs where all segments must be passed over.
_WEIGHT = 10
_WEIGHT_OF_PASSING = 2_500
# A character takes up to 4 bytes, in the pattern and in one of its segments.
_CHARACTERS_PER_WEIGHT = 12


@implementer(ISelector)
@dataclass(frozen=True, slots=True, repr=False)
class TopicPattern:
    """
    A pattern of topics that are paths, such as ``builders/*/builds/**``. It is immutable.

    The segments of a topic are the texts between its slashes. In a pattern,

    - ``*`` matches exactly one segment, which is not empty;
    - ``**`` matches any number of segments, also none: ``a/**/b`` matches ``a/b``, and ``a/**`` matches
      ``a``;
    - any other segment matches the same text, case included.

    A topic that begins with a slash has an empty first segment, which only an empty segment or ``**``
    matches: ``/a/*`` matches ``/a/b``, ``*/a`` matches neither ``/a`` nor ``/x/a``, and ``**/a`` matches all
    of them. ``TopicPattern("*")`` matches the topics without a slash, except the empty one, while the text
    ``"*"`` is a subscription to all topics.

    For example::

        hub.subscribe(channel, TopicPattern("builders/*/builds/**"))

    Two patterns are equal if their texts are. A match takes about a microsecond, plus 0.1 µs for each segment
    of the pattern; a pattern with more than one ``**`` also takes up to 0.1 µs for each segment of the topic,
    and has a ``weight`` of at least 2,500 instead of some 20.

    :param pattern: the pattern, at most 2,048 characters.
    :ivar pattern: the pattern.
    :ivar weight: the cost of the pattern; see :class:`txsse.ISelector`.
    :raises ValueError: for an empty or too long pattern, for a ``*`` next to another character in a segment,
        and for a lone surrogate, which no topic contains.
    :raises TypeError: if the pattern is not a ``str``.
    """

    pattern: str
    weight: int = field(init=False, compare=False)
    _head: tuple[str, ...] = field(init=False, compare=False)
    _tail: tuple[str, ...] = field(init=False, compare=False)
    _middle: _Middle | None = field(init=False, compare=False)
    _is_open: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        pattern = _check(self.pattern)
        segments = pattern.split("/")
        groups = _cut(segments)
        is_open = len(groups) > 1
        middle = _Middle(groups[1:-1]) if any(groups[1:-1]) else None
        weight = _WEIGHT + len(segments) + len(pattern) // _CHARACTERS_PER_WEIGHT
        for name, value in (
            ("pattern", pattern),
            ("weight", weight if middle is None else weight + _WEIGHT_OF_PASSING),
            ("_head", tuple(groups[0])),
            ("_tail", tuple(groups[-1]) if is_open else ()),
            ("_middle", middle),
            ("_is_open", is_open),
        ):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self.pattern

    def __repr__(self) -> str:
        return f"TopicPattern({self.pattern!r})"

    def __reduce__(self) -> tuple[type[TopicPattern], tuple[str]]:
        # Without it, copies would be made from the fields, and unpickling would skip the checks.
        return type(self), (self.pattern,)

    def matches(self, topic: str) -> bool:
        """
        Return whether the pattern matches a topic.

        :param topic: the topic.
        """
        head, tail = self._head, self._tail
        if not self._is_open:
            return topic.count("/") == len(head) - 1 and _fit(head, topic.split("/"))
        # Cut off as many segments as are compared, not all: a topic may have a million.
        begin = topic.split("/", len(head))
        if len(begin) < len(head) or not _fit(head, begin):
            return False
        if len(begin) == len(head):
            # Nothing is left of the topic; an empty rest would be one empty segment.
            return not tail and self._middle is None
        if not tail and self._middle is None:
            return True
        end = begin[-1].rsplit("/", len(tail))
        left = len(end) - len(tail)
        if left < 0 or not _fit(tail, end[left:]):
            return False
        if self._middle is None:
            return True
        return bool(left) and self._middle.is_in(end[0].split("/"))


class _Middle:
    """
    The groups of segments between the ``**`` of a pattern.

    Each state is a bit: bit *n* is set if the first *n* segments of the groups have matched. Between groups,
    any number of other segments may follow, so a state there stays set.

    :param groups: the segments of each group.
    """

    __slots__ = ("_any", "_done", "_fitting", "_resting")

    def __init__(self, groups: list[list[str]]) -> None:
        segments = [segment for group in groups for segment in group]
        # The states before a segment, by the texts that fit it; and those before a ``*``, which every text
        # fits but the empty one.
        self._any = sum(1 << at for at, segment in enumerate(segments) if segment == _ONE)
        self._fitting: dict[str, int] = {"": 0}
        for at, segment in enumerate(segments):
            if segment != _ONE:
                self._fitting[segment] = self._fitting.get(segment, self._any) | 1 << at
        self._resting = 0
        at = 0
        for group in groups:
            self._resting |= 1 << at
            at += len(group)
        self._done = 1 << at

    def is_in(self, segments: list[str]) -> bool:
        """
        Return whether the groups occur in these segments, in their order and without overlapping.
        """
        fitting, others, resting, done = self._fitting, self._any, self._resting, self._done
        states = 1
        for segment in segments:
            states = (states & fitting.get(segment, others)) << 1 | states & resting
            if states >= done:
                return True
        return False


def _fit(pattern: tuple[str, ...], segments: list[str]) -> bool:
    """
    Return whether each segment of a pattern fits that of a topic at its place; the topic may have more.
    """
    for wanted, segment in zip(pattern, segments, strict=False):
        if wanted != segment and not (wanted == _ONE and segment):
            return False
    return True


def _cut(segments: list[str]) -> list[list[str]]:
    """
    Return the segments before, between and after the ``**`` of a pattern.
    """
    groups: list[list[str]] = [[]]
    for segment in segments:
        if segment == _ANY:
            groups.append([])
        else:
            groups[-1].append(segment)
    return groups


def _check(pattern: str) -> str:
    """
    Return a valid pattern as a plain string, or raise.
    """
    if not isinstance(pattern, str):
        raise wrong_type("pattern", pattern, "str, such as 'builders/*/builds/**'")
    # The methods of a subclass may differ.
    pattern = str.__str__(pattern)
    if not pattern:
        raise ValueError("the pattern is empty; '**' matches all topics")
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise ValueError(
            f"the pattern has {len(pattern)} characters, and {MAX_PATTERN_LENGTH} is the limit; "
            "replace its longest part with **, or write a selector of your own (txsse.ISelector)"
        )
    try:
        pattern.encode()
    except UnicodeEncodeError as error:
        character = f"U+{ord(pattern[error.start]):04X}"
        raise ValueError(
            f"the pattern has the lone surrogate {character} at position {error.start}, "
            "which no topic has: decode its text as UTF-8"
        ) from None
    for segment in pattern.split("/"):
        if "*" in segment and segment not in (_ONE, _ANY):
            raise ValueError(
                f"the pattern has a * within the segment {segment[:80]!r}; a * stands for a whole segment, "
                "and ** for any number of them: write * alone between slashes, or a selector of your own "
                "(txsse.ISelector)"
            )
    return pattern

"""
Matches topics against URL patterns.

The package ``urlpattern`` compiles a pattern with a regular expression engine that does not backtrack: the
time to match is the topic's length times the pattern's weight. The weight is estimated before the pattern is
compiled, so that a pattern that would take a second, or a hundred megabytes, is refused at no cost.

Source: https://urlpattern.spec.whatwg.org/
"""

from __future__ import annotations

import re
from weakref import WeakValueDictionary

from urlpattern import URLPattern
from zope.interface import implementer

from txsse.mercure.selectors.regex_cost import spell_out, weigh
from txsse.topics.topic_set import ISelector

__all__ = ["MAX_WEIGHT", "PatternSelector", "path_pattern", "weight_of"]

#: The maximum weight of a pattern, in tenths of a KiB: some 400 KiB, at the very most 640 KiB, and 2 ms to
#: compile.
MAX_WEIGHT = 4000

# The weight of every pattern, for its eight parts; of each name, wildcard and expression in it; and the
# repetition of a group, for which the engine writes the group twice.
_WEIGHT = 600
_GROUP_WEIGHT = 55
_REPEATED = re.compile(r"[)}*a-zA-Z0-9_][+*]")

# The maximum number of names, wildcards and expressions. Each doubles the state of the engine.
_MAX_GROUPS = 20

_GROUP = re.compile(r"[:*(]")


def weight_of(pattern: str) -> int:
    """
    Return an upper estimate of the memory of a compiled pattern, in tenths of a KiB.
    """
    groups = len(_GROUP.findall(pattern)) * _GROUP_WEIGHT + weigh(spell_out(pattern))
    return _WEIGHT + len(pattern) + groups * (2 if _REPEATED.search(pattern) else 1)


@implementer(ISelector)
class PatternSelector:
    """
    Selects the topics that match a pattern, as absolute or relative URLs.

    :param pattern: the pattern.
    :param base: the hub's URL, which relative patterns and topics are resolved against.
    :raises ValueError: for a text that is not a pattern, and for a pattern that is too expensive.
    """

    __slots__ = ("_compiled", "base", "pattern")

    def __init__(self, pattern: str, base: str) -> None:
        self.pattern = pattern
        self.base = base
        self._compiled = _compiled(pattern, base)

    def __repr__(self) -> str:
        return f"PatternSelector({self.pattern!r}, {self.base!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PatternSelector) and other.pattern == self.pattern and other.base == self.base
        )

    def __hash__(self) -> int:
        return hash((PatternSelector, self.pattern, self.base))

    @property
    def weight(self) -> int:
        """
        The memory of the compiled pattern, in tenths of a KiB.
        """
        return self._compiled.weight

    def matches(self, topic: str) -> bool:
        """
        Return whether a topic is selected. A topic that is not a URL is not.
        """
        return self._compiled.pattern.test(topic, self.base)


class _Compiled:
    """
    A compiled pattern, shared by all selectors with that pattern.
    """

    __slots__ = ("__weakref__", "pattern", "weight")

    def __init__(self, pattern: URLPattern, weight: int) -> None:
        self.pattern = pattern
        self.weight = weight


# A thousand subscribers with one pattern share its compiled form, which is kept as long as one of them uses
# it. An unused pattern is not kept: any client can send any number of patterns.
_in_use: WeakValueDictionary[tuple[str, str], _Compiled] = WeakValueDictionary()


def _compiled(pattern: str, base: str) -> _Compiled:
    known = _in_use.get((pattern, base))
    if known is None:
        weight = weight_of(pattern)
        if weight > MAX_WEIGHT or len(_GROUP.findall(pattern)) > _MAX_GROUPS:
            raise ValueError("it would take too long to match; use fewer groups, classes and repetitions")
        known = _in_use[pattern, base] = _Compiled(URLPattern(spell_out(pattern), base), weight)
    return known


def path_pattern(path: str) -> URLPattern:
    """
    Return a pattern that matches URLs whose path is the given one or below it.

    It matches any origin, and any percent-encoding of the characters.

    :param path: the path, of unreserved characters and slashes.
    """
    spelled = "".join(map(_spellings, path))
    return URLPattern({"pathname": f"((?:{spelled})(?:/.*)?)"})


def _spellings(character: str) -> str:
    code = f"{ord(character):02x}"
    escaped = f"\\{character}" if character in ".-" else character
    if character == "/":
        # In a URL, an encoded slash is a different character.
        return escaped
    cased = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in code)
    return f"(?:{escaped}|%{cased})"

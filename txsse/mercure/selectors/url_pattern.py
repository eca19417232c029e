"""
URL patterns.

The package ``urlpattern`` compiles them with a regular expression engine that never tracks back: its work is
the topic's length times the pattern's weight. What a pattern weighs is told beforehand, so that one that
would take a second, or a hundred megabytes, is refused and not tried.

Source: https://urlpattern.spec.whatwg.org/
"""

from __future__ import annotations

import re
from weakref import WeakValueDictionary

from urlpattern import URLPattern
from zope.interface import implementer

from txsse.hub.topics import ISelector
from txsse.mercure.selectors.regex_cost import spell_out, weigh

__all__ = ["MAX_WEIGHT", "PatternSelector", "path_pattern", "weight_of"]

#: What a pattern may weigh, in tenths of a KiB: some 400 KiB, and 640 at the very most, and 2 ms to compile.
MAX_WEIGHT = 4000

# What each weighs, for its eight parts, and each name, wildcard and expression in it, and what is repeated
# from outside of an expression: the engine writes that twice.
_WEIGHT = 600
_GROUP_WEIGHT = 55
_REPEATED = re.compile(r"[)}*a-zA-Z0-9_][+*]")

# How many names, wildcards and expressions it may have. Each doubles what the engine has to remember.
_MAX_GROUPS = 20

_GROUP = re.compile(r"[:*(]")


def weight_of(pattern: str) -> int:
    """
    Tell what a pattern weighs, roughly and at most: the memory that it takes, in tenths of a KiB.
    """
    groups = len(_GROUP.findall(pattern)) * _GROUP_WEIGHT + weigh(spell_out(pattern))
    return _WEIGHT + len(pattern) + groups * (2 if _REPEATED.search(pattern) else 1)


@implementer(ISelector)
class PatternSelector:
    """
    Selects the topics that are URLs, or can be taken for some, and match a pattern.

    :param pattern: the pattern.
    :param base: the hub's URL, which relative patterns and topics are resolved against.
    :raises ValueError: for a pattern that is none, and for one that is too heavy.
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
        What it takes, in tenths of a KiB.
        """
        return self._compiled.weight

    def matches(self, topic: str) -> bool:
        """
        Tell whether a topic is meant. One that is no URL is not.
        """
        return self._compiled.pattern.test(topic, self.base)


class _Compiled:
    """
    A compiled pattern, that those who use it share.
    """

    __slots__ = ("__weakref__", "pattern", "weight")

    def __init__(self, pattern: URLPattern, weight: int) -> None:
        self.pattern = pattern
        self.weight = weight


# A thousand subscribers with one pattern have one compiled one, for as long as one of them is there: one that
# nobody has is not kept, for anybody can bring as many as he likes.
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
    Make a pattern that tests whether a URL's path is this one, or below it, whatever its origin, and however
    its characters are written.

    :param path: the path, of unreserved characters and slashes.
    """
    spelled = "".join(map(_spellings, path))
    return URLPattern({"pathname": f"((?:{spelled})(?:/.*)?)"})


def _spellings(character: str) -> str:
    code = f"{ord(character):02x}"
    escaped = f"\\{character}" if character in ".-" else character
    if character == "/":
        # An encoded slash is another character, to URLs.
        return escaped
    cased = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in code)
    return f"(?:{escaped}|%{cased})"

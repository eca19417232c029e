"""
URL patterns.

The package ``urlpattern`` compiles them with a regular expression engine that never tracks back: its work is
the topic's length times the pattern's weight. What a pattern weighs is told beforehand, so that one that
would take a second, or a hundred megabytes, is refused and not tried.

Source: https://urlpattern.spec.whatwg.org/
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from urlpattern import URLPattern
from zope.interface import implementer

from txsse.hub.topics import ISelector

__all__ = ["MAX_WEIGHT", "PatternSelector", "path_pattern", "weight_of"]

# What a pattern may weigh: some 5 ms and 4 MiB to compile.
MAX_WEIGHT = 5000

# How many names, wildcards and expressions it may have. Each doubles what the engine has to remember.
_MAX_GROUPS = 20

# What stands for a great many characters of Unicode's, and what that weighs beside a plain one. Digits are
# fewer.
_CLASS = re.compile(r"\\[a-zA-Z]")
_CLASS_WEIGHT = 500
_DIGIT_WEIGHT = 200

# A class that is repeated by itself, as in a date, weighs no more than written that often.
_REPEATED_CLASS = re.compile(r"(\\[dDsSwW])\{(\d\d?)\}")

_GROUP = re.compile(r"[:*(]")
# The engine takes spaces anywhere in it.
_COUNT = re.compile(r"\{([\d\s]+)(?:,([\d\s]*))?\}")
_SPACE = re.compile(r"\s+")


def weight_of(pattern: str) -> int:
    """
    Tell what a pattern weighs at most: roughly, how many states its expression has.
    """
    pattern = _REPEATED_CLASS.sub(lambda found: found[1] * int(found[2]), pattern)
    classes = sum(_DIGIT_WEIGHT if each == r"\d" else _CLASS_WEIGHT for each in _CLASS.findall(pattern))
    counts = _COUNT.findall(pattern)
    repeated = math.prod(max(_number(least), _number(most)) + 1 for least, most in counts)
    return (len(pattern) + classes) * repeated


def _number(digits: str) -> int:
    return int(_SPACE.sub("", digits) or 0)


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
        self._compiled = _compile(pattern, base)

    def __repr__(self) -> str:
        return f"PatternSelector({self.pattern!r}, {self.base!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PatternSelector) and other.pattern == self.pattern and other.base == self.base
        )

    def __hash__(self) -> int:
        return hash((PatternSelector, self.pattern, self.base))

    def matches(self, topic: str) -> bool:
        """
        Tell whether a topic is meant. One that is no URL is not.
        """
        return self._compiled.test(topic, self.base)


# A thousand subscribers with one pattern have one compiled one.
@lru_cache(maxsize=1024)
def _compile(pattern: str, base: str) -> URLPattern:
    if weight_of(pattern) > MAX_WEIGHT or len(_GROUP.findall(pattern)) > _MAX_GROUPS:
        raise ValueError("it would take too long to match; use fewer groups, classes and repetitions")
    return URLPattern(pattern, base)


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

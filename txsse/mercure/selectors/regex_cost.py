"""
Regular expressions within URL patterns: what they weigh, and how they weigh less.

The engine knows all of Unicode, and ``\\w`` alone takes a hundred KiB. What it looks at is a part of a URL,
which is ASCII, and by the standard such a class is as well: https://tc39.es/ecma262/#sec-wordcharacters. So
classes are written out, before anything is weighed or compiled.
"""

from __future__ import annotations

import re

__all__ = ["spell_out", "weigh"]

_SPELLED = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[0-9A-Za-z_]",
    "W": "[^0-9A-Za-z_]",
    "s": r"[\x09-\x0D\x20]",
    "S": r"[^\x09-\x0D\x20]",
}

# What parts of an expression weigh, in tenths of a KiB, as it was measured: where it takes many bytes to tell
# what else a character may be, it is a lot.
_PLAIN = 3
_SET = 6
_SET_OF_OTHERS = 70
_ANY = 70
_CODE = 35
_REFUSED = 10_000

# Capital and small letters being the same, a K is a Kelvin as well.
_CASELESS = re.compile(r"\(\?[A-Za-z-]*i")
_CASELESS_FACTOR = 5
_VERBOSE = re.compile(r"\(\?[A-Za-z-]*x")

# The engine takes spaces anywhere in it.
_COUNT = re.compile(r"\{([\d\s]+)(?:,([\d\s]*))?\}")
_SPACE = re.compile(r"\s+")

# A part of a pattern: what is escaped, a bracket, any other character.
_TOKEN = re.compile(r"\\[xuUpP]\{[^}]*\}|\\.?|.", re.DOTALL)


def spell_out(pattern: str) -> str:
    """
    Write out the classes in the expressions of a pattern.
    """
    spelled: list[str] = []
    depth = sets = 0
    before = ""
    for token in _TOKEN.findall(pattern):
        if depth:
            sets = _sets_behind(token, sets, before)
        depth = _depth_behind(token, depth)
        sets = sets if depth else 0
        # A range that ends with a class is a mistake, which the engine is to find.
        if depth and token[1:] in _SPELLED and not (sets and before == "-" and spelled[-2] not in ("[", "^")):
            spelled.append(_SPELLED[token[1:]])
        else:
            spelled.append(token)
        before = _before(token, before)
    return "".join(spelled)


def weigh(pattern: str) -> int:
    """
    Tell what the expressions of a pattern weigh, in tenths of a KiB.

    :param pattern: the pattern, its classes written out.
    """
    weights = _Weights()
    depth = skipped = 0
    before = ""
    for found in _TOKEN.finditer(pattern):
        token = found[0]
        if found.start() < skipped:
            continue
        counted = _COUNT.match(pattern, found.start()) if depth and not weights.sets else None
        if counted is not None:
            weights.repeat(max(_number(counted[1]), _number(counted[2] or "") + 1))
            skipped = counted.end()
            continue
        elif token == "(" and not weights.sets:
            weights.open()
        elif token == ")" and (depth == 1 or not weights.sets):
            weights.close(all=depth == 1)
        elif depth:
            weights.add(token, before)
        depth = _depth_behind(token, depth)
        before = _before(token, before)
    if _VERBOSE.search(pattern):
        # There it cannot be told what is repeated.
        return _REFUSED
    return weights.total * (_CASELESS_FACTOR if _CASELESS.search(pattern) else 1)


class _Weights:
    """
    What is weighed so far.

    :ivar total: the weight of the group that is open.
    :ivar sets: how many sets, ``[…]``, are open.
    """

    def __init__(self) -> None:
        self.total = 0
        self.sets = 0
        # What a count that follows would repeat.
        self._last = 0
        self._outer: list[int] = []

    def open(self) -> None:
        """
        Begin a group.
        """
        self._outer.append(self.total)
        self.total = 0

    def close(self, *, all: bool) -> None:
        """
        End it, where one is open.

        :param all: whether this ends the expression.
        """
        while self._outer:
            self._last = self.total + _PLAIN
            self.total = self._outer.pop() + self._last
            if not all:
                return
        self.sets = 0

    def repeat(self, times: int) -> None:
        """
        Have what was last there some times.
        """
        self.total += self._last * (max(times, 1) - 1)
        self._last *= max(times, 1)

    def add(self, token: str, before: str) -> None:
        """
        Add what is neither.
        """
        within = self.sets
        self.sets = _sets_behind(token, within, before)
        weight = _weight_of(token, before, within)
        # What is in a set is repeated with it, and so is what says how often.
        self._last = self._last + weight if within or token in "+*?|" else weight
        self.total += weight


def _depth_behind(token: str, depth: int) -> int:
    # Also within a set: that is how it is told where an expression ends.
    return max(0, depth + (token == "(") - (token == ")"))


def _sets_behind(token: str, sets: int, before: str) -> int:
    if token == "[":
        return sets + 1
    # One that comes first is a character like any other.
    return sets - 1 if token == "]" and sets and before not in ("[", "[^") else sets


def _weight_of(token: str, before: str, within: int) -> int:
    if token[:2] in (r"\p", r"\P"):
        return _REFUSED
    if token[:2] in (r"\x", r"\u", r"\U"):
        return _CODE
    if token == "^" and within:
        return _SET_OF_OTHERS
    if token == "[":
        return _SET
    if token == "." and not within:
        return _ANY
    return 1 if within else _PLAIN


def _before(token: str, before: str) -> str:
    return "[^" if token == "^" and before == "[" else token


def _number(digits: str) -> int:
    return int(_SPACE.sub("", digits) or 0)

r"""
Estimates the memory of the regular expressions in URL patterns, and reduces it.

The engine supports all of Unicode, so ``\w`` alone takes a hundred KiB. The parts of a URL are ASCII, and by
the standard the class is ASCII, too: https://tc39.es/ecma262/#sec-wordcharacters. Classes are therefore
written out before an expression is weighed or compiled.
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

# The weights of the elements of an expression, in tenths of a KiB, as measured. An element is heavy if its
# complement takes many bytes to describe.
_PLAIN = 3
_SET = 6
_SET_OF_OTHERS = 70
_ANY = 70
_CODE = 35
_REFUSED = 10_000

# Without case, a K also matches the Kelvin sign.
_CASELESS = re.compile(r"\(\?[A-Za-z-]*i")
_CASELESS_FACTOR = 5
_VERBOSE = re.compile(r"\(\?[A-Za-z-]*x")

# The engine allows spaces anywhere in a count.
_COUNT = re.compile(r"\{([\d\s]+)(?:,([\d\s]*))?\}")
_SPACE = re.compile(r"\s+")

# A token of a pattern: an escape, a bracket, or any other character.
_TOKEN = re.compile(r"\\[xuUpP]\{[^}]*\}|\\.?|.", re.DOTALL)


def spell_out(pattern: str) -> str:
    """
    Return a pattern with the classes in its expressions written out.
    """
    spelled: list[str] = []
    depth = sets = 0
    before = ""
    for token in _TOKEN.findall(pattern):
        if depth:
            sets = _sets_after(token, sets, before)
        depth = _depth_after(token, depth)
        sets = sets if depth else 0
        # A range that ends with a class is an error, which the engine must report.
        if depth and token[1:] in _SPELLED and not (sets and before == "-" and spelled[-2] not in ("[", "^")):
            spelled.append(_SPELLED[token[1:]])
        else:
            spelled.append(token)
        before = _previous(token, before)
    return "".join(spelled)


def weigh(pattern: str) -> int:
    """
    Return the weight of the expressions of a pattern, in tenths of a KiB.

    :param pattern: the pattern, from :func:`spell_out`.
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
        depth = _depth_after(token, depth)
        before = _previous(token, before)
    if _VERBOSE.search(pattern):
        # In verbose mode, this function cannot determine what is repeated.
        return _REFUSED
    return weights.total * (_CASELESS_FACTOR if _CASELESS.search(pattern) else 1)


class _Weights:
    """
    Adds up the weight of an expression while its tokens are read.

    :ivar total: the weight of the innermost open group.
    :ivar sets: how many sets, ``[…]``, are open.
    """

    def __init__(self) -> None:
        self.total = 0
        self.sets = 0
        # The weight that a following count repeats.
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
        End the innermost group, if one is open.

        :param all: whether this ends the expression, and with it all groups.
        """
        while self._outer:
            self._last = self.total + _PLAIN
            self.total = self._outer.pop() + self._last
            if not all:
                return
        self.sets = 0

    def repeat(self, times: int) -> None:
        """
        Count the previous element several times.
        """
        self.total += self._last * (max(times, 1) - 1)
        self._last *= max(times, 1)

    def add(self, token: str, before: str) -> None:
        """
        Add a token that is neither a parenthesis nor a count.
        """
        within = self.sets
        self.sets = _sets_after(token, within, before)
        weight = _weight_of(token, before, within)
        # A set is repeated with its content, and an element with its quantifier.
        self._last = self._last + weight if within or token in "+*?|" else weight
        self.total += weight


def _depth_after(token: str, depth: int) -> int:
    # Parentheses within a set count, too: the pattern parser ends an expression the same way.
    return max(0, depth + (token == "(") - (token == ")"))


def _sets_after(token: str, sets: int, before: str) -> int:
    if token == "[":
        return sets + 1
    # A bracket that comes first in a set is a plain character.
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


def _previous(token: str, before: str) -> str:
    return "[^" if token == "^" and before == "[" else token


def _number(digits: str) -> int:
    return int(_SPACE.sub("", digits) or 0)

"""
Matches the parts of a URI template against a topic with a bit-parallel NFA.

Strategy: the reachable offsets of a topic are one integer, a bitmask: bit *n* stands for the offset before
character *n*. A shift advances all offsets by one character. An addition advances them through a run of
characters, since the carry propagates through the run: with the characters in ``C`` and the starting offsets
in ``M``, ``((M & C) + C) ^ C`` has every offset that is passed, and the one after the run. So each step takes
about a microsecond, wherever it begins and however many offsets are set.

An expansion contains some characters unchanged, and all others percent-encoded: ``%C3%A9`` is one character,
and no value ends within it.

Source: https://www.rfc-editor.org/rfc/rfc6570#section-3.2.1
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from string import ascii_letters, digits

__all__ = ["Offsets"]

# A topic may also be an IRI: a character that is not ASCII counts the same as its encoded form.
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_UNRESERVED = ascii_letters + digits + "-._~"
_RESERVED = _UNRESERVED + ":/?#[]@!$&'()*+,;="

# Translation tables: a binary digit for each ASCII character, 1 for those of the set.
_IS_UNRESERVED = "".join("01"[chr(code) in _UNRESERVED] for code in range(128))
_IS_RESERVED = "".join("01"[chr(code) in _RESERVED] for code in range(128))

_TRIPLET = re.compile(r"%[0-9A-Fa-f]{2}")

# The percent-encoded UTF-8 form of a character that is not ASCII,
# https://www.rfc-editor.org/rfc/rfc3629#section-4; and of any character that has to be encoded.
_TAIL = "%[89AB][0-9A-F]"
_LONG = (
    rf"%(?:C[2-9A-F]|D[0-9A-F]){_TAIL}"
    rf"|%(?:E0%[AB][0-9A-F]|E[1-9A-CEF]{_TAIL}|ED%[89][0-9A-F]){_TAIL}"
    rf"|%(?:F0%[9AB][0-9A-F]|F[1-3]{_TAIL}|F4%8[0-9A-F]){_TAIL}{_TAIL}"
)
_CHARACTER = re.compile(_LONG, re.IGNORECASE)
_ENCODED = re.compile(rf"%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[BCDF])|{_LONG}", re.IGNORECASE)


class Offsets:
    """
    A topic, and the offsets in it that are reachable from others.

    All offsets are bitmasks.

    :param topic: the topic.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._all = (1 << len(topic)) - 1
        self._characters: dict[str, int] = {}

    def after_literal(self, literal: str, reached: int) -> int:
        """
        Return the offsets after a literal that begins at any of the given offsets.
        """
        for index, character in enumerate(literal):
            if not reached & (reached - 1):
                # At most one offset is set.
                rest = literal[index:]
                offset = reached.bit_length() - 1
                return reached << len(rest) if reached and self._topic.startswith(rest, offset) else 0
            reached = (reached & self._at(character)) << 1
        return reached

    def after_anything(self, reached: int) -> int:
        """
        Return the offsets after one or more values that may contain reserved characters.
        """
        return self._reserved.after(reached)

    def after_values(self, reached: int, separator: str) -> int:
        """
        Return the offsets after one or more values.

        :param separator: the character between values.
        """
        return self._plain.after(reached, self._at(separator))

    def after_characters(self, reached: int, most: int, *, reserved: bool) -> int:
        """
        Return the offsets after the first characters of a value (the prefix modifier, ``{name:3}``).

        :param most: the maximum number of characters.
        :param reserved: whether the value may contain reserved characters.
        """
        characters = self._reserved if reserved else self._plain
        after = fresh = reached
        for _ in range(most):
            fresh = characters.next(fresh) & ~after
            if not fresh:
                break
            after |= fresh
        return after

    def after_pairs(self, reached: int, separator: str, *, bare: bool) -> int:
        """
        Return the offsets after one or more pairs, ``name=value``.

        :param separator: the character between pairs.
        :param bare: whether a name may occur without a value. The given offsets are then before a separator.
        """
        equals, between = self._at("="), self._at(separator)
        others = self._all & ~(equals | between)
        # The offsets after an equals sign without a separator in between, and the reverse.
        values = _after(equals << 1, others)
        names = _after(between << 1, others)
        # A value contains no equals sign, so a second one ends the pairs.
        ends = values & equals
        if bare:
            return self._plain.after(reached, (equals | between) & ~ends)
        if separator != ".":
            # A name contains no separator except the dot, so a second one ends the pairs, too.
            ends |= names & between
        reached = (self._plain.after(reached) & equals) << 1
        reached = self._plain.after(reached, (equals | between) & ~ends)
        return reached if separator == "." else reached & values

    def _at(self, character: str) -> int:
        """
        Return the offsets of a character in the topic.
        """
        found = self._characters.get(character)
        if found is None:
            runs = self._topic[::-1].split(character)
            found = int("0" + "1".join("0" * len(run) for run in runs), 2)
            self._characters[character] = found
        return found

    @cached_property
    def _plain(self) -> _Characters:
        return _Characters(self._topic, _IS_UNRESERVED, _ENCODED)

    @cached_property
    def _reserved(self) -> _Characters:
        # An encoded triplet in a value is kept, whatever it stands for.
        return _Characters(self._topic, _IS_RESERVED, _TRIPLET, _CHARACTER)


class _Characters:
    """
    The characters of values in a topic, plain and percent-encoded.

    :param plain: a translation table with ``1`` for each character that is written unchanged.
    :param encoded: the encoded form of any other character; matches do not overlap.
    :param longer: a form that covers several matches of ``encoded`` and may count as one character, too.
    """

    def __init__(
        self, topic: str, plain: str, encoded: re.Pattern[str], longer: re.Pattern[str] | None = None
    ) -> None:
        self._plain = int("0" + _FOREIGN.sub("a", topic[::-1]).translate(plain), 2)
        self._covered = self._plain
        # The offsets within an encoded character.
        self._within = 0
        self._encoded: dict[int, int] = {}
        if "%" not in topic:
            return
        for start, length in _spans(encoded, topic):
            covered = ((1 << length) - 1) << start
            self._covered |= covered
            self._within |= covered & (covered - 1)
            self._encoded[length] = self._encoded.get(length, 0) | 1 << start
        for start, length in [] if longer is None else _spans(longer, topic):
            self._encoded[length] = self._encoded.get(length, 0) | 1 << start

    def after(self, reached: int, others: int = 0) -> int:
        """
        Return the offsets after any number of characters.

        :param others: the offsets of other characters that may occur among them.
        """
        within = reached & self._within
        while within:
            # The part before matched the percent sign alone, and plain characters follow.
            within = (within & self._plain) << 1
            reached |= within
            within &= self._within
        return reached | (_after(reached & ~self._within, self._covered | others) & ~self._within)

    def next(self, reached: int) -> int:
        """
        Return the offsets after one character.
        """
        after = (reached & self._plain) << 1
        for length, starts in self._encoded.items():
            after |= (reached & starts) << length
        return after


def _spans(pattern: re.Pattern[str], topic: str) -> Iterator[tuple[int, int]]:
    for found in pattern.finditer(topic):
        yield found.start(), found.end() - found.start()


def _after(reached: int, characters: int) -> int:
    """
    Return the given offsets, and those after any number of the characters.
    """
    return (((reached & characters) + characters) ^ characters) | reached

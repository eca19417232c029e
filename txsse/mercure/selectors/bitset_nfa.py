"""
The places in a topic that can be reached, all of them in one number.

Strategy: bit *n* of such a set stands for the place before the topic's character *n*. To go on by a character
is to shift; to go on through any run of characters is to add, for the carry runs through it: with the marks
of the characters in ``C``, and those of where to begin in ``M``, ``((M & C) + C) ^ C`` has marks at all that
are passed, and behind. So a step costs the same a microsecond wherever it begins, and however many places
there are.

An expansion holds some characters as they are, and all others percent-encoded: ``%C3%A9`` is one character,
and nothing ends within it.

Source: https://www.rfc-editor.org/rfc/rfc6570#section-3.2.1
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from string import ascii_letters, digits

__all__ = ["Places"]

# A topic may be written as an IRI is, too: what is not ASCII is taken as it is, in place of what encodes it.
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_UNRESERVED = ascii_letters + digits + "-._~"
_RESERVED = _UNRESERVED + ":/?#[]@!$&'()*+,;="

# What tells them from others: a digit of a number for each.
_IS_UNRESERVED = "".join("01"[chr(code) in _UNRESERVED] for code in range(128))
_IS_RESERVED = "".join("01"[chr(code) in _RESERVED] for code in range(128))

_TRIPLET = re.compile(r"%[0-9A-Fa-f]{2}")

# The UTF-8 form of a character, encoded, https://www.rfc-editor.org/rfc/rfc3629#section-4; and that of one
# that has to be.
_TAIL = "%[89AB][0-9A-F]"
_LONG = (
    rf"%(?:C[2-9A-F]|D[0-9A-F]){_TAIL}"
    rf"|%(?:E0%[AB][0-9A-F]|E[1-9A-CEF]{_TAIL}|ED%[89][0-9A-F]){_TAIL}"
    rf"|%(?:F0%[9AB][0-9A-F]|F[1-3]{_TAIL}|F4%8[0-9A-F]){_TAIL}{_TAIL}"
)
_CHARACTER = re.compile(_LONG, re.IGNORECASE)
_ENCODED = re.compile(rf"%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[BCDF])|{_LONG}", re.IGNORECASE)


class Places:
    """
    The places in a topic.

    :param topic: the topic.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._all = (1 << len(topic)) - 1
        self._characters: dict[str, int] = {}

    def behind(self, literal: str, reached: int) -> int:
        """
        Return the places behind a literal that begins at any of these.
        """
        for index, character in enumerate(literal):
            if not reached & (reached - 1):
                # There is one, or none.
                rest = literal[index:]
                place = reached.bit_length() - 1
                return reached << len(rest) if reached and self._topic.startswith(rest, place) else 0
            reached = (reached & self._at(character)) << 1
        return reached

    def behind_anything(self, reached: int) -> int:
        """
        Return the places behind a value, or several, that may hold reserved characters.
        """
        return self._reserved.behind(reached)

    def behind_values(self, reached: int, separator: str) -> int:
        """
        Return the places behind a value, or several.
        """
        return self._plain.behind(reached, self._at(separator))

    def behind_characters(self, reached: int, most: int, *, reserved: bool) -> int:
        """
        Return the places behind a value that is cut off.

        :param most: how many characters it may have.
        """
        characters = self._reserved if reserved else self._plain
        behind = fresh = reached
        for _ in range(most):
            fresh = characters.next(fresh) & ~behind
            if not fresh:
                break
            behind |= fresh
        return behind

    def behind_pairs(self, reached: int, separator: str, *, bare: bool) -> int:
        """
        Return the places behind a pair, ``name=value``, or several.

        :param separator: what stands between them.
        :param bare: whether a name may stand alone. The separator stands before the places then.
        """
        equals, between = self._at("="), self._at(separator)
        others = self._all & ~(equals | between)
        # The places that have an equals sign before them, and no separator since; and those the other way.
        values = _behind(equals << 1, others)
        names = _behind(between << 1, others)
        # A value holds no equals sign, so that a second one ends it all.
        ends = values & equals
        if bare:
            return self._plain.behind(reached, (equals | between) & ~ends)
        if separator != ".":
            # Any other separator stands in no name, so that a second one ends it all as well.
            ends |= names & between
        reached = (self._plain.behind(reached) & equals) << 1
        reached = self._plain.behind(reached, (equals | between) & ~ends)
        return reached if separator == "." else reached & values

    def _at(self, character: str) -> int:
        """
        Return where a character is.
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
        # What is encoded in a value already stays as it is, whatever it stands for.
        return _Characters(self._topic, _IS_RESERVED, _TRIPLET, _CHARACTER)


class _Characters:
    """
    Where the characters of values are in a topic.

    :param plain: a table of those that are written as they are.
    :param encoded: what others are written as, one after the other.
    :param longer: what may be taken for one of them as well, where it is several.
    """

    def __init__(
        self, topic: str, plain: str, encoded: re.Pattern[str], longer: re.Pattern[str] | None = None
    ) -> None:
        self._plain = int("0" + _FOREIGN.sub("a", topic[::-1]).translate(plain), 2)
        self._covered = self._plain
        # The places that are within one.
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

    def behind(self, reached: int, others: int = 0) -> int:
        """
        Return the places behind any number of them.

        :param others: where other characters are that may be among them.
        """
        within = reached & self._within
        while within:
            # What stands before took a percent sign for itself, and what follows is plain.
            within = (within & self._plain) << 1
            reached |= within
            within &= self._within
        return reached | (_behind(reached & ~self._within, self._covered | others) & ~self._within)

    def next(self, reached: int) -> int:
        """
        Return the places behind one of them.
        """
        behind = (reached & self._plain) << 1
        for length, starts in self._encoded.items():
            behind |= (reached & starts) << length
        return behind


def _spans(pattern: re.Pattern[str], topic: str) -> Iterator[tuple[int, int]]:
    for found in pattern.finditer(topic):
        yield found.start(), found.end() - found.start()


def _behind(reached: int, characters: int) -> int:
    """
    Return these places, and those behind any number of the characters.
    """
    return (((reached & characters) + characters) ^ characters) | reached

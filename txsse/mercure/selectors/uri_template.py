"""
URI templates, told whether a topic is what they expand to: how topics were selected before Mercure 1.0.

Strategy: a template is literals and expressions in turn, and an expression is its variables. Which places in
the topic can be reached is carried from each to the next, all at once: see
:mod:`txsse.mercure.selectors.bitset_nfa`. So the work grows with what is in the template, whatever the topic
is, and nothing is tried twice. A regular expression of Python's could take for ever.

Each variable may have any value wherever it stands, also where the template names it twice.

Source: https://www.rfc-editor.org/rfc/rfc6570
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from zope.interface import implementer

from txsse.hub.topics import ISelector
from txsse.mercure.canonical_topics import is_resolved
from txsse.mercure.selectors.bitset_nfa import Places

__all__ = ["MAX_VARIABLES", "TemplateSelector", "TooManyVariables"]

#: How many variables a template may have, in all of its expressions.
MAX_VARIABLES = 20

# How many characters a variable is followed through one by one, or of a literal are compared, for what a
# variable costs otherwise.
_CHARACTERS_PER_WEIGHT = 25

# What that weighs beside a tenth of a KiB of a URL pattern.
_WEIGHT_OF_WORK = 30

_VARIABLE = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:[A-Za-z0-9_.]|%[0-9A-Fa-f]{2})*(?:\*|:[1-9][0-9]{0,3})?"
_EXPRESSION = re.compile(rf"([+#./;?&]?)({_VARIABLE}(?:,{_VARIABLE})*)")

# What the expansion of an expression begins with, and what stands between its variables.
# https://www.rfc-editor.org/rfc/rfc6570#appendix-A
_FIRST = {"": "", "+": "", "#": "#", ".": ".", "/": "/", ";": ";", "?": "?", "&": "&"}
_SEPARATOR = {"": ",", "+": ",", "#": ",", ".": ".", "/": "/", ";": ";", "?": "&", "&": "&"}
_NAMED = frozenset(";?&")
_RESERVED = frozenset("+#")


class TooManyVariables(ValueError):
    """
    A template would take too long to match.
    """


@implementer(ISelector)
class TemplateSelector:
    """
    Selects the topics that a template may expand to, and the one that is written as it is.

    A topic that resolves to another URL than it is written as, such as one with dot segments, is not
    selected, unless it is written as the template is: see :mod:`txsse.mercure.canonical_topics`.

    :param template: the template.
    :param base: the hub's URL, which relative topics are resolved against.
    :raises TooManyVariables: for one with more than :data:`MAX_VARIABLES`.
    :raises ValueError: for one that is none.
    """

    __slots__ = ("_parts", "base", "template")

    def __init__(self, template: str, base: str) -> None:
        self.template = template
        self.base = base
        self._parts = _parse(template)

    def __repr__(self) -> str:
        return f"TemplateSelector({self.template!r}, {self.base!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TemplateSelector)
            and other.template == self.template
            and other.base == self.base
        )

    def __hash__(self) -> int:
        return hash((TemplateSelector, self.template, self.base))

    @property
    def weight(self) -> int:
        """
        What it costs to ask, in the unit of :class:`~txsse.ISelector`.
        """
        return self.work * _WEIGHT_OF_WORK

    @property
    def work(self) -> int:
        """
        What it costs to ask, at most, in units of some 10 µs for a topic of 2 KB.
        """
        weight = characters = 0
        # What it begins with is compared at once.
        for part in self._parts[isinstance(self._parts[0], str) :]:
            if isinstance(part, str):
                characters += len(part)
            else:
                weight += len(part.variables)
                characters += sum(each.length or 0 for each in part.variables)
        return weight + characters // _CHARACTERS_PER_WEIGHT

    def matches(self, topic: str) -> bool:
        """
        Tell whether a topic is meant.
        """
        return topic == self.template or (self.expands_to(topic) and is_resolved(topic, self.base))

    def expands_to(self, topic: str) -> bool:
        """
        Tell whether the template may expand to a text.
        """
        first = self._parts[0]
        if isinstance(first, str) and not topic.startswith(first):
            # Most topics of others.
            return False
        places = _places_in(topic)
        reached = 1
        for part in self._parts:
            reached = places.behind(part, reached) if isinstance(part, str) else part.behind(places, reached)
            if not reached:
                return False
        return bool(reached >> len(topic) & 1)


# All the templates are asked about a topic, one after the other.
@lru_cache(maxsize=4)
def _places_in(topic: str) -> Places:
    return Places(topic)


@dataclass(frozen=True, slots=True)
class _Variable:
    """
    A variable.

    :ivar explode: whether each of its values stands by itself.
    :ivar length: how many of its value's characters are taken; ``None`` for all.
    """

    name: str
    explode: bool
    length: int | None


@dataclass(frozen=True, slots=True)
class _Expression:
    """
    What stands between braces.
    """

    operator: str
    variables: tuple[_Variable, ...]

    def behind(self, places: Places, reached: int) -> int:
        """
        Return the places behind an expansion that begins at any of these.
        """
        first = places.behind(_FIRST[self.operator], reached)
        separator = _SEPARATOR[self.operator]
        some = 0
        for variable in self.variables:
            # Any of them may have no value, and nothing stands for it then.
            some |= self._behind(variable, places, first | places.behind(separator, some))
        return reached | some

    def _behind(self, variable: _Variable, places: Places, begun: int) -> int:
        if not begun:
            return 0
        reserved = self.operator in _RESERVED
        separator = _SEPARATOR[self.operator]
        named = self.operator in _NAMED
        if variable.explode and not reserved:
            pairs = places.behind_pairs(begun, separator, bare=self.operator == ";")
            # Those of a list have its own name each, so that they are pairs as well.
            return pairs if named else pairs | places.behind_values(begun, separator)
        behind = 0
        if named:
            begun = places.behind(variable.name, begun)
            behind = begun if self.operator == ";" else 0
            begun = places.behind("=", begun)
        if variable.length is not None:
            return behind | places.behind_characters(begun, variable.length, reserved=reserved)
        # The values of a list have commas between them, and names and values of pairs likewise.
        return behind | (places.behind_anything(begun) if reserved else places.behind_values(begun, ","))


# A literal, or an expression.
_Part = str | _Expression


def _parse(template: str) -> tuple[_Part, ...]:
    # There is always a first one.
    parts: list[_Part] = [] if template else [""]
    count = 0
    rest = template
    while rest:
        literal, brace, rest = rest.partition("{")
        if "}" in literal:
            raise ValueError("a brace is closed that was not opened")
        if literal:
            parts.append(literal)
        if brace:
            expression, brace, rest = rest.partition("}")
            found = _EXPRESSION.fullmatch(expression)
            if not brace or found is None:
                raise ValueError(f"{{{expression}}} is no expression")
            variables = tuple(map(_variable, found[2].split(",")))
            parts.append(_Expression(found[1], variables))
            count += len(variables)
    if count > MAX_VARIABLES:
        raise TooManyVariables(f"a template may have {MAX_VARIABLES} variables; use fewer")
    return tuple(parts)


def _variable(text: str) -> _Variable:
    name, _, length = text.partition(":")
    return _Variable(name.removesuffix("*"), name.endswith("*"), int(length) if length else None)

"""
Matches topics against URI templates, which selected topics before Mercure 1.0.

Strategy: a template is a sequence of literals and expressions, and an expression is a sequence of variables.
The reachable offsets in the topic pass through them, all at once: see
:mod:`txsse.mercure.selectors.bitset_nfa`. The work grows with the size of the template, whatever the topic,
and there is no backtracking. With Python's regular expressions, it could grow exponentially.

Each occurrence of a variable may have its own value, even if the template names it twice.

Source: https://www.rfc-editor.org/rfc/rfc6570
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from zope.interface import implementer

from txsse.mercure.canonical_topics import is_resolved
from txsse.mercure.selectors.bitset_nfa import Offsets
from txsse.topics.topic_set import ISelector

__all__ = ["MAX_VARIABLES", "TemplateSelector", "TooManyVariables"]

#: The maximum number of variables of a template, in all of its expressions.
MAX_VARIABLES = 20

# How many characters of a literal, or of a variable with a maximum length, cost as much as a variable without
# one.
_CHARACTERS_PER_WEIGHT = 25

# The weight of a unit of work, relative to a tenth of a KiB of a URL pattern.
_WEIGHT_OF_WORK = 30

_VARIABLE = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:[A-Za-z0-9_.]|%[0-9A-Fa-f]{2})*(?:\*|:[1-9][0-9]{0,3})?"
_EXPRESSION = re.compile(rf"([+#./;?&]?)({_VARIABLE}(?:,{_VARIABLE})*)")

# The prefix of an expansion and the separator of its variables, by operator.
# https://www.rfc-editor.org/rfc/rfc6570#appendix-A
_FIRST = {"": "", "+": "", "#": "#", ".": ".", "/": "/", ";": ";", "?": "?", "&": "&"}
_SEPARATOR = {"": ",", "+": ",", "#": ",", ".": ".", "/": "/", ";": ";", "?": "&", "&": "&"}
_NAMED = frozenset(";?&")
_RESERVED = frozenset("+#")


class TooManyVariables(ValueError):
    """
    The template has too many variables, and would take too long to match.
    """


@implementer(ISelector)
class TemplateSelector:
    """
    Selects the topics that a template can expand to, and the topic that is equal to the template.

    A topic that is not written as the URL that it resolves to, such as one with dot segments, is selected
    only if it is equal to the template: see :mod:`txsse.mercure.canonical_topics`.

    :param template: the template.
    :param base: the hub's URL, which relative topics are resolved against.
    :raises TooManyVariables: for a template with more than :data:`MAX_VARIABLES`.
    :raises ValueError: for a text that is not a template.
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
        The cost of matching, in the unit of :class:`~txsse.ISelector`.
        """
        return self.work * _WEIGHT_OF_WORK

    @property
    def work(self) -> int:
        """
        The upper bound of the time to match, in units of about 10 µs for a topic of 2 KB.
        """
        weight = characters = 0
        # A literal at the beginning is compared in one step.
        for part in self._parts[isinstance(self._parts[0], str) :]:
            if isinstance(part, str):
                characters += len(part)
            else:
                weight += len(part.variables)
                characters += sum(each.length or 0 for each in part.variables)
        return weight + characters // _CHARACTERS_PER_WEIGHT

    def matches(self, topic: str) -> bool:
        """
        Return whether a topic is selected.
        """
        return topic == self.template or (self.expands_to(topic) and is_resolved(topic, self.base))

    def expands_to(self, topic: str) -> bool:
        """
        Return whether the template can expand to a text.
        """
        first = self._parts[0]
        if isinstance(first, str) and not topic.startswith(first):
            # This rejects most topics that are not selected.
            return False
        offsets = _offsets_in(topic)
        reached = 1
        for part in self._parts:
            reached = (
                offsets.after_literal(part, reached)
                if isinstance(part, str)
                else part.after(offsets, reached)
            )
            if not reached:
                return False
        return bool(reached >> len(topic) & 1)


# All templates test one topic before any tests the next.
@lru_cache(maxsize=4)
def _offsets_in(topic: str) -> Offsets:
    return Offsets(topic)


@dataclass(frozen=True, slots=True)
class _Variable:
    """
    A variable of an expression.

    :ivar explode: whether each of its values is a separate item (``*``).
    :ivar length: the maximum number of characters of its value; ``None`` for no limit.
    """

    name: str
    explode: bool
    length: int | None


@dataclass(frozen=True, slots=True)
class _Expression:
    """
    An expression: an operator and variables, in braces.
    """

    operator: str
    variables: tuple[_Variable, ...]

    def after(self, offsets: Offsets, reached: int) -> int:
        """
        Return the offsets after an expansion that begins at any of the given offsets.
        """
        first = offsets.after_literal(_FIRST[self.operator], reached)
        separator = _SEPARATOR[self.operator]
        some = 0
        for variable in self.variables:
            # Each variable may be undefined, and then contributes nothing.
            some |= self._after(variable, offsets, first | offsets.after_literal(separator, some))
        return reached | some

    def _after(self, variable: _Variable, offsets: Offsets, begun: int) -> int:
        if not begun:
            return 0
        reserved = self.operator in _RESERVED
        separator = _SEPARATOR[self.operator]
        named = self.operator in _NAMED
        if variable.explode and not reserved:
            pairs = offsets.after_pairs(begun, separator, bare=self.operator == ";")
            # A list is written as pairs, too, with the variable's name in each.
            return pairs if named else pairs | offsets.after_values(begun, separator)
        after = 0
        if named:
            begun = offsets.after_literal(variable.name, begun)
            after = begun if self.operator == ";" else 0
            begun = offsets.after_literal("=", begun)
        if variable.length is not None:
            return after | offsets.after_characters(begun, variable.length, reserved=reserved)
        # Commas separate the values of a list, and the names and values of pairs.
        return after | (offsets.after_anything(begun) if reserved else offsets.after_values(begun, ","))


# A literal, or an expression.
_Part = str | _Expression


def _parse(template: str) -> tuple[_Part, ...]:
    # The sequence always has a first part.
    parts: list[_Part] = [] if template else [""]
    count = 0
    rest = template
    while rest:
        literal, brace, rest = rest.partition("{")
        if "}" in literal:
            raise ValueError("it has a closing brace without an opening one")
        if literal:
            parts.append(literal)
        if brace:
            expression, brace, rest = rest.partition("}")
            found = _EXPRESSION.fullmatch(expression)
            if not brace or found is None:
                raise ValueError(f"{{{expression}}} is not a valid expression")
            variables = tuple(map(_variable, found[2].split(",")))
            parts.append(_Expression(found[1], variables))
            count += len(variables)
    if count > MAX_VARIABLES:
        raise TooManyVariables(f"a template may have at most {MAX_VARIABLES} variables; use fewer")
    return tuple(parts)


def _variable(text: str) -> _Variable:
    name, _, length = text.partition(":")
    return _Variable(name.removesuffix("*"), name.endswith("*"), int(length) if length else None)

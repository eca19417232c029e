"""
URI templates, told whether a topic is what they expand to: how topics were selected before Mercure 1.0.

Strategy: a template is literals and expressions in turn; an expression stands for any run of the characters
that its expansion may have. Which places in the topic can be reached is carried from part to part, all at
once, so that the work grows with the topic's length times the template's, whatever they are. A regular
expression of Python's could take for ever.

Source: https://www.rfc-editor.org/rfc/rfc6570
"""

from __future__ import annotations

import re
from functools import lru_cache
from string import ascii_letters, digits

from zope.interface import implementer

from txsse.hub.topics import ISelector

__all__ = ["TemplateSelector"]

_UNRESERVED = ascii_letters + digits + "-._~"
_RESERVED = ":/?#[]@!$&'()*+,;="

_VARIABLE = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:[A-Za-z0-9_.]|%[0-9A-Fa-f]{2})*(?:\*|:[1-9][0-9]{0,3})?"
_EXPRESSION = re.compile(rf"([+#./;?&]?)({_VARIABLE}(?:,{_VARIABLE})*)")

# What an expansion begins with and is made of, by its operator. A percent sign stands for what it encodes,
# and other characters than ASCII's are taken as they are: topics are compared as they were written.
_CHARACTERS = {
    "": _UNRESERVED + "%,=",
    "+": _UNRESERVED + _RESERVED + "%",
    "#": _UNRESERVED + _RESERVED + "%",
    ".": _UNRESERVED + "%,=",
    "/": _UNRESERVED + "%,=/",
    ";": _UNRESERVED + "%,=;",
    "?": _UNRESERVED + "%,=&",
    "&": _UNRESERVED + "%,=&",
}
_PREFIXED = "#./;?&"


@implementer(ISelector)
class TemplateSelector:
    """
    Selects the topics that a template may expand to, and the one that is written as it is.

    :param template: the template.
    :raises ValueError: for one that is none.
    """

    __slots__ = ("_parts", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        self._parts = _parse(template)

    def __repr__(self) -> str:
        return f"TemplateSelector({self.template!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TemplateSelector) and other.template == self.template

    def __hash__(self) -> int:
        return hash((TemplateSelector, self.template))

    def matches(self, topic: str) -> bool:
        """
        Tell whether a topic is meant.
        """
        if topic == self.template:
            return True
        places = [0]
        for part in self._parts:
            places = _after(part, topic, places)
            if not places:
                return False
        return places[-1] == len(topic)


# A literal, or an operator as a tuple of its own.
_Part = str | tuple[str]


@lru_cache(maxsize=1024)
def _parse(template: str) -> tuple[_Part, ...]:
    parts: list[_Part] = []
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
            parts.append((found[1],))
    return tuple(parts)


def _after(part: _Part, topic: str, places: list[int]) -> list[int]:
    """
    Return the places behind a part, where it begins at any of these, which are in order.
    """
    if isinstance(part, str):
        return [place + len(part) for place in places if topic.startswith(part, place)]
    (operator,) = part
    allowed = _CHARACTERS[operator]
    reached: list[int] = []
    end = -1
    for place in places:
        if place > end:
            reached.append(place)
            end = place
            if operator in _PREFIXED and operator and not topic.startswith(operator, place):
                # Nothing is what an expression without a value expands to.
                continue
        while end < len(topic) and (topic[end] in allowed or topic[end] == operator or topic[end] > "\x7f"):
            end += 1
            reached.append(end)
    return reached

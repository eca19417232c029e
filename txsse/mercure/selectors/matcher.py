"""
Matchers, which select topics in subscribe requests and in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from txsse.mercure.characters import is_clean
from txsse.mercure.selectors.uri_template import TemplateSelector, TooManyVariables
from txsse.mercure.selectors.url_pattern import PatternSelector
from txsse.topics.topic_set import ALL, ISelector, weight_of

__all__ = ["EXACT", "MAX_PATTERN", "PATTERN", "TEMPLATE", "TYPES", "Matcher", "make_matcher"]

EXACT = "exact"
PATTERN = "urlpattern"

#: The type of matchers from before Mercure 1.0: an exact topic or a URI template.
TEMPLATE = "template"

#: The types that requests and tokens may name.
TYPES = (EXACT, PATTERN)

#: The maximum length of a matcher, in characters.
MAX_PATTERN = 2048

# How many characters of a topic weigh a tenth of a KiB. A topic is stored as it is, and in the documents of
# its subscription.
_CHARACTERS_PER_WEIGHT = 5


@dataclass(frozen=True)
class Matcher:
    """
    A matcher.

    :ivar type: the type of its value.
    :ivar value: the topic, pattern or template; ``*`` is all topics, whatever the type.
    :ivar selector: the form that a hub uses: a topic, or a selector of topics.
    """

    type: str
    value: str
    selector: str | ISelector = field(compare=False)

    @property
    def weight(self) -> int:
        """
        The cost of its memory and of its matching, in the unit of :class:`~txsse.ISelector`.
        """
        weight = len(self.value) // _CHARACTERS_PER_WEIGHT
        return weight if isinstance(self.selector, str) else weight + weight_of(self.selector)


def make_matcher(type: str, value: str, base: str) -> Matcher:
    """
    Return a matcher.

    :param type: the type of the value.
    :param value: the value.
    :param base: the hub's URL, which relative patterns and topics are resolved against.
    :raises ValueError: with the reason, if the value is not valid for the type.
    """
    if len(value) > MAX_PATTERN:
        raise ValueError(f"it has more than {MAX_PATTERN} characters")
    if not is_clean(value):
        raise ValueError("it holds a control character or a format character")
    if type == EXACT or value == ALL:
        return Matcher(type, value, value)
    if type == PATTERN:
        return Matcher(type, value, PatternSelector(value, base))
    if type == TEMPLATE:
        return Matcher(type, value, _template(value, base))
    raise ValueError(f"{type} is not a matcher type; use {' or '.join(TYPES)}")


def _template(value: str, base: str) -> str | ISelector:
    if "{" not in value and "}" not in value:
        return value
    try:
        return TemplateSelector(value, base)
    except TooManyVariables:
        raise
    except ValueError:
        # Before Mercure 1.0, any string was a valid topic.
        return value

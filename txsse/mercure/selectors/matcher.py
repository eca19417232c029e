"""
What selects topics, as requests and tokens write it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from txsse.hub.topics import ISelector, weight_of
from txsse.journal.update import ALL
from txsse.mercure.characters import is_clean
from txsse.mercure.selectors.uri_template import TemplateSelector, TooManyVariables
from txsse.mercure.selectors.url_pattern import PatternSelector

__all__ = ["EXACT", "MAX_PATTERN", "PATTERN", "TEMPLATE", "TYPES", "Matcher", "make_matcher"]

EXACT = "exact"
PATTERN = "urlpattern"

#: How a topic was selected before Mercure 1.0: as it is written, or by a URI template.
TEMPLATE = "template"

#: The types that requests and tokens may name.
TYPES = (EXACT, PATTERN)

#: The longest matcher, in characters.
MAX_PATTERN = 2048

# How many characters of a topic weigh what a tenth of a KiB of a pattern does. A topic is held as it is, and
# in what tells of its subscription.
_CHARACTERS_PER_WEIGHT = 5


@dataclass(frozen=True)
class Matcher:
    """
    A matcher.

    :ivar type: what its value is.
    :ivar value: the topic, pattern or template; ``*`` is all topics, whatever the type.
    :ivar selector: the same for a hub: a topic, or what selects topics.
    """

    type: str
    value: str
    selector: str | ISelector = field(compare=False)

    @property
    def weight(self) -> int:
        """
        What it costs to hold and to ask, beside others.
        """
        weight = len(self.value) // _CHARACTERS_PER_WEIGHT
        return weight if isinstance(self.selector, str) else weight + weight_of(self.selector)


def make_matcher(type: str, value: str, base: str) -> Matcher:
    """
    Make a matcher.

    :param type: what its value is.
    :param value: the value.
    :param base: the hub's URL, which relative patterns and topics are resolved against.
    :raises ValueError: for one that cannot be, with the reason.
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
    raise ValueError(f"{type} is no type of matcher; there are {' and '.join(TYPES)}")


def _template(value: str, base: str) -> str | ISelector:
    if "{" not in value and "}" not in value:
        return value
    try:
        return TemplateSelector(value, base)
    except TooManyVariables:
        raise
    except ValueError:
        # Any string was a topic, too.
        return value

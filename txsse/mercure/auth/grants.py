"""
What a token allows, read from its claims.

Sources: https://www.rfc-editor.org/rfc/rfc9396 (``authorization_details``), and the documents of Mercure, 1.0
and before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from txsse._serialize import to_json
from txsse.hub.topics import ISelector, TopicSet
from txsse.mercure.errors import InvalidToken
from txsse.mercure.selectors.matcher import EXACT, TEMPLATE, TYPES, Matcher, make_matcher

__all__ = ["DETAIL_TYPE", "Grants", "read_claim", "read_details"]

#: The type of the details that are meant for a hub.
DETAIL_TYPE = "https://mercure.rocks/authorization-detail"

# How many details, and matchers in all of them, a token may have.
_MAX_DETAILS = 100
_MAX_MATCHERS = 1000

# What the matchers and payloads of a token may weigh together: 2 MiB, in tenths of a KiB, which is some 25
# URL patterns. A token's grants are held as long as a stream of it is open.
_MAX_WEIGHT = 2 * 1024 * 10

# What is held for each token, for each matcher in a set beside itself, and for each set; and the characters
# in a payload that weigh as much as a tenth of a KiB, at four bytes each. Measured with tracemalloc, rounded
# up.
_WEIGHT = 10
_MATCHER_WEIGHT = 1
_SET_WEIGHT = 4
_CHARACTERS_PER_WEIGHT = 25

_TOO_HEAVY = "its matchers and payloads together take too much memory; it needs fewer, or simpler ones"

# How many levels a payload may have. Python reads some that it cannot write.
_MAX_DEPTH = 100


@dataclass(frozen=True)
class Grants:
    """
    What a token allows.

    :ivar publish: the topics that may be published to.
    :ivar subscribe: the topics whose private updates may be read.
    :ivar payloads: what is told of subscriptions, by the matchers that it is for; the first that fits counts.
    :ivar expires: until when, in seconds since 1970; ``None`` for ever.
    """

    publish: TopicSet = field(default_factory=TopicSet)
    subscribe: TopicSet = field(default_factory=TopicSet)
    payloads: Sequence[tuple[TopicSet, object]] = ()
    expires: float | None = None

    @cached_property
    def weight(self) -> int:
        """
        What it takes to hold them, at most, in tenths of a KiB, as :attr:`Matcher.weight` counts.
        """
        sets = [self.publish, self.subscribe, *(topics for topics, _ in self.payloads)]
        # A selector is the same object in each of them.
        selectors = {selector for topics in sets for selector in topics.selectors}
        return (
            _WEIGHT
            + sum(map(_weigh_selector, selectors))
            + sum(_weigh_set(topics) for topics in sets)
            + sum(_weigh_value(payload) for _, payload in self.payloads)
        )

    def payload_for(self, matcher: Matcher) -> object:
        """
        Return what is told of a subscription; ``None`` for nothing.
        """
        for topics, payload in self.payloads:
            if topics.has([matcher.value]):
                return payload
        return None


def read_details(claims: Mapping[str, object], base: str) -> Grants:
    """
    Read the details of a token of Mercure 1.0.

    :param base: the hub's URL, which relative patterns are resolved against.
    :raises InvalidToken: where any of those that are meant for a hub is not as it should be.
    """
    details = claims.get("authorization_details", [])
    if not isinstance(details, list):
        raise InvalidToken("authorization_details is no list")
    publish: list[Matcher] = []
    subscribe: list[Matcher] = []
    payloads: list[tuple[TopicSet, object]] = []
    scales = _Scales()
    own = [detail for detail in details if _is_own(detail)]
    if len(own) > _MAX_DETAILS:
        raise InvalidToken(f"authorization_details has more than {_MAX_DETAILS} entries")
    for detail in own:
        actions = detail.get("actions")
        if not _is_list_of(str, actions):
            raise InvalidToken("actions is no list of strings")
        topics = detail.get("topics")
        if not _is_list_of(dict, topics):
            raise InvalidToken("topics is no list of objects")
        matchers = [scales.add(_read_matcher(topic, base)) for topic in topics]
        payload = detail.get("payload", {})
        if not isinstance(payload, dict):
            raise InvalidToken("payload is no object")
        _check_json(payload)
        if "publish" in actions:
            publish += matchers
        if "subscribe" in actions:
            subscribe += matchers
            payloads.append((_topics(matchers), detail.get("payload")))
        _check_count(publish, subscribe)
    return _check_weight(Grants(_topics(publish), _topics(subscribe), payloads))


def read_claim(claims: Mapping[str, object], base: str) -> Grants:
    """
    Read the claim of a token from before Mercure 1.0.

    :raises InvalidToken: where it is not as it should be.
    """
    claim = claims.get("mercure", {})
    if not isinstance(claim, dict):
        raise InvalidToken("mercure is no object")
    scales = _Scales()
    granted: dict[str, list[Matcher]] = {}
    for action in ("publish", "subscribe"):
        selectors = claim.get(action) or []
        if not isinstance(selectors, list) or not all(isinstance(each, str) for each in selectors):
            raise InvalidToken(f"mercure.{action} is no list of strings")
        granted[action] = [scales.add(_make(TEMPLATE, each, base)) for each in selectors]
    _check_count(*granted.values())
    payload = claim.get("payload")
    _check_json(payload)
    payloads = [(TopicSet("*"), payload)] if payload is not None else []
    return _check_weight(Grants(_topics(granted["publish"]), _topics(granted["subscribe"]), payloads))


class _Scales:
    """
    Weighs matchers while they are read: those behind the bound are never compiled.
    """

    def __init__(self) -> None:
        self._weight = 0

    def add(self, matcher: Matcher) -> Matcher:
        self._weight += matcher.weight
        if self._weight > _MAX_WEIGHT:
            raise InvalidToken(_TOO_HEAVY)
        return matcher


def _check_weight(grants: Grants) -> Grants:
    if grants.weight > _MAX_WEIGHT:
        raise InvalidToken(_TOO_HEAVY)
    return grants


def _weigh_selector(selector: ISelector) -> int:
    value = str(getattr(selector, "pattern", None) or getattr(selector, "template", ""))
    return Matcher("", value, selector).weight


def _weigh_set(topics: TopicSet) -> int:
    held = _MATCHER_WEIGHT * len(topics) + sum(Matcher(EXACT, topic, topic).weight for topic in topics.exact)
    return _SET_WEIGHT + held


def _weigh_value(value: object) -> int:
    """
    Weigh what is read from JSON: each value and each name, and the characters of both.
    """
    if isinstance(value, dict):
        return 2 + sum(_weigh_value(each) for item in value.items() for each in item)
    if isinstance(value, list):
        return 1 + sum(map(_weigh_value, value))
    return 1 + (len(value) // _CHARACTERS_PER_WEIGHT if isinstance(value, str) else 0)


def _is_own(detail: object) -> bool:
    if not isinstance(detail, dict):
        raise InvalidToken("authorization_details holds what is no object")
    return detail.get("type") == DETAIL_TYPE


def _check_json(payload: object) -> None:
    if _is_deep(payload, _MAX_DEPTH):
        raise InvalidToken(f"payload has more than {_MAX_DEPTH} levels")
    try:
        to_json(payload)
    except ValueError:
        # A number that is too large is read as infinity, which cannot be written.
        raise InvalidToken("payload cannot be written as JSON") from None


def _is_deep(value: object, room: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (not room or any(_is_deep(each, room - 1) for each in inner))


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, kind) for each in value)


def _read_matcher(topic: Mapping[str, object], base: str) -> Matcher:
    match, match_type = topic.get("match"), topic.get("match_type", EXACT)
    if not isinstance(match, str):
        raise InvalidToken("match is no string")
    if match_type not in TYPES:
        raise InvalidToken("match_type is not known here")
    return _make(match_type, match, base)


def _make(type: str, value: str, base: str) -> Matcher:
    try:
        return make_matcher(type, value, base)
    except ValueError as error:
        raise InvalidToken(f"a matcher cannot be: {error}") from None


def _check_count(*granted: Sequence[Matcher]) -> None:
    if any(len(matchers) > _MAX_MATCHERS for matchers in granted):
        raise InvalidToken(f"more than {_MAX_MATCHERS} matchers")


def _topics(matchers: Sequence[Matcher]) -> TopicSet:
    return TopicSet([matcher.selector for matcher in matchers])

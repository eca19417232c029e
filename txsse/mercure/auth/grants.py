"""
Reads what a token grants from its claims.

Sources: https://www.rfc-editor.org/rfc/rfc9396 (``authorization_details``), and the Mercure specification,
1.0 and before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from txsse._serialize import to_json
from txsse.mercure.auth.identity import Identity
from txsse.mercure.errors import InvalidToken
from txsse.mercure.selectors.matcher import EXACT, TEMPLATE, TYPES, Matcher, make_matcher
from txsse.topics.topic_set import ISelector, TopicSet

__all__ = ["DETAIL_TYPE", "DISCONNECT", "OWN_DETAIL_TYPE", "Grants", "read_claim", "read_details"]

#: The type of the authorization details that are meant for a hub.
DETAIL_TYPE = "https://mercure.rocks/authorization-detail"

#: The type of the authorization details of txsse's extension, which allow disconnecting clients.
OWN_DETAIL_TYPE = "https://pypi.org/project/txsse/#authorization-detail"

#: The only action of such a detail; others are ignored, as Mercure ignores unknown actions.
DISCONNECT = "disconnect"

# The maximum number of details of a token, and of matchers in all of them.
_MAX_DETAILS = 100
_MAX_MATCHERS = 1000

# The maximum weight of the matchers and payloads of a token: 2 MiB, in tenths of a KiB, which is some 25 URL
# patterns. The grants stay in memory as long as a stream with the token is open.
_MAX_WEIGHT = 2 * 1024 * 10

# The weight of each token, of each matcher in a set in addition to the matcher's own, and of each set; and
# the number of characters of a payload that weigh a tenth of a KiB, at four bytes each. Measured with
# tracemalloc, rounded up.
_WEIGHT = 10
_MATCHER_WEIGHT = 1
_SET_WEIGHT = 4
_CHARACTERS_PER_WEIGHT = 25

_TOO_HEAVY = "its matchers and payloads together take too much memory; use fewer or simpler ones"

# The maximum nesting depth of a payload. Python reads some depths that it cannot write.
_MAX_DEPTH = 100


@dataclass(frozen=True)
class Grants:
    """
    The rights that a token grants.

    :ivar publish: the topics that it allows publishing to.
    :ivar subscribe: the topics whose private updates it allows reading.
    :ivar payloads: the payloads of the subscriber's subscriptions, each with the matchers that it applies to.
        The first that applies counts.
    :ivar expires: when the token expires, in seconds since 1970; ``None`` for never.
    :ivar disconnect: whether it allows disconnecting clients and revoking tokens.
    :ivar issued: when the token was issued, in seconds since 1970; ``None`` if it does not say so.
    :ivar identity: whose token it is.
    """

    publish: TopicSet = field(default_factory=TopicSet)
    subscribe: TopicSet = field(default_factory=TopicSet)
    payloads: Sequence[tuple[TopicSet, object]] = ()
    expires: float | None = None
    disconnect: bool = False
    issued: float | None = None
    identity: Identity = field(default_factory=Identity)

    @cached_property
    def weight(self) -> int:
        """
        The upper bound of their memory, in tenths of a KiB, as :attr:`Matcher.weight` counts.
        """
        sets = [self.publish, self.subscribe, *(topics for topics, _ in self.payloads)]
        # A selector in several sets is one object, and counts once.
        selectors = {selector for topics in sets for selector in topics.selectors}
        return (
            _WEIGHT
            + sum(map(_weigh_selector, selectors))
            + sum(_weigh_set(topics) for topics in sets)
            + sum(_weigh_value(payload) for _, payload in self.payloads)
            + self.identity.weight
        )

    def payload_for(self, matcher: Matcher) -> object:
        """
        Return the payload of a subscription; ``None`` if no payload applies to its matcher.
        """
        for topics, payload in self.payloads:
            if topics.has([matcher.value]):
                return payload
        return None


def read_details(claims: Mapping[str, object], base: str) -> Grants:
    """
    Return the grants of a Mercure 1.0 token (``authorization_details``), without its times and identity.

    :param claims: the claims of the token.
    :param base: the hub's URL, which relative patterns are resolved against.
    :raises InvalidToken: if any detail of Mercure's type, or of txsse's own, is malformed: one bad detail
        makes the token invalid.
    """
    details = claims.get("authorization_details", [])
    if not isinstance(details, list):
        raise InvalidToken("authorization_details is not a list")
    publish: list[Matcher] = []
    subscribe: list[Matcher] = []
    payloads: list[tuple[TopicSet, object]] = []
    scales = _Scales()
    disconnect = False
    known = [detail for detail in details if _type_of(detail) in (DETAIL_TYPE, OWN_DETAIL_TYPE)]
    if len(known) > _MAX_DETAILS:
        raise InvalidToken(f"authorization_details has more than {_MAX_DETAILS} entries")
    for detail in known:
        actions = detail.get("actions")
        if not _is_list_of(str, actions):
            raise InvalidToken("actions is not a list of strings")
        if _type_of(detail) == OWN_DETAIL_TYPE:
            disconnect = disconnect or DISCONNECT in actions
            continue
        topics = detail.get("topics")
        if not _is_list_of(dict, topics):
            raise InvalidToken("topics is not a list of objects")
        matchers = [scales.add(_read_matcher(topic, base)) for topic in topics]
        payload = detail.get("payload", {})
        if not isinstance(payload, dict):
            raise InvalidToken("payload is not an object")
        _check_json(payload)
        if "publish" in actions:
            publish += matchers
        if "subscribe" in actions:
            subscribe += matchers
            payloads.append((_topics(matchers), detail.get("payload")))
        _check_count(publish, subscribe)
    return _check_weight(Grants(_topics(publish), _topics(subscribe), payloads, disconnect=disconnect))


def read_claim(claims: Mapping[str, object], base: str) -> Grants:
    """
    Return the grants of a token from before Mercure 1.0 (the claim ``mercure``).

    :raises InvalidToken: if the claim is malformed.
    """
    claim = claims.get("mercure", {})
    if not isinstance(claim, dict):
        raise InvalidToken("mercure is not an object")
    scales = _Scales()
    granted: dict[str, list[Matcher]] = {}
    for action in ("publish", "subscribe"):
        selectors = claim.get(action) or []
        if not isinstance(selectors, list) or not all(isinstance(each, str) for each in selectors):
            raise InvalidToken(f"mercure.{action} is not a list of strings")
        granted[action] = [scales.add(_make(TEMPLATE, each, base)) for each in selectors]
    _check_count(*granted.values())
    payload = claim.get("payload")
    _check_json(payload)
    payloads = [(TopicSet("*"), payload)] if payload is not None else []
    return _check_weight(Grants(_topics(granted["publish"]), _topics(granted["subscribe"]), payloads))


class _Scales:
    """
    Adds up the weight of matchers while they are read, so that none is compiled once the limit is exceeded.
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
    Return the weight of a value from JSON: each value and each name counts, and the characters of both.
    """
    if isinstance(value, dict):
        return 2 + sum(_weigh_value(each) for item in value.items() for each in item)
    if isinstance(value, list):
        return 1 + sum(map(_weigh_value, value))
    return 1 + (len(value) // _CHARACTERS_PER_WEIGHT if isinstance(value, str) else 0)


def _type_of(detail: object) -> object:
    if not isinstance(detail, dict):
        raise InvalidToken("an entry of authorization_details is not an object")
    return detail.get("type")


def _check_json(payload: object) -> None:
    if _is_deep(payload, _MAX_DEPTH):
        raise InvalidToken(f"payload has more than {_MAX_DEPTH} levels")
    try:
        to_json(payload)
    except ValueError:
        # Python reads a number that is too large as infinity, which JSON cannot express.
        raise InvalidToken("payload cannot be written as JSON") from None


def _is_deep(value: object, room: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (not room or any(_is_deep(each, room - 1) for each in inner))


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, kind) for each in value)


def _read_matcher(topic: Mapping[str, object], base: str) -> Matcher:
    match, match_type = topic.get("match"), topic.get("match_type", EXACT)
    if not isinstance(match, str):
        raise InvalidToken("match is not a string")
    if match_type not in TYPES:
        raise InvalidToken("match_type is unknown")
    return _make(match_type, match, base)


def _make(type: str, value: str, base: str) -> Matcher:
    try:
        return make_matcher(type, value, base)
    except ValueError as error:
        raise InvalidToken(f"a matcher is not valid: {error}") from None


def _check_count(*granted: Sequence[Matcher]) -> None:
    if any(len(matchers) > _MAX_MATCHERS for matchers in granted):
        raise InvalidToken(f"more than {_MAX_MATCHERS} matchers")


def _topics(matchers: Sequence[Matcher]) -> TopicSet:
    return TopicSet([matcher.selector for matcher in matchers])

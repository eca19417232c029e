"""
Tests of the grants that are read from a token's claims, in both dialects of Mercure.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mercure.world import URL, detail
from txsse.mercure.auth.grants import DETAIL_TYPE, OWN_DETAIL_TYPE, Grants, read_claim, read_details
from txsse.mercure.errors import InvalidToken
from txsse.mercure.selectors.matcher import EXACT, PATTERN, make_matcher

ALL = {"match": "*"}
BOOKS = {"match": "https://a.example/books/:id", "match_type": "urlpattern"}

# Claims of any JSON value, and some that JSON cannot express.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
matchers = st.fixed_dictionaries(
    {}, optional={"match": anything, "match_type": anything | st.just("urlpattern")}
)
details = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([DETAIL_TYPE, OWN_DETAIL_TYPE]) | anything,
        "actions": st.lists(st.sampled_from(["publish", "subscribe", "disconnect", "walk"])) | anything,
        "topics": st.lists(matchers, max_size=3) | anything,
        "payload": anything,
    },
)


def read(*details: Any) -> Grants:
    return read_details({"authorization_details": list(details)}, URL)


def read_old(**claim: Any) -> Grants:
    return read_claim({"mercure": claim}, URL)


def payload(grants: Grants, value: str, type: str = EXACT) -> object:
    return grants.payload_for(make_matcher(type, value, URL))


def nested(levels: int) -> dict[str, Any]:
    """
    Return an object with so many levels.
    """
    made: dict[str, Any] = {}
    for _ in range(levels - 1):
        made = {"a": made}
    return made


class DetailTests:
    def test_nothing(self) -> None:
        """
        A token without details grants nothing.
        """
        for grants in (read_details({}, URL), read(), Grants()):
            assert (len(grants.publish), len(grants.subscribe), grants.payloads) == (
                0,
                0,
                grants.payloads[:0],
            )
            assert grants.expires is None
            assert payload(grants, "news") is None

    def test_actions(self) -> None:
        """
        Each authorization detail grants the actions that it names, and no others.
        """
        grants = read(
            detail(["publish"], "a"), detail(["subscribe"], "b"), detail(["subscribe", "publish"], "c")
        )
        assert grants.publish.exact == ("a", "c")
        assert grants.subscribe.exact == ("b", "c")

    def test_matchers(self) -> None:
        """
        A matcher in a token is exact unless its type is urlpattern, and relative patterns are resolved
        against the hub's URL.
        """
        relative = {"match": "/books/:id", "match_type": "urlpattern"}
        exact = {"match": "https://a.example/:id", "match_type": "exact"}
        topics = read(detail(["publish"], BOOKS, relative, exact, "news")).publish
        assert topics.has(["https://a.example/books/1"])
        assert topics.has(["https://hub.example/books/1"])
        assert topics.has(["https://a.example/:id"])
        assert topics.has(["news"])
        assert not topics.has(["https://a.example/1", "sport", "https://b.example/books/1"])

    @pytest.mark.parametrize("type", [{}, {"match_type": "exact"}, {"match_type": "urlpattern"}])
    def test_all(self, type: dict[str, str]) -> None:
        """
        A star in a token grants every topic, whatever the matcher's type.
        """
        assert read(detail(["publish"], {**ALL, **type})).publish.all

    @pytest.mark.parametrize(
        "foreign",
        [
            {},
            {"type": "mercure"},
            {"type": DETAIL_TYPE + "/"},
            {"type": DETAIL_TYPE.upper()},
            {"type": None},
            {"type": [DETAIL_TYPE]},
            {"type": {"a": 1}},
            {"type": "payment", "actions": 7, "topics": "all", "payload": []},
        ],
    )
    def test_for_others(self, foreign: dict[str, Any]) -> None:
        """
        Details of another type than Mercure's are ignored, whatever they contain.
        """
        grants = read(
            foreign, detail(["publish"], "news"), {**detail(["publish"], "other"), **foreign, "type": "x"}
        )
        assert grants.publish.exact == ("news",)

    def test_unknown_actions(self) -> None:
        """
        Unknown actions in a detail are ignored.
        """
        grants = read(detail(["walk", "publish"], "a"), detail(["Subscribe", " publish"], "b"))
        assert (grants.publish.exact, len(grants.subscribe)) == (("a",), 0)

    def test_unknown_members(self) -> None:
        """
        Unknown members of a detail and of its matchers are ignored.
        """
        grants = read(
            detail(["publish"], {"match": "a", "color": "red"}, locations=["https://b.example"], color=7)
        )
        assert grants.publish.exact == ("a",)

    @pytest.mark.parametrize("details", [None, {}, "a", 7, True, detail(["publish"], "a")])
    def test_no_list(self, details: Any) -> None:
        """
        A token whose authorization_details is not a list is refused.
        """
        with pytest.raises(InvalidToken, match="authorization_details is not a list"):
            read_details({"authorization_details": details}, URL)

    @pytest.mark.parametrize("entry", [None, [], "a", 7, True])
    def test_no_object(self, entry: Any) -> None:
        """
        A token with a detail that is not an object is refused, even if its other details are valid.
        """
        with pytest.raises(InvalidToken, match="an entry of authorization_details is not an object"):
            read(detail(["publish"], "a"), entry)

    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            ({"actions": None}, "actions is not a list of strings"),
            ({"actions": []}, "actions is not a list of strings"),
            ({"actions": "publish"}, "actions is not a list of strings"),
            ({"actions": ["publish", 7]}, "actions is not a list of strings"),
            ({"actions": {"publish": True}}, "actions is not a list of strings"),
            ({"topics": None}, "topics is not a list of objects"),
            ({"topics": []}, "topics is not a list of objects"),
            ({"topics": "*"}, "topics is not a list of objects"),
            ({"topics": ["*"]}, "topics is not a list of objects"),
            ({"topics": ALL}, "topics is not a list of objects"),
            ({"topics": [ALL, None]}, "topics is not a list of objects"),
            ({"topics": [ALL, {}]}, "match is not a string"),
            ({"topics": [{"match": None}]}, "match is not a string"),
            ({"topics": [{"match": ["a"]}]}, "match is not a string"),
            ({"topics": [{"match_type": "exact"}]}, "match is not a string"),
            ({"topics": [{**ALL, "match_type": None}]}, "match_type is unknown"),
            ({"topics": [{**ALL, "match_type": ["exact"]}]}, "match_type is unknown"),
            ({"topics": [{**ALL, "match_type": {}}]}, "match_type is unknown"),
            ({"topics": [{**ALL, "match_type": "Exact"}]}, "match_type is unknown"),
            ({"topics": [{**ALL, "match_type": "URLPattern"}]}, "match_type is unknown"),
            ({"topics": [{"match": "a{b}", "match_type": "template"}]}, "match_type is unknown"),
            ({"topics": [{**ALL, "match_type": ""}]}, "match_type is unknown"),
            ({"topics": [{"match": "a\nb"}]}, "a matcher is not valid: it holds a control character"),
            ({"topics": [{"match": "a\ud800b"}]}, "a matcher is not valid: it holds a control character"),
            ({"topics": [{"match": "a" * 2049}]}, "a matcher is not valid: it has more than 2048 characters"),
            ({"topics": [{"match": "/(", "match_type": "urlpattern"}]}, "a matcher is not valid: "),
            (
                {"topics": [{"match": "/(.{99})", "match_type": "urlpattern"}]},
                "it would take too long to match",
            ),
            ({"payload": None}, "payload is not an object"),
            ({"payload": []}, "payload is not an object"),
            ({"payload": "a"}, "payload is not an object"),
            ({"payload": {"a": float("inf")}}, "payload cannot be written as JSON"),
            ({"payload": {"a": [{"b": -float("inf")}]}}, "payload cannot be written as JSON"),
            ({"payload": nested(101)}, "payload has more than 100 levels"),
            ({"payload": {"a": [{}, nested(99)]}}, "payload has more than 100 levels"),
        ],
    )
    def test_malformed(self, members: dict[str, Any], reason: str) -> None:
        """
        One malformed detail makes the token invalid, whatever action it is for.
        """
        for action in ("publish", "subscribe", "walk"):
            with pytest.raises(InvalidToken) as raised:
                read(detail(["publish"], "good"), {**detail([action], "a"), **members})
            assert reason in raised.value.reason

    def test_missing(self) -> None:
        """
        A detail without actions, or without topics, makes the token invalid.
        """
        for name in ("actions", "topics"):
            whole = detail(["publish"], "a")
            del whole[name]
            with pytest.raises(InvalidToken, match=f"{name} is not a list"):
                read(whole)

    def test_deep_payload_as_it_is_read(self) -> None:
        """
        A payload with more than 100 levels is refused, whether or not Python could write it as JSON.
        """
        for levels in (101, 500, 900):
            claims = json.loads('{"a":' * levels + "{}" + "}" * levels)
            with pytest.raises(InvalidToken, match="more than 100 levels"):
                read({**detail(["subscribe"], "a"), "payload": claims})
            with pytest.raises(InvalidToken, match="more than 100 levels"):
                read_old(payload=claims)
        for good in (nested(100), {"a": [{}, nested(98)]}):
            assert payload(read(detail(["subscribe"], "a", payload=good)), "a") == good

    @settings(derandomize=True, deadline=None, max_examples=100)
    @given(st.lists(details, max_size=3) | anything)
    def test_anything(self, claim: Any) -> None:
        """
        Any value of authorization_details is either read or makes the token invalid, without another error.
        """
        try:
            grants = read_details({"authorization_details": claim}, URL)
        except InvalidToken:
            return
        granted = [each for each in claim if each.get("type") == DETAIL_TYPE]
        assert bool(grants.publish) <= any("publish" in each["actions"] for each in granted)
        assert len(grants.payloads) == sum("subscribe" in each["actions"] for each in granted)


class OwnDetailTests:
    """
    The details of txsse's own type, which allow disconnecting clients.
    """

    @pytest.mark.parametrize(
        ("actions", "granted"), [(["disconnect"], True), (["walk", "disconnect"], True), (["walk"], False)]
    )
    def test_actions(self, actions: list[str], granted: bool) -> None:
        """
        The action disconnect grants disconnecting, and nothing else; unknown actions and members are ignored.
        """
        own = {"type": OWN_DETAIL_TYPE, "actions": actions, "topics": 5}
        grants = read_details({"authorization_details": [own]}, URL)
        assert grants.disconnect == granted
        assert not grants.publish and not grants.subscribe

    def test_with_others(self) -> None:
        """
        A token may have details of both types, and several of the own type.
        """
        own = [{"type": OWN_DETAIL_TYPE, "actions": [each]} for each in ("disconnect", "walk")]
        grants = read_details({"authorization_details": [detail(["publish"], "a"), *own]}, URL)
        assert grants.disconnect and grants.publish.has(["a"])

    @pytest.mark.parametrize("actions", [None, "disconnect", [], ["disconnect", 5], {"disconnect": True}])
    def test_malformed(self, actions: Any) -> None:
        """
        A malformed detail makes the token invalid.
        """
        with pytest.raises(InvalidToken, match="actions is not a list of strings"):
            read_details({"authorization_details": [{"type": OWN_DETAIL_TYPE, "actions": actions}]}, URL)

    def test_too_many(self) -> None:
        """
        The details of both types share one limit.
        """
        own = [{"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]}] * 100
        assert read_details({"authorization_details": own}, URL).disconnect
        with pytest.raises(InvalidToken, match="more than 100 entries"):
            read_details({"authorization_details": [*own, detail(["publish"], "a")]}, URL)

    def test_before_1_0(self) -> None:
        """
        A token from before Mercure 1.0 cannot grant it.
        """
        own = [{"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]}]
        assert not read_claim({"mercure": {"publish": ["*"]}, "authorization_details": own}, URL).disconnect


class LimitTests:
    def test_details(self) -> None:
        """
        A token may have a hundred details of Mercure's type; details of other types do not count.
        """
        hundred = [detail(["publish"], str(number)) for number in range(100)]
        assert len(read(*hundred, *[{"type": "x"}] * 500).publish) == 100
        with pytest.raises(InvalidToken, match="authorization_details has more than 100 entries"):
            read(*hundred, detail(["walk"], "a"))

    @pytest.mark.parametrize("action", ["publish", "subscribe"])
    def test_matchers(self, action: str) -> None:
        """
        A token may have a thousand matchers per action, in one detail or in several.
        """
        some = [str(number) for number in range(400)]
        grants = read(*[detail([action], *some)] * 2, detail([action], *some[:200]))
        assert len(getattr(grants, action)) == 400
        with pytest.raises(InvalidToken, match="more than 1000 matchers"):
            read(*[detail([action], *some)] * 2, detail([action], *some[:201]))
        both = [detail(["publish"], *some), detail(["subscribe"], *some)] * 2
        assert len(read(*both).publish) == 400

    def test_old_matchers(self) -> None:
        """
        A token from before Mercure 1.0 may have a thousand matchers per action.
        """
        thousand = [str(number) for number in range(1000)]
        grants = read_old(publish=thousand, subscribe=thousand)
        assert (len(grants.publish), len(grants.subscribe)) == (1000, 1000)
        for action in ("publish", "subscribe"):
            with pytest.raises(InvalidToken, match="more than 1000 matchers"):
                read_old(**{action: [*thousand, "x"]})


class PayloadTests:
    def test_first_that_fits(self) -> None:
        """
        A subscription has the payload of the first detail that matches, even if a later one is more specific.
        """
        grants = read(
            detail(["subscribe"], "a", payload={"n": 1}),
            detail(["subscribe"], "a", "b", payload={"n": 2}),
            detail(["subscribe"], ALL, payload={"n": 3}),
            detail(["subscribe"], "c", payload={"n": 4}),
        )
        assert [payload(grants, value) for value in "abc"] == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert payload(grants, "*") == {"n": 3}

    def test_first_has_none(self) -> None:
        """
        A subscription has no payload if the first detail that matches has none.
        """
        grants = read(detail(["subscribe"], "a"), detail(["subscribe"], ALL, payload={"n": 1}))
        assert payload(grants, "a") is None
        assert payload(grants, "b") == {"n": 1}

    def test_nothing_fits(self) -> None:
        """
        A subscription that no detail matches has no payload; only a star matches the subscription to all
        topics.
        """
        grants = read(detail(["subscribe"], "a", payload={}))
        assert payload(grants, "a") == {}
        assert payload(grants, "b") is None
        assert payload(grants, "*") is None

    def test_only_for_subscribers(self) -> None:
        """
        The payload of a detail without the action subscribe is not used.
        """
        grants = read(
            detail(["publish"], ALL, payload={"n": 1}),
            detail(["publish", "subscribe"], "a", payload={"n": 2}),
        )
        assert payload(grants, "a") == {"n": 2}
        assert payload(grants, "b") is None

    def test_patterns(self) -> None:
        """
        A detail matches a subscription whose matcher's text it selects as a topic, so a pattern matches
        itself.
        """
        grants = read(detail(["subscribe"], BOOKS, payload={"n": 1}))
        assert payload(grants, BOOKS["match"], PATTERN) == {"n": 1}
        assert payload(grants, "https://a.example/books/7") == {"n": 1}
        assert payload(grants, "https://a.example/films/:id", PATTERN) is None


class OldTests:
    def test_nothing(self) -> None:
        """
        A token from before Mercure 1.0 grants nothing if its claim is missing or empty.
        """
        claims: dict[str, Any]
        for claims in ({}, {"mercure": {}}, {"mercure": {"publish": None, "subscribe": []}}):
            grants = read_claim(claims, URL)
            assert (len(grants.publish), len(grants.subscribe), grants.payloads) == (0, 0, [])

    def test_selectors(self) -> None:
        """
        The selectors of a token from before Mercure 1.0 are exact topics, URI templates or a star.
        """
        grants = read_old(publish=["*"], subscribe=["https://a.example/{id}", "news", "a{b"])
        assert grants.publish.all
        for topic in ("https://a.example/1", "https://a.example/{id}", "news", "a{b"):
            assert grants.subscribe.has([topic])
        assert not grants.subscribe.has(["https://a.example/1/2", "sport"])

    @pytest.mark.parametrize("value", [{"a": 1}, [1], "a", 0, False, "", {}])
    def test_payload(self, value: Any) -> None:
        """
        The payload of a token from before Mercure 1.0 may be any JSON value, and applies to every
        subscription.
        """
        grants = read_old(subscribe=["a"], payload=value)
        assert payload(grants, "a") == payload(grants, "b") == payload(grants, "*") == value

    def test_no_payload(self) -> None:
        """
        A payload of null in a token from before Mercure 1.0 counts as absent.
        """
        assert payload(read_old(subscribe=["*"], payload=None), "a") is None
        assert read_old(subscribe=["*"]).payloads == []

    @pytest.mark.parametrize("claim", [None, [], "a", 7, True])
    def test_no_object(self, claim: Any) -> None:
        """
        A token whose claim mercure is not an object is refused.
        """
        with pytest.raises(InvalidToken, match="mercure is not an object"):
            read_claim({"mercure": claim}, URL)

    @pytest.mark.parametrize(
        ("selectors", "reason"),
        [
            ("*", "is not a list of strings"),
            ({"*": 1}, "is not a list of strings"),
            (7, "is not a list of strings"),
            (["a", 7], "is not a list of strings"),
            ([["a"]], "is not a list of strings"),
            ([None], "is not a list of strings"),
            (["a\nb"], "a matcher is not valid"),
            (["a" * 2049], "a matcher is not valid"),
        ],
    )
    def test_malformed(self, selectors: Any, reason: str) -> None:
        """
        A malformed selector in the claim mercure makes the token invalid.
        """
        for action in ("publish", "subscribe"):
            with pytest.raises(InvalidToken, match=reason) as raised:
                read_old(**{action: selectors})
            assert ("list" not in reason) or raised.value.reason.startswith(f"mercure.{action} ")

    def test_payload_that_cannot_be_written(self) -> None:
        """
        A payload that cannot be written as JSON is refused, since the hub could not disclose it.
        """
        with pytest.raises(InvalidToken, match="payload cannot be written as JSON"):
            read_old(payload=float("nan"))

"""
Tests of the cache of verified tokens, and of the memory that tokens are weighed by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface import implementer

from tests.mercure.auth.test_verify import NOW, Time
from tests.mercure.world import URL, detail
from txsse.mercure.auth import grants as module
from txsse.mercure.auth.grants import Grants, read_claim, read_details
from txsse.mercure.auth.token_cache import MAX_REMEMBERED, MAX_WEIGHT, CachedToken, TokenCache
from txsse.mercure.errors import InvalidToken
from txsse.mercure.selectors.matcher import Matcher, make_matcher
from txsse.topics.topic_set import ISelector, TopicSet

PATTERNS = [{"match": f"/{number}/:id", "match_type": "urlpattern"} for number in range(40)]


def grants(patterns: int = 0, *, expires: float | None = None, payload: Any = None) -> Grants:
    """
    Return the grants of a token with so many patterns.
    """
    topics = [*PATTERNS[:patterns], {"match": "news"}]
    more = {} if payload is None else {"payload": payload}
    read = read_details({"authorization_details": [detail(["subscribe"], *topics, **more)]}, URL)
    return Grants(read.publish, read.subscribe, read.payloads, expires)


def remembered(given: Grants) -> CachedToken[str]:
    return CachedToken("keys", 0, given)


def small(time: Time, **bounds: int) -> TokenCache[str]:
    return TokenCache(time, **{"max_weight": 3000, "max_count": 5, **bounds})


class RememberedTests:
    @pytest.fixture
    def time(self) -> Time:
        return Time()

    def test_found(self, time: Time) -> None:
        """
        A cached token is found only for the role that it was presented for.
        """
        tokens = small(time)
        known = remembered(grants())
        tokens.add("a", "publish", known)
        assert tokens.find("a", "publish") is known
        assert tokens.find("a", "subscribe") is None and tokens.find("b", "publish") is None

    def test_count(self, time: Time) -> None:
        """
        The cache has a maximum number of tokens, and removes the least recently used one.
        """
        tokens = small(time)
        for name in "abcde":
            tokens.add(name, "publish", remembered(grants()))
        assert tokens.find("a", "publish")
        tokens.add("f", "publish", remembered(grants()))
        assert [name for name in "abcdef" if tokens.find(name, "publish")] == list("acdef")

    def test_weight(self, time: Time) -> None:
        """
        The cache has a maximum weight, to which patterns and the tokens' texts contribute.
        """
        tokens = small(time)
        for name in "abcd":
            tokens.add(name, "publish", remembered(grants(2)))
        assert 0 < len(tokens) < 4 and tokens.weight <= 3000
        assert tokens.find("d", "publish")
        tokens.add("x" * 250_000, "publish", remembered(grants()))
        assert len(tokens) == 1

    def test_too_heavy(self, time: Time) -> None:
        """
        A token that exceeds the cache's weight alone is not cached, and removes no other token.
        """
        tokens = small(time)
        tokens.add("a", "publish", remembered(grants()))
        tokens.add("b", "publish", remembered(grants(10)))
        tokens.add("x" * 350_000, "publish", remembered(grants()))
        assert len(tokens) == 1 and tokens.find("a", "publish")

    def test_same_again(self, time: Time) -> None:
        """
        A token that is added twice is weighed once.
        """
        tokens = small(time)
        tokens.add("a", "publish", remembered(grants(1)))
        weight = tokens.weight
        tokens.add("a", "publish", remembered(grants(1)))
        assert tokens.weight == weight and len(tokens) == 1
        tokens.forget("a", "publish")
        tokens.forget("a", "publish")
        assert tokens.weight == 0 and len(tokens) == 0

    @pytest.mark.parametrize("how", ["find", "add"])
    def test_expired(self, time: Time, how: str) -> None:
        """
        Expired tokens are removed from the cache at the next call, before valid ones.
        """
        tokens = small(time)
        for name, expires in (("good", None), ("a", NOW + 10), ("b", NOW + 20), ("c", NOW + 10), ("d", None)):
            tokens.add(name, "publish", remembered(grants(expires=expires)))
        time.now += 10
        if how == "find":
            assert tokens.find("e", "publish") is None
        else:
            tokens.add("e", "publish", remembered(grants()))
        assert len(tokens) == 3 + (how == "add")
        assert tokens.find("good", "publish") and tokens.find("b", "publish")
        time.now += 10
        assert tokens.find("b", "publish") is None
        time.now += 1000
        assert tokens.find("good", "publish") and tokens.find("d", "publish")

    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from("abcdefghij"),
                st.sampled_from([0, 0, 1, 2, 4, 8]),
                st.sampled_from([None, 1.0, 5.0, 50.0]),
                st.sampled_from([0.0, 0.0, 1.0, 10.0]),
                st.sampled_from([1, 1, 50, 100_000]),
                st.sampled_from(["add", "add", "find", "forget"]),
            ),
            max_size=40,
        )
    )
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_bounded(self, steps: Sequence[tuple[str, int, float | None, float, int, str]]) -> None:
        """
        After any sequence of calls, the cache is within its limits, its weight is the sum, and no cached
        token has expired.
        """
        time = Time()
        tokens = small(time)
        held: dict[str, int] = {}
        for name, patterns, lasts, passes, length, step in steps:
            time.now += passes
            text = name * length
            if step == "add":
                given = grants(patterns, expires=None if lasts is None else time.now + lasts)
                tokens.add(text, "publish", remembered(given))
                held[text] = given.weight
            else:
                getattr(tokens, step)(text, "publish")
                tokens.find("", "publish")
            assert 0 <= tokens.weight <= 3000 and len(tokens) <= 5
            found = {text: tokens.find(text, "publish") for text in held}
            kept = {text: each for text, each in found.items() if each is not None}
            assert len(kept) == len(tokens)
            assert all(
                each.grants.expires is None or each.grants.expires > time.now for each in kept.values()
            )
            assert sum(each.grants.weight for each in kept.values()) <= tokens.weight
        for text in held:
            tokens.forget(text, "publish")
        assert tokens.weight == 0

    def test_defaults(self) -> None:
        """
        400 tokens of five patterns, which would take 189 MiB, are limited to 16 MiB.
        """
        tokens: TokenCache[str] = TokenCache(Time())
        for number in range(400):
            tokens.add(str(number), "subscribe", remembered(grants(5)))
        assert tokens.weight <= MAX_WEIGHT == 16 * 1024 * 10
        assert 40 < len(tokens) < 400 < MAX_REMEMBERED


class WeightTests:
    def test_matchers(self) -> None:
        """
        Grants weigh as much as their matchers, and each selector counts once.
        """
        one, two = grants(1), grants(2)
        (pattern,) = one.subscribe.selectors
        assert pattern.weight < two.weight - one.weight < pattern.weight * 1.1  # type: ignore[attr-defined]
        both = Grants(one.subscribe, one.subscribe, one.payloads)
        assert both.weight < one.weight * 1.1
        assert 0 < Grants().weight < grants().weight < 100

    def test_templates(self) -> None:
        """
        URI templates add to the weight of grants.
        """
        plain = read_claim({"mercure": {"publish": ["https://a.example/b"]}}, URL)
        template = read_claim({"mercure": {"publish": ["https://a.example/{b}"]}}, URL)
        assert template.weight > plain.weight + 20

    def test_other_selector(self) -> None:
        """
        A selector without a weight counts for 100, as in a hub.
        """
        assert 100 < Grants(TopicSet([PlainSelector()])).weight < 150

    @pytest.mark.parametrize(
        ("payload", "least"),
        [({"a": [[]] * 100}, 100), ({"a": [{"b": 1}] * 100}, 300), ({"a": "x" * 10_000}, 100), ({}, 0)],
    )
    def test_payloads(self, payload: Any, least: int) -> None:
        """
        Each value, name and text of a payload adds to the weight of grants.
        """
        assert grants(payload=payload).weight - grants(payload={}).weight >= least

    @pytest.mark.parametrize(
        "claims",
        [
            {"authorization_details": [detail(["publish"], *PATTERNS)]},
            {"authorization_details": [detail(["publish"], each) for each in PATTERNS]},
            {
                "authorization_details": [detail(["publish"], "a", payload={})] * 2
                + [detail(["subscribe"], "a", payload={"a": [[]] * 25_000})]
            },
            {"mercure": {"publish": ["https://a.example/{a}{b}{c}{d}{e}{f}{g}"] * 100}},
            {"mercure": {"subscribe": ["*"], "payload": [[]] * 25_000}},
        ],
        ids=["patterns", "details", "payload", "templates", "old payload"],
    )
    def test_too_heavy(self, claims: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A token that is too heavy is refused, and its patterns after the limit are not compiled.
        """
        made: list[object] = []

        def make(*given: str) -> Matcher:
            made.append(given)
            return make_matcher(*given)

        monkeypatch.setattr(module, "make_matcher", make)
        read = read_claim if "mercure" in claims else read_details
        with pytest.raises(InvalidToken) as raised:
            read(json.loads(json.dumps(claims)), URL)
        assert "together take too much memory" in raised.value.reason
        assert len(made) < 40 or "mercure" in claims

    @pytest.mark.slow
    def test_not_too_heavy(self) -> None:
        """
        A token with twenty patterns, or a thousand topics, is accepted.
        """
        read_details({"authorization_details": [detail(["publish", "subscribe"], *PATTERNS[:20])]}, URL)
        topics = [f"https://example.org/books/{number}" for number in range(1000)]
        read_details({"authorization_details": [detail(["publish", "subscribe"], *topics)]}, URL)


@implementer(ISelector)
class PlainSelector:
    """
    A selector without a weight, which selects nothing.
    """

    def matches(self, topic: str) -> bool:
        return False

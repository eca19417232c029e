"""
Tests of the matchers that requests and tokens contain.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mercure.world import URL
from txsse.mercure.selectors.matcher import (
    EXACT,
    MAX_PATTERN,
    PATTERN,
    TEMPLATE,
    TYPES,
    Matcher,
    make_matcher,
)
from txsse.mercure.selectors.uri_template import TemplateSelector
from txsse.mercure.selectors.url_pattern import PatternSelector
from txsse.topics.topic_set import ISelector, TopicSet


def matches(type: str, value: str, topic: str) -> bool:
    return TopicSet([make_matcher(type, value, URL).selector]).has([topic])


class ExactTests:
    def test_literally(self) -> None:
        """
        An exact matcher is compared with topics literally: nothing is resolved, decoded or case-folded.
        """
        for value in ("news", "https://a.example/:id", "a{b}", "/a", "", "(", "é", "**", "a*"):
            assert make_matcher(EXACT, value, URL).selector == value
        assert matches(EXACT, "https://a.example/:id", "https://a.example/:id")
        assert not matches(EXACT, "https://a.example/:id", "https://a.example/1")
        assert not matches(EXACT, "/a", "https://hub.example/a")
        assert not matches(EXACT, "https://A.example/", "https://a.example/")
        assert not matches(EXACT, "a%20b", "a b")
        assert not matches(EXACT, "caf\u00e9", "cafe\u0301")

    @pytest.mark.parametrize("type", [EXACT, PATTERN, TEMPLATE])
    def test_star(self, type: str) -> None:
        """
        A star selects all topics, whatever the matcher's type.
        """
        matcher = make_matcher(type, "*", URL)
        assert (matcher.type, matcher.value, matcher.selector) == (type, "*", "*")
        assert matches(type, "*", "https://a.example/") and matches(type, "*", "no URL")


class TypeTests:
    def test_pattern(self) -> None:
        """
        A pattern matcher selects by the rules for URLs, relative to the hub's URL.
        """
        matcher = make_matcher(PATTERN, "/books/:id", URL)
        assert matcher.selector == PatternSelector("/books/:id", URL)
        assert matches(PATTERN, "/books/:id", "https://hub.example/books/1")
        assert not matches(PATTERN, "/books/:id", "https://a.example/books/1")
        assert matches(PATTERN, "/books/1", "/books/1")

    def test_template(self) -> None:
        """
        A template matcher selects the topics that the template can expand to.
        """
        assert make_matcher(TEMPLATE, "/books/{id}", URL).selector == TemplateSelector("/books/{id}", URL)
        assert matches(TEMPLATE, "/books/{id}", "/books/1")

    @pytest.mark.parametrize("value", ["news", "a{", "a}b", "{}", "a{b}{", "{!a}", "{a b}"])
    def test_no_template(self, value: str) -> None:
        """
        A template matcher whose value is not a valid template is an exact topic, as before Mercure 1.0.
        """
        assert make_matcher(TEMPLATE, value, URL).selector == value

    @pytest.mark.parametrize("type", ["", "Exact", "URLPattern", "regexp", "template "])
    def test_unknown(self, type: str) -> None:
        """
        The error for an unknown matcher type names the current types, and not the legacy one.
        """
        with pytest.raises(ValueError, match=r"is not a matcher type; use exact or urlpattern$"):
            make_matcher(type, "a", URL)
        assert TYPES == ("exact", "urlpattern")


class LimitTests:
    @pytest.mark.parametrize("type", [EXACT, PATTERN, TEMPLATE])
    def test_length(self, type: str) -> None:
        """
        A matcher of any type may have at most 2048 characters.
        """
        longest = "/" + "é" * (MAX_PATTERN - 1)
        assert make_matcher(type, longest, URL).value == longest
        with pytest.raises(ValueError, match="more than 2048 characters"):
            make_matcher(type, longest + "é", URL)

    @pytest.mark.parametrize("value", ["a\nb", "\0", "a\x7f", "\x85", "a\u200b", "\ud800", "*\n"])
    def test_characters(self, value: str) -> None:
        """
        A matcher with control or format characters is refused.
        """
        for type in (EXACT, PATTERN, TEMPLATE):
            with pytest.raises(ValueError, match="a control character or a format character"):
                make_matcher(type, value, URL)

    def test_weight(self) -> None:
        """
        A pattern weighs as much as its memory, a template as its matching time, and a topic as its length.
        """
        assert make_matcher(EXACT, "(a{100})", URL).weight == 1
        assert make_matcher(EXACT, "a" * 2000, URL).weight == 400
        assert make_matcher(TEMPLATE, "a" * 2000, URL).weight == 400
        assert make_matcher(TEMPLATE, "{a}", URL).weight == 30
        assert make_matcher(TEMPLATE, "a" * 50 + "{a}{b,c}", URL).weight == 90 + 11
        assert make_matcher(TEMPLATE, "{a}" + "a" * 50, URL).weight == 90 + 10
        assert make_matcher(TEMPLATE, "{a:50}", URL).weight == 90 + 1
        assert make_matcher(PATTERN, "/(a{100})", URL).weight == 600 + 9 + 55 + 303 + 1
        assert make_matcher(PATTERN, "*", URL).weight == 0

    def test_many_variables(self) -> None:
        """
        A template with too many variables is refused, and not used as an exact topic.
        """
        with pytest.raises(ValueError, match="a template may have at most 20 variables"):
            make_matcher(TEMPLATE, "{a}" * 21, URL)

    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(
        st.sampled_from([EXACT, PATTERN, TEMPLATE]),
        st.text(st.sampled_from("/:*(){}?+\\[]^$|aZ1.-,%é ")),
        st.text(),
    )
    def test_anything(self, type: str, value: str, topic: str) -> None:
        """
        Any value makes a matcher or raises a ValueError, and a matcher accepts any topic.
        """
        try:
            matcher = make_matcher(type, value, URL)
        except ValueError:
            assert type == PATTERN or value.count("{") > 20
            return
        if isinstance(matcher.selector, str):
            assert matcher.selector == value
        else:
            assert ISelector.providedBy(matcher.selector)
            assert matcher.selector.matches(topic) in (True, False)


class EqualityTests:
    def test_equal(self) -> None:
        """
        Matchers with the same type and value are equal.
        """
        assert make_matcher(EXACT, "a", URL) == make_matcher(EXACT, "a", URL)
        assert make_matcher(EXACT, "*", URL) != make_matcher(PATTERN, "*", URL)
        assert make_matcher(EXACT, "a", URL) != make_matcher(EXACT, "b", URL)
        assert len({make_matcher(PATTERN, "/:a", URL), make_matcher(PATTERN, "/:a", URL)}) == 1
        assert Matcher(EXACT, "a", "a") == Matcher(EXACT, "a", "b")

"""
Tests of the weight of the regular expressions in URL patterns.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urlpattern import URLPattern

from tests.mercure.world import URL
from txsse.mercure.selectors.regex_cost import spell_out, weigh

WORD = "[0-9A-Za-z_]"


class SpellingTests:
    @pytest.mark.parametrize(
        ("pattern", "spelled"),
        [
            (r"/(\d)", "/([0-9])"),
            (r"/(\d\D)", "/([0-9][^0-9])"),
            (r"/(\w+\W)", f"/({WORD}+[^0-9A-Za-z_])"),
            (r"/(\s\S)", r"/([\x09-\x0D\x20][^\x09-\x0D\x20])"),
            (r"/([\w-])", f"/([{WORD}-])"),
            (r"/([-\w])", f"/([-{WORD}])"),
            (r"/([^-\w])", f"/([^-{WORD}])"),
            (r"/((?:\d)-\d)/(\d)", "/((?:[0-9])-[0-9])/([0-9])"),
            (r"/([]\d])", "/([][0-9]])"),
            # Outside of an expression, nothing changes.
            (r"/\d", r"/\d"),
            (r"/(\\d)", r"/(\\d)"),
            (r"/\(\d", r"/\(\d"),
            (r"/(a)\d", r"/(a)\d"),
            (r")\d", r")\d"),
            # This range is invalid, which the engine reports.
            (r"/([+-\w])", r"/([+-\w])"),
            ("/(a\\", "/(a\\"),
        ],
    )
    def test_written_out(self, pattern: str, spelled: str) -> None:
        """
        Character classes are written out within the expressions of a pattern, and nowhere else.
        """
        assert spell_out(pattern) == spelled

    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(
        st.lists(
            st.sampled_from(
                [r"\w", r"\d", r"\s", r"\W", r"\D", r"\S", "a", "-", "[^-", "[", "]", "+", "(?:", ")", "1"]
            ),
            max_size=8,
        ).map("".join),
        st.text("aZ1_- é%/", max_size=6),
    )
    def test_the_same(self, expression: str, topic: str) -> None:
        """
        A pattern with written-out classes matches the same topics.
        """
        pattern = f"/({expression})"
        try:
            plain = URLPattern(pattern, URL)
        except ValueError:
            with pytest.raises(ValueError):
                URLPattern(spell_out(pattern), URL)
            return
        assert URLPattern(spell_out(pattern), URL).test(f"/{topic}", URL) == plain.test(f"/{topic}", URL)


class WeighingTests:
    @pytest.mark.parametrize(
        ("expression", "weight"),
        [
            ("", 0),
            ("a", 3),
            ("abc", 9),
            ("a{3}", 9),
            ("a{3,9}", 30),
            ("a{9,3}", 27),
            ("a{3,}", 9),
            ("a{0}", 3),
            ("a{ 3 , 9 }", 30),
            ("a{3}{9}", 81),
            ("ab{3}", 12),
            ("a+{3}", 18),
            (".", 70),
            (r"\.", 3),
            (".{3}", 210),
            ("[a-z]", 10),
            ("[a-z]{3}", 30),
            ("[^a]", 78),
            ("[^]a]{3}", 237),
            ("[[:^alpha:]]", 91),
            ("[.]", 8),
            (r"\x41", 41),
            (r"\x{41}{3}", 105),
            (r"[\x{0}]", 42),
            # Parentheses within a set are plain characters.
            ("[(?:)]{3}", 33),
            ("[^(?:)]{3}", 243),
            # The weight of an invalid expression does not matter.
            ("[(?:a]b){3}", 48),
            ("(?:ab){3}", 45),
            ("(?:a(?:b){2}){3}", 108),
            ("(?i)a", 60),
            ("a|b", 9),
            ("{}", 6),
        ],
    )
    def test_weight(self, expression: str, weight: int) -> None:
        """
        The weight of an expression is that of its elements, multiplied by their repetitions.
        """
        group = 3
        factor = 5 if "(?i" in expression else 1
        assert weigh(f"/x({expression})y") == weight + group * factor

    @pytest.mark.parametrize("expression", [r"\p{L}", r"\PL", r"[\p{L}]", "(?x)a", "(?i-x)a"])
    def test_never(self, expression: str) -> None:
        """
        An expression that is far too expensive, or cannot be weighed, weighs more than any limit.
        """
        assert weigh(f"({expression})") >= 10_000

    @pytest.mark.parametrize(
        "pattern",
        ["", "/a{3}", "/:a", "/*", ")", r"/\(a", "/.", "/(a", "))((", "\\", "(a", "([(?:])", "([)"],
    )
    def test_outside(self, pattern: str) -> None:
        """
        The parts of a pattern outside of expressions weigh nothing, and an invalid pattern has a weight, too.
        """
        assert weigh(pattern) <= 30

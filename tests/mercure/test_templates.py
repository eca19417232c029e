"""
URI templates.
"""

from __future__ import annotations

from string import ascii_letters, digits
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uritemplate import URITemplate

from txsse.mercure.templates import TemplateSelector

UNRESERVED = ascii_letters + digits + "-._~"

names = st.text("abcXYZ_019", min_size=1, max_size=3)
values = st.text(UNRESERVED, max_size=8)
# Of the levels 1 to 3: an operator, and variables.
simple = st.tuples(
    st.sampled_from(["", "+", "#", ".", "/", ";", "?", "&"]), st.lists(names, min_size=1, max_size=3)
)
literals = st.text(UNRESERVED + ":/?#[]@!$&'()*+,;=é", max_size=8)
# Of level 4: lists and maps in one, taken apart by a star.
rich = (
    values | st.lists(values, min_size=1, max_size=3) | st.dictionaries(names, values, min_size=1, max_size=3)
)


def matches(template: str, topic: str) -> bool:
    return TemplateSelector(template).matches(topic)


class Counting(str):
    """
    A topic that counts how often it is looked at.
    """

    looked: list[int]

    def __getitem__(self, place: Any) -> str:
        self.looked[0] += 1
        return super().__getitem__(place)

    def startswith(self, *args: Any) -> bool:
        self.looked[0] += 1
        return super().startswith(*args)


class MatchingTests:
    @pytest.mark.parametrize(
        ("template", "topic"),
        [
            ("https://a.example/{id}", "https://a.example/1"),
            ("https://a.example/{id}", "https://a.example/"),
            ("https://a.example/{id}", "https://a.example/a%2Fb"),
            ("https://a.example/{id}", "https://a.example/é"),
            ("https://a.example/{id}", "https://a.example/{id}"),
            ("{a}{b}", ""),
            ("{a}{b}", "xy"),
            ("{a}-{b}", "x-y-z"),
            ("{a}b{c}", "abb"),
            ("x{a,b}", "x1,2"),
            ("{a*}", "x=1,y=2"),
            ("{a:3}", "abc"),
            ("{a.b}", "x"),
            ("{%20}", "x"),
            ("{+path}/here", "/foo/bar/here"),
            ("{+a}", "https://a.example/?x#y"),
            ("x{#a}", "x#a/b"),
            ("x{#a}", "x"),
            ("x{.a}", "x.y"),
            ("x{.a}", "x"),
            ("x{/a,b}", "x/1/2"),
            ("x{/a}", "x/"),
            ("x{/a}", "x"),
            ("x{;a,b}", "x;a=1;b"),
            ("x{?a,b}", "x?a=1&b=2"),
            ("x{?a}{&b}", "x?a=1&b=2"),
            ("x{?a}{&b}", "x&b=2"),
            ("{/a}/b", "/b/b"),
            ("{/a}/b", "/b"),
            ("{/a}{/b}", "/1/2"),
            ("{/a}{.b}", ".b"),
            ("a{/b}c{/d}", "ac/1"),
        ],
    )
    def test_meant(self, template: str, topic: str) -> None:
        """
        The template expands to the topic, or is written like it.
        """
        assert matches(template, topic)

    @pytest.mark.parametrize(
        ("template", "topic"),
        [
            ("https://a.example/{id}", "https://a.example/1/2"),
            ("https://a.example/{id}", "https://a.example/1?x"),
            ("https://a.example/{id}", "https://a.example"),
            ("https://a.example/{id}", "https://A.example/1"),
            ("https://a.example/{id}", "http://a.example/1"),
            ("https://a.example/{id}", "x https://a.example/1"),
            ("https://{host}/", "https://a.example/x"),
            ("{a}", "a b"),
            ("{a}", "a\nb"),
            ("{a}", "{a"),
            ("{a}", '"'),
            ("{a}x", "abc"),
            ("{a}-{b}", "xy"),
            ("x{#a}", "xa"),
            ("x{.a}", "xy"),
            ("x{.a}", "x/y"),
            ("x{/a}", "xy"),
            ("x{/a}", "x/y?z"),
            ("x{;a}", "x/a"),
            ("x{?a}", "x&a=1"),
            ("x{?a}", "x?a/b"),
            ("x{&a}", "x?a=1"),
            ("{/a}/b", "a/b"),
            ("{+a}", "a b"),
            ("a{b}", ""),
        ],
    )
    def test_not_meant(self, template: str, topic: str) -> None:
        """
        It cannot expand to that.
        """
        assert not matches(template, topic)

    @pytest.mark.parametrize(
        "template",
        [
            "{",
            "}",
            "a{b",
            "a}b",
            "{}",
            "{a}}",
            "{{a}}",
            "{a b}",
            "{=a}",
            "{!a}",
            "{@a}",
            "{|a}",
            "{a,}",
            "{,a}",
            "{a:0}",
            "{a:12345}",
            "{a*:1}",
            "{-a}",
            "{a%2}",
            "{+}",
            "{é}",
            "{.}",
        ],
    )
    def test_no_template(self, template: str) -> None:
        """
        What is none is refused.
        """
        with pytest.raises(ValueError, match=r"is no expression|a brace is closed that was not opened"):
            TemplateSelector(template)

    def test_equal(self) -> None:
        """
        Those that are written the same are one to a hub.
        """
        one, two = TemplateSelector("{a}"), TemplateSelector("{a}")
        assert one == two
        assert len({one, two, TemplateSelector("{b}")}) == 2
        assert one != TemplateSelector("{b}")
        assert one != "{a}"
        assert repr(one) == "TemplateSelector('{a}')"


class ExpansionTests:
    """
    What another implementation expands a template to is what it selects.
    """

    @settings(derandomize=True, deadline=None, max_examples=150)
    @given(st.lists(st.tuples(literals, simple), max_size=4), literals, st.data())
    def test_simple(self, parts: list[Any], end: str, data: st.DataObject) -> None:
        """
        That is so for strings, empty ones, and variables that have no value.
        """
        template = "".join(f"{text}{{{operator}{','.join(used)}}}" for text, (operator, used) in parts) + end
        used = sorted({name for _, (_, names) in parts for name in names})
        given = {name: data.draw(values) for name in used if data.draw(st.booleans())}
        assert matches(template, URITemplate(template).expand(given))
        assert matches(template, template)

    @settings(derandomize=True, deadline=None, max_examples=100)
    @given(
        literals, st.sampled_from(["", "+", "#", ".", "/", ";", "?", "&"]), st.sampled_from(["", "*"]), rich
    )
    def test_lists_and_maps(self, text: str, operator: str, star: str, value: Any) -> None:
        """
        And for what has several values.
        """
        template = f"{text}{{{operator}a{star}}}{text}"
        assert matches(template, URITemplate(template).expand(a=value))

    @settings(derandomize=True, deadline=None, max_examples=100)
    @given(st.text("ab/é%", max_size=12), st.integers(1, 5), st.sampled_from(["", "+", "/", "?"]))
    def test_encoded_and_cut(self, value: str, length: int, operator: str) -> None:
        """
        And for what has to be encoded, or is cut.
        """
        for modifier in ("", f":{length}"):
            template = f"x{{{operator}a{modifier}}}y"
            assert matches(template, URITemplate(template).expand(a=value))

    @settings(derandomize=True, deadline=None, max_examples=150)
    @given(st.text("a/{}.-", max_size=8), st.text("a/.-?", max_size=8))
    def test_no_more(self, between: str, topic: str) -> None:
        """
        A plain variable never stands for a slash or a question mark, so that what is granted has an end.
        """
        template = f"x{{a}}{between}"
        try:
            selector = TemplateSelector(template)
        except ValueError:
            return
        if "{" not in between and selector.matches(f"x{topic}"):
            assert topic.endswith(between)
            assert not {"/", "?"} & set(topic[: len(topic) - len(between)])


class WorkTests:
    @pytest.mark.parametrize(
        "template",
        [
            "{a}" * 50 + "!",
            "{a}a" * 50 + "!",
            "{/a}" * 50 + "!",
            "{+a}{/b}" * 25 + "!",
            "{a}aa{b}" * 25,
            "{.a}{a}" * 25 + "/",
        ],
    )
    @pytest.mark.parametrize("text", ["a", "/a", ".", "a."])
    def test_bounded(self, template: str, text: str) -> None:
        """
        The topic is looked at no more often than its length times the number of parts, a few times, whatever
        they are: a regular expression that tracks back would never end.
        """
        topic = Counting(text * (1000 // len(text)))
        topic.looked = [0]
        selector = TemplateSelector(template)
        selector.matches(topic)
        parts = template.count("{") * 2 + 1
        assert topic.looked[0] <= 4 * parts * (len(topic) + 1)
        assert topic.looked[0] > 0

"""
Tests of URI templates: which topics they select, compared with other implementations, and at what cost.
"""

from __future__ import annotations

import re
import sys
from string import ascii_letters, digits
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from uritemplate import URITemplate

from tests.mercure.world import URL
from txsse.mercure.selectors.uri_template import MAX_VARIABLES, TemplateSelector, TooManyVariables

UNRESERVED = ascii_letters + digits + "-._~"

names = st.text("abcXYZ_019", min_size=1, max_size=3)
values = st.text(UNRESERVED, max_size=8)
# Expressions of RFC 6570's levels 1 to 3: an operator, and variables.
simple = st.tuples(
    st.sampled_from(["", "+", "#", ".", "/", ";", "?", "&"]), st.lists(names, min_size=1, max_size=3)
)
literals = st.text(UNRESERVED + ":/?#[]@!$&'()*+,;=é", max_size=8)


def matches(template: str, topic: str) -> bool:
    """
    Return whether a template selects a text, whatever URL the text resolves to.
    """
    return topic == template or TemplateSelector(template, URL).expands_to(topic)


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
            ("x{/a}", "x/1,2"),
            ("x{/a}", "x/1%2F2"),
            ("x{/a*}", "x/1/2"),
            ("x{/a*}", "x/b=1/c=2"),
            ("x{?a*}", "x?b=1&c="),
            ("x{;a*}", "x;b;c=1"),
            ("x{.a*}", "x.b=1.c.d=2"),
            ("x{;a}", "x;a"),
            ("x{?a}", "x?a="),
            ("{a:1}", "%C3%A9"),
            ("{a:1}", "%F0%9F%98%80"),
            ("{a:1}", "%c3%a9"),
            ("{+a:2}", "%C3%A9/"),
            ("{+a:2}", "%C3%C3"),
            ("{+a}", "%41"),
            ("%{a}", "%41"),
            ("%{a}", "%2F%2F"),
            ("%{+a}", "%41"),
            ("%4{+a}", "%41%41"),
            ("%4{a}", "%41"),
            ("%{a:2}", "%41"),
            ("{a}%{b}", "x%41"),
            ("{a}.{b}", "...."),
            (
                "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
                "/.well-known/mercure/subscriptions/a/b",
            ),
            ("a{/b}c{/d}", "ac/1"),
        ],
    )
    def test_selected(self, template: str, topic: str) -> None:
        """
        A URI template selects the topics that it can expand to, and the topic that is equal to it.
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
            ("x{/a}", "x/1/2"),
            ("x{/a,b}", "x/1/2/3"),
            ("x{?a}", "x?b=1"),
            ("x{?a}", "x?a"),
            ("x{?a}", "x?a=1&b=1"),
            ("x{?a,b}", "x?b=1&a=1"),
            ("x{&a}", "x&a=1&b=1"),
            ("x{;a}", "x;b"),
            ("x{;a}", "x;a=1;b"),
            ("x{?a*}", "x?a"),
            ("x{?a*}", "x?a=1=2"),
            ("x{?a*}", "x?a=1&&b=2"),
            ("x{;a*}", "x;a=1=2"),
            ("x{.a*}", "x.a=1=2"),
            ("x{a*}", "xa=1,b"),
            ("x{a}", "xa=1"),
            ("x{/a}", "x/a=1"),
            ("{a:3}", "abcd"),
            ("{a:3}", "a,b"),
            ("{a:1}", "%C3%A9%C3%A9"),
            ("{+a:1}", "%C3%C3"),
            # These encode no character, or one that must not be encoded.
            ("{a}", "%"),
            ("{a}", "%2"),
            ("{a}", "%A9"),
            ("{a}", "%C3"),
            ("{a}", "%ED%A0%80"),
            ("{a}", "%41"),
            ("{+a}", "%4"),
            # An encoded character is matched as a whole.
            ("{a}9", "%29"),
            ("%{a}9", "%2F%29"),
            ("{a}%A9", "%C3%A9"),
            ("{+a}9", "%29"),
            ("/.well-known/mercure/subscriptions{/topic}", "/.well-known/mercure/subscriptions/exact/x/urn"),
        ],
    )
    def test_not_selected(self, template: str, topic: str) -> None:
        """
        A URI template does not select a topic that it cannot expand to.
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
        A text that is not a URI template is refused.
        """
        with pytest.raises(
            ValueError, match=r"is not a valid expression|it has a closing brace without an opening one"
        ):
            TemplateSelector(template, URL)

    def test_equal(self) -> None:
        """
        Selectors with the same URI template and base are equal.
        """
        one, two = TemplateSelector("{a}", URL), TemplateSelector("{a}", URL)
        assert one == two
        assert len({one, two, TemplateSelector("{b}", URL)}) == 2
        assert one != TemplateSelector("{b}", URL)
        assert one != "{a}"
        assert repr(one) == f"TemplateSelector('{{a}}', {URL!r})"
        assert one != TemplateSelector("{a}", "https://a.example/")


class ExpansionTests:
    """
    Topics that the package uritemplate expands templates to.
    """

    @settings(derandomize=True, deadline=None, max_examples=150)
    @given(st.lists(st.tuples(literals, simple), max_size=4), literals, st.data())
    def test_simple(self, parts: list[Any], end: str, data: st.DataObject) -> None:
        """
        A template selects its expansions with strings, empty strings and undefined variables.
        """
        template = "".join(f"{text}{{{operator}{','.join(used)}}}" for text, (operator, used) in parts) + end
        used = sorted({name for _, (_, names) in parts for name in names})
        given = {name: data.draw(values) for name in used if data.draw(st.booleans())}
        assert matches(template, URITemplate(template).expand(given))  # type: ignore[arg-type]
        assert matches(template, template)

    @settings(derandomize=True, deadline=None, max_examples=100)
    @given(st.text("ab/é%", max_size=12), st.integers(1, 5), st.sampled_from(["", "+", "/", "?"]))
    def test_encoded_and_cut(self, value: str, length: int, operator: str) -> None:
        """
        A template selects its expansions with values that are percent-encoded or truncated.
        """
        # If a part of a value is already encoded, that package does not encode the rest of it either.
        assume(operator != "+" or unquote(value) == value)
        for modifier in ("", f":{length}"):
            template = f"x{{{operator}a{modifier}}}y"
            assert matches(template, URITemplate(template).expand(a=value))

    @settings(derandomize=True, deadline=None, max_examples=150)
    @given(st.text("a/{}.-", max_size=8), st.text("a/.-?", max_size=8))
    def test_limited_extent(self, between: str, topic: str) -> None:
        """
        A plain variable never stands for a slash or a question mark, so that the extent of a grant is
        limited.
        """
        template = f"x{{a}}{between}"
        try:
            selector = TemplateSelector(template, URL)
        except ValueError:
            return
        if "{" not in between and selector.matches(f"x{topic}"):
            assert topic.endswith(between)
            assert not {"/", "?"} & set(topic[: len(topic) - len(between)])


# The expansions of a template of one expression, by the algorithm of RFC 6570's appendix, as regular
# expressions: U is an unreserved or encoded character, R any allowed character.
U = (
    r"(?:[A-Za-z0-9._~-]|é"
    r"|(?i:%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[BCDF])|%C[2-9A-F]%[89AB][0-9A-F]))"
)
R = r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|é|%[0-9A-Fa-f]{2})"
LIST = f"(?:{U}|,)*"
PAIR = f"{U}*={U}*"
ORACLE = {
    "{a}": LIST,
    "{a,b}": LIST,
    "{a*}": f"{U}*(?:,{U}*)*|{PAIR}(?:,{PAIR})*",
    "{a:3}": f"{U}{{0,3}}",
    "{a:1,b}": f"{U}?|{LIST}",
    "{+a}": f"{R}*",
    "{+a*}": f"{R}*",
    "{#a}": f"(?:#{R}*)?",
    "{#a*}": f"(?:#{R}*)?",
    "{#a:2}": f"(?:#(?:{R}|(?i:%C[2-9A-F]%[89AB][0-9A-F])){{0,2}})?",
    "{.a}": rf"(?:\.{LIST})?",
    "{.a,b}": rf"(?:\.{LIST}(?:\.{LIST})?)?",
    "{.a*}": rf"(?:\.{U}*(?:\.{U}*)*|\.{PAIR}(?:\.{PAIR})*)?",
    "{/a}": f"(?:/{LIST})?",
    "{/a,b}": f"(?:/{LIST}(?:/{LIST})?)?",
    "{/a*}": f"(?:/{U}*(?:/{U}*)*|/{PAIR}(?:/{PAIR})*)?",
    "{/a*,b}": f"(?:/{U}*(?:/{U}*)*|/{PAIR}(?:/{PAIR})*)?(?:/{LIST})?",
    "{/a:2}": f"(?:/{U}{{0,2}})?",
    "{;a}": f"(?:;a(?:={LIST})?)?",
    "{;a,b}": f"(?:;a(?:={LIST})?)?(?:;b(?:={LIST})?)?",
    "{;a*}": f"(?:;{U}*(?:={U}*)?)*",
    "{?a}": rf"(?:\?a={LIST})?",
    "{?a,b}": rf"(?:\?a={LIST}(?:&b={LIST})?|\?b={LIST})?",
    "{?a*}": rf"(?:\?{PAIR}(?:&{PAIR})*)?",
    "{?a*,b}": rf"(?:\?{PAIR}(?:&{PAIR})*(?:&b={LIST})?|\?b={LIST})?",
    "{?a:2}": rf"(?:\?a={U}{{0,2}})?",
    "{&a}": f"(?:&a={LIST})?",
    "{&a,b}": f"(?:&a={LIST})?(?:&b={LIST})?",
    "{&a*}": f"(?:&{PAIR})*",
}

# Pieces of expansions, in any order.
pieces = st.lists(
    st.sampled_from("a b c = , . / ; ? & # é %C3%A9 %2F % %41 %A9 a= b= a=1 ;a &b= ?a= ?b= 4 1".split()),
    max_size=8,
).map("".join)
any_value = st.text("ab1=,./;?&#é ", max_size=5)
any_rich = (
    any_value
    | st.lists(any_value, min_size=1, max_size=3)
    | st.dictionaries(st.text("ab=/é", min_size=1, max_size=2), any_value, min_size=1, max_size=3)
)


class ExactlyTests:
    """
    Comparison with regular expressions, in both directions.
    """

    @settings(derandomize=True, deadline=None, max_examples=1500)
    @given(st.sampled_from(sorted(ORACLE)), pieces, st.sampled_from(["", "/", ";", ".", "?", "&", "#"]))
    def test_alone(self, template: str, topic: str, start: str) -> None:
        """
        A template of one expression selects exactly the texts that it can expand to.
        """
        topic = start + topic
        assert matches(template, topic) == bool(re.fullmatch(ORACLE[template], topic))

    @settings(derandomize=True, deadline=None, max_examples=1000)
    @given(st.sampled_from(sorted(ORACLE)), st.data())
    def test_expanded(self, template: str, data: st.DataObject) -> None:
        """
        A template selects its expansions, and of changed expansions exactly those that it can expand to.
        """
        given = {}
        for name in ("a", "b"):
            cut = f"{name}:" in template
            if data.draw(st.booleans()):
                given[name] = data.draw(any_value if cut else any_rich)
        topic = URITemplate(template).expand(given)  # type: ignore[arg-type]
        assert matches(template, topic)
        place = data.draw(st.integers(0, len(topic)))
        put = data.draw(st.sampled_from(["", "a", "=", ",", "/", "&", ";", "b=1", "%", "%2F", "."]))
        changed = topic[:place] + put + topic[data.draw(st.integers(place, len(topic))) :]
        assert matches(template, changed) == bool(re.fullmatch(ORACLE[template], changed))

    @settings(derandomize=True, deadline=None, max_examples=500)
    @given(
        st.lists(st.sampled_from(sorted(ORACLE)), min_size=2, max_size=3), st.sampled_from("xa/.="), pieces
    )
    def test_together(self, templates: list[str], between: str, topic: str) -> None:
        """
        A template of several expressions selects exactly the texts that it can expand to.
        """
        expression = re.escape(between).join(f"(?:{ORACLE[template]})" for template in templates)
        assert matches(between.join(templates), topic) == bool(re.fullmatch(expression, topic))


class Counted:
    """
    Counts calls, including those of Python's own functions, while it is entered.
    """

    def __init__(self) -> None:
        self.calls = 0

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self.calls += event in ("call", "c_call")

    def __enter__(self) -> Counted:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


class WorkTests:
    @pytest.mark.parametrize(
        "template",
        [
            "{a}" * 20 + "!",
            "{a}a" * 20 + "!",
            "{/a}" * 20 + "!",
            "{+a}{/b}" * 10 + "!",
            "{a}aa{b}" * 10,
            "{.a}{a}" * 10 + "/",
            "{.a*}{a*}" * 10 + "/",
            "{;a*}{a*}" * 10 + "/",
        ],
    )
    def test_bounded(self, template: str) -> None:
        """
        The number of steps to match depends on the template, and not on the length of the topic: there is no
        backtracking.
        """
        selector = TemplateSelector(template, URL)
        for text in ("a", "/a", ".", "a.", ";a=b", "%C3%A9"):
            calls = []
            for length in (100, 2000):
                topic = (text * length)[:length]
                selector.expands_to(topic)
                with Counted() as counted:
                    selector.expands_to(topic)
                calls.append(counted.calls)
            assert 0 < calls[1] <= calls[0] + 100
            assert calls[1] < 40 * selector.work

    @pytest.mark.parametrize(
        "template", ["{a:400}", "{+a:400}", "{a}" + "a" * 1000, "{a:90}" * 3 + "b", "{+a}" + "ab" * 500]
    )
    @pytest.mark.parametrize("text", ["a", "ab", "%C3%A9"])
    def test_weight(self, template: str, text: str) -> None:
        """
        Parts of a template that are matched character by character weigh more.
        """
        selector = TemplateSelector(template, URL)
        topic = (text * 2000)[:2000]
        selector.expands_to(topic)
        with Counted() as counted:
            selector.expands_to(topic)
        assert counted.calls < 80 * selector.work

    def test_many(self) -> None:
        """
        A template with more than 20 variables is refused, and the error names the limit.
        """
        TemplateSelector("{a}" * MAX_VARIABLES, URL)
        for template in ("{a}" * (MAX_VARIABLES + 1), "{a" + ",a" * MAX_VARIABLES + "}"):
            with pytest.raises(TooManyVariables, match="a template may have at most 20 variables; use fewer"):
                TemplateSelector(template, URL)

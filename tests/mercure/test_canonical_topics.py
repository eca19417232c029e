"""
Topics in non-canonical form: the same URL may be written in several ways, which URI templates compare as text
and URL patterns compare after resolution.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urlpattern import URLPattern

from tests.mercure.world import PATH, URL, MercureWorld, old_token, token
from txsse.mercure.auth.grants import DETAIL_TYPE, Grants, read_claim, read_details
from txsse.mercure.canonical_topics import is_resolved
from txsse.mercure.errors import InvalidToken
from txsse.mercure.selectors.matcher import EXACT, PATTERN, TEMPLATE, make_matcher
from txsse.mercure.selectors.uri_template import TemplateSelector
from txsse.topics.topic_set import ISelector, TopicSet

HUB = "https://hub.example"
EVENTS = f"{PATH}/subscriptions"

CHANGED = [
    "https://example.com/users/1/../2",
    "https://example.com/users/1/%2e%2E/2",
    "https://example.com/users/1/.%2e",
    "https://example.com/./x",
    "https://example.com/x/.",
    "https://example.com\\x",
    "https://example.com/x\\..\\y",
    "https://EXAMPLE.com/x",
    "HTTPS://example.com/x",
    "https://example.com:443/x",
    "https://example.com:08443/x",
    "https://example.com",
    "https://example.com?x",
    "https://example.com/x?",
    "https://example.com/x#",
    "https://user@example.com/x",
    "https://user:password@example.com/x",
    "https://éxample.com/x",
    "https://ex%61mple.com/x",
    "https://127.1/x",
    "https://0x7f.0.0.1/x",
    "https:///example.com/x",
    "https:/example.com/x",
    "https:x",
    "https://[broken/x",
    "https://example.com:99999/x",
    "file:/x",
    "x:/a/../b",
    "x:/.//b",
    "//example.com/x",
    "//hub.example/x",
    "/\\example.com/x",
    "\\x",
    "/a/../x",
    "../x",
    ".",
    "",
    "?x",
    "#x",
    " x",
    "x ",
    "a\tb",
    "/a\nb",
    "/\t/example.com/x",
]
UNCHANGED = [
    "https://example.com/",
    "https://example.com/users/1/2",
    "https://example.com/.../..x/x..",
    "https://example.com:8443//a//",
    "https://example.com/a?b=/../c#d/../e",
    "https://example.com/%41%2F%zz",
    'https://example.com/é b{x}|^`"<>?é#é',
    "http://[::1]/x",
    "https://xn--xample-9ua.com/x",
    "/users/1",
    "/",
    "users/1",
    "news",
    "a b",
    "1:2",
    "urn:uuid:1",
    "urn:a/../b",
    "mailto:a@b",
    "x://host/a",
    "x:///a",
    "x:/a",
    "file:///a",
    f"{EVENTS}/exact/https%3A%2F%2Fa.example%2F%7Bx%7D/urn%3Auuid%3A1",
]


class ResolvedTests:
    @pytest.mark.parametrize("topic", CHANGED)
    def test_changed(self, topic: str) -> None:
        """
        A URI template does not select a topic that URL resolution changes or may change.
        """
        assert not is_resolved(topic, URL)
        for template in ("{+any}", "{+a}{x}{+b}", "https://example.com{+rest}"):
            assert not TemplateSelector(template, URL).matches(topic)

    @pytest.mark.parametrize("topic", UNCHANGED)
    def test_unchanged(self, topic: str) -> None:
        """
        A topic that URL resolution leaves unchanged is recognised as resolved.
        """
        assert is_resolved(topic, URL)

    @pytest.mark.parametrize(
        ("base", "topic", "expected"),
        [
            ("http://localhost:8080/a/b/hub", "x", True),
            ("http://localhost:8080/a/b/hub", "/x", True),
            ("http://localhost:8080/a/b/hub", "http://localhost:8080/x", True),
            ("https://HUB.example:443/hub", "/x", True),
            ("https://HUB.example:443/hub", "https://HUB.example:443/x", False),
            ("https://user@hub.example/hub", "/x", False),
            ("https://user@hub.example/hub", "https://hub.example/x", True),
            ("https://[broken/hub", "/x", False),
        ],
    )
    def test_base(self, base: str, topic: str, expected: bool) -> None:
        """
        A relative topic is resolved against the hub's URL, whatever that URL is.
        """
        assert is_resolved(topic, base) is expected

    def test_equal_to_the_template(self) -> None:
        """
        A URI template selects a topic that equals the template as text, even one that URL resolution changes.
        """
        assert TemplateSelector("/a/../{x}", URL).matches("/a/../{x}")
        assert not TemplateSelector("/a/../{x}", URL).matches("/a/../1")


# The model of URL resolution, https://url.spec.whatwg.org/#url-parsing, for https and for schemes without a
# hierarchy.


def resolve(topic: str) -> str:
    """
    Return the URL that a topic of this family resolves to.
    """
    text = re.sub(r"[\t\n\r]", "", topic.strip("".join(map(chr, range(33)))))
    scheme, rest = re.fullmatch(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(.*)", text).groups()  # type: ignore[union-attr]
    if scheme is not None and scheme.lower() != "https":
        return f"{scheme}:{quote(rest, safe=KEPT)}"
    rest, hash, fragment = rest.partition("#")
    path, mark, query = rest.partition("?")
    path = path.replace("\\", "/")
    host = "hub.example"
    if path.startswith("//"):
        host, _, path = path.lstrip("/").partition("/")
        host = host.lower().removesuffix(":443")
    elif not path:
        path = PATH[1:]
    else:
        path = path[1:] if path.startswith("/") else f".well-known/{path}"
    kept: list[str] = []
    segments = path.split("/")
    for number, segment in enumerate(segments, 1):
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            kept[-1:] = []
        elif dots != ".":
            kept.append(segment)
        if dots in (".", "..") and number == len(segments):
            kept.append("")
    tail = (mark + query if query else "") + (hash + fragment if fragment else "")
    return quote(f"https://{host}/{'/'.join(kept)}{tail}", safe=KEPT)


# The delimiters before the last parts of a URL.
MARKED = [("", "pathname"), ("?", "search"), ("#", "hash")]
KEPT = "-._~:/?#[]@!$&'()*+,;=%"


def selects_resolved(type: str, value: str, topic: str) -> bool:
    """
    Return whether a matcher selects the resolved URL of a topic, or that URL relative to the hub's.
    """
    url = resolve(topic)
    if type == EXACT or value in ("*", topic):
        return value in ("*", topic)
    relative = [url.removeprefix(prefix) for prefix in (f"{HUB}/.well-known/", HUB) if url.startswith(prefix)]
    selector = make_matcher(type, value, URL).selector
    if isinstance(selector, TemplateSelector):
        return any(map(selector.expands_to, [url, *relative]))
    assert ISelector.providedBy(selector)
    return selector.matches(url)


heads = st.sampled_from(
    [
        *["https://example.com/", "/", ""] * 4,
        f"{EVENTS}/",
        "https://EXAMPLE.com/",
        "https://example.com:443/",
        "https://user@example.com/",
        "https://other.example/",
        "HTTPS://example.com/",
        "https:",
        "https:/",
        "//example.com/",
        "\\\\example.com/",
        "/\t/example.com/",
        " /",
        "urn:",
    ]
)
words = st.sampled_from(["users", "users", "1", "1", "2", "2", "secret", "é", "a b", "%41", "...", "x:y", ""])
dots = st.sampled_from(["..", "..", ".", "%2e%2E", ".%2e"])
ends = st.sampled_from([*[""] * 6, "?", "?a/../b", "#", "#a/../b", " "])
separators = st.sampled_from([*"/" * 8, "\\"])


@st.composite
def topics(draw: st.DrawFn) -> str:
    path = draw(st.sampled_from(["", "users/1/", "users/2/"]))
    for segment in draw(st.lists(words | words | dots, max_size=4)):
        path += segment + draw(separators)
    return draw(heads) + path[: draw(st.sampled_from([None, -1]))] + draw(ends)


patterns = st.sampled_from(
    [
        "https://example.com/users/2/:x",
        "https://example.com/users/1/*",
        "https://example.com/:x",
        "https://example.com/*",
        "https://*/users/1/*",
        "/users/1/*",
        "/users/2/:x",
        "/*",
        f"{EVENTS}/*",
        "users/*",
    ]
)
templates = st.sampled_from(
    [
        "https://example.com/users/1/{+rest}",
        "https://example.com/users/2/{x}",
        "https://example.com/users/{x}/{y}",
        "https://example.com{+rest}",
        "https://{host}/users/1{/x*}",
        "/users/1/{+rest}",
        "/users{/x,y}",
        "/{+rest}",
        "{+any}",
        "{x}",
        "users/{x}{?a}",
        f"{EVENTS}{{/topic}}{{/subscriber}}",
        f"{EVENTS}/{{+any}}",
    ]
)
matchers = st.one_of(
    st.tuples(st.just(EXACT), topics()),
    st.tuples(st.just(PATTERN), patterns),
    st.tuples(st.just(TEMPLATE), templates | templates | topics()),
)


def granted(type: str, value: str) -> Grants:
    """
    Return the grants of a Mercure 1.0 token; for a template, those of a token in the older form.
    """
    if type == TEMPLATE:
        return read_claim({"mercure": {"publish": [value], "subscribe": [value]}}, URL)
    topics = [{"match": value, "match_type": type}]
    detail = {"type": DETAIL_TYPE, "actions": ["publish", "subscribe"], "topics": topics}
    return read_details({"authorization_details": [detail]}, URL)


class BorderTests:
    """
    A grant selects, in its resolved form, every topic that is delivered under it.
    """

    @pytest.mark.fuzz
    def test_any_grant_and_reader(self) -> None:
        """
        Every delivered topic is selected, in its resolved form, by both the grant and the subscriber's
        matcher, whatever their types.
        """
        delivered = set()

        @settings(derandomize=True, deadline=None, max_examples=1000)
        @given(matchers, matchers, topics())
        def check(grant: tuple[str, str], reader: tuple[str, str], topic: str) -> None:
            try:
                grants, asked = granted(*grant), TopicSet([make_matcher(*reader, URL).selector])
            except (ValueError, InvalidToken):
                # The hub rejects the matcher, for example an exact topic with a tab.
                return
            if asked.has([topic]) and grants.publish.has([topic]):
                assert grants.subscribe.has([topic])
                assert selects_resolved(*grant, topic)
                assert selects_resolved(*reader, topic)
                delivered.add((grant[0], reader[0], resolve(topic) == topic))

        check()
        # Every type of grant and of matcher has delivered something.
        assert {grant for grant, _, _ in delivered} == {EXACT, PATTERN, TEMPLATE}
        assert {reader for _, reader, _ in delivered} == {EXACT, PATTERN, TEMPLATE}

    @settings(derandomize=True, deadline=None, max_examples=500)
    @given(topics())
    def test_model(self, topic: str) -> None:
        """
        The tests' model of URL resolution agrees with the URL pattern library.
        """
        found = URLPattern({}).exec(topic, URL)
        assert found is not None
        part = {name: each["input"] for name, each in found.items() if name != "inputs"}  # type: ignore[call-overload, index]
        user = f"{part['username']}@" if part["username"] else ""
        url = f"{part['protocol']}:{'//' if part['protocol'] == 'https' else ''}{user}{part['hostname']}"
        url += "".join(mark + part[name] for mark, name in MARKED if part[name])
        assert quote(url, safe=KEPT) == resolve(topic)


class DeliveryTests:
    """
    Dot segments in a topic do not widen a publisher's grant.
    """

    @pytest.fixture
    def old(self, new: Callable[..., MercureWorld]) -> MercureWorld:
        return new(compatibility=True, anonymous=True)

    @pytest.mark.parametrize("dots", ["..", "%2e%2E", ".%2e"])
    @pytest.mark.parametrize("host", ["https://example.com", ""])
    def test_out_of_a_template(self, old: MercureWorld, host: str, dots: str) -> None:
        """
        A publisher with a template grant cannot use dot segments to reach a subscriber of another URL
        pattern.
        """
        reader = old.subscribe(patterns=[f"{host}/users/2/:x"])
        access = old_token(publish=[f"{host}/users/1/{{+rest}}"])
        assert old.publish(f"{host}/users/1/{dots}/2/secret", token=access).status == 403
        assert old.publish(f"{host}/users/1/2/secret", token=access).status == 200
        assert reader.texts == []

    @pytest.mark.parametrize("dots", ["..", "%2e%2E", ".%2e"])
    @pytest.mark.parametrize("host", ["https://example.com", ""])
    def test_out_of_a_pattern(self, old: MercureWorld, host: str, dots: str) -> None:
        """
        A publisher with a pattern grant cannot use dot segments to reach a client through a URI template in
        its subscription or in its grant.
        """
        template = f"{host}/users/1/{{+rest}}"
        asking = old.subscribe(more=[("topic", template)])
        allowed = old.subscribe("*", token=old_token(subscribe=[template]))
        access = token(publish=[{"match": f"{host}/users/2/:x", "match_type": "urlpattern"}])
        topic = f"{host}/users/1/{dots}/2/x"
        assert old.publish(topic, "open", token=access).status == 200
        assert old.publish(topic, "private", token=access, private="on").status == 200
        assert asking.texts == []
        assert allowed.texts == ["open"]

    @pytest.mark.parametrize(
        "topic", [f"{EVENTS}/../../../x/y", f"{EVENTS}/x/%2e%2e/../../../y", f"{EVENTS}/x/..//..//../../../z"]
    )
    def test_forged_subscription(self, old: MercureWorld, topic: str) -> None:
        """
        A publisher cannot use dot segments to forge a subscription event for a subscriber of the events'
        template.
        """
        access = old_token(subscribe=["*"])
        templates = [f"{EVENTS}{{/topic}}{{/subscriber}}", f"{EVENTS}/{{+any}}"]
        watching = [old.subscribe(token=access, more=[("topic", template)]) for template in templates]
        before = [len(reader.events) for reader in watching]
        publishers: list[dict[str, Any]] = [{"publish": ["*"]}, {"publish": [topic]}]
        assert {old.publish(topic, "{}", token=old_token(**each)).status for each in publishers} == {200}
        assert [len(reader.events) for reader in watching] == before

    def test_events_are_selected(self, old: MercureWorld) -> None:
        """
        The events' template selects every subscription event of the hub, whatever the subscription's topic.
        """
        access = old_token(subscribe=["*"])
        more = [("topic", f"{EVENTS}{{/topic}}{{/subscriber}}")]
        watching = old.subscribe(token=access, more=more)
        for template in ("https://example.com/a/../{x}?y#z", "/é b", "{+any}", "\\x"):
            before = len(watching.events)
            old.subscribe(token=access, more=[("topic", template)])
            assert len(watching.events) == before + 1

    def test_exact(self, old: MercureWorld) -> None:
        """
        The hub compares exact topics byte for byte.
        """
        topic = "https://EXAMPLE.com:443/a/../b"
        exact = old.subscribe(topic, more=[("topic", topic)], token=old_token(subscribe=[topic]))
        other = old.subscribe("https://example.com/b", token=old_token(subscribe=["https://example.com/b"]))
        assert old.publish(topic, "x", token=old_token(publish=[topic]), private="on").status == 200
        assert (exact.texts, other.texts) == (["x"], [])

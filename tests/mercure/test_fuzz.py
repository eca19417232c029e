"""
Whatever is asked: never a failure, never a private update for those who may not have it, and every public one
for exactly those who want it.

The model of who wants what is plain: equal strings, ``*``, and such patterns and templates as can be written
as regular expressions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_from_bytes, urlencode

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.logger import LogEvent
from twisted.web.server import Request, Site

from tests.fakes import Client, Wire
from tests.hub.fakes import ScriptedJournal
from tests.mercure.world import (
    OTHER_SECRET,
    PATH,
    PUBLISHER,
    SECRET,
    URL,
    MercureWorld,
    Reader,
    detail,
    old_token,
    sign,
    token,
)
from txsse import Hub
from txsse.mercure.settings import COOKIE, OLD_COOKIE

FORM = "application/x-www-form-urlencoded"

# What nobody may see who was not granted it: it is in the data of all private updates here, and in payloads.
MARK = "PRIVATE-0b5c"

# Everything that an answer to bad input may be, and to good input.
STATUSES = {200, 204, 304, 400, 401, 403, 404, 405, 406, 413}


def fuzz(examples: int) -> settings:
    return settings(derandomize=True, deadline=None, max_examples=examples, database=None)


@contextmanager
def hub(**options: Any) -> Iterator[MercureWorld]:
    """
    A hub for one example, behind which nothing may be left.
    """
    with pytest.MonkeyPatch.context() as patch:
        wire = Wire("direct", patch)
        world = MercureWorld(wire, **{"anonymous": True, **options})
        yield world
        world.end()
        assert wire.reactor.getDelayedCalls() == []
        assert world.hub.metrics().channels == 0


def send(
    world: MercureWorld,
    method: bytes,
    target: bytes,
    fields: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
) -> Client:
    """
    Send a request that no library would write.
    """
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: hub.example"]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    lines += [name + b": " + value for name, value in fields]
    site = Site(world.root, requestFactory=Request, reactor=world.reactor, timeout=None)
    site.log = lambda request: None
    client = Client(world.wire, site)
    world.clients.append(client)
    client.say(b"\r\n".join([*lines, b"", b""]) + body)
    return client


def check(client: Client) -> None:
    """
    See that a request has its answer, or that the connection is closed.
    """
    assert client.status in STATUSES or (client.status == 0 and not client.connected)
    if client.status == 401:
        assert client.headers["www-authenticate"].startswith("Bearer ")
    if client.status == 405:
        assert client.headers["allow"]
    check_secret(client)


def check_secret(client: Client) -> None:
    client.pump()
    assert MARK.encode() not in client.body
    assert MARK not in repr(client.headers)


# Anything that fits on a line.
lines = st.binary(max_size=40).filter(lambda value: not re.search(rb"[\r\n]", value))
clean = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]), max_size=12)
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "*", "a", "/a", "{a}", "{", "}", ":x", "/:x", "(", "/(.*", "[", "https://[", "%", "%zz"]
    ),
    st.sampled_from(["earliest", "#1", "u0", "1" * 40, "x" * 3000, "\ufeff", "\u202e", "\x00", "\r\nid: 1"]),
)

PARAMETERS = ["match", "match_exact", "match_urlpattern", "last_event_id", "topic", "lastEventID"]
PARAMETERS += ["Last-Event-ID", "authorization", "matchTemplate", "match[]", "Match", "data", "id", "private"]
PARAMETERS += ["type", "retry"]

named = st.tuples(st.sampled_from(PARAMETERS) | texts, texts)
encoded = st.one_of(
    st.binary(max_size=60),
    st.lists(named, max_size=5).map(lambda fields: urlencode(fields).encode()),
    st.lists(st.tuples(st.sampled_from(PARAMETERS), st.binary(max_size=8)), max_size=4).map(
        lambda fields: b"&".join(name.encode() + b"=" + value for name, value in fields)
    ),
)

# Tokens that allow anything but what is private here, and some that are none. The time is 0.
TOKENS = {
    "publisher": token(publish=["*"]),
    "elsewhere": token(
        subscribe=["elsewhere", {"match": "https://c.example/:x", "match_type": "urlpattern"}]
    ),
    "expired": token(subscribe=["*"], exp=0),
    "early": token(subscribe=["*"], nbf=1000),
    "other_audience": token(subscribe=["*"], aud="https://elsewhere.example/"),
    "other_key": jwt.encode({"mercure": {"subscribe": ["*"]}}, OTHER_SECRET, "HS256"),
    "unsigned": jwt.encode({"mercure": {"subscribe": ["*"]}}, None, "none"),
    "one_bad_detail": token(authorization_details=[detail(["subscribe"], "*"), detail(["subscribe"], {})]),
    "old_elsewhere": old_token(subscribe=["elsewhere", "https://c.example/{x}"]),
    "old_publisher": old_token(publish=["*"]),
}
tokens = st.one_of(
    st.sampled_from(sorted(TOKENS.values())),
    st.builds(
        lambda token, place, byte: token[: place % len(token)] + byte + token[place % len(token) + 1 :],
        st.sampled_from([token(subscribe=["*"]), old_token(subscribe=["*"]), *TOKENS.values()]),
        st.integers(0, 1000),
        # Not the last characters: some of their bits stand for nothing.
        st.text("!.=\x7f", min_size=1, max_size=2),
    ),
    st.text("aA0.-_=~+/", max_size=30),
)
authorizations = st.one_of(
    lines,
    tokens.map(lambda token: f"Bearer {token}".encode("latin-1")),
    tokens.map(lambda token: f"bearer   {token} ".encode("latin-1")),
    st.sampled_from([b"Bearer", b"Bearer ", b"Basic YTpi", b"Bearer a b", b"BEARER \xff", b"Bearer=a"]),
)
cookies = st.one_of(
    lines,
    st.builds(
        lambda name, token: f"{name}={token}".encode("latin-1"), st.sampled_from([COOKIE, OLD_COOKIE]), tokens
    ),
    st.builds(lambda value: COOKIE.encode() + b"=" + value, lines),
)
headers = st.one_of(
    st.tuples(st.just(b"Authorization"), authorizations),
    st.tuples(st.just(b"Cookie"), cookies),
    st.tuples(
        st.just(b"Last-Event-ID"), lines | st.sampled_from([b"", b"earliest", b"u0", b"u1", b"x" * 2000])
    ),
    st.tuples(
        st.just(b"Origin"), lines | st.sampled_from([b"null", b"https://hub.example", b"https://a.example"])
    ),
    st.tuples(
        st.just(b"Referer"), lines | st.sampled_from([b"http://[", b"https://hub.example/x", b"//", b"x:"])
    ),
    st.tuples(
        st.just(b"Accept"), lines | st.sampled_from([b"text/event-stream;q=x", b"*/*;q=0", b"text/*", b",,;"])
    ),
    st.tuples(
        st.just(b"Content-Type"),
        lines
        | st.sampled_from([FORM.encode(), b"multipart/form-data", b"multipart/form-data; boundary=a", b";"]),
    ),
    st.tuples(st.just(b"If-None-Match"), lines | st.sampled_from([b"*", b'"', b'W/"a"'])),
    st.tuples(st.just(b"Access-Control-Request-Method"), lines),
)
methods = st.one_of(
    st.sampled_from(
        [b"GET", b"QUERY", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"get", b"TRACE", b"CONNECT"]
    ),
    st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True),
)
segments = st.one_of(
    st.sampled_from(
        [b"subscriptions", b"exact", b"urlpattern", b"", b".", b"..", b"%2e%2e", b"%2F", b"%", b"%ff", b"*"]
    ),
    st.binary(max_size=8).map(lambda value: quote_from_bytes(value).encode()),
    st.binary(max_size=8).filter(lambda value: not re.search(rb"[\s?#]", value)),
)
places = st.one_of(
    st.just(PATH.encode()),
    st.lists(segments, max_size=5).map(lambda each: b"/".join([PATH.encode(), *each])),
    st.lists(segments, max_size=4).map(lambda each: b"/".join([PATH.encode(), b"subscriptions", *each])),
    st.lists(segments, max_size=3).map(
        lambda each: b"/".join([b"/.well-known/oauth-protected-resource", *each])
    ),
    st.lists(segments, max_size=3).map(lambda each: b"/" + b"/".join(each)),
)


def with_secrets(world: MercureWorld) -> Reader:
    """
    Have private updates published that nobody asked for, and somebody who may read them.
    """
    reader = world.subscribe("*", token=token(subscribe=["*"], payload={"secret": MARK}))
    publish_secrets(world)
    return reader


def publish_secrets(world: MercureWorld) -> None:
    """
    Publish to topics that look like others.
    """
    for topics in (["a"], ["/a", "A"], ["{a}", "https://hub.example/a"], [":x", "x" * 2000], ["elsewhere/"]):
        form = [*(("topic", topic) for topic in topics), ("data", MARK), ("private", "on")]
        assert world.ask("POST", form=form, token=PUBLISHER).status == 200


compatibilities = st.booleans()


class AnythingTests:
    """
    Requests of every shape.
    """

    def test_requests(self, failures: list[LogEvent]) -> None:
        """
        Each is answered, with nothing that failed behind it, and no secret in it.
        """

        @fuzz(250)
        @given(
            methods,
            places,
            st.none() | encoded.filter(lambda query: not re.search(rb"\s", query)),
            st.lists(headers, max_size=4),
            st.just(b"") | encoded,
            compatibilities,
        )
        @example(b"GET", PATH.encode(), b"match=a&last_event_id=%0d%0aX:1", [], b"", False)
        @example(b"GET", PATH.encode(), b"match=%ff", [], b"", False)
        @example(b"QUERY", PATH.encode(), b"", [(b"Content-Type", FORM.encode())], b"match=%ff", False)
        @example(b"GET", b"/.well-known/mercure/subscriptions/%ff/%00", None, [], b"", True)
        @example(b"OPTIONS", b"*", None, [], b"", False)
        def ask(
            method: bytes,
            place: bytes,
            query: bytes | None,
            fields: list[tuple[bytes, bytes]],
            body: bytes,
            compatibility: bool,
        ) -> None:
            with hub(compatibility=compatibility, origins=["https://a.example"]) as world:
                with_secrets(world)
                target = place if query is None else place + b"?" + query
                client = send(world, method, target, fields, body)
                check(client)
                publish_secrets(world)
                check_secret(client)

        ask()
        assert failures == []

    @pytest.mark.parametrize("method", [b"GET", b"QUERY", b"HEAD"])
    def test_subscriptions(self, failures: list[LogEvent], method: bytes) -> None:
        """
        A stream is opened, or refused; and what is private is in none of them.
        """

        @fuzz(120)
        @given(
            st.lists(named, max_size=4),
            encoded,
            st.sampled_from(["in query", "in body"]),
            st.lists(headers, max_size=3),
            st.sampled_from([None, *sorted(TOKENS)]),
            compatibilities,
        )
        def ask(
            fields: list[tuple[str, str]],
            rest: bytes,
            place: str,
            others: list[tuple[bytes, bytes]],
            kind: str | None,
            compatibility: bool,
        ) -> None:
            with hub(compatibility=compatibility) as world:
                with_secrets(world)
                form = [("match", "*"), ("match_urlpattern", "/*"), ("last_event_id", "earliest"), *fields]
                query, body = urlencode(form).encode(), b""
                if place == "in body" and method == b"QUERY":
                    query, body = b"", query + b"&" + rest
                sent = [(b"Content-Type", FORM.encode()), *others]
                if kind is not None:
                    sent.insert(0, (b"Authorization", b"Bearer " + TOKENS[kind].encode()))
                client = send(world, method, PATH.encode() + b"?" + query, sent, body)
                check(client)
                publish_secrets(world)
                check_secret(client)

        ask()
        assert failures == []

    def test_publications(self, failures: list[LogEvent]) -> None:
        """
        What is taken arrives as it was sent; what is not, does not arrive.
        """
        one = st.tuples(
            st.sampled_from(["topic", "data", "id", "type", "retry", "private"]) | texts, texts | clean
        )

        @fuzz(200)
        @given(st.lists(one, max_size=5), st.booleans())
        @example([("topic", "a"), ("data", "\r\n\r\ndata: x\r\rid: 7\n")], True)
        @example([("topic", "a"), ("data", "\ufeff\x00\u2028"), ("id", "é")], True)
        def publish(form: list[tuple[str, str]], with_topic: bool) -> None:
            form = [("topic", "a"), *form] if with_topic else form
            with hub() as world:
                reader = world.subscribe("*", token=token(subscribe=["*"]))
                before = len(reader.events)
                client = world.ask("POST", form=form, token=PUBLISHER)
                check(client)
                came = reader.events[before:]
                if client.status != 200:
                    assert came == []
                    return
                given = dict(reversed(form))
                (event,) = came
                assert event.data == re.sub("\r\n?", "\n", given.get("data", ""))
                assert event.id == client.body.decode() == (given.get("id") or event.id)
                assert event.event == (given.get("type") or "message")

        publish()
        assert failures == []

    def test_bodies(self, failures: list[LogEvent]) -> None:
        """
        Forms as no library writes them, from a page that is trusted and from others.
        """

        @fuzz(200)
        @given(
            encoded,
            st.lists(headers, max_size=3),
            st.sampled_from(["header", "cookie", "old cookie"]),
            compatibilities,
        )
        @example(b"topic=a", [(b"Referer", b"http://[")], "cookie", False)
        @example(b"topic=a", [(b"Referer", b"https://hub.example")], "cookie", False)
        def publish(
            body: bytes, others: list[tuple[bytes, bytes]], carrier: str, compatibility: bool
        ) -> None:
            with hub(compatibility=compatibility) as world:
                with_secrets(world)
                good = PUBLISHER.encode()
                presented = {
                    "header": (b"Authorization", b"Bearer " + good),
                    "cookie": (b"Cookie", COOKIE.encode() + b"=" + good),
                    "old cookie": (b"Cookie", OLD_COOKIE.encode() + b"=" + good),
                }[carrier]
                sent = [presented, (b"Content-Type", FORM.encode()), *others]
                client = send(world, b"POST", PATH.encode(), sent, body)
                check(client)

        publish()
        assert failures == []

    def test_lists(self, failures: list[LogEvent]) -> None:
        """
        Whatever the path, subscriptions are shown to those alone who may see it.
        """
        granted = st.sampled_from(
            [
                [f"{PATH}/subscriptions/exact/nobody"],
                [{"match": f"{PATH}/subscriptions/urlpattern/:x", "match_type": "urlpattern"}],
                [f"{PATH}/other", "a", "https://hub.example/a", PATH, f"{PATH}/"],
            ]
        )

        @fuzz(200)
        @given(st.lists(segments, max_size=5), granted, st.lists(headers, max_size=2), compatibilities)
        def ask(
            path: list[bytes], granted: Any, others: list[tuple[bytes, bytes]], compatibility: bool
        ) -> None:
            with hub(compatibility=compatibility) as world:
                with_secrets(world)
                target = b"/".join([PATH.encode(), b"subscriptions", *path])
                ours = (b"Authorization", b"Bearer " + token(subscribe=granted).encode())
                client = send(world, b"GET", target, [ours, *others])
                check(client)
                every = (b"Authorization", b"Bearer " + token(subscribe=["*"]).encode())
                client = send(world, b"GET", target, [every])
                assert client.status in (200, 400, 404)

        ask()
        assert failures == []

    @pytest.mark.parametrize("compatibility", [False, True])
    def test_lists_of_lists(self, compatibility: bool) -> None:
        """
        Who may see a part of the list does not see what it is a part of, nor what is a part of it.
        """
        with hub(compatibility=compatibility) as world:
            with_secrets(world)
            every = token(subscribe=["*"])
            (listed,) = json.loads(world.ask(path=f"{PATH}/subscriptions", token=every).body)["subscriptions"]
            *_, first, second, third = listed["id"].split("/")
            paths = [f"{PATH}/subscriptions"]
            paths.append(f"{paths[0]}/{first}/{second}")
            paths.append(f"{paths[1]}/{third}")
            for granted in paths:
                for asked in paths:
                    client = world.ask(path=asked, token=token(subscribe=[granted]))
                    assert client.status == (200 if granted == asked else 403)
                    if granted != asked:
                        check(client)

    def test_client_that_goes(self, failures: list[LogEvent]) -> None:
        """
        Whoever asks for the list again, and goes before the journal has told where it is, is no failure.
        """
        with pytest.MonkeyPatch.context() as patch:
            wire = Wire("direct", patch)
            journal = ScriptedJournal(reactor=wire.reactor)
            world = MercureWorld(wire, Hub(journal=journal, reactor=wire.reactor))
            every = token(subscribe=["*"])
            tag = world.ask(path=f"{PATH}/subscriptions", token=every).headers["etag"]
            journal.held.add("last_id")
            client = world.ask(path=f"{PATH}/subscriptions", token=every, headers={"If-None-Match": tag})
            assert client.status == 0
            client.disconnect(clean=False)
            journal.release("last_id")
        assert failures == []

    def test_tokens(self, failures: list[LogEvent]) -> None:
        """
        A token may say anything, in its header and its claims, signed by whoever it may be.
        """
        values = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=6,
        )
        matchers = st.fixed_dictionaries({"match": values | texts}, optional={"match_type": values})
        details = st.fixed_dictionaries(
            {"type": values | st.just(detail([])["type"])},
            optional={
                "actions": values | st.just(["subscribe"]),
                "topics": values | st.lists(matchers, max_size=3),
                "payload": values,
            },
        )
        claims = st.fixed_dictionaries(
            {"aud": st.just(URL) | values, "exp": st.just(3600) | values},
            optional={
                "authorization_details": values | st.lists(details, max_size=3),
                "mercure": values
                | st.fixed_dictionaries({}, optional={"subscribe": values, "payload": values}),
                "nbf": values,
                "iss": values,
            },
        )
        fields = st.fixed_dictionaries(
            {}, optional={"typ": values, "crit": values, "cty": values, "jku": values, "x5c": values}
        )

        @fuzz(200)
        @given(claims, fields, st.sampled_from([SECRET, OTHER_SECRET]), compatibilities, st.booleans())
        def ask(claims: Any, fields: Any, key: str, compatibility: bool, publishing: bool) -> None:
            try:
                made = sign(claims, key=key, headers=fields)
            except (TypeError, ValueError, AttributeError, jwt.PyJWTError):
                # Its own library does not make such a one.
                return
            with hub(compatibility=compatibility) as world:
                if publishing:
                    client = world.publish("a", token=made)
                    assert client.status in (200, 400, 401, 403)
                else:
                    client = world.ask(query=[("match", "*")], token=made)
                    assert client.status in (200, 400, 401)
                check(client)

        ask()
        assert failures == []


# The model.

ORIGIN = "https://hub.example"


def resolved(topic: str) -> str | None:
    """
    Tell what URL a topic of the family here is; ``None`` for one that is none below ``https``.
    """
    if topic.startswith("urn:"):
        return None
    if topic.startswith("https://"):
        return topic
    return f"{ORIGIN}{topic}" if topic.startswith("/") else f"{ORIGIN}/.well-known/{quote(topic)}"


def _expression(piece: str) -> str:
    if piece.startswith(":") or piece == "(\\d+)":
        return "[^/]+" if piece.startswith(":") else "[0-9]+"
    return re.escape(piece).replace(r"\*", ".*")


@dataclass(frozen=True)
class Match:
    """
    A matcher of the family here.
    """

    type: str
    value: str

    def selects(self, topic: str) -> bool:
        """
        Tell what the model says.
        """
        if self.value in ("*", topic):
            # A pattern that is a topic, too, selects what it matches alone.
            return self.type != "urlpattern" or self.value == "*" or self._matches(topic)
        if self.type == "template" and "{" in self.value:
            literals = re.split(r"\{\w+\}", self.value)
            return bool(re.fullmatch(r"[\w.~%,=-]*".join(map(re.escape, literals)), topic))
        return self.type == "urlpattern" and self._matches(topic)

    def _matches(self, topic: str) -> bool:
        url = resolved(topic)
        pattern = self.value if self.value.startswith("https://") else f"{ORIGIN}{self.value}"
        parts = map(_expression, pattern.split("/"))
        return url is not None and bool(re.fullmatch("/".join(parts), url))

    @property
    def parameter(self) -> tuple[str, str]:
        """
        What a request asks for it by.
        """
        names = {"exact": "match", "urlpattern": "match_urlpattern", "template": "topic"}
        return names[self.type], self.value

    @property
    def granted(self) -> dict[str, str]:
        """
        What a token grants it by.
        """
        return {"match": self.value, "match_type": self.type}


words = st.sampled_from(["a", "A", "b", "1", "22"])
hosts = st.sampled_from(["", "", ORIGIN, "https://a.example", "https://b.example"])
plain_topics = st.builds(
    lambda host, path: f"{host}/{'/'.join(path)}", hosts, st.lists(words, min_size=1, max_size=3)
)
odd_topics = st.sampled_from(
    ["a", "A", "ab", "urn:x:a", "{a}", "/a/{x}", "*a", "/p/:x0", "/%61", "/a/", "a b"]
)
topics = st.one_of(plain_topics, plain_topics, odd_topics)
pieces = st.one_of(words, words, st.just(":x"), st.just("(\\d+)"))


def _pattern(host: str, path: Sequence[str], rest: str) -> Match:
    # A name may be there once.
    numbered = [f"{piece}{number}" if piece == ":x" else piece for number, piece in enumerate(path)]
    return Match("urlpattern", f"{host}/{'/'.join(numbered)}{rest}")


patterns = st.builds(
    _pattern,
    hosts | st.just("https://*.example"),
    st.lists(pieces, min_size=1, max_size=3),
    st.sampled_from(["", "", "/*"]),
)
templates = st.sampled_from(
    ["{a}", "/a/{x}", "/{x}/{y}", "https://a.example/{x}", "{a}b", "/a{x}", "*a", "a", "*"]
)
modern = st.one_of(
    topics.map(lambda topic: Match("exact", topic)),
    patterns,
    patterns,
    st.sampled_from([Match("exact", "*"), Match("urlpattern", "*")]),
)
olden = st.one_of(modern, templates.map(lambda value: Match("template", value)))


@dataclass
class Told:
    """
    An update of the model's.
    """

    topics: list[str]
    private: bool
    text: str = ""
    id: str = ""

    def is_for(self, wanted: Sequence[Match], granted: Sequence[Match]) -> bool:
        """
        Tell whether somebody gets it.
        """
        asked = any(match.selects(topic) for match in wanted for topic in self.topics)
        allowed = any(match.selects(topic) for match in granted for topic in self.topics)
        return asked and (allowed or not self.private)


updates = st.builds(Told, st.lists(topics, min_size=1, max_size=3), st.booleans())


class Record:
    """
    What was published, in order.
    """

    def __init__(self, world: MercureWorld) -> None:
        self.world = world
        self.told: list[Told] = []

    def publish(self, update: Told) -> None:
        """
        Publish another one.
        """
        number = len(self.told)
        update = Told(
            update.topics, update.private, f"{number} {MARK if update.private else 'open'}", f"u{number}"
        )
        form = [*(("topic", topic) for topic in update.topics), ("data", update.text), ("id", update.id)]
        if update.private:
            form.append(("private", "on"))
        assert self.world.ask("POST", form=form, token=PUBLISHER).status == 200
        self.told.append(update)

    def begin(self, last_id: str | None) -> int:
        """
        Tell from where on somebody gets what there is.
        """
        if last_id is None:
            return len(self.told)
        ids = [update.id for update in self.told]
        return ids.index(last_id) + 1 if last_id in ids else 0

    def due(
        self, wanted: Sequence[Match], granted: Sequence[Match], start: int, end: int | None = None
    ) -> list[str]:
        """
        Tell what somebody gets.
        """
        return [update.text for update in self.told[start:end] if update.is_for(wanted, granted)]


def told_to(reader: Reader) -> list[str]:
    """
    Return what came, but for what tells of subscriptions.
    """
    return [text for text in reader.texts if text[:1].isdigit()]


class DeliveryTests:
    @pytest.mark.parametrize("compatibility", [False, True])
    def test_model(self, failures: list[LogEvent], compatibility: bool) -> None:
        """
        Everybody gets exactly what they ask for and may have, replayed and live, in order.
        """
        matchers = olden if compatibility else modern

        @fuzz(200)
        @given(
            st.lists(matchers, min_size=1, max_size=4),
            st.lists(modern, max_size=2),
            st.lists(updates, max_size=6),
            st.lists(updates, max_size=4),
            st.none() | st.sampled_from(["earliest", "unknown"]) | st.integers(0, 5),
            st.sampled_from(["header", "query", "body"]),
        )
        @example(
            [Match("urlpattern", "/a")],
            [Match("exact", "/a")],
            [],
            [Told([f"{ORIGIN}/a"], True)],
            None,
            "query",
        )
        @example(
            [Match("urlpattern", "/A")],
            [],
            [Told(["/a"], False), Told(["/A"], False)],
            [],
            "earliest",
            "body",
        )
        def deliver(
            wanted: list[Match],
            granted: list[Match],
            before: list[Told],
            after: list[Told],
            resumed: str | int | None,
            carrier: str,
        ) -> None:
            with hub(compatibility=compatibility) as world:
                record = Record(world)
                for update in before:
                    record.publish(update)
                last_id = f"u{resumed}" if isinstance(resumed, int) else resumed
                start = record.begin(last_id)
                reader = self.ask(world, wanted, granted, last_id, carrier)
                assert reader.status == 200
                if last_id is not None:
                    named = last_id if start else "earliest"
                    assert reader.headers["mercure-last-event-id"] == named
                for update in after:
                    record.publish(update)
                assert told_to(reader) == record.due(wanted, granted, start)
                if not granted:
                    check_secret(reader.client)

        deliver()
        assert failures == []

    def ask(
        self,
        world: MercureWorld,
        wanted: Sequence[Match],
        granted: Sequence[Match],
        last_id: str | None,
        carrier: str,
    ) -> Reader:
        fields = [match.parameter for match in wanted]
        given = token(subscribe=[match.granted for match in granted]) if granted else None
        sent = {}
        if last_id is not None and carrier == "header":
            sent["Last-Event-ID"] = last_id
        elif last_id is not None:
            fields.append(("last_event_id", last_id))
        if carrier == "body":
            return Reader(world.ask("QUERY", form=fields, token=given, headers=sent))
        return Reader(world.ask(query=fields, token=given, headers=sent))


class BoundTests:
    def test_client_that_reads_nothing(self, failures: list[LogEvent]) -> None:
        """
        Whatever is published meanwhile, next to nothing is held for it.
        """
        with hub() as world:
            reader = world.subscribe("*")
            reader.client.stop_reading()
            for _ in range(300):
                world.publish("a", "x" * 10_000)
            transport = reader.client.transport
            held = len(transport.dataBuffer) + transport._tempDataLen
            assert world.hub.metrics().buffered + held < 300_000
        assert failures == []

    @pytest.mark.parametrize(
        ("method", "fields"),
        [
            ("POST", [("topic", "a"), ("data", "x" * 1_100_000)]),
            ("POST", [("topic", f"{number}") for number in range(1999)]),
            ("QUERY", [("match", "x" * 1_100_000)]),
            ("QUERY", [("match", "x" * 3000)]),
            ("QUERY", [("match", f"{number}") for number in range(1999)]),
            ("QUERY", [("match_urlpattern", f"/{number}/" + ":x/" * 300) for number in range(90)]),
            ("QUERY", [("match_urlpattern", "/([\\w]{900})")]),
            ("QUERY", [("x", "")] * 3000),
        ],
        ids=["data", "topics", "body", "matcher", "matchers", "groups", "repetition", "fields"],
    )
    def test_too_much_of_something(
        self, failures: list[LogEvent], method: str, fields: list[tuple[str, str]]
    ) -> None:
        """
        It is refused, and nothing of it stays.
        """
        with hub() as world:
            before = world.hub.metrics()
            client = world.ask(method, form=fields, token=PUBLISHER)
            assert client.status in (400, 413)
            after = world.hub.metrics()
            assert (after.published, after.channels) == (before.published, 0)
        assert failures == []


@dataclass
class Viewer:
    """
    A subscriber of the model's.
    """

    reader: Reader
    wanted: list[Match]
    granted: list[Match]
    start: int
    expires: float | None
    end: int | None = None
    gone: bool = field(default=False)


class MercureMachine(RuleBasedStateMachine):
    """
    Publishers and subscribers with tokens of all kinds, as time goes by.
    """

    world: MercureWorld

    def __init__(self, compatibility: bool) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        wire = Wire("direct", self._patch)
        self.world = MercureWorld(wire, anonymous=True, compatibility=compatibility)
        self.record = Record(self.world)
        self.viewers: list[Viewer] = []

    @initialize(several=st.lists(updates, max_size=3))
    def history(self, several: list[Told]) -> None:
        self.publish_several(several)

    @rule(several=st.lists(updates, min_size=1, max_size=3))
    def publish_several(self, several: list[Told]) -> None:
        for update in several:
            self.record.publish(update)

    @rule(
        update=updates,
        kind=st.sampled_from([None, "elsewhere", "expired", "other_audience", "other_key", "unsigned"]),
    )
    def publish_without_right(self, update: Told, kind: str | None) -> None:
        form = [("topic", topic) for topic in update.topics]
        client = self.world.ask("POST", form=form, token=None if kind is None else TOKENS[kind])
        assert client.status == (403 if kind == "elsewhere" else 401)

    @rule(
        granted=st.lists(modern, min_size=1, max_size=2),
        update=updates,
    )
    def publish_with_some_right(self, granted: list[Match], update: Told) -> None:
        may = all(any(match.selects(topic) for match in granted) for topic in update.topics)
        if not may:
            form = [("topic", topic) for topic in update.topics]
            given = self.make_token(publish=[match.granted for match in granted])
            assert self.world.ask("POST", form=form, token=given).status == 403

    @precondition(lambda self: sum(not viewer.gone for viewer in self.viewers) < 5)
    @rule(
        wanted=st.lists(modern, min_size=1, max_size=3),
        granted=st.lists(modern, max_size=2),
        lifetime=st.none() | st.sampled_from([10, 100]),
        resumed=st.none() | st.sampled_from(["earliest", "unknown", 0, 1, 2]),
        by_cookie=st.booleans(),
    )
    def subscribe(
        self,
        wanted: list[Match],
        granted: list[Match],
        lifetime: int | None,
        resumed: str | int | None,
        by_cookie: bool,
    ) -> None:
        last_id = f"u{max(0, len(self.record.told) - 1 - resumed)}" if isinstance(resumed, int) else resumed
        expires = None
        sent = {} if last_id is None else {"Last-Event-ID": last_id}
        given = None
        if granted or lifetime is not None:
            expires = self.world.reactor.seconds() + (lifetime or 100_000)
            given = self.make_token(subscribe=[match.granted for match in granted], exp=expires)
            if by_cookie:
                sent["Cookie"], given = f"x=y; {COOKIE}={given}", None
        start = self.record.begin(last_id)
        query = [match.parameter for match in wanted]
        reader = Reader(self.world.ask(query=query, token=given, headers=sent))
        assert reader.status == 200
        self.viewers.append(Viewer(reader, wanted, granted, start, expires))

    def make_token(self, **claims: Any) -> str:
        return token(**{"exp": self.world.reactor.seconds() + 3600, **claims})

    @rule(wanted=modern, kind=st.sampled_from(["expired", "other_audience", "other_key", "unsigned"]))
    def subscribe_by_bad_token(self, wanted: Match, kind: str) -> None:
        client = self.world.ask(query=[wanted.parameter], token=TOKENS[kind])
        assert client.status == 401

    @precondition(lambda self: any(not viewer.gone for viewer in self.viewers))
    @rule(which=st.integers(0, 10))
    def leave(self, which: int) -> None:
        there = [viewer for viewer in self.viewers if not viewer.gone]
        viewer = there[which % len(there)]
        viewer.reader.leave()
        self.has_gone(viewer)

    def has_gone(self, viewer: Viewer) -> None:
        viewer.gone = True
        viewer.end = len(self.record.told)

    @precondition(lambda self: any(viewer.gone for viewer in self.viewers))
    @rule(which=st.integers(0, 10), keep_grants=st.booleans())
    def come_back(self, which: int, keep_grants: bool) -> None:
        """
        With the last id that came, and perhaps without the token.
        """
        away = [viewer for viewer in self.viewers if viewer.gone]
        viewer = away[which % len(away)]
        ids = [
            event.id
            for event in viewer.reader.events
            if (event.id or "")[:1] == "u" and event.id[:3] != "urn"
        ]
        if not ids:
            return
        granted = viewer.granted if keep_grants else []
        given = self.make_token(subscribe=[match.granted for match in granted]) if granted else None
        query = [match.parameter for match in viewer.wanted]
        start = self.record.begin(ids[-1])
        expires = self.world.reactor.seconds() + 3600 if granted else None
        reader = Reader(self.world.ask(query=query, token=given, headers={"Last-Event-ID": ids[-1]}))
        self.viewers.append(Viewer(reader, viewer.wanted, granted, start, expires))

    @rule(seconds=st.sampled_from([1, 20, 200]))
    def wait(self, seconds: int) -> None:
        self.world.reactor.advance(seconds)
        for viewer in self.viewers:
            viewer.reader.client.pump()
            if (
                not viewer.gone
                and viewer.expires is not None
                and viewer.expires <= self.world.reactor.seconds()
            ):
                assert viewer.reader.client.ended
                self.has_gone(viewer)

    @invariant()
    def look(self) -> None:
        for viewer in self.viewers:
            due = self.record.due(viewer.wanted, viewer.granted, viewer.start, viewer.end)
            assert told_to(viewer.reader) == due
            if not viewer.granted:
                check_secret(viewer.reader.client)
        there = sum(not viewer.gone for viewer in self.viewers)
        assert self.world.hub.metrics().channels == there

    @invariant()
    def listed(self) -> None:
        """
        The list holds who is there, each matcher once.
        """
        expected = [
            match for viewer in self.viewers if not viewer.gone for match in dict.fromkeys(viewer.wanted)
        ]
        given = self.make_token(subscribe=["*"])
        client = self.world.ask(path=f"{PATH}/subscriptions", token=given)
        assert client.status == 200
        assert client.body.count(b'"active":true') == len(expected)

    def teardown(self) -> None:
        try:
            self.world.end()
            assert self.world.reactor.getDelayedCalls() == []
            assert self.world.hub.metrics().channels == 0
        finally:
            self._patch.undo()


class MachineTests:
    @pytest.mark.parametrize("compatibility", [False, True])
    def test_any_order_of_events(self, failures: list[LogEvent], compatibility: bool) -> None:
        """
        Every subscriber gets exactly what it may have, as long as its token allows that.
        """
        every = settings(
            derandomize=True, deadline=None, max_examples=40, stateful_step_count=25, database=None
        )
        machine: Callable[[], MercureMachine] = lambda: MercureMachine(compatibility)  # noqa: E731
        run_state_machine_as_test(machine, settings=every)
        assert failures == []

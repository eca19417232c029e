"""
Fuzz tests of a Mercure hub: no request causes an internal error, discloses a private update to a client that
may not read it, or makes the hub hold more than its limits.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogEvent

from tests.fakes import Wire
from tests.hub.fakes import ScriptedJournal
from tests.mercure.fuzzing import (
    FORM,
    TOKENS,
    check,
    check_secret,
    clean,
    compatibilities,
    encoded,
    fuzz,
    headers,
    hub,
    methods,
    named,
    numbers,
    places,
    publish_secrets,
    segments,
    send,
    texts,
    with_secrets,
)
from tests.mercure.world import (
    DISCONNECT,
    OTHER_SECRET,
    PATH,
    PUBLISHER,
    SECRET,
    UNRETAIN,
    URL,
    MercureWorld,
    detail,
    sign,
    token,
)
from txsse import Hub
from txsse.mercure.settings import COOKIE, OLD_COOKIE

pytestmark = pytest.mark.fuzz


class AnythingTests:
    """
    Requests of every shape.
    """

    def test_requests(self, failures: list[LogEvent]) -> None:
        """
        Every request gets an expected response without a logged failure, and no response contains a private
        update.
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

    def test_subscriptions(self, failures: list[LogEvent]) -> None:
        """
        Every request for a stream is accepted or refused with an expected status, and none receives a private
        update.
        """

        @fuzz(150)
        @given(
            st.sampled_from([b"GET", b"QUERY", b"HEAD"]),
            st.lists(named, max_size=4),
            encoded,
            st.sampled_from(["in query", "in body"]),
            st.lists(headers, max_size=3),
            st.sampled_from([None, *sorted(TOKENS)]),
            compatibilities,
        )
        def ask(
            method: bytes,
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
        An accepted publication reaches the subscriber unchanged, and a refused one does not reach it.
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
        Publications with malformed bodies get an expected response, with a token in the header or in a
        cookie.
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

    def test_disconnecting(self, failures: list[LogEvent]) -> None:
        """
        A valid form disconnects exactly the streams that it names; every other form, with any headers, is
        refused and disconnects none.
        """
        one = st.tuples(st.sampled_from(["key", "jti", "sub", "expires_in"]) | texts, texts | clean)
        claims = {"key": "sid", "jti": "jti", "sub": "sub"}

        @fuzz(200)
        @given(
            st.lists(one, max_size=4),
            st.sampled_from(["key", "jti", "sub", None]),
            texts | clean,
            st.none() | encoded,
            st.sampled_from([None, "disconnecter", "publisher", "expired", "old_publisher"]),
            compatibilities,
        )
        @example([("expires_in", "1")], "sub", "\x00", None, "disconnecter", False)
        @example([("expires_in", "9" * 10)], "key", "\u202e" * 100, None, "disconnecter", True)
        @example([("sub", "b")], "sub", "a", None, "disconnecter", False)
        @example([], None, "a", b"sub=%ed%a0%80", "disconnecter", False)
        def ask(
            form: list[tuple[str, str]],
            field: str | None,
            value: str,
            body: bytes | None,
            kind: str | None,
            compatibility: bool,
        ) -> None:
            with hub(compatibility=compatibility) as world:
                usable = 0 < len(value.encode()) <= 512
                streams = {
                    name: world.subscribe("a", token=token(**{claim: value}))
                    for name, claim in claims.items()
                    if usable
                }
                others = with_secrets(world)
                form = form if field is None else [(field, value), *form]
                raw = urlencode(form).encode() if body is None else body
                sent = [(b"Content-Type", FORM.encode())]
                if kind is not None:
                    sent.append((b"Authorization", b"Bearer " + TOKENS[kind].encode()))
                client = send(world, b"POST", DISCONNECT.encode(), sent, raw)
                check(client)
                world.reactor.run_soon()
                for each in (*streams.values(), others):
                    each.client.pump()
                closed = {name for name, each in streams.items() if each.client.ended}
                if client.status != 200:
                    assert closed == set()
                else:
                    document = json.loads(client.body)
                    assert kind == "disconnecter" and document["disconnected"] == len(closed)
                    named_here = [each for each in parse_qsl(raw.decode(), True) if each[0] in claims]
                    assert len(named_here) == 1
                    assert closed == {name for name, given in named_here if given == value and usable}
                assert not others.client.ended

        ask()
        assert failures == []

    def test_retaining(self, failures: list[LogEvent]) -> None:
        """
        An accepted publication with a key is sent to a client that subscribes later; every other publication
        retains nothing.
        """
        one = st.tuples(
            st.sampled_from(["retain", "retain_for", "data", "type", "private"]), texts | clean | numbers
        )

        @fuzz(200)
        @given(st.lists(one, max_size=4), texts | clean)
        @example([("retain_for", "1e400")], "k")
        @example([("retain_for", "NaN")], "k")
        @example([("data", "\r\n\r\nid: 7\n")], "k")
        @example([("type", "unretain"), ("data", "k")], "k")
        def publish(form: list[tuple[str, str]], key: str) -> None:
            with hub(subscriptions=False) as world:
                form = [("topic", "a"), ("retain", key), *form]
                client = world.ask("POST", form=form, token=PUBLISHER)
                check(client)
                assert client.status in (200, 400, 413)
                newcomer = world.subscribe("*", token=token(subscribe=["*"]))
                assert world.hub.metrics().retained == len(newcomer.events) == (client.status == 200)
                if client.status == 200:
                    given = dict(reversed(form))
                    (event,) = newcomer.events
                    assert event.data == re.sub("\r\n?", "\n", given.get("data", ""))
                    assert (event.id, event.event) == ("", given.get("type") or "message")
                    assert world.unretain("a", key=key).status == 200

        publish()
        assert failures == []

    def test_removing(self, failures: list[LogEvent]) -> None:
        """
        A valid form removes exactly the key that it names, and subscribers are notified; every other form is
        refused and removes nothing.
        """
        one = st.tuples(st.sampled_from(["topic", "key", "id", "private"]) | texts, texts | clean)
        rows = [("a", "k"), ("a", "k2"), ("b", "k")]

        @fuzz(200)
        @given(
            st.lists(one, max_size=4),
            st.booleans(),
            st.none() | encoded,
            st.sampled_from([None, "disconnecter", "publisher", "elsewhere", "expired", "old_publisher"]),
            compatibilities,
        )
        @example([], True, None, "publisher", False)
        @example([("topic", "b")], True, None, "publisher", False)
        @example([("topic", "b"), ("topic", "*")], True, None, "publisher", False)
        @example([], True, None, "elsewhere", False)
        @example([], True, b"topic=a&key=%ed%a0%80", "publisher", False)
        @example([("topic", "a"), ("key", "\r\nid: 1")], False, None, "publisher", False)
        def ask(
            form: list[tuple[str, str]],
            is_named: bool,
            body: bytes | None,
            kind: str | None,
            compatibility: bool,
        ) -> None:
            with hub(compatibility=compatibility, subscriptions=False) as world:
                for topic, key in rows:
                    assert world.retain(topic, key, f"{topic} {key}").status == 200
                reader = world.subscribe("*", token=token(subscribe=["*"]))
                before = len(reader.events)
                form = [("topic", "a"), ("key", "k"), *form] if is_named else form
                raw = urlencode(form).encode() if body is None else body
                sent = [(b"Content-Type", FORM.encode())]
                if kind is not None:
                    sent.append((b"Authorization", b"Bearer " + TOKENS[kind].encode()))
                client = send(world, b"POST", UNRETAIN.encode(), sent, raw)
                check(client)
                left = world.subscribe("*").texts
                came = reader.events[before:]
                if client.status != 200:
                    assert (came, left) == ([], [f"{topic} {key}" for topic, key in rows])
                    return
                assert kind in ("publisher", "old_publisher")
                fields = parse_qsl(raw.decode(), True)
                topics = {value for name, value in fields if name == "topic"}
                (key,) = (value for name, value in fields if name == "key")
                (event,) = came
                assert (event.event, event.data, event.id) == ("unretain", key, client.body.decode())
                assert left == [f"{topic} {k}" for topic, k in rows if k != key or topic not in topics]

        ask()
        assert failures == []

    def test_lists(self, failures: list[LogEvent]) -> None:
        """
        A request to the subscription API whose token does not grant the path discloses no subscription.
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
    def test_granted_list(self, compatibility: bool) -> None:
        """
        A token that grants one list of subscriptions permits neither the lists that contain it nor the lists
        that it contains.
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

    def test_disconnect_before_the_list(self, failures: list[LogEvent]) -> None:
        """
        A client that requests the subscriptions and disconnects before the journal answers causes no failure.
        """
        with pytest.MonkeyPatch.context() as patch:
            wire = Wire("direct", patch)
            journal = ScriptedJournal(reactor=wire.reactor)
            world = MercureWorld(wire, Hub(journal=journal, reactor=wire.reactor))
            every = token(subscribe=["*"])
            tag = world.ask(path=f"{PATH}/subscriptions", token=every).headers["etag"]
            journal.held.add("metadata")
            client = world.ask(path=f"{PATH}/subscriptions", token=every, headers={"If-None-Match": tag})
            assert client.status == 0
            client.disconnect(clean=False)
            journal.release("metadata")
        assert failures == []

    def test_tokens(self, failures: list[LogEvent]) -> None:
        """
        Every token, with any header and claims and signed with any key, gets an expected response without a
        logged failure.
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
                "iat": values,
                "sub": values | texts,
                "jti": values | texts,
                "sid": values | texts,
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
                # PyJWT refuses to sign such a token.
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


class BoundTests:
    def test_client_that_reads_nothing(self, failures: list[LogEvent]) -> None:
        """
        The hub holds less than 300,000 bytes for a client that reads nothing, however much is published.
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
        A request that exceeds a limit is refused, and the hub keeps nothing of it.
        """
        with hub() as world:
            before = world.hub.metrics()
            client = world.ask(method, form=fields, token=PUBLISHER)
            assert client.status in (400, 413)
            after = world.hub.metrics()
            assert (after.published, after.channels) == (before.published, 0)
        assert failures == []

"""
Subscribing to a Mercure hub with a GET or QUERY request: matchers, authorization, resumption, CORS, clients
from before Mercure 1.0, and the hub's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.fakes import Wire
from tests.hub.fakes import ScriptedJournal
from tests.mercure.world import PATH, PUBLISHER, URL, MercureWorld, Reader, old_token, token
from txsse import CloseReason, Hub, Limits, MemoryJournal
from txsse.mercure import FixedKeys, Issuer, Settings, secret_key, shared_secret, well_known


class MatchTests:
    def test_exact(self, world: MercureWorld) -> None:
        """
        An exact matcher selects only the topic that equals it character by character.
        """
        reader = world.subscribe("https://example.com/foo", "bar")
        for topic in (
            "bar",
            "https://example.com/foo",
            "Bar",
            "https://EXAMPLE.com/foo",
            "https://example.com/foo/",
            "b%61r",
        ):
            world.publish(topic, topic)
        assert reader.texts == ["bar", "https://example.com/foo"]

    def test_no_normalisation(self, world: MercureWorld) -> None:
        """
        Topics that differ in their Unicode normalisation are different topics.
        """
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        reader = world.subscribe(composed)
        world.publish(decomposed, "decomposed")
        world.publish(composed, "composed")
        assert reader.texts == ["composed"]

    def test_pattern(self, world: MercureWorld) -> None:
        """
        A URL pattern, absolute or relative, selects the topics that it matches.
        """
        absolute = world.subscribe(patterns=["https://example.com/books/:id"])
        relative = world.subscribe(patterns=["/books/:id"])
        topics = [
            "https://example.com/books/1",
            "https://example.com/books/1/2",
            "/books/1",
            "https://EXAMPLE.com/books/2",
            "https://example.com/Books/1",
            "no URL",
        ]
        for topic in topics:
            world.publish(topic, topic)
        assert absolute.texts == ["https://example.com/books/1", "https://EXAMPLE.com/books/2"]
        assert relative.texts == ["/books/1"]

    def test_relative_topic(self, world: MercureWorld) -> None:
        """
        A relative topic is resolved against the hub's URL before an absolute pattern is matched.
        """
        reader = world.subscribe(patterns=["https://hub.example/books/:id"])
        for topic in ("/books/1", "../books/2", "https://hub.example/books/3", "books/4"):
            world.publish(topic, topic)
        assert reader.texts == ["/books/1", "../books/2", "https://hub.example/books/3"]

    @pytest.mark.parametrize("name", ["match", "match_exact", "match_urlpattern"])
    def test_everything(self, world: MercureWorld, name: str) -> None:
        """
        The matcher "*" selects all topics, whatever its type.
        """
        reader = world.subscribe(more=[(name, "*")])
        world.publish("a", "1")
        world.publish("https://[broken", "2")
        assert reader.texts == ["1", "2"]

    def test_same_matcher_twice(self, world: MercureWorld) -> None:
        """
        A matcher that a request repeats counts once.
        """
        reader = world.subscribe(*["news"] * 200)
        world.publish("news", "x")
        assert reader.texts == ["x"]

    def test_other_parameters(self, world: MercureWorld) -> None:
        """
        Unknown query parameters of a subscription are ignored.
        """
        assert world.subscribe("news", more=[("color", "red"), ("mat", "x")]).status == 200

    def test_empty_topic(self, world: MercureWorld) -> None:
        """
        A matcher parameter without a value subscribes to the empty topic.
        """
        assert world.ask(path=f"{PATH}?match").status == 200

    def test_plus_is_a_space(self, world: MercureWorld) -> None:
        """
        A plus sign in the query of a subscription is a space.
        """
        reader = world.subscribe()
        client = world.ask(path=f"{PATH}?match=a+b")
        world.publish("a b", "x")
        client.pump()
        assert b"data: x" in client.body
        assert reader.status == 400

    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            ("", "no topic is given"),
            ("color=red", "no topic is given"),
            ("matcher=x", "is not a known matcher"),
            ("Match=x", "is not a known matcher"),
            ("MATCH_EXACT=x", "is not a known matcher"),
            ("match_regex=x", "is not a known matcher"),
            ("matchURLPattern=x", "is not a known matcher"),
            ("topic=x", "before Mercure 1.0"),
            ("match=%00", "control character"),
            ("match=a%0Ab", "control character"),
            ("match=%E2%80%8B", "format character"),
            ("match=%FF", "not UTF-8"),
            ("%FF=x", "not UTF-8"),
            ("match_urlpattern=https://%5B", "match_urlpattern"),
            ("match_urlpattern=(", "match_urlpattern"),
            ("match_urlpattern=" + "*" * 30, "too long to match"),
            ("match=" + "x" * 2049, "2048 characters"),
            ("&".join(f"match={number}" for number in range(101)), "100 matchers"),
            ("&".join(f"match_urlpattern=/{number}" for number in range(10)), "together"),
            ("match_urlpattern=/(.{35})&match_urlpattern=/(.{36})", "together"),
            ("match=x&" + "&" * 2000, "2000 fields"),
            ("match=x&last_event_id=a%0Ab", "Last-Event-ID holds CR, LF or NUL"),
            ("match=x&last_event_id=" + "x" * 1025, "Last-Event-ID has more than 1024 bytes"),
        ],
    )
    def test_malformed(self, world: MercureWorld, query: str, reason: str) -> None:
        """
        A malformed request for a subscription gets 400 with the reason.
        """
        client = world.ask(path=f"{PATH}?{query}")
        assert client.status == 400
        assert reason in client.body.decode()

    def test_many(self, world: MercureWorld) -> None:
        """
        A request may have many matchers of moderate cost, and repeated ones cost nothing more; a long list in
        total gets 400.
        """
        for query in (
            [("match_urlpattern", f"/{number}/:id") for number in range(8)],
            [("match_urlpattern", rf"/{number}/(\w+)/(\d{{4}}-\d{{2}})") for number in range(5)],
            [("match_urlpattern", "/:id")] * 100,
        ):
            assert world.subscribe(more=query).status == 200
        for length, status in ((268, 200), (280, 400)):
            form = [("match", f"{number}{'x' * length}") for number in range(100)]
            assert world.ask("QUERY", form=form).status == status


class QueryTests:
    def test_body(self, world: MercureWorld) -> None:
        """
        A QUERY request takes matchers both from its form and from its URL.
        """
        form = [("match", "a")]
        client = world.ask("QUERY", query=[("match_urlpattern", "/b/:x")], form=form)
        assert client.status == 200
        for topic in ("a", "/b/1", "c"):
            world.publish(topic, topic)
        client.pump()
        assert client.body.count(b"data: ") == 2

    def test_last_event_id(self, world: MercureWorld) -> None:
        """
        A QUERY request may name the last event id in its form.
        """
        for number in range(3):
            world.publish("a", str(number), id=f"id-{number}")
        client = world.ask("QUERY", form=[("match", "a"), ("last_event_id", "id-0")])
        assert client.headers["mercure-last-event-id"] == "id-0"
        assert client.body.count(b"data: ") == 2

    @pytest.mark.parametrize(("in_query", "count"), [("id-0", 2), ("id-1", 3)])
    def test_last_event_id_in_both(self, world: MercureWorld, in_query: str, count: int) -> None:
        """
        If the query and the form of a QUERY request name different last event ids, neither takes precedence
        and everything is replayed.
        """
        for number in range(3):
            world.publish("a", str(number), id=f"id-{number}")
        query = [("last_event_id", in_query)]
        client = world.ask("QUERY", query=query, form=[("match", "a"), ("last_event_id", "id-0")])
        assert client.headers["mercure-last-event-id"] == ("id-0" if count == 2 else "earliest")
        assert len(Reader(client).texts) == count

    def test_too_many(self, world: MercureWorld) -> None:
        """
        A QUERY request whose form has more fields than permitted gets 400, the same as a query with too many.
        """
        client = world.ask("QUERY", form=[("match", str(number)) for number in range(3000)])
        assert client.status == 400
        assert b"2000 fields" in client.body

    def test_not_a_form(self, world: MercureWorld) -> None:
        """
        A QUERY request with another content type than that of a form gets 400.
        """
        client = world.ask("QUERY", body=b"{}", headers={"Content-Type": "application/json"})
        assert client.status == 400


class AccessTests:
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    def test_framing(self, world: MercureWorld, method: str) -> None:
        """
        A request that a proxy in front of the hub may interpret differently is refused before the hub
        evaluates anything else.
        """
        client = world.ask(method, token=token(subscribe=["*"]), headers={"Host": "other.example"})
        assert (client.status, client.body) == (400, b"A request must have one Host header.\n")

    def test_no_token(self, new: Callable[..., MercureWorld]) -> None:
        """
        A subscription without a token gets a challenge that names the hub's metadata, unless anonymous
        subscribers are permitted.
        """
        client = new().subscribe("news")
        assert client.status == 401
        assert client.headers["www-authenticate"].startswith("Bearer resource_metadata=")

    def test_bad_token(self, world: MercureWorld) -> None:
        """
        An invalid token gets 401 even where anonymous subscribers are permitted.
        """
        for bad in ("x", "a.b.c", "x" + token(subscribe=["*"], aud="x")):
            client = world.subscribe("news", token=bad)
            assert client.status == 401
            assert client.headers["www-authenticate"].startswith('Bearer error="invalid_token", ')
            assert client.client.body == b"the token is not valid\n"
            assert world.publish("news", token=bad).body == b"the token is not valid\n"

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            ({"exp": 0}, "it has expired"),
            ({"exp": None}, "it has no exp"),
            ({"aud": "x"}, f"its audience (aud) is not this hub's: {URL}"),
        ],
    )
    def test_signed_token(self, world: MercureWorld, claims: dict[str, Any], reason: str) -> None:
        """
        The response to an invalid token gives the reason only if one of the hub's keys has signed the token.
        """
        bad = token(subscribe=["*"], publish=["*"], **claims)
        client = world.subscribe("news", token=bad)
        assert client.status == 401
        assert client.headers["www-authenticate"].startswith('Bearer error="invalid_token", ')
        answer = f"the token is not accepted: {reason}\n".encode()
        assert client.client.body == answer
        published = world.publish("news", token=bad)
        assert (published.status, published.body) == (401, answer)

    def test_head(self, new: Callable[..., MercureWorld]) -> None:
        """
        A HEAD request gets the status of the GET request and opens no stream.
        """
        world = new()
        good = token(subscribe=["*"])
        assert world.ask("HEAD", query=[("match", "a")], token=good).status == 200
        assert world.ask("HEAD", query=[("match", "a")]).status == 401
        assert world.ask("HEAD", query=[("matcher", "a")], token=good).status == 400
        assert world.hub.subscribers.total == 0

    @pytest.mark.parametrize(
        ("granted", "seen"),
        [
            ([], ["public"]),
            (["news"], ["public", "private"]),
            (["sport"], ["public"]),
            (["*"], ["public", "private"]),
            ([{"match": "/n:x", "match_type": "urlpattern"}], ["public"]),
            ([{"match": "/.well-known/news", "match_type": "urlpattern"}], ["public", "private"]),
        ],
    )
    def test_private(self, world: MercureWorld, granted: list[Any], seen: list[str]) -> None:
        """
        A subscriber receives private updates, live and replayed, only if its token grants their topic; its
        matchers grant nothing.
        """
        access = token(subscribe=granted)
        live = world.subscribe("*", "news", token=access)
        (first,) = [world.publish("other", "x").body.decode()]
        world.publish("news", "public")
        world.publish("news", "private", private="on")
        later = world.subscribe("news", token=access, more=[("last_event_id", first)])
        assert live.texts == ["x", *seen]
        assert later.texts == seen

    def test_one_of_several_topics(self, world: MercureWorld) -> None:
        """
        A grant for one of a private update's topics is sufficient to receive it.
        """
        reader = world.subscribe("b", token=token(subscribe=["a"]))
        form = [("topic", "a"), ("topic", "b"), ("data", "x"), ("private", "on")]
        world.ask("POST", form=form, token=PUBLISHER)
        assert reader.texts == ["x"]

    def test_expires(self, world: MercureWorld) -> None:
        """
        A stream ends when its token expires, and streams without a token do not.
        """
        reader = world.subscribe("news", token=token(subscribe=["news"], exp=100))
        anonymous = world.subscribe("news")
        world.reactor.advance(99.9)
        world.publish("news", "x")
        assert reader.texts == ["x"]
        assert not reader.client.ended
        world.reactor.advance(0.1)
        reader.client.pump()
        assert reader.client.ended
        assert world.hub.metrics().closes == {CloseReason.EXPIRED: 1}
        assert not anonymous.client.ended

    @pytest.mark.parametrize("policy", ["close", "latest", "drop"])
    def test_expires_while_it_is_slow(self, new: Callable[..., MercureWorld], policy: str) -> None:
        """
        Private updates that are buffered for a slow reader are not sent after its token has expired.
        """
        world = new(streams={"slow_policy": policy, "max_buffer": 10_000_000})
        reader = world.subscribe("news", "other", token=token(subscribe=["news"], exp=100))
        reader.client.stop_reading()
        for _ in range(5):
            world.publish("other", "x" * 70_000)
        assert world.hub.metrics().buffered
        world.publish("news", "private", private="on")
        world.reactor.advance(100)
        reader.client.read_on()
        assert b"private" not in reader.client.body
        assert world.hub.metrics().closes == {CloseReason.EXPIRED: 1}

    def test_expires_while_it_is_looked_up(self, new: Callable[..., MercureWorld], plain: Wire) -> None:
        """
        A token that expires while the journal looks up the last event id gets 401 and no replay.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor))
        access = token(subscribe=["news"], exp=100)
        (first,) = [world.publish("news", "public").body.decode()]
        world.publish("news", "private", private="on")
        journal.held.add("find")
        late = world.subscribe("news", token=access, headers={"Last-Event-ID": first})
        world.reactor.advance(99.9)
        early = world.subscribe("news", token=access, headers={"Last-Event-ID": first})
        assert late.client.body == b""
        world.reactor.advance(0.1)
        journal.release("find")
        for reader in (late, early):
            reader.client.pump()
            assert reader.status == 401
            assert 'error="invalid_token"' in reader.headers["www-authenticate"]
            assert b"private" not in reader.client.body

    def test_expires_in_the_far_future(self, world: MercureWorld) -> None:
        """
        A token that expires in the far future sets no timer beyond the reactor's range.
        """
        world.subscribe("news", token=token(subscribe=["news"], exp=10**11))
        assert max(call.getTime() for call in world.reactor.getDelayedCalls()) <= 2_000_000

    def test_clock_set_back(self, world: MercureWorld) -> None:
        """
        After the wall clock is set back, a stream ends when its token expires by that clock, and until then
        the token is accepted.
        """
        access = token(subscribe=["news"], exp=100)
        reader = world.subscribe("news", token=access)
        world.reactor.advance(90)
        world.reactor.step(-50)
        world.reactor.advance(59)
        assert world.subscribe("news", token=access).status == 200
        assert not reader.client.ended
        world.reactor.advance(1)
        reader.client.pump()
        assert reader.client.ended
        assert world.subscribe("news", token=access).status == 401
        assert world.hub.metrics().closes == {CloseReason.EXPIRED: 2}

    def test_clock_set_forward(self, world: MercureWorld) -> None:
        """
        After the wall clock is set forward past a token's expiry, the token is refused at once and its
        streams end within a minute.
        """
        access = token(subscribe=["news"], publish=["news"], exp=1000)
        reader = world.subscribe("news", token=access)
        form = [("topic", "news"), ("data", "x")]
        assert world.ask("POST", form=form, token=access).status == 200
        world.reactor.step(3600)
        assert world.subscribe("news", token=access).status == 401
        assert world.ask("POST", form=form, token=access).status == 401
        world.reactor.advance(60)
        reader.client.pump()
        assert reader.client.ended
        assert world.hub.metrics().closes == {CloseReason.EXPIRED: 1}

    def test_not_valid_yet(self, world: MercureWorld) -> None:
        """
        A token is refused before its nbf by the wall clock, and accepted from then on.
        """
        access = token(subscribe=["news"], nbf=1800)
        assert world.subscribe("news", token=access).status == 401
        world.reactor.step(1800)
        assert world.subscribe("news", token=access).status == 200

    def test_cookie(self, new: Callable[..., MercureWorld]) -> None:
        """
        A subscriber may present its token in a cookie; the Authorization header takes precedence.
        """
        world = new()
        good = {"Cookie": f"a=b; __Secure-mercure_access_token={token(subscribe=['news'])}"}
        assert world.subscribe("news", headers=good).status == 200
        assert world.subscribe("news", headers={"Cookie": "__Secure-mercure_access_token=x"}).status == 401
        assert world.subscribe("news", token="x", headers=good).status == 401

    def test_token_in_the_query(self, new: Callable[..., MercureWorld]) -> None:
        """
        A token in the query of a subscription does not count, because servers log URLs.
        """
        world = new()
        good = token(subscribe=["news"])
        for name in ("access_token", "authorization"):
            assert world.subscribe("news", more=[(name, good)]).status == 401

    def test_limits(self, new: Callable[..., MercureWorld]) -> None:
        """
        The stream options of a hub's resource apply to its subscribers.
        """
        world = new(anonymous=True, streams={"limits": Limits(channels=1)})
        assert world.subscribe("news").status == 200
        assert world.subscribe("news").status == 503


class ResumeTests:
    @pytest.fixture
    def ids(self, world: MercureWorld) -> list[str]:
        return [world.publish("news", str(number)).body.decode() for number in range(3)]

    def test_header(self, world: MercureWorld, ids: list[str]) -> None:
        """
        A client that sends Last-Event-ID receives the updates after it, and the response names that id.
        """
        reader = world.subscribe("news", headers={"Last-Event-ID": ids[0]})
        assert reader.texts == ["1", "2"]
        assert reader.headers["mercure-last-event-id"] == ids[0]
        assert "last-event-id" not in reader.headers

    def test_parameter(self, world: MercureWorld, ids: list[str]) -> None:
        """
        A client may send the last event id as a query parameter, since a browser cannot set the header for
        its first request; the header takes precedence.
        """
        assert world.subscribe("news", more=[("last_event_id", ids[1])]).texts == ["2"]
        both = world.subscribe("news", more=[("last_event_id", ids[1])], headers={"Last-Event-ID": ids[0]})
        assert both.texts == ["1", "2"]

    @pytest.mark.parametrize("asked", ["earliest", "unknown", "urn:uuid:" + "0" * 36])
    def test_everything(self, world: MercureWorld, ids: list[str], asked: str) -> None:
        """
        A client that sends "earliest" or an unknown last event id receives all recorded updates, and the
        response says "earliest".
        """
        reader = world.subscribe("news", headers={"Last-Event-ID": asked})
        assert reader.texts == ["0", "1", "2"]
        assert reader.headers["mercure-last-event-id"] == "earliest"

    @pytest.mark.parametrize("compatibility", [False, True])
    def test_id_of_several_updates(self, new: Callable[..., MercureWorld], compatibility: bool) -> None:
        """
        A client resumes after the earliest update with its last event id, and receives the later updates with
        the same id.
        """
        world = new(anonymous=True, compatibility=compatibility)
        for text, id in (("0", "state"), ("1", "b"), ("2", "state"), ("3", "state")):
            world.publish("news", text, id=id)
        reader = world.subscribe("news", headers={"Last-Event-ID": "state"})
        assert reader.texts == ["1", "2", "3"]
        assert reader.headers["mercure-last-event-id"] == "state"

    @pytest.mark.parametrize("by_header", [True, False])
    def test_from_a_reset(self, new: Callable[..., MercureWorld], plain: Wire, by_header: bool) -> None:
        """
        A client resumes from the id of the stream-reset event that reported a gap, and is not notified of the
        gap again.
        """
        hub = Hub(reactor=plain.reactor, journal=MemoryJournal(max_count=3, reactor=plain.reactor))
        # Without subscription events, which the journal also records and which would displace the updates.
        world = new(hub=hub, anonymous=True, subscriptions=False)
        for text in "abcd":
            world.publish("news", text, **({"private": "on"} if text in "bc" else {}))
        reset, *rest = world.subscribe("news", headers={"Last-Event-ID": "gone"}).events
        assert (reset.event, [event.data for event in rest]) == ("stream-reset", ["d"])
        assert reset.id is not None
        fields = [] if by_header else [("last_event_id", reset.id)]
        headers = {"Last-Event-ID": reset.id} if by_header else {}
        again = world.subscribe("news", more=fields, headers=headers)
        assert [event.data for event in again.events] == ["d"]
        assert again.headers["mercure-last-event-id"] == reset.id

    def test_two_parameters(self, world: MercureWorld, ids: list[str]) -> None:
        """
        Two different last event ids in a query are ambiguous, and everything is replayed.
        """
        more = [("last_event_id", ids[0]), ("last_event_id", ids[1])]
        reader = world.subscribe("news", more=more)
        assert reader.texts == ["0", "1", "2"]
        assert reader.headers["mercure-last-event-id"] == "earliest"

    @pytest.mark.parametrize(("second", "texts"), [(0, ["1", "2"]), (1, ["0", "1", "2"])])
    def test_two_header_fields(
        self, world: MercureWorld, ids: list[str], second: int, texts: list[str]
    ) -> None:
        """
        Two equal Last-Event-ID headers count as one, and with two different ones everything is replayed.
        """
        fields = {"Last-Event-ID": f"{ids[0]}\r\nLast-Event-ID: {ids[second]}"}
        assert world.subscribe("news", headers=fields).texts == texts

    def test_newest(self, world: MercureWorld, ids: list[str]) -> None:
        """
        A client whose last event id is the newest receives nothing again.
        """
        reader = world.subscribe("news", headers={"Last-Event-ID": ids[2]})
        assert reader.texts == []
        assert reader.headers["mercure-last-event-id"] == ids[2]

    def test_empty(self, world: MercureWorld, ids: list[str]) -> None:
        """
        A client with an empty last event id receives no replay, and the response names the newest id.
        """
        reader = world.subscribe("news", more=[("last_event_id", "")])
        assert reader.texts == []
        assert reader.headers["mercure-last-event-id"] == ids[2]

    @pytest.mark.parametrize(
        ("header", "named", "texts"),
        [
            ("", ["0"], ["1", "2"]),
            ("", ["0", ""], ["1", "2"]),
            ("", ["", "0"], ["1", "2"]),
            ("", ["0", "1"], ["0", "1", "2"]),
            ("", ["", ""], []),
            ("", [], []),
            ("1", ["0"], ["2"]),
            ("1", [""], ["2"]),
            ("1", ["0", "2"], ["2"]),
            ("1", ["x" * 2000], ["2"]),
            ("1\r\nLast-Event-ID:", ["0"], ["2"]),
            ("\r\nLast-Event-ID: 1", ["0"], ["2"]),
            ("\r\nLast-Event-ID:", ["0"], ["1", "2"]),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "QUERY"])
    def test_precedence(
        self, world: MercureWorld, method: str, header: str, named: list[str], texts: list[str]
    ) -> None:
        """
        The Last-Event-ID header takes precedence over the query and the form, and an empty id in any of them
        counts as absent.
        """
        for number in range(3):
            world.publish("news", str(number), id=str(number))
        fields = [("match", "news"), *(("last_event_id", each) for each in named)]
        where: dict[str, Any] = {"query": fields} if method == "GET" else {"form": fields}
        reader = Reader(world.ask(method, headers={"Last-Event-ID": header}, **where))
        assert reader.texts == texts
        replayed = "earliest" if len(texts) == 3 else str(2 - len(texts))
        asked = named or header
        assert reader.headers.get("mercure-last-event-id") == (replayed if asked else None)

    def test_none(self, world: MercureWorld, ids: list[str]) -> None:
        """
        A response to a client without a last event id does not name one.
        """
        assert "mercure-last-event-id" not in world.subscribe("news").headers

    def test_old_names(self, world: MercureWorld, ids: list[str]) -> None:
        """
        Without compatibility mode the older names of the last_event_id parameter are ignored.
        """
        for name in ("lastEventID", "Last-Event-ID", "lastEventId"):
            assert world.subscribe("news", more=[(name, ids[0])]).texts == []


class CorsTests:
    ORIGIN = "https://app.example"

    def test_allowed(self, new: Callable[..., MercureWorld]) -> None:
        """
        Pages of the listed origins may subscribe and publish with cookies, and read the hub's response
        headers.
        """
        world = new(anonymous=True, origins=[self.ORIGIN])
        headers = {"Origin": self.ORIGIN}
        for client in (
            world.subscribe("news", headers=headers).client,
            world.ask("POST", form=[("topic", "a")], token=PUBLISHER, headers=headers),
            world.ask("POST", form=[], headers=headers),
            world.ask(path=f"{PATH}?x", headers=headers),
        ):
            assert client.headers["access-control-allow-origin"] == self.ORIGIN
            assert client.headers["access-control-allow-credentials"] == "true"
            assert "origin" in client.headers["vary"].lower()
        reader = world.subscribe("news", headers={**headers, "Last-Event-ID": "earliest"})
        assert "Mercure-Last-Event-ID" in reader.headers["access-control-expose-headers"]

    def test_others(self, new: Callable[..., MercureWorld]) -> None:
        """
        A response to an origin that is not listed does not name it in a CORS header.
        """
        world = new(anonymous=True, origins=[self.ORIGIN])
        for origin in ("https://evil.example", "null", "https://app.example.evil.example"):
            client = world.subscribe("news", headers={"Origin": origin})
            assert "access-control-allow-origin" not in client.headers

    def test_preflight(self, new: Callable[..., MercureWorld]) -> None:
        """
        A preflight request of a listed origin is permitted to publish.
        """
        world = new(origins=[self.ORIGIN])
        headers = {"Origin": self.ORIGIN, "Access-Control-Request-Method": "POST"}
        client = world.ask("OPTIONS", headers=headers)
        assert client.status == 204
        assert "POST" in client.headers["access-control-allow-methods"]
        assert "Authorization" in client.headers["access-control-allow-headers"]
        assert client.headers["allow"] == "GET, QUERY, POST, HEAD, OPTIONS"

    def test_methods(self, world: MercureWorld) -> None:
        """
        A method other than GET, QUERY, POST, HEAD and OPTIONS gets 405 and the Allow header.
        """
        for method in ("PUT", "DELETE", "PATCH", "FOO"):
            client = world.ask(method)
            assert (client.status, client.headers["allow"]) == (405, "GET, QUERY, POST, HEAD, OPTIONS")

    def test_nothing_below(self, world: MercureWorld) -> None:
        """
        Unknown paths below the hub's get 404; the hub's path with a slash at its end is the hub.
        """
        assert world.ask(path=f"{PATH}/x").status == 404
        assert world.ask(path=f"{PATH}/", query=[("match", "x")]).status == 200


class CompatibilityTests:
    @pytest.fixture
    def old(self, new: Callable[..., MercureWorld]) -> MercureWorld:
        return new(compatibility=True)

    def test_topics(self, old: MercureWorld) -> None:
        """
        In compatibility mode a client subscribes by "topic", with an exact topic or a URI template.
        """
        access = old_token(subscribe=["*"])
        reader = old.subscribe(token=access, more=[("topic", "https://a.example/{id}"), ("topic", "b")])
        for topic in ("https://a.example/1", "b", "https://a.example/1/2", "c"):
            old.publish(topic, topic, token=old_token(publish=["*"]))
        assert reader.texts == ["https://a.example/1", "b"]

    def test_many_templates(self, old: MercureWorld) -> None:
        """
        A client may subscribe to a hundred ordinary URI templates; one that is expensive to match, or several
        that are so together, get 400.
        """
        access = old_token(subscribe=["*"])
        usual = [("topic", f"https://a.example/{number}/{{id}}") for number in range(100)]
        assert old.subscribe(token=access, more=usual).status == 200
        refused = old.subscribe(token=access, more=[("topic", "{a}" * 21)])
        assert refused.status == 400
        assert refused.client.body == b"topic: a template may have at most 20 variables; use fewer\n"
        heavy = [("topic", f"{number}" + "{a}" * 20) for number in range(10)]
        assert old.subscribe(token=access, more=heavy[:8]).status == 200
        assert old.subscribe(token=access, more=heavy).status == 400

    def test_tokens(self, old: MercureWorld) -> None:
        """
        In compatibility mode the claim "mercure" of a token grants topics, and the token need not expire.
        """
        publisher = old_token(publish=["https://a.example/{id}", "b"])
        assert old.publish("https://a.example/1", token=publisher).status == 200
        assert old.publish("b", token=publisher).status == 200
        assert old.publish("c", token=publisher).status == 403
        assert old.publish("b", token=old_token(publish=[])).status == 403
        assert old.publish("b", token=old_token()).status == 403
        reader = old.subscribe(token=old_token(subscribe=["b"]), more=[("topic", "*")])
        old.publish("b", "mine", token=publisher, private="on")
        old.publish("https://a.example/1", "not mine", token=publisher, private="on")
        assert reader.texts == ["mine"]

    def test_current_clients(self, old: MercureWorld) -> None:
        """
        In compatibility mode current clients and tokens continue to work.
        """
        reader = old.subscribe("news", token=token(subscribe=["news"]))
        assert old.publish("news", "x").status == 200
        assert reader.texts == ["x"]

    def test_resume(self, old: MercureWorld) -> None:
        """
        In compatibility mode the older names of the last_event_id parameter work, and the response has the
        older header too.
        """
        ids = [old.publish("a", str(number)).body.decode() for number in range(3)]
        access = old_token(subscribe=[])
        for name in ("lastEventID", "Last-Event-ID", "last_event_id"):
            reader = old.subscribe(token=access, more=[("topic", "a"), (name, ids[0])])
            assert reader.texts == ["1", "2"]
            assert reader.headers["last-event-id"] == ids[0]
            assert reader.headers["mercure-last-event-id"] == ids[0]
            empty = old.subscribe(
                token=access, more=[("topic", "a"), (name, ids[0])], headers={"Last-Event-ID": ""}
            )
            assert empty.texts == ["1", "2"]

    def test_credentials(self, old: MercureWorld) -> None:
        """
        In compatibility mode a subscriber may present its token in the older cookie or in the query.
        """
        access = old_token(subscribe=["*"])
        more = [("topic", "a")]
        assert old.subscribe(more=[*more, ("authorization", access)]).status == 200
        assert old.subscribe(more=more, headers={"Cookie": f"mercureAuthorization={access}"}).status == 200
        assert old.subscribe(more=more).status == 401

    def test_off(self, world: MercureWorld) -> None:
        """
        Without compatibility mode the older claims and parameters are refused.
        """
        assert world.publish("a", token=old_token(publish=["*"])).status == 401
        assert world.subscribe("a", token=old_token(subscribe=["*"])).status == 401
        assert world.subscribe(more=[("topic", "a")]).status == 400


class MetadataTests:
    def test_described(self, new: Callable[..., MercureWorld]) -> None:
        """
        The hub's metadata describe its URL, the accepted credentials and the matcher types.
        """
        client = new().ask(path=f"/.well-known/oauth-protected-resource{PATH}")
        assert client.headers["content-type"] == "application/json"
        assert client.headers["access-control-allow-origin"] == "*"
        assert json.loads(client.body) == {
            "resource": URL,
            "authorization_details_types_supported": [
                "https://mercure.rocks/authorization-detail",
                "https://pypi.org/project/txsse/#authorization-detail",
            ],
            "bearer_methods_supported": ["header"],
            "mercure_cookie": "__Secure-mercure_access_token",
            "mercure_matcher_types_supported": ["exact", "urlpattern"],
            "mercure_subscriptions": True,
        }

    def test_authorization_servers(self, new: Callable[..., MercureWorld]) -> None:
        """
        The hub's metadata name the audience and the trusted authorization servers, but no issuer that shares
        a secret with the hub.
        """
        keys = FixedKeys([secret_key("x" * 32)])
        issuers = [
            Issuer(keys, keys, "https://auth.example"),
            Issuer(keys, keys),
            shared_secret("x" * 32, name="https://app.example"),
        ]
        world = new(issuers=issuers, audience=["hub", "other"], subscriptions=False)
        document = json.loads(world.ask(path=f"/.well-known/oauth-protected-resource{PATH}").body)
        assert document["resource"] == "hub"
        assert document["authorization_servers"] == ["https://auth.example"]
        assert "mercure_subscriptions" not in document

    def test_other_path(self, plain: Wire) -> None:
        """
        A hub whose URL is not the well-known path is rejected with advice on how to add it to the web tree.
        """
        hub = Hub(reactor=plain.reactor)
        for url, said in (
            ("https://hub.example/x", "use put_hub"),
            ("https://hub.example/", "the URL of a hub needs one"),
        ):
            with pytest.raises(ValueError, match=said):
                well_known(hub, Settings(url=url))

    def test_otherwise(self, world: MercureWorld) -> None:
        """
        Other paths beside the metadata get 404, and other methods than GET and HEAD 405.
        """
        base = "/.well-known/oauth-protected-resource"
        assert world.ask(path=f"{base}/x").status == 404
        assert world.ask(path=base).status == 404
        assert world.ask("POST", path=f"{base}{PATH}", form=[]).status == 405
        assert world.ask("HEAD", path=f"{base}{PATH}").status == 200
        assert quote(URL, safe="") not in base

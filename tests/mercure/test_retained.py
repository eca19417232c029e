"""
Retained updates of a Mercure hub: the fields of a publication, and the path that removes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Wire
from tests.hub.fakes import Forgetful, ScriptedJournal, result_of
from tests.mercure.world import PATH, PUBLISHER, UNRETAIN, MercureWorld, Reader, detail, token
from txsse import Hub, JournalFailed
from txsse.journal.memory import MemoryJournal
from txsse.mercure.settings import COOKIE

Form = list[tuple[str, str]]

BAD_TIMES = [
    "0",
    "0.000",
    "-1",
    "+1",
    "1e3",
    "1e400",
    "nan",
    "NaN",
    "inf",
    "Infinity",
    "x",
    " 1",
    "1 ",
    "0x1",
]
BAD_TIMES += ["1_0", ".5", "5.", "1,5", "²", "٣", "1" * 11, "1.0001", "1\n", "1\x00", "", "1s"]


def seen(reader: Reader) -> list[tuple[str | None, str]]:
    """
    Return the types and the data of a client's events.
    """
    return [(event.event, event.data) for event in reader.events]


class RetainTests:
    def test_newcomer(self, world: MercureWorld) -> None:
        """
        A client that subscribes later is sent the newest update of each topic and key, without its ID, and
        then the changes.
        """
        for key, data in (("k1", "old"), ("k2", "two"), ("k1", "new")):
            client = world.retain("news", key, data, type="tick")
            assert (client.status, client.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        world.publish("news", "not retained")
        reader = world.subscribe("news")
        assert seen(reader) == [("tick", "two"), ("tick", "new")]
        assert [event.id for event in reader.events] == ["", ""]
        world.retain("news", "k1", "newer")
        assert seen(reader)[2:] == [("message", "newer")]

    def test_id(self, world: MercureWorld) -> None:
        """
        The response is the update's ID; publishing an equal retained update again is a no-op.
        """
        reader = world.subscribe("news")
        for _ in range(2):
            client = world.retain("news", "k", "x", id="7", retain_for="60")
            assert (client.status, client.body) == (200, b"7")
        assert reader.texts == ["x"]
        world.retain("news", "k", "x", id="7", retain_for="61")
        assert reader.texts == ["x", "x"]

    @pytest.mark.parametrize(
        ("text", "seconds"), [("60", 60), ("0.5", 0.5), ("1.125", 1.125), ("9" * 10, 1e9)]
    )
    def test_retain_for(self, world: MercureWorld, text: str, seconds: float) -> None:
        """
        An update is retained for the given number of seconds.
        """
        assert world.retain("news", "k", "x", retain_for=text).status == 200
        world.reactor.advance(seconds - 0.001)
        assert world.subscribe("news").texts == ["x"]
        if seconds < 1e9:
            world.reactor.advance(0.001)
            assert world.subscribe("news").texts == []

    def test_several_topics(self, world: MercureWorld) -> None:
        """
        An update is retained under each of its topics, and sent once.
        """
        form = [("topic", "a"), ("topic", "b"), ("data", "x"), ("retain", "k")]
        assert world.ask("POST", form=form, token=PUBLISHER).status == 200
        assert [world.subscribe(*topics).texts for topics in ("a", "b", "ab", "c")] == [
            ["x"],
            ["x"],
            ["x"],
            [],
        ]

    def test_private(self, world: MercureWorld) -> None:
        """
        A private retained update is sent only to clients with a grant for one of its topics.
        """
        world.retain("news", "k", "x", private="on")
        assert world.subscribe("news").texts == []
        assert world.subscribe("news", token=token(subscribe=["sport"])).texts == []
        assert world.subscribe("news", token=token(subscribe=["news"])).texts == ["x"]

    @pytest.mark.parametrize(
        "key", ["k", "ü" * 512, "a" * 1024, "a b", "*", "\u2764\ufe0f", "#1", "earliest"]
    )
    def test_keys(self, world: MercureWorld, key: str) -> None:
        """
        A key may be any text without control characters, of at most 1,024 bytes.
        """
        assert world.retain("news", key, "x").status == 200
        assert world.subscribe("news").texts == ["x"]
        reader = world.subscribe("news", more=[("last_event_id", "earliest")])
        assert world.unretain("news", key=key).status == 200
        assert seen(reader)[-1] == ("unretain", key)

    @pytest.mark.parametrize(
        ("form", "reason"),
        [
            ([("retain", "")], "retain is empty; give the key"),
            ([("retain", "a\nb")], "retain holds a control character"),
            ([("retain", "a\rb")], "retain holds a control character"),
            ([("retain", "a\0b")], "retain holds a control character"),
            ([("retain", "a\u200bb")], "retain holds a control character or a format character"),
            ([("retain", "a"), ("retain", "a")], "retain occurs more than once"),
            ([("retain_for", "60")], "retain_for needs the field retain"),
            ([("retain", "a"), ("retain_for", "1"), ("retain_for", "1")], "retain_for occurs more than once"),
            ([("retain", "k"), ("type", "unretain"), ("data", "k")], "post to the path /unretain below it"),
            ([("type", "unretain")], "the type unretain is reserved for the hub"),
            *(
                ([("retain", "k"), ("retain_for", text)], "retain_for must be a number of seconds above 0")
                for text in BAD_TIMES
            ),
        ],
    )
    def test_malformed(self, world: MercureWorld, form: Form, reason: str) -> None:
        """
        Malformed fields get 400 with the reason, and the update is neither published nor retained.
        """
        reader = world.subscribe("*")
        client = world.ask("POST", form=[("topic", "news"), *form], token=PUBLISHER)
        assert client.status == 400
        assert reason in client.body.decode() and len(client.body) < 300
        assert reader.events == []
        assert world.hub.metrics().retained == 0

    @pytest.mark.parametrize("key", ["a" * 1025, "ü" * 513, "a" * 1_000_000])
    def test_long_key(self, world: MercureWorld, key: str) -> None:
        """
        A key that is too long gets 413 with the limit, however long it is.
        """
        for client in (world.retain("news", key), world.unretain("news", key=key)):
            assert client.status == 413
            assert b"may have at most 1024 bytes" in client.body and len(client.body) < 100

    def test_invalid_utf8(self, world: MercureWorld) -> None:
        """
        A key that is not UTF-8, or that holds a lone surrogate, gets 400.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        for path, name in ((PATH, b"retain"), (UNRETAIN, b"key")):
            for key in (b"%ff", b"\xff", b"%ed%a0%80"):
                body = b"topic=a&" + name + b"=" + key
                assert world.ask("POST", path, body=body, token=PUBLISHER, headers=headers).status == 400

    def test_full(self, new: Callable[..., MercureWorld], plain: Wire) -> None:
        """
        If the journal has no room for a retained update, the response is 507 and says what to do; a key that
        it has is accepted.
        """
        journal = MemoryJournal(max_retained=1, reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor), anonymous=True)
        assert world.retain("news", "k1", "x").status == 200
        client = world.retain("news", "k2")
        assert client.status == 507
        assert b"unretain some, or raise the journal's max_retained" in client.body
        assert world.retain("news", "k1", "y").status == 200
        assert world.subscribe("news").texts == ["y"]


class UnretainTests:
    def test_removed(self, world: MercureWorld) -> None:
        """
        The removal is sent to subscribers as an event of the type unretain, whose ID is the response; later
        clients are not sent the update.
        """
        world.retain("news", "k1", "one")
        world.retain("news", "k2", "two")
        reader = world.subscribe("news")
        client = world.unretain("news", key="k1")
        assert (client.status, client.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        event = reader.events[-1]
        assert (event.event, event.data, event.id) == ("unretain", "k1", client.body.decode())
        assert world.subscribe("news").texts == ["two"]

    def test_id(self, world: MercureWorld) -> None:
        """
        The request may name the ID of the event; the same request again is a no-op with the same response.
        """
        world.retain("news", "k", "x")
        reader = world.subscribe("news")
        for _ in range(2):
            client = world.unretain("news", key="k", id="gone-1")
            assert (client.status, client.body) == (200, b"gone-1")
        assert seen(reader) == [("message", "x"), ("unretain", "k")]

    def test_several_topics(self, world: MercureWorld) -> None:
        """
        The key is removed under each of the topics, also if it is not retained under some of them.
        """
        for topic in "ab":
            world.retain(topic, "k", topic)
        assert world.unretain("a", "c", key="k").status == 200
        assert [world.subscribe(topic).texts for topic in "ab"] == [[], ["b"]]

    def test_private(self, world: MercureWorld) -> None:
        """
        The event about a private update is sent only to clients with a grant, if the request says so.
        """
        world.retain("news", "k", "x", private="on")
        public = world.subscribe("news")
        granted = world.subscribe("news", token=token(subscribe=["news"]))
        assert world.unretain("news", key="k", private="").status == 200
        assert seen(public) == []
        assert seen(granted) == [("message", "x"), ("unretain", "k")]

    @pytest.mark.parametrize(
        "fields", [{"key": "k2"}, {"key": "K1"}, {"key": "k1 "}, {"key": "k1", "id": "7"}], ids=str
    )
    def test_not_retained(self, world: MercureWorld, fields: dict[str, Any]) -> None:
        """
        A key that is not retained gets 404 with the reason, and no event is sent.
        """
        world.retain("sport", "k1", "x")
        reader = world.subscribe("news")
        client = world.unretain("news", **fields)
        assert client.status == 404
        assert client.body == b"no update with this key is retained under these topics\n"
        assert reader.events == []

    def test_twice(self, world: MercureWorld) -> None:
        """
        A second request to remove the same key, without an ID, gets 404.
        """
        world.retain("news", "k", "x")
        assert [world.unretain("news", key="k").status for _ in range(2)] == [200, 404]

    @pytest.mark.parametrize(
        ("form", "reason"),
        [
            ([], "the field topic is missing"),
            ([("key", "k")], "the field topic is missing"),
            ([("topic", "a")], "the field key is missing"),
            ([("topic", "a"), ("retain", "k")], "the field key is missing"),
            ([("topic", "a"), ("Key", "k")], "the field key is missing"),
            ([("topic", "a"), ("key", "")], "key is empty"),
            ([("topic", "a"), ("key", "k"), ("key", "k")], "key occurs more than once"),
            ([("topic", "a"), ("key", "a\nb")], "key holds a control character"),
            ([("topic", "a"), ("key", "a\rb")], "key holds a control character"),
            ([("topic", "a"), ("key", "a\0b")], "key holds a control character"),
            ([("topic", "a"), ("key", "k"), ("id", "1"), ("id", "2")], "id occurs more than once"),
            ([("topic", "a"), ("key", "k"), ("id", "#1")], "reserved for the hub"),
            ([("topic", "*"), ("key", "k")], "cannot be published to"),
            ([("topic", "a\n"), ("key", "k")], "topic holds a control character"),
            ([("topic", f"{PATH}/subscriptions"), ("key", "k")], "reserved for the hub"),
        ],
    )
    def test_malformed(self, world: MercureWorld, form: Form, reason: str) -> None:
        """
        A malformed form gets 400 with the reason, and nothing is removed.
        """
        world.retain("a", "k", "x")
        client = world.ask("POST", UNRETAIN, form=form, token=PUBLISHER)
        assert client.status == 400
        assert reason in client.body.decode()
        assert world.subscribe("a").texts == ["x"]

    def test_too_large(self, world: MercureWorld) -> None:
        """
        Too many topics or fields, a topic that is too long and a body that is too large get 413.
        """
        assert world.unretain(*map(str, range(101)), key="k").status == 413
        assert world.unretain("a" * 2049, key="k").status == 413
        assert world.unretain(*["a"] * 3000, key="k").status == 413
        assert world.unretain("a", key="k", x="x" * 1024 * 1024).status == 413

    def test_unknown_fields(self, world: MercureWorld) -> None:
        """
        Unknown fields, and those of a publication, are ignored.
        """
        world.retain("a", "k", "x")
        reader = world.subscribe("a")
        assert world.unretain("a", key="k", data="y", type="z", retry="x", color="w").status == 200
        assert seen(reader)[-1] == ("unretain", "k")

    def test_not_a_form(self, world: MercureWorld) -> None:
        """
        A body of another type gets 400.
        """
        headers = {"Content-Type": "application/json"}
        assert world.ask("POST", UNRETAIN, body=b"{}", token=PUBLISHER, headers=headers).status == 400


class AuthorizationTests:
    def test_no_token(self, world: MercureWorld) -> None:
        """
        A request without a token gets a challenge, and says nothing about what is retained.
        """
        world.retain("news", "k", "x")
        for key in ("k", "other"):
            client = world.ask("POST", UNRETAIN, form=[("topic", "news"), ("key", key)])
            assert client.status == 401
            assert client.headers["www-authenticate"].startswith("Bearer resource_metadata=")
            assert client.body == b"removing a retained update requires a token\n"
        assert world.subscribe("news").texts == ["x"]

    @pytest.mark.parametrize(
        ("granted", "topics", "status"),
        [
            (["news"], ["news"], 200),
            (["*"], ["news", "sport"], 200),
            ([{"match": ":x", "match_type": "urlpattern"}], ["news"], 200),
            (["sport"], ["news"], 403),
            (["news"], ["news", "sport"], 403),
            (["News"], ["news"], 403),
        ],
    )
    def test_topics(self, world: MercureWorld, granted: list[Any], topics: list[str], status: int) -> None:
        """
        The token must allow publishing to every topic; another publisher may have retained the update.
        """
        world.retain("news", "k", "x")
        client = world.unretain(*topics, key="k", token=token(publish=granted, sub="eve"))
        assert client.status == status
        assert world.subscribe("news").texts == ([] if status == 200 else ["x"])

    @pytest.mark.parametrize(
        ("given", "status"),
        [
            (token(subscribe=["*"]), 403),
            (token(publish=["*"], exp=-1), 401),
            ("x", 401),
            (token(authorization_details=[detail(["walk"], "*")]), 403),
        ],
    )
    def test_other_tokens(self, world: MercureWorld, given: str, status: int) -> None:
        """
        A token that is not valid gets 401, and one that does not allow publishing 403, whatever is retained.
        """
        world.retain("news", "k", "x")
        for key in ("k", "other"):
            client = world.unretain("news", key=key, token=given)
            assert client.status == status
            assert "resource_metadata=" in client.headers["www-authenticate"]

    def test_revoked(self, world: MercureWorld) -> None:
        """
        A token that has been revoked can neither retain nor remove an update.
        """
        ann = token(publish=["*"], sub="ann")
        assert world.publish("news", token=ann, retain="k").status == 200
        assert world.cut_off(sub="ann").status == 200
        assert world.publish("news", token=ann, retain="k").status == 401
        assert world.unretain("news", key="k", token=ann).status == 401

    @pytest.mark.parametrize(
        ("origin", "status"), [("https://hub.example", 200), ("https://evil.example", 403), (None, 403)]
    )
    def test_cookie(self, world: MercureWorld, origin: str | None, status: int) -> None:
        """
        A token in a cookie counts only in requests of pages that may publish with one.
        """
        world.retain("news", "k", "x")
        headers = {"Cookie": f"{COOKIE}={PUBLISHER}", **({} if origin is None else {"Origin": origin})}
        client = world.ask("POST", UNRETAIN, form=[("topic", "news"), ("key", "k")], headers=headers)
        assert client.status == status


class MethodTests:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "QUERY", "PATCH"])
    def test_other_methods(self, world: MercureWorld, method: str) -> None:
        """
        Other methods get 405 with the allowed ones.
        """
        client = world.ask(method, UNRETAIN, token=PUBLISHER)
        assert (client.status, client.headers["allow"]) == (405, "POST, OPTIONS")

    def test_options(self, new: Callable[..., MercureWorld]) -> None:
        """
        OPTIONS lists the methods, and answers a preflight request of an allowed origin only.
        """
        world = new(origins=["https://app.example"])
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        client = world.ask("OPTIONS", UNRETAIN, headers=headers)
        assert (client.status, client.headers["allow"]) == (204, "POST, OPTIONS")
        assert client.headers["access-control-allow-methods"] == "POST, OPTIONS"
        assert "Authorization" in client.headers["access-control-allow-headers"]
        client = world.ask("OPTIONS", UNRETAIN, headers={**headers, "Origin": "https://b.example"})
        assert "access-control-allow-methods" not in client.headers

    def test_cors(self, new: Callable[..., MercureWorld]) -> None:
        """
        A page of an allowed origin may read the response, also a refusal.
        """
        world = new(origins=["https://app.example"])
        world.retain("news", "k")
        headers = {"Origin": "https://app.example"}
        for client in (
            world.unretain("news", key="k", headers=headers),
            world.unretain("news", key="k", headers=headers),
            world.unretain(headers=headers),
            world.ask("GET", UNRETAIN, headers=headers),
        ):
            assert client.headers["access-control-allow-origin"] == "https://app.example"
            assert client.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("path", [f"{UNRETAIN}/", f"{UNRETAIN}/x", f"{PATH}/Unretain", f"{PATH}/retain"])
    def test_other_paths(self, world: MercureWorld, path: str) -> None:
        """
        No other path removes anything.
        """
        world.retain("news", "k", "x")
        form = [("topic", "news"), ("key", "k")]
        assert world.ask("POST", path, form=form, token=PUBLISHER).status == 404
        assert world.subscribe("news").texts == ["x"]


class TroubleTests:
    def test_journal_without_retained_updates(self, plain: Wire) -> None:
        """
        A hub whose journal retains no updates answers 501, publishes nothing then, and does everything else.
        """
        journal = Forgetful(reactor=plain.reactor)
        world = MercureWorld(plain, Hub(journal=journal, reactor=plain.reactor), anonymous=True)
        reader = world.subscribe("news")
        for client in (world.retain("news", "k"), world.unretain("news", key="k")):
            assert client.status == 501
            assert b"use a memory, SQLite or Redis journal" in client.body
            assert b"object at" not in client.body
        assert world.publish("news", "a").status == 200
        assert reader.texts == ["a"]
        world.end()

    def test_journal_fails(self, new: Callable[..., MercureWorld], plain: Wire) -> None:
        """
        While the journal fails, the response is 503 with Retry-After, and nothing is removed.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor), anonymous=True)
        assert world.retain("news", "k", "x").status == 200
        journal.errors["append"] = JournalFailed("redis://x", "a secret detail", uncertain=True)
        client = world.unretain("news", key="k")
        assert (client.status, client.headers["retry-after"]) == (503, "5")
        assert b"secret" not in client.body and b"with the same id" in client.body
        journal.errors.clear()
        assert world.subscribe("news").texts == ["x"]

    def test_stopped_hub(self, world: MercureWorld) -> None:
        """
        A stopped hub answers 503 with Retry-After.
        """
        world.retain("news", "k")
        world.hub.stop()
        for client in (world.retain("news", "k"), world.unretain("news", key="k")):
            assert (client.status, client.headers["retry-after"]) == (503, "5")
            assert client.body == b"the hub is shutting down\n"


class StreamLimitTests:
    @pytest.fixture
    def limited(self, new: Callable[..., MercureWorld], plain: Wire) -> MercureWorld:
        hub = Hub(reactor=plain.reactor, upgrader=plain.upgrader(), max_retained_bytes_per_stream=1000)
        world = new(hub=hub, anonymous=True, origins=["https://app.example"])
        for number in range(20):
            world.retain(f"t{number}", "k", "x" * 80)
        return world

    @pytest.mark.parametrize(
        "more",
        [[], [("last_event_id", "unknown")], [("last_event_id", "#unknown")]],
        ids=["new", "id", "resume ID"],
    )
    @pytest.mark.parametrize("method", ["GET", "QUERY"])
    def test_refused(self, limited: MercureWorld, more: Form, method: str) -> None:
        """
        A subscription to more bytes than the limit is refused as other subscriptions are: with 400 and a
        sentence, which a page of an allowed origin may read; also if it resumes from an unknown ID.
        """
        headers = {"Origin": "https://app.example"}
        fields = [("match", "*"), *more]
        if method == "QUERY":
            client = limited.ask(method, form=fields, headers=headers)
        else:
            client = limited.ask(method, query=fields, headers=headers)
        client.pump()
        other = limited.ask(method, form=[] if method == "QUERY" else None, headers=headers)
        assert client.status == 400
        names = ("content-type", "cache-control", "x-content-type-options", "access-control-allow-origin")
        assert {name: client.headers.get(name) for name in names} == {
            name: other.headers.get(name) for name in names
        }
        assert b"have more than 1000 bytes; subscribe to fewer" in client.body
        assert client.headers["content-type"] == "text/plain; charset=utf-8"
        assert limited.hub.metrics().channels == 0

    def test_accepted(self, limited: MercureWorld) -> None:
        """
        A subscription within the limit, one that resumes from a known ID, and one to the whole history are
        accepted.
        """
        assert len(limited.subscribe("t1", "t2").texts) == 2
        head = result_of(limited.hub.resume_id())
        assert limited.subscribe("*", more=[("last_event_id", head)]).status == 200
        assert len(limited.subscribe("*", more=[("last_event_id", "earliest")]).texts) == 20

    def test_private_updates_do_not_count(self, limited: MercureWorld) -> None:
        """
        Private updates count only for clients that may have them, so that the refusal discloses nothing.
        """
        for number in range(20):
            limited.retain("secret", f"k{number}", "x" * 80, private="on")
        assert limited.subscribe("secret").status == 200
        assert limited.subscribe("secret", token=token(subscribe=["secret"])).status == 400

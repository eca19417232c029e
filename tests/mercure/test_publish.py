"""
Publishing to a Mercure hub with a POST request: accepted and rejected fields, the rights of the token, and
failures of the journal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.fakes import Wire
from tests.mercure.world import PATH, PUBLISHER, MercureWorld, detail, sign, token
from txsse import Hub, JournalFailed
from txsse.mercure import publish as publishing
from txsse.mercure.selectors.url_pattern import PatternSelector

UUID = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class AcceptedTests:
    def test_published(self, world: MercureWorld) -> None:
        """
        The response to a publication is the update's id, and subscribers receive the update with it.
        """
        reader = world.subscribe("news")
        client = world.publish("news", "hello")
        assert client.status == 200
        assert client.headers["content-type"] == "text/plain; charset=utf-8"
        assert UUID.fullmatch(client.body.decode())
        (event,) = reader.events
        assert (event.data, event.id, event.event) == ("hello", client.body.decode(), "message")

    def test_all_fields(self, world: MercureWorld) -> None:
        """
        Subscribers receive the data, id, type and retry that the publisher sends.
        """
        reader = world.subscribe("news")
        client = world.publish("news", "a\r\nb\rc", id="ürn:1", type="typ", retry="1500")
        assert (client.status, client.body.decode()) == (200, "ürn:1")
        (event,) = reader.events
        assert "id: ürn:1\n".encode() in reader.client.body
        assert (event.data, event.id, event.event) == ("a\nb\nc", "ürn:1", "typ")
        assert b"retry: 1500\n" in reader.client.body

    @pytest.mark.parametrize("compatibility", [False, True])
    def test_same_id(self, new: Callable[..., MercureWorld], compatibility: bool) -> None:
        """
        An update that is published again unchanged is delivered once; a different update with the same id is
        delivered too.
        """
        world = new(anonymous=True, compatibility=compatibility)
        reader = world.subscribe("news")
        for text in ("on", "on", "off", "on"):
            client = world.publish("news", text, id="state")
            assert (client.status, client.body) == (200, b"state")
        assert reader.texts == ["on", "off", "on"]

    def test_topic_only(self, world: MercureWorld) -> None:
        """
        All fields of a publication but topic are optional, and an empty id, type or retry counts as absent.
        """
        reader = world.subscribe("news")
        assert world.ask("POST", form=[("topic", "news")], token=PUBLISHER).status == 200
        assert world.publish("news", id="", type="", retry="").status == 200
        assert reader.texts == ["", ""]

    def test_several_topics(self, world: MercureWorld) -> None:
        """
        A subscriber of any of an update's topics receives the update once.
        """
        readers = [
            world.subscribe("a"),
            world.subscribe("b"),
            world.subscribe("a", "b"),
            world.subscribe("c"),
        ]
        form = [("topic", "a"), ("topic", "b"), ("data", "x")]
        assert world.ask("POST", form=form, token=PUBLISHER).status == 200
        assert [reader.texts for reader in readers] == [["x"], ["x"], ["x"], []]

    def test_unknown_fields(self, world: MercureWorld) -> None:
        """
        Unknown fields of a publication are ignored, so that later versions can add fields.
        """
        assert world.publish("news", "x", target="y", color="z").status == 200

    @pytest.mark.parametrize("value", ["on", "", "0", "false"])
    def test_private(self, world: MercureWorld, value: str) -> None:
        """
        The field "private" makes an update private whatever its value is.
        """
        public = world.subscribe("news")
        granted = world.subscribe("news", token=token(subscribe=["news"]))
        assert world.publish("news", "x", private=value).status == 200
        assert (public.texts, granted.texts) == ([], ["x"])

    def test_private_twice(self, world: MercureWorld) -> None:
        """
        The field "private" makes an update private if it occurs more than once.
        """
        public = world.subscribe("news")
        form = [("topic", "news"), ("private", "on"), ("data", "x"), ("private", "")]
        assert world.ask("POST", form=form, token=PUBLISHER).status == 200
        assert public.texts == []

    def test_id_that_begins_with_earliest(self, world: MercureWorld) -> None:
        """
        An update's id may begin with "earliest", which is reserved only as a whole.
        """
        assert world.publish("news", id="earliest-1").status == 200

    def test_content_type_with_parameters(self, world: MercureWorld) -> None:
        """
        The content type of a publication may have parameters and be in any case.
        """
        headers = {"Content-Type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"}
        form = [("topic", "news")]
        assert world.ask("POST", form=form, token=PUBLISHER, headers=headers).status == 200


class RejectedTests:
    @pytest.mark.parametrize(
        ("form", "reason"),
        [
            ([("data", "x")], "topic is missing"),
            ([], "topic is missing"),
            ([("topic", "*")], "all topics"),
            ([("topic", "a\nb")], "topic holds a control character"),
            ([("topic", "a\u200bb")], "topic holds a control character or a format character"),
            ([("topic", "a\u0085b")], "topic holds"),
            ([("topic", "a"), ("id", "#1")], "begin with #"),
            ([("topic", "a"), ("id", "earliest")], "earliest"),
            ([("topic", "a"), ("id", "1\n2")], "id holds"),
            ([("topic", "a"), ("id", "1\x002")], "id holds"),
            ([("topic", "a"), ("id", "1\u202e2")], "id holds"),
            ([("topic", "a"), ("id", " 1")], "space"),
            ([("topic", "a"), ("type", "a\nb")], "type holds"),
            ([("topic", "a"), ("type", "a\x7fb")], "type holds"),
            ([("topic", "a"), ("type", "mercure")], "reserved for the hub"),
            ([("topic", "a"), ("type", "stream-reset")], "reserved for the hub"),
            ([("topic", "a"), ("retry", "1.5")], "digits"),
            ([("topic", "a"), ("retry", "-1")], "digits"),
            ([("topic", "a"), ("retry", "١")], "digits"),
            ([("topic", "a"), ("retry", " 1")], "digits"),
            ([("topic", "a"), ("id", "1"), ("id", "2")], "more than once"),
            ([("topic", "a"), ("data", "1"), ("data", "2")], "more than once"),
        ],
    )
    def test_malformed(self, world: MercureWorld, form: list[tuple[str, str]], reason: str) -> None:
        """
        A malformed publication gets 400 with the reason, and is not published.
        """
        reader = world.subscribe("*")
        client = world.ask("POST", form=form, token=PUBLISHER)
        assert client.status == 400
        assert reason in client.body.decode()
        assert reader.events == []

    @pytest.mark.parametrize(
        "form",
        [
            [("topic", "a" * 2049)],
            [("topic", str(number)) for number in range(101)],
            [("topic", str(number)) for number in range(3000)],
            [("topic", "a"), ("id", "ü" * 513)],
            [("topic", "a"), ("type", "a" * 2049)],
            [("topic", "a"), ("retry", "1" * 13)],
            [("topic", "a"), ("data", "x" * 1024 * 1024)],
        ],
        ids=["topic", "topics", "fields", "id", "type", "retry", "data"],
    )
    def test_too_large(self, world: MercureWorld, form: list[tuple[str, str]]) -> None:
        """
        A publication that exceeds a limit gets 413.
        """
        client = world.ask("POST", form=form, token=PUBLISHER)
        assert client.status == 413
        assert client.body.endswith(b"\n")

    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            (b"topic=%ff", "application/x-www-form-urlencoded", 400),
            (b"topic=\xff", "application/x-www-form-urlencoded", 400),
            (b'{"topic": "a"}', "application/json", 400),
            (b"topic=a", "text/plain", 400),
            (b"topic=a", "", 400),
        ],
    )
    def test_not_a_form(self, world: MercureWorld, body: bytes, kind: str, status: int) -> None:
        """
        A publication whose body is not a form in UTF-8 gets 400.
        """
        headers = {"Content-Type": kind} if kind else {}
        assert world.ask("POST", body=body, token=PUBLISHER, headers=headers).status == status

    @pytest.mark.parametrize("type", ["mercure", "stream-reset"])
    @pytest.mark.parametrize("subscriptions", [False, True])
    def test_types_of_the_hub(self, new: Callable[..., MercureWorld], type: str, subscriptions: bool) -> None:
        """
        A publisher may not use the event types of the hub, whether or not the subscription API is enabled.
        """
        assert new(subscriptions=subscriptions).publish("news", type=type).status == 400

    @pytest.mark.parametrize(
        "topic",
        [
            PATH,
            f"{PATH}/subscriptions/exact/a/b",
            f"https://hub.example{PATH}/subscriptions",
            f"http://elsewhere.example{PATH}",
            "/.well-known/%6Dercure/x",
            "/.well-known/%6dercur%65",
            f"/x/..{PATH}",
            f"/x/%2e%2E{PATH}/y",
            "mercure",
            "./mercure/subscriptions",
            "%61:/../mercur%65",
            r"\.well-known\mercure",
            "",
            "?x=1",
        ],
    )
    def test_topics_of_the_hub(self, world: MercureWorld, topic: str) -> None:
        """
        No token permits a publication to the hub's own topics, in whatever form they are written.
        """
        for form in ([("topic", topic)], [("topic", "sport"), ("topic", topic)]):
            for granted in ("*", "news"):
                client = world.ask("POST", form=form, token=token(publish=[granted]))
                assert client.status == 400
                assert b"reserved for the hub" in client.body
                assert "www-authenticate" not in client.headers

    @pytest.mark.parametrize(
        "topic", [f"{PATH}x", "https://[broken", "/mercure", "urn:a:mercure", "/.well-known"]
    )
    def test_topics_like_those_of_the_hub(self, world: MercureWorld, topic: str) -> None:
        """
        A publisher may use topics that only resemble the hub's own.
        """
        assert world.publish(topic).status == 200

    def test_larger_than_max_update_size(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        A publication that exceeds the hub's max_update_size gets 413.
        """
        world = new(hub=Hub(reactor=plain.reactor, max_update_size=100))
        client = world.publish("news", "x" * 200)
        assert client.status == 413
        assert "max_update_size is 100" in client.body.decode()


class AuthorizationTests:
    def test_no_token(self, world: MercureWorld) -> None:
        """
        A publication without a token gets a challenge that names the hub's metadata and no error.
        """
        client = world.ask("POST", form=[("topic", "news")])
        assert client.status == 401
        assert client.headers["www-authenticate"] == (
            'Bearer resource_metadata="https://hub.example/.well-known/oauth-protected-resource'
            '/.well-known/mercure"'
        )

    @pytest.mark.parametrize(
        ("granted", "topics", "status"),
        [
            (["news"], ["news"], 200),
            (["*"], ["news"], 200),
            (["news", "sport"], ["sport", "news"], 200),
            ([{"match": "https://a.example/:x", "match_type": "urlpattern"}], ["https://a.example/1"], 200),
            ([{"match": "/books/:x", "match_type": "urlpattern"}], ["/books/1"], 200),
            ([{"match": "*", "match_type": "urlpattern"}], ["news"], 200),
            (["news"], ["sport"], 403),
            (["news"], ["news", "sport"], 403),
            (["news"], ["News"], 403),
            ([{"match": "https://a.example/:x", "match_type": "urlpattern"}], ["https://b.example/1"], 403),
        ],
    )
    def test_topics(self, world: MercureWorld, granted: list[Any], topics: list[str], status: int) -> None:
        """
        The token must grant every topic of a publication.
        """
        form = [("topic", topic) for topic in topics]
        client = world.ask("POST", form=form, token=token(publish=granted))
        assert client.status == status
        if status == 403:
            assert client.headers["www-authenticate"].startswith('Bearer error="insufficient_scope", ')

    def test_other_action(self, world: MercureWorld) -> None:
        """
        A token that grants only subscribing, or an unknown action, does not permit publishing.
        """
        assert world.publish("news", token=token(subscribe=["*"])).status == 403
        assert world.publish("news", token=sign({"aud": "x", "exp": 1})).status == 401
        unknown = token(authorization_details=[detail(["publish", "walk"], "news"), detail(["walk"], "*")])
        assert world.publish("news", token=unknown).status == 200
        assert world.publish("sport", token=unknown).status == 403

    @pytest.mark.parametrize(
        ("given", "status"),
        [(None, 401), ("x", 401), (token(publish=["a"], exp=-1), 401), (token(subscribe=["*"]), 403)],
    )
    def test_challenges_name_the_metadata(self, world: MercureWorld, given: str | None, status: int) -> None:
        """
        The challenge of every 401 and 403 for a publication names the hub's metadata.
        """
        client = world.ask("POST", form=[("topic", "news")], token=given)
        assert client.status == status
        assert "resource_metadata=" in client.headers["www-authenticate"]


class ReactorTurnTests:
    # A token may have about thirty such patterns.
    @pytest.mark.parametrize("many", [10, 29])
    def test_many_patterns(
        self, world: MercureWorld, plain: Wire, monkeypatch: pytest.MonkeyPatch, many: int
    ) -> None:
        """
        The hub yields to the reactor while it matches a token's many patterns against an update's topics.
        """
        asked: list[str] = []
        matches = PatternSelector.matches

        def slow(selector: PatternSelector, topic: str) -> bool:
            plain.reactor.rightNow += 0.0005
            asked.append(topic)
            return matches(selector, topic)

        monkeypatch.setattr(PatternSelector, "matches", slow)
        granted = [{"match": f"/{name}/:x", "match_type": "urlpattern"} for name in [*range(1, many), "a"]]
        form = [("topic", f"/a/{number}") for number in range(100)]
        turns = [0]

        def noting(delay: float, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
            def noted() -> Any:
                turns.append(len(asked))
                return call(*args, **options)

            return call_later(delay, noted)

        call_later = plain.reactor.callLater
        monkeypatch.setattr(plain.reactor, "callLater", noting)
        client = world.ask("POST", form=form, token=token(publish=granted))
        plain.reactor.run_soon()
        client.pump()
        assert client.status == 200
        assert len(asked) == 100 * many
        counts = [after - before for before, after in pairwise([*turns, len(asked)])]
        # Calls in 10 ms, plus a slice of cost 10,000 before and after them; a pattern costs more than 600.
        assert max(counts) <= 20 + 2 * (10_000 // 600 + 1)


class FailureTests:
    def test_journal_fails(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        A publisher gets 503 with Retry-After while the journal fails, and advice about the id if the outcome
        is uncertain.
        """
        from tests.hub.fakes import ScriptedJournal

        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor), anonymous=True)
        world.subscribe("news")
        for uncertain in (False, True):
            journal.errors["append"] = JournalFailed("redis://x", "a secret detail", uncertain=uncertain)
            client = world.publish("news")
            assert (client.status, client.headers["retry-after"]) == (503, "5")
            assert "secret" not in client.body.decode()
            assert ("with the same id" in client.body.decode()) == uncertain

    def test_journal_raises(self, new: Callable[..., MercureWorld], plain: Any, failures: list[Any]) -> None:
        """
        An unexpected error of the journal is logged and becomes the hub's problem; the publisher gets 503
        with Retry-After and no details.
        """
        from tests.hub.fakes import ScriptedJournal

        journal = ScriptedJournal(reactor=plain.reactor)
        hub = Hub(journal=journal, reactor=plain.reactor)
        world = new(hub=hub, anonymous=True)
        world.subscribe("news")
        journal.errors["append"] = RuntimeError("a secret detail")
        client = world.publish("news")
        assert (client.status, client.headers["retry-after"]) == (503, "5")
        assert "secret" not in client.body.decode() + str(hub.problem)
        assert [event["log_failure"].type for event in failures] == [RuntimeError]
        del journal.errors["append"]
        assert world.publish("news").status == 200
        assert hub.problem is None

    @pytest.mark.parametrize(("error", "status"), [(MemoryError, 503), (RuntimeError, 500)])
    def test_unexpected_error(
        self,
        new: Callable[..., MercureWorld],
        plain: Any,
        failures: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        error: type[Exception],
        status: int,
    ) -> None:
        """
        An unexpected error of a publication is logged at most five times and answered with 500; a MemoryError
        gets 503 with Retry-After.
        """
        world = new(hub=Hub(reactor=plain.reactor), anonymous=True)

        def fail(*arguments: object) -> Any:
            raise error("a secret detail")

        monkeypatch.setattr(publishing, "read_body", fail)
        for _ in range(20):
            client = world.publish("news")
            assert client.status == status
            assert ("retry-after" in client.headers) == (status == 503)
            assert "secret" not in client.body.decode()
        assert len(failures) == (0 if status == 503 else 5)

    def test_disconnect(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        An update is published even if its publisher disconnects before the journal has stored it.
        """
        from tests.hub.fakes import ScriptedJournal

        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor), anonymous=True)
        reader = world.subscribe("news")
        journal.held.add("append")
        client = world.publish("news", "x")
        assert client.status == 0
        client.disconnect(clean=False)
        journal.release("append")
        assert reader.texts == ["x"]

    def test_stopped_hub(self, world: MercureWorld) -> None:
        """
        A stopped hub answers a publication with 503 and Retry-After.
        """
        world.hub.stop()
        client = world.publish("news")
        assert (client.status, client.headers["retry-after"]) == (503, "5")

"""
Publications.
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


class GoodTests:
    def test_published(self, world: MercureWorld) -> None:
        """
        The answer is the id, and subscribers get the update.
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
        What the publisher gives is what the subscriber gets.
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
        An update that is published again is sent once; another one with its id is sent, too.
        """
        world = new(anonymous=True, compatibility=compatibility)
        reader = world.subscribe("news")
        for text in ("on", "on", "off", "on"):
            client = world.publish("news", text, id="state")
            assert (client.status, client.body) == (200, b"state")
        assert reader.texts == ["on", "off", "on"]

    def test_nothing_but_a_topic(self, world: MercureWorld) -> None:
        """
        All other fields are optional, and empty ones are none.
        """
        reader = world.subscribe("news")
        assert world.ask("POST", form=[("topic", "news")], token=PUBLISHER).status == 200
        assert world.publish("news", id="", type="", retry="").status == 200
        assert reader.texts == ["", ""]

    def test_several_topics(self, world: MercureWorld) -> None:
        """
        Who wants any of them gets it, once.
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
        They are ignored, so that there may be new ones.
        """
        assert world.publish("news", "x", target="y", color="z").status == 200

    def test_same_id_again(self, world: MercureWorld) -> None:
        """
        An update that is published again by its id is not sent again.
        """
        reader = world.subscribe("news")
        for _ in range(2):
            assert world.publish("news", "x", id="1").body == b"1"
        assert reader.texts == ["x"]

    @pytest.mark.parametrize("value", ["on", "", "0", "false"])
    def test_private(self, world: MercureWorld, value: str) -> None:
        """
        The field alone makes it private, whatever it holds.
        """
        public = world.subscribe("news")
        granted = world.subscribe("news", token=token(subscribe=["news"]))
        assert world.publish("news", "x", private=value).status == 200
        assert (public.texts, granted.texts) == ([], ["x"])

    def test_private_twice(self, world: MercureWorld) -> None:
        """
        So it does when it is there more than once.
        """
        public = world.subscribe("news")
        form = [("topic", "news"), ("private", "on"), ("data", "x"), ("private", "")]
        assert world.ask("POST", form=form, token=PUBLISHER).status == 200
        assert public.texts == []

    def test_earliest_is_no_prefix(self, world: MercureWorld) -> None:
        """
        Only the word itself is reserved.
        """
        assert world.publish("news", id="earliest-1").status == 200

    def test_content_type_with_parameters(self, world: MercureWorld) -> None:
        """
        As browsers and libraries write it.
        """
        headers = {"Content-Type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"}
        form = [("topic", "news")]
        assert world.ask("POST", form=form, token=PUBLISHER, headers=headers).status == 200


class BadTests:
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
        The publisher is told what is wrong, and nothing is published.
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
    def test_too_much(self, world: MercureWorld, form: list[tuple[str, str]]) -> None:
        """
        What is too large is refused.
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
    def test_no_form(self, world: MercureWorld, body: bytes, kind: str, status: int) -> None:
        """
        Other bodies are none.
        """
        headers = {"Content-Type": kind} if kind else {}
        assert world.ask("POST", body=body, token=PUBLISHER, headers=headers).status == status

    @pytest.mark.parametrize("type", ["mercure", "stream-reset"])
    @pytest.mark.parametrize("subscriptions", [False, True])
    def test_types_of_the_hub(self, new: Callable[..., MercureWorld], type: str, subscriptions: bool) -> None:
        """
        Nobody may publish what looks like the hub's own, whether subscriptions are told of or not.
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
        However they are written, nobody may publish to them, whatever the token allows beside that.
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
    def test_topics_beside_those(self, world: MercureWorld, topic: str) -> None:
        """
        What only looks like one is not.
        """
        assert world.publish(topic).status == 200

    def test_more_than_the_hub_takes(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        The hub has a limit of its own, which counts too.
        """
        world = new(hub=Hub(reactor=plain.reactor, max_update_size=100))
        client = world.publish("news", "x" * 200)
        assert client.status == 413
        assert "max_update_size is 100" in client.body.decode()


class AllowedTests:
    def test_no_token(self, world: MercureWorld) -> None:
        """
        Without one, the answer says where to learn what it takes, and names no error.
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
        The token has to allow every topic.
        """
        form = [("topic", topic) for topic in topics]
        client = world.ask("POST", form=form, token=token(publish=granted))
        assert client.status == status
        if status == 403:
            assert client.headers["www-authenticate"].startswith('Bearer error="insufficient_scope", ')

    def test_other_action(self, world: MercureWorld) -> None:
        """
        Who may subscribe may not publish.
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
        Each 401 and 403 says where the metadata of the hub are.
        """
        client = world.ask("POST", form=[("topic", "news")], token=given)
        assert client.status == status
        assert "resource_metadata=" in client.headers["www-authenticate"]


class TurnTests:
    # A token may have some thirty of these.
    @pytest.mark.parametrize("many", [10, 29])
    def test_many_patterns(
        self, world: MercureWorld, plain: Wire, monkeypatch: pytest.MonkeyPatch, many: int
    ) -> None:
        """
        The reactor has its turn while a token's patterns are asked about an update's topics.
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
        # For 10 ms, and a step of 10,000 before and behind them, of patterns that weigh more than 600.
        assert max(counts) <= 20 + 2 * (10_000 // 600 + 1)


class TroubleTests:
    def test_journal_out(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        The publisher is told to come again, and what is known of the update.
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

    def test_something_unexpected(
        self, new: Callable[..., MercureWorld], plain: Any, failures: list[Any]
    ) -> None:
        """
        Where a journal fails so, the publisher is told to come again, the hub has a problem, and the log has
        it. The client learns no more than that.
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
    def test_publishing_that_fails(
        self,
        new: Callable[..., MercureWorld],
        plain: Any,
        failures: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        error: type[Exception],
        status: int,
    ) -> None:
        """
        The log has it a few times, however often it happens. Memory that is gone may be there again later.
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

    def test_client_that_goes(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        What it has published is published all the same.
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

    def test_hub_that_stops(self, world: MercureWorld) -> None:
        """
        It takes no updates any more.
        """
        world.hub.stop()
        client = world.publish("news")
        assert (client.status, client.headers["retry-after"]) == (503, "5")

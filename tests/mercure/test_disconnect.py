"""
Disconnecting clients of a Mercure hub, and revoking their tokens, with a POST request.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogEvent

from tests.fakes import Client, Wire
from tests.hub.fakes import ScriptedJournal, result_of
from tests.mercure.world import (
    DISCONNECT,
    DISCONNECTER,
    OTHER_SECRET,
    PATH,
    PUBLISHER,
    SECRET,
    MercureWorld,
    Reader,
    old_token,
    token,
)
from txsse import Hub, JournalFailed
from txsse.errors import TooManyRevocations
from txsse.mercure import disconnect as module
from txsse.mercure import shared_secret
from txsse.mercure.auth.grants import OWN_DETAIL_TYPE
from txsse.mercure.auth.identity import JTI, SUB
from txsse.mercure.revocations import NEVER
from txsse.mercure.settings import COOKIE

DAYS_30 = 30 * 86400


def is_open(reader: Reader) -> bool:
    reader.client.pump()
    return reader.status == 200 and not reader.client.ended


def answer(client: Client) -> Any:
    assert client.status == 200, client.body
    assert client.headers["content-type"] == "application/json"
    assert client.headers["cache-control"] == "no-store"
    return json.loads(client.body)


def cut_off(world: MercureWorld, field: str) -> Client:
    form: dict[str, Any] = {field: "x"}
    return world.cut_off(**form)


def read_token(**claims: Any) -> str:
    return token(subscribe=["*"], publish=["*"], **claims)


class DoneTests:
    @pytest.mark.parametrize(
        ("field", "claim"), [("key", "sid"), ("jti", "jti"), ("sub", "sub")], ids=["key", "jti", "sub"]
    )
    def test_streams(self, world: MercureWorld, field: str, claim: str) -> None:
        """
        All streams with the claim are closed, and the response says how many, and until when their tokens are
        refused.
        """
        ours = [world.subscribe("news", token=read_token(**{claim: "x"})) for _ in range(2)]
        others = [
            world.subscribe("news"),
            world.subscribe("news", token=read_token()),
            world.subscribe("news", token=read_token(sub="y", jti="y", sid="y")),
            world.subscribe("news", token=read_token(**{"key": "x", "ID": "x"})),
        ]
        assert answer(cut_off(world, field)) == {
            "disconnected": 2,
            "refused_until": "1970-01-31T00:00:00Z",
        }
        world.reactor.run_soon()
        assert [is_open(each) for each in ours] == [False, False]
        assert all(is_open(each) for each in others)

    @pytest.mark.parametrize(("field", "claim"), [("key", "sid"), ("jti", "jti"), ("sub", "sub")])
    @pytest.mark.parametrize("again", [False, True], ids=["first use", "from the cache"])
    def test_every_use_is_refused(self, world: MercureWorld, field: str, claim: str, again: bool) -> None:
        """
        A revoked token can neither subscribe, publish, list subscriptions nor disconnect, also if it is
        cached.
        """
        own = {"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]}
        reading = read_token(**{claim: "x"})
        cutting = token(authorization_details=[own], **{claim: "x"})

        def uses() -> list[int]:
            return [
                world.subscribe("news", token=reading).status,
                world.ask("HEAD", query=[("match", "news")], token=reading).status,
                world.publish("news", token=reading).status,
                world.ask(path=f"{PATH}/subscriptions", token=reading).status,
                world.cut_off(sub="nobody", token=cutting).status,
            ]

        if again:
            assert uses() == [200] * 5
        answer(cut_off(world, field))
        assert uses() == [401] * 5
        client = world.publish("news", token=reading)
        assert client.body == b"the token is not accepted: it has been revoked\n"
        assert 'error="invalid_token"' in client.headers["www-authenticate"]
        assert world.publish("news", token=read_token(**{claim: "y"})).status == 200

    def test_log_in_again(self, world: MercureWorld) -> None:
        """
        A token that was issued after its subject was disconnected is accepted; one that was issued before, or
        in the same second, or that does not say when, is refused.
        """
        world.reactor.advance(100.5)
        answer(world.cut_off(sub="ann"))
        statuses = [
            world.publish("news", token=read_token(sub="ann", **({} if iat is None else {"iat": iat}))).status
            for iat in (None, 99, 100, 101)
        ]
        assert statuses == [401, 401, 401, 200]

    def test_again(self, world: MercureWorld) -> None:
        """
        The same request may be sent again, and refuses the tokens that were issued in between.
        """
        reader = world.subscribe("news", token=read_token(sub="ann"))
        assert answer(world.cut_off(sub="ann"))["disconnected"] == 1
        world.reactor.advance(10)
        between = read_token(sub="ann", iat=5)
        assert is_open(world.subscribe("news", token=between))
        assert answer(world.cut_off(sub="ann"))["disconnected"] == 1
        assert world.publish("news", token=between).status == 401
        assert not is_open(reader)

    def test_slow_reader(self, world: MercureWorld) -> None:
        """
        Updates that are held back for a slow reader are not sent after it was disconnected.
        """
        reader = world.subscribe("news", token=read_token(sub="ann"))
        reader.client.stop_reading()
        for _ in range(5):
            world.publish("news", "x" * 200_000)
        assert answer(world.cut_off(sub="ann"))["disconnected"] == 1
        world.reactor.run_soon()
        assert not reader.client.connected or reader.client.ended

    def test_expires_in(self, world: MercureWorld) -> None:
        """
        The tokens are refused as long as the request says; one that is presented meanwhile, until it expires.
        """
        document = answer(world.cut_off(sub="ann", expires_in="90"))
        assert document["refused_until"] == "1970-01-01T00:01:30Z"
        answer(world.cut_off(sub="bob", expires_in="90"))
        world.reactor.advance(89)
        assert world.publish("news", token=read_token(sub="ann", exp=3000)).status == 401
        world.reactor.advance(1)
        assert world.publish("news", token=read_token(sub="bob")).status == 200
        world.reactor.advance(2909)
        assert world.publish("news", token=read_token(sub="ann", exp=3000)).status == 401
        world.reactor.advance(1)
        assert world.publish("news", token=read_token(sub="ann")).status == 200

    def test_stream_whose_token_lives_longer(self, world: MercureWorld) -> None:
        """
        If the token of an open stream expires later than the request says, the token is refused until then.
        """
        long = read_token(sub="ann", exp=DAYS_30 * 2)
        world.subscribe("news", token=long)
        world.subscribe("news", token=read_token(sub="ann", exp=500))
        assert answer(world.cut_off(sub="ann", expires_in="90"))["refused_until"] == "1970-03-02T00:00:00Z"
        world.reactor.advance(DAYS_30)
        assert world.publish("news", token=long).status == 401

    def test_stream_whose_token_never_expires(self, new: Callable[..., MercureWorld]) -> None:
        """
        A token from before Mercure 1.0 that never expires, and has an open stream, is refused for ever.
        """
        world = new(compatibility=True)
        made = jwt.encode({"mercure": {"publish": ["*"]}, "sub": "ann"}, SECRET, "HS256")
        assert is_open(world.subscribe("news", token=made))
        assert answer(world.cut_off(sub="ann", expires_in="90"))["refused_until"] == "9999-12-31T23:59:59Z"
        world.reactor.advance(DAYS_30)
        assert world.publish("news", token=made).status == 401

    @pytest.mark.parametrize(("exp", "lifetime"), [(3600, 1e15), (9e11, 60.0)])
    def test_very_late_expiry(self, new: Callable[..., MercureWorld], exp: float, lifetime: float) -> None:
        """
        No token is refused for longer than dates can be written: the end of the year 9999.
        """
        world = new(revocation_lifetime=lifetime)
        world.subscribe("news", token=read_token(sub="ann", exp=exp))
        assert answer(world.cut_off(sub="ann"))["refused_until"] == "9999-12-31T23:59:59Z"
        kept = world.hub.revocations
        assert kept is not None
        [recorded] = result_of(kept.load())
        assert recorded.expires == NEVER

    def test_part_of_a_second(self, world: MercureWorld) -> None:
        """
        The time in the response is not before that until which the tokens are refused.
        """
        world.reactor.advance(0.25)
        assert answer(world.cut_off(sub="ann", expires_in="1"))["refused_until"] == "1970-01-01T00:00:02Z"

    def test_first_key(self, world: MercureWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The key of a stream is the subject of its token, and the hub checks that other nodes recognise it.
        """
        checked: list[Any] = []
        monkeypatch.setattr(world.hub.admission, "check_key", checked.append)
        world.subscribe("news", token=read_token(sub="ann", jti="t1"))
        assert set(checked) == {"ann"}
        [subscriber] = world.hub.subscribers
        assert subscriber.key == "ann"
        assert subscriber.channel.keys == ("ann", ("jti", "t1"))

    def test_settings(self, new: Callable[..., MercureWorld]) -> None:
        """
        The settings name the claim with the key of a session, and how long tokens are refused by default.
        """
        world = new(key_claim="session", revocation_lifetime=7200.0)
        reader = world.subscribe("news", token=read_token(session="x"))
        other = world.subscribe("news", token=read_token(sid="x"))
        assert answer(world.cut_off(key="x")) == {
            "disconnected": 1,
            "refused_until": "1970-01-01T02:00:00Z",
        }
        world.reactor.run_soon()
        assert (is_open(reader), is_open(other)) == (False, True)
        assert world.publish("news", token=read_token(session="x")).status == 401
        assert world.publish("news", token=read_token(sid="x")).status == 200

    @pytest.mark.parametrize("value", ["é", "\0\r\n", "x" * 512, "\U0001f600" * 128, "a&b=c", '"\\"', " "])
    def test_any_value(self, world: MercureWorld, value: str) -> None:
        """
        Every value that a token may have can be disconnected.
        """
        reader = world.subscribe("news", token=read_token(sub=value))
        assert answer(world.cut_off(sub=value))["disconnected"] == 1
        world.reactor.run_soon()
        assert not is_open(reader)

    def test_admission_under_way(self, plain: Wire) -> None:
        """
        A stream that is not open yet, although its token has been verified, does not stay open.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = MercureWorld(plain, Hub(journal=journal, reactor=plain.reactor))
        world.publish("news", "a", id="1")
        journal.held.add("find")
        reader = world.subscribe("news", token=read_token(sub="ann"), more=[("last_event_id", "1")])
        assert reader.status == 0
        answer(world.cut_off(sub="ann"))
        journal.release("find")
        world.reactor.run_soon()
        reader.client.pump()
        assert reader.client.ended and reader.texts == []
        world.end()

    def test_list_of_subscriptions(self, world: MercureWorld, failures: list[LogEvent]) -> None:
        """
        Subscriptions of disconnected clients end, and are no longer listed.
        """
        every = token(subscribe=["*"])
        world.subscribe("news", token=read_token(sub="ann"))
        assert (
            len(json.loads(world.ask(path=f"{PATH}/subscriptions", token=every).body)["subscriptions"]) == 1
        )
        answer(world.cut_off(sub="ann"))
        world.reactor.run_soon()
        assert json.loads(world.ask(path=f"{PATH}/subscriptions", token=every).body)["subscriptions"] == []
        assert failures == []

    def test_two_resources_of_one_hub(self, plain: Wire, new: Callable[..., MercureWorld]) -> None:
        """
        Two Mercure resources of one hub share the revoked tokens.
        """
        first = new()
        second = MercureWorld(plain, first.hub)
        answer(first.cut_off(sub="ann"))
        assert second.publish("news", token=read_token(sub="ann")).status == 401
        second.end()


class AuthorisationTests:
    def test_no_token(self, world: MercureWorld) -> None:
        """
        A request without a token gets 401, also if the hub admits anonymous subscribers.
        """
        client = world.ask("POST", DISCONNECT, form=[("sub", "ann")])
        assert (client.status, client.body) == (401, b"disconnecting requires a token\n")
        assert client.headers["www-authenticate"].startswith("Bearer resource_metadata=")

    @pytest.mark.parametrize(
        "details",
        [
            [],
            [{"type": OWN_DETAIL_TYPE, "actions": ["other"]}],
            [{"type": "https://example.org/", "actions": ["disconnect"]}],
            [
                {
                    "type": "https://mercure.rocks/authorization-detail",
                    "actions": ["disconnect", "publish", "subscribe"],
                    "topics": [{"match": "*"}],
                }
            ],
        ],
    )
    def test_no_grant(self, world: MercureWorld, details: Any) -> None:
        """
        A token without the grant gets 403, whatever it grants otherwise, and nothing is disconnected.
        """
        reader = world.subscribe("news", token=read_token(sub="ann"))
        client = world.cut_off(sub="ann", token=token(authorization_details=details))
        assert (client.status, client.body) == (403, b"the token does not allow disconnecting\n")
        assert 'error="insufficient_scope"' in client.headers["www-authenticate"]
        assert is_open(reader)

    def test_grant_allows_nothing_else(self, world: MercureWorld) -> None:
        """
        A token that allows only disconnecting can neither publish nor read private updates.
        """
        assert world.publish("news", token=DISCONNECTER).status == 403
        reader = world.subscribe("news", token=DISCONNECTER)
        assert world.publish("news", "secret", private="on").status == 200
        assert reader.texts == []

    def test_old_token(self, new: Callable[..., MercureWorld]) -> None:
        """
        A token from before Mercure 1.0 cannot carry the grant.
        """
        world = new(compatibility=True)
        details = [{"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]}]
        claims = {"mercure": {"publish": ["*"]}, "authorization_details": details}
        assert world.cut_off(sub="ann", token=jwt.encode(claims, SECRET, "HS256")).status == 403
        assert world.cut_off(sub="ann", token=old_token(publish=["*"], disconnect=True)).status == 403
        assert world.cut_off(sub="ann").status == 200

    @pytest.mark.parametrize(
        ("origin", "status"), [("https://hub.example", 200), ("https://evil.example", 403), (None, 403)]
    )
    def test_cookie(self, world: MercureWorld, origin: str | None, status: int) -> None:
        """
        A token in a cookie counts only in requests of pages that may publish with one.
        """
        headers = {"Cookie": f"{COOKIE}={DISCONNECTER}", **({} if origin is None else {"Origin": origin})}
        client = world.ask("POST", DISCONNECT, form=[("sub", "ann")], headers=headers)
        assert client.status == status

    def test_subscribers_key(self, new: Callable[..., MercureWorld]) -> None:
        """
        A key that verifies only tokens of subscribers does not allow disconnecting.
        """
        world = new(issuers=[shared_secret(OTHER_SECRET, subscribe=SECRET)])
        assert world.cut_off(sub="ann").status == 401


class FormTests:
    @pytest.mark.parametrize(
        ("form", "reason"),
        [
            ([], "exactly one of the fields key, jti and sub"),
            ([("Sub", "ann")], "exactly one of the fields key, jti and sub"),
            ([("sub", "ann"), ("jti", "1")], "exactly one of the fields key, jti and sub"),
            ([("sub", "ann"), ("sub", "ann")], "exactly one of the fields key, jti and sub"),
            ([("sub", "")], "sub is empty"),
            ([("key", "x" * 513)], "key has 513 bytes, and 512 is the limit"),
            ([("sub", "a"), ("expires_in", "1"), ("expires_in", "1")], "expires_in occurs more than once"),
            *(
                ([("sub", "a"), ("expires_in", value)], "expires_in must be a number of seconds above 0")
                for value in ("", "0", "-1", "1.5", "1e3", "x", "+1", "²", "1" * 11, "٣")
            ),
        ],
    )
    def test_malformed(self, world: MercureWorld, form: list[tuple[str, str]], reason: str) -> None:
        """
        A malformed form gets 400 with the reason.
        """
        client = world.ask("POST", DISCONNECT, form=form, token=DISCONNECTER)
        assert client.status == 400
        assert reason in client.body.decode()

    def test_unknown_fields(self, world: MercureWorld) -> None:
        """
        Unknown fields are ignored.
        """
        assert answer(world.cut_off(sub="ann", topic="news", x="y"))

    def test_not_a_form(self, world: MercureWorld) -> None:
        """
        A body of another type, or that is not UTF-8, gets 400.
        """
        headers = {"Content-Type": "application/json"}
        assert world.ask("POST", DISCONNECT, body=b"{}", token=DISCONNECTER, headers=headers).status == 400
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert world.ask("POST", DISCONNECT, body=b"sub=%ff", token=DISCONNECTER, headers=form).status == 400
        assert world.ask("POST", DISCONNECT, body=b"sub=\xff", token=DISCONNECTER, headers=form).status == 400

    def test_too_large(self, world: MercureWorld) -> None:
        """
        A body of more than 16 KiB, or with too many fields, gets 413.
        """
        assert world.cut_off(sub="ann", x="x" * 16_384).status == 413
        client = world.ask(
            "POST",
            DISCONNECT,
            body=b"&" * 2001,
            token=DISCONNECTER,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert client.status == 413
        assert answer(world.cut_off(sub="ann", x="x" * 16_000))

    def test_long_lifetime(self, world: MercureWorld) -> None:
        """
        The longest lifetime is accepted.
        """
        document = answer(world.cut_off(sub="ann", expires_in="9" * 10))
        assert document["refused_until"] == "2286-11-20T17:46:39Z"


class MethodTests:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "QUERY", "PATCH"])
    def test_other_methods(self, world: MercureWorld, method: str) -> None:
        """
        Other methods get 405 with the allowed ones.
        """
        client = world.ask(method, DISCONNECT, token=DISCONNECTER)
        assert client.status == 405
        assert client.headers["allow"] == "POST, OPTIONS"

    def test_options(self, new: Callable[..., MercureWorld]) -> None:
        """
        OPTIONS lists the methods, and answers a preflight request of an allowed origin.
        """
        world = new(origins=["https://app.example"])
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        client = world.ask("OPTIONS", DISCONNECT, headers=headers)
        assert (client.status, client.headers["allow"]) == (204, "POST, OPTIONS")
        assert client.headers["access-control-allow-methods"] == "POST, OPTIONS"
        assert "Authorization" in client.headers["access-control-allow-headers"]
        client = world.ask("OPTIONS", DISCONNECT, headers={**headers, "Origin": "https://b.example"})
        assert "access-control-allow-methods" not in client.headers

    def test_cors(self, new: Callable[..., MercureWorld]) -> None:
        """
        A page of an allowed origin may read the response, also a refusal.
        """
        world = new(origins=["https://app.example"])
        headers = {"Origin": "https://app.example"}
        for client in (
            world.cut_off(sub="ann", headers=headers),
            world.cut_off(headers=headers),
            world.ask("GET", DISCONNECT, headers=headers),
        ):
            assert client.headers["access-control-allow-origin"] == "https://app.example"

    @pytest.mark.parametrize("path", [f"{DISCONNECT}/", f"{DISCONNECT}/x", f"{PATH}/Disconnect"])
    def test_other_paths(self, world: MercureWorld, path: str) -> None:
        """
        No other path disconnects.
        """
        assert world.ask("POST", path, form=[("sub", "a")], token=DISCONNECTER).status == 404


class TroubleTests:
    def test_journal_without_revocations(self, plain: Wire) -> None:
        """
        A hub whose journal keeps no revoked tokens answers 501 to those that may disconnect, and does
        everything else.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        del journal.revocations
        world = MercureWorld(plain, Hub(journal=journal, reactor=plain.reactor))
        client = world.cut_off(sub="ann")
        assert client.status == 501
        assert b"use a memory, SQLite or Redis journal" in client.body
        assert world.cut_off(sub="ann", token=PUBLISHER).status == 403
        reader = world.subscribe("news", token=read_token(sub="ann"))
        assert world.publish("news", "a").status == 200
        assert reader.texts == ["a"]
        world.end()

    def test_too_many_at_once(self, world: MercureWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        While as many requests as the limit wait for their nodes, another one gets 503, and has done nothing.
        """
        monkeypatch.setattr(module, "_MAX_RUNNING", 2)
        waiting: list[Deferred[Any]] = []
        kept = world.hub.revocations
        assert kept is not None

        def add(revocation: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        monkeypatch.setattr(kept, "add", add)
        first, second = world.cut_off(sub="a"), world.cut_off(sub="b")
        third = world.cut_off(sub="c")
        assert (first.status, second.status, third.status) == (0, 0, 503)
        assert third.headers["retry-after"] == "5"
        assert b"nothing has been done" in third.body
        assert len(waiting) == 2
        for each in waiting:
            each.callback(None)
        world.reactor.run_soon()
        for client in (first, second):
            client.pump()
        assert (first.status, second.status) == (200, 200)
        assert world.cut_off(sub="c").status == 0

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (JournalFailed("x", "full"), "the journal could not record it, so nodes that start later may"),
            (TooManyRevocations(7), "the list of revoked tokens is full: 7 have not expired"),
        ],
    )
    def test_not_recorded(
        self, world: MercureWorld, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
    ) -> None:
        """
        If the journal cannot record a revocation, the response is 503 and says so, and the streams are closed
        and the tokens refused nevertheless.
        """
        reader = world.subscribe("news", token=read_token(sub="ann"))
        with monkeypatch.context() as patch:
            patch.setattr(world.hub.revocations, "add", lambda revocation: fail(error))
            client = world.cut_off(sub="ann")
        assert client.status == 503
        assert client.headers["retry-after"] == "5"
        text = client.body.decode()
        assert reason in text and "may be repeated" in text and "ann" not in text
        world.reactor.run_soon()
        assert not is_open(reader)
        assert world.publish("news", token=read_token(sub="ann")).status == 401
        assert answer(world.cut_off(sub="ann"))["disconnected"] == 0

    def test_client_that_disconnects(
        self, world: MercureWorld, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
    ) -> None:
        """
        A request whose client disconnects before the response is carried out nevertheless.
        """
        recording: Deferred[Any] = Deferred()
        monkeypatch.setattr(world.hub.revocations, "add", lambda revocation: recording)
        disconnected: list[Any] = []

        def disconnect(key: Any) -> Deferred[int]:
            disconnected.append(key)
            return succeed(0)

        monkeypatch.setattr(world.hub, "disconnect", disconnect)
        world.cut_off(sub="ann").disconnect(clean=False)
        assert disconnected == []
        recording.callback(None)
        assert disconnected == ["ann"]
        assert failures == []

    def test_stopped_hub(self, world: MercureWorld) -> None:
        """
        A hub that has been stopped answers 503, and does nothing.
        """
        assert world.publish("news").status == 200
        world.hub.stop()
        world.reactor.run_soon()
        client = world.cut_off(sub="ann")
        assert client.status == 503
        assert client.body == b"nothing has been done: the hub is shutting down; try again later\n"


def test_fields() -> None:
    """
    The fields for a token's ID and its subject are named as the claims.
    """
    assert (JTI, SUB) == ("jti", "sub")

"""
The examples of the documentation's page on authentication, run as they are printed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.fakes import Client, Wire
from tests.hub.fakes import outcome_of, result_of
from tests.test_readme import ROOT, blocks
from txsse import CloseReason, EventStreamParser, HubStopped, JournalFailed, NotAcknowledged

PAGE = (ROOT / "docs" / "authentication.rst").read_text(encoding="utf-8")

# Replaces the global reactor by that of the test.
REPLACED = {
    "hub = Hub()": "hub = Hub(upgrader=upgrader)",
    "SSEResource(count_down, access=": "SSEResource(count_down, upgrader=upgrader, access=",
    "SSEResource(job, access=": "SSEResource(job, upgrader=upgrader, access=",
    "from twisted.internet import reactor, task": "from twisted.internet import task",
}

CLAIMS = {
    b"good": {"sub": "ann", "jti": "t1", "scope": "read stream", "exp": 60},
    b"other": {"sub": "ann", "jti": "t2", "scope": "read", "exp": 60},
    b"old": {"sub": "ann", "jti": "t3", "scope": "stream", "exp": -1},
}


async def verify(token: bytes) -> dict[str, Any] | None:
    """
    Return the claims of a token, as the page's program expects it.
    """
    claims: dict[str, Any] | None = CLAIMS.get(token)
    return claims and {**claims, "exp": time.time() + claims["exp"]}


class Program:
    """
    The program of the page, with the sessions ``a1`` of Ann and ``b2`` of Bob.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.clients: list[Client] = []
        self.names: dict[str, Any] = {
            "__name__": __name__,
            "upgrader": wire.upgrader(),
            "reactor": wire.reactor,
            "verify": verify,
        }
        program = "\n".join(blocks("python", PAGE))
        for shown, run in REPLACED.items():
            assert program.count(shown) == 1
            program = program.replace(shown, run)
        # The flags of this module, such as those of __future__, do not apply to the page.
        exec(compile(program, "authentication.rst", "exec", dont_inherit=True), self.names)
        self.hub = self.names["hub"]
        self.ann, self.bob = (
            self.names["Session"](number, name) for number, name in enumerate(("ann", "bob"))
        )
        self.names["sessions"].update({b"a1": self.ann, b"b2": self.bob})

    def __getattr__(self, name: str) -> Any:
        return self.names[name]

    def request(self, path: str, cookie: str = "", method: str = "GET", **headers: str) -> Client:
        """
        Send a request on a new connection.
        """
        client = self.wire.connect(self.root)
        self.clients.append(client)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.request(path, method=method, headers={"Cookie": f"session={cookie}", **fields})

    def publish(self, topic: str, text: str, **options: Any) -> None:
        """
        Publish an update, and let the hub send it.
        """
        self.hub.publish(topic, text, **options)
        self.wire.reactor.run_soon()

    def turn(self) -> None:
        self.wire.reactor.run_soon()


def texts(client: Client) -> list[str]:
    """
    Return the data of the events that a client has received.
    """
    client.pump()
    return [event.data for event in EventStreamParser().feed(client.body)]


@pytest.fixture
def program(plain: Wire) -> Iterator[Program]:
    """
    Run the page's program, and disconnect its clients at the end.
    """
    program = Program(plain)
    yield program
    for client in program.clients:
        if client.transport.connected:
            client.disconnect(clean=False)


class CookieTests:
    def test_private(self, program: Program) -> None:
        """
        The client of a session receives public updates, and the private ones of its user.
        """
        ann, bob = program.request("/events", "a1"), program.request("/events", "b2")
        program.publish("news", "for all")
        program.publish("users/ann", "for Ann", private=True)
        assert texts(ann) == ["for all", "for Ann"]
        assert texts(bob) == ["for all"]

    @pytest.mark.parametrize("path", ["/events", "/few", "/job"])
    def test_expires(self, program: Program, path: str) -> None:
        """
        A stream ends an hour after it has begun, with a hub and without one.
        """
        client = program.request(path, "a1")
        program.wire.reactor.advance(3599)
        client.pump()
        assert (client.status, client.ended) == (200, False)
        program.wire.reactor.advance(2)
        client.pump()
        assert client.ended

    @pytest.mark.parametrize("path", ["/events", "/few", "/countdown", "/job"])
    @pytest.mark.parametrize("cookie", ["", "x"])
    def test_refused(self, program: Program, path: str, cookie: str) -> None:
        """
        A request without a session gets 204 without a body, with a hub and without one.
        """
        client = program.request(path, cookie)
        assert (client.status, client.body, client.ended) == (204, b"", True)


class TokenTests:
    def test_granted(self, program: Program) -> None:
        """
        A token permits a stream until the token expires.
        """
        client = program.request("/api", Authorization="bearer good")
        program.publish("users/ann", "for Ann", private=True)
        assert texts(client) == ["for Ann"]
        (subscriber,) = program.hub.subscribers.with_key(("token", "t1"))
        program.wire.reactor.advance(61)
        client.pump()
        assert client.ended
        assert subscriber.channel.close_reason is CloseReason.EXPIRED

    @pytest.mark.parametrize(
        ("authorization", "status", "challenge"),
        [
            ("", 401, "Bearer"),
            ("Basic good", 401, "Bearer"),
            ("Bearer bad", 401, 'Bearer error="invalid_token"'),
            ("Bearer other", 403, None),
            ("Bearer old", 403, None),
        ],
    )
    def test_refused(self, program: Program, authorization: str, status: int, challenge: str | None) -> None:
        """
        A request without a valid token, with one that does not permit streams, or with an expired one is
        refused with its status.
        """
        client = program.request("/api", Authorization=authorization)
        assert client.status == status
        assert client.headers.get("www-authenticate") == challenge


class KeyTests:
    def test_at_most_five(self, program: Program) -> None:
        """
        The sixth stream of a session is refused with 429; another session has a limit of its own.
        """
        statuses = [program.request("/few", "a1").status for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        assert program.request("/few", "b2").status == 200

    def test_context(self, program: Program) -> None:
        """
        The program finds the users of a topic by the contexts of its subscribers.
        """
        for cookie in ("a1", "a1", "b2"):
            program.request("/events", cookie)
        assert program.users_of("news") == {"ann", "bob"}
        assert program.users_of("users/bob") == {"bob"}


class LoneChannelTests:
    def test_context(self, program: Program) -> None:
        """
        The handler of a channel without a hub has the context of the rule.
        """
        client = program.request("/countdown", "a1")
        assert texts(client) == ["ann: 3", "ann: 2", "ann: 1"]
        assert client.ended

    def test_disconnected(self, program: Program) -> None:
        """
        A log-out ends the stream of a handler that has subscribed its channel.
        """
        client = program.request("/job", "a1")
        program.publish("users/ann", "done")
        assert texts(client) == ["the job has begun", "done"]
        assert result_of(program.hub.disconnect(key=("session", 0))) == 1
        client.pump()
        assert client.ended


class ChangeTests:
    def test_enter(self, program: Program) -> None:
        """
        A client that enters a room receives the private updates of the room and its own, and no news.
        """
        ann, bob = program.request("/events", "a1"), program.request("/events", "b2")
        program.publish("rooms/5", "before", private=True)
        program.enter(program.ann, 5)
        program.publish("rooms/5", "after", private=True)
        program.publish("users/ann", "for Ann", private=True)
        program.publish("news", "for all")
        assert texts(ann) == ["after", "for Ann"]
        assert texts(bob) == ["for all"]

    def test_remove_from_room(self, program: Program) -> None:
        """
        A client that is removed from a room receives no more updates of it; the other topics stay.
        """
        client = program.request("/events", "a1")
        program.enter(program.ann, 5)
        assert result_of(program.remove_from_room(program.ann, 5)) == 1
        program.publish("rooms/5", "after", private=True)
        program.publish("users/ann", "for Ann", private=True)
        assert texts(client) == ["for Ann"]
        assert not client.ended
        assert result_of(program.remove_from_room(program.ann, 5)) == 0


class LogOutTests:
    def test_log_out(self, program: Program) -> None:
        """
        A log-out deletes the cookie and ends all streams of the session; the client that asks again gets 204.
        """
        streams = [program.request("/events", "a1") for _ in range(2)]
        bob = program.request("/events", "b2")
        reply = program.request("/log-out", "a1", "POST", Sec_Fetch_Site="same-origin")
        assert (reply.status, reply.headers["location"]) == (302, "/log-in")
        assert {"session=", "Max-Age=0", "Path=/", "HttpOnly", "SameSite=strict"} == set(
            reply.headers["set-cookie"].split("; ")
        )
        for stream in streams:
            stream.pump()
            assert stream.ended
        assert program.request("/events", "a1").status == 204
        bob.pump()
        assert not bob.ended
        assert program.hub.metrics().closes[CloseReason.DISCONNECTED] == 2

    def test_rule_under_way(self, program: Program) -> None:
        """
        A request whose rule decides while its session logs out gets a stream that ends at once.
        """
        decision: Deferred[Any] = Deferred()
        program.root.putChild(b"late", program.hub.resource(lambda request: decision))
        access = program.by_cookie(_Cookie())
        late = program.request("/late", "a1")
        program.request("/log-out", "a1", "POST")
        decision.callback(access)
        late.pump()
        assert (late.status, late.ended) == (200, True)
        assert b"retry: " in late.body

    def test_last_event(self, program: Program) -> None:
        """
        A client receives an event that was recorded and sent before its key is disconnected.
        """
        client = program.request("/events", "a1")
        result_of(program.hub.publish("users/ann", "goodbye", private=True))
        program.turn()
        program.hub.disconnect(key=("session", 0))
        client.pump()
        assert (texts(client), client.ended) == (["goodbye"], True)

    @pytest.mark.parametrize("cookie", ["", "x"])
    def test_no_session(self, program: Program, cookie: str) -> None:
        """
        A log-out without a session ends no stream.
        """
        stream = program.request("/events", "a1")
        assert program.request("/log-out", cookie, "POST").status == 302
        stream.pump()
        assert not stream.ended

    # Twisted's own page for 405.
    @pytest.mark.filterwarnings("ignore:twisted.web.resource._UnsafeErrorPage")
    @pytest.mark.parametrize(
        ("method", "site", "status"),
        [("POST", "cross-site", 403), ("POST", "same-site", 403), ("GET", "none", 405)],
    )
    def test_other_site(self, program: Program, method: str, site: str, status: int) -> None:
        """
        Neither another site's form nor a link logs out.
        """
        stream = program.request("/events", "a1")
        assert program.request("/log-out", "a1", method, Sec_Fetch_Site=site).status == status
        stream.pump()
        assert not stream.ended
        assert program.request("/events", "a1").status == 200


class CutOffTests:
    @pytest.mark.parametrize(
        ("outcomes", "waits", "result"),
        [
            ([2], [], 2),
            ([NotAcknowledged(["n2"]), JournalFailed("redis", "gone"), 3], [1, 5], 3),
            ([NotAcknowledged(["n2"])] * 4, [1, 5, 25, 125], None),
            ([NotAcknowledged(["n2"]), HubStopped()], [1], None),
        ],
    )
    def test_attempts(
        self,
        program: Program,
        monkeypatch: pytest.MonkeyPatch,
        outcomes: list[Any],
        waits: list[int],
        result: Any,
    ) -> None:
        """
        If a node cannot be reached, the program disconnects the key again, at most three times, and waits
        longer each time.
        """
        keys: list[Any] = []
        left = list(outcomes)

        def disconnect(*, key: Any) -> Deferred[int]:
            keys.append(key)
            outcome = left.pop(0)
            return fail(outcome) if isinstance(outcome, Exception) else succeed(outcome)

        monkeypatch.setattr(program.hub, "disconnect", disconnect)
        outcome = outcome_of(Deferred.fromCoroutine(program.cut_off(("session", 0))))
        for number, wait in enumerate(waits, start=1):
            program.wire.reactor.advance(wait - 0.1)
            assert (outcome, len(keys)) == ([], number)
            program.wire.reactor.advance(0.2)
        assert outcome == [result]
        assert keys == [("session", 0)] * len(outcomes)


class _Cookie:
    """
    A request with Ann's cookie.
    """

    def getCookie(self, name: bytes) -> bytes:  # noqa: N802
        return b"a1"

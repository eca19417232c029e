"""
Tests of the key sets that are fetched from an authorisation server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss, Request
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from tests.hub.fakes import outcome_of, result_of
from tests.integration.clients import listen
from tests.mercure.signers import ec_key, ed_key, jwk, jwks, rsa_key
from tests.mercure.world import PATH, SECRET, URL, MercureWorld, detail, sign
from txsse.mercure.auth.jwks import RemoteKeys
from txsse.mercure.auth.keys import Key
from txsse.mercure.auth.verify import Issuer, Verifier
from txsse.mercure.errors import InvalidToken, Unavailable
from txsse.testing import MemoryAgent, WallClock

SET = jwks(jwk(ec_key(), kid="a")).encode()
BOTH = jwks(jwk(ec_key(), kid="a"), jwk(ed_key(), kid="b")).encode()
OTHER = jwks(jwk(ed_key(), kid="b")).encode()
AT = "https://as.example/jwks"


@implementer(IResponse)
class Answer:  # type: ignore[misc]
    """
    A response whose body the test sends.

    :ivar cut: how often its connection was aborted.
    """

    def __init__(self, code: int = 200, **headers: str) -> None:
        self.code = code
        self.headers = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        self.protocol: Any = None
        self.cut = 0

    def deliverBody(self, protocol: Any) -> None:  # noqa: N802
        self.protocol = protocol
        protocol.makeConnection(self)

    def abortConnection(self) -> None:
        self.cut += 1
        self.end(ConnectionLost())

    def end(self, reason: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(reason or ResponseDone()))


@implementer(IAgent)
class ScriptedAgent:
    """
    Records requests, to which the test responds.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes, Headers]] = []
        self.waiting: list[Deferred[Any]] = []
        self.cancelled = 0
        self.error: BaseException | None = None

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:  # noqa: N803
        self.requests.append((method, uri, headers))
        if self.error is not None:
            return fail(Failure(self.error))
        self.waiting.append(Deferred(self._cancel))
        return self.waiting[-1]

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    @property
    def count(self) -> int:
        return len(self.requests)

    def answer(self, body: bytes = SET, answer: Answer | None = None) -> Answer:
        """
        Respond to the oldest request.
        """
        answer = answer or Answer()
        self.waiting.pop(0).callback(answer)
        for place in range(0, len(body), 100):
            answer.protocol.dataReceived(body[place : place + 100])
        answer.end()
        return answer


class World:
    """
    Remote keys with a scripted agent and a fake clock.
    """

    def __init__(self, url: str = AT) -> None:
        self.clock = WallClock()
        # The clock of a real machine is not near 0.
        self.clock.advance(1_000_000)
        self.agent = ScriptedAgent()
        self.keys = RemoteKeys(url, reactor=self.clock, agent=self.agent)

    def find(self, id: str | None = None) -> list[Any]:
        """
        Return a list that receives the keys, or the error, once the call is done.
        """
        return outcome_of(Deferred.fromCoroutine(self.keys.find(id)))

    def found(self, id: str | None = None) -> list[str | None]:
        """
        Return the IDs of keys that are available at once.
        """
        (keys,) = self.find(id)
        return names(keys)

    def filled(self, body: bytes = SET, **headers: str) -> World:
        """
        Let the keys be fetched, and return this world.
        """
        found = self.find()
        self.agent.answer(body, Answer(200, **headers))
        assert found
        return self


def names(keys: Sequence[Key]) -> list[str | None]:
    return [key.id for key in keys]


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    assert world.clock.getDelayedCalls() == []


def problems(logged: list[LogEvent]) -> list[str]:
    return [event["problem"] for event in logged if "problem" in event]


class UrlTests:
    @pytest.mark.parametrize(
        "url",
        [
            AT,
            "https://as.example",
            "http://localhost/jwks",
            "http://localhost:8080/",
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
            "http://localhost",
        ],
    )
    def test_good(self, url: str) -> None:
        """
        A key set may have an https URL, or an http URL on this machine.
        """
        assert repr(RemoteKeys(url, reactor=Clock(), agent=ScriptedAgent())) == f"<RemoteKeys {url}>"

    def test_token_in_url(self) -> None:
        """
        A token in the query of a key set's URL is sent, and hidden in logs and errors.
        """
        world = World(f"{AT}?token=hunter2")
        assert repr(world.keys) == f"<RemoteKeys {AT}?token=***>"
        with pytest.raises(ValueError, match=r"not from http://as.example/\?token=\*\*\*$"):
            World("http://as.example/?token=hunter2")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "https://",
            "https:///jwks",
            "as.example/jwks",
            "ftp://as.example/",
            "file:///etc/passwd",
            "http://as.example/",
            "http://localhost.as.example/",
            "http://127.0.0.1.as.example/",
            "http://localhost:x@as.example/",
            "http://localhost:1@as.example/",
            "http://localhost@as.example/",
            "http://as.example/http://localhost/",
        ],
    )
    def test_bad(self, url: str) -> None:
        """
        A key set with a plain http URL of another machine is refused: an attacker on the network could
        replace the keys.
        """
        with pytest.raises(ValueError, match="keys are fetched over https only, not from"):
            RemoteKeys(url, reactor=Clock(), agent=ScriptedAgent())

    def test_own_agent(self) -> None:
        """
        Without an agent, the key set creates one, and fetches nothing before it is needed.
        """
        assert RemoteKeys(AT, reactor=Clock()).version == 0


class FetchTests:
    def test_first(self, world: World, logged: list[LogEvent]) -> None:
        """
        The key set is fetched when keys are first needed, and the caller waits for it.
        """
        assert world.agent.count == 0
        found = world.find("a")
        assert found == []
        ((method, uri, headers),) = world.agent.requests
        assert (method, uri) == (b"GET", AT.encode())
        assert headers.getRawHeaders("Accept") == ["application/jwk-set+json, application/json"]
        world.agent.answer()
        assert names(found[0]) == ["a"]
        assert world.keys.version == 1
        assert [event["count"] for event in logged if "count" in event] == [1]

    def test_together(self, world: World) -> None:
        """
        Callers that need keys during a fetch wait for the same response, and each receives the keys.
        """
        found = [world.find(id) for id in ("a", None, "a", "x")]
        world.clock.advance(9)
        found.append(world.find("a"))
        assert found == [[]] * 5
        world.agent.answer()
        assert [names(keys) for (keys,) in found] == [["a"]] * 5
        assert world.agent.count == 1

    def test_one_caller_cancels(self, world: World) -> None:
        """
        If one waiting caller cancels, the others still receive the keys.
        """
        one = Deferred.fromCoroutine(world.keys.find("a"))
        other = world.find("a")
        cancelled = outcome_of(one)
        one.cancel()
        assert len(cancelled) == 1
        world.agent.answer()
        assert names(other[0]) == ["a"]

    def test_kept(self, world: World) -> None:
        """
        A key set is fresh for five minutes if the server sends no max-age.
        """
        world.filled()
        world.clock.advance(299)
        assert world.found("a") == ["a"]
        assert world.agent.count == 1
        world.clock.advance(1)
        assert world.found("a") == ["a"]
        assert world.agent.count == 2
        world.agent.answer()

    @pytest.mark.parametrize("step", [-3600, 3600])
    def test_kept_when_the_clock_is_set(self, world: World, step: float) -> None:
        """
        A key set is fresh for five minutes, even if the wall clock is set.
        """
        world.filled()
        world.clock.step(step)
        world.clock.advance(299)
        assert world.found("a") == ["a"]
        assert world.agent.count == 1
        world.clock.advance(1)
        assert world.found("a") == ["a"]
        assert world.agent.count == 2
        world.agent.answer()

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("max-age=60", 60),
            ("public, Max-Age=120, must-revalidate", 120),
            ('max-age="90"', 90),
            ("max-age=0", 30),
            ("max-age=29", 30),
            ("max-age=86400", 3600),
            ("max-age=" + "9" * 400, 3600),
            ("max-age=-1", 300),
            ("max-age=soon", 300),
            ("max-age", 300),
            ("no-store", 300),
            ("s-maxage=60", 300),
            ("x-max-age=60", 300),
            ("", 300),
        ],
    )
    def test_how_long(self, world: World, header: str, seconds: float) -> None:
        """
        The server's max-age determines how long a key set is fresh, between half a minute and an hour.
        """
        world.filled(Cache_Control=header)
        world.clock.advance(seconds - 0.1)
        assert world.found() == ["a"]
        assert world.agent.count == 1
        world.clock.advance(0.2)
        assert world.found() == ["a"]
        assert world.agent.count == 2
        world.agent.answer()

    def test_stale_keys_stay_in_use(self, world: World) -> None:
        """
        While an expired key set is being fetched again, callers use it without waiting; the new set increases
        the version.
        """
        world.filled()
        world.clock.advance(300)
        assert world.found("a") == ["a"]
        assert world.found("a") == ["a"]
        assert world.agent.count == 2
        world.agent.answer(OTHER)
        assert world.keys.version == 2
        assert world.found() == ["b"]

    def test_expired_long_ago(self, world: World) -> None:
        """
        A caller waits for a new key set if the old one expired a minute ago: an old key may be compromised.
        """
        world.filled()
        world.clock.advance(359.9)
        assert world.found("a") == ["a"]
        assert world.agent.count == 2
        world.clock.advance(0.1)
        first, second = world.find("a"), world.find()
        assert (first, second) == ([], [])
        assert world.agent.count == 2
        world.agent.answer(OTHER)
        assert names(first[0]) == names(second[0]) == ["b"]
        assert world.found() == ["b"]

    def test_expired_long_ago_and_fetch_fails(self, world: World, logged: list[LogEvent]) -> None:
        """
        If the fetch of a new key set fails, the old set stays in use, and callers do not wait for another
        minute.
        """
        world.filled()
        world.clock.advance(100_000)
        found = world.find("a")
        assert found == []
        world.agent.answer(b"")
        assert names(found[0]) == ["a"]
        world.clock.advance(59.9)
        assert world.found("a") == ["a"]
        assert world.agent.count == 3
        world.clock.advance(0.1)
        found = world.find("a")
        assert found == []
        world.agent.answer()
        assert names(found[0]) == ["a"]

    def test_secrets(self, world: World, logged: list[LogEvent]) -> None:
        """
        Secrets in a published key set are skipped: every reader of the set has them.
        """
        world.filled(jwks(jwk(SECRET, kid="s"), jwk(ec_key(), kid="a")).encode())
        assert world.found() == ["a"]
        world = World()
        found = world.find()
        world.agent.answer(jwks(jwk(SECRET, kid="s")).encode())
        assert found == [[]] or found == [()]
        assert problems(logged) == ["the JSON Web Key Set holds no key that can be used"]

    def test_same_again(self, world: World, logged: list[LogEvent]) -> None:
        """
        A fetch that returns equal keys does not change the version, so verified tokens stay cached.
        """
        world.filled(BOTH)
        world.clock.advance(300)
        world.found()
        world.agent.answer(json.dumps(json.loads(BOTH), indent=2).encode())
        assert world.keys.version == 1
        assert len([event for event in logged if "count" in event]) == 1
        world.clock.advance(299)
        world.found()
        assert world.agent.count == 2


class RotationTests:
    def test_new_name(self, world: World) -> None:
        """
        A token with an unknown key ID causes a fetch and waits for it; tokens with known keys do not wait.
        """
        world.filled()
        world.clock.advance(10)
        found = world.find("b")
        assert found == []
        # Tokens with known keys do not wait.
        assert world.found("a") == ["a"]
        assert world.found() == ["a"]
        world.agent.answer(BOTH)
        assert names(found[0]) == ["a", "b"]
        assert (world.agent.count, world.keys.version) == (2, 2)

    def test_unknown_names_rate_limited(self, world: World) -> None:
        """
        Tokens with unknown key IDs cause at most one fetch in ten seconds.
        """
        world.filled()
        for name in ("x", "y", "z"):
            world.clock.advance(9.99 / 3)
            assert world.found(name) == ["a"]
        assert world.agent.count == 1
        world.clock.advance(0.02)
        found = world.find("x")
        world.agent.answer()
        assert names(found[0]) == ["a"]
        assert world.found("x") == ["a"]
        assert world.agent.count == 2

    def test_keys_without_names(self, world: World) -> None:
        """
        A key ID that no key has causes a fetch, even if the set has keys without an ID.
        """
        world.filled(jwks(jwk(ec_key())).encode())
        assert world.found("a") == [None]
        world.clock.advance(10)
        assert world.find("a") == []
        world.agent.answer()


class TroubleTests:
    def trouble(self, world: World, found: list[Any], logged: list[LogEvent]) -> str:
        """
        Return the logged problem of a fetch that failed.
        """
        assert found == [()]
        (event,) = [event for event in logged if "problem" in event]
        assert event["log_level"].name == "error"
        assert event["log_format"].startswith("{keys} cannot be fetched")
        assert event["keys"] is world.keys
        assert world.keys.version == 0
        problem: str = event["problem"]
        return problem

    @pytest.mark.parametrize("code", [404, 500, 302, 204, 201])
    def test_status(self, world: World, logged: list[LogEvent], code: int) -> None:
        """
        A response with another status than 200 is an error, whatever its body, and redirects are not
        followed.
        """
        found = world.find()
        world.agent.answer(SET, Answer(code, Location="https://elsewhere.example/"))
        assert self.trouble(world, found, logged) == f"the server answers {code}"
        assert world.agent.count == 1

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"", "not a JSON Web Key Set, which is an object with a list named keys"),
            (b"<html>", "not a JSON Web Key Set, which is an object with a list named keys"),
            (b"\xff", "not a JSON Web Key Set, which is an object with a list named keys"),
            (b"[" * 100_000, "not a JSON Web Key Set, which is an object with a list named keys"),
            (b'{"keys": []}', "the JSON Web Key Set holds no key that can be used"),
            (jwks(jwk(rsa_key(), use="enc")).encode(), "the JSON Web Key Set holds no key that can be used"),
            (SET[:-1], "not a JSON Web Key Set, which is an object with a list named keys"),
        ],
        ids=["empty", "html", "bytes", "deep", "none", "unusable", "cut"],
    )
    def test_no_keys(self, world: World, logged: list[LogEvent], body: bytes, problem: str) -> None:
        """
        A response that is not a key set, or has no usable key, is an error.
        """
        found = world.find()
        world.agent.answer(body)
        assert self.trouble(world, found, logged) == problem

    def test_too_large(self, world: World, logged: list[LogEvent]) -> None:
        """
        The connection is aborted once a key set exceeds 256 KiB.
        """
        answer = Answer()
        found = world.find()
        world.agent.waiting.pop().callback(answer)
        answer.protocol.dataReceived(b" " * 256 * 1024)
        assert (found, answer.cut) == ([], 0)
        answer.protocol.dataReceived(b" ")
        assert answer.cut == 1
        # Data that arrives before the connection is closed is discarded.
        answer.protocol.dataReceived(b" " * 1000)
        assert (answer.cut, len(answer.protocol.received)) == (1, 256 * 1024)
        assert self.trouble(world, found, logged) == "the server answers with more than 262144 bytes"

    def test_largest(self, world: World) -> None:
        """
        A key set of exactly 256 KiB is read.
        """
        world.filled(SET + b" " * (256 * 1024 - len(SET)))
        assert world.found() == ["a"]

    def test_without_length(self, world: World) -> None:
        """
        A key set without a Content-Length ends with its connection.
        """
        answer, found = Answer(), world.find()
        world.agent.waiting.pop().callback(answer)
        answer.protocol.dataReceived(SET)
        answer.end(PotentialDataLoss())
        assert names(found[0]) == ["a"]

    def test_cut_off(self, world: World, logged: list[LogEvent]) -> None:
        """
        A connection that is lost within the key set is an error.
        """
        answer, found = Answer(), world.find()
        world.agent.waiting.pop().callback(answer)
        answer.protocol.dataReceived(SET)
        answer.end(ConnectionLost("unplugged"))
        assert "unplugged" in self.trouble(world, found, logged)

    def test_cut_off_for_another_reason(self, world: World, logged: list[LogEvent]) -> None:
        """
        A connection that is lost for a reason that is not an Exception is an error, too.
        """
        answer, found = Answer(), world.find()
        world.agent.waiting.pop().callback(answer)
        answer.protocol.connectionLost(Failure(KeyboardInterrupt()))
        assert self.trouble(world, found, logged) == "Connection was closed cleanly."

    def test_refused(self, world: World, logged: list[LogEvent]) -> None:
        """
        If the server refuses the connection, the operating system's reason is logged.
        """
        world.agent.error = ConnectionRefusedError()
        assert "refused" in self.trouble(world, world.find(), logged)

    def test_reasons(self, world: World, logged: list[LogEvent]) -> None:
        """
        A cause that Twisted's client has wrapped is logged, by its class name if it has no text.
        """
        error = Exception()
        error.reasons = [Failure(ZeroDivisionError())]  # type: ignore[attr-defined]
        world.agent.error = error
        assert self.trouble(world, world.find(), logged) == "ZeroDivisionError"

    def test_slow_to_answer(self, world: World, logged: list[LogEvent]) -> None:
        """
        A fetch without a response times out after ten seconds.
        """
        found = world.find()
        world.clock.advance(9.99)
        assert found == []
        world.clock.advance(0.01)
        assert world.agent.cancelled == 1
        assert "10" in self.trouble(world, found, logged)

    @pytest.mark.parametrize("cut", ["abortConnection", "loseConnection"])
    def test_slow_to_end(self, world: World, logged: list[LogEvent], cut: str) -> None:
        """
        The timeout of ten seconds covers the whole response; its connection is then closed by the method that
        the transport has.
        """

        class Transport:
            def __init__(self, cut: str) -> None:
                self.cut = 0
                setattr(self, cut, self.note)

            def note(self) -> None:
                self.cut += 1

        answer, found, transport = Answer(), world.find(), Transport(cut)
        world.agent.waiting.pop().callback(answer)
        answer.protocol.transport = transport
        for _ in range(9):
            world.clock.advance(1)
            answer.protocol.dataReceived(b" ")
        assert (found, transport.cut) == ([], 0)
        world.clock.advance(1)
        assert transport.cut == 1
        answer.end()
        assert "10" in self.trouble(world, found, logged)

    def test_again(self, world: World) -> None:
        """
        After a failed fetch, the next call fetches again, but not within ten seconds.
        """
        found = world.find()
        world.agent.answer(b"")
        assert found == [()]
        world.clock.advance(9.9)
        assert world.find("a") == [()]
        assert world.agent.count == 1
        world.clock.advance(0.2)
        found = world.find("a")
        world.agent.answer()
        assert names(found[0]) == ["a"]

    def test_old_keys_while_fetches_fail(self, world: World, logged: list[LogEvent]) -> None:
        """
        While fetches fail, the last keys stay in use, and a fetch is attempted every ten seconds.
        """
        world.filled()
        world.clock.advance(300)
        for round in range(10):
            assert world.found("a") == ["a"]
            world.agent.answer(b"")
            assert world.found("a") == ["a"]
            assert world.agent.count == round + 2
            world.clock.advance(10)
        assert len(problems(logged)) == 10
        assert world.keys.version == 1
        assert world.found("a") == ["a"]
        world.agent.answer(BOTH)
        assert world.found("b") == ["a", "b"]

    def test_something_unexpected(self, world: World, failures: list[LogEvent]) -> None:
        """
        An unexpected error of the agent is logged with its traceback, callers do not wait, and a later call
        fetches again.
        """
        world.agent.error = GeneratorExit()
        assert world.find() == [()]
        assert [event["log_failure"].type for event in failures] == [GeneratorExit]
        world.agent.error = None
        world.clock.advance(10)
        world.filled()


class VerifierTests:
    """
    A verifier whose issuer has remote keys.
    """

    def claims(self, **more: Any) -> dict[str, Any]:
        return {
            "iss": "https://as.example",
            "aud": URL,
            "exp": 2_000_000,
            "authorization_details": [detail(["publish"], "news")],
            **more,
        }

    def verifier(self, world: World) -> Verifier:
        issuer = Issuer(world.keys, world.keys, "https://as.example")
        return Verifier([issuer], base=URL, audience=[URL], seconds=world.clock.seconds)

    def verify(self, by: Verifier, token: str) -> list[Any]:
        return outcome_of(Deferred.fromCoroutine(by.verify(token, "publish")))

    def test_withdrawn(self, world: World) -> None:
        """
        A cached token is refused once the server has withdrawn its key, even if no other token is presented.
        """
        by = self.verifier(world)
        token = sign(self.claims(), key=ec_key(), algorithm="ES256", headers={"kid": "a"})
        first = self.verify(by, token)
        world.agent.answer()
        assert first[0].publish.has(["news"])
        world.clock.advance(299)
        assert self.verify(by, token) == first
        assert world.agent.count == 1
        world.clock.advance(1)
        # This call starts a fetch and does not wait for it.
        assert self.verify(by, token) == first
        assert world.agent.count == 2
        world.agent.answer(OTHER)
        world.clock.advance(10)
        again = self.verify(by, token)
        world.agent.answer(OTHER)
        assert isinstance(again[0], InvalidToken)

    def test_withdrawn_long_ago(self, world: World) -> None:
        """
        After a long idle time, a token with a withdrawn key is refused, whether or not it is cached.
        """
        by = self.verifier(world)
        token = sign(self.claims(), key=ec_key(), algorithm="ES256", headers={"kid": "a"})
        first = self.verify(by, token)
        world.agent.answer()
        assert first[0].publish.has(["news"])
        world.clock.advance(3 * 24 * 3600)
        again = self.verify(by, token)
        forged = self.verify(by, sign(self.claims(jti="2"), key=ec_key(), algorithm="ES256"))
        assert again == forged == []
        world.agent.answer(OTHER)
        # The first token was cached, so its unknown key causes another fetch.
        world.clock.advance(10)
        assert [type(each) for each in (*again, *forged)] == [InvalidToken, InvalidToken]

    def test_never_fetched(self, world: World) -> None:
        """
        While keys were never fetched, tokens are neither accepted nor refused: verification raises
        Unavailable.
        """
        by = self.verifier(world)
        token = sign(self.claims(), key=ec_key(), algorithm="ES256", headers={"kid": "a"})
        first = self.verify(by, token)
        world.agent.answer(b"", Answer(500))
        assert isinstance(first[0], Unavailable)
        # Another fetch is not due yet.
        (second,) = self.verify(by, token)
        assert isinstance(second, Unavailable)
        world.clock.advance(10)
        third = self.verify(by, token)
        world.agent.answer()
        assert third[0].publish.has(["news"])
        world.clock.advance(300)
        world.agent.error = ConnectionRefusedError()
        (other,) = self.verify(by, sign(self.claims(), key=ed_key(), algorithm="EdDSA", headers={"kid": "b"}))
        assert isinstance(other, InvalidToken)

    def test_answers(self, world: World, new: Callable[..., MercureWorld]) -> None:
        """
        While keys were never fetched, the hub responds with 503 and Retry-After.
        """
        world.agent.error = ConnectionRefusedError()
        hub = new(issuers=[Issuer(world.keys, world.keys, "https://as.example")], subscriptions=True)
        token = sign(self.claims(), key=ec_key(), algorithm="ES256", headers={"kid": "a"})
        for client in (
            hub.publish("news", token=token),
            hub.ask(query=[("match", "news")], token=token),
            hub.ask(path=f"{PATH}/subscriptions", token=token),
        ):
            assert (client.status, client.headers["retry-after"]) == (503, "5")
            assert b"the keys of the token's issuer are currently unavailable" in client.body
            assert "www-authenticate" not in client.headers

    def test_rotated(self, world: World) -> None:
        """
        After a key rotation, tokens of the new key and of the old one are accepted.
        """
        world.filled()
        world.clock.advance(10)
        by = self.verifier(world)
        new = self.verify(by, sign(self.claims(), key=ed_key(), algorithm="EdDSA", headers={"kid": "b"}))
        assert new == []
        world.agent.answer(BOTH)
        assert new[0].publish.has(["news"])
        old = self.verify(by, sign(self.claims(), key=ec_key(), algorithm="ES256", headers={"kid": "a"}))
        assert old[0].publish.has(["news"])

    def test_no_fetch_for_refused_tokens(self, world: World) -> None:
        """
        A token that is refused for its form, issuer or algorithm causes no fetch.
        """
        by = self.verifier(world)
        for token in (
            "a.b.c",
            sign(self.claims(iss="x")),
            sign(self.claims(), headers={"alg": "none"}, key=""),
        ):
            (error,) = self.verify(by, token)
            assert isinstance(error, InvalidToken)
        assert world.agent.count == 0


class Keys(Resource):
    """
    A server of a key set.
    """

    isLeaf = True

    def __init__(self, body: bytes = SET, *, code: int = 200) -> None:
        super().__init__()
        self.body = body
        self.code = code
        self.asked = 0

    def render_GET(self, request: Request) -> bytes:
        self.asked += 1
        request.setResponseCode(self.code)
        request.setHeader("Cache-Control", "max-age=60")
        return self.body


class Endless(Resource):
    """
    A server whose response never ends.
    """

    isLeaf = True

    def __init__(self, piece: bytes) -> None:
        super().__init__()
        self.piece = piece
        self.ended: Deferred[None] = Deferred()

    def render_GET(self, request: Any) -> int:
        request.notifyFinish().addErrback(lambda _: self.ended.callback(None))
        request.write(self.piece)
        return NOT_DONE_YET


class TwistedTests:
    """
    Remote keys with Twisted's HTTP client and server.
    """

    def test_in_memory(self) -> None:
        """
        A key set is fetched over HTTP.
        """
        clock, server = Clock(), Keys()
        keys = RemoteKeys(AT, reactor=clock, agent=MemoryAgent(server, clock))
        finding = Deferred.fromCoroutine(keys.find("a"))
        clock.pump([0] * 20)
        assert names(result_of(finding)) == ["a"]

    def test_endless_in_memory(self, logged: list[LogEvent]) -> None:
        """
        A fetch from a server whose response never ends times out, and its connection is closed.
        """
        clock, server = Clock(), Endless(b"x")
        agent = MemoryAgent(server, clock)
        keys = RemoteKeys(AT, reactor=clock, agent=agent)
        finding = outcome_of(Deferred.fromCoroutine(keys.find("a")))
        clock.pump([0] * 20)
        assert (finding, agent.connections) == ([], 1)
        clock.advance(10)
        clock.pump([0] * 20)
        assert finding == [()]
        assert agent.connections == 0
        assert server.ended.called
        assert len(problems(logged)) == 1

    @pytest_twisted.ensureDeferred
    async def test_real_server(self, logged: list[LogEvent]) -> None:
        """
        Over real sockets, a key set is fetched once, and a response that is too large is aborted.
        """
        clock: IReactorTime = reactor
        server = Keys()
        port = await listen(server)
        keys = RemoteKeys(f"http://127.0.0.1:{port.getHost().port}/jwks", reactor=clock)
        assert [names(await keys.find(id)) for id in ("a", None, "x")] == [["a"]] * 3
        assert server.asked == 1
        await port.stopListening()

        endless = Endless(b"x" * 300_000)
        port = await listen(endless)
        keys = RemoteKeys(f"http://127.0.0.1:{port.getHost().port}/jwks", reactor=clock)
        assert await keys.find("a") == ()
        await endless.ended
        assert problems(logged) == ["the server answers with more than 262144 bytes"]
        await port.stopListening()

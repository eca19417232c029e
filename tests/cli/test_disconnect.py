"""
``txsse disconnect``: with a fake agent, against a hub on the real reactor, and as a process.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from tests.client.fakes import FakeAgent, FakeRequest, outcome_of
from tests.integration.clients import listen
from tests.mercure.world import SECRET
from tests.processes import finish, python, start
from tests.waiting import until
from txsse import CloseReason, Hub
from txsse._extras import MissingExtra
from txsse.cli import form as module
from txsse.cli import main
from txsse.cli.disconnect import DISCONNECT, disconnect
from txsse.mercure import Settings, shared_secret, well_known
from txsse.mercure.auth.grants import OWN_DETAIL_TYPE
from txsse.testing import WallClock

URL = "https://hub.example/.well-known/mercure"
JSON = {"Content-Type": "application/json"}
DONE = json.dumps({"disconnected": 2, "refused_until": "2027-01-01T00:00:00Z"})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Remove the tokens and keys of the user who runs the tests.
    """
    for name in ("TXSSE_TOKEN", "TXSSE_KEY"):
        monkeypatch.delenv(name, raising=False)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    DISCONNECT.add_arguments(parser)
    return parser.parse_args(arguments)


class Disconnecting:
    """
    A run of the command with a fake agent.

    :ivar status: a list that receives the exit status.
    """

    def __init__(self, *arguments: str, has_stdout: bool = True) -> None:
        self.clock = WallClock()
        self.agent = FakeAgent()
        self.out, self.err = io.StringIO(), io.StringIO()
        given = self.out if has_stdout else None
        self.running = Deferred.fromCoroutine(
            disconnect(self.clock, parsed(*arguments), given, self.err, agent=self.agent)
        )
        self.status = outcome_of(self.running)

    @property
    def request(self) -> FakeRequest:
        return self.agent.requests[-1]

    def reply(self, body: str = DONE, code: int = 200, headers: dict[str, str] = JSON) -> None:
        response = self.request.reply(code, headers)
        response.bring(body)
        response.end()

    @property
    def problem(self) -> str:
        """
        The one line on stderr of a run that has ended.
        """
        assert len(self.status) == 1
        assert self.clock.getDelayedCalls() == []
        (line,) = self.err.getvalue().splitlines()
        assert line.startswith("txsse disconnect: ") and line.isprintable()
        return line.removeprefix("txsse disconnect: ")


class RequestTests:
    @pytest.mark.parametrize(
        ("arguments", "form"),
        [
            (["--sub", "änn&"], [("sub", "änn&")]),
            (["--jti", "t1", "--expires-in", "90"], [("jti", "t1"), ("expires_in", "90")]),
            (["--key", "s1"], [("key", "s1")]),
        ],
    )
    def test_form(self, arguments: list[str], form: list[tuple[str, str]]) -> None:
        """
        The form has the options, and is sent to the path below the hub's; the command prints the result.
        """
        run = Disconnecting(URL, *arguments)
        assert (run.request.method, run.request.uri) == ("POST", f"{URL}/disconnect")
        assert parse_qsl(run.request.body.decode()) == form
        assert "authorization" not in run.request.headers
        assert run.status == []
        run.reply()
        said = "2 streams were closed; the tokens are refused until 2027-01-01T00:00:00Z\n"
        assert (run.status, run.out.getvalue(), run.err.getvalue()) == ([0], said, "")

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (f"{URL}/", f"{URL}/disconnect"),
            ("http://localhost:8080/hub?x=1", "http://localhost:8080/hub/disconnect?x=1"),
        ],
    )
    def test_url(self, given: str, expected: str) -> None:
        """
        A slash at the end of the hub's URL, and a query, do not change the path.
        """
        assert Disconnecting(given, "--sub", "ann").request.uri == expected

    def test_one_stream(self) -> None:
        """
        The result of a single stream is in the singular.
        """
        run = Disconnecting(URL, "--sub", "ann")
        run.reply(json.dumps({"disconnected": 1, "refused_until": "x"}))
        assert run.out.getvalue() == "1 stream was closed; the tokens are refused until x\n"

    def test_token_from_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        With a key, the command makes a token that allows only disconnecting, for a minute, at this hub.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        run = Disconnecting(URL, "--sub", "ann")
        token = run.request.headers["authorization"].decode().removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["authorization_details"] == [{"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]}]
        assert (claims["aud"], claims["exp"] - claims["iat"]) == (URL, 60)

    def test_token_file(self, tmp_path: Path) -> None:
        """
        The token in a file is sent.
        """
        file = tmp_path / "token"
        file.write_text("a.b.c\n")
        run = Disconnecting(URL, "--sub", "ann", "--token-file", str(file))
        assert run.request.headers["authorization"] == b"Bearer a.b.c"


class WrongTests:
    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["ftp://x", "--sub", "a"], "ftp"),
            (["https://hub.example/x?authorization=x", "--sub", "a"], "every user of the machine can see"),
            ([URL, "--sub", ""], "--sub is empty"),
            ([URL, "--key", "\udcff"], "--key is not UTF-8 text"),
            ([URL, "--sub", "a", "--compatibility"], "a token from before Mercure 1.0 cannot allow this"),
            ([URL, "--sub", "a", "--token-file", "/nonexistent"], "No such file"),
        ],
    )
    def test_invalid_arguments(self, arguments: list[str], problem: str) -> None:
        """
        Invalid arguments are reported before anything is sent.
        """
        run = Disconnecting(*arguments)
        assert run.status == [2]
        assert problem in run.problem
        assert run.agent.requests == []

    @pytest.mark.parametrize(
        "arguments",
        [[], [URL], [URL, "--sub", "a", "--jti", "b"], [URL, "--sub", "a", "--expires-in", "0"]],
    )
    def test_invalid_options(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """
        A missing option, two that exclude each other and an invalid number get exit status 2.
        """
        assert main(["disconnect", *arguments]) == 2
        assert capsys.readouterr().err.startswith("txsse disconnect: ")

    def test_without_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without the packages for TLS, an https URL is refused with the name of the extra.
        """

        def need_tls(purpose: str) -> None:
            raise MissingExtra(f"{purpose} needs pip install 'txsse[tls]'")

        monkeypatch.setattr(module, "need_tls", need_tls)
        err = io.StringIO()
        running = disconnect(WallClock(), parsed(URL, "--sub", "a"), io.StringIO(), err)
        assert outcome_of(Deferred.fromCoroutine(running)) == [1]
        assert "txsse[tls]" in err.getvalue()


class RefusalTests:
    @pytest.mark.parametrize(
        ("code", "headers", "body", "expected"),
        [
            (401, {}, "x\n", "the hub requires a token; give --token-file"),
            (403, {}, "no\n", "the token does not allow disconnecting; txsse token --disconnect makes one"),
            (404, {}, "", "is not a Mercure hub: it answered 404"),
            (405, {}, "", "another hub than txsse cannot disconnect clients"),
            (501, {}, "why\n", "the hub keeps no list of revoked tokens (the hub says: why)"),
            (
                503,
                {"Retry-After": "5"},
                "node 1\n",
                "completely; try again in 5 seconds (the hub says: node 1)",
            ),
            (400, {}, "sub is empty\n", "the hub answered 400 (the hub says: sub is empty)"),
            (502, {"Content-Type": "text/html"}, "<h1>proxy</h1>", "the hub answered 502"),
            (200, {"Content-Type": "text/html"}, "<h1>hi</h1>", "it answered 200 without a result"),
            (200, {}, "[]", "it answered 200 without a result"),
            (200, {}, '{"disconnected": null, "refused_until": 1}', "it answered 200 without a result"),
            (204, {}, "", "it answered 204 without a result"),
        ],
    )
    def test_refusals(self, code: int, headers: dict[str, str], body: str, expected: str) -> None:
        """
        Each refusal is one line that says what to do.
        """
        run = Disconnecting(URL, "--sub", "ann")
        run.reply(body, code, headers)
        assert run.status == [1]
        assert expected in run.problem

    def test_bad_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A refused token is reported as such.
        """
        monkeypatch.setenv("TXSSE_TOKEN", "a.b.c")
        run = Disconnecting(URL, "--sub", "ann")
        run.reply("x\n", 401, {})
        assert "the hub refuses the token" in run.problem

    def test_no_server(self) -> None:
        """
        A hub that does not run is reported.
        """
        run = Disconnecting(URL, "--sub", "ann")
        run.request.answer.errback(Failure(ConnectionRefusedError()))
        assert (run.status, run.problem) == (
            [1],
            f"no server listens at {URL}/disconnect; is the hub running?",
        )

    def test_timeout(self) -> None:
        """
        If the hub does not respond in time, the message says that the outcome is unknown.
        """
        run = Disconnecting(URL, "--sub", "ann", "--timeout", "7")
        run.clock.advance(7)
        assert run.problem.endswith(
            "has not responded in 7 s; it is unknown whether the streams were closed and the tokens revoked"
        )

    def test_interrupted(self) -> None:
        """
        A command that is cancelled ends with 130, without a message.
        """
        run = Disconnecting(URL, "--sub", "ann")
        run.running.cancel()
        assert (run.status, run.err.getvalue()) == ([130], "")

    def test_closed_stdout(self) -> None:
        """
        If the result cannot be printed, the message says that the hub has carried the request out.
        """
        run = Disconnecting(URL, "--sub", "ann", has_stdout=False)
        run.reply()
        assert run.status == [1]
        assert run.problem.startswith("the streams were closed and the tokens revoked, but ")


class RunTests:
    @pytest.mark.parametrize(("code", "status"), [(0, 130), (1, 1)])
    def test_end_without_a_status(self, monkeypatch: pytest.MonkeyPatch, code: int, status: int) -> None:
        """
        A reactor that stops before the command has ended means Ctrl-C, or an unexpected error.
        """

        def react(main: Any, argv: Any) -> None:
            raise SystemExit(code)

        monkeypatch.setattr(task, "react", react)
        assert DISCONNECT.run(SimpleNamespace()) == status  # type: ignore[arg-type]


class World:
    """
    A hub on a real socket.
    """

    def __init__(self) -> None:
        self.hub = Hub()
        self._root = Resource()

    async def start(self) -> None:
        self._port = await listen(self._root)
        self.url = f"http://127.0.0.1:{self._port.getHost().port}/.well-known/mercure"
        settings = Settings(url=self.url, issuers=[shared_secret(SECRET)])
        self._root.putChild(b".well-known", well_known(self.hub, settings))

    async def stop(self) -> None:
        await self.hub.stop()
        await self._port.stopListening()


@pytest.fixture
def world() -> Iterator[World]:
    """
    Return a hub that the test has to start, and stop it afterwards.
    """
    world = World()
    yield world
    pytest_twisted.blockon(Deferred.fromCoroutine(world.stop()))


class HubTests:
    @pytest.mark.process
    @pytest_twisted.ensureDeferred
    async def test_disconnected(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        With the token of txsse token --disconnect, the command closes a user's stream at a real hub, which
        then refuses the user's token; a token without the grant is reported.
        """
        await world.start()
        key = tmp_path / "key"
        key.write_text(SECRET)

        def make(name: str, *arguments: str) -> Path:
            given = ["token", "--audience", world.url, "--key-file", str(key), *arguments]
            assert main(given) == 0
            path = tmp_path / name
            path.write_text(capsys.readouterr().out)
            return path

        ann = make("ann", "--subject", "ann", "--publish", "news", "--subscribe", "news")
        headers = tmp_path / "headers"
        headers.write_text(f"Authorization: Bearer {ann.read_text()}")
        command = python("-m", "txsse", "tail", "--header", f"@{headers}", f"{world.url}?match=news")
        with start(command) as tail:
            await until(lambda: world.hub.subscribers.total)
            grant = make("grant", "--disconnect")
            out, err = io.StringIO(), io.StringIO()
            options = parsed(world.url, "--sub", "ann", "--token-file", str(grant))
            assert await disconnect(reactor, options, out, err) == 0
            assert out.getvalue().startswith("1 stream was closed; the tokens are refused until ")
            assert world.hub.metrics().closes == {CloseReason.DISCONNECTED: 1}
            assert await deferToThread(tail.wait) == 1
            assert "401" in tail.err
        options = parsed(world.url, "--sub", "ann", "--token-file", str(ann))
        assert await disconnect(reactor, options, out, err) == 1
        assert "the hub refuses the token" in err.getvalue()
        bob = make("bob", "--subject", "bob", "--publish", "news")
        options = parsed(world.url, "--sub", "ann", "--token-file", str(bob))
        err = io.StringIO()
        assert await disconnect(reactor, options, out, err) == 1
        assert "the token does not allow disconnecting" in err.getvalue()


@pytest.mark.process
class ProcessTests:
    def test_help(self) -> None:
        """
        The help lists the options and the exit statuses.
        """
        done = finish(python("-m", "txsse", "disconnect", "--help"))
        assert done.returncode == 0
        for text in ("--sub NAME", "--jti ID", "--key KEY", "--expires-in SECONDS", "130  Ctrl-C"):
            assert text in done.stdout

    def test_no_server(self) -> None:
        """
        A hub that does not run gets exit status 1 and one line on stderr.
        """
        command = python("-m", "txsse", "disconnect", "http://127.0.0.1:1/hub", "--sub", "ann")
        done = finish(command)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1 and "no server listens" in done.stderr

    def test_interrupted(self) -> None:
        """
        Ctrl-C ends the command with 130.
        """
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/hub"
            with start(python("-m", "txsse", "disconnect", url, "--sub", "ann")) as program:
                connection, _ = listener.accept()
                connection.recv(1)
                program.process.send_signal(signal.SIGINT)
                program.wait()
                connection.close()
                assert program.process.returncode == 130

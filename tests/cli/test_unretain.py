"""
``txsse unretain``: with a fake agent, and as a process against a hub on the real reactor.
"""

from __future__ import annotations

import argparse
import io
import signal
import socket
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
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from tests.client.fakes import FakeAgent, FakeRequest, outcome_of
from tests.integration.clients import listen
from tests.mercure.world import SECRET
from tests.processes import finish, python, start
from txsse import Hub
from txsse._extras import MissingExtra
from txsse.cli import form as module
from txsse.cli import main
from txsse.cli.publish import PUBLISH, publish
from txsse.cli.unretain import UNRETAIN, unretain
from txsse.mercure import Settings, shared_secret, well_known
from txsse.testing import WallClock

URL = "https://hub.example/.well-known/mercure"
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
HTML = {"Content-Type": "text/html"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Remove the tokens and keys of the user who runs the tests.
    """
    for name in ("TXSSE_TOKEN", "TXSSE_KEY"):
        monkeypatch.delenv(name, raising=False)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    UNRETAIN.add_arguments(parser)
    return parser.parse_args(arguments)


class Removing:
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
            unretain(self.clock, parsed(*arguments), given, self.err, agent=self.agent)
        )
        self.status = outcome_of(self.running)

    @property
    def request(self) -> FakeRequest:
        return self.agent.requests[-1]

    def reply(self, body: str = "id-1\n", code: int = 200, headers: dict[str, str] = TEXT) -> None:
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
        assert line.startswith("txsse unretain: ") and line.isprintable()
        return line.removeprefix("txsse unretain: ")


class RequestTests:
    @pytest.mark.parametrize(
        ("arguments", "form"),
        [
            (["a", "k"], [("topic", "a"), ("key", "k")]),
            (
                ["ä&", "k ü", "--topic", "b", "--id", "7", "--private"],
                [("topic", "ä&"), ("topic", "b"), ("key", "k ü"), ("id", "7"), ("private", "on")],
            ),
        ],
    )
    def test_form(self, arguments: list[str], form: list[tuple[str, str]]) -> None:
        """
        The form has the arguments, and is sent to the path below the hub's; the command prints the ID.
        """
        run = Removing(URL, *arguments)
        assert (run.request.method, run.request.uri) == ("POST", f"{URL}/unretain")
        assert parse_qsl(run.request.body.decode()) == form
        assert "authorization" not in run.request.headers
        assert run.status == []
        run.reply()
        assert (run.status, run.out.getvalue(), run.err.getvalue()) == ([0], "id-1\n", "")

    def test_token_from_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        With a key, the command makes a token that allows publishing to the topics, for a minute.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        run = Removing(URL, "a", "k", "--topic", "b")
        token = run.request.headers["authorization"].decode().removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        (detail,) = claims["authorization_details"]
        assert detail["actions"] == ["publish"]
        assert [topic["match"] for topic in detail["topics"]] == ["a", "b"]
        assert (claims["aud"], claims["exp"] - claims["iat"]) == (URL, 60)

    def test_token_file(self, tmp_path: Path) -> None:
        """
        The token in a file is sent.
        """
        file = tmp_path / "token"
        file.write_text("a.b.c\n")
        run = Removing(URL, "a", "k", "--token-file", str(file))
        assert run.request.headers["authorization"] == b"Bearer a.b.c"


class WrongTests:
    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["ftp://x", "a", "k"], "ftp"),
            (["https://hub.example/x?authorization=x", "a", "k"], "every user of the machine can see"),
            ([URL, "a", ""], "KEY is empty"),
            ([URL, "a", "\udcff"], "key is not UTF-8 text"),
            ([URL, "\udcff", "k"], "topic is not UTF-8 text"),
            ([URL, "a", "k", "--id", "\udcff"], "id is not UTF-8 text"),
            ([URL, "a", "k", "--token-file", "/nonexistent"], "No such file"),
        ],
    )
    def test_invalid_arguments(self, arguments: list[str], problem: str) -> None:
        """
        Invalid arguments are reported before anything is sent.
        """
        run = Removing(*arguments)
        assert run.status == [2]
        assert problem in run.problem
        assert run.agent.requests == []

    @pytest.mark.parametrize("arguments", [[], [URL], [URL, "a"], [URL, "a", "k", "x"]])
    def test_wrong_number(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """
        A missing argument, and one too many, get exit status 2.
        """
        assert main(["unretain", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_without_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without the packages for TLS, an https URL is refused with the name of the extra.
        """

        def need_tls(purpose: str) -> None:
            raise MissingExtra(f"{purpose} needs pip install 'txsse[tls]'")

        monkeypatch.setattr(module, "need_tls", need_tls)
        err = io.StringIO()
        running = unretain(WallClock(), parsed(URL, "a", "k"), io.StringIO(), err)
        assert outcome_of(Deferred.fromCoroutine(running)) == [1]
        assert "txsse[tls]" in err.getvalue()


class RefusalTests:
    @pytest.mark.parametrize(
        ("code", "headers", "body", "expected"),
        [
            (
                404,
                TEXT,
                "no update with this key\n",
                f"no such update is retained, or {URL} is not a txsse hub that retains updates "
                "(the hub says: no update with this key)",
            ),
            (
                404,
                HTML,
                "<title>Oops</title>",
                "is not a txsse hub that retains updates (the hub says: Oops)",
            ),
            (405, {}, "", f"no such update is retained, or {URL} is not a txsse hub that retains updates"),
            (
                501,
                TEXT,
                "why\n",
                "the journal of the hub does not retain updates, so it has nothing to remove",
            ),
            (401, {}, "x\n", "the hub requires a token; give --token-file"),
            (403, TEXT, "no\n", "the token does not allow publishing to a and b (the hub says: no)"),
            (413, TEXT, "why\n", "(the hub says: why)"),
            (503, {"Retry-After": "5"}, "x\n", "try again in 5 seconds (the hub says: x)"),
            (400, {}, "key is bad\n", "the hub answered 400 (the hub says: key is bad)"),
            (200, HTML, "<h1>hi</h1>", "it answered 200 without an ID"),
        ],
    )
    def test_refusals(self, code: int, headers: dict[str, str], body: str, expected: str) -> None:
        """
        Each refusal is one line that says what to do.
        """
        run = Removing(URL, "a", "k", "--topic", "b")
        run.reply(body, code, headers)
        assert (run.status, run.out.getvalue()) == ([1], "")
        assert expected in run.problem

    def test_bad_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A refused token is reported as such.
        """
        monkeypatch.setenv("TXSSE_TOKEN", "a.b.c")
        run = Removing(URL, "a", "k")
        run.reply("x\n", 401, {})
        assert "the hub refuses the token" in run.problem

    def test_no_server(self) -> None:
        """
        A hub that does not run is reported.
        """
        run = Removing(URL, "a", "k")
        run.request.answer.errback(Failure(ConnectionRefusedError()))
        assert (run.status, run.problem) == ([1], f"no server listens at {URL}/unretain; is the hub running?")

    def test_timeout(self) -> None:
        """
        If the hub does not respond in time, the message says that the outcome is unknown.
        """
        run = Removing(URL, "a", "k", "--timeout", "7")
        run.clock.advance(7)
        assert run.problem.endswith(
            "has not responded in 7 s; it is unknown whether the retained update was removed"
        )

    def test_interrupted(self) -> None:
        """
        A command that is cancelled ends with 130, without a message.
        """
        run = Removing(URL, "a", "k")
        run.running.cancel()
        assert (run.status, run.err.getvalue()) == ([130], "")

    def test_closed_stdout(self) -> None:
        """
        If the ID cannot be printed, the message says that the hub has carried the request out.
        """
        run = Removing(URL, "a", "k", has_stdout=False)
        run.reply()
        assert run.status == [1]
        assert run.problem.startswith("the retained update was removed, but ")


class RunTests:
    @pytest.mark.parametrize(("code", "status"), [(0, 130), (1, 1)])
    def test_end_without_a_status(self, monkeypatch: pytest.MonkeyPatch, code: int, status: int) -> None:
        """
        A reactor that stops before the command has ended means Ctrl-C, or an unexpected error.
        """

        def react(main: Any, argv: Any) -> None:
            raise SystemExit(code)

        monkeypatch.setattr(task, "react", react)
        assert UNRETAIN.run(SimpleNamespace()) == status  # type: ignore[arg-type]


class HubTests:
    @pytest_twisted.ensureDeferred
    async def test_removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The command removes what txsse publish --retain has retained at a real hub; a second time, it reports
        that nothing is retained.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        hub, root = Hub(), Resource()
        port = await listen(root)
        url = f"http://127.0.0.1:{port.getHost().port}/.well-known/mercure"
        root.putChild(b".well-known", well_known(hub, Settings(url=url, issuers=[shared_secret(SECRET)])))
        parser = argparse.ArgumentParser()
        PUBLISH.add_arguments(parser)
        out, err = io.StringIO(), io.StringIO()
        publishing = parser.parse_args([url, "a", "x", "--retain", "k", "--retain-for", "60"])
        assert await publish(reactor, publishing, None, out, err) == 0
        assert hub.metrics().retained == 1
        assert await unretain(reactor, parsed(url, "a", "k", "--id", "7"), out, err) == 0
        assert hub.metrics().retained == 0
        assert out.getvalue().splitlines()[1:] == ["7"]
        assert err.getvalue() == ""
        assert await unretain(reactor, parsed(url, "a", "k"), out, err) == 1
        assert "(the hub says: no update with this key is retained under these topics)" in err.getvalue()
        await hub.stop()
        await port.stopListening()


@pytest.mark.process
class ProcessTests:
    def test_help(self) -> None:
        """
        The help lists the arguments and the exit statuses.
        """
        done = finish(python("-m", "txsse", "unretain", "--help"))
        assert done.returncode == 0
        for text in ("URL TOPIC KEY", "--topic T", "--private", "130  Ctrl-C"):
            assert text in done.stdout

    def test_interrupted(self) -> None:
        """
        Ctrl-C ends the command with 130.
        """
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/hub"
            with start(python("-m", "txsse", "unretain", url, "a", "k")) as program:
                connection, _ = listener.accept()
                connection.recv(1)
                program.process.send_signal(signal.SIGINT)
                program.wait()
                connection.close()
                assert program.process.returncode == 130

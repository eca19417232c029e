"""
``txsse publish``: with a fake agent, against a hub on the real reactor, and as a process.
"""

from __future__ import annotations

import argparse
import io
import os
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
import pytest_twisted
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.resource import Resource

from tests.client.fakes import FakeAgent, FakeRequest, outcome_of
from tests.integration.clients import listen, listen_tls
from tests.mercure.world import SECRET
from tests.processes import finish, python, start
from tests.waiting import until
from txsse import Hub
from txsse.cli import input as input_module
from txsse.cli import main, publish_result
from txsse.cli.http import Poster
from txsse.cli.publish import PUBLISH, publish
from txsse.journal.update import Update
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
    PUBLISH.add_arguments(parser)
    return parser.parse_args(arguments)


class Publishing:
    """
    A run of the command with a fake agent.

    :ivar status: a list that receives the exit status.
    """

    def __init__(self, *arguments: str, out: io.StringIO | None = None, given: Any = None) -> None:
        self.clock = WallClock()
        self.agent = FakeAgent()
        self.out, self.err = out or io.StringIO(), io.StringIO()
        self.running = Deferred.fromCoroutine(
            publish(self.clock, parsed(*arguments), given, self.out, self.err, agent=self.agent)
        )
        self.status = outcome_of(self.running)

    @property
    def request(self) -> FakeRequest:
        return self.agent.requests[-1]

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.request.body.decode(), keep_blank_values=True)

    @property
    def token(self) -> str:
        kind, _, token = self.request.headers["authorization"].decode().partition(" ")
        assert kind == "Bearer"
        return token

    def reply(self, body: str | bytes = "id-1", code: int = 200, headers: dict[str, str] = TEXT) -> None:
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
        assert line.startswith("txsse publish: ") and line.isprintable()
        return line.removeprefix("txsse publish: ")


class RequestTests:
    def test_all_options(self) -> None:
        """
        The request contains everything that the options say, and the command prints the ID that the hub
        returns.
        """
        run = Publishing(
            *(URL, "a", "ä&=\n+"),
            *("--topic", "b", "--topic", "c", "--id", "7", "--type", "tick", "--retry", "1.5", "--private"),
        )
        assert (run.request.method, run.request.uri) == ("POST", URL)
        assert run.request.headers["content-type"] == b"application/x-www-form-urlencoded"
        assert "authorization" not in run.request.headers
        assert run.form == [
            *[("topic", "a"), ("topic", "b"), ("topic", "c"), ("id", "7"), ("type", "tick")],
            *[("retry", "1500"), ("private", "on"), ("data", "ä&=\n+")],
        ]
        assert run.status == []
        run.reply("7")
        assert (run.status, run.out.getvalue(), run.err.getvalue()) == ([0], "7\n", "")

    def test_no_options(self) -> None:
        """
        Without options, the request contains only the topic and the data, which may be empty.
        """
        run = Publishing(URL, "a", "")
        assert run.form == [("topic", "a"), ("data", "")]

    @pytest.mark.parametrize(
        ("arguments", "fields"),
        [
            ([], []),
            (["--retain-for", "60"], [("retain_for", "60")]),
            (["--retain-for", "0.5"], [("retain_for", "0.5")]),
            (["--retain-for", "1e3"], [("retain_for", "1000")]),
            (["--retain-for", "86400.0004"], [("retain_for", "86400")]),
            (["--retain-for", "0.001"], [("retain_for", "0.001")]),
        ],
    )
    def test_retain(self, arguments: list[str], fields: list[tuple[str, str]]) -> None:
        """
        The request contains the key of a retained update, and the time as the hub reads it.
        """
        run = Publishing(URL, "a", "x", "--retain", "k ü", *arguments)
        assert run.form == [("topic", "a"), ("retain", "k ü"), *fields, ("data", "x")]
        run.reply()
        assert run.status == [0]

    def test_lines(self) -> None:
        """
        With --lines, each line is published as one update, after the response to the previous one.
        """
        run = Publishing(URL, "a", "x\r\n\ny", "--lines")
        for number, data in enumerate(("x", "", "y"), 1):
            assert run.form == [("topic", "a"), ("data", data)]
            assert len(run.agent.requests) == number
            run.reply(f"id-{number}")
        assert (run.status, run.out.getvalue()) == ([0], "id-1\nid-2\nid-3\n")

    @pytest.mark.parametrize("data", ["x\n", "x\r\n", "x"])
    def test_final_line_end(self, data: str) -> None:
        """
        A line end at the end of the data is removed.
        """
        assert Publishing(URL, "a", data).form[-1] == ("data", "x")


class TokenTests:
    def test_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A token file takes precedence over the token in the environment.
        """
        monkeypatch.setenv("TXSSE_TOKEN", "a.b.c")
        assert Publishing(URL, "a", "x").token == "a.b.c"
        path = tmp_path / "token"
        path.write_text(" d.e.f\n")
        assert Publishing(URL, "a", "x", "--token-file", str(path)).token == "d.e.f"

    def test_token_from_a_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        With --key-file the command makes a token for one minute, the hub and the topics, despite a token in
        the environment.
        """
        monkeypatch.setenv("TXSSE_TOKEN", "a.b.c")
        path = tmp_path / "secret"
        path.write_text(SECRET)
        token = Publishing(URL, "a", "x", "--topic", "b", "--key-file", str(path), "--key-id", "k").token
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "k", "typ": "at+jwt"}
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (claims["aud"], claims["iat"], claims["exp"]) == (URL, 0, 60)
        (detail,) = claims["authorization_details"]
        assert (detail["actions"], detail["topics"]) == (["publish"], [{"match": "a"}, {"match": "b"}])

    def test_token_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The options --audience, --key-issuer and --compatibility determine the token that the command makes.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        options = ("--compatibility", "--audience", "https://else.example", "--key-issuer", "me")
        token = Publishing(URL, "a", "x", *options).token
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (claims["aud"], claims["iss"]) == ("https://else.example", "me")
        assert claims["mercure"] == {"publish": ["a"]}

    def test_token_renewed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The command makes a new token for a line that comes more than half a minute after the last one.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        run = Publishing(URL, "a", "1\n2\n3", "--lines")
        first = run.token
        run.reply()
        assert run.token == first
        run.clock.advance(29)
        run.reply()
        assert run.token == first
        run = Publishing(URL, "a", "1\n2", "--lines", "--timeout", "60")
        first = run.token
        run.clock.advance(31)
        run.reply()
        assert run.token != first

    @pytest.mark.parametrize("step", [-3600, 3600])
    def test_token_renewed_after_a_clock_step(self, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
        """
        After the wall clock was set, the command makes a new token, which expires by the new time.
        """
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        run = Publishing(URL, "a", "1\n2", "--lines")
        first = run.token
        run.clock.step(step)
        run.reply()
        claims = jwt.decode(run.token, options={"verify_signature": False, "verify_exp": False})
        assert run.token != first
        assert claims["exp"] == step + 60

    def test_invalid_token_or_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        With an invalid token, an invalid key or both options, nothing is sent, and the error does not show
        the secret.
        """
        secret = tmp_path / "secret"
        secret.write_text("hunter2")
        binary = tmp_path / "binary"
        binary.write_bytes(b"\xff")
        spaced = tmp_path / "spaced"
        spaced.write_text("hunter2 is my password")
        for arguments, problem in (
            (["--token-file", str(tmp_path / "nowhere")], "No such file"),
            (["--token-file", str(binary)], "does not contain a token"),
            (["--token-file", str(spaced)], "does not contain a token"),
            (["--token-file", str(spaced), "--key-file", str(secret)], "exclude each other"),
            (["--key-file", str(secret)], "a secret needs at least 32 bytes"),
        ):
            run = Publishing(URL, "a", "x", *arguments)
            assert (run.status, run.agent.requests) == ([2], [])
            assert problem in run.problem and "hunter2" not in run.problem
        monkeypatch.delitem(sys.modules, "txsse.mercure.auth.mint", raising=False)
        monkeypatch.setitem(sys.modules, "jwt", None)
        secret.write_text("x" * 48)
        assert "pip install 'txsse[mercure]'" in Publishing(URL, "a", "x", "--key-file", str(secret)).problem


class WrongTests:
    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["hub.example", "a", "x"], "not an HTTP URL"),
            (["https://me:x@hub.example", "a", "x"], "credentials"),
            ([URL, "a", "x", "--file", "y"], "DATA and --file exclude each other"),
            ([URL, "a", "-", "--file", "y"], "DATA and --file exclude each other"),
            ([URL, "a"], "the data is missing"),
            ([URL, "a", "x", "--lines", "--id", "1"], "--id is for one update"),
            ([URL, "\udcff", "x"], "topic is not UTF-8 text"),
            ([URL, "a", "x", "--type", "\udcff"], "type is not UTF-8 text"),
            ([URL, "a", "x", "--retain", "\udcff"], "retain is not UTF-8 text"),
            ([URL, "a", "x", "--retain", ""], "--retain is empty"),
            ([URL, "a", "x", "--retain-for", "1"], "--retain-for needs --retain"),
        ],
    )
    def test_invalid_arguments(self, arguments: list[str], problem: str) -> None:
        """
        With invalid arguments nothing is sent, and one line says what is wrong.
        """
        run = Publishing(*arguments)
        assert (run.status, run.agent.requests) == ([2], [])
        assert problem in run.problem

    def test_no_data_at_a_terminal(self) -> None:
        """
        Without data, the command reads a terminal only if the user gives -.
        """
        run = Publishing(URL, "a", given=SimpleNamespace(isatty=lambda: True))
        assert run.status == [2]
        assert "- to type it" in run.problem

    @pytest.mark.parametrize(
        "arguments",
        [
            *(["--timeout", value] for value in ("0", "inf")),
            *(["--retry", value] for value in ("-1", "nan", "x")),
            *(
                ["--retain", "k", "--retain-for", value]
                for value in ("0", "0.0009", "nan", "inf", "1e9", "x")
            ),
        ],
    )
    def test_invalid_options(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """
        Invalid option values are reported in one line.
        """
        assert main(["publish", URL, "a", "x", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1

    @pytest.mark.parametrize("arguments", [["\udcff"], ["\udcff", "--lines"]])
    def test_invalid_utf8(self, arguments: list[str]) -> None:
        """
        Data that is not UTF-8 is not published.
        """
        run = Publishing(URL, "a", *arguments)
        assert (run.status, run.agent.requests) == ([1], [])
        assert "not UTF-8 text" in run.problem

    @pytest.mark.parametrize("arguments", [["x" * 11], ["x" * 11, "--lines"]])
    def test_data_too_large(self, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Data that is larger than any hub accepts is not read to its end.
        """
        monkeypatch.setattr(input_module, "MAX_DATA", 10)
        run = Publishing(URL, "a", *arguments)
        assert (run.status, run.agent.requests) == ([1], [])
        assert "may have at most 10 bytes" in run.problem


class RefusalTests:
    @pytest.mark.parametrize(
        ("code", "headers", "body", "expected"),
        [
            (401, TEXT, "publishing takes a token\n", "the hub requires a token; give --token-file"),
            (403, TEXT, "no\n", "does not allow publishing to a and b (the hub says: no)"),
            (
                404,
                TEXT,
                "",
                f"{URL} is not a Mercure hub: it answered 404; most hubs are at /.well-known",
            ),
            (405, TEXT, "", "it answered 405"),
            (404, HTML, "<h1>Not found</h1>", "it answered 404; most hubs are at /.well-known/mercure"),
            (500, HTML, "<h1>Oops</h1>", "it answered 500; most hubs are at /.well-known/mercure"),
            (413, {}, "", "the update is larger than the hub accepts"),
            (503, {"Retry-After": "5"}, "", "try again in 5 seconds"),
            (503, {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, "", "try again later"),
            (503, {}, "<p>", "try again later"),
            (429, {}, "", "try again later"),
            (501, TEXT, "why\n", "does not retain updates; publish without --retain (the hub says: why)"),
            (501, HTML, "<h1>No</h1>", "it answered 501; most hubs are at /.well-known/mercure"),
            (507, TEXT, "why\n", "has no room to retain the update, and has not published it (the hub says"),
            (507, HTML, "<h1>No</h1>", "it answered 507; most hubs are at /.well-known/mercure"),
            (307, {"Location": "https://x/\x1b"}, "", "publish to https://x/\\u001b"),
            (304, {}, "", "the hub answered 304"),
            (
                400,
                TEXT,
                "the id is\x1b[2J bad\n",
                "the hub answered 400 (the hub says: the id is\\u001b[2J bad)",
            ),
            (500, TEXT, "x" * 1000, f"(the hub says: {'x' * 300}…)"),
            (200, HTML, "<p>Welcome</p>", "it answered 200 without an ID"),
            (200, {}, "<p>Welcome</p>", "it answered 200 without an ID"),
            (204, {}, "", "it answered 204 without an ID"),
            (200, TEXT, "a\nb", "it answered 200 without an ID"),
            (200, TEXT, "\x1b[2J", "it answered 200 without an ID"),
        ],
    )
    def test_refusals(self, code: int, headers: dict[str, str], body: str, expected: str) -> None:
        """
        For each refusal of the hub, one line says what to do.
        """
        run = Publishing(URL, "a", "x", "--topic", "b")
        run.reply(body, code, headers)
        assert (run.status, run.out.getvalue()) == ([1], "")
        assert expected in run.problem

    def test_bad_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A token that the hub refuses is reported differently from a missing one.
        """
        monkeypatch.setenv("TXSSE_TOKEN", "a.b.c")
        run = Publishing(URL, "a", "x")
        run.reply("the token is not good\n", 401)
        assert "the hub refuses the token" in run.problem and "a.b.c" not in run.problem

    def test_refused_line(self) -> None:
        """
        With --lines, a refusal is reported with the line number and the count of updates published before.
        """
        run = Publishing(URL, "a", "1\n2\n3", "--lines")
        run.reply()
        run.reply("", 413)
        assert run.status == [1]
        assert run.problem == "line 2: the update is larger than the hub accepts; 1 published"
        assert len(run.agent.requests) == 2

    def test_endless_response(self) -> None:
        """
        The command reads 64 KiB of an endless response, then aborts the connection and reports the status.
        """
        run = Publishing(URL, "a", "x")
        response = run.request.reply(500, TEXT)
        response.bring("x" * 65536)
        assert not response.transport.cut
        response.bring("x")
        assert response.transport.cut
        response.bring("x")
        response.end()
        assert "the hub answered 500" in run.problem

    def test_response_without_a_length(self) -> None:
        """
        A response without a length ends with its connection.
        """
        run = Publishing(URL, "a", "x")
        response = run.request.reply(200, TEXT)
        response.bring("id-1")
        response.end(PotentialDataLoss())
        assert (run.status, run.out.getvalue()) == ([0], "id-1\n")

    def test_lost_connection(self) -> None:
        """
        If the connection is lost within the response, it is unknown whether the update was published.
        """
        run = Publishing(URL, "a", "x")
        run.request.reply(200, TEXT).end(ConnectionDone())
        assert run.problem.startswith(f"{URL} broke the connection off (Connection was closed cleanly.)")
        assert run.problem.endswith("it is unknown whether the update was published")

    @pytest.mark.parametrize("answered", [False, True])
    def test_timeout_option(self, answered: bool) -> None:
        """
        The --timeout limits the time until the end of the response.
        """
        run = Publishing(URL, "a", "x", "--timeout", "2.5")
        response = run.request.reply(200, TEXT) if answered else None
        run.clock.advance(2.4)
        assert run.status == []
        run.clock.advance(0.2)
        assert run.status == [1]
        assert "has not responded in 2.5 s" in run.problem
        assert response.transport.cut if response else run.request.cancelled


class ConnectionTests:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ConnectionRefusedError(), f"no server listens at {URL}; is the hub running?"),
            (DNSLookupError(), "the host does not exist"),
            (
                ConnectError(string="No route to host"),
                "cannot be reached: An error occurred while connecting",
            ),
            (ResponseNeverReceived([Failure(ConnectionDone())]), "broke the connection off"),
            (ResponseNeverReceived([Failure(VerificationError([]))]), "--insecure accepts any certificate"),
            (
                SSL.Error([("", "", "certificate verify failed")]),
                "is not trusted; --insecure accepts any certificate",
            ),
            (
                SSL.Error([("", "", "wrong version number")]),
                "(wrong version number); does the hub speak http,",
            ),
            (SSL.Error(), "TLS failed"),
            (SSL.Error([]), "TLS failed"),
            (SSL.Error("x"), "TLS failed (x)"),
            (NotImplementedError(), "pip install 'txsse[tls]'"),
            (ValueError("not enough values\n"), "does not answer as a hub would (not enough values\\u000a)"),
            (ValueError(), "does not answer as a hub would (ValueError)"),
        ],
    )
    def test_errors(self, error: Exception, expected: str) -> None:
        """
        For each connection error, one line says what to do.
        """
        run = Publishing(URL, "a", "x")
        run.request.lose(error)
        assert run.status == [1]
        assert expected in run.problem

    def test_secret_in_url(self, tmp_path: Path) -> None:
        """
        A URL with a token is refused on the command line, accepted from a file, and never shown.
        """
        url = f"{URL}?authorization=hunter2"
        refused = Publishing(url, "a", "x")
        assert refused.status == [2] and refused.agent.requests == []
        assert "give @FILE" in refused.problem and "hunter2" not in refused.problem
        (tmp_path / "url").write_text(url)
        run = Publishing(f"@{tmp_path / 'url'}", "a", "x")
        assert run.request.uri == url
        run.request.lose(ConnectionRefusedError())
        assert "authorization=***" in run.problem and "hunter2" not in run.problem

    @pytest.mark.process
    def test_without_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without pyOpenSSL and service-identity, errors without TLS are explained as usual, and https names the
        package.
        """
        monkeypatch.setitem(sys.modules, "OpenSSL.SSL", None)
        monkeypatch.setitem(sys.modules, "service_identity", None)
        names = runpy.run_path(publish_result.__file__)
        assert (
            str(names["explain"](ConnectionRefusedError(), URL))
            == f"no server listens at {URL}; is the hub running?"
        )
        monkeypatch.undo()
        program = (
            "import sys; sys.modules['OpenSSL'] = sys.modules['OpenSSL.SSL'] = None;"
            "sys.modules['service_identity'] = None;"
            "from txsse.cli import main; sys.exit(main(['publish', 'https://127.0.0.1:1/', 'a', 'x']))"
        )
        done = finish(python("-c", program))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[-1].endswith("pip install 'txsse[tls]'")


class EndTests:
    @pytest.mark.parametrize("error", [None, ConnectingCancelledError(None)])
    def test_interrupted(self, error: Exception | None) -> None:
        """
        Ctrl-C ends the command without output, also while it connects.
        """
        run = Publishing(URL, "a", "x")
        if error is None:
            run.running.cancel()
            assert run.request.cancelled
        else:
            run.request.lose(error)
        assert (run.status, run.out.getvalue(), run.err.getvalue()) == ([130], "", "")
        assert run.clock.getDelayedCalls() == []

    def test_interrupted_between_lines(self) -> None:
        """
        With --lines, Ctrl-C prints how many updates were published.
        """
        run = Publishing(URL, "a", "1\n2", "--lines")
        run.reply()
        run.running.cancel()
        assert run.status == [130]
        assert run.problem == "1 published"

    def test_closed_pipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        When the reader of the IDs closes the pipe, the remaining lines are published all the same.
        """
        out = io.StringIO()
        run = Publishing(URL, "a", "1\n2", "--lines", out=out)

        def closed(text: str) -> int:
            raise BrokenPipeError

        duplicated: list[tuple[int, int]] = []
        monkeypatch.setattr(os, "dup2", lambda *numbers: duplicated.append(numbers))
        with monkeypatch.context() as patch:
            patch.setattr(out, "write", closed)
            patch.setattr(out, "fileno", lambda: 1)
            run.reply("id-1")
        ((null, number),) = duplicated
        os.close(null)
        assert number == 1
        run.reply("id-2")
        assert (run.status, out.getvalue()) == ([0], "id-2\n")

    def test_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A full disk ends the command, and the error says how many updates were published.
        """
        out = io.StringIO()
        run = Publishing(URL, "a", "1\n2", "--lines", out=out)

        def full(text: str) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(out, "write", full)
        run.reply()
        assert run.status == [1]
        assert run.problem.endswith("stdout cannot be written: No space left on device; 1 published")

    def test_id_outside_the_encoding(self) -> None:
        """
        An ID with characters that stdout cannot encode is printed with escapes.
        """
        written = io.BytesIO()
        run = Publishing(URL, "a", "x", out=io.TextIOWrapper(written, "ascii"))  # type: ignore[arg-type]
        run.reply("ä")
        assert (run.status, written.getvalue()) == ([0], b"\\xe4\n")


class RunTests:
    """
    The command on a fake reactor.
    """

    class Reactor(Clock):
        def addSystemEventTrigger(self, phase: str, event: str, trigger: Callable[[], None]) -> None:  # noqa: N802
            assert (phase, event) == ("before", "shutdown")
            self.trigger = trigger

    def run(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[Any, Any], None], code: int = 0) -> int:
        monkeypatch.setattr(
            "txsse.cli.publish.Poster",
            lambda *arguments, **options: Poster(*arguments, **{**options, "agent": FakeAgent()}),
        )

        def react(main: Any, arguments: object) -> None:
            act(main, self.Reactor())
            raise SystemExit(code)

        monkeypatch.setattr(task, "react", react)
        return main(["publish", "http://127.0.0.1:1/", "a", "x"])

    def test_interrupted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The shutdown of the reactor ends the command with the status of Ctrl-C.
        """

        def act(main: Any, reactor: Any) -> None:
            running = main(reactor)
            reactor.trigger()
            assert outcome_of(running) == [None]

        assert self.run(monkeypatch, act) == 130

    def test_interrupted_before_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Ctrl-C before the command has started ends it with the status of Ctrl-C.
        """
        assert self.run(monkeypatch, lambda main, reactor: None) == 130

    def test_unexpected_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An unexpected error does not end the command with the status of Ctrl-C.
        """
        assert self.run(monkeypatch, lambda main, reactor: None, 1) == 1


class World:
    """
    A hub on a real socket, which records its updates.

    :ivar connections: the number of connections so far.
    """

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.hub = Hub()
        publish_update = self.hub.publish_update

        def record(update: Update) -> Any:
            self.updates.append(update)
            return publish_update(update)

        self.hub.publish_update = record  # type: ignore[assignment, method-assign]
        self.root = Resource()
        self.connections = 0

    async def start(self, certificate: Path | None = None) -> None:
        self.port = await (listen_tls(self.root, certificate) if certificate else listen(self.root))
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port.getHost().port}/.well-known/mercure"
        settings = Settings(url=self.url, issuers=[shared_secret(SECRET)])
        self.root.putChild(b".well-known", well_known(self.hub, settings))
        site = self.port.factory.wrappedFactory if certificate else self.port.factory
        build = site.buildProtocol

        def count(address: Any) -> Any:
            self.connections += 1
            return build(address)

        site.buildProtocol = count

    async def stop(self) -> None:
        await self.hub.stop()
        await self.port.stopListening()

    @property
    def texts(self) -> list[str]:
        return [update.event.data for update in self.updates]


@pytest.fixture
def world() -> Iterator[World]:
    """
    Return a hub that the test has to start, and stop it afterwards.
    """
    world = World()
    yield world
    pytest_twisted.blockon(Deferred.fromCoroutine(world.stop()))


class Plain(Protocol):
    """
    A server that responds to anything as to bad HTTP, as nginx does.
    """

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<h1>400</h1>")
        self.transport.loseConnection()


async def run(*arguments: str, given: Any = None) -> tuple[int, str, str]:
    """
    Run the command on the real reactor.
    """
    out, err = io.StringIO(), io.StringIO()
    status = await publish(reactor, parsed(*arguments), given, out, err)
    return status, out.getvalue(), err.getvalue()


class HubTests:
    @pytest_twisted.ensureDeferred
    async def test_published(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A hub publishes an update with all options, with the token that the command made from the key.
        """
        await world.start()
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        options = ("--topic", "b", "--id", "7", "--type", "tick", "--retry", "1.5", "--private")
        assert await run(world.url, "a", "dätä", *options) == (0, "7\n", "")
        (update,) = world.updates
        assert (sorted(update.topics), update.private) == (["a", "b"], True)
        event = update.event
        assert (event.data, event.id, event.event, event.retry) == ("dätä", "7", "tick", 1.5)

    @pytest_twisted.ensureDeferred
    async def test_closed_stdout(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If stdout is closed, the update is published, and stderr and the exit status report the missing
        output.
        """
        await world.start()
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        err = io.StringIO()
        assert await publish(reactor, parsed(world.url, "a", "x"), None, None, err) == 1
        said = "txsse publish: it was published, but stdout is closed\n"
        assert (world.texts, err.getvalue()) == (["x"], said)

    @pytest_twisted.ensureDeferred
    async def test_token_of_the_token_command(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        A token from txsse token publishes to its own topics only; a missing and a bad token are reported.
        """
        await world.start()
        key, token = tmp_path / "key", tmp_path / "token"
        key.write_text(SECRET)
        assert main(["token", "--audience", world.url, "--publish", "a", "--key-file", str(key)]) == 0
        token.write_text(capsys.readouterr().out)
        status, _, err = await run(world.url, "a", "x", "--token-file", str(token))
        assert (status, err, world.texts) == (0, "", ["x"])
        status, _, err = await run(world.url, "b", "x", "--token-file", str(token))
        assert status == 1
        assert err.startswith("txsse publish: the token does not allow publishing to b (the hub says: ")
        status, _, err = await run(world.url, "b", "x")
        assert status == 1
        assert err.startswith("txsse publish: the hub requires a token; ")
        token.write_text("x" + token.read_text())
        status, _, err = await run(world.url, "a", "x", "--token-file", str(token))
        assert status == 1
        assert err.startswith("txsse publish: the hub refuses the token: ")

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_long_lines_of_a_file(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Many lines of a file, also ones longer than one read, arrive in order over one connection.
        """
        await world.start()
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        lines = [f"{number} {'ä' * 700}" for number in range(150)]
        path = tmp_path / "lines"
        path.write_text("\n".join([*lines, "z" * 150_000]) + "\n", encoding="utf-8")
        status, out, err = await run(world.url, "a", "--lines", "--file", str(path))
        assert (status, err) == (0, "")
        assert world.texts == [*lines, "z" * 150_000]
        assert len(set(out.splitlines())) == 151
        assert world.connections == 1

    @pytest_twisted.ensureDeferred
    async def test_whole_file(self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A file is published as one update; a missing file is reported with its name.
        """
        await world.start()
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        path = tmp_path / "file"
        status, _, err = await run(world.url, "a", "--file", str(path))
        assert (status, err) == (1, f"txsse publish: {path}: No such file or directory\n")
        path.write_text("one\ntwo\n" + "x" * 100_000 + "\n")
        assert (await run(world.url, "a", "--file", str(path)))[0] == 0
        assert world.texts == ["one\ntwo\n" + "x" * 100_000]

    @pytest.mark.parametrize("arguments", [[], ["-"], ["--file", "-"]])
    @pytest_twisted.ensureDeferred
    async def test_lines_of_stdin(
        self, world: World, arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        With --lines, each line of stdin is published as soon as it arrives.
        """
        await world.start()
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        ours, theirs = os.pipe()
        with open(ours) as given:
            running = Deferred.fromCoroutine(run(world.url, "a", *arguments, "--lines", given=given))
            for number in range(3):
                os.write(theirs, f"line {number}\n".encode())
                await until(lambda number=number: len(world.texts) == number + 1)  # type: ignore[misc]
            os.write(theirs, b"no end")
            os.close(theirs)
            assert (await running)[0] == 0
        assert world.texts == ["line 0", "line 1", "line 2", "no end"]

    @pytest_twisted.ensureDeferred
    async def test_certificates(
        self, world: World, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A self-signed certificate is refused, unless the user gives --insecure.
        """
        await world.start(certificate)
        monkeypatch.setenv("TXSSE_KEY", SECRET)
        status, _, err = await run(world.url, "a", "x")
        assert status == 1
        flaw = "the server's certificate is self-signed"
        assert err == f"txsse publish: {world.url}: {flaw}; --insecure accepts any certificate\n"
        assert (await run(world.url, "a", "x", "--insecure"))[0] == 0
        assert world.texts == ["x"]

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_wrong_addresses(self, world: World) -> None:
        """
        TLS to a plain port, a path without a hub and a port without a server are reported differently.
        """
        await world.start()
        plain = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Plain))
        expected = {
            f"https://127.0.0.1:{plain.getHost().port}/": "does the hub speak http, without the s?",
            f"http://127.0.0.1:{plain.getHost().port}/": "it answered 400",
            world.url + "x": "is not a Mercure hub: it answered 404",
            "http://127.0.0.1:1/": "no server listens at http://127.0.0.1:1/",
        }
        for url, problem in expected.items():
            status, out, err = await run(url, "a", "x")
            assert (status, out, len(err.splitlines())) == (1, "", 1)
            assert problem in err
        await plain.stopListening()


@pytest.mark.process
class ProcessTests:
    @pytest_twisted.ensureDeferred
    async def test_piped_data(self, world: World) -> None:
        """
        Data piped into the command is published, and the ID is printed.
        """
        await world.start()

        def work() -> tuple[int, str, str]:
            command = python("-m", "txsse", "publish", world.url, "a", "--id", "7")
            done = finish(command, input="some\ndata\n", env={"TXSSE_KEY": SECRET})
            return done.returncode, done.stdout, done.stderr

        assert await deferToThread(work) == (0, "7\n", "")
        assert world.texts == ["some\ndata"]

    @pytest_twisted.ensureDeferred
    async def test_unwritable_stdout(self, world: World) -> None:
        """
        If the ID cannot be printed, one line says that the update was published.
        """
        await world.start()
        command = shlex.join([sys.executable, "-m", "txsse", "publish", world.url, "a", "x"])

        def work() -> tuple[int, str]:
            done = finish(["sh", "-c", f"{command} >/dev/full"], env={"TXSSE_KEY": SECRET})
            return done.returncode, done.stderr

        said = "it was published, but stdout cannot be written: No space left on device"
        assert await deferToThread(work) == (1, f"txsse publish: {said}\n")
        assert world.texts == ["x"]

    def test_closed_stdin(self) -> None:
        """
        If stdin is closed and no data is given, one line says what to give.
        """
        command = shlex.join([sys.executable, "-m", "txsse", "publish", URL, "a"])
        for given in ("", "-"):
            done = finish(["sh", "-c", f"{command} {given} <&-"])
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith("txsse publish: the data is missing; give DATA")
            assert done.stderr.count("\n") == 1

    @pytest_twisted.ensureDeferred
    async def test_interrupted(self, world: World) -> None:
        """
        Ctrl-C ends the command while it waits for stdin, with exit status 130.
        """
        await world.start()

        def work() -> tuple[int, str]:
            command = python("-m", "txsse", "publish", world.url, "a", "--lines")
            with start(command, env={"TXSSE_KEY": SECRET}, stdin=subprocess.PIPE) as program:
                program.write("line\n")
                program.wait_for("^.+$")
                return program.stop(signal.SIGINT), program.err

        assert await deferToThread(work) == (130, "txsse publish: 1 published\n")
        assert world.texts == ["line"]

"""
``txsse tail``: with a fake agent, and as a process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from service_identity import VerificationError
from service_identity.exceptions import DNSMismatch
from service_identity.hazmat import DNS_ID
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from tests.client.fakes import FakeAgent, FakeResponse, outcome_of
from tests.needs import needs
from tests.processes import finish, python, start
from txsse.cli import main
from txsse.cli.tail import TAIL, follow

URL = "https://example.org/events"


class Terminal(io.StringIO):
    """
    A stream that claims to be a terminal.
    """

    def isatty(self) -> bool:
        return True


class Tail:
    """
    A run of the command with a fake agent.

    :ivar status: a list that receives the exit status.
    """

    def __init__(self, *arguments: str, url: str = URL, out: io.StringIO | None = None) -> None:
        parser = argparse.ArgumentParser()
        TAIL.add_arguments(parser)
        self.clock = Clock()
        self.agent = FakeAgent()
        self.out, self.err = out or io.StringIO(), io.StringIO()
        parsed = parser.parse_args([url, *arguments])
        self.status = outcome_of(
            Deferred.fromCoroutine(follow(self.clock, parsed, self.out, self.err, agent=self.agent))
        )

    def reply(self, *arguments: Any) -> FakeResponse:
        return self.agent.requests[-1].reply(*arguments)


class PrintingTests:
    def test_text(self) -> None:
        """
        Without options the command prints text, without colours if stdout is not a terminal.
        """
        tail = Tail()
        tail.reply().bring("id: 7\nevent: tick\ndata: a\n\n")
        assert tail.out.getvalue()[8:] == " tick id 7  a\n"
        assert tail.status == []

    def test_colours_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        On a terminal the command prints colours, unless NO_COLOR is set.
        """
        for no_color, expected in (("", True), ("1", False)):
            monkeypatch.setenv("NO_COLOR", no_color)
            tail = Tail(out=Terminal())
            tail.reply().bring("data: a\n\n")
            assert ("\x1b[" in tail.out.getvalue()) is expected

    def test_json(self) -> None:
        """
        With --json the command prints each event as one JSON object on a line.
        """
        tail = Tail("--json")
        tail.reply().bring("data: a\n\ndata: b\n\n")
        assert [json.loads(line)["data"] for line in tail.out.getvalue().splitlines()] == ["a", "b"]

    def test_types_and_count(self) -> None:
        """
        With --type, other events are not printed and not counted by --count.
        """
        tail = Tail("--data", "--type", "x", "--type", "y", "--count", "2")
        response = tail.reply()
        response.bring("event: x\ndata: 1\n\ndata: 2\n\nevent: y\ndata: 3\n\nevent: x\ndata: 4\n\n")
        assert tail.out.getvalue() == "1\n3\n"
        assert tail.status == [0]
        assert response.transport.cut
        assert tail.clock.getDelayedCalls() == []


class RequestTests:
    def test_options(self) -> None:
        """
        The options determine the header fields, the method, the body and the last event ID of the request.
        """
        tail = Tail(
            "--header",
            "X-A: 1:2",
            "--header",
            "X-B:",
            "--method",
            "post",
            "--body",
            "ä",
            "--last-event-id",
            "7",
        )
        request = tail.agent.requests[0]
        assert (request.method, request.body) == ("POST", "ä".encode())
        assert (request.headers["x-a"], request.headers["x-b"]) == (b"1:2", b"")
        assert request.headers["last-event-id"] == b"7"

    @pytest.mark.parametrize("arguments", [["--header", "x"], ["--header", ": y"]])
    def test_wrong_header(self, arguments: list[str]) -> None:
        """
        A malformed --header is reported, and no request is sent.
        """
        tail = Tail(*arguments)
        assert tail.status == [2]
        assert "--header needs NAME:VALUE" in tail.err.getvalue()
        assert tail.agent.requests == []

    def test_secrets_from_files(self, tmp_path: Path) -> None:
        """
        A URL and header fields with secrets are read from files, and errors do not show them.
        """
        (tmp_path / "url").write_text(f"{URL}?token=hunter2\n")
        (tmp_path / "headers").write_text("Authorization: Bearer hunter2\n")
        tail = Tail("--header", f"@{tmp_path / 'headers'}", url=f"@{tmp_path / 'url'}")
        request = tail.agent.requests[0]
        assert request.headers["authorization"] == b"Bearer hunter2"
        assert request.uri.endswith("?token=hunter2")
        tail.reply(404).end()
        assert tail.status == [1]
        assert "token=***" in tail.err.getvalue() and "hunter2" not in tail.err.getvalue()

    @pytest.mark.parametrize(
        ("url", "arguments"),
        [(f"{URL}?token=hunter2", []), (URL, ["--header", "Authorization: Bearer hunter2"])],
    )
    def test_secrets_on_the_command_line(self, url: str, arguments: list[str]) -> None:
        """
        Secrets on the command line are refused, and no request is sent.
        """
        tail = Tail(*arguments, url=url)
        assert tail.status == [2]
        assert "@FILE" in tail.err.getvalue() and "hunter2" not in tail.err.getvalue()
        assert tail.agent.requests == []

    def test_invalid_url(self) -> None:
        """
        An invalid URL is reported as an error of the command line.
        """
        tail = Tail(url="example.org")
        assert tail.status == [2]
        assert "not an HTTP URL" in tail.err.getvalue()

    @pytest.mark.parametrize(
        "arguments",
        [["--count", "0"], ["--count", "x"], ["--timeout", "-1"], ["--timeout", "inf"], ["--json", "--data"]],
    )
    def test_invalid_options(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """
        Invalid options are reported in one line.
        """
        assert main(["tail", URL, *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1


class EndTests:
    def test_refused(self) -> None:
        """
        A refusal by the server ends the command, with one line.
        """
        tail = Tail()
        tail.reply(404).end()
        assert tail.status == [1]
        assert tail.err.getvalue() == f"txsse tail: {URL}: the server answered 404\n"

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("Name a topic, as in\n  ?match=news", "Name a topic, as in ?match=news"),
            ("\x1b]0;x\x07a\u202eb", "\\u001b]0;x\\u0007a\\u202eb"),
            ("a" * 5000, "a" * 300 + "…"),
            ("see http://a/?token=hunter2", "see http://a/?token=***"),
            ("<html><TITLE>\nHTTP &amp; HTTPS </title>x", "HTTP & HTTPS"),
        ],
    )
    @pytest.mark.parametrize("status", [400, 503])
    def test_body(self, status: int, body: str, said: str) -> None:
        """
        The error quotes the server's reason on one line, with control characters escaped; of an HTML page,
        its title.
        """
        tail = Tail()
        response = tail.reply(status)
        response.bring(body)
        response.end() if len(body) < 4096 else None
        assert tail.status == [1]
        answered = f"{URL}: the server answered {status}"
        assert tail.err.getvalue() == f"txsse tail: {answered} (the server says: {said})\n"

    @pytest.mark.parametrize("body", ["", " \n", "<p>no title"])
    def test_nothing_to_quote(self, body: str) -> None:
        """
        If the body of a refusal has no text to quote, the error quotes nothing.
        """
        tail = Tail()
        response = tail.reply(400)
        response.bring(body)
        response.end()
        assert tail.err.getvalue() == f"txsse tail: {URL}: the server answered 400\n"

    def test_reconnection(self) -> None:
        """
        A reconnection is reported on stderr, and the stream continues after the last event.
        """
        tail = Tail("--data")
        response = tail.reply()
        response.bring("id: 1\nretry: 100\ndata: a\n\n")
        response.end()
        assert tail.err.getvalue() == f"txsse tail: {URL}: the stream has ended; trying again in 0.1 s\n"
        tail.clock.advance(0.2)
        assert tail.agent.requests[-1].headers["last-event-id"] == b"1"
        tail.reply().bring("data: b\n\n")
        assert tail.out.getvalue() == "a\nb\n"

    @pytest.mark.parametrize(
        ("error", "problem"),
        [
            (VerificationError([DNSMismatch(DNS_ID("x"))]), "is for another host"),
            (SSL.Error([("SSL routines", "", "certificate verify failed")]), "is not trusted"),
        ],
    )
    def test_certificate(self, error: Exception, problem: str) -> None:
        """
        A certificate that is not trusted ends the command, since every attempt would fail.
        """
        tail = Tail()
        tail.agent.requests[0].lose(ResponseNeverReceived([Failure(error)]))
        assert tail.status == [1]
        certificate = f"{URL}: the server's certificate {problem}"
        assert tail.err.getvalue() == f"txsse tail: {certificate}; --insecure accepts any certificate\n"
        assert tail.clock.getDelayedCalls() == []

    @pytest.mark.parametrize(
        ("error", "problem"),
        [
            (ConnectionRefusedError(), f"no server listens at {URL}"),
            (DNSLookupError(), f"the host does not exist: {URL}"),
            (SSL.Error([("SSL routines", "", "wrong version number")]), "(wrong version number)"),
            (ConnectionDone(), "the server closed the connection without a reply"),
        ],
    )
    def test_no_connection(self, error: Exception, problem: str) -> None:
        """
        Other connection errors are reported and retried; if --timeout passes without a stream, the command
        fails.
        """
        tail = Tail("--timeout", "1")
        tail.agent.requests[0].lose(error)
        line = tail.err.getvalue()
        assert problem in line and "[(" not in line and line.endswith("; trying again in 3 s\n")
        tail.clock.advance(1)
        assert tail.status == [1]
        assert tail.err.getvalue().endswith(f"txsse tail: {URL} opened no stream in 1 s\n")

    @pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--count", "2"], 3)])
    def test_timeout(self, arguments: list[str], status: int) -> None:
        """
        When --timeout passes, the exit status is 0, or 3 if fewer than --count events were printed.
        """
        tail = Tail("--timeout", "5", *arguments)
        tail.reply().bring("data: a\n\n")
        tail.clock.advance(4.9)
        assert tail.status == []
        tail.clock.advance(0.2)
        assert tail.status == [status]

    def test_closed_pipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A closed pipe ends the command with exit status 0.
        """
        tail = Tail()

        def closed(text: str) -> int:
            raise BrokenPipeError

        duplicated: list[tuple[int, int]] = []
        monkeypatch.setattr(os, "dup2", lambda *numbers: duplicated.append(numbers))
        monkeypatch.setattr(tail.out, "write", closed)
        monkeypatch.setattr(tail.out, "fileno", lambda: 1)
        tail.reply().bring("data: a\n\n")
        assert tail.status == [0]
        assert duplicated[0][1] == 1
        os.close(duplicated[0][0])

    def test_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A full disk ends the command, and one line reports it.
        """
        out = io.StringIO()
        tail = Tail(out=out)

        def full(text: str) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(out, "write", full)
        tail.reply().bring("data: 1\n\n")
        assert tail.status == [1]
        assert tail.err.getvalue() == "txsse tail: stdout cannot be written: No space left on device\n"

    def test_closed_stdout(self) -> None:
        """
        If stdout is closed, the command fails without a request.
        """
        tail = Tail()
        arguments = argparse.ArgumentParser()
        TAIL.add_arguments(arguments)
        parsed, err = arguments.parse_args([URL]), io.StringIO()
        following = Deferred.fromCoroutine(follow(tail.clock, parsed, None, err, agent=tail.agent))
        assert outcome_of(following) == [1]
        assert err.getvalue() == "txsse tail: stdout is closed; events cannot be printed\n"
        assert len(tail.agent.requests) == 1


class StateTests:
    def test_resumed(self, tmp_path: Path) -> None:
        """
        A run with --state resumes after the last printed event of the previous run; unprinted events do not
        count.
        """
        state = tmp_path / "state"
        tail = Tail("--data", "--count", "2", "--state", str(state), "--last-event-id", "0")
        assert tail.agent.requests[0].headers["last-event-id"] == b"0"
        tail.reply().bring("id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n")
        assert (tail.out.getvalue(), state.read_text()) == ("a\nb\n", "2\n")
        again = Tail("--state", str(state))
        assert again.agent.requests[0].headers["last-event-id"] == b"2"

    def test_filtered_types(self, tmp_path: Path) -> None:
        """
        With --type, --state also contains the IDs of events that were not printed.
        """
        state = tmp_path / "state"
        tail = Tail("--type", "x", "--state", str(state))
        tail.reply().bring("id: 1\ndata: a\n\n")
        assert state.read_text() == "1\n"

    @pytest.mark.parametrize(("content", "status"), [(b"a\nb", 2), (b"\xff", 2), (None, 2)])
    def test_unreadable_file(self, tmp_path: Path, content: bytes | None, status: int) -> None:
        """
        An unreadable state file is reported with its name, and no request is sent.
        """
        state = tmp_path / "state"
        state.mkdir() if content is None else state.write_bytes(content)
        tail = Tail("--state", str(state))
        assert tail.status == [status]
        assert str(state) in tail.err.getvalue()
        assert tail.agent.requests == []

    def test_not_a_regular_file(self, tmp_path: Path) -> None:
        """
        A state file that is not a regular file is refused before the first request.
        """
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "link").symlink_to(tmp_path / "fifo")
        for path in (tmp_path / "fifo", tmp_path / "link", Path("/dev/null")):
            tail = Tail("--state", str(path))
            assert (tail.status, tail.agent.requests) == ([2], [])
            assert tail.err.getvalue() == f"txsse tail: {path}: it is not a regular file\n"

    def test_missing_directory(self, tmp_path: Path) -> None:
        """
        A state file in a missing directory ends the command before the first request.
        """
        tail = Tail("--state", str(tmp_path / "nowhere" / "state"))
        assert (tail.status, tail.agent.requests) == ([1], [])
        assert "No such file or directory" in tail.err.getvalue()

    @pytest.mark.parametrize(
        ("make", "problem"), [(lambda path: None, "No such file"), (os.mkfifo, "not a regular file")]
    )
    def test_unwritable_file(self, tmp_path: Path, make: Callable[[Path], None], problem: str) -> None:
        """
        A state file that becomes unwritable ends the command: the next run would resume from an old ID.
        """
        state = tmp_path / "gone" / "state"
        state.parent.mkdir()
        tail = Tail("--state", str(state))
        if make is os.mkfifo:
            make(state)
        else:
            state.parent.rmdir()
        tail.reply().bring("data: a\n\ndata: b\n\n")
        assert tail.status == [1]
        assert problem in tail.err.getvalue()
        assert len(tail.out.getvalue().splitlines()) == 1


SERVER = """
import sys
from twisted.internet import endpoints, reactor, task
from twisted.web.server import Site
from txsse import SSEResource

async def count(channel):
    number = int(channel.last_event_id or 0)
    while True:
        number += 1
        channel.send(str(number), id=str(number))
        await task.deferLater(reactor, 0.01)

listening = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Site(SSEResource(count)))
listening.addCallback(lambda port: print(port.getHost().port, flush=True))
reactor.callLater(60, reactor.stop)
reactor.run()
"""


@pytest.fixture(scope="module")
@needs("process")
def url() -> Iterator[str]:
    """
    Start a server that sends a number every 10 ms, and return its URL.
    """
    with start(python("-c", SERVER)) as program:
        [port] = program.wait_for(r"^(\d+)$")
        yield f"http://127.0.0.1:{port}/"


@pytest.mark.process
class ProcessTests:
    def run(self, url: str, *arguments: str) -> list[str | Path]:
        return python("-m", "txsse", "tail", url, *arguments)

    def test_count(self, url: str) -> None:
        """
        The command prints the events, and ends after --count of them.
        """
        done = finish(self.run(url, "--data", "--count", "3"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n2\n3\n", "")

    @pytest.mark.parametrize(
        ("redirection", "said"),
        [
            (">&-", "txsse tail: stdout is closed; events cannot be printed\n"),
            (">/dev/full", "txsse tail: stdout cannot be written: No space left on device\n"),
        ],
    )
    def test_unwritable_stdout(self, url: str, redirection: str, said: str) -> None:
        """
        If events cannot be printed, one line and the exit status report it.
        """
        line = f"{shlex.join([sys.executable, '-m', 'txsse', 'tail', url])} {redirection}"
        done = finish(["sh", "-c", line])
        assert (done.returncode, done.stderr) == (1, said)

    def test_closed_pipe(self, url: str) -> None:
        """
        When the reader closes the pipe, the command ends without an error.
        """
        line = f"{shlex.join(map(str, self.run(url, '--data')))} | head -n 1"
        done = finish(["bash", "-o", "pipefail", "-c", line])
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")

    def test_interrupted(self, url: str) -> None:
        """
        Ctrl-C ends the command without an error.
        """
        with start(self.run(url, "--data")) as program:
            program.wait_for("^1$")
            assert (program.stop(signal.SIGINT), program.err) == (0, "")

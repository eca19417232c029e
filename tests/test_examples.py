"""
The examples, run as a user runs them, and read with what the standard library has.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from itertools import islice
from pathlib import Path
from threading import Timer
from typing import ClassVar, NamedTuple
from urllib.parse import SplitResult, urlencode, urlsplit

import pytest

from txsse import EventStreamParser, ServerSentEvent

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"), key=lambda path: path.name)

# Far beyond what any step takes, so that only a hang runs into it.
PATIENCE = 30.0


@contextmanager
def running(name: str) -> Iterator[SplitResult]:
    """
    Run an example on a free port, and stop it behind the tests.
    """
    process = subprocess.Popen(
        [sys.executable, f"examples/{name}", "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    watchdog = Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        watchdog.cancel()
        opened = re.fullmatch(r"Open (https?://127\.0\.0\.1:[0-9]+/)\n", line)
        if opened is not None:
            yield urlsplit(opened[1])
        process.terminate()
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert opened is not None, f"{name} printed {line!r}, and to stderr: {errors}"
    assert output == "", f"{name} printed more than its address"
    assert "Traceback" not in errors, errors


class Answer(NamedTuple):
    """
    What is left of a response once it is read.
    """

    status: int
    content_type: str
    body: bytes


def fetch(
    url: SplitResult, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> Answer:
    """
    Send a request, and read its response to the end.
    """
    with closing(connect(url)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers["Content-Type"], response.read())


def connect(url: SplitResult) -> HTTPConnection:
    """
    Make a connection that speaks HTTP/1.1.
    """
    assert url.hostname is not None
    if url.scheme == "https":
        return HTTPSConnection(url.hostname, url.port, timeout=PATIENCE, context=trust(url))
    return HTTPConnection(url.hostname, url.port, timeout=PATIENCE)


def trust(url: SplitResult) -> ssl.SSLContext:
    """
    Trust the certificate that a server shows now, and check it against the host name from then on.
    """
    assert url.hostname is not None and url.port is not None
    return ssl.create_default_context(cadata=ssl.get_server_certificate((url.hostname, url.port)))


class Stream:
    """
    An event stream; iterating over it reads its events.
    """

    def __init__(self, url: SplitResult, path: str, **headers: str) -> None:
        self.parser = EventStreamParser()
        self._connection = connect(url)
        self._connection.request("GET", path, headers={"Accept": "text/event-stream", **headers})
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        assert self._response.headers["Content-Type"] == "text/event-stream"
        self._events = self._read()

    def __iter__(self) -> Iterator[ServerSentEvent]:
        return self._events

    def take(self, count: int) -> list[ServerSentEvent]:
        """
        Read so many events.
        """
        return list(islice(self._events, count))

    def close(self) -> None:
        """
        Go away.
        """
        self._connection.close()

    def _read(self) -> Iterator[ServerSentEvent]:
        while chunk := self._response.read1():
            yield from self.parser.feed(chunk)


def read_http2(url: SplitResult, path: str, count: int) -> list[ServerSentEvent]:
    """
    Read so many events of a stream by HTTP/2.
    """
    h2 = pytest.importorskip("h2.connection", reason="HTTP/2 needs h2: pip install -e .[test]")
    context = trust(url)
    context.set_alpn_protocols(["h2"])
    parser = EventStreamParser()
    events: list[ServerSentEvent] = []
    with (
        socket.create_connection((url.hostname, url.port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.selected_alpn_protocol() == "h2"
        connection = h2.H2Connection()
        connection.initiate_connection()
        head = {":method": "GET", ":scheme": "https", ":authority": url.netloc, ":path": path}
        connection.send_headers(1, list(head.items()), end_stream=True)
        while len(events) < count:
            secure.sendall(connection.data_to_send())
            received = secure.recv(65536)
            assert received, "the server closed the connection"
            for event in connection.receive_data(received):
                events += parser.feed(getattr(event, "data", b""))
    return events


def data(events: list[ServerSentEvent]) -> list[str]:
    """
    Return the data of events.
    """
    return [event.data for event in events]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
class FileTests:
    def test_length(self, path: Path) -> None:
        """
        An example is short enough to be read at a glance.
        """
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60

    def test_first_line(self, path: Path) -> None:
        """
        The first line of an example says how to run it.
        """
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith(("#", '"""'))
        assert f"examples/{path.name}" in first


class Example:
    """
    An example that serves a page at ``/`` which shows its streams.

    :cvar name: its file.
    :cvar needs: the packages that it needs besides txsse.
    """

    name: ClassVar[str]
    needs: ClassVar[list[str]] = []

    def test_page(self, url: SplitResult) -> None:
        """
        The page reads a stream, works in the dark and loads nothing from elsewhere.
        """
        status, content_type, body = fetch(url, "/")
        page = body.decode("utf-8")
        assert status == 200
        assert content_type.startswith("text/html")
        assert '<meta charset="utf-8">' in page
        assert "color-scheme" in page
        assert "new EventSource(" in page
        assert not re.search("https?://", page)


@pytest.fixture(scope="class")
def url(request: pytest.FixtureRequest) -> Iterator[SplitResult]:
    """
    Where the example of a class of tests runs.
    """
    for package in request.cls.needs:
        pytest.importorskip(package, reason=f"this example needs {package}: pip install -e .[test]")
    with running(request.cls.name) as url:
        yield url


@pytest.fixture
def open_stream(url: SplitResult) -> Iterator[Callable[..., Stream]]:
    """
    Open streams, and close them behind the test.
    """
    with ExitStack() as streams:
        yield lambda path, **headers: streams.enter_context(closing(Stream(url, path, **headers)))


class ClockTests(Example):
    name = "clock.py"

    def test_client_goes(self, open_stream: Callable[..., Stream]) -> None:
        """
        The time comes every second, also to those who stay when another goes.
        """
        first, second = open_stream("/events"), open_stream("/events")
        first.take(1)
        first.close()
        times = data(second.take(2))
        assert len(times) == 2
        assert all(re.fullmatch("[0-9]{2}:[0-9]{2}:[0-9]{2}", time) for time in times)


class EventsTests(Example):
    name = "events.py"

    def test_reconnect(self, open_stream: Callable[..., Stream]) -> None:
        """
        The stream ends after ten events of two types, and goes on behind the last one.
        """
        stream = open_stream("/events")
        events = list(stream)
        rest = open_stream("/events", **{"Last-Event-ID": stream.parser.last_event_id}).take(2)
        assert stream.parser.retry == 1.0
        assert [event.id for event in events] == [str(number) for number in range(1, 11)]
        assert [event.event for event in events] == ["tick", "tick", "tick", "quote"] * 2 + ["tick", "tick"]
        assert json.loads(events[6].data) == {"number": 7, "square": 49}
        assert events[3].data == "古池や\n蛙飛びこむ\n水の音"
        assert [(event.id, event.event) for event in rest] == [("11", "tick"), ("12", "quote")]
        assert rest[1].data == "Über allen Gipfeln\nist Ruh"

    def test_strange_last_event_id(self, open_stream: Callable[..., Stream]) -> None:
        """
        Whoever resumes from an id that the example never gave begins at the beginning.
        """
        [event] = open_stream("/events", **{"Last-Event-ID": "yesterday"}).take(1)
        assert event.id == "1"


class ProgressTests(Example):
    name = "progress.py"

    def test_done(self, open_stream: Callable[..., Stream]) -> None:
        """
        The job tells every percent, then its result; then the stream is over.
        """
        *reports, result = open_stream("/job")
        assert [(report.event, int(report.data)) for report in reports] == [
            ("message", percent) for percent in range(1, 101)
        ]
        assert (result.event, result.data) == ("done", "There are 41,538 primes below 500,000.")

    def test_client_goes(self, open_stream: Callable[..., Stream]) -> None:
        """
        A client may go in the midst of the job.
        """
        stream = open_stream("/job")
        stream.take(3)
        stream.close()
        assert data(open_stream("/job").take(3)) == ["1", "2", "3"]


class KleinTests(Example):
    name = "klein_route.py"
    needs: ClassVar = ["klein"]

    def test_stays_open(self, open_stream: Callable[..., Stream]) -> None:
        """
        A route that returns a resource and one that upgrades its request stay open alike.
        """
        for stream in [open_stream("/clock"), open_stream("/clock/1")]:
            assert len(stream.take(2)) == 2

    @pytest.mark.parametrize("path", ["/clock", "/clock/1"])
    def test_refused(self, url: SplitResult, path: str) -> None:
        """
        A request that does not become a stream has its answer, and only that.
        """
        assert fetch(url, path, Accept="text/html").status == 406
        assert fetch(url, path, "HEAD").status == 200


class WSGITests(Example):
    name = "wsgi_threads.py"
    needs: ClassVar = ["flask"]

    def test_say(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        What is said in a thread arrives on every stream that is open, and one that is gone is no obstacle.
        """
        text = "Grüße 👋\n«здравствуйте»"
        streams = [open_stream("/events") for _ in range(4)]
        streams[0].close()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert fetch(url, "/say", "POST", urlencode({"text": text}), **form).status == 204
        assert [data(stream.take(1)) for stream in streams[1:]] == [[text]] * 3

    def test_other_paths(self, url: SplitResult) -> None:
        """
        Flask has all of the tree but the stream.
        """
        assert fetch(url, "/nothing/here").status == 404
        assert fetch(url, "/say").status == 405


class TLSTests(Example):
    name = "tls_http2.py"
    needs: ClassVar = ["OpenSSL", "h2"]

    def test_protocols(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        A client that asks for HTTP/2 gets the stream by that, and one that does not by HTTP/1.1.
        """
        stream = open_stream("/events")
        new, old = data(read_http2(url, "/events", 2)), data(stream.take(2))
        assert len(new) == len(old) == 2
        assert all(text.endswith("the protocol is HTTP/2.") for text in new)
        assert all(text.endswith("the protocol is HTTP/1.1.") for text in old)


class MultipleTreesTests(Example):
    name = "multiple_trees.py"

    def test_hosts(self, open_stream: Callable[..., Stream]) -> None:
        """
        Every branch and every host has its own stream, with the options that all share.
        """
        dice = open_stream("/a/events")
        coin = open_stream("/b/events")
        clock = open_stream("/events", Host="clock.localhost")
        assert set(data(dice.take(2))) <= set("123456")
        assert set(data(coin.take(2))) <= {"heads", "tails"}
        assert ":" in data(clock.take(2))[1]
        assert {stream.parser.retry for stream in (dice, coin, clock)} == {2.0}

    def test_other_paths(self, url: SplitResult) -> None:
        """
        No host has the streams of another.
        """
        assert fetch(url, "/events").status == 404
        assert fetch(url, "/a/events", Host="clock.localhost").status == 404

"""
The examples, run as a user runs them, and read with a client of the standard library.
"""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from itertools import islice, pairwise
from pathlib import Path
from threading import Thread
from typing import ClassVar, NamedTuple
from urllib.parse import SplitResult, urlencode, urlsplit

import pytest

from tests.needs import needs
from tests.processes import finish, python, start
from tests.waiting import PATIENCE
from txsse import EventStreamParser, ServerSentEvent

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"), key=lambda path: path.name)


@contextmanager
def running(name: str, *arguments: str) -> Iterator[SplitResult]:
    """
    Run an example on a free port, yield its URL, and stop it afterwards.

    :param arguments: its arguments after the port.
    """
    with start(python(f"examples/{name}", "0", *arguments)) as program:
        [address] = program.wait_for(r"^Open (https?://127\.0\.0\.1:[0-9]+/)$")
        yield urlsplit(address)
        program.stop()
        assert program.out == f"Open {address}\n", f"{name} printed more than its address"
        assert "Traceback" not in program.err, program.err


class Answer(NamedTuple):
    """
    A response that has been read to its end.
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
    Return a connection for HTTP/1.1.
    """
    assert url.hostname is not None
    if url.scheme == "https":
        return HTTPSConnection(url.hostname, url.port, timeout=PATIENCE, context=trust(url))
    return HTTPConnection(url.hostname, url.port, timeout=PATIENCE)


def trust(url: SplitResult) -> ssl.SSLContext:
    """
    Trust the certificate that a server has now, and verify it and the host name from then on.
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
        self.headers = self._response.headers
        self._events = self._read()

    def __iter__(self) -> Iterator[ServerSentEvent]:
        return self._events

    def take(self, count: int) -> list[ServerSentEvent]:
        """
        Read this many events.
        """
        return list(islice(self._events, count))

    def close(self) -> None:
        """
        Disconnect.
        """
        self._connection.close()

    def _read(self) -> Iterator[ServerSentEvent]:
        while chunk := self._response.read1():
            yield from self.parser.feed(chunk)


def read_http2(url: SplitResult, path: str, count: int) -> list[ServerSentEvent]:
    """
    Read this many events of a stream over HTTP/2.
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
        An example has at most 64 lines.
        """
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 64

    def test_first_line(self, path: Path) -> None:
        """
        The first line of an example says how to run it.
        """
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith(("#", '"""'))
        assert f"examples/{path.name}" in first


class Example:
    """
    Tests of an example that serves a page at ``/``, which shows its streams.

    :cvar name: its file.
    :cvar needs: the packages that it needs besides txsse.
    """

    name: ClassVar[str]
    needs: ClassVar[list[str]] = []

    def test_page(self, url: SplitResult) -> None:
        """
        The example's page reads a stream, supports a dark colour scheme and loads nothing from other hosts.
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
@needs("process")
def url(request: pytest.FixtureRequest) -> Iterator[SplitResult]:
    """
    Run the example of a class of tests, and return its URL.
    """
    for package in request.cls.needs:
        pytest.importorskip(package, reason=f"this example needs {package}: pip install -e .[test]")
    with running(request.cls.name) as url:
        yield url


@pytest.fixture
def open_stream(url: SplitResult) -> Iterator[Callable[..., Stream]]:
    """
    Return a function that opens streams; after the test they are closed.
    """
    with ExitStack() as streams:
        yield lambda path, **headers: streams.enter_context(closing(Stream(url, path, **headers)))


class ClockTests(Example):
    name = "clock.py"

    def test_client_disconnects(self, open_stream: Callable[..., Stream]) -> None:
        """
        The clock example sends the time every second, also after another client has disconnected.
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
        The events example ends its stream after ten events of two types, and a client resumes after the last
        one.
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

    def test_foreign_last_event_id(self, open_stream: Callable[..., Stream]) -> None:
        """
        The events example starts from the beginning for a last event ID that it never sent.
        """
        [event] = open_stream("/events", **{"Last-Event-ID": "yesterday"}).take(1)
        assert event.id == "1"


class ProgressTests(Example):
    name = "progress.py"

    def test_done(self, open_stream: Callable[..., Stream]) -> None:
        """
        The progress example sends every percent, then the result, and then ends the stream.
        """
        *reports, result = open_stream("/job")
        assert [(report.event, int(report.data)) for report in reports] == [
            ("message", percent) for percent in range(1, 101)
        ]
        assert (result.event, result.data) == ("done", "There are 41,538 primes below 500,000.")

    def test_client_disconnects(self, open_stream: Callable[..., Stream]) -> None:
        """
        The progress example serves the next client after one that disconnected during the job.
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
        The Klein example keeps streams open both in a route that returns a resource and in one that upgrades
        its request.
        """
        for stream in [open_stream("/clock"), open_stream("/clock/1")]:
            assert len(stream.take(2)) == 2

    @pytest.mark.parametrize("path", ["/clock", "/clock/1"])
    def test_refused(self, url: SplitResult, path: str) -> None:
        """
        The Klein example refuses a request that accepts no stream with 406, and answers HEAD.
        """
        assert fetch(url, path, Accept="text/html").status == 406
        assert fetch(url, path, "HEAD").status == 200


class WSGITests(Example):
    name = "wsgi_threads.py"
    needs: ClassVar = ["flask"]

    def test_say(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        The WSGI example delivers a message that a thread sends to all open streams, also after a client has
        disconnected.
        """
        text = "Grüße 👋\n«здравствуйте»"
        streams = [open_stream("/events") for _ in range(4)]
        streams[0].close()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert fetch(url, "/say", "POST", urlencode({"text": text}), **form).status == 204
        assert [data(stream.take(1)) for stream in streams[1:]] == [[text]] * 3

    def test_other_paths(self, url: SplitResult) -> None:
        """
        The WSGI example passes all paths but the stream's to Flask.
        """
        assert fetch(url, "/nothing/here").status == 404
        assert fetch(url, "/say").status == 405


class TLSTests(Example):
    name = "tls_http2.py"
    needs: ClassVar = ["OpenSSL", "h2"]

    def test_protocols(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        The TLS example serves the stream over HTTP/2 to a client that offers it, and otherwise over HTTP/1.1.
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
        In the example with several trees, each branch and each host has its own stream, with shared options.
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
        In the example with several trees, no host serves the streams of another.
        """
        assert fetch(url, "/events").status == 404
        assert fetch(url, "/a/events", Host="clock.localhost").status == 404


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class ChatTests(Example):
    name = "chat.py"

    def say(self, url: SplitResult, name: str, text: str, **headers: str) -> Answer:
        """
        Post a message, and return the response.
        """
        return fetch(url, "/say", "POST", urlencode({"name": name, "text": text}), **FORM, **headers)

    def messages(self, stream: Stream, count: int) -> list[ServerSentEvent]:
        """
        Read this many messages, and skip the presence events.
        """
        return list(islice((event for event in stream if event.event == "message"), count))

    def test_message(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        The chat example sends a message to all clients with the id that its response names, also to a client
        that connects later.
        """
        streams = [open_stream("/events") for _ in range(3)]
        streams[0].close()
        answer = self.say(url, "Ädä", "Grüße 👋\n«здравствуйте»")
        assert answer.status == 200
        late = open_stream("/events?lastEventId=earliest")
        for stream in [*streams[1:], late]:
            message = json.loads(next(event.data for event in stream if event.id == answer.body.decode()))
            assert (message["name"], message["text"]) == ("Ädä", "Grüße 👋\n«здравствуйте»")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", message["time"])

    def test_resumed(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        The chat example first sends a client that resumes the messages that it missed.
        """
        stream = open_stream("/events")
        first = self.say(url, "a", "one").body.decode()
        assert self.messages(stream, 1)[0].id == first
        stream.close()
        missed = [self.say(url, "a", text).body.decode() for text in ("two", "three")]
        back = open_stream("/events?lastEventId=earliest", **{"Last-Event-ID": first})
        assert [event.id for event in self.messages(back, 2)] == missed

    def test_presence(self, open_stream: Callable[..., Stream]) -> None:
        """
        The chat example announces each client that connects or disconnects, with the number of clients.
        """
        presence = (json.loads(event.data) for event in open_stream("/events") if event.event == "presence")
        # Clients of earlier tests may still be disconnecting.
        alone = next(presence)["people"]
        while alone > 1:
            alone = next(presence)["people"]
        other = open_stream("/events")
        assert next(presence)["people"] == 2
        other.close()
        assert next(presence)["people"] == 1

    @pytest.mark.parametrize(
        ("name", "text", "headers", "status"),
        [
            ("", "x", {}, 400),
            ("a", " ", {}, 400),
            ("a", "x" * 4001, {}, 413),
            ("a" * 121, "x", {}, 413),
            ("a", "x", {"Sec-Fetch-Site": "cross-site"}, 403),
            ("a", "x", {"Sec-Fetch-Site": "same-site"}, 403),
        ],
    )
    def test_refused(
        self, url: SplitResult, name: str, text: str, headers: dict[str, str], status: int
    ) -> None:
        """
        The chat example does not publish a message that is empty, too long, or posted by another site.
        """
        assert self.say(url, name, text, **headers).status == status

    def test_malformed_request(self, url: SplitResult) -> None:
        """
        The chat example survives an empty form and bytes that are not UTF-8.
        """
        assert fetch(url, "/say", "POST", "", **FORM).status == 400
        assert fetch(url, "/say", "POST", "name=%FF&text=%ED%A0%80", **FORM).status == 200
        assert fetch(url, "/say").status == 405


class DevicesTests(Example):
    name = "devices.py"

    def test_state_and_changes(self, open_stream: Callable[..., Stream]) -> None:
        """
        The devices example sends the newest report of each device, without an ID, and then each change.
        """
        events = open_stream("/events").take(26)
        reports = [json.loads(event.data) for event in events]
        assert {report["id"] for report in reports[:24]} == set(range(24))
        assert [event.id for event in events[:24]] == [""] * 24
        assert all(event.id for event in events[24:])


class DashboardTests(Example):
    name = "dashboard.py"

    def test_prices(self, open_stream: Callable[..., Stream]) -> None:
        """
        The dashboard example sends each price again and again, with one more value each time.
        """
        updates = [json.loads(text) for text in data(open_stream("/events").take(24))]
        assert len({update["name"] for update in updates}) == 8
        gold = [update["prices"] for update in updates if update["name"] == "Gold"]
        assert len(gold) == 3
        for old, new in pairwise(gold):
            assert new[-len(old) - 1 : -1] == old[-99:]

    def test_late_client(self, open_stream: Callable[..., Stream]) -> None:
        """
        The dashboard example sends all prices at once to a client that connects later.
        """
        updates = [json.loads(text) for text in data(open_stream("/events?lastEventId=earliest").take(8))]
        assert len({update["name"] for update in updates}) == 8

    @pytest.mark.process
    def test_slow_reader(self) -> None:
        """
        The dashboard example skips old prices for a slow reader, continues with the newest of each, and does
        not disconnect it.
        """
        parser = EventStreamParser()
        gold: list[list[float]] = []
        with running(self.name, "0") as url, socket.socket() as client:
            client.settimeout(PATIENCE)
            # A small buffer, so that the server soon fills it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect((url.hostname, url.port))
            # Over HTTP/1.0 the body has no framing.
            client.sendall(b"GET /events HTTP/1.0\r\n\r\n")
            pause = 0.5
            # A price has a hundred values, and each new one replaces the oldest: if more than one was
            # replaced, the client missed an event.
            while not any(len(old) == 100 and old[1:] != new[:-1] for old, new in pairwise(gold)):
                # On a busy machine it takes longer to fill the buffers.
                pause *= 2
                time.sleep(pause)
                body = b""
                while len(body) < 8_000_000 and select.select([client], [], [], 0)[0]:
                    part = client.recv(1_000_000)
                    assert part, "the server disconnected the slow reader"
                    body += part
                # The parser ignores the lines of the head, which are fields that it does not know.
                updates = [json.loads(text) for text in data(parser.feed(body))]
                gold = gold[-1:] + [each["prices"] for each in updates if each["name"] == "Gold"]


class ResumeTests(Example):
    name = "resume.py"

    def test_resumed(self, open_stream: Callable[..., Stream]) -> None:
        """
        The resume example sends the next number to a client that reconnects soon, and confirms its last event
        ID.
        """
        stream = open_stream("/events")
        *_, seen = stream.take(2)
        stream.close()
        open_stream("/events").take(2)
        back = open_stream("/events", **{"Last-Event-ID": seen.id or ""})
        assert back.headers["Last-Event-ID"] == seen.id
        first = int(seen.data)
        assert data(back.take(3)) == [str(first + 1), str(first + 2), str(first + 3)]

    def test_gap(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        The resume example keeps ten numbers; a client whose position is gone is notified of the gap, and gets
        these ten.
        """
        live = open_stream("/events")
        while int(data(live.take(1))[0]) < 11:
            pass
        for last in ("earliest", "long ago"):
            stream = open_stream("/events", **{"Last-Event-ID": last})
            assert stream.headers["Last-Event-ID"] == "earliest"
            if last == "long ago":
                [reset] = stream.take(1)
                assert (reset.event, reset.data) == ("stream-reset", '{"replayed_from":"earliest"}')
            numbers = [int(number) for number in data(stream.take(10))]
            assert numbers == list(range(numbers[0], numbers[0] + 10))
            assert numbers[0] > 1


class AuthorisedTopicsTests(Example):
    name = "authorised_topics.py"

    @pytest.mark.parametrize(
        ("path", "headers"),
        [("/by-cookie", {"Cookie": "token=a1"}), ("/by-header", {"Authorization": "Bearer a1"})],
    )
    def test_granted(self, open_stream: Callable[..., Stream], path: str, headers: dict[str, str]) -> None:
        """
        The authorisation example sends a user the public updates and that user's own, and none of other
        users.
        """
        texts = data(open_stream(path, **headers).take(6))
        assert [re.sub("[0-9:]+, ", "", text) for text in texts] == ["for all", "only for ada"] * 3

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/by-cookie", {}, 401),
            ("/by-cookie", {"Cookie": "token="}, 401),
            ("/by-cookie", {"Cookie": "token=x"}, 403),
            ("/by-header", {}, 401),
            ("/by-header", {"Authorization": "Bearer x"}, 403),
            ("/by-header", {"Authorization": "a1x"}, 403),
        ],
    )
    def test_refused(self, url: SplitResult, path: str, headers: dict[str, str], status: int) -> None:
        """
        The authorisation example refuses a client without a token, or with an unknown one.
        """
        assert fetch(url, path, **headers).status == status


class LogOutTests(Example):
    name = "log_out.py"

    def log_in(self, url: SplitResult, name: str) -> dict[str, str]:
        """
        Send the form, and return the session's cookie as a request's header.
        """
        with closing(connect(url)) as connection:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/log-in", urlencode({"name": name}), form)
            response = connection.getresponse()
            assert (response.status, response.headers["Location"]) == (302, "/")
            cookie, *attributes = response.headers["Set-Cookie"].split("; ")
            assert {"httponly", "samesite=strict", "path=/"} <= {each.lower() for each in attributes}
            return {"Cookie": cookie}

    def test_log_out(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        In the example of a log-out, all streams of the session end, its next request gets 204, and another
        session of the same user keeps its stream.
        """
        ada, other = self.log_in(url, "Ada"), self.log_in(url, "Ada")
        streams = [open_stream("/events", **ada) for _ in range(2)]
        kept = open_stream("/events", **other)
        for stream in (*streams, kept):
            assert data(stream.take(1))[0].startswith("You are Ada, in ")
        assert fetch(url, "/log-out", "POST", **ada).status == 302
        for stream in streams:
            # The response is complete: an incomplete one raises an error.
            assert len(stream.take(10)) < 10
            assert stream.parser.retry == 1.0
        assert fetch(url, "/events", **ada) == Answer(204, fetch(url, "/events").content_type, b"")
        assert "You are Ada, in 1 tabs." in data(kept.take(2))
        assert fetch(url, "/log-out", "POST", **ada).status == 302

    def test_log_in_again(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        In the example of a log-out, a new log-in in the same browser ends the streams of the old session.
        """
        ada = self.log_in(url, "Ada")
        stream = open_stream("/events", **ada)
        stream.take(1)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert fetch(url, "/log-in", "POST", urlencode({"name": "Eve"}), **form, **ada).status == 302
        assert len(stream.take(10)) < 10

    @pytest.mark.parametrize("cookie", [{}, {"Cookie": "session="}, {"Cookie": "session=x"}])
    def test_refused(self, url: SplitResult, cookie: dict[str, str]) -> None:
        """
        The example of a log-out refuses a client without a session with 204, which stops a browser.
        """
        assert fetch(url, "/events", **cookie).status == 204

    def test_other_site(self, url: SplitResult, open_stream: Callable[..., Stream]) -> None:
        """
        The example of a log-out refuses a form that another site's page sends, and no stream ends.
        """
        ada = self.log_in(url, "Ada")
        stream = open_stream("/events", **ada)
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert fetch(url, "/log-out", "POST", **ada, **foreign).status == 403
        assert fetch(url, "/log-in", "POST", **ada, **foreign).status == 403
        assert len(stream.take(2)) == 2


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """
    Run an example that ends by itself.
    """
    return finish(python(*arguments), env=environment)


@pytest.mark.process
class FollowTests:
    def test_clock(self) -> None:
        """
        The follow example prints the events of a stream.
        """
        with running("clock.py") as url:
            done = run("examples/follow.py", f"{url.geturl()}events", "2")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"(\d\d:\d\d:\d\d\n){2}", done.stdout)

    def test_no_stream(self) -> None:
        """
        The follow example prints an error for a URL that serves a page and no stream.
        """
        with running("clock.py") as url:
            done = run("examples/follow.py", url.geturl())
        assert (done.returncode, done.stderr) == (1, "")
        assert "not text/event-stream" in done.stdout


@pytest.mark.process
class RelayTests:
    def test_clock(self) -> None:
        """
        The relay example passes the events of the clock example on to its own clients.
        """
        with running("clock.py") as url, running("relay.py", f"{url.geturl()}events") as relay:
            assert b"EventSource" in fetch(relay, "/").body
            with closing(connect(relay)) as connection:
                connection.request("GET", "/events", headers={"Accept": "text/event-stream"})
                response = connection.getresponse()
                parser = EventStreamParser()
                events: list[ServerSentEvent] = []
                while len(events) < 2:
                    events += parser.feed(response.read1())
            assert all(re.fullmatch(r"\d\d:\d\d:\d\d", event.data) for event in events)
            assert events[0].id != events[1].id != ""


@pytest.mark.process
class LanguageModelTests:
    def test_stub(self) -> None:
        """
        The example for language models prints the whole answer of its stub.
        """
        done = run("examples/llm_stream.py", "Why?")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "You asked: Why? I am a stub and know no answer. \n"

    def test_other_server(self) -> None:
        """
        The example for language models sends its key to another server, and does not repeat the request if
        the answer breaks off.
        """
        requests: list[bytes] = []

        def serve(listening: socket.socket) -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    request = b""
                    while b"}]}" not in request:
                        request += connection.recv(65536)
                    requests.append(request)
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                        b'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
                    )

        with socket.create_server(("127.0.0.1", 0)) as listening:
            Thread(target=serve, args=(listening,), daemon=True).start()
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            done = run("examples/llm_stream.py", "Why?", url, API_KEY="secret")
        assert done.returncode == 1
        assert done.stdout == "Half"
        assert "No answer" in done.stderr and "Traceback" not in done.stderr
        assert len(requests) == 1
        assert requests[0].startswith(b"POST /v1 ")
        assert b"\r\nauthorization: bearer secret\r\n" in requests[0].lower()


@pytest.mark.process
class TickerTests:
    def test_tests(self) -> None:
        """
        The tests of the example for testing pass.
        """
        done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/test_ticker.py", CI="")
        assert done.returncode == 0, done.stdout
        assert "2 passed" in done.stdout

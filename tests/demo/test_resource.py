"""
The demo's web tree, over real HTTP on a fake network; and its page as text. What the page does in a browser
is for tests/browser.
"""

from __future__ import annotations

import html
import json
import re
import time
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from itertools import count
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.fakes import Client, Wire
from txsse.demo.resource import Demo
from txsse.hub.hub import Hub
from txsse.journal.memory import MemoryJournal
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser
from txsse.server.channel import SSEChannel
from txsse.server.resource import SSEResource

PAGE = files("txsse.demo").joinpath("page.html").read_text(encoding="utf-8")

STREAMS = ["clock", "events", "progress", "reconnect", "hub"]

EVERY_PATH = [
    *("/", "/streams", "/streams/clock", "/streams/hub", "/streams/close"),
    *("/hub", "/hub/publish", "/nothing", "/streams/nothing", "//"),
]


@pytest.fixture
def client(plain: Wire) -> Client:
    return plain.connect(Demo(plain.reactor))


def ask(client: Client, *lines: str, body: str = "") -> Client:
    """
    Send a request of these lines and no others.
    """
    client.reset_response()
    fields = [f"Content-Length: {len(body)}"] if body else []
    client.say("\r\n".join([*lines, *fields, "", body]).encode("latin-1"))
    return client


def post(client: Client, body: str, *fields: str) -> Client:
    form = "Content-Type: application/x-www-form-urlencoded"
    return ask(client, "POST /streams/close HTTP/1.1", *fields, form, body=body)


class HostTests:
    @pytest.mark.parametrize("path", EVERY_PATH)
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
    def test_another_site(self, client: Client, method: str, path: str) -> None:
        """
        A request that names another host gets 403 on every path.
        """
        ask(client, f"{method} {path} HTTP/1.1", "Host: rebound.example.org:8080")
        assert client.status == 403
        client.disconnect()

    def test_sentence(self, client: Client) -> None:
        """
        It says what to do instead, in one plain sentence.
        """
        ask(client, "GET / HTTP/1.1", "Host: rebound.example.org")
        assert client.headers["content-type"] == "text/plain; charset=utf-8"
        [sentence] = client.body.decode().splitlines()
        assert "localhost" in sentence
        client.disconnect()

    def test_no_host(self, client: Client) -> None:
        """
        So does HTTP/1.1 without Host.
        """
        assert ask(client, "GET / HTTP/1.1").status == 403
        client.disconnect()

    def test_two_hosts(self, client: Client) -> None:
        """
        And HTTP/1.1 with two.
        """
        assert ask(client, "GET / HTTP/1.1", "Host: localhost", "Host: example.org").status in (400, 403)
        client.disconnect()

    @pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "demo.localhost:1"])
    def test_this_machine(self, client: Client, host: str) -> None:
        """
        Under its own names the demo answers.
        """
        assert ask(client, "GET / HTTP/1.1", f"Host: {host}").status == 200
        client.disconnect()

    def test_http_1_0(self, client: Client) -> None:
        """
        HTTP/1.0 needs no Host.
        """
        assert ask(client, "GET / HTTP/1.0").status == 200
        client.disconnect()


class PageTests:
    def test_served(self, client: Client) -> None:
        """
        The page is there, as it stands in the file.
        """
        client.request("/")
        assert client.status == 200
        assert client.headers["content-type"] == "text/html; charset=utf-8"
        assert client.body.decode() == PAGE
        client.disconnect()

    def test_head(self, client: Client) -> None:
        """
        HEAD gets the headers alone.
        """
        client.request("/", method="HEAD")
        assert (client.status, client.body) == (200, b"")
        client.disconnect()

    @pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
    def test_another_method(self, client: Client, method: str) -> None:
        """
        Only GET and HEAD are allowed, and the answer says so.
        """
        client.request("/", method=method)
        assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")
        client.disconnect()

    def test_policy(self, client: Client) -> None:
        """
        The browser is to run this one script, apply this one style, and talk to this server alone.
        """
        policy = dict(
            directive.split(" ", 1)
            for directive in client.request("/").headers["content-security-policy"].split("; ")
        )

        def hash_of(element: str) -> str:
            [text] = re.findall(f"<{element}>(.*?)</{element}>", client.body.decode(), re.DOTALL)
            return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

        assert policy == {
            "default-src": "'none'",
            "script-src": hash_of("script"),
            "style-src": hash_of("style"),
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
            "connect-src": "'self'",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        client.disconnect()

    @pytest.mark.parametrize("path", ["/", "/streams/clock", "/streams/hub", "/hub/publish", "/nothing"])
    def test_headers(self, client: Client, path: str) -> None:
        """
        No answer's type is guessed at, and no address is passed on.
        """
        client.request(path)
        assert client.headers["x-content-type-options"] == "nosniff"
        assert client.headers["referrer-policy"] == "no-referrer"
        client.disconnect()

    def test_asks_nobody_else(self) -> None:
        """
        The page holds no address of another server, but the name of a namespace.
        """
        assert set(re.findall(r"(?:https?:)?//[\w.]+[\w/.]*", PAGE)) == {"http://www.w3.org/2000/svg"}
        assert not re.search(r"<(link(?! rel=\"icon\" href=\"data:)|img|iframe)|<script |@import|url\(", PAGE)

    def test_holds_to_its_policy(self) -> None:
        """
        Neither attributes nor code do what the policy forbids.
        """
        assert not re.search(r"\son\w+=|\sstyle=", PAGE)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", PAGE)

    def test_well_formed(self) -> None:
        """
        Every element that is opened is closed, and every id is there once.
        """
        parser = Elements()
        parser.feed(PAGE)
        assert parser.open == []
        assert len(parser.ids) == len(set(parser.ids))

    @pytest.mark.parametrize(
        "name",
        [
            *(f"stream-{name}" for name in STREAMS),
            *(f"snippet-{name}" for name in STREAMS),
            *("connect", "disconnect", "close-from-server", "message"),
            *("state", "reconnections", "last-event-id", "seen-last-event-id"),
            *("wire", "wire-scroll", "events", "events-scroll"),
            *("hub", "text", "publish", "published", "pages"),
        ],
    )
    def test_element(self, name: str) -> None:
        """
        The elements that the browser's tests look for are there.
        """
        assert f'id="{name}"' in PAGE

    @pytest.mark.parametrize("name", STREAMS)
    def test_listens_to_every_type(self, plain: Wire, client: Client, name: str) -> None:
        """
        A type that the page does not know would never be shown.
        """
        found = re.search(r"const TYPES = (\[.*\]);", PAGE)
        assert found is not None
        client.request(f"/streams/{name}")
        for _ in range(12):
            plain.reactor.advance(1.0)
        client.pump()
        sent = {event.event for event in EventStreamParser().feed(client.body)}
        assert sent <= set(json.loads(found[1]))
        client.disconnect()


class Elements(HTMLParser):
    """
    Takes note of the elements of a page.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str | None] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class SnippetTests:
    """
    The Python that the page shows is run, and makes the stream that it says.
    """

    def run(self, plain: Wire, name: str, **names: Any) -> Any:
        """
        Run a snippet, and return what its last line makes.
        """
        found = re.search(rf'<pre tabindex="0" id="snippet-{name}">(.*?)</pre>', PAGE, re.DOTALL)
        assert found is not None
        code = html.unescape(re.sub(r"</?[bi]>", "", found[1]))
        *body, last = code.rstrip().splitlines()
        assert all(len(line) <= 70 for line in [*body, last]), "the page has no room for longer lines"
        scope = {
            "SSEResource": lambda handler, **options: SSEResource(
                handler, upgrader=options.get("upgrader", plain.upgrader())
            ),
            "ServerSentEvent": ServerSentEvent,
            "Upgrader": lambda **options: plain.upgrader(**options),
            "Hub": lambda **options: Hub(reactor=plain.reactor, upgrader=plain.upgrader(), **options),
            "MemoryJournal": lambda **options: MemoryJournal(reactor=plain.reactor, **options),
            "deferLater": deferLater,
            "reactor": plain.reactor,
            "time": time,
            **names,
        }
        exec("\n".join(body), scope)
        return eval(last, scope)

    def play(self, plain: Wire, resource: SSEResource, seconds: float, **headers: str) -> Client:
        client = plain.connect(resource).request(headers=headers)
        for _ in range(round(seconds * 5)):
            plain.reactor.advance(0.2)
        client.pump()
        client.disconnect()
        return client

    def test_clock(self, plain: Wire) -> None:
        """
        One event a second, with the ids of the demo.
        """
        client = self.play(plain, self.run(plain, "clock", count=count), 2.5)
        demo = plain.connect(Demo(plain.reactor)).request("/streams/clock")
        for _ in range(3):
            plain.reactor.advance(1.0)
        demo.pump()
        demo.disconnect()
        sent = [event.id for event in EventStreamParser().feed(demo.body)[1:]]
        assert [event.id for event in EventStreamParser().feed(client.body)] == sent == ["1", "2", "3"]

    def test_events(self, plain: Wire) -> None:
        """
        The events, with the types, the ids and the JSON of the demo.
        """

        def serve(channel: SSEChannel) -> None:
            self.run(plain, "events", channel=channel)

        shown = EventStreamParser().feed(
            self.play(plain, SSEResource(serve, upgrader=plain.upgrader()), 0).body
        )
        demo = plain.connect(Demo(plain.reactor)).request("/streams/events")
        for _ in range(6):
            plain.reactor.advance(1.0)
        demo.pump()
        demo.disconnect()
        sent = EventStreamParser().feed(demo.body)[2:]
        assert [(event.event, event.id) for event in shown] == [(event.event, event.id) for event in sent]
        assert shown[2].data == sent[2].data

    def test_progress(self, plain: Wire) -> None:
        """
        The very stream of the demo, without its first event.
        """
        client = self.play(plain, self.run(plain, "progress"), 10)
        demo = plain.connect(Demo(plain.reactor)).request("/streams/progress")
        for _ in range(20):
            plain.reactor.advance(0.4)
        demo.pump()
        demo.disconnect()
        assert client.ended
        assert EventStreamParser().feed(client.body) == EventStreamParser().feed(demo.body)[1:]

    def test_reconnect(self, plain: Wire) -> None:
        """
        The very stream of the demo, without its first event.
        """
        foreign = self.play(plain, self.run(plain, "reconnect"), 1.2, **{"Last-Event-ID": "a5"})
        assert [event.id for event in EventStreamParser().feed(foreign.body)] == ["1"]
        client = self.play(plain, self.run(plain, "reconnect"), 6, **{"Last-Event-ID": "5"})
        demo = plain.connect(Demo(plain.reactor)).request(
            "/streams/reconnect", headers={"Last-Event-ID": "5"}
        )
        for _ in range(5):
            plain.reactor.advance(1.0)
        demo.pump()
        demo.disconnect()
        assert client.ended
        assert client.body.startswith(b"retry: 1000\n")
        assert EventStreamParser().feed(client.body) == EventStreamParser().feed(demo.body)[1:]

    def test_hub(self, plain: Wire) -> None:
        """
        What is said reaches those who listen, and those who come late.
        """

        class Watched(Hub):
            def resource(self, topics: Any) -> SSEResource:
                hubs.append(self)
                return super().resource(topics)

        hubs: list[Hub] = []

        def make(**options: Any) -> Hub:
            return Watched(reactor=plain.reactor, upgrader=plain.upgrader(), **options)

        resource = self.run(plain, "hub", Hub=make)
        listening = plain.connect(resource).request()
        hubs[0].publish("demo", "It works.")
        listening.pump()
        late = plain.connect(resource).request("/?lastEventId=earliest")
        for client in (listening, late):
            assert [event.data for event in EventStreamParser().feed(client.body)] == ["It works."]
            client.disconnect()


class NothingThereTests:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    @pytest.mark.parametrize(
        "path",
        [
            "/nothing",
            "/streams",
            "/streams/",
            "/streams/nothing",
            "/nothing/at/all",
            "//",
            "//x",
            "/hub",
            "/hub/x",
        ],
    )
    def test_no_such_path(self, client: Client, path: str, method: str) -> None:
        """
        What does not exist gets 404 and one sentence, whatever the method.
        """
        client.request(path, method=method)
        assert client.status == 404
        assert client.headers["content-type"] == "text/plain; charset=utf-8"
        assert method == "HEAD" or client.body.decode().count("\n") == 1
        client.disconnect()


class CloseStreamsTests:
    SAME_ORIGIN = ("Host: localhost:8080", "Origin: http://localhost:8080")

    def test_closes(self, plain: Wire) -> None:
        """
        All open streams of that name have their proper end, the others go on.
        """
        demo = Demo(plain.reactor)
        clocks = [plain.connect(demo).request("/streams/clock") for _ in range(2)]
        other = plain.connect(demo).request("/streams/events")
        asking = post(plain.connect(demo), "stream=clock", *self.SAME_ORIGIN)
        assert (asking.status, json.loads(asking.body)) == (200, {"closed": 2})
        for client in [*clocks, other]:
            client.pump()
        assert [client.ended for client in [*clocks, other]] == [True, True, False]
        for client in [*clocks, other, asking]:
            client.disconnect()

    def test_browser_vouches_for_the_page(self, client: Client) -> None:
        """
        Sec-Fetch-Site stands in for Origin.
        """
        assert post(client, "stream=clock", "Host: localhost", "Sec-Fetch-Site: same-origin").status == 200
        client.disconnect()

    @pytest.mark.parametrize(
        "fields",
        [
            ("Host: localhost:8080",),
            ("Host: localhost:8080", "Origin: null"),
            ("Host: localhost:8080", "Origin: http://example.org"),
            ("Host: localhost:8080", "Origin: http://localhost:8081", "Sec-Fetch-Site: same-site"),
            ("Host: example.org", "Origin: http://example.org"),
        ],
    )
    def test_another_origin(self, plain: Wire, fields: tuple[str, ...]) -> None:
        """
        A page of another origin gets 403, and closes nothing.
        """
        demo = Demo(plain.reactor)
        clock = plain.connect(demo).request("/streams/clock")
        asking = post(plain.connect(demo), "stream=clock", *fields)
        clock.pump()
        assert (asking.status, clock.ended) == (403, False)
        for client in (clock, asking):
            client.disconnect()

    @pytest.mark.parametrize("body", ["", "stream=", "stream=close", "stream=%FF", "other=clock", "stream"])
    def test_no_such_stream(self, client: Client, body: str) -> None:
        """
        What names no stream gets 400, and the names that there are.
        """
        post(client, body, *self.SAME_ORIGIN)
        assert client.status == 400
        assert "clock, events, progress, reconnect, hub" in client.body.decode()
        client.disconnect()

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
    def test_another_method(self, client: Client, method: str) -> None:
        """
        Only POST is allowed, and the answer says so.
        """
        client.request("/streams/close", method=method)
        assert (client.status, client.headers["allow"]) == (405, "POST")
        client.disconnect()


class StopTests:
    def test_all_streams_end(self, plain: Wire) -> None:
        """
        Once the demo has stopped, every client has its end.
        """
        demo = Demo(plain.reactor)
        clients = [plain.connect(demo).request(f"/streams/{name}") for name in STREAMS]
        assert Deferred.fromCoroutine(demo.stop()).called
        for client in clients:
            client.pump()
            assert client.ended
            client.disconnect()

    def test_client_comes_meanwhile(self, plain: Wire) -> None:
        """
        While the demo waits for a client that does not read, it takes no others: they would keep it from its
        end.
        """
        demo = Demo(plain.reactor)
        slow = plain.connect(demo).request("/streams/reconnect")
        slow.stop_reading()
        [channel] = demo._streams["reconnect"]._channels
        while not channel.buffered:
            channel.send("x" * 10_000)
        stopped = Deferred.fromCoroutine(demo.stop())
        late = plain.connect(demo).request("/streams/clock")
        assert late.status == 503
        plain.reactor.advance(1.0)
        assert not stopped.called
        slow.read_on()
        assert slow.ended
        assert stopped.called
        for client in (slow, late):
            client.disconnect()

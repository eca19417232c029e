"""
Tests of the demo's web tree, over real HTTP on a fake network, and of its page as text. tests/browser tests
the page in a browser.
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
    Send a request that consists of exactly these header lines.
    """
    client.reset_response()
    fields = [f"Content-Length: {len(body)}"] if body else []
    client.say("\r\n".join([*lines, *fields, "", body]).encode("latin-1"))
    return client


def post(client: Client, body: str, *fields: str) -> Client:
    form = "Content-Type: application/x-www-form-urlencoded"
    return ask(client, "POST /streams/close HTTP/1.1", *fields, form, body=body)


class HostTests:
    @pytest.mark.parametrize(
        ("method", "path"),
        [*(("GET", path) for path in EVERY_PATH), ("POST", "/"), ("OPTIONS", "/streams/clock")],
    )
    def test_foreign_host(self, client: Client, method: str, path: str) -> None:
        """
        A request for a foreign host name gets 403, on every path of the demo.
        """
        ask(client, f"{method} {path} HTTP/1.1", "Host: rebound.example.org:8080")
        assert client.status == 403
        client.disconnect()

    def test_refusal_says_what_to_do(self, client: Client) -> None:
        """
        The refusal of a foreign host name says in one sentence what to do instead.
        """
        ask(client, "GET / HTTP/1.1", "Host: rebound.example.org")
        assert client.headers["content-type"] == "text/plain; charset=utf-8"
        [sentence] = client.body.decode().splitlines()
        assert "localhost" in sentence
        client.disconnect()

    def test_no_host(self, client: Client) -> None:
        """
        A request by HTTP/1.1 without Host gets 403.
        """
        assert ask(client, "GET / HTTP/1.1").status == 403
        client.disconnect()

    def test_two_hosts(self, client: Client) -> None:
        """
        A request by HTTP/1.1 with two Host fields gets 403.
        """
        assert ask(client, "GET / HTTP/1.1", "Host: localhost", "Host: example.org").status in (400, 403)
        client.disconnect()

    @pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "demo.localhost:1"])
    def test_local_host(self, client: Client, host: str) -> None:
        """
        The demo accepts requests for loopback addresses and localhost names.
        """
        assert ask(client, "GET / HTTP/1.1", f"Host: {host}").status == 200
        client.disconnect()

    def test_http_1_0(self, client: Client) -> None:
        """
        The demo accepts a request by HTTP/1.0 without Host.
        """
        assert ask(client, "GET / HTTP/1.0").status == 200
        client.disconnect()


class PageTests:
    def test_served(self, client: Client) -> None:
        """
        The demo serves its page as it is in the file.
        """
        client.request("/")
        assert client.status == 200
        assert client.headers["content-type"] == "text/html; charset=utf-8"
        assert client.body.decode() == PAGE
        client.disconnect()

    def test_head(self, client: Client) -> None:
        """
        HEAD for the demo's page gets only the headers.
        """
        client.request("/", method="HEAD")
        assert (client.status, client.body) == (200, b"")
        client.disconnect()

    @pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
    def test_another_method(self, client: Client, method: str) -> None:
        """
        The demo's page answers methods other than GET and HEAD with 405 and Allow: GET, HEAD.
        """
        client.request("/", method=method)
        assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")
        client.disconnect()

    def test_policy(self, client: Client) -> None:
        """
        The page's policy allows only its own script, its own style, and connections to its own server.
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
        Every response of the demo forbids content sniffing and referrers.
        """
        client.request(path)
        assert client.headers["x-content-type-options"] == "nosniff"
        assert client.headers["referrer-policy"] == "no-referrer"
        client.disconnect()

    def test_no_other_servers(self) -> None:
        """
        The page refers to no other server, except by the name of a namespace.
        """
        assert set(re.findall(r"(?:https?:)?//[\w.]+[\w/.]*", PAGE)) == {"http://www.w3.org/2000/svg"}
        assert not re.search(r"<(link(?! rel=\"icon\" href=\"data:)|img|iframe)|<script |@import|url\(", PAGE)

    def test_page_obeys_its_policy(self) -> None:
        """
        The page has no attributes and no code that its policy forbids.
        """
        assert not re.search(r"\son\w+=|\sstyle=", PAGE)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", PAGE)

    def test_well_formed(self) -> None:
        """
        The page closes each element that it opens, and has each ID once.
        """
        parser = Elements()
        parser.feed(PAGE)
        assert parser.open == []
        assert len(parser.ids) == len(set(parser.ids))

    def test_elements(self) -> None:
        """
        The page has the elements that the browser tests look up.
        """
        names = [
            *(f"stream-{name}" for name in STREAMS),
            *(f"snippet-{name}" for name in STREAMS),
            *("connect", "disconnect", "close-from-server", "message"),
            *("state", "reconnections", "last-event-id", "seen-last-event-id"),
            *("wire", "wire-scroll", "events", "events-scroll"),
            *("hub", "text", "publish", "published", "pages"),
        ]
        assert [name for name in names if f'id="{name}"' not in PAGE] == []

    @pytest.mark.parametrize("name", STREAMS)
    def test_listens_to_every_type(self, plain: Wire, client: Client, name: str) -> None:
        """
        The page listens to every type of event that the demo sends; others would not be shown.
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
    Collects the elements of a page.
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
    Runs the Python code that the page shows, and compares its streams with those of the demo.
    """

    def run(self, plain: Wire, name: str, **names: Any) -> Any:
        """
        Run a snippet, and return the value of its last line.
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
        The snippet for clock sends one event a second, with the IDs of the demo's stream.
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
        The snippet for events sends the demo's events, with the same types, IDs and JSON.
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
        The snippet for progress sends the demo's stream, without the event connected.
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
        The snippet for reconnect sends the demo's stream, without the event connected.
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
        The snippet for hub sends a published message to current and to later subscribers.
        """

        class Watched(Hub):
            def resource(self, topics: Any, **options: Any) -> SSEResource:
                hubs.append(self)
                return super().resource(topics, **options)

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


class NotFoundTests:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/nothing"),
            ("HEAD", "/nothing"),
            ("POST", "/nothing"),
            ("GET", "/streams"),
            ("GET", "/streams/"),
            ("GET", "/streams/nothing"),
            ("GET", "/nothing/at/all"),
            ("GET", "//"),
            ("GET", "//x"),
            ("GET", "/hub"),
            ("GET", "/hub/x"),
        ],
    )
    def test_unknown_path(self, client: Client, method: str, path: str) -> None:
        """
        A path that does not exist in the demo gets 404 and one sentence, with any method.
        """
        client.request(path, method=method)
        assert client.status == 404
        assert client.headers["content-type"] == "text/plain; charset=utf-8"
        assert method == "HEAD" or client.body.decode().count("\n") == 1
        client.disconnect()


class CloseStreamsTests:
    SAME_ORIGIN = ("Host: localhost:8080", "Origin: http://localhost:8080")

    def test_streams_of_one_name(self, plain: Wire) -> None:
        """
        Closing the streams of one name ends all of them properly, and leaves other streams open.
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

    def test_same_origin_by_sec_fetch_site(self, client: Client) -> None:
        """
        A request to close streams is accepted with Sec-Fetch-Site: same-origin in place of Origin.
        """
        assert post(client, "stream=clock", "Host: localhost", "Sec-Fetch-Site: same-origin").status == 200
        client.disconnect()

    def test_another_origin(self, plain: Wire) -> None:
        """
        A request of another origin to close streams gets 403, and closes none.
        """
        demo = Demo(plain.reactor)
        clock = plain.connect(demo).request("/streams/clock")
        fields = ("Host: localhost:8080", "Origin: http://example.org")
        asking = post(plain.connect(demo), "stream=clock", *fields)
        clock.pump()
        assert (asking.status, clock.ended) == (403, False)
        for client in (clock, asking):
            client.disconnect()

    @pytest.mark.parametrize("body", ["", "stream=", "stream=close", "stream=%FF", "other=clock", "stream"])
    def test_unknown_name(self, client: Client, body: str) -> None:
        """
        A request to close streams of an unknown name gets 400, with the known names.
        """
        post(client, body, *self.SAME_ORIGIN)
        assert client.status == 400
        assert "clock, events, progress, reconnect, hub" in client.body.decode()
        client.disconnect()

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
    def test_another_method(self, client: Client, method: str) -> None:
        """
        The resource that closes streams answers methods other than POST with 405 and Allow: POST.
        """
        client.request("/streams/close", method=method)
        assert (client.status, client.headers["allow"]) == (405, "POST")
        client.disconnect()


class StopTests:
    def test_all_streams_end(self, plain: Wire) -> None:
        """
        When the demo has stopped, the streams of all its clients have ended.
        """
        demo = Demo(plain.reactor)
        clients = [plain.connect(demo).request(f"/streams/{name}") for name in STREAMS]
        assert Deferred.fromCoroutine(demo.stop()).called
        for client in clients:
            client.pump()
            assert client.ended
            client.disconnect()

    def test_request_while_stopping(self, plain: Wire) -> None:
        """
        While the stopping demo waits for a client that does not read, it refuses other clients, which would
        delay its end.
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

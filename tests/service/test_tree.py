"""
Tests of the hub's web tree on a BoundedSite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import LogLevel, capturedLogs
from twisted.web.server import Site

from tests.fakes import Client, Http2Client, Wire
from tests.mercure.world import DISCONNECTER, SECRET, URL, token
from tests.web.bounded_world import World
from txsse.service.config import Config
from txsse.service.issuers import make_issuers
from txsse.service.tree import HubTree, make_settings


@pytest.fixture
def world(plain: Wire) -> Iterator[World]:
    world = World(plain)
    yield world
    world.end()


HEADS_AND_RESETS = ["stream", "refusal", "publication", "list", "page", "nothing"]


class ResetTests:
    """
    HTTP/2 streams that are reset in the packet that opens them.
    """

    @pytest.fixture
    def tree(self, plain: Wire) -> HubTree:
        config = Config(url=URL, key=SECRET, subscriptions=True, debugger=True)
        return HubTree(config, make_settings(config, make_issuers(config, plain.reactor), URL), plain.reactor)

    def packet(self, client: Any, what: str, *, with_reset: bool) -> bytes:
        bearer = f"Bearer {token(publish=['*'], subscribe=['*'])}"
        path, method, fields = {
            "stream": ("/.well-known/mercure?match=a", "GET", {"authorization": bearer}),
            "refusal": ("/.well-known/mercure?match=a", "GET", {}),
            "publication": (
                "/.well-known/mercure",
                "POST",
                {"authorization": bearer, "content-type": "application/x-www-form-urlencoded"},
            ),
            "list": ("/.well-known/mercure/subscriptions", "GET", {"authorization": bearer}),
            "page": ("/", "GET", {}),
            "nothing": ("/nothing", "GET", {}),
        }[what]
        client.stream = client.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "hub.example")]
        client.h2.send_headers(client.stream, [*pseudo, *fields.items()], end_stream=method == "GET")
        if method == "POST":
            client.h2.send_data(client.stream, b"topic=a", end_stream=True)
        if with_reset:
            client.h2.reset_stream(client.stream)
        data: bytes = client.h2.data_to_send()
        return data

    @pytest.mark.parametrize("what", HEADS_AND_RESETS)
    def test_reset_streams_on_a_bounded_site(self, world: World, tree: HubTree, what: str) -> None:
        """
        A stream that is reset in the packet that opens it is not rendered and logs no error, and the
        connection stays open.
        """
        rendered: list[object] = []
        site = world.site(tree, max_body=1000, wants_body=tree.wants_body)
        render = site.getResourceFor
        site.getResourceFor = lambda request: (rendered.append(request), render(request))[1]  # type: ignore[func-returns-value, method-assign]
        client = world.connect(Http2Client, site)
        with capturedLogs() as logged:
            client.say(b"".join(self.packet(client, what, with_reset=True) for _ in range(20)))
            assert rendered == []
            client.say(self.packet(client, what, with_reset=False))
        assert client.status == {"refusal": 401, "nothing": 404}.get(what, 200)
        assert [event for event in logged if event["log_level"] >= LogLevel.error] == []
        assert len(rendered) == 1
        if what == "stream":
            client.disconnect()

    @pytest.mark.parametrize("what", ["stream", "refusal", "publication", "list"])
    def test_reset_streams_on_a_plain_site(self, world: World, tree: HubTree, what: str) -> None:
        """
        A stream that is reset in the packet that opens it logs no error on a plain Site either.
        """
        site = Site(tree, reactor=world.wire.reactor, timeout=None)
        site.log = lambda request: None  # type: ignore[method-assign]
        client = world.connect(Http2Client, site)
        with capturedLogs() as logged:
            client.say(b"".join(self.packet(client, what, with_reset=True) for _ in range(20)))
            client.say(self.packet(client, what, with_reset=False))
        assert client.status == (401 if what == "refusal" else 200)
        assert [event for event in logged if event["log_level"] >= LogLevel.error] == []
        if what == "stream":
            client.disconnect()


class HubTests:
    """
    The hub on a BoundedSite.
    """

    @pytest.fixture
    def ask(self, world: World, plain: Wire) -> Callable[..., Client]:
        def ask(head: str, **given: Any) -> Client:
            config = Config(**{"url": URL, "key": SECRET, **given})
            made = make_settings(config, make_issuers(config, plain.reactor), URL)
            tree = HubTree(config, made, plain.reactor)
            client: Client = world.connect(site=world.site(tree, wants_body=tree.wants_body))
            client.say(head.replace("|", "\r\n").encode() + b"\r\n\r\n")
            return client

        return ask

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            ("POST /.well-known/mercure HTTP/1.1|Host: x|Content-Length: 900", 401),
            ("POST /.well-known/%6Dercure HTTP/1.1|Host: x|Content-Length: 900", 401),
            ("QUERY /.well-known/mercure HTTP/1.1|Host: x|Transfer-Encoding: chunked", 401),
            ("POST /.well-known/mercure HTTP/1.1|Host: x|Content-Length: 9|Authorization: Bearer x", 401),
            ("POST /.well-known/mercure HTTP/1.1|Host: x|Content-Length: 9|Authorization: Bearer ?", 400),
            ("POST /.well-known/mercure/disconnect HTTP/1.1|Host: x|Content-Length: 900", 401),
            ("POST /.well-known/mercure/%64isconnect HTTP/1.1|Host: x|Content-Length: 900", 401),
            ("POST /.well-known/mercure/unretain HTTP/1.1|Host: x|Content-Length: 900", 401),
            ("POST /.well-known/mercure/unr%65tain HTTP/1.1|Host: x|Transfer-Encoding: chunked", 401),
        ],
    )
    def test_refused_before_the_body(self, ask: Callable[..., Client], head: str, status: int) -> None:
        """
        A publication or subscription without a valid token is refused before its body has arrived.
        """
        client = ask(head)
        assert client.status == status
        assert client.headers["www-authenticate"].startswith("Bearer")
        assert client.headers["date"]

    @pytest.mark.parametrize(
        ("request_line", "purpose"),
        [
            ("POST PATH", "publishing"),
            ("POST PATH/disconnect", "disconnecting"),
            ("POST PATH/unretain", "removing a retained update"),
            ("QUERY PATH", "subscribing"),
        ],
    )
    def test_missing_token(self, ask: Callable[..., Client], request_line: str, purpose: str) -> None:
        """
        The refusal of a request without a token says what needs one.
        """
        head = request_line.replace("PATH", "/.well-known/mercure")
        client = ask(f"{head} HTTP/1.1|Host: x|Content-Length: 900")
        assert client.body == f"{purpose} requires a token\n".encode()

    @pytest.mark.parametrize(
        ("head", "given", "body"),
        [
            (
                "POST /.well-known/mercure HTTP/1.1|Host: x|Content-Length: 7|Authorization: TOKEN",
                {},
                "topic=a",
            ),
            ("QUERY PATH HTTP/1.1|Host: x|Content-Length: 7", {"anonymous": True}, "match=a"),
            (
                "POST PATH/disconnect HTTP/1.1|Host: x|Content-Length: 7|Authorization: DISCONNECTER",
                {},
                "sub=ann",
            ),
        ],
    )
    def test_body_is_read(
        self, ask: Callable[..., Client], head: str, given: dict[str, Any], body: str
    ) -> None:
        """
        The body of a publication or subscription with a valid token is read.
        """
        kind = "|Content-Type: application/x-www-form-urlencoded"
        head = head.replace("DISCONNECTER", f"Bearer {DISCONNECTER}")
        head = head.replace("TOKEN", f"Bearer {token(publish=['*'])}").replace("PATH", "/.well-known/mercure")
        client = ask(head + kind, **given)
        assert client.status == 0
        client.say(body.encode())
        assert client.status == 200

    def test_body_of_a_removal_is_read(self, ask: Callable[..., Client]) -> None:
        """
        The body of a request to remove a retained update is read, if its token is valid.
        """
        client = ask(
            "POST /.well-known/mercure/unretain HTTP/1.1|Host: x|Content-Length: 13"
            f"|Authorization: Bearer {token(publish=['*'])}|Content-Type: application/x-www-form-urlencoded"
        )
        assert client.status == 0
        client.say(b"topic=a&key=k")
        assert client.status == 404
        assert client.body == b"no update with this key is retained under these topics\n"

    @pytest.mark.parametrize(
        "head",
        [
            "PUT /.well-known/mercure",
            "POST /",
            "POST /.well-known/mercure/x",
            "POST /.well-known/mercure/disconnect/x",
            "PUT /.well-known/mercure/disconnect",
            "QUERY /.well-known/mercure/disconnect",
            "POST /.well-known/mercure/unretain/x",
            "PUT /.well-known/mercure/unretain",
            "QUERY /.well-known/mercure/unretain",
        ],
    )
    def test_body_is_discarded(self, ask: Callable[..., Client], head: str) -> None:
        """
        The body of any other request is discarded.
        """
        client = ask(f"{head} HTTP/1.1|Host: x|Content-Length: 900")
        client.say(b"x" * 800)
        site: Any = client.protocol.site
        assert (client.status, site.bodies) == (0, 0)
        client.say(b"x" * 100)
        assert client.status in (404, 405)

"""
Tests of complete responses, over HTTP/1.0, HTTP/1.1 and HTTP/2.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.logger import LogEvent
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.fakes import Client, Http2Client, Wire
from txsse.web.responses import Branch, Sentence, refuse_method, send_page, send_response


class Sends(Resource):
    """
    A resource that sends one response.
    """

    isLeaf = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()
        self.arguments, self.options = arguments, options

    def render(self, request: Request) -> int:
        return send_response(request, *self.arguments, **self.options)


class Later(Resource):
    """
    A resource that keeps its requests, for a test to answer them.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def render(self, request: Request) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


def ask(wire: Wire, resource: Resource, method: str = "GET") -> Client:
    client = wire.connect(resource).request(method=method)
    wire.reactor.run_soon()
    client.pump()
    assert client.status
    return client


class ResponseTests:
    def test_text(self, wire: Wire) -> None:
        """
        A str is sent as one line of text, which caches do not store and browsers do not guess the type of.
        """
        client = ask(wire, Sends(404, "There is nothing here."))
        assert (client.status, client.body) == (404, b"There is nothing here.\n")
        assert client.headers["content-type"] == "text/plain; charset=utf-8"
        assert client.headers["content-length"] == "23"
        assert client.headers["cache-control"] == "no-store"
        assert client.headers["x-content-type-options"] == "nosniff"

    def test_bytes(self, wire: Wire) -> None:
        """
        Bytes are sent unchanged.
        """
        client = ask(wire, Sends(200, b"{}", content_type=b"application/json"))
        assert (client.status, client.body) == (200, b"{}")
        assert client.headers["content-type"] == "application/json"

    def test_own_headers(self, wire: Wire) -> None:
        """
        The headers argument replaces default headers, None removes one, and Vary is added.
        """
        headers = [
            (b"Cache-Control", b"no-cache"),
            (b"X-Content-Type-Options", None),
            (b"Vary", b"Origin"),
            (b"Retry-After", b"5"),
        ]
        client = ask(wire, Sends(200, "yes", headers=headers))
        assert client.headers["cache-control"] == "no-cache"
        assert "x-content-type-options" not in client.headers
        assert (client.headers["vary"], client.headers["retry-after"]) == ("Origin", "5")

    def test_set_before(self, wire: Wire) -> None:
        """
        A Cache-Control that the resource has set is kept.
        """

        class Private(Sends):
            def render(self, request: Request) -> int:
                request.setHeader(b"Cache-Control", b"private")
                return super().render(request)

        assert ask(wire, Private(200, "yes")).headers["cache-control"] == "private"

    def test_head(self, wire: Wire) -> None:
        """
        The response to HEAD has the headers of the response to GET, and no body.
        """
        resource = Sends(404, "There is nothing here.")
        got, head = ask(wire, resource), ask(wire, resource, "HEAD")
        assert head.body == b""
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}

    def test_head_of_stream(self, wire: Wire) -> None:
        """
        The response to HEAD without a body has no length, since the GET may be a stream.
        """
        client = ask(wire, Sends(200, content_type=b"text/event-stream"), "HEAD")
        assert "content-length" not in client.headers

    def test_empty(self, wire: Wire) -> None:
        """
        An empty body has the length 0.
        """
        client = ask(wire, Sends(503))
        assert (client.status, client.body, client.headers["content-length"]) == (503, b"", "0")

    @pytest.mark.parametrize("status", [204, 304])
    def test_no_body(self, wire: Wire, status: int) -> None:
        """
        A status without a body has neither a type nor a length.
        """
        client = ask(wire, Sends(status))
        assert (client.status, client.body) == (status, b"")
        assert "content-type" not in client.headers
        assert "content-length" not in client.headers


class DisconnectedTests:
    def test_disconnected(self, wire: Wire) -> None:
        """
        If the client has disconnected, nothing is sent and nothing is raised.
        """
        later = Later()
        client = wire.connect(later).request()
        client.disconnect(clean=False)
        send_response(later.requests[0], 200, "too late")
        assert client.body == b""

    def test_finished(self, wire: Wire) -> None:
        """
        A finished request gets no second response.
        """
        later = Later()
        client = wire.connect(later).request()
        send_response(later.requests[0], 200, "first")
        send_response(later.requests[0], 200, "second")
        wire.reactor.run_soon()
        client.pump()
        assert client.body == b"first\n"

    @pytest.mark.slow
    def test_reset(self, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]) -> None:
        """
        A request whose reset is in the same packet gets no response, and nothing fails.
        """
        wire = Wire("http2", monkeypatch)
        client = wire.connect(Sends(200, "too late"))
        assert isinstance(client, Http2Client)
        client.say(client.h2.data_to_send())
        pseudo = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "x")]
        client.h2.send_headers(1, pseudo, end_stream=True)
        client.h2.reset_stream(1)
        client.say(client.h2.data_to_send())
        wire.reactor.run_soon()
        assert client.connected
        assert (client.status, client.body) == (0, b"")
        # Twisted's sending loop would fail, which it logs when its Deferred is collected.
        del client
        gc.collect()
        assert failures == []


class ResourceTests:
    def test_sentence(self, wire: Wire) -> None:
        """
        A Sentence answers any method, and may have headers.
        """
        client = ask(wire, Sentence(503, "Busy.", [(b"Retry-After", b"5")]), "DELETE")
        assert (client.status, client.body, client.headers["retry-after"]) == (503, b"Busy.\n", "5")

    @pytest.mark.parametrize("path", ["/", "/child", "/a/b"])
    def test_branch(self, wire: Wire, path: str) -> None:
        """
        A Branch answers 404 for itself and all paths below.
        """
        client = wire.connect(Branch()).request(path)
        assert (client.status, client.body) == (404, b"There is nothing here.\n")

    def test_refuse_method(self, wire: Wire) -> None:
        """
        A 405 response has the allowed methods in its header and its body.
        """

        class Getting(Resource):
            isLeaf = True

            def render(self, request: Request) -> int:
                return refuse_method(request, "GET, HEAD")

        client = ask(wire, Getting(), "PUT")
        assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")
        assert client.body == b"Allowed here: GET, HEAD.\n"

    def test_page(self, wire: Wire) -> None:
        """
        A page is HTML, has its policy, and is revalidated each time.
        """

        class Page(Resource):
            isLeaf = True

            def render(self, request: Request) -> int:
                return send_page(request, b"<p>Hello</p>", b"default-src 'none'")

        client = ask(wire, Page())
        assert client.headers["content-type"] == "text/html; charset=utf-8"
        assert client.headers["content-security-policy"] == "default-src 'none'"
        assert client.headers["cache-control"] == "no-cache"

"""
The debug page of a Mercure hub: its response headers, the hosts that it answers for, its settings, and rules
for its HTML. tests/browser tests the page in a browser.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest
from twisted.web.resource import Resource

from tests.fakes import Client, Wire
from tests.mercure.world import PATH, URL
from txsse.mercure import Settings
from txsse.mercure.debug_page import PageResource

PAGE = files("txsse.mercure").joinpath("debug_page.html").read_text(encoding="utf-8")


def tree(*, hosts: Any = None, **settings: Any) -> Resource:
    """
    Return a web tree with the page at its root.
    """
    root = Resource()
    root.putChild(b"", PageResource(Settings(**{"url": URL, **settings}), hosts=hosts))
    return root


@pytest.fixture
def client(plain: Wire) -> Iterator[Client]:
    client = plain.connect(tree())
    yield client
    client.disconnect()


def ask(client: Client, *lines: str) -> Client:
    """
    Send a request of exactly these lines.
    """
    client.reset_response()
    client.say("\r\n".join([*lines, "", ""]).encode("latin-1"))
    return client


def settings_in(body: bytes) -> dict[str, Any]:
    """
    Return the hub's settings that the page contains, read as a browser reads them.
    """
    [text] = re.findall(r'<script type="application/json" id="hub">(.*?)</script', body.decode(), re.DOTALL)
    read: dict[str, Any] = json.loads(text)
    return read


class ResponseTests:
    def test_get(self, client: Client) -> None:
        """
        A GET returns the page as in its file, with the hub's settings inserted.
        """
        client.request("/")
        assert client.status == 200
        assert client.headers["content-type"] == "text/html; charset=utf-8"
        assert client.headers["cache-control"] == "no-cache"
        before, _, after = PAGE.partition(">null<")
        assert client.body.decode().startswith(before)
        assert client.body.decode().endswith(after)

    def test_head(self, client: Client) -> None:
        """
        A HEAD request for the debug page returns only the headers.
        """
        client.request("/", method="HEAD")
        assert (client.status, client.body) == (200, b"")
        assert "content-security-policy" in client.headers

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_another_method(self, client: Client, method: str) -> None:
        """
        Other methods than GET and HEAD get 405, and the Allow header names the two.
        """
        client.request("/", method=method)
        assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")

    @pytest.mark.parametrize("path", ["//", "//debug_page.html", "//../debug_page.py"])
    def test_below(self, client: Client, path: str) -> None:
        """
        Paths below the debug page are not found.
        """
        client.request(path)
        assert client.status == 404
        assert client.headers["content-type"] == "text/plain; charset=utf-8"

    @pytest.mark.parametrize("path", ["/", "//nothing"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("host", ["hub.example", "other.example"])
    def test_headers(self, client: Client, method: str, path: str, host: str) -> None:
        """
        Every response of the debug page forbids content type sniffing and referrers.
        """
        ask(client, f"{method} {path} HTTP/1.1", f"Host: {host}")
        assert client.headers["x-content-type-options"] == "nosniff"
        assert client.headers["referrer-policy"] == "no-referrer"

    def test_policy(self, client: Client) -> None:
        """
        The debug page's Content-Security-Policy permits its own script and style and connections to this
        server only, and no frame may contain the page.
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
            "connect-src": "'self'",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }


class HostTests:
    @pytest.mark.parametrize(
        "host", ["hub.example", "HUB.example:8443", "hub.example.", "localhost:3000", "127.0.0.1", "[::1]:80"]
    )
    def test_own(self, client: Client, host: str) -> None:
        """
        The debug page is served for the host in the hub's URL, on any port, and for localhost.
        """
        assert ask(client, "GET / HTTP/1.1", f"Host: {host}").status == 200

    @pytest.mark.parametrize("host", ["rebound.example", "hub.example.rebound.example", "hub.example:x", "*"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_another(self, client: Client, method: str, host: str) -> None:
        """
        The debug page is refused with 403 for any other host, against DNS rebinding.
        """
        ask(client, f"{method} / HTTP/1.1", f"Host: {host}")
        assert client.status == 403
        assert b"<script>" not in client.body

    def test_no_host(self, client: Client) -> None:
        """
        An HTTP/1.1 request for the debug page without a Host header is refused with 403.
        """
        assert ask(client, "GET / HTTP/1.1").status == 403

    @pytest.mark.parametrize("host", ["proxy.example", "proxy.example:8080", "hub.example", "localhost"])
    def test_more(self, plain: Wire, host: str) -> None:
        """
        The debug page is also served for the hosts in the hosts option.
        """
        client = plain.connect(tree(hosts=["Proxy.example:80"]))
        assert ask(client, "GET / HTTP/1.1", f"Host: {host}").status == 200
        assert ask(client, "GET / HTTP/1.1", "Host: rebound.example").status == 403
        client.disconnect()

    def test_any(self, plain: Wire) -> None:
        """
        With the hosts option "*" the debug page is served for every host.
        """
        client = plain.connect(tree(hosts=["*"]))
        assert ask(client, "GET / HTTP/1.1", "Host: proxy.example").status == 200
        client.disconnect()

    @pytest.mark.parametrize("hosts", ["hub.example", ["https://hub.example"], [""]])
    def test_wrong(self, hosts: Any) -> None:
        """
        A hosts option that is not a list of host names is rejected at construction.
        """
        with pytest.raises(ValueError):
            tree(hosts=hosts)


class SettingsTests:
    def test_defaults(self, client: Client) -> None:
        """
        The debug page contains the hub's URL, path and audience, and whether it admits anonymous subscribers
        and old clients.
        """
        assert settings_in(client.request("/").body) == {
            "url": URL,
            "path": PATH,
            "audience": [URL],
            "anonymous": False,
            "compatibility": False,
        }

    def test_all(self, plain: Wire) -> None:
        """
        The debug page's values come from the hub's settings.
        """
        settings = {"audience": ["https://api.example"], "anonymous": True, "compatibility": True}
        client = plain.connect(tree(url="https://hub.example/events/", **settings))
        assert settings_in(client.request("/").body) == {
            "url": "https://hub.example/events/",
            "path": "/events",
            **settings,
        }
        client.disconnect()

    @pytest.mark.parametrize("text", ["</script><script>alert(1)", "<!--<script>", '"\\u2028&amp;'])
    def test_hostile(self, plain: Wire, text: str) -> None:
        """
        No text in the settings can close the debug page's script element.
        """
        client = plain.connect(tree(audience=[text], url=f"https://hub.example/{text}"))
        body = client.request("/").body
        assert settings_in(body)["audience"] == [text]
        assert body.count(b"<script") == PAGE.count("<script")
        assert body.count(b"<!--") == 0
        client.disconnect()


class SourceTests:
    def test_loads_nothing(self) -> None:
        """
        The debug page loads nothing from other servers, and its source contains other servers' addresses only
        as examples and namespaces.
        """
        addresses = set(re.findall(r"(?:https?:)?//[\w.]+[\w/.]*", PAGE))
        allowed = r"http://www\.w3\.org/2000/svg|https://example\.com/.*|https://html\.spec\.whatwg\.org/.*"
        assert [each for each in addresses if not re.fullmatch(allowed, each)] == []
        assert not re.search(r"<(link(?! rel=\"icon\" href=\"data:)|img|iframe)|@import|url\(", PAGE)

    def test_fits_its_policy(self) -> None:
        """
        The debug page uses no attribute or function that its Content-Security-Policy forbids.
        """
        assert not re.search(r"\son\w+=|\sstyle=", PAGE)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", PAGE)

    def test_stores_nothing(self) -> None:
        """
        The debug page stores nothing in the browser.
        """
        assert not re.search(r"(local|session)Storage|indexedDB|\.cookie|caches\.|history\.", PAGE)

    def test_well_formed(self) -> None:
        """
        In the debug page every opened element is closed, each id is unique, and every reference to an id
        resolves.
        """
        parser = Elements()
        parser.feed(PAGE)
        assert parser.open == []
        assert len(parser.ids) == len(set(parser.ids))
        assert set(parser.references) <= set(parser.ids)

    def test_no_autocompletion(self) -> None:
        """
        The debug page's fields turn off autocompletion and spell checking, which would disclose tokens that
        were typed.
        """
        fields = re.findall(r"<(?:textarea|input(?! type=))[^>]*>", PAGE)
        assert len(fields) == 13
        assert all('autocomplete="off"' in field for field in fields)
        assert all('spellcheck="false"' in field for field in fields if "inputmode" not in field)


class Elements(HTMLParser):
    """
    Collect the open elements, the ids and the references to ids of a page.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("for", "aria-labelledby", "aria-describedby"):
                self.references += (value or "").split()
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

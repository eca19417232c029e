"""
The documentation's page on authentication, in a browser: the responses after which it reconnects.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.browser.remote import CLOSED, CONNECTING, OPEN, Source
from tests.processes import serving
from tests.test_authentication_page import PAGE
from tests.test_readme import blocks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# How many requests of a stream that ends again and again show that the browser reconnects.
SEVERAL = 3

# Refuses requests with the status that they ask for. Streams end after 0.1 seconds.
PROGRAM = """
from twisted.internet import endpoints, reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data
from txsse import Access, Hub, Upgrader, UpgradeRefused

def rule(request):
    (status,), (to,) = (request.args.get(name, [b""]) for name in (b"status", b"to"))
    if status != b"200":
        headers = {"Location": to.decode()} if to else {}
        raise UpgradeRefused("no", status=int(status or b"204"), headers=headers)
    return Access("news", expires=0.1)

root = Resource()
root.putChild(b"", Data(b"<!doctype html><link rel=icon href=data:,>", "text/html"))
root.putChild(b"log-in", Data(b"<!doctype html><link rel=icon href=data:,>", "text/html"))
root.putChild(b"events", Hub(upgrader=Upgrader(retry=0.2)).resource(rule))
listening = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Site(root))
listening.addCallback(lambda port: print(f"Open http://127.0.0.1:{port.getHost().port}/", flush=True))
reactor.run()
"""


@pytest.fixture(scope="module")
def url(browser: Chrome) -> Iterator[str]:
    """
    Run the program, and return its URL.
    """
    with serving("-c", PROGRAM, says=r"Open (http://127\.0\.0\.1:\d+/)\n") as [url]:
        yield url


def requests(page: Chrome) -> list[str]:
    """
    Return the paths of the requests since the last call.
    """
    entries = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [
        entry["params"]["request"]["url"]
        for entry in entries
        if entry["method"] == "Network.requestWillBeSent"
    ]
    return [urlsplit(url).path for url in urls if url.startswith("http")]


class ResponseTests:
    @pytest.mark.parametrize(
        ("query", "paths"),
        [
            ("status=204", ["/events"]),
            ("status=401", ["/events"]),
            ("status=403", ["/events"]),
            ("status=404", ["/events"]),
            ("status=429", ["/events"]),
            ("status=500", ["/events"]),
            ("status=503", ["/events"]),
            ("status=302&to=/log-in", ["/events", "/log-in"]),
            ("status=307&to=/log-in", ["/events", "/log-in"]),
        ],
    )
    def test_stops(self, tab: Chrome, url: str, query: str, paths: list[str]) -> None:
        """
        After a response that is no event stream, also one that is redirected to, a browser's EventSource is
        closed and sends no further request.
        """
        tab.get(url)
        requests(tab)
        source = Source(tab, "/events?" + query).wait_for_state(CLOSED)
        time.sleep(0.6)
        assert requests(tab) == paths
        assert [event["type"] for event in source.noted] == ["error"]

    @pytest.mark.parametrize("query", ["status=200", "status=301&to=/events?status=200"])
    def test_reconnects(self, tab: Chrome, url: str, query: str) -> None:
        """
        After a stream that has ended, also one that was redirected to, a browser reconnects again and again.
        """
        tab.get(url)
        source = Source(tab, "/events?" + query)
        wait_until(
            lambda: [event["type"] for event in source.noted],
            lambda types: types[: 2 * SEVERAL] == ["open", "error"] * SEVERAL,
            "a browser that reconnects",
        )
        assert {(event["type"], event["readyState"]) for event in source.noted} == {
            ("open", OPEN),
            ("error", CONNECTING),
        }
        source.close()


class ScriptTests:
    def test_log_in(self, tab: Chrome, url: str) -> None:
        """
        The script of the page leads to the log-in page when the stream is refused.
        """
        tab.get(url)
        (script,) = blocks("javascript", PAGE)
        tab.execute_script(script)
        wait_until(lambda: tab.current_url, lambda seen: seen == f"{url}log-in", "the log-in page")

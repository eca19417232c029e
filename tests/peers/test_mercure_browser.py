"""
A browser and the hub over TLS, which the hub's cookie and pages that send it from another origin require:
subscribing, resuming and publishing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.remote import CLOSED, OPEN, Source
from tests.mercure.world import PATH
from tests.peers.mercure import BOOKS, find_node, old_token, publish_to, target, token_for
from tests.processes import free_port, serving
from tests.service.process import Process, running
from tests.waiting import wait_until
from txsse.mercure.settings import COOKIE, OLD_COOKIE

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# Publishes as a page does, and returns the status and the body, or the name of the error.
PUBLISH = """
const [url, fields, done] = arguments;
fetch(url, { method: "POST", body: new URLSearchParams(fields), credentials: "include" })
  .then(async (response) => [response.status, await response.text()])
  .then(done, (error) => done(error.name));
"""

# Follows a stream with Microsoft's client, which reconnects whenever the stream ends.
FOLLOW = """
const [url, token, done] = arguments;
window.notes = [];
import("/fetch-event-source/index.js").then(({ fetchEventSource }) => fetchEventSource(url, {
  headers: { Authorization: `Bearer ${token}` },
  async onopen(response) {
    notes.push(["open", response.status, response.headers.get("Mercure-Last-Event-ID")]);
    done();
  },
  onmessage: ({ data, id }) => id && notes.push(["event", data, id]),
  onclose() {
    throw new Error("closed");
  },
}));
"""


@dataclass(frozen=True)
class Pages:
    """
    The origins of web pages.

    :ivar writer: an origin whose pages may read and publish.
    :ivar reader: an origin whose pages may read.
    :ivar stranger: an origin whose pages may do neither.
    """

    writer: str
    reader: str
    stranger: str


@pytest.fixture(scope="module")
def pages(browser: Chrome, certificate: Path) -> Iterator[Pages]:
    """
    Serve the pages.
    """
    argv = ["-m", "tests.peers.mercure_pages", str(certificate), "3"]
    with serving(*argv, says="Serving (.*)\n") as [origins]:
        yield Pages(*origins.split())


class TlsHub:
    """
    A hub over TLS.

    :ivar origin: its origin.
    :ivar url: its URL.
    """

    def __init__(self, certificate: Path, pages: Pages, *argv: str) -> None:
        port = free_port()
        self.origin = f"https://127.0.0.1:{port}"
        self.url = self.origin + PATH
        self._argv = [
            f"--listen=ssl:{port}:privateKey={certificate}:interface=127.0.0.1",
            f"--url={self.url}",
            f"--origin={pages.writer}",
            f"--origin={pages.reader}",
            f"--publish-origin={pages.writer}",
            *argv,
        ]

    @contextmanager
    def running(self) -> Iterator[Process]:
        """
        Run the hub until the block ends.
        """
        with running(*self._argv) as process:
            yield process
            process.stop()

    def publish(self, topic: str, data: str, **fields: str) -> str:
        """
        Publish without the browser.
        """
        return publish_to(self.url, token_for(self.url), topic, data, **fields)


@pytest.fixture(scope="module")
def hub(certificate: Path, pages: Pages) -> Iterator[TlsHub]:
    """
    Run a hub that admits anonymous subscribers.
    """
    hub = TlsHub(certificate, pages, "--anonymous")
    with hub.running():
        yield hub


@pytest.fixture(scope="module")
def old_hub(certificate: Path, pages: Pages) -> Iterator[TlsHub]:
    """
    Run a hub in compatibility mode that admits anonymous subscribers.
    """
    hub = TlsHub(certificate, pages, "--anonymous", "--compatibility")
    with hub.running():
        yield hub


@pytest.fixture
def jar(tab: Chrome, hub: TlsHub) -> Iterator[Chrome]:
    """
    Return the browser, and clear its cookies afterwards.
    """
    yield tab
    tab.execute_cdp_cmd("Network.clearBrowserCookies", {})


def give_cookie(driver: Chrome, hub: TlsHub, name: str = COOKIE, value: str | None = None) -> None:
    """
    Set a cookie for the hub, as a login would.
    """
    driver.get(hub.origin)
    cookie: dict[str, Any] = {
        "name": name,
        "value": token_for(hub.url) if value is None else value,
        "path": PATH,
        "secure": True,
        "httpOnly": True,
        "sameSite": "Strict",
    }
    driver.add_cookie(cookie)


def wait_for_data(source: Source, data: str) -> list[str]:
    """
    Wait for an event with these data, and return the data of all events.
    """
    return wait_until(
        lambda: [each for _, _, each in source.events], lambda seen: data in seen, f"{data} of {source.noted}"
    )


class EventSourceTests:
    def test_read(self, jar: Chrome, hub: TlsHub) -> None:
        """
        A browser on the hub's own page receives the updates that it subscribed to, public and private, with
        their ids and types.
        """
        give_cookie(jar, hub)
        url = target(hub.url, match="reading", match_urlpattern=f"{BOOKS}/:id")
        source = Source(jar, url, types=["tick"]).wait_for_state(OPEN)
        ids = [
            hub.publish(f"{BOOKS}/1", "größe\nin two lines"),
            hub.publish(f"{BOOKS}/2", "private", private="on", type="tick"),
        ]
        hub.publish(f"{BOOKS}/2/reviews", "too deep")
        hub.publish("reading", "last")
        assert wait_for_data(source, "last") == ["größe\nin two lines", "private", "last"]
        assert source.events[:-1] == [
            ("message", ids[0], "größe\nin two lines"),
            ("tick", ids[1], "private"),
        ]

    @pytest.mark.parametrize("cookie", [False, True])
    def test_own_page(self, jar: Chrome, hub: TlsHub, cookie: bool) -> None:
        """
        A browser on the hub's own page receives private updates only with the cookie.
        """
        if cookie:
            give_cookie(jar, hub)
        jar.get(hub.origin)
        self.check_private(jar, hub, with_credentials=False, expected=cookie)

    @pytest.mark.parametrize("with_credentials", [False, True])
    def test_other_page(self, jar: Chrome, hub: TlsHub, pages: Pages, with_credentials: bool) -> None:
        """
        A browser on a page of a listed origin receives private updates only if the page sends credentials.
        """
        give_cookie(jar, hub)
        jar.get(pages.reader)
        self.check_private(jar, hub, with_credentials=with_credentials, expected=with_credentials)

    def check_private(self, tab: Chrome, hub: TlsHub, *, with_credentials: bool, expected: bool) -> None:
        """
        Publish a private and a public update, and check which of them the page receives.
        """
        url = target(hub.url, match="check")
        source = Source(tab, url, with_credentials=with_credentials).wait_for_state(OPEN)
        hub.publish("check", "private", private="on")
        hub.publish("check", "public")
        assert wait_for_data(source, "public") == (["private", "public"] if expected else ["public"])

    @pytest.mark.parametrize("with_credentials", [False, True])
    def test_stranger(self, jar: Chrome, hub: TlsHub, pages: Pages, with_credentials: bool) -> None:
        """
        A browser refuses the stream to a page of an origin that is not listed, even with the user's cookie.
        """
        give_cookie(jar, hub)
        jar.get(pages.stranger)
        source = Source(jar, target(hub.url, match="news"), with_credentials=with_credentials)
        source.wait_for_state(CLOSED)
        assert [event["type"] for event in source.noted] == ["error"]

    def test_bad_cookie(self, jar: Chrome, hub: TlsHub) -> None:
        """
        A browser whose cookie is invalid is refused once and does not reconnect.
        """
        give_cookie(jar, hub, value="nonsense")
        source = Source(jar, target(hub.url, match="news")).wait_for_state(CLOSED)
        assert [event["type"] for event in source.noted] == ["error"]

    def test_before_1_0(self, jar: Chrome, old_hub: TlsHub) -> None:
        """
        A browser may subscribe as before Mercure 1.0, with the older cookie, URI templates and the last event
        id in the query.
        """
        give_cookie(jar, old_hub, OLD_COOKIE, old_token(subscribe=[f"{BOOKS}/{{id}}"]))
        first = old_hub.publish(f"{BOOKS}/1", "first")
        old_hub.publish(f"{BOOKS}/2", "second", private="on")
        url = target(old_hub.url, topic=[f"{BOOKS}/{{id}}", "news"], lastEventID=first)
        source = Source(jar, url).wait_for_state(OPEN)
        old_hub.publish("news", "not granted", private="on")
        old_hub.publish("news", "last")
        assert wait_for_data(source, "last") == ["second", "last"]


class ResumingTests:
    @pytest.mark.parametrize("before", [0, 2])
    def test_restart(self, jar: Chrome, certificate: Path, pages: Pages, tmp_path: Path, before: int) -> None:
        """
        After a restart of the hub a browser receives each update once, even if it had received no event
        before.
        """
        hub = TlsHub(certificate, pages, f"--journal=sqlite:{tmp_path}/hub.sqlite")
        with hub.running():
            give_cookie(jar, hub)
            jar.get(pages.reader)
            hub.publish("news", "too early")
            url = target(hub.url, match="news")
            source = Source(jar, url, with_credentials=True).wait_for_state(OPEN)
            for number in range(before):
                hub.publish("news", str(number), private="on", retry="200")
            source.wait_for_number(before)
        with hub.running():
            for number in range(before, before + 5):
                hub.publish("news", str(number), private="on")
            hub.publish("news", "last")
            texts = wait_for_data(source, "last")
        assert texts == [*(str(number) for number in range(before + 5)), "last"]

    def test_short_streams(self, jar: Chrome, certificate: Path, pages: Pages) -> None:
        """
        A browser receives each update once, however often the hub ends the stream.
        """
        hub = TlsHub(certificate, pages, "--max-lifetime=0.5s")
        with hub.running():
            give_cookie(jar, hub)
            source = Source(jar, target(hub.url, match="news")).wait_for_state(OPEN)
            number = 0
            while sum(event["type"] == "open" for event in source.noted) < 4:
                hub.publish("news", str(number), private="on", retry="50")
                number += 1
            hub.publish("news", "last")
            texts = wait_for_data(source, "last")
        assert texts == [*map(str, range(number)), "last"]


class PublishingTests:
    def test_origins(self, jar: Chrome, hub: TlsHub, pages: Pages) -> None:
        """
        A browser may publish with the cookie only from pages of the hub's origin and of the origins in
        ``--publish-origin``, although it sends the cookie from all pages.
        """
        give_cookie(jar, hub)
        answers = {}
        for name, origin in {"own": hub.origin, **vars(pages)}.items():
            jar.get(origin)
            fields = {"topic": "pages", "data": name, "private": "on", "id": f"urn:page:{name}"}
            answers[name] = jar.execute_async_script(PUBLISH, hub.url, fields)
        assert answers["own"] == [200, "urn:page:own"]
        assert answers["writer"] == [200, "urn:page:writer"]
        assert answers["reader"][0] == 403
        assert answers["stranger"] == "TypeError"
        jar.get(hub.origin)
        source = Source(jar, target(hub.url, match="pages", last_event_id="earliest"))
        hub.publish("pages", "last")
        assert wait_for_data(source, "last") == ["own", "writer", "last"]

    def test_no_cookie(self, jar: Chrome, hub: TlsHub) -> None:
        """
        A browser may not publish without the cookie.
        """
        jar.get(hub.origin)
        answer = jar.execute_async_script(PUBLISH, hub.url, {"topic": "pages", "data": "no cookie"})
        assert answer[0] == 401


class FetchTests:
    def test_fetch_event_source(self, tab: Chrome, certificate: Path, pages: Pages) -> None:
        """
        In a browser, Microsoft's ``fetch-event-source`` passes the preflights for its token and last event
        id, reads from where it resumes, and misses nothing.
        """
        find_node("@microsoft/fetch-event-source")
        hub = TlsHub(certificate, pages, "--max-lifetime=0.5s")
        with hub.running():
            tab.get(pages.reader)
            access = token_for(hub.url, subscribe=["news"])
            tab.execute_async_script(FOLLOW, target(hub.url, match="news"), access)
            number = 0
            while sum(note[0] == "open" for note in self.notes(tab)) < 4:
                hub.publish("news", str(number), private="on", retry="50")
                number += 1
            hub.publish("news", "last")
            notes = wait_until(
                lambda: self.notes(tab), lambda notes: any(note[1] == "last" for note in notes), "the last"
            )
        texts = [note[1] for note in notes if note[0] == "event" and note[1]]
        assert texts == [*map(str, range(number)), "last"]
        # Each stream after the first resumes from the last id that the page received.
        last_id = None
        for kind, what, id in notes:
            if kind == "open":
                assert (what, id) == (200, last_id)
            else:
                last_id = id

    def notes(self, tab: Chrome) -> list[Any]:
        """
        Return the page's notes.
        """
        notes: list[Any] = tab.execute_script("return notes")
        return notes

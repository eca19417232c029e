"""
The debug page of a Mercure hub in a browser: subscribing, publishing, reading tokens, listing subscriptions,
the keyboard, and accessibility.

Run as a program, this module is a hub with its page::

    python -m tests.browser.test_mercure_page '{"anonymous": true}'
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest
from twisted.internet import defer, endpoints, task
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.mercure.world import PATH, SECRET, old_token, sign
from tests.mercure.world import token as token_with
from tests.processes import serving
from tests.waiting import wait_until
from txsse import Hub, MemoryJournal
from txsse.mercure import Settings, shared_secret, well_known
from txsse.mercure.debug_page import PageResource

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Keys = pytest.importorskip("selenium.webdriver", reason="pip install selenium").Keys

TOPIC = "https://example.com/books/1"

HOSTILE = "<img src=x onerror=alert(1)>"

LISTED = {"match": f"{PATH}/subscriptions/:rest*", "match_type": "urlpattern"}

# Reads the page in one call, so that no event can arrive in between.
READ = """
const all = (selector, read) => Array.from(document.querySelectorAll(selector), read);
const text = (cell) => cell.classList.contains("none") ? "" : cell.textContent;
const cells = (row) => Array.from(row.cells, text);
return {
  events: all("#events .event", (row) => cells(row).slice(1)),
  marks: all("#events .note", (row) => row.textContent.slice(13)),
  lines: all("#wire .line", (line) => line.textContent),
  notes: all("#wire .note", (note) => note.textContent),
  subscriptions: all("#subscriptions tr", cells),
};
"""


async def main(reactor: Any, settings: str = "{}", streams: str = "{}") -> None:
    """
    Listen, and print the origin.
    """
    root = Resource()
    port = await endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Site(root))
    origin = f"http://127.0.0.1:{port.getHost().port}"
    parsed = Settings(url=origin + PATH, issuers=[shared_secret(SECRET)], **json.loads(settings))
    hub = Hub(journal=MemoryJournal(max_count=2000))
    root.putChild(b"", PageResource(parsed))
    root.putChild(b".well-known", well_known(hub, parsed, **json.loads(streams)))
    print(f"Serving {origin}", flush=True)
    await defer.Deferred()


class Service:
    """
    A hub with its page.

    :ivar url: the page's URL.
    :ivar hub: the hub's URL.
    """

    def __init__(self, origin: str) -> None:
        self.url = f"{origin}/"
        self.hub = origin + PATH

    def token(self, **claims: Any) -> str:
        """
        Return a token that is valid for an hour.
        """
        return token_with(**{"aud": self.hub, "exp": int(time.time()) + 3600, **claims})

    def publish(self, data: str, topic: str = TOPIC, **fields: str) -> str:
        """
        Publish without the browser, and return the id.
        """
        body = urlencode({"topic": topic, "data": data, **fields}).encode()
        headers = {"Authorization": f"Bearer {self.token(publish=['*'])}"}
        request = urllib.request.Request(self.hub, body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            id: str = answer.read().decode()
            return id

    @contextmanager
    def subscribed(self, topic: str, parameter: str = "match", **claims: Any) -> Iterator[None]:
        """
        Subscribe without the browser until the block ends.
        """
        headers = {"Authorization": f"Bearer {self.token(subscribe=['*'], **claims)}"}
        request = urllib.request.Request(f"{self.hub}?{urlencode({parameter: topic})}", headers=headers)
        with urllib.request.urlopen(request, timeout=20):
            yield


@contextmanager
def service(streams: str = "{}", **settings: Any) -> Iterator[Service]:
    """
    Run a hub with its page until the block ends.
    """
    argv = ["-m", "tests.browser.test_mercure_page", json.dumps(settings), streams]
    with serving(*argv, says=r"Serving (\S+)\n") as [origin]:
        yield Service(origin)


@pytest.fixture(scope="module")
def open_hub(browser: Chrome) -> Iterator[Service]:
    """
    Run a hub in compatibility mode that admits anonymous subscribers and has the subscription API.
    """
    with service(anonymous=True, compatibility=True) as running:
        yield running


@pytest.fixture(scope="module")
def closed_hub(browser: Chrome) -> Iterator[Service]:
    """
    Run a hub that requires a token and has no subscription API.
    """
    with service(subscriptions=False) as running:
        yield running


@pytest.fixture(scope="module")
def short_hub(browser: Chrome) -> Iterator[Service]:
    """
    Run a hub whose streams end after a second.
    """
    with service('{"max_lifetime": 1.0, "retry": 0.3}', anonymous=True) as running:
        yield running


class Page:
    """
    The page in the browser.

    :param driver: the browser.
    """

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)

    def fill(self, id: str, text: str) -> Page:
        """
        Replace the text of a field.
        """
        field = self.driver.find_element("id", id)
        field.clear()
        field.click()
        # Inserts the text at once, as a paste does.
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})
        return self

    def click(self, id: str) -> Page:
        """
        Click on an element.
        """
        self.driver.find_element("id", id).click()
        return self

    def connect(self) -> Page:
        """
        Open the stream.
        """
        return self.click("connect").wait_for("state", "open")

    def disconnect(self) -> Page:
        """
        Close the stream.
        """
        return self.click("disconnect").wait_for("state", "closed")

    def text(self, id: str) -> str:
        """
        Return the text of an element.
        """
        text: str = self.driver.find_element("id", id).text
        return text

    def wait_for(self, id: str, text: str) -> Page:
        """
        Wait until an element has this text.
        """
        wait_until(lambda: self.text(id), lambda seen: seen == text, f"#{id} {text}")
        return self

    def wait_for_part(self, id: str, text: str) -> str:
        """
        Wait until an element's text contains a text, and return all of it.
        """
        return wait_until(lambda: self.text(id), lambda seen: text in seen, f"#{id} with {text}")

    def read(self) -> dict[str, Any]:
        """
        Return the contents of the page's lists.
        """
        seen = self.driver.execute_script(READ)
        assert isinstance(seen, dict)
        return seen

    def wait_for_data(self, *data: str) -> list[list[str]]:
        """
        Wait until the last events have these data, and return all events shown.
        """

        def same(events: list[list[str]]) -> bool:
            return [event[2] for event in events[-len(data) :]] == list(data)

        return wait_until(lambda: self.read()["events"], same, f"events with {data}")

    def wait_for_topics(self, *topics: str) -> list[list[str]]:
        """
        Wait until the list of subscriptions has exactly these topics besides its own, and return its rows.
        """

        def look() -> list[list[str]]:
            return [row for row in self.read()["subscriptions"] if row[1] != LISTED["match"]]

        def same(rows: list[list[str]]) -> bool:
            return sorted(row[1] for row in rows) == sorted(topics)

        return wait_until(look, same, f"subscriptions to {topics}")

    def go_to(self, id: str) -> Any:
        """
        Press Tab until an element has the focus, and return it.
        """
        for _ in range(60):
            element = self.driver.switch_to.active_element
            if element.get_attribute("id") == id:
                return element
            element.send_keys(Keys.TAB)
        pytest.fail(f"#{id} cannot be reached with Tab")


@pytest.fixture(autouse=True)
def only_own_requests(browser: Chrome) -> Iterator[None]:
    """
    Check that the pages send requests only to their own server, and that the console has only network errors.
    """
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    yield
    assert [entry for entry in browser.get_log("browser") if entry["source"] != "network"] == []
    origins = {(origin(page), origin(asked)) for page, asked, _ in requests(browser)}
    assert all(page == asked for page, asked in origins), origins


def requests(browser: Chrome) -> list[tuple[str, str, str]]:
    """
    Return the pages' requests since the last call: the page, the URL, and all parameters.
    """
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [
        (params["documentURL"], params["request"]["url"], json.dumps(params))
        for params in sent
        # Without the requests of an empty tab, which are Chromium's own.
        if params["documentURL"].startswith("http") and not params["request"]["url"].startswith("data:")
    ]


def origin(url: str) -> str:
    """
    Return the scheme, host and port of a URL.
    """
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


class SubscribeTests:
    def test_event_source(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page reads with an ``EventSource`` if there is no token, shows no wire, and shows data as
        text even if they are HTML.
        """
        page = Page(tab, open_hub.url).connect()
        ids = [open_hub.publish(HOSTILE), open_hub.publish("two\nlines", id="own")]
        assert page.wait_for_data(HOSTILE, "two\nlines") == [
            ["message", ids[0], HOSTILE],
            ["message", ids[1], "two\nlines"],
        ]
        assert page.text("last-id") == ids[1] == "own"
        assert page.text("begins") == "not available with EventSource"
        assert page.read()["lines"] == []
        assert tab.find_elements("css selector", "#events img") == []
        page.disconnect()
        open_hub.publish("after the end")
        assert page.read()["events"][-1][2] == "two\nlines"

    def test_types(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page's ``EventSource`` receives the event types that the user enters.
        """
        page = Page(tab, open_hub.url).fill("types", "price, stock").connect()
        for type in ("price", "other", "stock"):
            open_hub.publish(f"a {type}", type=type)
        assert [type for type, *_ in page.wait_for_data("a price", "a stock")] == ["price", "stock"]

    def test_fetch(self, tab: Chrome, open_hub: Service) -> None:
        """
        With fetch the debug page receives events of all types and shows every line on the wire.
        """
        page = Page(tab, open_hub.url).click("way-fetch").connect()
        id = open_hub.publish("Grüße\nan alle", type="other", retry="1500")
        assert page.wait_for_data("Grüße\nan alle") == [["other", id, "Grüße\nan alle"]]
        seen = page.read()
        for line in ("event: other", f"id: {id}", "retry: 1500", "data: Grüße", "data: an alle", ""):
            assert f"{line}\\n" in seen["lines"]
        assert seen["notes"][:2] == [f"GET {PATH}?match=*", "200 OK"]
        assert page.text("count") == "1 event"
        page.click("clear").wait_for("count", "none yet")
        assert page.read()["lines"] == page.read()["events"] == []

    def test_topics_and_patterns(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page subscribes to several topics and several URL patterns at once.
        """
        page = Page(tab, open_hub.url).fill("exact", "a\n\nb").fill("patterns", "https://example.com/:kind/7")
        page.connect()
        for topic in ("a", "c", "b", "https://example.com/books/7", "https://example.com/books/8", "a"):
            open_hub.publish(topic, topic)
        events = page.wait_for_data("a", "b", "https://example.com/books/7", "a")
        assert len(events) == 4

    def test_no_topic(self, tab: Chrome, open_hub: Service) -> None:
        """
        Without a topic the debug page sends no request, shows an error, and focuses the topic field.
        """
        page = Page(tab, open_hub.url).fill("exact", "").click("connect")
        page.wait_for("said", "Enter a topic, a pattern, or * for all topics.")
        assert tab.switch_to.active_element.get_attribute("id") == "exact"
        assert page.text("state") == "closed"

    def test_private(self, tab: Chrome, open_hub: Service) -> None:
        """
        With a token the debug page receives private updates; it sends the token in a header and does not show
        it on the wire.
        """
        page = Page(tab, open_hub.url).connect()
        open_hub.publish("a secret", private="on")
        open_hub.publish("no secret")
        assert len(page.wait_for_data("no secret")) == 1
        token = open_hub.token(subscribe=[TOPIC])
        page.disconnect().click("clear").fill("token", token).connect()
        assert not tab.find_element("id", "way-source").is_enabled()
        open_hub.publish("another secret", private="on")
        page.wait_for_data("another secret")
        assert "Authorization: Bearer (the token)" in page.read()["notes"]
        assert token not in tab.find_element("tag name", "main").text

    def test_resume(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page resumes after the last event that it has seen, and shows the id from which the hub
        replays.
        """
        page = Page(tab, open_hub.url).click("way-fetch").connect()
        last = open_hub.publish("one", id="Nummer ä☃")
        page.wait_for_data("one")
        page.disconnect()
        for data in ("two", "three"):
            open_hub.publish(data)
        page.click("resume").wait_for("state", "open").wait_for("begins", last)
        assert len(page.wait_for_data("one", "two", "three")) == 3
        page.disconnect().click("clear").fill("from", "earliest").connect().wait_for("begins", "earliest")
        assert len(page.wait_for_data("one", "two", "three")) > 3

    def test_resume_event_source(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page also resumes after the last event with an ``EventSource``.
        """
        page = Page(tab, open_hub.url).connect()
        open_hub.publish("one")
        page.wait_for_data("one")
        page.disconnect()
        open_hub.publish("two")
        page.click("resume").wait_for("state", "open")
        assert len(page.wait_for_data("one", "two")) == 2

    def test_gap(self, tab: Chrome, open_hub: Service) -> None:
        """
        If the hub does not know the last event id, the debug page shows where the stream begins instead.
        """
        page = Page(tab, open_hub.url).click("way-fetch").fill("from", "of another time").connect()
        begins = page.text("begins")
        assert begins not in ("", "none", "of another time")
        wait_until(
            lambda: page.read()["marks"],
            lambda marks: any(
                f"cannot replay after of another time; it replays after {begins}" in m for m in marks
            ),
            "a note about the gap",
        )

    @pytest.mark.parametrize("way", ["way-source", "way-fetch"])
    def test_reconnects(self, tab: Chrome, short_hub: Service, way: str) -> None:
        """
        The debug page reconnects when a stream ends, and receives each update once.
        """
        page = Page(tab, short_hub.url).click(way).connect()
        published = []
        for number in range(12):
            published.append(f"{way} {number}")
            short_hub.publish(published[-1])
            time.sleep(0.2)
        events = page.wait_for_data(*published)
        assert [data for _, _, data in events] == published
        assert page.read()["marks"].count("open") >= 2

    def test_refused(self, tab: Chrome, closed_hub: Service) -> None:
        """
        The debug page shows the status and reason of a refused subscription, and does not reconnect.
        """
        page = Page(tab, closed_hub.url)
        assert "This hub requires a token." in page.text("way-hint")
        page.click("way-fetch").click("connect")
        page.wait_for("said", "401 Unauthorized: subscribing requires a token").wait_for("state", "closed")
        page.fill("token", sign({"exp": 1})).click("connect")
        page.wait_for_part("said", "401 Unauthorized (invalid_token): the token is not accepted: ")
        page.fill("token", closed_hub.token(subscribe=["*"])).connect().wait_for("said", "")
        page.disconnect().fill("patterns", "https://example.com/(").click("connect")
        page.wait_for_part("said", "400 Bad Request: match_urlpattern")
        page.fill("token", "ünsinn").click("connect")
        page.wait_for("said", "The token contains a character that tokens cannot have.")
        page.fill("token", "").fill("patterns", "").click("way-source").click("connect")
        page.wait_for_part("said", "Read with fetch to see the response.")

    def test_flood(self, tab: Chrome, short_hub: Service) -> None:
        """
        The debug page shows only the latest 300 events, and only the beginning of long data.
        """
        with service(anonymous=True) as own:
            own.publish("x" * 100_000)
            page = Page(tab, own.url).click("way-fetch").fill("from", "earliest").connect()
            [[_, _, data]] = wait_until(lambda: page.read()["events"], bool, "the long one")
            assert data == "x" * 4000 + "… and 96000 more characters"
            page.disconnect()
            for number in range(700):
                own.publish(str(number))
            page.connect()
            events = page.wait_for_data("698", "699")
            assert [data for *_, data in events] == [str(number) for number in range(700)][-len(events) :]
            seen = page.read()
            assert 200 < len(events) <= 300 and len(seen["lines"]) <= 600
            assert page.text("count") == "702 events, the newest shown"
            tab.get("about:blank")


class PublishTests:
    def test_publish(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page publishes its form with all fields, and shows the id.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(publish=["*"], subscribe=["*"])).connect()
        page.fill("topics", "https://example.com/a\nhttps://example.com/b").fill("data", f"{HOSTILE}\nend")
        page.click("private").fill("id", "own id").fill("type", "kind").fill("retry", "2500").click("publish")
        page.wait_for("published", "Published as own id")
        assert page.wait_for_data(f"{HOSTILE}\nend")[-1] == ["kind", "own id", f"{HOSTILE}\nend"]
        assert "retry: 2500\\n" in page.read()["lines"]
        assert tab.find_elements("css selector", "main img") == []
        page.fill("id", "").click("publish")
        assert re.fullmatch(r"Published as urn:uuid:\S+", page.wait_for_part("published", "urn:uuid:"))

    def test_another_token(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page may use one token for publishing and another for reading.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(subscribe=["*"])).click("publish")
        page.wait_for(
            "published",
            "403 Forbidden (insufficient_scope): the token does not allow publishing",
        )
        page.fill("publisher", old_token(publish=["*"])).click("publish")
        page.wait_for_part("published", "Published as urn:uuid:")

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"topics": ""}, "Enter a topic."),
            ({"topics": "*"}, "400 Bad Request: * stands for all topics, and cannot be published to"),
            (
                {"retry": "soon"},
                "400 Bad Request: retry must be a number of milliseconds, written in digits only",
            ),
            ({"id": "#1"}, "400 Bad Request: ids that begin with #, and earliest, are reserved for the hub"),
            ({"token": ""}, "401 Unauthorized: publishing requires a token"),
        ],
    )
    def test_refused(self, tab: Chrome, open_hub: Service, fields: dict[str, str], said: str) -> None:
        """
        The debug page shows the status and reason of a refused publication.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(publish=["*"]))
        for id, text in fields.items():
            page.fill(id, text)
        page.click("publish").wait_for("published", said)
        assert tab.find_element("id", "published").get_attribute("data-kind") == "bad"

    def test_no_hub(self, tab: Chrome) -> None:
        """
        If the hub is unavailable, the debug page says so, and its stream waits to reconnect.
        """
        with service(anonymous=True) as own:
            page = Page(tab, own.url).click("way-fetch").connect()
        page.wait_for("state", "connecting")
        assert "The connection is lost; reconnecting in 3 s" in page.read()["notes"]
        page.click("publish").wait_for("published", "The hub cannot be reached.")
        page.disconnect()


@pytest.fixture
def own_hub(browser: Chrome) -> Iterator[Service]:
    """
    Run a hub that admits anonymous subscribers, for the updates that a test retains.
    """
    with service(anonymous=True, subscriptions=False) as running:
        yield running


class RetainedTests:
    @pytest.mark.parametrize("way", ["way-source", "way-fetch"])
    def test_marked(self, tab: Chrome, own_hub: Service, way: str) -> None:
        """
        The debug page marks the retained updates, which have no ID, and counts them; it does not mark the
        changes.
        """
        for key in ("k1", "k2"):
            own_hub.publish(f"state of {key}", retain=key)
        page = Page(tab, own_hub.url).click(way).connect()
        page.wait_for_data("state of k1", "state of k2").clear()
        id = own_hub.publish("change", retain="k1")
        assert page.wait_for_data("change") == [
            ["message", "retained", "state of k1"],
            ["message", "retained", "state of k2"],
            ["message", id, "change"],
        ]
        assert len(tab.find_elements("css selector", "#events .mark")) == 2
        assert page.text("count") == "3 events, 2 retained"
        page.click("clear").wait_for("count", "none yet")

    @pytest.mark.parametrize("way", ["way-source", "way-fetch"])
    def test_after_a_gap(self, tab: Chrome, own_hub: Service, way: str) -> None:
        """
        The debug page marks the retained updates that follow a stream-reset, and not the stream-reset.
        """
        own_hub.publish("state", retain="k")
        page = Page(tab, own_hub.url).click(way).fill("from", "of another time").connect()
        events = page.wait_for_data("state")
        assert [type for type, *_ in events] == ["stream-reset", "message"]
        assert [id == "retained" for _, id, _ in events] == [False, True]
        id = own_hub.publish("change")
        assert page.wait_for_data("change")[-1] == ["message", id, "change"]

    def test_forms(self, tab: Chrome, own_hub: Service) -> None:
        """
        The debug page retains the update of its form by a key, for a time, and removes it; a removal of what
        is not retained shows the reason.
        """
        page = Page(tab, own_hub.url).fill("token", own_hub.token(publish=["*"], subscribe=["*"])).connect()
        assert not tab.find_element("id", "unretain").is_enabled()
        page.fill("data", HOSTILE).fill("retain", "a key").fill("retain-for", "3600").click("publish")
        page.wait_for_part("published", "Published, and retained, as urn:uuid:")
        page.wait_for_data(HOSTILE)
        page.disconnect().click("clear").connect()
        assert page.wait_for_data(HOSTILE) == [["message", "retained", HOSTILE]]
        page.click("private").fill("id", "gone").click("unretain")
        page.wait_for("published", "Removed by the event gone")
        assert page.wait_for_data(HOSTILE, "a key")[-1] == ["unretain", "gone", "a key"]
        page.fill("id", "").click("unretain")
        page.wait_for("published", "404 Not Found: no update with this key is retained under these topics")
        page.fill("retain", "").fill("topics", "")
        assert not tab.find_element("id", "unretain").is_enabled()

    @pytest.mark.parametrize(
        ("fields", "button", "said"),
        [
            ({"retain-for": "60"}, "publish", "Enter the key of the retained update, or no time."),
            (
                {"retain": "k", "retain-for": "soon"},
                "publish",
                "400 Bad Request: retain_for must be a number",
            ),
            ({"retain": "k" * 1025}, "publish", "retain may have at most 1024 bytes"),
            ({"retain": "k" * 1025}, "unretain", "key may have at most 1024 bytes"),
            ({"retain": "k", "topics": ""}, "unretain", "Enter a topic."),
            (
                {"retain": "k", "token": ""},
                "unretain",
                "401 Unauthorized: removing a retained update requires",
            ),
        ],
    )
    def test_refused(
        self, tab: Chrome, open_hub: Service, fields: dict[str, str], button: str, said: str
    ) -> None:
        """
        The debug page shows the reason if an update cannot be retained or removed.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(publish=["*"]))
        for id, text in fields.items():
            page.fill(id, text)
        page.click(button).wait_for_part("published", said)
        assert tab.find_element("id", "published").get_attribute("data-kind") == "bad"

    def test_event_source_hears_removals(self, tab: Chrome, own_hub: Service) -> None:
        """
        With an EventSource, the debug page shows removals without further settings.
        """
        own_hub.publish("state", retain="k")
        page = Page(tab, own_hub.url).connect()
        page.wait_for_data("state")
        page.fill("publisher", own_hub.token(publish=["*"])).fill("topics", TOPIC).fill("retain", "k")
        page.click("unretain")
        assert page.wait_for_data("state", "k")[-1][0] == "unretain"


class TokenTests:
    def facts(self, page: Page, id: str = "token") -> dict[str, str]:
        """
        Return the facts that the page shows about a token.
        """
        script = """
        const terms = document.querySelectorAll(`#${arguments[0]}-facts dt`);
        const fact = (term) => [term.textContent, term.nextSibling.innerText];
        return Object.fromEntries(Array.from(terms, fact));
        """
        facts = page.driver.execute_script(script, id)
        assert isinstance(facts, dict)
        return facts

    def test_mercure_1_0(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page shows the header and the claims of a Mercure 1.0 token, and their meaning.
        """
        exp = int(time.time()) + 3600
        pattern = {"match": "https://example.com/:id", "match_type": "urlpattern"}
        token = open_hub.token(exp=exp, publish=["*"], subscribe=["ä☃", pattern], sub=HOSTILE, iat=0)
        page = Page(tab, open_hub.url).fill("token", f"Bearer {token[:20]}\n{token[20:]}")
        assert page.text("token-verdict") == "Not expired. The hub checks the signature."
        facts = self.facts(page)
        assert facts["Dialect"] == "Mercure 1.0"
        assert facts["May publish to"] == "* (all topics)"
        assert facts["May read"].split("\n") == ["ä☃", "https://example.com/:id (URL pattern)"]
        assert facts["Subject"] == HOSTILE
        assert re.match(r"1 Jan 1970, \d\d:\d\d:\d\d, \d+ years ago", facts["Issued"])
        local = tab.execute_script(
            "const t = new Date(arguments[0] * 1000); return t.getHours() * 60 + t.getMinutes()", exp
        )
        assert f", {local // 60:02}:{local % 60:02}:" in facts["Expires"]
        assert facts["Expires"].endswith("in 59 minutes")
        assert json.loads(page.text("token-header")) == {"alg": "HS256", "typ": "at+jwt"}
        claims = json.loads(page.text("token-claims"))
        assert (claims["exp"], claims["sub"]) == (exp, HOSTILE)
        assert tab.find_elements("css selector", "main img") == []

    def test_before_1_0(self, tab: Chrome, open_hub: Service, closed_hub: Service) -> None:
        """
        The debug page shows the meaning of a token from before Mercure 1.0, and whether the hub accepts such
        tokens.
        """
        token = old_token(publish=["https://example.com/{id}"], subscribe=["*"])
        page = Page(tab, open_hub.url).fill("publisher", token)
        assert page.text("publisher-verdict") == "Never expires. The hub checks the signature."
        assert self.facts(page, "publisher") == {
            "Dialect": "before Mercure 1.0",
            "May publish to": "https://example.com/{id}",
            "May read": "* (all topics)",
        }
        page = Page(tab, closed_hub.url).fill("token", token)
        assert self.facts(page)["Dialect"] == "before Mercure 1.0, which this hub does not accept"

    @pytest.mark.parametrize(
        ("claims", "verdict"),
        [
            ({"exp": 1_600_000_000}, "Expired"),
            ({"nbf": 9_000_000_000}, "Not valid yet"),
            ({"aud": "https://other.example"}, "Not meant for this hub"),
            ({"exp": None}, "No expiry, which the hub requires"),
            ({"authorization_details": [None, {"actions": 1, "topics": {}}], "mercure": None}, "Not expired"),
        ],
    )
    def test_verdict(self, tab: Chrome, open_hub: Service, claims: dict[str, Any], verdict: str) -> None:
        """
        The debug page checks a token's times and audience.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(**claims))
        assert page.text("token-verdict") == f"{verdict}. The hub checks the signature."
        assert self.facts(page)["May publish to"] == "nothing"

    def test_expires(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page updates its verdict when a token expires.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(exp=int(time.time()) + 3))
        assert page.text("token-verdict").startswith("Not expired.")
        page.wait_for("token-verdict", "Expired. The hub checks the signature.")
        assert self.facts(page)["Expires"].endswith("ago")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("nonsense", "This is not a token: a token has three parts, separated by dots."),
            ("a.b.c.d.e", "This is not a token: a token has three parts, separated by dots."),
            ("***.e30.x", "This is not a token: the header cannot be decoded."),
            ("e30._w.x", "This is not a token: the claims cannot be decoded."),
            ("e30.W10.x", "This is not a token: the claims must be a JSON object."),
        ],
    )
    def test_not_a_token(self, tab: Chrome, open_hub: Service, text: str, said: str) -> None:
        """
        The debug page says why a text is not a token, and shows no facts about it.
        """
        page = Page(tab, open_hub.url).fill("token", text).wait_for("token-verdict", said)
        assert self.facts(page) == {}
        assert not tab.find_element("id", "token-details").is_displayed()
        page.fill("token", "")
        tab.find_element("id", "token").send_keys(" ", Keys.BACKSPACE)
        assert not tab.find_element("id", "token-read").is_displayed()

    def test_stays_in_memory(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page sends nothing when a token is entered, and never puts a token into an attribute, a URL,
        a cookie or storage.
        """
        token = open_hub.token(publish=["*"], subscribe=["*"])
        page = Page(tab, open_hub.url)
        requests(tab)
        page.fill("token", token)
        time.sleep(0.5)
        assert requests(tab) == []
        page.connect().click("watch").click("publish").wait_for_part("published", "Published as")
        script = """
        return [
          document.documentElement.outerHTML, location.href, document.cookie, JSON.stringify(history.state),
          JSON.stringify(localStorage), JSON.stringify(sessionStorage),
          JSON.stringify(performance.getEntries()),
        ].join();
        """
        assert token[-40:] not in tab.execute_script(script)
        sent = requests(tab)
        assert len(sent) >= 4
        assert all(token[-40:] not in url for _, url, _ in sent)
        tab.refresh()
        assert tab.find_element("id", "token").get_attribute("value") == ""


class SubscriptionsTests:
    def test_watch(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page lists the current subscriptions, and updates the list as subscribers connect and
        disconnect.
        """
        token = open_hub.token(subscribe=[f"{PATH}/subscriptions", LISTED])
        page = Page(tab, open_hub.url).fill("token", token)
        with open_hub.subscribed("https://example.com/early", payload={"name": HOSTILE}):
            page.click("watch")
            [[kind, topic, subscriber, payload]] = page.wait_for_topics("https://example.com/early")
            assert (kind, topic, payload) == (
                "exact",
                "https://example.com/early",
                json.dumps({"name": HOSTILE}, separators=(",", ":")),
            )
            assert re.fullmatch(r"urn:uuid:[0-9a-f-]+", subscriber)
            page.wait_for("watched", "2 subscriptions, including the one of this list.")
            with open_hub.subscribed("late"):
                page.wait_for_topics("https://example.com/early", "late")
            page.wait_for_topics("https://example.com/early")
        page.wait_for_topics()
        page.wait_for("watched", "1 subscription, including the one of this list.")
        page.click("unwatch").wait_for("watched", "No longer watched.")

    def test_before_1_0(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page also lists subscriptions from before Mercure 1.0.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(subscribe=["*"]))
        with open_hub.subscribed("https://example.com/{+early}", "topic"):
            page.click("watch")
            [[kind, *_, payload]] = page.wait_for_topics("https://example.com/{+early}")
            assert (kind, payload) == ("template", "")
            with open_hub.subscribed("late", "topic"):
                page.wait_for_topics("https://example.com/{+early}", "late")
            page.wait_for_topics("https://example.com/{+early}")

    def test_reconnects(self, tab: Chrome, short_hub: Service) -> None:
        """
        The debug page's list of subscriptions is correct again after its stream has reconnected.
        """
        page = Page(tab, short_hub.url).fill("token", short_hub.token(subscribe=["*"])).click("watch")
        for number in range(3):
            with short_hub.subscribed(f"topic {number}"):
                page.wait_for_topics(f"topic {number}")
                time.sleep(0.4)
            page.wait_for_topics()

    def test_without_token(self, tab: Chrome, open_hub: Service) -> None:
        """
        Without a token the debug page says that the list of subscriptions requires one.
        """
        page = Page(tab, open_hub.url).click("watch")
        page.wait_for("watched", "Listing subscriptions requires a token (401).")
        assert tab.find_element("id", "watch").is_enabled()

    def test_not_allowed(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page says which grant the list of subscriptions requires, or that the token is invalid.
        """
        page = Page(tab, open_hub.url).fill("token", open_hub.token(subscribe=["other"])).click("watch")
        said = page.wait_for_part("watched", "(403)")
        assert said.endswith(f"it must allow subscribing to {PATH}/subscriptions.")
        page.fill("token", sign({})).click("watch")
        page.wait_for_part("watched", "The hub does not accept this token (401)")

    def test_disabled(self, tab: Chrome, closed_hub: Service) -> None:
        """
        The debug page says so if the hub's subscription API is disabled.
        """
        page = Page(tab, closed_hub.url).fill("token", closed_hub.token(subscribe=["*"])).click("watch")
        page.wait_for("watched", "This hub does not list its subscriptions (404).")


class KeyboardTests:
    def test_every_control(self, tab: Chrome, open_hub: Service) -> None:
        """
        A user reaches every control of the debug page with Tab and uses it with Enter, Space and the arrow
        keys, and the focus is never lost.
        """
        page = Page(tab, open_hub.url)
        page.go_to("way-source").send_keys(Keys.ARROW_RIGHT)
        assert tab.switch_to.active_element.get_attribute("id") == "way-fetch"
        page.go_to("connect").send_keys(Keys.ENTER)
        page.wait_for("state", "open")
        assert tab.switch_to.active_element.get_attribute("id") == "disconnect"
        open_hub.publish("seen")
        page.wait_for_data("seen")
        tab.switch_to.active_element.send_keys(Keys.SPACE)
        page.wait_for("state", "closed")
        assert tab.switch_to.active_element.get_attribute("id") == "connect"
        page.go_to("resume").send_keys(Keys.SPACE)
        page.wait_for("state", "open")
        assert tab.switch_to.active_element.get_attribute("id") == "disconnect"
        page.go_to("events-scroll")
        page.go_to("wire-scroll")
        token = open_hub.token(publish=["*"], subscribe=["*"])
        page.go_to("token").send_keys(token)
        page.go_to("token-claims")
        page.go_to("data").send_keys(Keys.CONTROL + "a" + Keys.NULL + "by the keyboard")
        page.go_to("private").send_keys(Keys.SPACE)
        assert tab.find_element("id", "private").is_selected()
        page.go_to("private").send_keys(Keys.SPACE)
        page.go_to("type").send_keys("keyed", Keys.ENTER)
        page.wait_for_part("published", "Published as")
        page.wait_for_data("by the keyboard")
        page.go_to("publish").send_keys(Keys.SPACE)
        page.wait_for_data("by the keyboard", "by the keyboard")
        page.go_to("retain").send_keys("by keys", Keys.ENTER)
        page.wait_for_part("published", "Published, and retained, as")
        page.go_to("unretain").send_keys(Keys.SPACE)
        page.wait_for_part("published", "Removed by the event")
        assert tab.switch_to.active_element.get_attribute("id") == "unretain"
        page.wait_for_data("by the keyboard", "by keys")
        page.go_to("watch").send_keys(Keys.ENTER)
        page.wait_for_part("watched", "including the one of this list")
        page.go_to("subscriptions-scroll")
        page.go_to("unwatch").send_keys(Keys.ENTER)
        page.wait_for("watched", "No longer watched.")
        assert tab.switch_to.active_element.get_attribute("id") == "watch"
        page.go_to("clear").send_keys(Keys.ENTER)
        page.wait_for("count", "none yet")

    def test_order(self, tab: Chrome, open_hub: Service) -> None:
        """
        Tab follows the reading order of the debug page, and the focus is visible on each element.
        """
        Page(tab, open_hub.url)
        script = """
        const focused = document.activeElement;
        const style = getComputedStyle(focused);
        return [focused.id, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
        """
        order = []
        for _ in range(30):
            tab.switch_to.active_element.send_keys(Keys.TAB)
            id, visible = tab.execute_script(script)
            if not id or id in order:
                break
            assert visible, id
            order.append(id)
        assert order == [
            *("token", "publisher"),
            *("exact", "patterns", "from", "way-source", "types", "connect"),
            *("topics", "data", "id", "type", "retry", "retain", "retain-for", "publish", "private"),
            *("clear", "events-scroll", "wire-scroll", "watch"),
        ]


class AccessibilityTests:
    def open_all(self, tab: Chrome, service: Service) -> Page:
        """
        Make the page show all its parts.
        """
        token = service.token(publish=["*"], subscribe=["*"], payload={"name": "Ada"})
        page = Page(tab, service.url).fill("token", token).fill("publisher", service.token(exp=1)).connect()
        page.click("publish").wait_for_part("published", "401")
        page.fill("publisher", old_token(publish=["*"])).click("publish").wait_for_part(
            "published", "Published"
        )
        page.wait_for_data('{"title": "Hello"}')
        page.click("watch").wait_for_part("watched", "including the one")
        return page

    def test_names(self, tab: Chrome, open_hub: Service) -> None:
        """
        Every control and region of the debug page has an accessible name.
        """
        self.open_all(tab, open_hub)
        nodes = tab.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        named = {
            "textbox",
            "radio",
            "checkbox",
            "button",
            "region",
            "table",
            "radiogroup",
            "group",
            "heading",
        }
        names = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in named
        ]
        assert [role for role, name in names if not name and role != "group"] == []
        fields = [name for role, name in names if role == "textbox"]
        assert len(fields) == len(set(fields)) == 12
        regions = [name for role, name in names if role == "region"]
        assert sorted(regions) == sorted(set(regions))
        assert {name for role, name in names if role == "group" and name} == {"Read with"}

    def test_headings(self, tab: Chrome, open_hub: Service) -> None:
        """
        The headings of the debug page form an outline without a skipped level.
        """
        Page(tab, open_hub.url)
        headings = "return Array.from(document.querySelectorAll('h1, h2, h3, h4'), (each) => each.tagName)"
        levels = [int(name[1]) for name in tab.execute_script(headings)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_status_regions(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page's states and errors are status regions, which screen readers announce.
        """
        Page(tab, open_hub.url)
        for id in ("state", "said", "published", "watched", "token-verdict"):
            assert tab.find_element("id", id).get_attribute("role") == "status"

    def test_contrast(self, tab: Chrome, open_hub: Service) -> None:
        """
        Every text of the debug page has a contrast of at least 4.5 to 1, except on disabled controls.
        """
        self.open_all(tab, open_hub)
        for scheme in ("light", "dark"):
            with emulated(tab, "prefers-color-scheme", scheme):
                ground = tab.execute_script("return getComputedStyle(document.body).backgroundColor")
                assert (ground == "rgb(21, 21, 20)") == (scheme == "dark")
                # Until the transitions have ended.
                time.sleep(1.3)
                found = tab.execute_script(CONTRASTS)
            assert len(found) > 60
            assert [(scheme, *each) for each in found if each[1] < 4.5] == []

    def test_reduced_motion(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page has no animation for users who prefer reduced motion.
        """
        moving = "return [getComputedStyle(document.querySelector('#events .event')).animationName]"
        self.open_all(tab, open_hub)
        for preference, names in (("no-preference", ["arrive"]), ("reduce", ["none"])):
            with emulated(tab, "prefers-reduced-motion", preference):
                assert tab.execute_script(moving) == names

    def test_widths(self, tab: Chrome, open_hub: Service) -> None:
        """
        At every width the debug page fits the screen, and no button or label is cut off.
        """
        over = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
        wide = """
        const texts = "button, label, h1, h2, h3, p, dd, td, legend, .field";
        const all = [...document.querySelectorAll(texts)];
        return all.filter((each) => each.scrollWidth > each.clientWidth + 1 && each.clientWidth)
          .map((each) => each.outerHTML);
        """
        self.open_all(tab, open_hub)
        try:
            for width in (320, 390, 800, 1280):
                metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
                tab.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
                assert tab.execute_script("return innerWidth") == width
                assert (width, tab.execute_script(over), tab.execute_script(wide)) == (width, 0, [])
        finally:
            tab.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


class PolicyTests:
    def test_markup(self, tab: Chrome, open_hub: Service) -> None:
        """
        The debug page's policy prevents scripts from turning text into elements.
        """
        Page(tab, open_hub.url)
        script = """
        try {
          document.body.innerHTML = "<b>";
          return "done";
        } catch (error) {
          return error.name;
        }
        """
        assert tab.execute_script(script) == "TypeError"
        tab.get_log("browser")

    def test_frame(self, tab: Chrome, open_hub: Service, closed_hub: Service) -> None:
        """
        The debug page's policy prevents every page from showing it in a frame, even one of its own origin.
        """
        tab.get(open_hub.hub)
        script = """
        const frame = document.createElement("iframe");
        frame.src = arguments[0];
        frame.onload = () => arguments[1](frame.contentDocument === null);
        document.body.append(frame);
        """
        assert tab.execute_async_script(script, open_hub.url) is True
        tab.get_log("browser")


# For each text: its beginning, its contrast with the background, and its element.
CONTRASTS = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
};
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const color = parse(getComputedStyle(element).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const found = [];
const exempt = "script, noscript, :disabled, .choice:has(:disabled)";
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility() || element.closest(exempt)) continue;
  const both = [parse(getComputedStyle(element).color), ground(element)].map(light);
  const [a, b] = both.sort((x, y) => y - x);
  found.push([text.slice(0, 40), (a + 0.05) / (b + 0.05), element.className || element.tagName]);
}
return found;
"""


@contextmanager
def emulated(tab: Chrome, feature: str, value: str) -> Iterator[None]:
    """
    Make the browser report a user preference.
    """
    tab.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": feature, "value": value}]})
    try:
        yield
    finally:
        tab.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


if __name__ == "__main__":
    task.react(main, sys.argv[1:])

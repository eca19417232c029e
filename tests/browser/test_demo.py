"""
The web page of the demo in a browser: its streams, its buttons, the keyboard, and its hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.processes import serving
from tests.waiting import wait_until
from txsse import EventStreamParser

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Keys = pytest.importorskip("selenium.webdriver", reason="pip install selenium").Keys

# Reads both panes in one call, so that no event can arrive in between.
READ = """
const all = (selector, read) => Array.from(document.querySelectorAll(selector), read);
const cell = (row, name) => {
  const found = row.querySelector("td." + name);
  return found.classList.contains("none") ? "" : found.textContent;
};
return {
  events: all("#events .event", (row) => ["type", "id", "data"].map((name) => cell(row, name))),
  lines: all("#wire .line", (line) => {
    const parts = line.querySelectorAll(".name, .value, .comment");
    return Array.from(parts, (part) => part.textContent).join("");
  }),
  notes: all("#wire .note", (note) => note.textContent),
  status: Object.fromEntries(all(".status dd", (value) => [value.id, value.textContent])),
};
"""


class Page:
    """
    The page in a tab of the browser.

    :param driver: the browser.
    """

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self._handle = driver.current_window_handle

    def show(self) -> Page:
        """
        Bring its tab to the front.
        """
        self.driver.switch_to.window(self._handle)
        return self

    def click(self, id: str) -> None:
        """
        Click on an element.
        """
        self.driver.find_element("id", id).click()

    def connect(self, stream: str) -> Page:
        """
        Open a stream.
        """
        self.click(f"stream-{stream}")
        self.click("connect")
        return self.wait_for("state", "open")

    def change_to(self, stream: str) -> Page:
        """
        Switch from the open stream to another.
        """
        self.click(f"stream-{stream}")
        return self.wait_for("state", "open")

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

    def read(self) -> dict[str, Any]:
        """
        Return the contents of both panes and the status.
        """
        seen = self.driver.execute_script(READ)
        assert isinstance(seen, dict)
        return seen

    def wait_for_event(self, data: str) -> None:
        """
        Wait until the last event has these data.
        """
        wait_until(
            lambda: [event[2] for event in self.read()["events"][-1:]], lambda last: last == [data], data
        )

    def wait_for_panes(self, number: int) -> dict[str, Any]:
        """
        Wait until both panes show at least this many events, and the same ones last; return the contents.
        """

        def same(seen: dict[str, Any]) -> bool:
            events = seen["events"]
            return len(events) >= number and events[-number:] == parse(seen["lines"])[-number:]

        return wait_until(self.read, same, f"the same {number} events in both panes")


def parse(lines: list[str]) -> list[list[str]]:
    """
    Return the events in the lines of a stream.
    """
    text = "".join(f"{line}\n" for line in lines)
    return [
        [event.event or "", event.id or "", event.data] for event in EventStreamParser().feed(text.encode())
    ]


@contextmanager
def demo(listen: str = "tcp:0:interface=127.0.0.1") -> Iterator[str]:
    """
    Run the demo, and return its URL.
    """
    argv = ["-m", "twisted", "--log-format=text", "txsse", "--demo", f"--listen={listen}"]
    with serving(*argv, says=r"The demo is at (\S+)\n") as [url]:
        yield url


@pytest.fixture(scope="module")
def url(browser: Chrome) -> Iterator[str]:
    """
    Run the demo, and return its URL.
    """
    with demo() as url:
        yield url


@pytest.fixture(scope="module")
def empty_logs(browser: Chrome) -> None:
    """
    Discard the browser's earlier logs.
    """
    for kind in ("browser", "performance"):
        browser.get_log(kind)


@pytest.fixture(scope="module", autouse=True)
def pages(browser: Chrome, empty_logs: None) -> Iterator[dict[str, Page]]:
    """
    Open each stream of another demo, which the tests only read: the streams take ten seconds to show
    everything, while other tests run. Each page has its own host name, because a browser opens at most six
    HTTP/1.1 connections to a host, and each page needs two.
    """
    first = browser.current_window_handle
    pages = {}
    with demo() as url:
        for name in ("progress", "clock", "events", "reconnect"):
            browser.switch_to.new_window("tab")
            pages[name] = Page(browser, url.replace("127.0.0.1", f"{name}.localhost")).connect(name)
        browser.switch_to.window(first)
        yield pages
        for page in pages.values():
            page.show()
            browser.close()
        browser.switch_to.window(first)


@pytest.fixture(autouse=True)
def only_own_requests(browser: Chrome) -> Iterator[None]:
    """
    Check that the console stays empty, and that the pages send requests only to their own server.
    """
    yield
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    origins = {
        (origin(params["documentURL"]), origin(params["request"]["url"]))
        for params in sent
        # Without the requests of an empty tab, which are Chromium's own.
        if params["documentURL"].startswith("http") and not params["request"]["url"].startswith("data:")
    }
    assert all(page == asked for page, asked in origins), origins


def origin(url: str) -> str:
    """
    Return the scheme, host and port of a URL.
    """
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


class ButtonTests:
    def test_close_from_server(self, tab: Chrome, url: str) -> None:
        """
        After "Close from the server" the browser reconnects with its last event id, and the demo's events
        continue after it.
        """
        page = Page(tab, url).connect("reconnect")
        page.wait_for_panes(2)
        page.click("close-from-server")
        page.wait_for("message", "The server closed the stream. The browser reconnects by itself.")
        page.wait_for("reconnections", "1").wait_for("state", "open")
        # Arrives with the first event, after "open".
        last = int(wait_until(lambda: page.text("seen-last-event-id"), str.isdigit, "what the server saw"))
        seen = page.wait_for_panes(last + 3)
        ids = [int(id) for type, id, _ in seen["events"] if type == "message"]
        assert ids == list(range(1, len(ids) + 1))
        assert ids[-1] > last > 0

    def test_disconnect(self, tab: Chrome, url: str) -> None:
        """
        "Disconnect" closes the demo's stream, keeps the events on the page, and another stream can be opened.
        """
        page = Page(tab, url).connect("progress")
        page.wait_for_panes(2)
        page.click("disconnect")
        page.wait_for("state", "closed")
        assert len(page.read()["events"]) >= 2
        assert not tab.find_element("id", "disconnect").is_enabled()
        assert not tab.find_element("id", "close-from-server").is_enabled()
        page.connect("clock")
        assert [type for type, _, _ in page.wait_for_panes(2)["events"]][:2] == ["connected", "message"]

    def test_disconnect_after_a_close_from_the_server(self, tab: Chrome, url: str) -> None:
        """
        After "Disconnect" the demo's page does not announce a reconnection.
        """
        page = Page(tab, url).connect("reconnect")
        page.wait_for_panes(2)
        page.click("close-from-server")
        page.wait_for("message", "The server closed the stream. The browser reconnects by itself.")
        page.click("disconnect")
        page.wait_for("state", "closed").wait_for("message", "")
        noted = tab.find_elements("css selector", "#events .note")[-1].text
        assert noted == "closed by the page: the browser will not reconnect"

    def test_late_response(self, tab: Chrome, url: str) -> None:
        """
        A response to "Close from the server" that arrives after "Disconnect" announces no reconnection on the
        demo's page.
        """
        page = Page(tab, url).connect("clock")
        tab.execute_script("closeFromServer().then(() => { document.title = 'answered'; }); disconnect();")
        wait_until(lambda: tab.title, lambda title: title == "answered", "the answer")
        assert page.text("message") == ""

    def test_another_stream(self, tab: Chrome, url: str) -> None:
        """
        Choosing another stream on the demo's page switches to it and shows its Python code.
        """
        page = Page(tab, url).connect("clock")
        page.click("stream-progress")
        page.wait_for("state", "open")
        assert [type for type, _, _ in page.wait_for_panes(2)["events"]][:2] == ["connected", "progress"]
        assert tab.find_element("id", "snippet-progress").is_displayed()
        assert not tab.find_element("id", "snippet-clock").is_displayed()


class KeyboardTests:
    def test_streams(self, tab: Chrome, url: str) -> None:
        """
        On the demo's page a user chooses streams with the arrow keys, reaches buttons with Tab, and presses
        them with Enter or Space.
        """
        page = Page(tab, url)
        self.go_to(page, "stream-clock").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        assert tab.switch_to.active_element.get_attribute("id") == "stream-reconnect"
        self.go_to(page, "connect").send_keys(Keys.ENTER)
        page.wait_for("state", "open").wait_for_panes(2)
        self.go_to(page, "close-from-server").send_keys(Keys.SPACE)
        page.wait_for("reconnections", "1").wait_for("state", "open")
        self.go_to(page, "disconnect").send_keys(Keys.ENTER)
        page.wait_for("state", "closed")
        assert tab.switch_to.active_element.get_attribute("id") == "connect"
        self.go_to(page, "events-scroll")

    def test_hub(self, tab: Chrome, url: str) -> None:
        """
        On the demo's page a user publishes a message with Enter, and the focus stays in the field.
        """
        page = Page(tab, url)
        self.go_to(page, "stream-clock").send_keys(Keys.ARROW_LEFT)
        assert tab.switch_to.active_element.get_attribute("id") == "stream-hub"
        self.go_to(page, "connect").send_keys(Keys.ENTER)
        page.wait_for("state", "open")
        self.go_to(page, "text").send_keys("by the keyboard", Keys.ENTER)
        page.wait_for_event("by the keyboard")
        wait_until(lambda: page.text("published"), lambda text: text.startswith("Published"), "the answer")
        assert tab.switch_to.active_element.get_attribute("id") == "text"
        tab.switch_to.active_element.send_keys("once more")
        self.go_to(page, "publish").send_keys(Keys.SPACE)
        page.wait_for_event("once more")

    def go_to(self, page: Page, id: str) -> Any:
        """
        Press Tab until an element has the focus, and return it.
        """
        for _ in range(20):
            element = page.driver.switch_to.active_element
            if element.get_attribute("id") == id:
                return element
            element.send_keys(Keys.TAB)
        pytest.fail(f"#{id} cannot be reached with Tab")


class TLSTests:
    def test_http2(self, tab: Chrome, certificate: Path) -> None:
        """
        The demo works over TLS with HTTP/2.
        """
        with demo(f"ssl:0:interface=127.0.0.1:privateKey={certificate}") as url:
            page = Page(tab, url).connect("progress")
            page.wait_for_panes(3)
            protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
            assert tab.execute_script(protocol) == "h2"
            page.click("close-from-server")
            page.wait_for("message", "The server closed the stream. The browser reconnects by itself.")
            page.change_to("hub").wait_for("pages", "1")
            tab.find_element("id", "text").send_keys("over TLS", Keys.ENTER)
            page.wait_for_event("over TLS")
            tab.get("about:blank")


class StreamTests:
    @pytest.fixture(autouse=True)
    def first_tab(self, tab: Chrome) -> Iterator[None]:
        """
        Show the first tab again after each test.
        """
        first = tab.current_window_handle
        yield
        tab.switch_to.window(first)

    def test_clock(self, pages: dict[str, Page]) -> None:
        """
        The demo's clock sends one numbered event each second, which both panes show.
        """
        seen = pages["clock"].show().wait_for_panes(4)
        connected, *times = seen["events"]
        assert connected == ["connected", "", '{"last_event_id":""}']
        assert [id for _, id, _ in times] == [str(number) for number in range(1, len(times) + 1)]
        assert {type for type, _, _ in times} == {"message"}
        assert seen["status"] == {
            "state": "open",
            "reconnections": "0",
            "last-event-id": times[-1][1],
            "seen-last-event-id": "none",
        }

    def test_events(self, pages: dict[str, Page]) -> None:
        """
        The demo's page shows events of all types as they were sent, and comments only on the wire.
        """
        page = pages["events"].show()
        # One round of five events, after the event with which all streams begin.
        seen = page.wait_for_panes(6)
        assert [[type, id] for type, id, _ in seen["events"][1:6]] == [
            ["message", "1"],
            ["poem", "2"],
            ["greeting", "3"],
            ["json", "4"],
            ["empty", "5"],
        ]
        data = {type: data for type, _, data in seen["events"]}
        assert data["poem"] == "Roses are red,\nviolets are blue;\neach line of it\ntravels alone."
        assert data["greeting"] == "Grüß Gott · Привет · こんにちは · 🦆"
        assert json.loads(data["json"]) == {"city": "Zürich", "celsius": 21.5}
        assert data["empty"] == ""
        assert ": A comment is on the wire, but is not an event." in seen["lines"]

    def test_reconnect(self, pages: dict[str, Page]) -> None:
        """
        The demo's reconnect stream ends after five events, and the browser resumes with the sixth.
        """
        seen = pages["reconnect"].show().wait_for_panes(8)
        assert seen["events"][:8] == [
            ["connected", "", '{"last_event_id":""}'],
            *[["message", str(number), f"event {number}"] for number in range(1, 6)],
            ["connected", "5", '{"last_event_id":"5"}'],
            ["message", "6", "event 6"],
        ]
        connections = [json.loads(data) for type, _, data in seen["events"] if type == "connected"]
        # The stream may be open again before its first event has arrived.
        assert int(seen["status"]["reconnections"]) in (len(connections) - 1, len(connections))
        assert seen["status"]["seen-last-event-id"] == connections[-1]["last_event_id"]
        assert seen["status"]["last-event-id"] == seen["events"][-1][1]
        assert "GET /streams/reconnect, Last-Event-ID: 5" in seen["notes"]

    def test_progress(self, pages: dict[str, Page]) -> None:
        """
        The demo's progress stream completes, and a 204 then stops the browser's reconnections.
        """
        page = pages["progress"].show().wait_for("state", "closed")
        seen = page.wait_for_panes(21)
        assert seen["status"]["reconnections"] == "0"
        connected, *events = seen["events"]
        assert connected[0] == "connected"
        assert events == [["progress", str(done), f"{done} %"] for done in range(5, 101, 5)]
        wait_until(
            lambda: page.read()["notes"][-2:],
            lambda notes: notes == ["GET /streams/progress, Last-Event-ID: 100", "204 No Content"],
            "a 204 on the wire",
        )


class HubTests:
    @pytest.fixture
    def url(self, browser: Chrome) -> Iterator[str]:
        """
        Run a demo with an empty hub, and return its URL.
        """
        with demo() as url:
            yield url

    @pytest.fixture
    def windows(self, tab: Chrome) -> Iterator[Callable[[str], Page]]:
        """
        Return a function that opens a page in a separate window, and close the windows after the test.
        """
        first = tab.current_window_handle
        pages: list[Page] = []

        def open_page(url: str) -> Page:
            tab.switch_to.new_window("window")
            pages.append(Page(tab, url))
            return pages[-1]

        yield open_page
        for page in pages:
            page.show()
            tab.close()
        tab.switch_to.window(first)

    def messages(self, page: Page, number: int) -> list[list[str]]:
        """
        Wait until a page shows at least this many messages, the same in both panes, and return their ids and
        data.
        """

        def same(seen: tuple[list[list[str]], list[list[str]]]) -> bool:
            return len(seen[0]) >= number and seen[0] == seen[1]

        def look() -> tuple[list[list[str]], list[list[str]]]:
            seen = page.show().read()
            return only(seen["events"]), only(parse(seen["lines"]))

        def only(events: list[list[str]]) -> list[list[str]]:
            return [[id, data] for type, id, data in events if type == "message"]

        return wait_until(look, same, f"the same {number} messages in both panes")[0]

    def publish(self, page: Page, text: str) -> str:
        """
        Publish with the page's form, and return the id.
        """
        page.show().driver.find_element("id", "text").send_keys(text)
        page.click("publish")
        wait_until(
            lambda: page.driver.find_element("id", "text").get_attribute("value"), lambda left: not left, "id"
        )
        found = re.fullmatch(
            r"Published as ([0-9a-f-]+)\.(?: Press Connect to see it\.)?", page.text("published")
        )
        assert found is not None
        return found[1]

    def test_two_windows(self, windows: Callable[[str], Page], url: str) -> None:
        """
        Two windows of the demo's hub show the messages of both, and the number of subscribers.
        """
        first, second = windows(url).connect("hub"), windows(url).connect("hub")
        for page in (first, second):
            page.show().wait_for("pages", "2")
        id = self.publish(first, "Grüße an alle")
        assert self.messages(second, 1) == self.messages(first, 1) == [[id, "Grüße an alle"]]
        other = self.publish(second, "<b>zurück</b>")
        for page in (first, second):
            assert self.messages(page, 2) == [[id, "Grüße an alle"], [other, "<b>zurück</b>"]]
        second.click("disconnect")
        second.wait_for("pages", "unknown")
        first.show().wait_for("pages", "1")

    def test_late_subscriber(self, windows: Callable[[str], Page], url: str) -> None:
        """
        A window that connects late to the demo's hub receives the earlier messages, and then the live ones.
        """
        first = windows(url)
        first.click("stream-hub")
        published = [[self.publish(first, text), text] for text in ("one", "two", "three")]
        late = windows(url).connect("hub")
        assert self.messages(late, 3) == published
        published.append([self.publish(late, "four"), "four"])
        assert self.messages(first.show().connect("hub"), 4) == published

    def test_reconnects(self, windows: Callable[[str], Page], url: str) -> None:
        """
        A page of the demo's hub receives the messages that were published while it was disconnected, each
        once.
        """
        page = windows(url).connect("hub")
        published = [[self.publish(page, text), text] for text in ("one", "two")]
        self.messages(page, 2)
        page.click("close-from-server")
        page.wait_for("message", "The server closed the stream. The browser reconnects by itself.")
        published.append([self.publish(page, "three"), "three"])
        page.wait_for("reconnections", "1").wait_for("state", "open")
        assert self.messages(page, 3) == published
        assert page.text("seen-last-event-id") == published[1][0]

    def test_hidden(self, windows: Callable[[str], Page], url: str) -> None:
        """
        A hidden page of the demo stops reading the wire, and resumes after its last event when it is shown.
        """
        page = windows(url).connect("hub")
        published = [[self.publish(page, "seen"), "seen"]]
        self.messages(page, 1)
        self.set_hidden(page, True)
        page.driver.switch_to.new_window("tab")
        other = Page(page.driver, url)
        other.click("stream-hub")
        published.append([self.publish(other, "hidden"), "hidden"])
        page.driver.close()
        page.show()
        page.wait_for_event("hidden")
        assert page.read()["notes"][-1] == "Not read while the page is hidden"
        self.set_hidden(page, False)
        assert self.messages(page, 2) == published
        assert f"Last-Event-ID: {published[0][0]}" in page.read()["notes"][-2]
        assert page.text("pages") == "1"

    def set_hidden(self, page: Page, hidden: bool) -> None:
        """
        Make a page consider itself hidden or shown, because headless browsers differ in what they hide.
        """
        page.driver.execute_script(
            "Object.defineProperty(document, 'hidden', { configurable: true, value: arguments[0] });"
            "document.dispatchEvent(new Event('visibilitychange'));",
            hidden,
        )

    def test_too_long(self, windows: Callable[[str], Page], url: str) -> None:
        """
        The demo's message field accepts no more characters than its hub.
        """
        page = windows(url).connect("hub")
        text = "\u0ee1" * 1001
        self.publish(page, text)
        assert [data for _, data in self.messages(page, 1)] == [text[:1000]]

    def test_form_of_the_hub(self, windows: Callable[[str], Page], url: str) -> None:
        """
        The demo's page shows the form for messages only for the hub.
        """
        page = windows(url)
        assert not page.driver.find_element("id", "hub").is_displayed()
        page.click("stream-hub")
        assert page.driver.find_element("id", "hub").is_displayed()
        page.click("stream-events")
        assert not page.driver.find_element("id", "hub").is_displayed()

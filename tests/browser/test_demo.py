"""
The demo's page, as somebody uses it who has just installed txsse.
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

# Both panes in one go, so that no event can arrive in between.
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
        Open another stream in the place of one.
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
        Wait until an element has a text.
        """
        wait_until(lambda: self.text(id), lambda seen: seen == text, f"#{id} {text}")
        return self

    def read(self) -> dict[str, Any]:
        """
        Return what both panes and the status show.
        """
        seen = self.driver.execute_script(READ)
        assert isinstance(seen, dict)
        return seen

    def wait_for_event(self, data: str) -> None:
        """
        Wait until the last event is the one with these data.
        """
        wait_until(
            lambda: [event[2] for event in self.read()["events"][-1:]], lambda last: last == [data], data
        )

    def wait_for_panes(self, number: int) -> dict[str, Any]:
        """
        Wait until both panes show so many events at least, and the same ones last; return what there is.
        """

        def same(seen: dict[str, Any]) -> bool:
            events = seen["events"]
            return len(events) >= number and events[-number:] == understand(seen["lines"])[-number:]

        return wait_until(self.read, same, f"the same {number} events in both panes")


def understand(lines: list[str]) -> list[list[str]]:
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
    Where the demo is.
    """
    with demo() as url:
        yield url


@pytest.fixture(scope="module")
def empty_logs(browser: Chrome) -> None:
    """
    Forget what the browser has logged before.
    """
    for kind in ("browser", "performance"):
        browser.get_log(kind)


@pytest.fixture(scope="module", autouse=True)
def pages(browser: Chrome, empty_logs: None) -> Iterator[dict[str, Page]]:
    """
    All streams of another demo, which nobody touches. They take ten seconds to show all that they have, while
    other tests run. Each has a host name of its own, because by HTTP/1.1 a browser opens six connections to
    one, and each page takes two.
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
def nothing_else(browser: Chrome) -> Iterator[None]:
    """
    See that the console stays empty, and that nothing is loaded from elsewhere.
    """
    yield
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    origins = {
        (origin(params["documentURL"]), origin(params["request"]["url"]))
        for params in sent
        # The page of an empty tab is Chromium's own.
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
        The browser comes back by itself, tells the last id, and events go on behind that.
        """
        page = Page(tab, url).connect("reconnect")
        page.wait_for_panes(2)
        page.click("close-from-server")
        page.wait_for("message", "The server closed the stream. The browser reconnects by itself.")
        page.wait_for("reconnections", "1").wait_for("state", "open")
        # It comes with the first event, behind "open".
        last = int(wait_until(lambda: page.text("seen-last-event-id"), str.isdigit, "what the server saw"))
        seen = page.wait_for_panes(last + 3)
        ids = [int(id) for type, id, _ in seen["events"] if type == "message"]
        assert ids == list(range(1, len(ids) + 1))
        assert ids[-1] > last > 0

    def test_disconnect(self, tab: Chrome, url: str) -> None:
        """
        The stream is closed, what arrived stays, and another one can be opened.
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
        After Disconnect no line promises that the browser comes back.
        """
        page = Page(tab, url).connect("reconnect")
        page.wait_for_panes(2)
        page.click("close-from-server")
        page.wait_for("message", "The server closed the stream. The browser reconnects by itself.")
        page.click("disconnect")
        page.wait_for("state", "closed").wait_for("message", "")
        noted = tab.find_elements("css selector", "#events .note")[-1].text
        assert noted == "closed by the page: the browser will not reconnect"

    def test_answer_that_comes_after_disconnect(self, tab: Chrome, url: str) -> None:
        """
        The answer to "Close from the server" that comes after Disconnect shows no such line, either.
        """
        page = Page(tab, url).connect("clock")
        tab.execute_script("closeFromServer().then(() => { document.title = 'answered'; }); disconnect();")
        wait_until(lambda: tab.title, lambda title: title == "answered", "the answer")
        assert page.text("message") == ""

    def test_another_stream(self, tab: Chrome, url: str) -> None:
        """
        Choosing one while another is open changes over, and shows the Python of it.
        """
        page = Page(tab, url).connect("clock")
        page.click("stream-progress")
        page.wait_for("state", "open")
        assert [type for type, _, _ in page.wait_for_panes(2)["events"]][:2] == ["connected", "progress"]
        assert tab.find_element("id", "snippet-progress").is_displayed()
        assert not tab.find_element("id", "snippet-clock").is_displayed()


class KeyboardTests:
    def test_all_of_it(self, tab: Chrome, url: str) -> None:
        """
        Streams are chosen with the arrow keys, buttons reached with Tab and pressed with Enter or Space.
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
        A message is published with Enter, and the focus stays for the next one.
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
        Over TLS the demo is the same, by HTTP/2.
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
    def back(self, tab: Chrome) -> Iterator[None]:
        """
        Show the first tab behind each test again.
        """
        first = tab.current_window_handle
        yield
        tab.switch_to.window(first)

    def test_clock(self, pages: dict[str, Page]) -> None:
        """
        Every second there is an event in both panes, with one number more.
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
        All types are in the table as they were sent; the comment is on the wire alone.
        """
        page = pages["events"].show()
        # A round of five, and what all streams begin with.
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
        After five events the stream ends; the browser says which was the last one, and gets the next.
        """
        seen = pages["reconnect"].show().wait_for_panes(8)
        assert seen["events"][:8] == [
            ["connected", "", '{"last_event_id":""}'],
            *[["message", str(number), f"event {number}"] for number in range(1, 6)],
            ["connected", "5", '{"last_event_id":"5"}'],
            ["message", "6", "event 6"],
        ]
        connections = [json.loads(data) for type, _, data in seen["events"] if type == "connected"]
        # It may be open again, and the event about that not there yet.
        assert int(seen["status"]["reconnections"]) in (len(connections) - 1, len(connections))
        assert seen["status"]["seen-last-event-id"] == connections[-1]["last_event_id"]
        assert seen["status"]["last-event-id"] == seen["events"][-1][1]
        assert "GET /streams/reconnect, Last-Event-ID: 5" in seen["notes"]

    def test_progress(self, pages: dict[str, Page]) -> None:
        """
        The job comes to its end, and a 204 behind that keeps the browser away.
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
        Where a demo is in whose hub nothing was published yet.
        """
        with demo() as url:
            yield url

    @pytest.fixture
    def windows(self, tab: Chrome) -> Iterator[Callable[[str], Page]]:
        """
        Open pages in windows of their own, and close them behind the test.
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
        Wait until a page shows so many messages in both panes, and return their ids and data.
        """

        def same(seen: tuple[list[list[str]], list[list[str]]]) -> bool:
            return len(seen[0]) >= number and seen[0] == seen[1]

        def look() -> tuple[list[list[str]], list[list[str]]]:
            seen = page.show().read()
            return only(seen["events"]), only(understand(seen["lines"]))

        def only(events: list[list[str]]) -> list[list[str]]:
            return [[id, data] for type, id, data in events if type == "message"]

        return wait_until(look, same, f"the same {number} messages in both panes")[0]

    def publish(self, page: Page, text: str) -> str:
        """
        Publish by the page's form, and return the id.
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
        What one publishes the other sees, in both panes; each says how many there are.
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

    def test_late_one(self, windows: Callable[[str], Page], url: str) -> None:
        """
        One who comes late gets what was published before, and goes on with the others.
        """
        first = windows(url)
        first.click("stream-hub")
        published = [[self.publish(first, text), text] for text in ("one", "two", "three")]
        late = windows(url).connect("hub")
        assert self.messages(late, 3) == published
        published.append([self.publish(late, "four"), "four"])
        assert self.messages(first.show().connect("hub"), 4) == published

    def test_cut_off(self, windows: Callable[[str], Page], url: str) -> None:
        """
        What is published while a page is away comes when it is back, and nothing comes twice.
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
        A page that nobody sees leaves the wire, and reads on behind what it had when it is shown.
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
        Have a page take itself for hidden: headless browsers differ in what they hide.
        """
        page.driver.execute_script(
            "Object.defineProperty(document, 'hidden', { configurable: true, value: arguments[0] });"
            "document.dispatchEvent(new Event('visibilitychange'));",
            hidden,
        )

    def test_too_long(self, windows: Callable[[str], Page], url: str) -> None:
        """
        The field holds no more than the hub takes.
        """
        page = windows(url).connect("hub")
        text = "\u0ee1" * 1001
        self.publish(page, text)
        assert [data for _, data in self.messages(page, 1)] == [text[:1000]]

    def test_only_there(self, windows: Callable[[str], Page], url: str) -> None:
        """
        The other streams have nothing to publish.
        """
        page = windows(url)
        assert not page.driver.find_element("id", "hub").is_displayed()
        page.click("stream-hub")
        assert page.driver.find_element("id", "hub").is_displayed()
        page.click("stream-events")
        assert not page.driver.find_element("id", "hub").is_displayed()

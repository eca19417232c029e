"""
The examples with a web page, in a browser.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.browser.remote import CLOSED, CONNECTING, Source
from tests.processes import serving
from tests.waiting import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Keys = pytest.importorskip("selenium.webdriver", reason="pip install selenium").Keys

QUOTES = {
    "4": "古池や\n蛙飛びこむ\n水の音",
    "8": "Je pense,\ndonc je suis",
    "12": "Über allen Gipfeln\nist Ruh",
}


class Example:
    """
    An example that prints the URL of its page.

    :cvar name: the name of its file.
    """

    name: ClassVar[str]

    @pytest.fixture
    def page(self, tab: Chrome) -> Iterator[Chrome]:
        """
        Run the example, and return the browser with its page.
        """
        with serving(f"examples/{self.name}", "0", says=r"Open (https?://127\.0\.0\.1:\d+/)\n") as [url]:
            tab.get(url)
            yield tab
            tab.get("about:blank")

    def read(self, page: Chrome, selector: str) -> str:
        """
        Return the text of an element.
        """
        text = page.execute_script("return document.querySelector(arguments[0]).textContent", selector)
        assert isinstance(text, str)
        return text

    def watch(self, page: Chrome, selector: str, pattern: str) -> None:
        """
        Wait until an element has shown two different texts that match a pattern.
        """
        seen: set[str] = set()

        def look() -> set[str]:
            seen.update(re.findall(f"^{pattern}$", self.read(page, selector)))
            return seen

        wait_until(look, lambda texts: len(texts) >= 2, f"two texts {pattern}")


class ClockTests(Example):
    name = "clock.py"

    def test_time(self, page: Chrome) -> None:
        """
        The page of the clock example shows the changing time and an open stream.
        """
        self.watch(page, "#time", r"\d\d:\d\d:\d\d")
        assert self.read(page, "#state") == "open"


class EventsTests(Example):
    name = "events.py"

    def test_resumes(self, page: Chrome) -> None:
        """
        The page of the events example receives ticks and quotes as sent, and continues after the stream's
        end.
        """
        source = Source(page, "events", types=["tick", "quote"])
        events = source.wait_for_events(12)[:12]
        wait_until(lambda: self.lines(page), lambda lines: len(lines) >= 12, "twelve events on the page")
        assert self.lines(page)[:12] == [
            f"{id}. " + (data if type == "quote" else f"The square is {json.loads(data)['square']}")
            for type, id, data in events
        ]
        for number, (type, id, data) in enumerate(events, start=1):
            assert id == str(number)
            if number % 4:
                assert type == "tick"
                assert json.loads(data) == {"number": number, "square": number**2}
            else:
                assert type == "quote"
                assert data == QUOTES[id]
        dispatched = [event["type"] for event in source.noted]
        assert dispatched[0] == "open"
        assert dispatched[11:13] == ["error", "open"]
        assert self.read(page, "#state") == "open"

    def lines(self, page: Chrome) -> list[str]:
        """
        Return the texts of the page's log.
        """
        script = "return Array.from(document.querySelectorAll('#log p'), (line) => line.textContent)"
        lines = page.execute_script(script)
        assert isinstance(lines, list)
        return lines


class TLSTests(Example):
    name = "tls_http2.py"

    @pytest.fixture(autouse=True)
    def requirements(self) -> None:
        """
        Skip the tests if an optional package of the example is missing.
        """
        pytest.importorskip("OpenSSL", reason="pip install 'txsse[tls]'")
        pytest.importorskip("h2", reason="pip install 'txsse[http2]'")

    def test_http2(self, page: Chrome) -> None:
        """
        The browser accepts the certificate of the TLS example and uses HTTP/2.
        """
        self.watch(page, "p", r"It is \d\d:\d\d:\d\d, and the protocol is HTTP/2\.")


class ChatTests(Example):
    name = "chat.py"

    @pytest.fixture
    def other(self, page: Chrome) -> Iterator[str]:
        """
        Open the same page in a second window.
        """
        url, first = page.current_url, page.current_window_handle
        page.get_log("browser")
        page.get_log("performance")
        page.switch_to.new_window("window")
        page.get(url)
        other = page.current_window_handle
        page.switch_to.window(first)
        yield other
        page.switch_to.window(other)
        page.close()
        page.switch_to.window(first)

    def say(self, page: Chrome, name: str, text: str) -> None:
        """
        Fill in the form, and send it with Enter.
        """
        field = page.find_element("id", "name")
        field.clear()
        field.send_keys(name, Keys.TAB)
        assert page.switch_to.active_element.get_attribute("id") == "text"
        page.switch_to.active_element.send_keys(text, Keys.ENTER)
        wait_until(
            lambda: page.execute_script("return document.querySelector('#text').value"),
            lambda left: left == "",
            "the message to be sent",
        )

    def wait_for_log(self, page: Chrome, *said: str) -> None:
        """
        Wait until a page shows exactly these messages and notes.
        """
        script = """
        const parts = (item) => Array.from(item.querySelectorAll("b, p"), (part) => part.textContent);
        const text = (item) => parts(item).join(": ") || item.textContent;
        return Array.from(document.querySelectorAll("#log li"), text);
        """
        wait_until(lambda: page.execute_script(script), lambda seen: seen == list(said), str(said))

    def wait_for(self, page: Chrome, selector: str, text: str) -> None:
        """
        Wait until an element has this text.
        """
        wait_until(lambda: self.read(page, selector), lambda seen: seen == text, text)

    def test_two_windows(self, page: Chrome, other: str) -> None:
        """
        Two windows of the chat example show each other's messages and the number of users; a reloaded window
        shows the earlier messages.
        """
        first = page.current_window_handle
        self.wait_for(page, "#present", "2 are connected.")
        self.say(page, "Ada", "Grüße")
        page.switch_to.window(other)
        self.wait_for_log(page, "Ada: Grüße")
        self.say(page, "Eve", "<img src=x onerror=alert(1)>")
        page.refresh()
        self.wait_for_log(page, "Ada: Grüße", "Eve: <img src=x onerror=alert(1)>")
        assert page.find_element("id", "name").get_attribute("value") == "Eve"
        page.switch_to.window(first)
        self.wait_for_log(page, "Ada: Grüße", "Eve: <img src=x onerror=alert(1)>")
        assert page.find_element("id", "name").get_attribute("value") == "Ada"
        page.switch_to.window(other)
        page.get("about:blank")
        page.switch_to.window(first)
        self.wait_for(page, "#present", "Only you are connected.")
        assert page.get_log("browser") == []
        messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
        urls = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        assert urls
        assert [
            url for url in urls if not url.startswith((page.current_url, "data:", "about:", "chrome:"))
        ] == []

    def test_disconnected(self, page: Chrome) -> None:
        """
        A page of the chat example that was disconnected receives the missed messages once and in order.
        """
        self.say(page, "Ada", "before")
        self.wait_for_log(page, "Ada: before")
        page.execute_script("source.close()")
        for text in ("one", "two"):
            self.say(page, "Ada", text)
        self.wait_for_log(page, "Ada: before")
        page.execute_script("listen()")
        self.wait_for_log(page, "Ada: before", "Ada: one", "Ada: two")

    def test_unknown_id(self, page: Chrome) -> None:
        """
        A page of the chat example whose last event id is unknown to the hub replays everything, and reports
        the gap.
        """
        self.say(page, "Ada", "still there")
        self.wait_for_log(page, "Ada: still there")
        page.execute_script("source.close(); last = 'of another time'; listen()")
        self.wait_for_log(page, "Some messages are missing.", "Ada: still there")


class DashboardTests(Example):
    name = "dashboard.py"

    def test_prices(self, page: Chrome) -> None:
        """
        The page of the dashboard example shows eight changing prices, each with a chart.
        """
        gauges = "return Array.from(document.querySelectorAll('section h2'), (title) => title.textContent)"
        names = wait_until(lambda: page.execute_script(gauges), lambda seen: len(seen) == 8, "eight prices")
        assert len(set(names)) == 8
        self.watch(page, "output", r"\d+\.\d\d")
        assert page.execute_script("return document.querySelector('polyline').points.length") > 1


class DevicesTests(Example):
    name = "devices.py"

    def test_state_and_changes(self, page: Chrome) -> None:
        """
        The page of the devices example shows the state of all devices, and then counts the changes.
        """
        self.watch(page, "p", r"24 devices, changes: [1-9]\d*")
        assert len(page.find_elements("css selector", "main div")) == 24


class ResumeTests(Example):
    name = "resume.py"

    def test_pause(self, page: Chrome) -> None:
        """
        The numbers of the resume example continue without a gap after a pause.
        """
        self.watch(page, "[role=log]", r"Connected: \d[\d ]+")
        page.find_element("css selector", "button").click()
        text = wait_until(
            lambda: self.read(page, "[role=log]"),
            lambda text: re.search(r"Resumed after \S+: \d+ \d+ \d+ \d+ \d+ ", text),
            "numbers after the pause",
        )
        numbers = [int(number) for number in re.sub("after \\S+: ", "", text).split() if number.isdigit()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


class AuthorisedTopicsTests(Example):
    name = "authorised_topics.py"

    def test_users(self, page: Chrome) -> None:
        """
        In the example of authorised topics each user sees only the events for that user, and an unknown user
        is refused.
        """
        for name, seen in (("Ada", "only for ada"), ("Grace", "only for grace"), ("Eve", "refused")):
            page.find_element("xpath", f"//button[.='{name}']").click()
            wait_until(lambda: self.read(page, "p"), lambda text, seen=seen: seen in text, seen)  # type: ignore[misc]


class LogOutTests(Example):
    name = "log_out.py"

    @pytest.fixture
    def other(self, page: Chrome) -> Iterator[str]:
        """
        Open the same page in a second tab.
        """
        url, first = page.current_url, page.current_window_handle
        page.switch_to.new_window("tab")
        page.get(url)
        other = page.current_window_handle
        page.switch_to.window(first)
        yield other
        page.switch_to.window(other)
        page.close()
        page.switch_to.window(first)

    def wait_for(self, page: Chrome, text: str) -> None:
        """
        Wait until the page shows a text.
        """
        wait_until(lambda: self.read(page, "#state"), lambda seen: text in seen, text)

    def requests(self, page: Chrome) -> int:
        """
        Return how often the page of this tab has requested the stream since the last call.
        """
        # The log is that of all tabs.
        entries = [json.loads(entry["message"]) for entry in page.get_log("performance")]
        return sum(
            entry["webview"] == page.current_window_handle
            and entry["message"]["method"] == "Network.requestWillBeSent"
            and entry["message"]["params"]["request"]["url"].endswith("/events")
            for entry in entries
        )

    def test_two_tabs(self, page: Chrome, other: str) -> None:
        """
        After a log-out in one tab, the stream of another tab ends, its next request is refused with 204, and
        its EventSource is closed and makes no further request.
        """
        first = page.current_window_handle
        self.wait_for(page, "You are logged out.")
        page.find_element("css selector", "#log-in input").send_keys("Ada", Keys.ENTER)
        self.wait_for(page, "You are Ada, in 1 tabs.")
        page.switch_to.window(other)
        page.refresh()
        self.wait_for(page, "You are Ada, in 2 tabs.")
        page.execute_script(
            "window.states = []; source.addEventListener('error', () => states.push(source.readyState))"
        )
        self.requests(page)
        page.switch_to.window(first)
        page.find_element("css selector", "#log-out button").click()
        page.switch_to.window(other)
        self.wait_for(page, "You are logged out.")
        assert page.execute_script("return states") == [CONNECTING, CLOSED]
        assert page.execute_script("return source.readyState") == CLOSED
        assert page.find_element("css selector", "#log-in").is_displayed()
        assert self.requests(page) == 1
        # The reconnection delay is one second.
        time.sleep(3.0)
        assert self.requests(page) == 0
        assert page.execute_script("return states") == [CONNECTING, CLOSED]
        page.switch_to.window(first)
        self.wait_for(page, "You are logged out.")

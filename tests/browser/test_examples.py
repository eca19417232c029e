"""
The examples with a page, in a browser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.browser.remote import Source, wait_until
from tests.browser.serving import serving

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

QUOTES = {
    "4": "古池や\n蛙飛びこむ\n水の音",
    "8": "Je pense,\ndonc je suis",
    "12": "Über allen Gipfeln\nist Ruh",
}


class Example:
    """
    An example that says at which address its page is.

    :cvar name: its file.
    """

    name: ClassVar[str]

    @pytest.fixture
    def page(self, tab: Chrome) -> Iterator[Chrome]:
        """
        The browser, with the example's page.
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
        Wait until an element has shown two texts that match a pattern.
        """
        seen: set[str] = set()

        def look() -> set[str]:
            seen.update(re.findall(f"^{pattern}$", self.read(page, selector)))
            return seen

        wait_until(look, lambda texts: len(texts) >= 2, f"two texts {pattern}")


class ClockTests(Example):
    name = "clock.py"

    def test_goes(self, page: Chrome) -> None:
        """
        The page shows one time and then another, and that the stream is open.
        """
        self.watch(page, "#time", r"\d\d:\d\d:\d\d")
        assert self.read(page, "#state") == "open"


class EventsTests(Example):
    name = "events.py"

    def test_goes_on(self, page: Chrome) -> None:
        """
        Ticks and quotes arrive as they were sent, and beyond the end after ten of them the count goes on.
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
    def needs(self) -> None:
        """
        Skip where the example cannot run.
        """
        pytest.importorskip("OpenSSL", reason="pip install Twisted[tls]")
        pytest.importorskip("h2", reason="pip install Twisted[http2]")

    def test_goes(self, page: Chrome) -> None:
        """
        The browser accepts the certificate, and speaks HTTP/2.
        """
        self.watch(page, "p", r"It is \d\d:\d\d:\d\d, and the protocol is HTTP/2\.")

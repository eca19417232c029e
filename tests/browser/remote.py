"""
Both ends of a stream from a test's point of view: the page's ``EventSource`` and the server's channel.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

__all__ = ["BURST", "CLOSED", "CONNECTING", "OPEN", "Server", "Source", "Stream", "wait_until"]

CONNECTING, OPEN, CLOSED = range(3)

# How many events a stream of the kind "burst" sends at once, after one of a million characters.
BURST = 500

_OPEN_SOURCE = """
const [url, types, withCredentials] = arguments;
const source = new EventSource(url, { withCredentials });
const noted = [];
const note = (event) => noted.push({
  type: event.type, data: event.data, lastEventId: event.lastEventId, readyState: source.readyState,
});
for (const type of ["open", "error", "message", ...types]) source.addEventListener(type, note);
window.sources ??= [];
return window.sources.push({ source, noted }) - 1;
"""


class Source:
    """
    An ``EventSource`` in the browser's current page.

    :param driver: the browser.
    :param url: the stream's URL.
    :param types: the event types to listen for, besides ``message``.
    :param with_credentials: whether it sends cookies to another origin.
    """

    def __init__(
        self, driver: Chrome, url: str, *, types: Iterable[str] = (), with_credentials: bool = False
    ) -> None:
        self._driver = driver
        self._url = url
        self._index = driver.execute_script(_OPEN_SOURCE, url, list(types), with_credentials)

    @property
    def state(self) -> int:
        """
        Its ``readyState``.
        """
        state = self._driver.execute_script("return sources[arguments[0]].source.readyState", self._index)
        assert isinstance(state, int)
        return state

    @property
    def noted(self) -> list[dict[str, Any]]:
        """
        All dispatched events, including ``open`` and ``error``.
        """
        noted = self._driver.execute_script("return sources[arguments[0]].noted", self._index)
        assert isinstance(noted, list)
        return noted

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """
        The type, id and data of each event that the server sent.
        """
        return [
            (event["type"], event["lastEventId"], event["data"])
            for event in self.noted
            if event["data"] is not None
        ]

    def close(self) -> None:
        """
        Call ``close()``.
        """
        self._driver.execute_script("sources[arguments[0]].source.close()", self._index)

    def wait_for_state(self, state: int) -> Source:
        """
        Wait for a ``readyState``.
        """
        wait_until(lambda: self.state, lambda seen: seen == state, f"readyState {state} of {self._url}")
        return self

    def wait_for_number(self, number: int) -> None:
        """
        Wait until this many events have arrived.
        """
        count = "return sources[arguments[0]].noted.filter((event) => event.data !== undefined).length"
        wait_until(
            lambda: self._driver.execute_script(count, self._index),
            lambda seen: seen >= number,
            f"{number} events of {self._url}",
        )

    def wait_for_events(self, number: int) -> list[tuple[str, str, str]]:
        """
        Wait until this many events have arrived, and return them.
        """
        # Counts in the page, because events may be too long to transfer at each poll.
        self.wait_for_number(number)
        return self.events


class Stream:
    """
    A stream of the server that only one test uses.

    :param server: the server.
    :param path: its kind and name.
    """

    def __init__(self, server: Server, path: str) -> None:
        self.url = f"{server.origin}/streams/{path}"
        self.path = f"/streams/{path}"
        self._server = server
        self._name = path

    @property
    def visits(self) -> list[dict[str, Any]]:
        """
        The requests for the stream.
        """
        visits = json.loads(self._server.ask(f"/visits/{self._name}"))
        assert isinstance(visits, list)
        return visits

    def wait_for_channel(self, number: int) -> list[dict[str, Any]]:
        """
        Wait until the request of this number has a channel, and return all requests so far.
        """
        return self._wait_for(number, "last_event_id")

    def wait_for_ends(self, number: int) -> list[dict[str, Any]]:
        """
        Wait until this many channels are closed, and return all requests so far.
        """
        return self._wait_for(number, "reason")

    def _wait_for(self, number: int, key: str) -> list[dict[str, Any]]:
        return wait_until(
            lambda: self.visits,
            lambda visits: sum(visit[key] is not None for visit in visits) >= number,
            f"{number} requests for {self.path} with {key}",
        )

    def call(self, method: str, *arguments: Any, **options: Any) -> None:
        """
        Call a method of each open channel.
        """
        self.call_all((method, arguments, options))

    def call_all(self, *calls: tuple[str, Iterable[Any], dict[str, Any]]) -> None:
        """
        Make several calls in one turn of the server's reactor.
        """
        self._server.ask(f"/calls/{self._name}", json.dumps(calls).encode())


class Server:
    """
    The process of ``server.py``.

    :param own: the origin of its streams.
    :param friend: an origin whose pages may read some of the streams.
    :param stranger: an origin whose pages may not.
    :param tls: its origin with TLS, if it has one.
    """

    def __init__(self, own: str, friend: str, stranger: str, tls: str | None = None) -> None:
        self.origin = own if tls is None else tls
        self.friend = friend
        self.stranger = stranger
        self._control = own
        self._numbers = count(1)

    def stream(self, kind: str = "plain") -> Stream:
        """
        Return a stream with an unused name.
        """
        return Stream(self, f"{kind}/{next(self._numbers)}")

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """
        Send a request without the browser.
        """
        with urllib.request.urlopen(self._control + path, body, timeout=PATIENCE) as answer:
            read: bytes = answer.read()
            return read

"""
Streams that a page of another origin opens: which origins may read them, with or without cookies, by
``EventSource`` and by ``fetch()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.remote import CLOSED, OPEN, Server, Source

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# Reads the first chunk of a stream; returns the error's name if the browser denies it to the page.
FETCH = """
const [url, headers, credentials, done] = arguments;
const read = async () => {
  const response = await fetch(url, { headers, credentials });
  const { value } = await response.body.getReader().read();
  return [response.status, response.headers.get("Content-Type"), new TextDecoder().decode(value)];
};
read().then(done, (error) => done(error.name));
"""


class EventSourceTests:
    @pytest.mark.parametrize("kind", ["shared", "credentials", "public"])
    def test_allowed_origin(self, tab: Chrome, plain_server: Server, kind: str) -> None:
        """
        A page of an allowed origin may read a stream with ``EventSource``, and every page may if all origins
        are allowed.
        """
        stream = plain_server.stream(kind)
        tab.get(plain_server.friend)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        stream.call("send", "hello", id="7")
        assert source.wait_for_events(1) == [("message", "7", "hello")]

    @pytest.mark.parametrize("kind", ["plain", "shared", "credentials"])
    def test_other_origin(self, tab: Chrome, plain_server: Server, kind: str) -> None:
        """
        The ``EventSource`` of a page whose origin is not allowed gets an error and does not reconnect.
        """
        stream = plain_server.stream(kind)
        tab.get(plain_server.stranger)
        source = Source(tab, stream.url).wait_for_state(CLOSED)
        assert [event["type"] for event in source.noted] == ["error"]

    def test_any_origin(self, tab: Chrome, plain_server: Server) -> None:
        """
        A page of any origin may read a stream if all origins are allowed.
        """
        stream = plain_server.stream("public")
        tab.get(plain_server.stranger)
        Source(tab, stream.url).wait_for_state(OPEN)

    def test_own_page(self, tab: Chrome, plain_server: Server) -> None:
        """
        A page of the stream's own origin needs no permission to read it.
        """
        stream = plain_server.stream("shared")
        tab.get(plain_server.origin)
        Source(tab, stream.url, with_credentials=True).wait_for_state(OPEN)

    def test_resumes(self, tab: Chrome, plain_server: Server) -> None:
        """
        The ``EventSource`` of another origin's page reconnects with the last event id, without a preflight.
        """
        stream = plain_server.stream("shared")
        tab.get(plain_server.friend)
        Source(tab, stream.url).wait_for_state(OPEN)
        stream.call_all(("send", [""], {"id": "№ 7", "retry": 0.2}), ("close", [], {}))
        visits = stream.wait_for_channel(2)
        assert [(visit["method"], visit["last_event_id"]) for visit in visits] == [
            ("GET", ""),
            ("GET", "№ 7"),
        ]

    @pytest.mark.parametrize(
        ("kind", "with_credentials", "state", "cookie"),
        [
            ("credentials", True, OPEN, "user=ernst"),
            ("credentials", False, OPEN, None),
            ("shared", True, CLOSED, "user=ernst"),
            ("shared", False, OPEN, None),
            ("public", True, CLOSED, "user=ernst"),
        ],
    )
    def test_cookies(
        self,
        tab: Chrome,
        plain_server: Server,
        kind: str,
        with_credentials: bool,
        state: int,
        cookie: str | None,
    ) -> None:
        """
        An ``EventSource`` sends cookies to another origin only with ``withCredentials``, and can then read
        the stream only if the server allows credentials.
        """
        stream = plain_server.stream(kind)
        tab.get(plain_server.friend)
        tab.execute_script("document.cookie = 'user=ernst'")
        try:
            Source(tab, stream.url, with_credentials=with_credentials).wait_for_state(state)
        finally:
            tab.delete_all_cookies()
        assert [visit["cookie"] for visit in stream.visits] == [cookie]


class FetchTests:
    @pytest.mark.parametrize("kind", ["shared", "credentials", "public"])
    def test_last_event_id(self, tab: Chrome, plain_server: Server, kind: str) -> None:
        """
        A page of an allowed origin that sets ``Last-Event-ID`` with ``fetch()`` passes the preflight.
        """
        stream = plain_server.stream(kind)
        assert self.fetch(tab, plain_server.friend, stream.url) == [
            200,
            "text/event-stream",
            "data: hello\n\n",
        ]
        preflight, visit = stream.visits
        assert (preflight["method"], visit["method"]) == ("OPTIONS", "GET")
        assert visit["last_event_id"] == "7"

    def test_other_origin(self, tab: Chrome, plain_server: Server) -> None:
        """
        A ``fetch()`` from an origin that is not allowed fails at the preflight.
        """
        stream = plain_server.stream("shared")
        assert self.fetch(tab, plain_server.stranger, stream.url) == "TypeError"
        assert [visit["method"] for visit in stream.visits] == ["OPTIONS"]

    def test_other_header(self, tab: Chrome, plain_server: Server) -> None:
        """
        A ``fetch()`` with a header field that is not allowed fails at the preflight.
        """
        stream = plain_server.stream("shared")
        headers = {"X-Something": "else"}
        assert self.fetch(tab, plain_server.friend, stream.url, headers=headers) == "TypeError"
        assert [visit["method"] for visit in stream.visits] == ["OPTIONS"]

    def test_credentials(self, tab: Chrome, plain_server: Server) -> None:
        """
        A ``fetch()`` with cookies can read the stream only if the server allows credentials.
        """
        allowed, forbidden = plain_server.stream("credentials"), plain_server.stream("shared")
        answer = self.fetch(tab, plain_server.friend, allowed.url, credentials="include")
        assert answer == [200, "text/event-stream", "data: hello\n\n"]
        assert self.fetch(tab, plain_server.friend, forbidden.url, credentials="include") == "TypeError"

    def fetch(
        self,
        tab: Chrome,
        origin: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        credentials: str = "omit",
    ) -> Any:
        """
        Fetch a stream from a page of this origin.
        """
        tab.get(origin)
        tab.set_script_timeout(20)
        sent = {"Last-Event-ID": "7"} if headers is None else headers
        return tab.execute_async_script(FETCH, f"{url}?hello=1", sent, credentials)

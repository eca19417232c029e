"""
Many streams of one page over a single HTTP/2 connection, which browsers use only with TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.remote import CONNECTING, OPEN, Server, Source

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# More than the six connections that a browser opens to a server over HTTP/1.1.
MANY = 8


class ManyStreamsTests:
    def test_one_connection(self, tab: Chrome, tls_server: Server) -> None:
        """
        A browser opens eight streams over one HTTP/2 connection, and each stream receives only its own event.
        """
        tab.get(tls_server.origin)
        streams = [tls_server.stream() for _ in range(MANY)]
        sources = [Source(tab, stream.url) for stream in streams]
        for source in sources:
            source.wait_for_state(OPEN)
        for number, stream in enumerate(streams):
            stream.call("send", f"for {number}", id=str(number))
        for number, source in enumerate(sources):
            assert source.wait_for_events(1) == [("message", str(number), f"for {number}")]
        visits = [visit for stream in streams for visit in stream.visits]
        assert {visit["protocol"] for visit in visits} == {"HTTP/2"}
        assert len({visit["connection"] for visit in visits}) == 1
        page = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert tab.execute_script(page) == "h2"

    def test_one_ends(self, tab: Chrome, tls_server: Server) -> None:
        """
        When one of eight streams ends, the browser reconnects it over the same HTTP/2 connection, and the
        other streams continue.
        """
        tab.get(tls_server.origin)
        streams = [tls_server.stream("quick") for _ in range(MANY)]
        sources = [Source(tab, stream.url) for stream in streams]
        for source in sources:
            source.wait_for_state(OPEN)
        streams[3].call_all(("send", ["last"], {"id": "7"}), ("close", [], {}))
        before, after = streams[3].wait_for_channel(2)
        assert after["last_event_id"] == "7"
        assert after["connection"] == before["connection"]
        for stream in streams:
            stream.call("send", "go on")
        for number, source in enumerate(sources):
            expected = ["last", "go on"] if number == 3 else ["go on"]
            assert [data for _, _, data in source.wait_for_events(len(expected))] == expected
            ends = [event["readyState"] for event in source.noted if event["type"] == "error"]
            assert ends == ([CONNECTING] if number == 3 else [])

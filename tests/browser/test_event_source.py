"""
The events that a browser's ``EventSource`` receives from a channel, and its reconnections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.remote import BURST, CLOSED, CONNECTING, OPEN, Server, Source

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

TEXTS = {
    "lines": "one\ntwo\nthree",
    "CR LF": "one\r\ntwo\r\n",
    "CR": "one\rtwo\r",
    "mixed line ends": "a\n\rb\r\n\nc\r\r\nd",
    "nothing": "",
    "a space": " ",
    "leading space": " one\n  two",
    "leading tab": "\tone",
    "trailing space": "one \ntwo ",
    "leading newline": "\none",
    "trailing newline": "one\n",
    "a newline": "\n",
    "newlines": "\n\n\n",
    "a field": "data: x",
    "fields": "one\nevent: x\nid: y\nretry: 1\n\ndata: two",
    "a colon": ":",
    "comments": ": one\n:two",
    "U+2028 and U+2029": "one\u2028two\u2029three",
    "NEL": "one\x85two",
    "VT and FF": "one\x0btwo\x0cthree",
    "separators": "one\x1ctwo\x1dthree\x1efour",
    "controls": "".join(map(chr, [*range(1, 10), 11, 12, *range(14, 32), 127])),
    "NUL": "\0one\0two\0",
    "BOM": "\ufeffone\ufeff\n\ufefftwo",
    "umlauts": "Grüß Gott",
    "scripts": "Привет\nこんにちは\nשלום\nمرحبا",
    "emoji": "🦆👩‍👩‍👧‍👦🇦🇹",
    "beyond the BMP": "\U00010000\U0010ffff",
    "noncharacters": "\ufffe\uffff\ufffd",
    "combining": "e\u0301 \u00e9",
    "JSON": '{"a": "b\\n\\"c\\""}',
    "a long line": "0123456789abcdef" * 65_536,
    "many lines": "line\n" * 20_000,
    "a lot that is not ASCII": "古池や🐸\n" * 50_000,
}


def line_ends_as_lf(text: str) -> str:
    """
    Return a text as event streams transmit it, with LF for every line end.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n")


class OpenTests:
    def test_before_the_first_event(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser's stream opens before the server has sent an event, and the first event follows.
        """
        stream = any_server.stream()
        tab.get(any_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        assert [event["type"] for event in source.noted] == ["open"]
        stream.call("send", "first")
        source.wait_for_events(1)
        assert [(event["type"], event["readyState"]) for event in source.noted] == [
            ("open", OPEN),
            ("message", OPEN),
        ]

    def test_page_closes(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser's ``close()`` closes the server's channel, and no other channel of the page.
        """
        closed, remains = any_server.stream(), any_server.stream()
        tab.get(any_server.origin)
        source, other = Source(tab, closed.url), Source(tab, remains.url)
        source.wait_for_state(OPEN).close()
        other.wait_for_state(OPEN)
        [visit] = closed.wait_for_ends(1)
        assert visit["reason"] == "CLIENT_GONE"
        remains.call("send", "still here")
        assert other.wait_for_events(1) == [("message", "", "still here")]
        assert source.state == CLOSED


class FieldTests:
    def test_types(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser dispatches each event to the listeners for its type, ASCII or not, and drops one of another
        type.
        """
        stream = any_server.stream()
        tab.get(any_server.origin)
        source = Source(tab, stream.url, types=["tick", "größe", "a b: c"]).wait_for_state(OPEN)
        for event in ["tick", "unheard", "größe", "a b: c", "message", ""]:
            stream.call("send", f"an event {event}", event=event)
        stream.call("send", "no type")
        assert source.wait_for_events(6) == [
            ("tick", "", "an event tick"),
            ("größe", "", "an event größe"),
            ("a b: c", "", "an event a b: c"),
            ("message", "", "an event message"),
            ("message", "", "an event "),
            ("message", "", "no type"),
        ]

    def test_ids(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser keeps an id, ASCII or not, until the next one; an empty id resets it.
        """
        stream = any_server.stream()
        tab.get(any_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        for id in ["1", None, "№ 7 · 古池 🐸", None, "", None, "a:b"]:
            stream.call("send", "", id=id)
        ids = [id for _, id, _ in source.wait_for_events(7)]
        assert ids == ["1", "1", "№ 7 · 古池 🐸", "№ 7 · 古池 🐸", "", "", "a:b"]

    def test_comments(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser dispatches no event for a comment, whatever the comment contains.
        """
        stream = any_server.stream()
        tab.get(any_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        for comment in ["", "x", "data: x\n\ndata: y\n\n", "one\rid: 7\r\n"]:
            stream.call("comment", comment)
        stream.call("send", "an event")
        assert source.wait_for_events(1) == [("message", "", "an event")]


@pytest.fixture(scope="class")
def received(browser: Chrome, any_server: Server) -> dict[str, str]:
    """
    Return the texts as a browser received them, by their names.
    """
    stream = any_server.stream()
    browser.get(any_server.origin)
    source = Source(browser, stream.url).wait_for_state(OPEN)
    for number, (name, text) in enumerate(TEXTS.items(), start=1):
        stream.call("send", text, id=name)
        # All texts together exceed the channel's buffer for a slow reader.
        source.wait_for_number(number)
    events = source.events
    browser.get("about:blank")
    assert [id for _, id, _ in events] == list(TEXTS)
    return {id: data for _, id, data in events}


class TextTests:
    @pytest.mark.parametrize("name", TEXTS)
    def test_received(self, received: dict[str, str], name: str) -> None:
        """
        A browser receives every character of a text, with LF for CR LF and CR.
        """
        # Without pytest's comparison of the operands, which takes very long for two megabytes.
        same = received[name] == line_ends_as_lf(TEXTS[name])
        assert same, f"{TEXTS[name][:100]!r} became {received[name][:100]!r}"


class DocumentTests:
    def test_json(self, tab: Chrome, plain_server: Server) -> None:
        """
        ``JSON.parse`` in a browser returns the values that the channel sent with ``send_json``.
        """
        values: list[Any] = [
            None,
            "",
            [1, 2.5, -0.001, True, None, [], {}],
            {"Name": "Ernst", "Größe": {"cm": 180}, "": "no name"},
            'CR \r, LF \n, NUL \0, U+2028 \u2028, "quotes", </script>, 🦆',
        ]
        stream = plain_server.stream()
        tab.get(plain_server.origin)
        source = Source(tab, stream.url, types=["value"]).wait_for_state(OPEN)
        for number, value in enumerate(values):
            stream.call("send_json", value, event="value", id=str(number))
        events = source.wait_for_events(len(values))
        assert [(type, id) for type, id, _ in events] == [("value", str(number)) for number in range(5)]
        parse = "return arguments[0].map((data) => JSON.parse(data))"
        assert tab.execute_script(parse, [data for _, _, data in events]) == values

    def test_json_with_a_lone_surrogate(self, tab: Chrome, plain_server: Server) -> None:
        """
        A lone surrogate, which UTF-8 cannot encode, reaches a browser through ``send_json``.
        """
        stream = plain_server.stream()
        tab.get(plain_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        stream.call("send_json", "a\ud83eb")
        [(_, _, data)] = source.wait_for_events(1)
        codes = "return Array.from(JSON.parse(arguments[0]), (each) => each.charCodeAt(0))"
        assert tab.execute_script(codes, data) == [0x61, 0xD83E, 0x62]

    def test_xml(self, tab: Chrome, plain_server: Server) -> None:
        """
        ``DOMParser`` in a browser returns the fields that the channel sent with ``send_xml``, with their line
        ends.
        """
        names = ["Ernst", "", "<&>\"']]>", "one\ntwo\r\nthree\r", " Grüße 🦆 "]
        stream = plain_server.stream()
        tab.get(plain_server.origin)
        source = Source(tab, stream.url, types=["person"]).wait_for_state(OPEN)
        for number, name in enumerate(names):
            stream.call("send_person", name, 23, event="person", id=str(number))
        events = source.wait_for_events(len(names))
        assert [(type, id) for type, id, _ in events] == [("person", str(number)) for number in range(5)]
        parse = """
            return arguments[0].map((data) => {
              const root = new DOMParser().parseFromString(data, "text/xml").documentElement;
              const fields = Array.from(root.children, (each) => [each.nodeName, each.textContent]);
              return [root.nodeName, ...fields];
            });
        """
        assert tab.execute_script(parse, [data for _, _, data in events]) == [
            ["Person", ["Name", name], ["Age", "23"]] for name in names
        ]


class EndTests:
    def test_resumes(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser reconnects after each end of the stream with the last event id.
        """
        stream = any_server.stream("quick")
        tab.get(any_server.origin)
        source = Source(tab, stream.url)
        ids = ["1", "№ 7 · 古池 🐸", None, "", "z"]
        for number, id in enumerate(ids, start=1):
            stream.wait_for_channel(number)
            stream.call_all(("send", [f"event {number}"], {"id": id}), ("close", [], {}))
        visits = stream.wait_for_channel(len(ids) + 1)
        assert [visit["last_event_id"] for visit in visits] == ["", "1", *["№ 7 · 古池 🐸"] * 2, "", "z"]
        assert [data for _, _, data in source.events] == [f"event {number}" for number in range(1, 6)]
        assert {visit["reason"] for visit in visits[:-1]} == {"SERVER_CLOSED"}
        ends = [event["readyState"] for event in source.noted if event["type"] == "error"]
        assert ends == [CONNECTING] * len(ids)

    def test_connection_lost(self, tab: Chrome, plain_server: Server) -> None:
        """
        A browser reconnects after its connection is cut, with the last event id.
        """
        stream = plain_server.stream("quick")
        tab.get(plain_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        stream.call("send", "before", id="7")
        source.wait_for_events(1)
        stream.call("lose")
        visits = stream.wait_for_channel(2)
        stream.call("send", "after")
        assert source.wait_for_events(2) == [("message", "7", "before"), ("message", "7", "after")]
        assert visits[1]["last_event_id"] == "7"

    def test_no_content(self, tab: Chrome, any_server: Server) -> None:
        """
        A 204 response stops a browser's reconnections.
        """
        stream = any_server.stream("quick")
        tab.get(any_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        stream.call("finish")
        source.wait_for_state(CLOSED)
        assert len(stream.visits) == 2
        assert [event["type"] for event in source.noted] == ["open", "error", "error"]

    def test_close_after_a_burst(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser receives every event sent before ``close()``, in order, even a large burst.
        """
        stream = any_server.stream("burst")
        tab.get(any_server.origin)
        source = Source(tab, stream.url)
        (_, _, first), *others = source.wait_for_events(BURST + 1)
        assert len(first) == 1_000_000 and set(first) == {"x"}
        assert others == [
            ("message", str(number), f"event {number} of {BURST}") for number in range(1, BURST + 1)
        ]
        first_visit, second_visit = stream.wait_for_channel(2)
        assert first_visit["reason"] == "SERVER_CLOSED"
        assert second_visit["last_event_id"] == str(BURST)


class RetryTests:
    """
    The server measures from the close of a stream to the browser's reconnection.
    """

    def test_of_the_upgrader(self, tab: Chrome, any_server: Server) -> None:
        """
        A browser reconnects no earlier than the ``retry`` of the upgrader.
        """
        slow, quick = any_server.stream("slow"), any_server.stream("quick")
        tab.get(any_server.origin)
        for stream in (slow, quick):
            Source(tab, stream.url).wait_for_state(OPEN)
        for stream in (slow, quick):
            stream.call("close")
        slow_visits, quick_visits = slow.wait_for_channel(2), quick.wait_for_channel(2)
        assert slow_visits[1]["time"] - slow_visits[0]["closing"] >= 0.9 * 1.0
        assert quick_visits[1]["time"] - quick_visits[0]["closing"] >= 0.9 * 0.2
        assert quick_visits[1]["time"] < slow_visits[1]["time"]

    def test_of_an_event(self, tab: Chrome, plain_server: Server) -> None:
        """
        A browser reconnects no earlier than the last ``retry`` that an event set.
        """
        first, second = plain_server.stream("slow"), plain_server.stream("quick")
        tab.get(plain_server.origin)
        for stream in (first, second):
            Source(tab, stream.url).wait_for_state(OPEN)
        first.call("send", "quicker", retry=0.3)
        second.call("send", "slower", retry=1.0)
        for stream in (first, second):
            stream.call("close")
        first_visits, second_visits = first.wait_for_channel(2), second.wait_for_channel(2)
        assert first_visits[1]["time"] - first_visits[0]["closing"] >= 0.9 * 0.3
        assert second_visits[1]["time"] - second_visits[0]["closing"] >= 0.9 * 1.0
        assert first_visits[1]["time"] < second_visits[1]["time"]

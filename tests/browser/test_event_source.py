"""
What arrives in a browser's ``EventSource`` when a channel is told to send it.
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
    Return what is left of a text in a format that has one line end only.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n")


class OpenTests:
    def test_before_the_first_event(self, tab: Chrome, any_server: Server) -> None:
        """
        The stream is open while the server has sent nothing yet, and the first event comes behind that.
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
        The server's channel is closed with it, and another one of the same page is not.
        """
        gone, stays = any_server.stream(), any_server.stream()
        tab.get(any_server.origin)
        source, other = Source(tab, gone.url), Source(tab, stays.url)
        source.wait_for_state(OPEN).close()
        other.wait_for_state(OPEN)
        [visit] = gone.wait_for_ends(1)
        assert visit["reason"] == "CLIENT_GONE"
        stays.call("send", "still here")
        assert other.wait_for_events(1) == [("message", "", "still here")]
        assert source.state == CLOSED


class FieldTests:
    def test_types(self, tab: Chrome, any_server: Server) -> None:
        """
        Each goes to those who listen to it, ASCII or not, and one that nobody listens to goes nowhere.
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
        An id holds until the next one, ASCII or not; an empty one takes it back.
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
        They are no events, and leave those around them alone.
        """
        stream = any_server.stream()
        tab.get(any_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        for comment in ["", "x", "data: x\n\ndata: y\n\n", "one\rid: 7\r\n"]:
            stream.call("comment", comment)
        stream.call("send", "an event")
        assert source.wait_for_events(1) == [("message", "", "an event")]


@pytest.fixture(scope="class")
def arrived(browser: Chrome, any_server: Server) -> dict[str, str]:
    """
    What all texts have become, each sent with its name as the id.
    """
    stream = any_server.stream()
    browser.get(any_server.origin)
    source = Source(browser, stream.url).wait_for_state(OPEN)
    for number, (name, text) in enumerate(TEXTS.items(), start=1):
        stream.call("send", text, id=name)
        # Together they are more than a channel holds back for a client that is behind.
        source.wait_for_number(number)
    events = source.events
    browser.get("about:blank")
    assert [id for _, id, _ in events] == list(TEXTS)
    return {id: data for _, id, data in events}


class TextTests:
    @pytest.mark.parametrize("name", TEXTS)
    def test_arrives(self, arrived: dict[str, str], name: str) -> None:
        """
        Every character is there; CR LF and CR have become LF.
        """
        # Not as "assert a == b": nobody needs to see how two megabytes differ.
        same = arrived[name] == line_ends_as_lf(TEXTS[name])
        assert same, f"{TEXTS[name][:100]!r} became {arrived[name][:100]!r}"


class DocumentTests:
    def test_json(self, tab: Chrome, plain_server: Server) -> None:
        """
        ``JSON.parse`` gives the values back.
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

    def test_json_with_half_a_character(self, tab: Chrome, plain_server: Server) -> None:
        """
        A lone surrogate, which UTF-8 cannot hold, arrives as what it is.
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
        ``DOMParser`` gives the fields back, line ends included.
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
        The browser comes back by itself, each time with the id that was the last one.
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
        It comes back from that too.
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
        A 204 keeps the browser away for good.
        """
        stream = any_server.stream("quick")
        tab.get(any_server.origin)
        source = Source(tab, stream.url).wait_for_state(OPEN)
        stream.call("finish")
        source.wait_for_state(CLOSED)
        assert len(stream.visits) == 2
        assert [event["type"] for event in source.noted] == ["open", "error", "error"]

    def test_closed_behind_a_lot(self, tab: Chrome, any_server: Server) -> None:
        """
        All that was sent before ``close()`` arrives, in its order.
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
    The server measures from before it closes a stream until the browser is back.
    """

    def test_of_the_upgrader(self, tab: Chrome, any_server: Server) -> None:
        """
        No browser comes sooner, and the one that may come sooner comes first.
        """
        slow, quick = any_server.stream("slow"), any_server.stream("quick")
        tab.get(any_server.origin)
        for stream in (slow, quick):
            Source(tab, stream.url).wait_for_state(OPEN)
        for stream in (slow, quick):
            stream.call("close")
        came_slowly, came_quickly = slow.wait_for_channel(2), quick.wait_for_channel(2)
        assert came_slowly[1]["time"] - came_slowly[0]["closing"] >= 0.9 * 1.0
        assert came_quickly[1]["time"] - came_quickly[0]["closing"] >= 0.9 * 0.2
        assert came_quickly[1]["time"] < came_slowly[1]["time"]

    def test_of_an_event(self, tab: Chrome, plain_server: Server) -> None:
        """
        The last one counts, whatever the stream began with.
        """
        first, second = plain_server.stream("slow"), plain_server.stream("quick")
        tab.get(plain_server.origin)
        for stream in (first, second):
            Source(tab, stream.url).wait_for_state(OPEN)
        first.call("send", "quicker", retry=0.3)
        second.call("send", "slower", retry=1.0)
        for stream in (first, second):
            stream.call("close")
        became_quick, became_slow = first.wait_for_channel(2), second.wait_for_channel(2)
        assert became_quick[1]["time"] - became_quick[0]["closing"] >= 0.9 * 0.3
        assert became_slow[1]["time"] - became_slow[0]["closing"] >= 0.9 * 1.0
        assert became_quick[1]["time"] < became_slow[1]["time"]

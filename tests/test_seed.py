"""
The functions of the Go library that txsse began with, and their counterparts in txsse.

Each test is named after a name of that library's API.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.fakes import Client, Wire
from txsse import (
    ChannelClosed,
    CloseReason,
    EventStreamParser,
    InvalidField,
    ServerSentEvent,
    SSEChannel,
    SSEError,
    Upgrader,
    UpgradeRefused,
)
from txsse.server import upgrade as upgrade_module


@dataclass
class Person:
    Name: str
    Age: int


@attrs.define
class Animal:
    name: str


class Page(Resource):
    """
    A resource that upgrades its request itself, as the Go library's handlers do.
    """

    isLeaf = True

    def __init__(self, upgrade: Callable[[Request], SSEChannel]) -> None:
        super().__init__()
        self.upgrade = upgrade
        self.outcome: SSEChannel | UpgradeRefused | None = None

    def render_GET(self, request: Request) -> int:
        try:
            self.outcome = self.upgrade(request)
        except UpgradeRefused as refused:
            self.outcome = refused
        return NOT_DONE_YET


def open_channel(wire: Wire, upgrader: Upgrader | None = None) -> tuple[SSEChannel, Client]:
    page = Page((upgrader or wire.upgrader()).upgrade)
    client = wire.connect(page).request()
    assert isinstance(page.outcome, SSEChannel)
    return page.outcome, client


def arrived(client: Client) -> list[ServerSentEvent]:
    client.pump()
    return EventStreamParser().feed(client.body)


class SeedTests:
    def test_Upgrade(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        ``upgrade`` needs no upgrader; for a client that accepts no event stream it answers 406 and raises
        UpgradeRefused.
        """
        monkeypatch.setattr(upgrade_module, "global_reactor", lambda: plain.reactor)
        upgrade_module.default_upgrader.cache_clear()
        page = Page(upgrade_module.upgrade)
        client = plain.connect(page).request()
        assert isinstance(page.outcome, SSEChannel)
        page.outcome.close()
        client.pump()
        client.reset_response()
        client.request(headers={"Accept": "image/png"})
        assert isinstance(page.outcome, UpgradeRefused)
        assert page.outcome.status == client.status == 406
        upgrade_module.default_upgrader.cache_clear()

    def test_Upgrader_RetryTime(self, wire: Wire) -> None:
        """
        ``Upgrader(retry=5.0)`` sends milliseconds, as browsers expect.
        """
        channel, client = open_channel(wire, wire.upgrader(retry=5.0))
        assert client.body == b"retry: 5000\n\n"
        parser = EventStreamParser()
        parser.feed(client.body)
        assert parser.retry == 5.0
        channel.close()

    @pytest.mark.parametrize(
        "text", ["", "one", "a\nb", "a\n", "\n", "\n\n", " a", "a\u2028b\x85c\x0bd", ":a", "data: a", "😀"]
    )
    def test_Write_and_WriteString(self, wire: Wire, text: str) -> None:
        """
        ``send`` transmits every string unchanged, given as ``str`` or as ``bytes``.
        """
        channel, client = open_channel(wire)
        channel.send(text)
        channel.send(text.encode())
        assert [event.data for event in arrived(client)] == [text, text]
        channel.close()

    def test_WriteJson_and_WriteJsonEvent(self, wire: Wire) -> None:
        """
        ``send_json`` takes all values that json takes, dataclasses and attrs classes; ``dumps`` replaces the
        encoder.
        """
        channel, client = open_channel(wire)
        for value in ({"a": [1, None]}, Person("Ernst", 23), Animal("cat"), "text", 7):
            channel.send_json(value, event="json", id="1")
        events = arrived(client)
        assert [json.loads(event.data) for event in events] == [
            {"a": [1, None]},
            {"Name": "Ernst", "Age": 23},
            {"name": "cat"},
            "text",
            7,
        ]
        assert {(event.event, event.id) for event in events} == {("json", "1")}
        channel.close()
        other, client = open_channel(wire, wire.upgrader(dumps=lambda value: b"mine"))
        other.send_json(object())
        assert arrived(client)[0].data == "mine"
        other.close()

    def test_WriteXml_and_WriteXmlEvent(self, wire: Wire) -> None:
        """
        ``send_xml`` writes elements unchanged, and a dataclass or attrs instance as an element of its fields.
        """
        channel, client = open_channel(wire)
        element = ElementTree.fromstring("<a><b c='d'>e</b></a>")
        for value in (Person("Ernst", 23), Animal("cat"), element):
            channel.send_xml(value, event="xml")
        assert [event.data for event in arrived(client)] == [
            "<Person><Name>Ernst</Name><Age>23</Age></Person>",
            "<Animal><name>cat</name></Animal>",
            '<a><b c="d">e</b></a>',
        ]
        channel.close()

    def test_WriteEvent_WriteEventWithID_and_WriteStringEvent(self, wire: Wire) -> None:
        """
        ``send`` transmits type, id and retry with the data; a line end in them is refused before anything is
        sent.
        """
        channel, client = open_channel(wire)
        channel.send("x", event="kind", id="7", retry=1.5)
        fields: dict[str, Any]
        for fields in ({"event": "a\ndata: b"}, {"event": "a\rb"}, {"id": "a\nb"}, {"id": "a\0"}):
            with pytest.raises(InvalidField) as caught:
                channel.send("x", **fields)  # type: ignore[arg-type]
            assert caught.value.field in fields
        assert arrived(client) == [ServerSentEvent("x", "kind", "7", 1.5)]
        channel.close()

    def test_IsOpen(self, wire: Wire) -> None:
        """
        A channel whose client disconnects is no longer open, and ``when_closed`` fires.
        """
        channel, client = open_channel(wire)
        reasons: list[CloseReason] = []
        channel.when_closed().addCallback(reasons.append)
        assert channel.is_open
        client.disconnect(clean=False)
        assert not channel.is_open
        assert reasons == [CloseReason.CLIENT_GONE]

    def test_Close(self, wire: Wire) -> None:
        """
        ``close`` may be called repeatedly and after a disconnect, and flushes the events sent before.
        """
        channel, client = open_channel(wire)
        channel.send("last words")
        channel.close()
        channel.close()
        assert [event.data for event in arrived(client)] == ["last words"]
        assert client.ended
        disconnected, client = open_channel(wire)
        client.disconnect(clean=False)
        disconnected.close()

    def test_ErrConnectionClosed_and_ErrStreamingNotSupported(self, wire: Wire) -> None:
        """
        ``ChannelClosed`` and ``UpgradeRefused`` are errors with one root.
        """
        channel, _ = open_channel(wire)
        channel.close()
        with pytest.raises(ChannelClosed):
            channel.send("x")
        page = Page(wire.upgrader().upgrade)
        wire.connect(page).request(headers={"Accept": "image/png"})
        assert isinstance(page.outcome, UpgradeRefused)
        assert issubclass(ChannelClosed, SSEError)
        assert issubclass(UpgradeRefused, SSEError)

    def test_headers_before_the_first_event(self, wire: Wire) -> None:
        """
        The response head is sent before the first event, so that ``onopen`` fires in browsers.
        """
        channel, client = open_channel(wire)
        assert client.status == 200
        assert client.body == b""
        channel.close()

    def test_handler_that_returns(self, wire: Wire) -> None:
        """
        The stream stays open when its handler returns, unlike in the Go library.
        """
        channel, client = open_channel(wire)
        wire.reactor.advance(1000)
        channel.send("later")
        assert [event.data for event in arrived(client)] == ["later"]
        channel.close()

    @pytest.mark.parametrize("name", ["clock.py", "events.py"])
    def test_examples(self, name: str) -> None:
        """
        Both examples of the Go library have a counterpart that serves its own page; ``test_examples`` runs
        them.
        """
        example = Path(__file__).parent.parent / "examples" / name
        assert "new EventSource(" in example.read_text(encoding="utf-8")

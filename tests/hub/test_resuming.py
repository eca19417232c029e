"""
The proof of resuming: while updates are published all the time, the connection is cut at every event and in
the middle of every one, and the client comes back with the last id that it saw. What it received in all, held
against the whole record, is the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import txsse.journal.window
from tests.fakes import Client, Wire
from txsse import EventStreamParser, Hub, MemoryJournal
from txsse.hub.access import Access
from txsse.protocol.event import ServerSentEvent
from txsse.server.resource import SSEResource

# How many updates there are when the client comes back for the first time, and how many in all.
BEFORE = 20
ALL = 50


class ResumingClient:
    """
    A client that keeps what it received, over all of its connections.
    """

    def __init__(self, wire: Wire, resource: SSEResource) -> None:
        self.received: list[ServerSentEvent] = []
        self.last_id = ""
        self._wire = wire
        self._resource = resource

    def connect(self) -> Client:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        self._parser = EventStreamParser(last_event_id=self.last_id)
        self._fed = 0
        self.client = self._wire.connect(self._resource)
        self.client.stop_reading()
        self.client.request(headers=headers)
        return self.client

    def look(self) -> int:
        """
        Take up what has come, and return how many events that were.
        """
        events = self._parser.feed(self.client.body[self._fed :])
        self._fed = len(self.client.body)
        self.received += events
        self.last_id = self._parser.last_event_id
        return len(events)

    def cut(self, *, clean: bool) -> None:
        """
        Lose the connection, and what has not been read of it.
        """
        self.client.disconnect(clean=clean)


class Publisher:
    """
    Publishes an update in each turn of the reactor, until there are enough.
    """

    def __init__(self, wire: Wire, publish: Callable[[int], object]) -> None:
        self.published = 0
        self._wire = wire
        self._publish = publish

    def run(self, until: int) -> None:
        """
        Publish so many in all, each in a turn of its own.
        """
        while self.published < until:
            self.one()
            self._wire.reactor.run_soon()

    def one(self) -> None:
        self.published += 1
        self._publish(self.published)

    def goes_on(self, until: int) -> None:
        """
        Publish in every turn from now on, also while a replay has its turns.
        """
        if self.published < until:
            self.one()
            self._wire.reactor.callLater(0, self.goes_on, until)


def text(number: int) -> str:
    # Two lines, of different lengths, so that a cut finds a different place in each.
    return f"{number}\n" + "x" * (number * 7 % 40)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have a replay of twenty updates take several pages.
    """
    monkeypatch.setattr(txsse.journal.window, "PAGE_COUNT", 4)


def hub_of(wire: Wire, **options: Any) -> Hub:
    return Hub(reactor=wire.reactor, upgrader=wire.upgrader(**options))


class CutEverywhereTests:
    @pytest.mark.parametrize("events", range(1, 25))
    def test_cut_behind_every_event(self, wire: Wire, events: int) -> None:
        """
        Each connection lasts for so many events: in the replay, between it and what is live, and live.
        """
        self.check(wire, events, extra=0, clean=True)

    @pytest.mark.parametrize("events", [1, 2, 3, 5, 8, 13, 21])
    @pytest.mark.parametrize("extra", [1, 9, 20])
    def test_cut_in_the_middle_of_every_event(self, wire: Wire, events: int, extra: int) -> None:
        """
        The rest of an event that was cut off is no event: it comes anew, whole.
        """
        self.check(wire, events, extra=extra, clean=False)

    def check(self, wire: Wire, events: int, *, extra: int, clean: bool) -> None:
        hub = hub_of(wire)
        publisher = Publisher(wire, lambda number: hub.publish("topic", text(number)))
        client = ResumingClient(wire, hub.resource("topic"))
        client.connect().read_on()
        client.look()
        client.cut(clean=True)
        publisher.run(BEFORE)
        most = 0
        while len(client.received) < ALL:
            client.connect()
            seen = 0
            while seen < events and len(client.received) < ALL:
                if publisher.published < ALL:
                    publisher.one()
                # Less than any event takes, so that it is cut where it is to be.
                client.client.read_some(20 if wire.kind != "http2" else 100)
                seen += client.look()
            client.client.read_some(extra)
            client.look()
            client.cut(clean=clean)
            most += 1
            assert most <= ALL, "there is no progress"
        assert [event.data for event in client.received] == [text(number) for number in range(1, ALL + 1)]
        assert len({event.id for event in client.received}) == ALL
        assert hub.subscribers.total == 0

    @pytest.mark.parametrize("bytes_each", [1, 7, 64, 1000])
    def test_publisher_that_never_rests(self, wire: Wire, bytes_each: int) -> None:
        """
        An update comes in every single turn, between the pages of a replay too; the client is cut whenever it
        has got something new.
        """
        hub = hub_of(wire)
        publisher = Publisher(wire, lambda number: hub.publish(["topic", "other"], text(number)))
        client = ResumingClient(wire, hub.resource(["topic", "other"]))
        client.connect().read_on()
        client.look()
        client.cut(clean=True)
        publisher.run(BEFORE)
        wire.reactor.callLater(0, publisher.goes_on, ALL)
        while len(client.received) < ALL:
            client.connect()
            while not client.look():
                client.client.read_some(bytes_each)
            client.cut(clean=len(client.received) % 2 == 0)
        assert [event.data for event in client.received] == [text(number) for number in range(1, ALL + 1)]

    def test_everybody_has_a_record_of_his_own(self, wire: Wire) -> None:
        """
        What a client may not have is left out of every replay, and nothing else is.
        """
        hub = hub_of(wire)

        def publish(number: int) -> None:
            hub.publish(["even" if number % 2 == 0 else "odd"], text(number), private=number % 3 == 0)

        publisher = Publisher(wire, publish)
        accesses = {
            Access("even"): lambda number: number % 2 == 0 and number % 3,
            Access("*"): lambda number: number % 3,
            Access("*", "odd"): lambda number: number % 2 or number % 3,
            Access(("even", "odd"), "*"): lambda number: True,
        }
        clients = [(ResumingClient(wire, hub.resource(access)), mine) for access, mine in accesses.items()]
        for client, _ in clients:
            client.connect().read_on()
            client.look()
            client.cut(clean=True)
        publisher.run(BEFORE)
        for round in range(200):
            for client, _ in clients:
                if round % 5 == 0:
                    client.connect()
                publisher.run(min(publisher.published + 1, ALL))
                client.client.read_some(200 if wire.kind != "http2" else 400)
                client.look()
                if round % 5 == 4:
                    client.cut(clean=round % 2 == 0)
        for client, mine in clients:
            assert [event.data for event in client.received] == [
                text(number) for number in range(1, ALL + 1) if mine(number)
            ]


class SlowReplayTests:
    def test_slow_client_is_never_cut(self, wire: Wire) -> None:
        """
        It reads a few bytes at a time, far slower than is published, and gets everything; the hub holds
        nothing for it meanwhile.
        """
        hub = hub_of(wire)
        publisher = Publisher(wire, lambda number: hub.publish("topic", text(number) + "y" * 20_000))
        client = ResumingClient(wire, hub.resource("topic"))
        client.connect().read_some(500)
        while len(client.received) < ALL:
            if publisher.published < ALL:
                publisher.one()
            client.client.read_some(10_000)
            client.look()
            assert hub.metrics().buffered == 0
        assert [event.data[:60] for event in client.received] == [
            (text(number) + "y" * 60)[:60] for number in range(1, ALL + 1)
        ]
        assert hub.metrics().slow_replays > 0
        client.cut(clean=True)


class GapTests:
    """
    What the journal does not hold any more is lost, and the client is told.
    """

    def hub(self, wire: Wire) -> Hub:
        journal = MemoryJournal(max_count=10, reactor=wire.reactor)
        return Hub(journal=journal, reactor=wire.reactor, upgrader=wire.upgrader())

    def test_client_that_was_away_for_too_long(self, wire: Wire) -> None:
        """
        It is told first, in the header too, and then gets the oldest update that there is and all behind it.
        """
        hub = self.hub(wire)
        publisher = Publisher(wire, lambda number: hub.publish("topic", text(number)))
        client = ResumingClient(wire, hub.resource("topic"))
        client.connect().read_on()
        publisher.run(3)
        client.client.pump()
        assert client.look() == 3
        client.cut(clean=True)
        publisher.run(30)
        client.connect().read_on()
        publisher.run(35)
        client.client.pump()
        client.look()
        assert client.client.headers["last-event-id"] == "earliest"
        told, *rest = client.received[3:]
        assert (told.event, told.data) == ("stream-reset", '{"replayed_from":"earliest"}')
        assert [event.data for event in rest] == [text(number) for number in range(21, 36)]
        assert hub.metrics().gaps == 1
        client.cut(clean=True)

    def test_client_that_was_not_away_for_too_long(self, wire: Wire) -> None:
        """
        One whose last update is the oldest that there is has missed nothing, and is told where it resumes.
        """
        hub = self.hub(wire)
        publisher = Publisher(wire, lambda number: hub.publish("topic", text(number)))
        client = ResumingClient(wire, hub.resource("topic"))
        client.connect().read_on()
        publisher.run(3)
        client.client.pump()
        client.look()
        client.cut(clean=True)
        publisher.run(12)
        client.connect().read_on()
        client.look()
        assert client.client.headers["last-event-id"] == client.received[2].id
        assert [event.data for event in client.received] == [text(number) for number in range(1, 13)]
        assert hub.metrics().gaps == 0
        client.cut(clean=True)

    def test_client_that_is_too_slow(self, wire: Wire) -> None:
        """
        It is told in the middle of its stream, behind what it got before, and gets the oldest update next.
        """
        hub = self.hub(wire)
        publisher = Publisher(wire, lambda number: hub.publish("topic", text(number) + "y" * 70_000))
        client = ResumingClient(wire, hub.resource("topic"))
        client.connect().read_some(1000)
        publisher.run(40)
        client.client.read_on()
        client.look()
        kinds = [event.event for event in client.received]
        assert kinds.count("stream-reset") == 1
        reset = kinds.index("stream-reset")
        numbers = [int(event.data.split()[0]) for event in client.received if event.event == "message"]
        assert numbers == [*range(1, reset + 1), *range(31, 41)]
        assert reset >= 1
        assert hub.metrics().gaps == 1
        client.cut(clean=True)

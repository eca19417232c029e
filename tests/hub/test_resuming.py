"""
Resuming loses nothing: a client is cut off after every event, and in the middle of every event, while updates
are published. It resumes with its last event ID each time. All events that it received together must equal
the whole record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import txsse.journal.window
from tests.fakes import Client, Wire
from txsse import EventStreamParser, Hub, MemoryJournal
from txsse.protocol.event import ServerSentEvent
from txsse.server.access import Access
from txsse.server.resource import SSEResource

# The number of updates when the client reconnects for the first time, and in total.
BEFORE = 20
ALL = 50


class ResumingClient:
    """
    A client that keeps the events received over all of its connections.
    """

    def __init__(self, wire: Wire, resource: SSEResource) -> None:
        self.received: list[ServerSentEvent] = []
        self.last_id = ""
        self._reads_without_event = 0
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
        Parse the received data, and return the number of new events.
        """
        events = self._parser.feed(self.client.body[self._fed :])
        self._fed = len(self.client.body)
        self.received += events
        self.last_id = self._parser.last_event_id
        self._reads_without_event = 0 if events else self._reads_without_event + 1
        assert self._reads_without_event < 1000, "no event arrives"
        return len(events)

    def cut(self, *, clean: bool) -> None:
        """
        Lose the connection, with the data that has not been read.
        """
        self.client.disconnect(clean=clean)


class Publisher:
    """
    A publisher that publishes an update in each turn of the reactor, up to a number.
    """

    def __init__(self, wire: Wire, publish: Callable[[int], object]) -> None:
        self.published = 0
        self._wire = wire
        self._publish = publish

    def run(self, until: int) -> None:
        """
        Publish up to a total number of updates, each in a turn of its own.
        """
        while self.published < until:
            self.one()
            self._wire.reactor.run_soon()

    def one(self) -> None:
        self.published += 1
        self._publish(self.published)

    def keep_publishing(self, until: int) -> None:
        """
        Publish an update in every turn from now on, also while a replay is running.
        """
        if self.published < until:
            self.one()
            self._wire.reactor.callLater(0, self.keep_publishing, until)


def text(number: int) -> str:
    # Two lines of varying lengths, so that a cut hits each update at another offset.
    return f"{number}\n" + "x" * (number * 7 % 40)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Make pages so short that a replay of twenty updates takes several.
    """
    monkeypatch.setattr(txsse.journal.window, "PAGE_COUNT", 4)


def hub_of(wire: Wire, **options: Any) -> Hub:
    return Hub(reactor=wire.reactor, upgrader=wire.upgrader(**options))


class CutEverywhereTests:
    # A page has 4 updates, and the first replay 20: one event fewer, as many, and one more.
    @pytest.mark.parametrize("events", [1, 2, 3, 4, 5, 8, 13, 19, 20, 21, 24])
    def test_cut_after_events(self, wire: Wire, events: int) -> None:
        """
        A client that is cut off after every few events, in replays and live, and resumes receives each update
        once.
        """
        self.check(wire, events, extra=0, clean=True)

    @pytest.mark.parametrize("events", [1, 5, 21])
    # The line of the id has 28 bytes: in the middle of it, and after it.
    @pytest.mark.parametrize("extra", [1, 40])
    def test_cut_in_the_middle_of_events(self, wire: Wire, events: int, extra: int) -> None:
        """
        A client that is cut off in the middle of an event ignores that part, and receives the event whole
        after it resumes.
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
                # Fewer bytes than any event has, so that at most one event is read at a time.
                client.client.read_some(20 if wire.kind != "http2" else 100)
                seen += client.look()
            client.client.read_some(extra)
            client.look()
            client.cut(clean=clean)
            most += 1
            assert most <= ALL, "a connection brought no new event"
        assert [event.data for event in client.received] == [text(number) for number in range(1, ALL + 1)]
        assert len({event.id for event in client.received}) == ALL
        assert hub.subscribers.total == 0

    @pytest.mark.parametrize("bytes_each", [7, 1000])
    def test_update_in_every_turn(self, wire: Wire, bytes_each: int) -> None:
        """
        While an update is published in every turn, also between the pages of a replay, a client that is cut
        off after each read receives each update once.
        """
        hub = hub_of(wire)
        publisher = Publisher(wire, lambda number: hub.publish(["topic", "other"], text(number)))
        client = ResumingClient(wire, hub.resource(["topic", "other"]))
        client.connect().read_on()
        client.look()
        client.cut(clean=True)
        publisher.run(BEFORE)
        wire.reactor.callLater(0, publisher.keep_publishing, ALL)
        while len(client.received) < ALL:
            client.connect()
            while not client.look():
                client.client.read_some(bytes_each)
            client.cut(clean=len(client.received) % 2 == 0)
        assert [event.data for event in client.received] == [text(number) for number in range(1, ALL + 1)]

    @pytest.mark.slow
    def test_accesses_differ(self, wire: Wire) -> None:
        """
        Clients with different topics and grants that reconnect often receive exactly the updates that each of
        them has access to.
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
        clients = [
            (ResumingClient(wire, hub.resource(access)), has_access)
            for access, has_access in accesses.items()
        ]
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
        for client, has_access in clients:
            assert [event.data for event in client.received] == [
                text(number) for number in range(1, ALL + 1) if has_access(number)
            ]


class SlowReplayTests:
    def test_slow_client(self, wire: Wire) -> None:
        """
        A client that reads far more slowly than updates are published gets every update, and the hub buffers
        nothing for it.
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
    Updates that the journal no longer holds are a gap, which is reported to the client.
    """

    def hub(self, wire: Wire) -> Hub:
        journal = MemoryJournal(max_count=10, reactor=wire.reactor)
        return Hub(journal=journal, reactor=wire.reactor, upgrader=wire.upgrader())

    def test_disconnected_for_too_long(self, wire: Wire) -> None:
        """
        A client that was disconnected for too long gets ``stream-reset`` first, and then all updates that the
        journal holds.
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
        reset, *rest = client.received[3:]
        assert (reset.event, reset.data) == ("stream-reset", '{"replayed_from":"earliest"}')
        assert [event.data for event in rest] == [text(number) for number in range(21, 36)]
        assert hub.metrics().gaps == 1
        client.cut(clean=True)

    def test_last_update_is_the_oldest_held(self, wire: Wire) -> None:
        """
        A client that resumes from the oldest update that the journal holds has no gap.
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

    def test_client_is_too_slow(self, wire: Wire) -> None:
        """
        A client that reads so slowly that the journal drops updates gets ``stream-reset`` in the middle of
        its stream, and then the oldest held update.
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

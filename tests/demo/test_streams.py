"""
Tests of the demo's streams: their events, and the clients that receive them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tests.fakes import Client, Wire
from txsse.demo.streams import Broadcast, DemoStream, Item, demo_streams
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser

CONNECTED = ServerSentEvent('{"last_event_id":""}', "connected", "")


class FakeChannel:
    """
    A channel with only the methods that a broadcast uses.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.got: list[Item] = []
        self.closed: Deferred[CloseReason] = Deferred()
        self.error = error

    def send_event(self, event: ServerSentEvent) -> None:
        if self.error is not None:
            raise self.error
        self.got.append(event)

    def comment(self, text: str) -> None:
        self.got.append(text)

    def when_closed(self) -> Deferred[CloseReason]:
        return self.closed


def numbers() -> Iterator[Item]:
    for number in count(1):
        yield ServerSentEvent(str(number))


def events(client: Client) -> list[ServerSentEvent]:
    return EventStreamParser().feed(client.body)


def advance(clients: list[Client], seconds: float, times: int = 1) -> None:
    for _ in range(times):
        clients[0].reactor.advance(seconds)
        for client in clients:
            client.pump()


@pytest.fixture
def streams(plain: Wire) -> dict[str, DemoStream]:
    return dict(demo_streams(plain.reactor))


class BroadcastTests:
    def test_event_reaches_all_channels(self) -> None:
        """
        Each channel of a broadcast receives the events that are sent after it joined.
        """
        clock = Clock()
        broadcast = Broadcast(clock, 1.0, numbers())
        first, second = FakeChannel(), FakeChannel()
        broadcast.join(first)  # type: ignore[arg-type]
        clock.advance(0.999)
        assert first.got == []
        clock.advance(0.001)
        broadcast.join(second)  # type: ignore[arg-type]
        clock.advance(1.0)
        assert [event.data for event in first.got if isinstance(event, ServerSentEvent)] == ["1", "2"]
        assert second.got == first.got[1:]

    def test_paused_without_channels(self) -> None:
        """
        A broadcast stops when its last channel closes, and continues with the next event when a channel
        joins.
        """
        clock = Clock()
        broadcast = Broadcast(clock, 1.0, numbers())
        first, second, third = FakeChannel(), FakeChannel(), FakeChannel()
        broadcast.join(first)  # type: ignore[arg-type]
        broadcast.join(second)  # type: ignore[arg-type]
        clock.advance(1.0)
        first.closed.callback(CloseReason.CLIENT_GONE)
        assert clock.getDelayedCalls()
        second.closed.callback(CloseReason.CLIENT_GONE)
        assert clock.getDelayedCalls() == []
        clock.advance(100.0)
        broadcast.join(third)  # type: ignore[arg-type]
        clock.advance(1.0)
        assert third.got == [ServerSentEvent("2")]

    def test_one_channel_fails(self) -> None:
        """
        A channel that raises does not keep a broadcast from sending to the others, and its failure is logged.
        """
        clock = Clock()
        broadcast = Broadcast(clock, 1.0, numbers())
        channels = [FakeChannel(), FakeChannel(ValueError("broken")), FakeChannel()]
        for channel in channels:
            broadcast.join(channel)  # type: ignore[arg-type]
        with capturedLogs() as logs:
            clock.advance(1.0)
            clock.advance(1.0)
        assert [len(channel.got) for channel in channels] == [2, 0, 2]
        assert [str(log["log_failure"].value) for log in logs] == ["broken", "broken"]

    def test_channel_that_has_closed(self) -> None:
        """
        A channel that has closed before an event causes no log entry.
        """
        clock = Clock()
        broadcast = Broadcast(clock, 1.0, numbers())
        broadcast.join(FakeChannel(ChannelClosed(CloseReason.SLOW_READER)))  # type: ignore[arg-type]
        with capturedLogs() as logs:
            clock.advance(1.0)
        assert logs == []

    def test_channel_closes_during_an_event(self) -> None:
        """
        Channels may close while a broadcast sends an event: the remaining channel receives each event once.
        """
        clock = Clock()
        broadcast = Broadcast(clock, 1.0, numbers())
        channels = [FakeChannel() for _ in range(5)]

        class Leaving(FakeChannel):
            def send_event(self, event: ServerSentEvent) -> None:
                for channel in [self, *channels[:4]]:
                    channel.closed.callback(CloseReason.CLIENT_GONE)

        broadcast.join(Leaving())  # type: ignore[arg-type]
        for channel in channels:
            broadcast.join(channel)  # type: ignore[arg-type]
        clock.advance(1.0)
        clock.advance(1.0)
        assert len(channels[4].got) == 2

    def test_comment(self) -> None:
        """
        A str in the source of a broadcast is sent as a comment.
        """
        clock = Clock()
        channel = FakeChannel()
        Broadcast(clock, 1.0, iter(["remark"])).join(channel)  # type: ignore[arg-type]
        clock.advance(1.0)
        assert channel.got == ["remark"]


class DemoStreamTests:
    @pytest.mark.parametrize("name", ["clock", "events", "progress", "reconnect"])
    def test_first_event(self, plain: Wire, streams: dict[str, DemoStream], name: str) -> None:
        """
        The first event of every stream of the demo has the client's Last-Event-ID as data, and no ID.
        """
        client = plain.connect(streams[name]).request(headers={"Last-Event-ID": '7"\\'})
        [event] = events(client)
        assert event.event == "connected"
        assert json.loads(event.data) == {"last_event_id": '7"\\'}
        assert event.id == ""
        client.disconnect()

    def test_close_all(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        Closing the channels of a stream ends each of them properly, and returns their number.
        """
        clients = [plain.connect(streams["clock"]).request() for _ in range(3)]
        clients[0].disconnect()
        assert streams["clock"].close_all() == 2
        for client in clients[1:]:
            client.pump()
            assert client.ended
        assert streams["clock"].close_all() == 0

    @pytest.mark.parametrize("name", ["clock", "events", "progress", "reconnect"])
    def test_stop(self, plain: Wire, streams: dict[str, DemoStream], name: str) -> None:
        """
        When a stream of the demo has stopped, its clients' streams have ended, and the reactor has nothing
        left a turn later.
        """
        clients = [plain.connect(streams[name]).request() for _ in range(2)]
        stopped = Deferred.fromCoroutine(streams[name].stop())
        assert stopped.called
        for client in clients:
            client.pump()
            assert client.ended
        assert plain.reactor.getDelayedCalls() == []

    def test_stop_without_clients(self, streams: dict[str, DemoStream]) -> None:
        """
        A stream of the demo without clients stops at once.
        """
        assert Deferred.fromCoroutine(streams["clock"].stop()).called

    def test_stop_with_a_client_that_does_not_read(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        A stopping stream waits for buffered bytes, refuses new clients, and closes the connection after 5
        seconds.
        """
        slow = plain.connect(streams["clock"]).request()
        slow.stop_reading()
        [channel] = streams["clock"]._channels
        while not channel.buffered:
            channel.send("x" * 10_000)
        stopped = Deferred.fromCoroutine(streams["clock"].stop())
        late = plain.connect(streams["clock"]).request()
        plain.reactor.advance(4.999)
        assert not stopped.called
        plain.reactor.advance(0.001)
        assert slow.reset
        late.pump()
        assert late.ended
        assert stopped.called


class ClockTests:
    def test_one_event_a_second(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        The stream clock sends the time each second to all clients, with the same IDs.
        """
        clients = [plain.connect(streams["clock"]).request() for _ in range(2)]
        advance(clients, 1.0, times=2)
        times = [time.strftime("%H:%M:%S", time.localtime(now)) for now in (1, 2)]
        ticks = [ServerSentEvent(times[0], "message", "1"), ServerSentEvent(times[1], "message", "2")]
        for client in clients:
            assert events(client) == [CONNECTED, *ticks]
            client.disconnect()


class EventsTests:
    def test_one_of_each(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        The stream events sends types, IDs, several lines, several scripts, JSON, empty data, and a comment.
        """
        client = plain.connect(streams["events"]).request()
        advance([client], 1.0, times=6)
        got = {event.event: event for event in events(client)[1:]}
        assert list(got) == ["message", "poem", "greeting", "json", "empty"]
        assert [event.id for event in got.values()] == ["1", "2", "3", "4", "5"]
        assert got["poem"].data.count("\n") == 3
        assert not got["greeting"].data.isascii()
        assert json.loads(got["json"].data) == {"city": "Zürich", "celsius": 21.5}
        assert got["empty"].data == ""
        assert b"\n: A comment" in client.body
        client.disconnect()

    def test_repeats(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        The stream events starts again after its last event, with new IDs.
        """
        client = plain.connect(streams["events"]).request()
        advance([client], 1.0, times=7)
        first, *_, last = events(client)[1:]
        assert (last.data, last.id) == (first.data, "6")
        client.disconnect()


class ProgressTests:
    def test_ends_at_100_percent(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        The stream progress counts to 100 % and then ends.
        """
        client = plain.connect(streams["progress"]).request()
        advance([client], 0.4, times=19)
        assert not client.ended
        advance([client], 0.4)
        assert client.ended
        percents = [str(percent) for percent in range(5, 101, 5)]
        assert [event.id for event in events(client)[1:]] == percents
        assert [event.data for event in events(client)[1:]] == [f"{percent} %" for percent in percents]
        assert {event.event for event in events(client)[1:]} == {"progress"}

    def test_each_client_has_its_own(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        The stream progress starts at the beginning for each client.
        """
        first = plain.connect(streams["progress"]).request()
        advance([first], 0.4)
        second = plain.connect(streams["progress"]).request()
        advance([first, second], 0.4)
        assert [len(events(client)) for client in (first, second)] == [3, 2]
        for client in (first, second):
            client.disconnect()

    def test_resumes(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        A client of the stream progress that reconnects resumes after the last event it received.
        """
        client = plain.connect(streams["progress"]).request(headers={"Last-Event-ID": "90"})
        advance([client], 0.4, times=2)
        assert [event.id for event in events(client)[1:]] == ["95", "100"]
        assert client.ended

    @pytest.mark.parametrize("seen", ["100", "999"])
    def test_client_has_seen_everything(self, plain: Wire, streams: dict[str, DemoStream], seen: str) -> None:
        """
        A client that has received all of the stream progress gets 204, so that its browser does not
        reconnect.
        """
        client = plain.connect(streams["progress"]).request(headers={"Last-Event-ID": seen})
        assert (client.status, client.body) == (204, b"")
        client.disconnect()

    def test_client_disconnects(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        The job of the stream progress is cancelled when its client disconnects; the fixture checks the
        reactor.
        """
        client = plain.connect(streams["progress"]).request()
        advance([client], 0.4)
        client.disconnect()


class ReconnectTests:
    def test_ends_after_five(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        The stream reconnect begins with a retry of one second, and ends after five events.
        """
        client = plain.connect(streams["reconnect"]).request()
        assert client.body.startswith(b"retry: 1000\n")
        advance([client], 1.0, times=5)
        assert [event.data for event in events(client)[1:]] == [f"event {number}" for number in range(1, 6)]
        assert client.ended

    def test_resumes_counting(self, plain: Wire, streams: dict[str, DemoStream]) -> None:
        """
        A client of the stream reconnect continues counting after its last event ID.
        """
        client = plain.connect(streams["reconnect"]).request(headers={"Last-Event-ID": "5"})
        advance([client], 1.0)
        assert events(client)[1:] == [ServerSentEvent("event 6", "message", "6")]
        client.disconnect()

    @pytest.mark.parametrize("seen", ["x", "-3", "²", "٣", "1" * 1000, "1.5"])
    def test_foreign_id(self, plain: Wire, streams: dict[str, DemoStream], seen: str) -> None:
        """
        An ID that no stream of the demo sends is ignored, without an error and without slow parsing.
        """
        headers = {"Last-Event-ID": seen.encode().decode("latin-1")}
        client = plain.connect(streams["reconnect"]).request(headers=headers)
        advance([client], 1.0)
        assert events(client)[-1].id == "1"
        client.disconnect()

"""
Graceful shutdown of a hub.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.fakes import Wire
from tests.hub.fakes import Member, ScriptedJournal, World, outcome_of, result_of, turn
from txsse import (
    CloseReason,
    EventStreamParser,
    HubStopped,
    JournalFailed,
    ServerSentEvent,
    SSEChannel,
    Update,
)
from txsse.hub import shutdown as shutdown_module


def has_reconnect_response(member: Member) -> bool:
    """
    Return whether the response is that of a stopped hub: a stream that ends at once, with a reconnect
    delay.
    """
    parser = EventStreamParser()
    events = parser.feed(member.client.body)
    retry = parser.retry
    return (
        member.client.status == 200
        and member.client.ended
        and not events
        and retry is not None
        and 1 <= retry <= 10
        and abs(float(member.client.headers["retry-after"]) - retry) <= 0.5
    )


class StopTests:
    def test_each_way(self, any_world: World) -> None:
        """
        On every kind of connection, a hub that stops sends all updates and a reconnect delay to each client,
        ends their streams, and then is stopped.
        """
        members = [any_world.join(), any_world.join("sport")]
        any_world.publish("a")
        outcome = outcome_of(any_world.hub.stop())
        assert [member.texts for member in members] == [["a"], []]
        assert all(member.client.ended for member in members)
        assert all(1 <= (member.retry or 0) <= 10 for member in members)
        any_world.reactor.run_soon()
        assert outcome == [None]
        metrics = any_world.hub.metrics()
        assert metrics.channels == 0
        assert metrics.closes == {CloseReason.DRAINED: 2}

    def test_farewell(self, world: World) -> None:
        """
        The farewell is the last event of every client, whatever its topics, and is followed by the reconnect
        delay.
        """
        members = [world.join(), world.join("sport")]
        world.publish("a")
        result_of(world.hub.stop(farewell=ServerSentEvent("bye", event="farewell"), retry=(2.0, 2.0)))
        assert [member.texts for member in members] == [["a", "bye"], ["bye"]]
        assert {member.events[-1].event for member in members} == {"farewell"}
        assert {member.retry for member in members} == {2.0}
        assert members[0].client.body.endswith(b"event: farewell\ndata: bye\n\nretry: 2000\n\n")

    def test_random_delays(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Each client gets a random reconnect delay between the bounds.
        """
        asked: list[tuple[float, float]] = []
        times = iter([3.0, 4.25, 5.5])

        def uniform(shortest: float, longest: float) -> float:
            asked.append((shortest, longest))
            return next(times)

        members = [world.join() for _ in range(3)]
        monkeypatch.setattr(random, "uniform", uniform)
        world.hub.stop(retry=(3.0, 6.0))
        assert [member.retry for member in members] == [3.0, 4.25, 5.5]
        assert asked == [(3.0, 6.0)] * 3

    def test_default_delays(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Reconnect delays are between 1 and 10 seconds by default.
        """
        asked: list[tuple[float, float]] = []
        world.join()

        def uniform(shortest: float, longest: float) -> float:
            asked.append((shortest, longest))
            return 1.0

        monkeypatch.setattr(random, "uniform", uniform)
        world.hub.stop()
        assert asked == [(1.0, 10.0)]

    def test_pending_append(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        A hub that stops waits for updates that the journal has not recorded yet, and sends them before the
        farewell.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new_world(journal=journal)
        member = world.join()
        journal.held.add("append")
        published = outcome_of(world.hub.publish("news", "a"))
        stopped = outcome_of(world.hub.stop(farewell=ServerSentEvent("bye")))
        world.reactor.run_soon()
        assert (published, stopped, member.texts) == ([], [], [])
        journal.release("append")
        world.reactor.run_soon()
        assert member.texts == ["a", "bye"]
        assert len(published) == len(stopped) == 1
        assert world.reactor.getDelayedCalls() == []

    @pytest.mark.parametrize("method", ["start", "at", "stop"])
    def test_journal_does_not_answer(
        self, new_world: Callable[..., World], plain: Wire, method: str, logged: list[LogEvent]
    ) -> None:
        """
        A hub that stops does not wait for its journal beyond the deadline, and logs that.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        journal.held.add(method)
        world = new_world(journal=journal)
        outcome_of(world.hub.start())
        stopped = outcome_of(world.hub.stop(deadline=5.0))
        world.reactor.advance(4.9)
        assert stopped == []
        world.reactor.advance(0.1)
        assert stopped == [None]
        assert journal.cancelled in ([method], [])
        assert [event for event in logged if "did not stop in time" in event["log_format"]]
        assert isinstance(outcome_of(world.hub.publish("news", "a"))[0], HubStopped)

    def test_journal_after_slow_clients(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        If slow clients use up the deadline, the journal still has one second to stop.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        journal.held.add("stop")
        world = new_world(journal=journal)
        member = world.join()
        member.stop_reading()
        world.publish("x" * 200_000)
        stopped = outcome_of(world.hub.stop(deadline=5.0))
        world.reactor.advance(5.0)
        world.reactor.run_soon()
        assert stopped == []
        world.reactor.advance(0.9)
        journal.release("stop")
        assert stopped == [None]

    def test_append_does_not_finish(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        A hub that stops does not wait for a pending append beyond the deadline.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new_world(journal=journal)
        member = world.join()
        journal.held.add("append")
        published = outcome_of(world.hub.publish("news", "a"))
        stopped = outcome_of(world.hub.stop(deadline=5.0))
        world.reactor.advance(4.9)
        assert not member.client.ended
        world.reactor.advance(0.2)
        world.reactor.run_soon()
        assert (published, stopped, member.texts) == ([], [None], [])
        assert member.client.ended
        journal.release("append")

    def test_append_fails(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        A hub that stops does not wait for an append that has failed.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new_world(journal=journal)
        world.join()
        journal.held.add("append")
        published = outcome_of(world.hub.publish("news", "a"))
        stopped = outcome_of(world.hub.stop())
        journal.errors["append"] = JournalFailed("x", "is unavailable")
        journal.release("append")
        world.reactor.run_soon()
        assert isinstance(published[0], JournalFailed)
        assert stopped == [None]

    def test_journal_fails_to_start(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        A hub that stops waits for a journal that is starting, and does not stop it if the start fails.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new_world(journal=journal)
        journal.held.add("start")
        started = outcome_of(world.hub.start())
        stopped = outcome_of(world.hub.stop())
        world.reactor.run_soon()
        assert (started, stopped) == ([], [])
        journal.errors["start"] = JournalFailed("x", "is unavailable")
        journal.release("start")
        world.reactor.run_soon()
        assert isinstance(started[0], JournalFailed)
        assert stopped == [None]
        assert "stop" not in journal.calls

    def test_invalid_farewell(self, world: World) -> None:
        """
        ``hub.stop`` raises ``TypeError`` for an invalid farewell, and the hub continues.
        """
        member = world.join()
        with pytest.raises(TypeError, match="ServerSentEvent"):
            world.hub.stop(farewell="bye")  # type: ignore[arg-type]
        world.publish("a")
        assert member.texts == ["a"]

    def test_does_not_start_again(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        A stopped hub does not start its journal again: its methods fail with ``HubStopped``.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new_world(journal=journal)
        journal.errors["start"] = JournalFailed("x", "is unavailable")
        result_of(world.hub.stop())
        del journal.errors["start"]
        calls = len(journal.calls)
        for ask in (world.hub.start, world.hub.resume_id):
            (outcome,) = outcome_of(ask())
            assert isinstance(outcome, HubStopped)
        assert len(journal.calls) == calls

    def test_publish_while_draining(self, world: World) -> None:
        """
        ``publish_update(while_draining=True)`` records an update while clients disconnect, and fails after
        that.
        """
        last = Update("news", ServerSentEvent("left", id="left"))
        published: list[Deferred[str]] = []
        member = world.join()
        member.channel.when_closed().addCallback(
            lambda _: published.append(world.hub.publish_update(last, while_draining=True))
        )
        result_of(world.hub.stop())
        assert [result_of(each) for each in published] == ["left"]
        assert world.hub.metrics().published == 1
        for publish in (partial(world.hub.publish_update, while_draining=True), world.hub.publish_update):
            [failed] = outcome_of(publish(last))
            assert isinstance(failed, HubStopped)

    def test_publish_while_the_journal_stops(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        ``publish_update(while_draining=True)`` fails with ``HubStopped`` while the journal stops.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new_world(journal=journal)
        world.publish("a")
        journal.held.add("stop")
        stopped = outcome_of(world.hub.stop())
        (failed,) = outcome_of(
            world.hub.publish_update(Update("news", ServerSentEvent("b", id="b")), while_draining=True)
        )
        assert isinstance(failed, HubStopped)
        assert stopped == []
        journal.release("stop")
        assert stopped == [None]

    def test_publish_while_draining_is_delivered(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An update that is published while the hub drains reaches the clients whose streams have not ended yet.
        """
        monkeypatch.setattr(shutdown_module, "_SLICE", 1)
        first, second = world.join(), world.join()
        first.channel.when_closed().addCallback(
            lambda _: world.hub.publish_update(
                Update("news", ServerSentEvent("left", id="left")), while_draining=True
            )
        )
        stopped = outcome_of(world.hub.stop())
        world.reactor.run_soon()
        world.reactor.run_soon()
        assert stopped == [None]
        assert (first.texts, second.texts) == ([], ["left"])

    @pytest.mark.parametrize("retry", [(-1.0, 1.0), (1.0, float("inf")), (-2.0, -1.0)])
    def test_invalid_delays(self, world: World, retry: tuple[float, float]) -> None:
        """
        ``hub.stop`` raises ``ValueError`` for invalid reconnect delays, and the hub continues.
        """
        member = world.join()
        with pytest.raises(ValueError):
            world.hub.stop(retry=retry)
        world.publish("a")
        assert member.texts == ["a"]

    @pytest.mark.parametrize("deadline", [0, -1.0, float("nan")])
    def test_invalid_deadline(self, world: World, deadline: float) -> None:
        """
        ``hub.stop`` raises ``ValueError`` for an invalid deadline, and the hub continues.
        """
        member = world.join()
        with pytest.raises(ValueError, match="deadline must be a positive number of seconds"):
            world.hub.stop(deadline=deadline)
        world.publish("a")
        assert member.texts == ["a"]

    def test_before_first_use(self, new_world: Callable[..., World]) -> None:
        """
        A hub that was never used stops immediately.
        """
        world = new_world()
        assert result_of(world.hub.stop()) is None
        with pytest.raises(HubStopped):
            result_of(world.hub.publish("news", "x"))

    def test_without_subscribers(self, world: World) -> None:
        """
        A hub without subscribers stops immediately.
        """
        world.publish("a")
        assert result_of(world.hub.stop()) is None
        assert world.reactor.getDelayedCalls() == []

    def test_twice(self, world: World) -> None:
        """
        Each call of ``hub.stop`` returns a Deferred that fires when the hub is stopped, and each client gets
        one reconnect delay.
        """
        member = world.join()
        member.client.pump()
        member.stop_reading()
        world.publish("a")
        first, second = outcome_of(world.hub.stop()), outcome_of(world.hub.stop())
        assert (first, second) == ([], [])
        member.read_on()
        assert (first, second) == ([None], [None])
        assert member.client.body.count(b"retry:") == 1
        assert result_of(world.hub.stop()) is None

    def test_slices(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A hub that stops closes its channels in slices, and yields to the reactor between them.
        """
        monkeypatch.setattr(shutdown_module, "_SLICE", 4)
        for _ in range(10):
            world.join()
        outcome = outcome_of(world.hub.stop())
        assert world.hub.metrics().channels == 6
        turn(world.reactor)
        assert world.hub.metrics().channels == 2
        turn(world.reactor)
        assert world.hub.metrics().channels == 0
        assert outcome == [None]
        assert world.hub.metrics().closes == {CloseReason.DRAINED: 10}

    def test_client_disconnects_between_slices(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A hub that stops does not wait for a client that disconnects before its slice.
        """
        monkeypatch.setattr(shutdown_module, "_SLICE", 1)
        members = [world.join() for _ in range(3)]
        outcome = outcome_of(world.hub.stop())
        members[2].leave()
        assert outcome == [None]
        assert world.hub.metrics().closes == {CloseReason.DRAINED: 2, CloseReason.CLIENT_GONE: 1}


class SlowClientTests:
    def slow(self, world: World) -> Member:
        """
        Return a member whose client does not read, and that has an update to read.
        """
        member = world.join()
        member.client.pump()
        member.stop_reading()
        world.publish("a")
        world.reactor.run_soon()
        return member

    def test_reads_before_the_deadline(self, world: World) -> None:
        """
        A slow client that reads before the deadline gets everything up to the farewell.
        """
        member = self.slow(world)
        outcome = outcome_of(world.hub.stop(farewell=ServerSentEvent("bye"), deadline=5.0))
        world.reactor.advance(4.9)
        assert outcome == []
        member.read_on()
        assert member.texts == ["a", "bye"]
        assert member.client.ended
        assert outcome == [None]
        assert world.hub.metrics().closes == {CloseReason.DRAINED: 1}
        assert world.reactor.getDelayedCalls() == []

    def test_deadline(self, world: World, logged: list[LogEvent]) -> None:
        """
        A client that has not read everything by the deadline is cut off and counted, and the hub is stopped.
        """
        slow, quick = self.slow(world), world.join()
        outcome = outcome_of(world.hub.stop(deadline=5.0))
        assert quick.events == []
        assert quick.client.ended
        world.reactor.advance(4.9)
        assert outcome == []
        assert slow.client.connected
        world.reactor.advance(0.1)
        world.reactor.run_soon()
        assert outcome == [None]
        assert slow.client.reset
        assert world.hub.metrics().closes == {CloseReason.DRAINED: 1, CloseReason.FLUSH_TIMEOUT: 1}
        assert [event["count"] for event in logged if "count" in event] == [1]

    @pytest.mark.parametrize("can_be_cut_off", [True, False])
    def test_failing_channel(
        self, any_world: World, can_be_cut_off: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A channel that raises during the shutdown does not affect others, and is aborted at the deadline if
        possible.
        """
        first, broken, last = any_world.join(), any_world.join(), any_world.join()

        def failing(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(channel: SSEChannel, *arguments: Any, **options: Any) -> Any:
                if channel is broken.channel:
                    raise LookupError
                return method(channel, *arguments, **options)

            return call

        with monkeypatch.context() as patched:
            patched.setattr(SSEChannel, "send_frame", failing(SSEChannel.send_frame))
            if not can_be_cut_off:
                patched.setattr(SSEChannel, "abort", failing(SSEChannel.abort))
            outcome = outcome_of(any_world.hub.stop(deadline=5.0))
            for member in (first, last):
                member.client.pump()
                assert member.client.ended
            any_world.reactor.advance(5.0)
            any_world.reactor.run_soon()
        assert outcome == [None]
        broken.client.pump()
        assert broken.client.reset is can_be_cut_off
        broken.leave()

    def test_default_deadline(self, new_world: Callable[..., World]) -> None:
        """
        The default deadline of ``hub.stop`` is 30 seconds, whatever the channels' ``flush_timeout``.
        """
        world = new_world(upgrader={"flush_timeout": 1000.0})
        self.slow(world)
        outcome = outcome_of(world.hub.stop())
        world.reactor.advance(29.9)
        assert outcome == []
        world.reactor.advance(0.2)
        assert outcome == [None]

    def test_deadline_during_closing(
        self, new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If closing the channels takes longer than the deadline, the remaining clients are cut off at once.
        """
        monkeypatch.setattr(shutdown_module, "_SLICE", 1)
        world = new_world()
        slow = self.slow(world)
        for _ in range(2):
            world.join()
        outcome = outcome_of(world.hub.stop(deadline=1.0))
        world.reactor.rightNow += 5.0
        world.reactor.run_soon()
        assert outcome == [None]
        assert slow.client.reset
        assert world.hub.metrics().closes[CloseReason.FLUSH_TIMEOUT] == 1

    def test_replaying(self, world: World) -> None:
        """
        A replaying client of a hub that stops gets the farewell, and its last event ID stays before the
        updates that it was not sent.
        """
        member = self.slow(world)
        ids = world.publish("b", "c")
        world.reactor.run_soon()
        assert world.hub.metrics().replaying == 1
        outcome = outcome_of(world.hub.stop(farewell=ServerSentEvent("bye")))
        member.read_on()
        assert member.texts == ["a", "bye"]
        assert outcome == [None]
        assert member.last_event_id < ids[0]
        assert world.hub.metrics().replaying == 0

    def test_buffer_is_full(self, new_world: Callable[..., World]) -> None:
        """
        A slow client whose buffer has no room for the farewell ends by its overflow policy, and does not
        delay the hub.
        """
        world = new_world(upgrader={"slow_policy": "close", "max_buffer": 50})
        self.slow(world)
        world.publish("b")
        world.reactor.run_soon()
        outcome = outcome_of(world.hub.stop(farewell=ServerSentEvent("x" * 100)))
        world.reactor.run_soon()
        assert outcome == [None]
        assert world.hub.metrics().closes == {CloseReason.SLOW_READER: 1}


class DuringTests:
    def test_during_a_replay(self, world: World) -> None:
        """
        A hub that stops during a replay ends the stream after a whole page.
        """
        (first,) = world.publish("first")
        world.publish(*map(str, range(600)))
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        turn(world.reactor)
        outcome = outcome_of(world.hub.stop(farewell=ServerSentEvent("bye")))
        assert opened.texts == [*map(str, range(256)), "bye"]
        assert opened.client.ended
        assert outcome == [None]
        assert world.hub.metrics().replaying == 0
        assert world.hub.metrics().failures == 0

    def test_during_a_fan_out(self, world: World) -> None:
        """
        A hub that stops during a fan-out sends all published updates to all subscribers first.
        """
        members = [world.join() for _ in range(200)]
        for member in members:
            member.client.pump()
            member.socket.cost = 0.0001
        world.publish("a")
        turn(world.reactor)
        world.publish("b")
        outcome = outcome_of(world.hub.stop())
        assert all(member.texts == ["a", "b"] for member in members)
        assert outcome == [None]

    def test_during_a_lookup(self, world: World) -> None:
        """
        If the hub stops while the journal looks up a client's last event ID, the client gets a stream that
        ends at once, with a reconnect delay.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        first, _ = world.publish("first", "second")
        journal.held.add("find")
        member = world.join(last_event_id=first)
        assert member.client.status == 0
        outcome = outcome_of(world.hub.stop())
        assert outcome == [None]
        journal.release("find")
        member.client.pump()
        assert has_reconnect_response(member)
        assert world.hub.metrics().channels == 0
        world.end()

    def test_during_the_rule(self, world: World) -> None:
        """
        If the hub stops while an access rule runs, the client gets a stream that ends at once, with a
        reconnect delay.
        """
        rights: Deferred[str] = Deferred()
        member = world.join(lambda request: rights)
        result_of(world.hub.stop())
        rights.callback("news")
        member.client.pump()
        assert has_reconnect_response(member)
        assert world.channels == []

    def test_while_the_journal_starts(self, world: World) -> None:
        """
        If the hub stops while its journal starts, the journal is stopped when it has started.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        journal.held.add("start")
        world = World(world.wire, journal=journal)
        world.hub.start()
        outcome = outcome_of(world.hub.stop())
        journal.release("start")
        world.reactor.run_soon()
        assert outcome == [None]
        assert journal.calls[-1] == "stop"


class AfterwardsTests:
    @pytest.fixture
    def stopped(self, world: World) -> World:
        world.publish("a")
        result_of(world.hub.stop())
        return world

    def test_publish(self, stopped: World) -> None:
        """
        ``publish`` of a stopped hub fails with ``HubStopped``.
        """
        with pytest.raises(HubStopped, match="the hub has been stopped"):
            result_of(stopped.hub.publish("news", "x"))
        assert stopped.hub.metrics().published == 1

    def test_publish_while_stopping(self, world: World) -> None:
        """
        ``publish`` fails with ``HubStopped`` as soon as ``hub.stop`` was called.
        """
        member = world.join()
        member.client.pump()
        member.stop_reading()
        world.publish("a")
        world.reactor.run_soon()
        world.hub.stop()
        with pytest.raises(HubStopped):
            result_of(world.hub.publish("news", "x"))

    def test_subscribe(self, stopped: World) -> None:
        """
        ``subscribe`` of a stopped hub raises ``HubStopped``, and leaves the channel open.
        """
        channel = stopped.open().channel
        with pytest.raises(HubStopped):
            stopped.hub.subscribe(channel, "news")
        assert channel.is_open
        assert channel.watcher is None

    def test_request(self, stopped: World) -> None:
        """
        A request to a stopped hub gets a stream that ends at once, with a reconnect delay.
        """
        member = stopped.join(headers={"Origin": "https://example.org"})
        assert has_reconnect_response(member)
        assert stopped.channels == []

    def test_other_methods(self, stopped: World) -> None:
        """
        A stopped hub responds to HEAD and OPTIONS as before.
        """
        assert stopped.join(method="HEAD").client.status == 200
        assert stopped.join(method="OPTIONS").client.status == 204


class JournalTests:
    def journalled(self, world: World, **options: Any) -> tuple[World, ScriptedJournal]:
        journal = ScriptedJournal(reactor=world.reactor)
        return World(world.wire, journal=journal, **options), journal

    def test_stopped_after_the_channels(self, world: World) -> None:
        """
        The journal is stopped after the last channel is closed, and the hub is stopped after the journal.
        """
        world, journal = self.journalled(world)
        member = world.join()
        member.client.pump()
        member.stop_reading()
        world.publish("a")
        journal.held.add("stop")
        outcome = outcome_of(world.hub.stop())
        assert "stop" not in journal.calls
        member.read_on()
        assert journal.calls[-1] == "stop"
        assert outcome == []
        journal.release("stop")
        assert outcome == [None]
        assert journal.calls.count("stop") == 1

    def test_fails_to_stop(self, world: World, failures: list[LogEvent]) -> None:
        """
        If the journal fails to stop, this is logged, and the hub is stopped.
        """
        world, journal = self.journalled(world)
        journal.errors["stop"] = OSError("no journal")
        member = world.join()
        assert result_of(world.hub.stop()) is None
        assert member.events == []
        assert member.client.ended
        (event,) = failures
        assert event["log_format"] == "the hub did not shut down cleanly"
        assert result_of(world.hub.stop()) is None

    def test_never_started(self, world: World, failures: list[LogEvent]) -> None:
        """
        A journal that failed to start is not stopped.
        """
        world, journal = self.journalled(world)
        journal.errors["start"] = OSError("no journal")
        [failed] = outcome_of(world.hub.start())
        assert isinstance(failed, OSError)
        assert result_of(world.hub.stop()) is None
        assert "stop" not in journal.calls
        assert [event["log_format"] for event in failures] == ["the journal did not start"]

    def test_fails_to_start_meanwhile(self, world: World, failures: list[LogEvent]) -> None:
        """
        If the journal fails to start with ``JournalFailed`` while the hub stops, the hub logs nothing,
        because the journal does.
        """
        world, journal = self.journalled(world)
        journal.held.add("start")
        world.hub.publish("news", "x").addErrback(lambda _: None)
        stopped = outcome_of(world.hub.stop())
        assert not stopped
        journal.errors["start"] = JournalFailed("journal", "not now")
        journal.release("start")
        assert stopped == [None]
        assert "stop" not in journal.calls
        assert failures == []


class InsideTests:
    def test_stopped_during_a_send(self, world: World) -> None:
        """
        If ``hub.stop`` is called while an update is sent, all subscribers still get that update.
        """
        members = [world.join() for _ in range(3)]
        for member in members:
            member.client.pump()
        outcomes: list[list[object]] = []

        def stop() -> None:
            if not outcomes:
                outcomes.append(outcome_of(world.hub.stop()))

        members[1].socket.before_send = stop
        world.publish("a")
        world.reactor.run_soon()
        assert [member.texts for member in members] == [["a"]] * 3
        for member in members:
            member.client.pump()
        assert all(member.client.ended for member in members)
        assert outcomes == [[None]]


class WireTests:
    def test_connection_is_reused(self, plain: Wire) -> None:
        """
        After a hub has ended a stream, the client's connection takes another request.
        """
        world = World(plain)
        member = world.join()
        result_of(world.hub.stop())
        member.client.pump()
        assert member.client.ended
        member.client.reset_response()
        member.client.request()
        assert has_reconnect_response(member)
        world.end()

"""
Fan-out: how updates reach live subscribers, in what order, in how many writes, and past failing or slow ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from twisted.logger import LogEvent, LogLevel

from tests.fakes import Wire
from tests.hub.fakes import Broken, Member, Prefix, World, lost, turn
from txsse import Access, CloseReason, Limits, ServerSentEvent
from txsse.hub import fanout as fanout_module
from txsse.hub.subscriber import Subscriber
from txsse.journal import update as update_module
from txsse.server.sinks import base as sink_module


def settle(members: list[Member]) -> None:
    """
    Deliver what is under way to the clients, and forget how it was sent.
    """
    for member in members:
        member.client.pump()
        member.socket.sends.clear()


def crowd(world: World, size: int, rule: Any = "news") -> list[Member]:
    members = [world.join(rule) for _ in range(size)]
    settle(members)
    return members


class OneTurnTests:
    def test_each_transport(self, any_world: World) -> None:
        """
        Each client receives the updates of its topics in order, over any transport.
        """
        members = [any_world.join(), any_world.join("sport"), any_world.join("*")]
        any_world.publish("a", "b")
        any_world.publish("c", topics="sport")
        any_world.publish("d", topics=["sport", "news"])
        assert [member.texts for member in members] == [
            ["a", "b", "d"],
            ["c", "d"],
            ["a", "b", "c", "d"],
        ]

    def test_at_the_end_of_the_turn(self, world: World) -> None:
        """
        Updates are sent at the end of the reactor's turn, not while the program publishes.
        """
        (member,) = crowd(world, 1)
        world.publish("a")
        assert member.socket.sends == []
        turn(world.reactor)
        assert len(member.socket.sends) == 1
        assert world.reactor.getDelayedCalls() == []

    def test_one_write(self, world: World) -> None:
        """
        Sixteen updates that are published in one turn are sent in one write for each connection.
        """
        members = crowd(world, 3)
        texts = [f"number {number}" for number in range(16)]
        world.publish(*texts)
        turn(world.reactor)
        assert [len(member.socket.sends) for member in members] == [1, 1, 1]
        assert [member.texts for member in members] == [texts] * 3
        assert [len(member.socket.sends) for member in members] == [1, 1, 1]

    def test_one_write_for_several_audiences(self, world: World) -> None:
        """
        Updates to different topics that are published in one turn are sent in one write, in the order of
        publication.
        """
        both, news = world.join(["news", "sport"]), world.join()
        settle([both, news])
        for number in range(8):
            world.publish(f"news {number}")
            world.publish(f"sport {number}", topics="sport")
        turn(world.reactor)
        assert [len(both.socket.sends), len(news.socket.sends)] == [1, 1]
        assert both.texts == [f"{topic} {number}" for number in range(8) for topic in ("news", "sport")]
        assert news.texts == [f"news {number}" for number in range(8)]

    def test_encoded_once_and_framed_once(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An update is encoded once, and a batch is framed once, however many subscribers receive it.
        """
        encoded: list[ServerSentEvent] = []
        framed: list[bytes] = []
        as_chunk = sink_module.as_chunk
        encode = update_module.encode_event  # type: ignore[attr-defined]

        def encoding(event: ServerSentEvent) -> bytes:
            encoded.append(event)
            return encode(event)

        def framing(data: bytes) -> bytes:
            framed.append(data)
            return as_chunk(data)

        members = crowd(world, 100)
        monkeypatch.setattr(update_module, "encode_event", encoding)
        monkeypatch.setattr(sink_module, "as_chunk", framing)
        world.publish("a", "b")
        turn(world.reactor)
        assert len(encoded) == 2
        assert len(framed) == 1
        assert {member.socket.sends[0] for member in members} == {as_chunk(framed[0])}
        assert all(member.texts == ["a", "b"] for member in members)

    def test_subscribers_with_equal_updates_share_a_frame(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If audiences differ, subscribers that receive the same updates of a batch still share one frame.
        """
        members = crowd(world, 4) + crowd(world, 4, ["news", "sport"])
        framed: list[bytes] = []
        as_chunk = sink_module.as_chunk

        def framing(data: bytes) -> bytes:
            framed.append(data)
            return as_chunk(data)

        monkeypatch.setattr(sink_module, "as_chunk", framing)
        world.publish("a")
        world.publish("b", topics="sport")
        turn(world.reactor)
        assert len(framed) == 2
        assert [member.texts for member in members] == [["a"]] * 4 + [["a", "b"]] * 4

    def test_update_with_several_topics(self, world: World) -> None:
        """
        An update to several topics reaches a subscriber once, even if it wants more than one of them.
        """
        members = [
            world.join(rule)
            for rule in (["news", "sport"], ["news", Prefix("spo"), "*"], Prefix("new"), "other")
        ]
        world.publish("x", topics=["news", "sport"])
        assert [member.texts for member in members] == [["x"], ["x"], ["x"], []]
        assert world.hub.metrics().delivered == 3

    def test_topic_without_subscribers(self, world: World) -> None:
        """
        An update that no subscriber wants counts as published and not as delivered.
        """
        (member,) = crowd(world, 1)
        world.publish("x", topics="other")
        assert member.texts == []
        metrics = world.hub.metrics()
        assert (metrics.published, metrics.delivered, metrics.fanouts) == (1, 0, 1)

    def test_batches(self, world: World) -> None:
        """
        One write takes at most 64 KiB of updates, unless a single update is larger.
        """
        (member,) = crowd(world, 1)
        world.publish("x" * 30_000, "y" * 30_000, "z" * 30_000, "v" * 100_000, "w")
        turn(world.reactor)
        assert [len(sent) // 1000 for sent in member.socket.sends] == [60, 30, 100, 0]
        assert [text[:1] for text in member.texts] == list("xyzvw")
        assert world.hub.metrics().fanouts == 4

    def test_default_batch_limit(self, world: World) -> None:
        """
        Updates of 65536 bytes are sent in one write; with one byte more, they take two writes.
        """
        (member,) = crowd(world, 1)
        frame = len("id: 1\ndata: \n\n")
        for size, writes in ((32768, 1), (32769, 2)):
            member.socket.sends.clear()
            world.publish("x" * (32768 - frame), id="1" if writes == 1 else "3")
            world.publish("x" * (size - frame), id="2" if writes == 1 else "4")
            turn(world.reactor)
            assert len(member.socket.sends) == writes

    def test_more_than_a_megabyte_is_pending(self, world: World) -> None:
        """
        More than a megabyte of pending updates is sent on the spot; later updates wait for the end of the
        turn again.
        """
        (member,) = crowd(world, 1)
        member.client.transport.bufferSize = 2**30
        piece = "x" * 2**18
        world.publish(piece, piece, piece)
        assert member.socket.sends == []
        world.publish(piece)
        assert len(member.socket.sends) == 4
        assert world.reactor.getDelayedCalls() == []
        world.publish("last")
        assert len(member.socket.sends) == 4
        assert [text[:4] for text in member.texts] == ["xxxx"] * 4 + ["last"]

    def test_sent_updates_are_not_pending(self, world: World) -> None:
        """
        Updates that were sent no longer count towards the limit of pending bytes.
        """
        (member,) = crowd(world, 1)
        for _ in range(5):
            world.publish("x" * 2**19)
            assert member.socket.sends == []
            world.reactor.run_soon()
            assert len(member.socket.sends) == 1
            member.socket.sends.clear()


class SliceTests:
    COST = 0.0001

    def slow(self, world: World, size: int, rule: Any = "news") -> list[Member]:
        """
        Return members whose sockets take their time: 6.4 ms for 64 of them.
        """
        members = crowd(world, size, rule)
        for member in members:
            member.socket.cost = self.COST
        return members

    def reached(self, members: list[Member]) -> list[int]:
        return [len(member.socket.sends) for member in members]

    def test_slices(self, world: World) -> None:
        """
        After 10 ms of a fan-out the reactor gets its turn; then the fan-out continues where it stopped.
        """
        members = self.slow(world, 300)
        world.publish("x")
        for done in (128, 256, 300):
            turn(world.reactor)
            assert self.reached(members) == [1] * done + [0] * (300 - done)
        world.reactor.run_soon()
        assert self.reached(members) == [1] * 300
        assert all(member.texts == ["x"] for member in members)

    def test_small_fan_out(self, world: World) -> None:
        """
        A fan-out that takes no longer than 10 ms is complete after one turn.
        """
        members = self.slow(world, 64)
        world.publish("x")
        turn(world.reactor)
        assert self.reached(members) == [1] * 64
        assert world.reactor.getDelayedCalls() == []

    @pytest.mark.slow
    def test_published_between_slices(self, world: World) -> None:
        """
        An update that is published between two slices of a fan-out reaches every subscriber after that
        fan-out.
        """
        members = self.slow(world, 300)
        world.publish("a")
        turn(world.reactor)
        world.publish("b")
        turn(world.reactor)
        world.publish("c")
        assert all(member.texts == ["a", "b", "c"] for member in members)

    def test_joined_between_slices(self, world: World) -> None:
        """
        A client that subscribes between two slices of a fan-out receives only updates published afterwards.
        """
        members = self.slow(world, 200)
        world.publish("a")
        turn(world.reactor)
        world.publish("b")
        late = world.hub.subscribe(world.open().channel, "news")
        late_member = world.members[-1]
        assert not late.is_replaying
        world.publish("c")
        assert late_member.texts == ["c"]
        assert all(member.texts == ["a", "b", "c"] for member in members)

    def test_left_between_slices(self, world: World) -> None:
        """
        A client that disconnects or unsubscribes during a fan-out is sent nothing more; the others receive
        everything.
        """
        members = self.slow(world, 200)
        subscribers = list(world.hub._membership.by_channel.values())
        world.publish("a")
        turn(world.reactor)
        members[0].client.transport.connectionLost(lost())
        members[199].client.transport.connectionLost(lost())
        subscribers[1].unsubscribe()
        subscribers[198].unsubscribe()
        world.publish("b")
        assert members[1].texts == ["a"]
        assert members[198].texts == []
        assert self.reached([members[0], members[199]]) == [1, 0]
        assert all(member.texts == ["a", "b"] for member in members[2:198])
        assert world.hub.subscribers.total == 196

    def test_resumed_between_slices(self, world: World) -> None:
        """
        A client that resumes between two slices of a fan-out receives each update once.
        """
        (first,) = world.publish("first")
        members = self.slow(world, 200)
        world.publish("a")
        turn(world.reactor)
        resumed = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(resumed.channel, "news")
        turn(world.reactor)
        world.publish("b")
        assert resumed.texts == ["a", "b"]
        assert all(member.texts == ["a", "b"] for member in members)

    def test_slices_with_several_audiences(self, world: World) -> None:
        """
        A fan-out to several audiences is sliced too, and every subscriber receives its updates in order.
        """
        news = self.slow(world, 150)
        both = self.slow(world, 150, ["news", "sport"])
        for number in range(3):
            world.publish(f"news {number}")
            world.publish(f"sport {number}", topics="sport")
            turn(world.reactor)
        assert all(member.texts == ["news 0", "news 1", "news 2"] for member in news)
        expected = [f"{topic} {number}" for number in range(3) for topic in ("news", "sport")]
        assert all(member.texts == expected for member in both)

    def test_audiences_change_between_slices(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        While a fan-out determines its audiences, a client that unsubscribes is sent none of its updates, and
        a client that subscribes only later ones.
        """
        monkeypatch.setattr(fanout_module, "_SLICE_SECONDS", 0.0)
        members = crowd(world, 100, ["news", "sport"])
        subscribers = list(world.hub._membership.by_channel.values())
        world.publish("a")
        world.publish("b", topics="sport")
        turn(world.reactor)
        assert self.reached(members) == [0] * 100
        subscribers[0].unsubscribe()
        world.hub.subscribe(world.open().channel, ["news", "sport"])
        late = world.members[-1]
        world.publish("c")
        assert members[0].texts == []
        assert late.texts == ["c"]
        assert all(member.texts == ["a", "b", "c"] for member in members[1:])

    @pytest.mark.slow
    def test_finding_audiences_takes_turns(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The reactor gets turns while a fan-out determines each audience and compares them, before anything is
        sent.
        """
        monkeypatch.setattr(fanout_module, "_SLICE_SECONDS", 0.0)
        members = crowd(world, 200, ["news", "sport"])
        world.publish("a")
        world.publish("b", topics="sport")
        turns = 0
        while not any(self.reached(members)):
            turn(world.reactor)
            turns += 1
        # Four turns for each audience of 200, four for comparing them, and then the first of four to send.
        assert turns == 13
        assert self.reached(members) == [1] * 64 + [0] * 136
        assert all(member.texts == ["a", "b"] for member in members)

    @pytest.mark.slow
    def test_flush_between_slices(self, world: World) -> None:
        """
        If too much is pending, everything is sent on the spot, after the rest of the running fan-out.
        """
        members = self.slow(world, 200)
        world.publish("a")
        turn(world.reactor)
        world.publish("b" * 600_000)
        assert self.reached(members) == [1] * 128 + [0] * 72
        world.publish("c" * 600_000)
        assert self.reached(members) == [3] * 200
        assert world.reactor.getDelayedCalls() == []
        assert [text[:1] for text in members[199].texts] == ["a", "b", "c"]

    def test_time_of_a_fan_out(self, world: World) -> None:
        """
        The slices of a fan-out are measured as one fan-out, without the time between them.
        """
        self.slow(world, 200)
        world.publish("a")
        turn(world.reactor)
        world.reactor.advance(5)
        metrics = world.hub.metrics()
        assert metrics.fanouts == 1
        assert metrics.fanout_seconds == pytest.approx(200 * self.COST)
        assert metrics.fanout_buckets == (0, 0, 0, 1, 1)
        world.publish("unwanted", topics="other")
        world.reactor.run_soon()
        assert world.hub.metrics().fanout_buckets == (1, 1, 1, 2, 2)
        assert world.hub.metrics().fanouts == 2
        assert world.hub.metrics().fanout_seconds == pytest.approx(200 * self.COST)


class FailureTests:
    def test_failing_subscriber(self, world: World, failures: list[LogEvent]) -> None:
        """
        A subscriber whose socket raises is aborted and logged; the other subscribers receive their update.
        """
        members = crowd(world, 3)
        members[1].socket.error = ZeroDivisionError("broken")
        world.publish("a")
        world.reactor.run_soon()
        assert [members[0].texts, members[2].texts] == [["a"], ["a"]]
        assert world.channels[1].close_reason is CloseReason.SERVER_CLOSED
        assert members[1].client.reset
        (event,) = failures
        assert event["log_failure"].type is ZeroDivisionError
        assert str(event["subscriber"]).startswith("<Subscriber 2 ")
        assert event["log_format"] == "{subscriber} is dropped"
        metrics = world.hub.metrics()
        assert (metrics.failures, metrics.delivered, metrics.channels) == (1, 2, 2)
        assert metrics.closes == {CloseReason.SERVER_CLOSED: 1}

    def test_failing_subscriber_cannot_be_aborted(self, world: World, failures: list[LogEvent]) -> None:
        """
        A failing subscriber whose channel cannot be aborted is unsubscribed; the others receive their
        updates.
        """
        members = crowd(world, 3)
        members[1].socket.error = ZeroDivisionError("broken")

        def failing(**options: object) -> bool:
            raise OSError("broken too")

        world.channels[1].abort = failing  # type: ignore[method-assign]
        world.publish("a", "b")
        world.reactor.run_soon()
        world.publish("c")
        assert [members[0].texts, members[2].texts] == [["a", "b", "c"]] * 2
        assert members[1].texts == []
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError, OSError]
        assert world.hub.metrics().failures == 1
        assert world.hub.subscribers.total == 2

    def test_failing_subscriber_that_joined_in_the_middle_of_a_batch(
        self, world: World, failures: list[LogEvent]
    ) -> None:
        """
        A subscriber that joined between two updates of one turn and fails is aborted; the others receive
        everything.
        """
        (member,) = crowd(world, 1)
        world.publish("a")
        opened = world.open()
        world.hub.subscribe(opened.channel, "news")
        world.publish("b")
        subscriber = list(world.hub._membership.by_channel.values())[-1]

        def failing(frames: object) -> bool:
            raise ZeroDivisionError

        subscriber.sink = Failing(subscriber.sink, failing)
        assert member.texts == ["a", "b"]
        assert opened.client.reset
        assert len(failures) == 1
        assert world.hub.metrics().failures == 1

    def test_failing_fan_out(
        self, world: World, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
    ) -> None:
        """
        A fan-out that raises is logged and counted, and the next one still reaches its subscribers.
        """
        (member,) = crowd(world, 1)
        index = world.hub._membership.index
        find_audience = index.find_audience

        def failing(topics: tuple[str, ...]) -> Generator[None, None, list[Subscriber]]:
            monkeypatch.setattr(index, "find_audience", find_audience)
            raise ZeroDivisionError

        monkeypatch.setattr(index, "find_audience", failing)
        world.publish("x" * 2**16)
        world.publish("b")
        assert member.texts == ["b"]
        (event,) = failures
        assert event["log_format"] == "a fan-out failed"
        assert event["log_level"] is LogLevel.critical
        assert world.hub.metrics().fanouts == 2

    def test_failing_call_between_fan_outs(self, world: World, failures: list[LogEvent]) -> None:
        """
        A call between two fan-outs that raises is logged, and later updates still reach their subscribers.
        """
        (member,) = crowd(world, 1)
        live = world.hub._distribution
        assert live is not None

        def failing() -> None:
            raise ZeroDivisionError

        world.hub.publish("news", "a")
        live.fanout.when_sent(failing)
        world.publish("b")
        assert member.texts == ["a", "b"]
        (event,) = failures
        assert event["log_format"] == "a call between two fan-outs failed"

    def test_failing_selector(self, world: World, failures: list[LogEvent]) -> None:
        """
        A selector that raises matches nothing and is logged; its subscriber still receives its exact topics.
        """
        broken, fine = world.join([Broken(), "sport"]), world.join(Prefix("ne"))
        world.publish("a", "b")
        world.publish("c", topics="sport")
        assert (broken.texts, fine.texts) == (["c"], ["a", "b"])
        assert [event["topic"] for event in failures] == ["news", "sport"]

    def test_client_disconnects_before_the_fan_out(self, world: World, failures: list[LogEvent]) -> None:
        """
        A client that has disconnected when the fan-out begins is sent nothing, and this is no failure.
        """
        members = crowd(world, 2)
        world.publish("a")
        members[0].client.transport.connectionLost(lost())
        assert members[1].texts == ["a"]
        assert members[0].socket.sends == []
        assert failures == []
        assert world.hub.metrics().closes == {CloseReason.CLIENT_GONE: 1}

    def test_closing_channel(self, world: World, failures: list[LogEvent]) -> None:
        """
        A closing channel whose client has not read everything is sent no more updates, and does not replay.
        """
        members = crowd(world, 2)
        members[0].stop_reading()
        world.publish("a")
        world.reactor.run_soon()
        world.channels[0].close()
        world.publish("b")
        world.reactor.run_soon()
        assert world.hub.metrics().slow_replays == 0
        members[0].read_on()
        assert members[0].texts == ["a"]
        assert members[0].client.ended
        assert members[1].texts == ["a", "b"]
        assert failures == []


class Failing:
    """
    A sink whose ``offer`` is replaced.
    """

    def __init__(self, sink: Any, offer: Callable[[object], bool]) -> None:
        self._sink = sink
        self.offer = offer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class ReentrancyTests:
    def test_published_while_a_channel_is_dropped(self, new_world: Callable[..., World]) -> None:
        """
        An update that a callback publishes in the middle of a fan-out reaches every subscriber after that
        fan-out.
        """
        world = new_world(upgrader={"slow_policy": "close", "max_buffer": 10})
        members = crowd(world, 3)
        seen: list[CloseReason] = []

        def closed(reason: CloseReason) -> None:
            seen.append(reason)
            world.hub.publish("news", "disconnected")

        world.channels[0].when_closed().addCallback(closed)
        members[0].stop_reading()
        world.publish("a")
        world.reactor.run_soon()
        world.publish("b")
        world.publish("c")
        assert members[1].texts == ["a", "b", "c", "disconnected"]
        assert members[2].texts == ["a", "b", "c", "disconnected"]
        assert seen == [CloseReason.SLOW_READER]

    def test_published_while_sending(self, world: World) -> None:
        """
        An update that is published while a socket is written to is sent in the same turn, after the current
        one.
        """
        members = crowd(world, 3)
        texts = ["inside"]
        members[1].socket.before_send = lambda: texts and world.publish(texts.pop())
        world.publish("a")
        turn(world.reactor)
        assert world.reactor.getDelayedCalls() == []
        assert [len(member.socket.sends) for member in members] == [2, 2, 2]
        assert [member.texts for member in members] == [["a", "inside"]] * 3

    def test_more_than_a_megabyte_is_published_while_sending(self, world: World) -> None:
        """
        More than a megabyte that is published while a socket is written to keeps its order.
        """
        members = crowd(world, 3)
        texts = [letter * 600_000 for letter in "dcb"]
        members[0].socket.before_send = lambda: texts and world.publish(texts.pop())
        world.publish("a")
        turn(world.reactor)
        assert [[text[:1] for text in member.texts] for member in members] == [list("abcd")] * 3

    def test_flush_while_flushing(self, world: World) -> None:
        """
        A flush while a flush is running leaves the updates in order.
        """
        members = crowd(world, 2)
        texts = [letter * 600_000 for letter in "dc"]

        def publish_more() -> None:
            live = world.hub._distribution
            assert live is not None
            if texts:
                world.publish(texts.pop())
                live.fanout.flush()

        members[0].socket.before_send = publish_more
        world.publish("a" * 600_000, "b" * 600_000)
        assert world.reactor.getDelayedCalls() == []
        assert [[text[:1] for text in member.texts] for member in members] == [list("abcd")] * 2

    def test_subscriber_publishes_and_then_fails(self, world: World, failures: list[LogEvent]) -> None:
        """
        If sending to a subscriber publishes an update and then raises, the others receive both updates.
        """
        members = crowd(world, 3)

        def fail() -> None:
            members[1].socket.before_send = int
            world.publish("inside")
            raise ZeroDivisionError

        members[1].socket.before_send = fail
        world.publish("a")
        assert [members[0].texts, members[2].texts] == [["a", "inside"]] * 2
        assert members[1].client.reset
        assert len(failures) == 1


class PrivateTests:
    def test_live(self, world: World) -> None:
        """
        A private update reaches the subscribers that want one of its topics and were granted one of them.
        """
        granted = world.join(Access("news", private="news"))
        by_pattern = world.join(Access(["news", "sport"], private=Prefix("ne")))
        elsewhere = world.join(Access("news", private="sport"))
        public = world.join("*")
        unwanted = world.join(Access("sport", private="*"))
        world.publish("for all")
        world.publish("for some", private=True)
        world.publish("both", topics=["news", "sport"], private=True)
        assert granted.texts == ["for all", "for some", "both"]
        assert by_pattern.texts == ["for all", "for some", "both"]
        assert elsewhere.texts == ["for all", "both"]
        assert public.texts == ["for all"]
        assert unwanted.texts == ["both"]

    def test_private_update_without_a_grant(self, world: World) -> None:
        """
        A private update that no subscriber was granted is not sent, and does not count as delivered.
        """
        member = world.join()
        world.publish("secret", private=True)
        assert member.texts == []
        assert world.hub.metrics().delivered == 0


class SlowReaderTests:
    def filled(self, world: World) -> Member:
        """
        Return a member whose client has stopped reading, with a full socket.
        """
        member = world.join(["news", "sport"])
        settle([member])
        member.stop_reading()
        world.publish("a")
        world.reactor.run_soon()
        assert member.channel.is_slow
        return member

    def test_replay(self, world: World) -> None:
        """
        With the policy replay, nothing is buffered for a slow reader; when it reads again, it catches up from
        the journal.
        """
        member = self.filled(world)
        other = world.join()
        for text in "bcd":
            world.publish(text)
            world.reactor.run_soon()
        metrics = world.hub.metrics()
        assert (metrics.slow_replays, metrics.replaying, metrics.buffered) == (1, 1, 0)
        member.read_on()
        assert member.texts == ["a", "b", "c", "d"]
        world.publish("e")
        assert member.texts == ["a", "b", "c", "d", "e"]
        assert other.texts == ["b", "c", "d", "e"]
        metrics = world.hub.metrics()
        assert (metrics.slow_replays, metrics.replaying, metrics.replayed) == (1, 0, 3)
        assert (metrics.gaps, metrics.delivered) == (0, 9)

    def test_replay_over_each_transport(self, any_world: World) -> None:
        """
        A slow reader with the policy replay receives each update once and in order, over any transport.
        """
        member, other = any_world.join(), any_world.join()
        member.client.pump()
        member.stop_reading()
        texts = [f"{number} {'x' * 5000}" for number in range(60)]
        for text in texts:
            any_world.publish(text)
            any_world.reactor.run_soon()
        assert any_world.hub.metrics().slow_replays >= 1
        for _ in range(10):
            member.client.read_some(20_000)
        member.read_on()
        assert member.texts == texts
        assert other.texts == texts

    def test_replay_when_a_batch_is_refused(self, world: World) -> None:
        """
        A slow reader that cannot take a batch replays all of it, including the updates to its other topics.
        """
        member = self.filled(world)
        world.publish("b", "c")
        world.publish("d", topics="sport")
        world.reactor.run_soon()
        member.read_on()
        assert member.texts == ["a", "b", "c", "d"]

    def test_replay_of_a_slow_reader_that_joined_in_the_middle_of_a_batch(self, world: World) -> None:
        """
        A slow reader that joined between two updates of a turn replays only the updates after that.
        """
        (other,) = crowd(world, 1)
        opened = world.open()
        opened.client.pump()
        world.publish("a")
        opened.stop_reading()
        world.hub.subscribe(opened.channel, "news")
        world.publish("b", "c")
        world.reactor.run_soon()
        assert world.hub.metrics().slow_replays == 1
        opened.read_on()
        assert opened.texts == ["b", "c"]
        assert other.texts == ["a", "b", "c"]

    def test_replay_of_trimmed_updates(self, new_world: Callable[..., World]) -> None:
        """
        A slow reader whose updates the journal has dropped is notified of the gap once, and receives the
        rest.
        """
        world = new_world(bounds={"max_count": 3})
        member = self.filled(world)
        for text in "bcdefg":
            world.publish(text)
            world.reactor.run_soon()
        member.read_on()
        assert member.texts == ["a", "stream-reset", "e", "f", "g"]
        world.publish("h")
        assert member.texts[-2:] == ["g", "h"]
        metrics = world.hub.metrics()
        assert (metrics.gaps, metrics.slow_replays, metrics.replayed) == (1, 1, 3)

    def test_close(self, new_world: Callable[..., World], logged: list[LogEvent]) -> None:
        """
        With the policy close, exceeding the channel's buffer aborts the stream, which is counted and logged.
        """
        world = new_world(upgrader={"slow_policy": "close", "max_buffer": 1000})
        member = self.filled(world)
        other = world.join()
        world.publish("b")
        world.reactor.run_soon()
        frame = len("id: 00000000000000-00000000\ndata: b\n\n")
        metrics = world.hub.metrics()
        assert (metrics.buffered, metrics.slow_replays, metrics.delivered) == (frame, 0, 3)
        world.publish("c" * 1000)
        world.reactor.run_soon()
        assert member.client.reset
        assert other.texts == ["b", "c" * 1000]
        metrics = world.hub.metrics()
        assert metrics.closes == {CloseReason.SLOW_READER: 1}
        assert (metrics.channels, metrics.failures, metrics.delivered) == (1, 0, 4)
        assert any("reads too slowly" in event.get("log_format", "") for event in logged)

    def test_close_with_a_client_that_reads_again(self, new_world: Callable[..., World]) -> None:
        """
        With the policy close, updates that fit into the buffer are sent in order when the client reads again.
        """
        world = new_world(upgrader={"slow_policy": "close"})
        member = self.filled(world)
        world.publish("b", "c")
        world.reactor.run_soon()
        world.publish("d", topics="sport")
        world.reactor.run_soon()
        member.read_on()
        world.publish("e")
        assert member.texts == ["a", "b", "c", "d", "e"]
        metrics = world.hub.metrics()
        assert (metrics.replayed, metrics.delivered) == (0, 5)
        frames = member.client.body.partition(b"data: a")[2]
        assert metrics.bytes == len("id: 00000000000000-00000000\ndata: a") + len(frames)

    def test_drop(self, new_world: Callable[..., World]) -> None:
        """
        With the policy drop, updates that exceed the buffer are dropped and counted, also after the channel
        is closed.
        """
        frame = len("id: 00000000000000-00000000\ndata: b\n\n")
        world = new_world(upgrader={"slow_policy": "drop", "max_buffer": 2 * frame})
        member = self.filled(world)
        world.publish("b", "c", "d", "e")
        world.reactor.run_soon()
        metrics = world.hub.metrics()
        assert (metrics.drops, metrics.buffered) == (2, 2 * frame)
        member.read_on()
        world.publish("f")
        assert member.texts == ["a", "b", "c", "f"]
        member.leave()
        assert world.hub.metrics().drops == 2

    def test_latest(self, new_world: Callable[..., World]) -> None:
        """
        With the policy latest, only the newest update of each topic is kept.
        """
        world = new_world(upgrader={"slow_policy": "latest"})
        member = self.filled(world)
        world.publish("b", "c")
        world.publish("d", topics="sport")
        world.publish("e", topics=["news", "sport"])
        world.publish("f", topics=["sport", "news"])
        world.reactor.run_soon()
        assert world.hub.metrics().drops == 3
        member.read_on()
        assert member.texts == ["a", "e", "f"]

    def test_latest_and_types_of_events(self, new_world: Callable[..., World]) -> None:
        """
        The policy latest compares topics and not event types, and takes no event type for a topic.
        """
        world = new_world(upgrader={"slow_policy": "latest"})
        member = self.filled(world)
        world.publish("b", event="one")
        world.publish("c", event="two")
        world.reactor.run_soon()
        member.channel.send("mine", event="news")
        member.read_on()
        assert member.texts == ["a", "c", "mine"]

    def test_total_buffer_limit(self, new_world: Callable[..., World]) -> None:
        """
        The buffers of all channels together are limited by max_total_buffer.
        """
        frame = len("id: 00000000000000-00000000\ndata: b\n\n")
        world = new_world(
            upgrader={"slow_policy": "drop", "max_total_buffer": 3 * frame, "limits": Limits(channels=9)}
        )
        members = crowd(world, 2)
        for member in members:
            member.stop_reading()
        world.publish("a")
        world.reactor.run_soon()
        world.publish("b", "c")
        world.reactor.run_soon()
        metrics = world.hub.metrics()
        assert (metrics.buffered, metrics.drops) == (3 * frame, 1)
        for member in members:
            member.read_on()
        assert sorted(member.texts for member in members) == [["a", "b"], ["a", "b", "c"]]

    def test_counters(self, world: World) -> None:
        """
        Delivered events and their bytes are counted for each channel.
        """
        members = crowd(world, 3)
        ids = world.publish("a", "b")
        world.publish("c", topics="other")
        world.reactor.run_soon()
        size = len("".join(f"id: {id}\ndata: x\n\n" for id in ids))
        metrics = world.hub.metrics()
        assert (metrics.published, metrics.delivered, metrics.bytes) == (3, 6, 3 * size)
        assert (metrics.replayed, metrics.slow_replays, metrics.gaps, metrics.drops) == (0, 0, 0, 0)
        assert len(members) == 3


class WireTests:
    def test_http_1_0_and_http_1_1_clients_together(self, plain: Wire) -> None:
        """
        A client with a direct socket and one that is written to through its request receive the same bytes.
        """
        world = World(plain)
        straight = world.join()
        plain.kind = "http10"
        other = world.join()
        world.publish("a", "b")
        assert straight.texts == other.texts == ["a", "b"]
        assert straight.client.body == other.client.body
        world.end()


class MissedTests:
    """
    Updates that the journal could not give to the hub, while a fan-out may be under way.
    """

    @pytest.mark.slow
    def test_moved_to_replay_in_slices(self, world: World) -> None:
        """
        When updates were missed, pending ones are sent first, in slices; then all subscribers replay, and
        miss nothing.
        """
        members = crowd(world, 300)
        for member in members:
            member.socket.cost = 0.001
        # To several audiences, so that each update takes its own write.
        for number in range(20):
            world.publish(str(number), topics=["news", str(number)])
        world.hub._distribution.updates_missed(world.hub._distribution.journal.head)  # type: ignore[union-attr]
        assert not any(member.socket.sends for member in members)
        world.publish("later")
        turns = 0
        while world.reactor.getDelayedCalls() and turns < 100:
            before = sum(len(member.socket.sends) for member in members)
            turn(world.reactor)
            turns += 1
            # Ten milliseconds, plus the writes until the clock is looked at.
            assert sum(len(member.socket.sends) for member in members) - before <= 10 + 64
        assert world.hub.metrics().slow_replays == 300
        assert [member.texts for member in members] == [[*map(str, range(20)), "later"]] * 300

    def test_moved_to_replay_at_once(self, world: World) -> None:
        """
        When updates were missed and no fan-out is under way, all subscribers are moved to replay at once.
        """
        crowd(world, 3)
        world.hub._distribution.updates_missed(0)  # type: ignore[union-attr]
        assert all(subscriber.reached is not None for subscriber in world.hub.subscribers)

    def test_missed_during_a_fan_out(self, world: World) -> None:
        """
        When updates were missed during a fan-out, subscribers replay after its end, also if the hub is then
        stopped.
        """
        members = crowd(world, 3)
        missed = world.hub._distribution.updates_missed  # type: ignore[union-attr]
        members[0].socket.before_send = lambda: missed(0)
        world.publish("a")
        turn(world.reactor)
        members[0].socket.before_send = int
        world.reactor.run_soon()
        assert world.hub.metrics().slow_replays == 3
        world.publish("b")
        world.hub._distribution.updates_missed(0)  # type: ignore[union-attr]
        world.hub.stop()
        world.reactor.run_soon()
        assert world.hub.metrics().slow_replays == 6
        assert [member.texts for member in members] == [["a", "b"]] * 3

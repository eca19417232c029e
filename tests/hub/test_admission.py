"""
Changes of a subscriber's topics: what it is sent of each topic, and what a refused change leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import txsse.hub.fanout
import txsse.journal.window
from tests.fakes import Wire
from tests.hub.fakes import Member, Prefix, ScriptedJournal, World, turn
from txsse import HubStopped, TooManyChanges, TooManyPatterns, TooManyTopics
from txsse.hub.admission import MAX_EARLIER
from txsse.hub.subscriber import Subscriber
from txsse.journal.position import ResumePoint


class Heavy(Prefix):
    weight = 60


def subscribe(world: World, *topics: Any, private: Any = ()) -> tuple[Member, Subscriber]:
    member = world.open()
    subscriber = world.hub.subscribe(member.channel, topics, private=private)
    member.client.pump()
    return member, subscriber


def publish_now(world: World, topic: str, text: str, *, private: bool = False) -> None:
    """
    Publish in the current turn of the reactor, without its end.
    """
    world.hub.publish(topic, text, private=private)


class LiveTests:
    def test_topics(self, any_world: World) -> None:
        """
        A subscriber is sent the updates of its new topics, and no more of those that it gave up.
        """
        member, subscriber = subscribe(any_world, "a", "b")
        any_world.publish("1", topics="a")
        any_world.reactor.run_soon()
        subscriber.change(["b", "c"])
        for topic in "abc":
            any_world.publish(f"2{topic}", topics=topic)
        assert member.texts == ["1", "2b", "2c"]
        assert not subscriber.is_replaying
        assert any_world.hub.subscribers["a"] == 0
        assert any_world.hub.subscribers["c"] == 1

    def test_patterns(self, world: World) -> None:
        """
        A subscriber may exchange a pattern for another one, and for all topics.
        """
        member, subscriber = subscribe(world, Prefix("a/"))
        subscriber.change(Prefix("b/"))
        world.publish("1", topics="a/1")
        world.publish("2", topics="b/1")
        subscriber.change("*")
        world.publish("3", topics="a/1")
        assert member.texts == ["2", "3"]

    def test_published_in_the_same_turn(self, any_world: World) -> None:
        """
        Of the updates that were published before the change in the same turn, the subscriber is sent those
        of topics that it keeps, and none of a topic that it gives up or gains.
        """
        member, subscriber = subscribe(any_world, "given up", "kept")
        for number, topic in enumerate(["given up", "kept", "gained"]):
            publish_now(any_world, topic, f"before {number}")
        subscriber.change(["kept", "gained"])
        for number, topic in enumerate(["given up", "kept", "gained"]):
            publish_now(any_world, topic, f"after {number}")
        any_world.reactor.run_soon()
        assert member.texts == ["before 1", "after 1", "after 2"]
        assert not subscriber.is_replaying

    def test_topic_kept_in_another_form(self, world: World) -> None:
        """
        A topic that a pattern matched before, and that is named now, counts as kept.
        """
        member, subscriber = subscribe(world, Prefix("a"))
        publish_now(world, "a1", "1")
        publish_now(world, "b", "2")
        subscriber.change(["a1", "b"])
        world.reactor.run_soon()
        assert member.texts == ["1"]

    def test_grants_are_kept(self, world: World) -> None:
        """
        Without ``private``, a change leaves the grants as they are.
        """
        member, subscriber = subscribe(world, "a", private=["a", "b"])
        subscriber.change("b")
        world.publish("1", topics="b", private=True)
        assert member.texts == ["1"]

    def test_other_grants(self, world: World) -> None:
        """
        With ``private``, the grants change: for updates that are published in the same turn before, both the
        old and the new ones must allow them.
        """
        member, subscriber = subscribe(world, "a", "b", private="a")
        publish_now(world, "a", "1", private=True)
        publish_now(world, "b", "2", private=True)
        subscriber.change(["a", "b"], private="b")
        publish_now(world, "a", "3", private=True)
        publish_now(world, "b", "4", private=True)
        world.reactor.run_soon()
        assert member.texts == ["4"]

    def test_in_the_middle_of_a_fan_out(self, world: World) -> None:
        """
        A subscriber that changes while an update is sent to others is no longer sent it if it has given up
        its topic, and is sent it once if it keeps the topic.
        """
        first, _ = subscribe(world, "a", "b")
        loses, losing = subscribe(world, "a", "b")
        keeps, keeping = subscribe(world, "a", "b")

        def change() -> None:
            first.socket.before_send = int
            losing.change("b")
            keeping.change(["a", "c"])

        first.socket.before_send = change
        publish_now(world, "a", "1")
        publish_now(world, "a", "2")
        world.reactor.run_soon()
        world.publish("3", topics="b")
        world.publish("4", topics="c")
        assert first.texts == ["1", "2", "3"]
        assert loses.texts == ["3"]
        assert keeps.texts == ["1", "2", "4"]
        assert not losing.is_replaying
        assert not keeping.is_replaying

    def test_by_its_own_update(self, world: World) -> None:
        """
        A change while the subscriber itself is sent an update neither repeats nor loses any.
        """
        member, subscriber = subscribe(world, "a")

        def change() -> None:
            member.socket.before_send = int
            subscriber.change(["a", "b"])

        member.socket.before_send = change
        publish_now(world, "a", "1")
        publish_now(world, "b", "2")
        world.reactor.run_soon()
        world.publish("3", topics="b")
        assert member.texts == ["1", "3"]

    @pytest.mark.parametrize("is_slow", [False, True])
    def test_ephemeral_event_between_slices(
        self, world: World, monkeypatch: pytest.MonkeyPatch, is_slow: bool
    ) -> None:
        """
        An ephemeral event that is being sent does not reach a subscriber that gives its topic up meanwhile,
        even if it has caught up from the journal before all others have been sent the event.
        """
        monkeypatch.setattr(txsse.hub.fanout, "_LOOK", 1)
        crowd = [subscribe(world, "a")[0] for _ in range(8)]
        member, subscriber = subscribe(world, "a", "b")
        for each in crowd:
            each.socket.cost = 1.0
        distribution = world.hub._distribution
        assert distribution is not None
        if is_slow:
            distribution.replay.begin(subscriber, ResumePoint(0))
        world.hub.publish_ephemeral("a", "1")
        turn(world.reactor)
        subscriber.change("b")
        for _ in range(4):
            turn(world.reactor)
        assert not subscriber.is_replaying
        assert distribution.fanout.is_sending
        world.reactor.run_soon()
        world.publish("2", topics="b")
        assert crowd[7].texts == ["1"]
        assert member.texts == ["2"]


class ReplayingTests:
    @pytest.fixture
    def paged(self, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
        """
        Return a hub whose journal is read by pages of two updates.
        """
        monkeypatch.setattr(txsse.journal.window, "PAGE_COUNT", 2)
        return world

    def resume_slowly(self, world: World, *topics: str) -> tuple[Member, Subscriber]:
        """
        Publish ten updates, alternately of ``a`` and ``b``, and have a client resume that does not read.
        """
        (first,) = world.publish("0", topics="a")
        for number in range(1, 11):
            world.publish(str(number), topics="ab"[number % 2])
        member = world.open(headers={"Last-Event-ID": first})
        member.stop_reading()
        member.channel.comment("x" * 70_000)
        subscriber = world.hub.subscribe(member.channel, topics)
        assert subscriber.is_replaying
        return member, subscriber

    def test_gained_and_given_up(self, paged: World) -> None:
        """
        A replaying subscriber is sent the rest of a topic that it keeps, and of a topic that it gains only
        what is published after the change.
        """
        member, subscriber = self.resume_slowly(paged, "a")
        subscriber.change(["a", "b"])
        paged.publish("11", topics="b")
        paged.publish("12", topics="a")
        member.read_on()
        paged.reactor.run_soon()
        assert member.texts == ["2", "4", "6", "8", "10", "11", "12"]
        subscriber.change("b")
        assert (subscriber.is_replaying, subscriber.earlier) == (False, ())

    def test_several_changes(self, paged: World) -> None:
        """
        Of a topic that it gave up and gained again, a replaying subscriber is sent what follows the last
        change.
        """
        member, subscriber = self.resume_slowly(paged, "a", "b")
        subscriber.change("b")
        paged.publish("11", topics="a")
        subscriber.change(["a", "b"])
        paged.publish("12", topics="a")
        member.read_on()
        paged.reactor.run_soon()
        assert member.texts == ["1", "3", "5", "7", "9", "12"]

    def test_too_many_changes(self, paged: World) -> None:
        """
        A replaying subscriber may gain topics a limited number of times; giving up topics is always possible.
        """
        member, subscriber = self.resume_slowly(paged, "a")
        for number in range(MAX_EARLIER):
            subscriber.change(["a", f"x{number}"])
        with pytest.raises(TooManyChanges, match="gained topics 16 times while it replays"):
            subscriber.change(["a", "b"])
        assert paged.hub.subscribers["b"] == 0
        subscriber.change("a")
        paged.publish("11", topics="a")
        member.read_on()
        paged.reactor.run_soon()
        assert member.texts == ["2", "4", "6", "8", "10", "11"]
        subscriber.change(["a", "b"])

    def test_many_changes_of_a_live_subscriber(self, world: World) -> None:
        """
        A subscriber that is live again after each change may gain topics any number of times.
        """
        member, subscriber = subscribe(world, "a")
        for number in range(2 * MAX_EARLIER):
            publish_now(world, "a", str(number))
            subscriber.change(["a", f"x{number}"])
            assert subscriber.is_replaying
            world.reactor.run_soon()
            assert (subscriber.is_replaying, subscriber.earlier) == (False, ())
        assert len(member.texts) == 2 * MAX_EARLIER

    def test_while_a_page_is_matched(self, paged: World) -> None:
        """
        If the topics change while a page is matched in steps, the page is sent by the new topics.
        """
        member, subscriber = self.resume_slowly(paged, "a", "b")
        turns = paged.hub._distribution.replay.turns  # type: ignore[union-attr]
        finish = turns.finish

        async def finish_late(steps: Any) -> Any:
            found = await finish(steps)
            if subscriber.topics.exact != ("b",):
                subscriber.change("b")
            return found

        turns.finish = finish_late  # type: ignore[method-assign]
        member.read_on()
        paged.reactor.run_soon()
        assert member.texts == ["1", "3", "5", "7", "9"]

    def test_before_the_journal_starts(self, plain: Wire) -> None:
        """
        If the journal has not started yet, a gained topic begins at the head that it then has.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        old = World(plain, journal=journal)
        (first,) = old.publish("0", topics="a")
        old.publish("1", topics="b")
        old.publish("2", topics="a")
        journal.held.add("start")
        world = World(plain, journal=journal)
        member = world.open(headers={"Last-Event-ID": first})
        subscriber = world.hub.subscribe(member.channel, "a")
        subscriber.change(["a", "b"])
        journal.release("start")
        world.publish("3", topics="b")
        assert member.texts == ["2", "3"]
        world.end()

    def test_while_the_journal_starts(self, plain: Wire) -> None:
        """
        If the journal is being started, a gained topic begins at the head that it has already.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        old = World(plain, journal=journal)
        (first,) = old.publish("0", topics="a")
        old.publish("1", topics="b")
        old.publish("2", topics="a")
        journal.held.add("at")
        world = World(plain, journal=journal)
        member = world.open(headers={"Last-Event-ID": first})
        subscriber = world.hub.subscribe(member.channel, "a")
        subscriber.change(["a", "b"])
        old.publish("3", topics="b")
        journal.release("at")
        world.publish("4", topics="b")
        assert member.texts == ["2", "3", "4"]
        world.end()


class HeldBackTests:
    @pytest.fixture(params=["close", "latest", "drop"])
    def slow(self, request: pytest.FixtureRequest, wire: Wire) -> Iterator[World]:
        """
        Return a hub whose overflow policy holds frames back, over each transport.
        """
        world = World(wire, upgrader={"slow_policy": request.param, "max_buffer": 1_000_000})
        yield world
        world.end()

    def test_no_longer_granted(self, slow: World) -> None:
        """
        A narrower grant withdraws frames that are held back and no longer granted, and those of topics that
        were given up; the others stay.
        """
        member, subscriber = subscribe(slow, "a", "b", "c", private=["a", "b"])
        member.stop_reading()
        while not member.channel.is_slow:
            member.channel.comment("x" * 70_000)
        for topic in "abc":
            slow.publish(f"{topic} private", topics=topic, private=topic != "c")
        slow.publish("b private, too", topics="b", private=True)
        slow.reactor.run_soon()
        before = member.channel.buffered
        subscriber.change(["a", "b"], private="a")
        assert member.channel.buffered < before
        slow.publish("b public", topics="b")
        member.read_on()
        slow.reactor.run_soon()
        assert member.texts == ["a private", "b public"]


class RefusedTests:
    def check_unchanged(self, world: World, member: Member, subscriber: Subscriber) -> None:
        assert world.hub.subscribers["b"] == 0
        world.publish("1", topics="a")
        world.publish("2", topics="b")
        assert member.texts == ["1"]

    def test_too_many_topics(self, new_world: Callable[..., World]) -> None:
        """
        A change to more topics than allowed is refused, and changes nothing.
        """
        world = new_world(max_topics=2)
        member, subscriber = subscribe(world, "a")
        with pytest.raises(TooManyTopics):
            subscriber.change(["b", "c", "d"])
        self.check_unchanged(world, member, subscriber)

    @pytest.mark.parametrize("change", [{"topics": 7}, {"topics": "b", "private": [7]}, {"topics": b"b"}])
    def test_wrong_types(self, world: World, change: dict[str, Any]) -> None:
        """
        A change with topics or grants of a wrong type is refused, and changes nothing.
        """
        member, subscriber = subscribe(world, "a")
        with pytest.raises(TypeError):
            subscriber.change(**change)
        self.check_unchanged(world, member, subscriber)

    @pytest.mark.parametrize("limit", [None, 100_000])
    @pytest.mark.parametrize("way", ["topics", "private"])
    def test_broken_selector(self, new_world: Callable[..., World], limit: int | None, way: str) -> None:
        """
        A change to a selector that fails is refused, and changes nothing.
        """
        world = new_world(max_pattern_weight=limit)
        member, subscriber = subscribe(world, "a", Heavy("x"))
        broken = Heavy("b")
        broken.weight = cast(Any, "heavy")
        change = {"topics": ["b", broken]} if way == "topics" else {"topics": "b", "private": broken}
        with pytest.raises(TypeError):
            subscriber.change(**cast(Any, change))
        assert world.hub._membership.private.weight == 0
        self.check_unchanged(world, member, subscriber)

    def test_too_many_patterns(self, new_world: Callable[..., World]) -> None:
        """
        The patterns that a subscriber gives up make room for those that it gains, and for no more.
        """
        world = new_world(max_pattern_weight=100)
        member, subscriber = subscribe(world, "a", Heavy("x"))
        subscriber.change(["a", Heavy("y")])
        with pytest.raises(TooManyPatterns):
            subscriber.change(["b", Heavy("y"), Heavy("z")])
        subscribe(world, Heavy("y"))
        with pytest.raises(TooManyPatterns):
            # The other subscriber still has the pattern that this one would give up.
            subscriber.change(["b", Heavy("z")])
        self.check_unchanged(world, member, subscriber)

    def test_patterns_of_grants(self, new_world: Callable[..., World]) -> None:
        """
        Patterns of grants make room, too, when they are given up.
        """
        world = new_world(max_pattern_weight=100)
        _, subscriber = subscribe(world, "a", private=Heavy("x"))
        subscriber.change("a", private=Heavy("y"))
        with pytest.raises(TooManyPatterns):
            subscriber.change("a", private=[Heavy("y"), Heavy("z")])

    def test_unsubscribed(self, world: World) -> None:
        """
        A subscriber that has unsubscribed, or whose channel is closed, cannot change its topics.
        """
        _, subscriber = subscribe(world, "a")
        subscriber.unsubscribe()
        with pytest.raises(ValueError, match="is not subscribed any more; subscribe an open channel"):
            subscriber.change("b")
        member, subscriber = subscribe(world, "a")
        member.leave()
        with pytest.raises(ValueError, match="is not subscribed any more"):
            subscriber.change("b")
        assert world.hub.subscribers["b"] == 0

    def test_hub_stopped(self, world: World) -> None:
        """
        While the hub drains, topics do not change.
        """
        member, subscriber = subscribe(world, "a")
        member.stop_reading()
        member.channel.comment("x" * 70_000)
        world.hub.stop()
        with pytest.raises(HubStopped):
            subscriber.change("b")

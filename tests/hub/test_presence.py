"""
Presence: notifications when a subscriber joins or leaves the hub, by callback and by topic.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent

from tests.hub.fakes import Prefix, World
from txsse.hub.subscriber import Subscriber
from txsse.server.channel import SSEChannel


class Recorder:
    """
    A presence callback that records its calls.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []

    def __call__(self, subscriber: Subscriber, present: bool) -> None:
        self.calls.append((subscriber.id, present))


class CallbackTests:
    def test_join_and_leave(self, new_world: Callable[..., World]) -> None:
        """
        The presence callback is called once when a client subscribes, and once when its stream ends.
        """
        recorder = Recorder()
        world = new_world(presence=recorder)
        ann, bob = world.join(), world.join("sport")
        assert recorder.calls == [("1", True), ("2", True)]
        bob.leave()
        ann.channel.close()
        ann.client.pump()
        assert recorder.calls == [("1", True), ("2", True), ("2", False), ("1", False)]

    def test_counts(self, new_world: Callable[..., World]) -> None:
        """
        When the presence callback is called, the hub's counts include a new subscriber and exclude one that
        has left.
        """
        seen: list[tuple[bool, int, int, int]] = []

        def changed(subscriber: Subscriber, present: bool) -> None:
            hub = world.hub
            seen.append((present, hub.subscribers.total, hub.subscribers["news"], len(list(hub.subscribers))))

        world = new_world(presence=changed)
        world.join()
        world.join().leave()
        assert seen == [(True, 1, 1, 1), (True, 2, 2, 2), (False, 1, 1, 1)]

    def test_unsubscribed(self, new_world: Callable[..., World]) -> None:
        """
        A subscriber that unsubscribes is reported as absent once, and not again when its channel closes.
        """
        recorder = Recorder()
        world = new_world(presence=recorder)
        channel = world.open().channel
        subscriber = world.hub.subscribe(channel, "news")
        subscriber.unsubscribe()
        channel.close()
        assert recorder.calls == [("1", True), ("1", False)]

    def test_callback_closes_another_channel(self, new_world: Callable[..., World]) -> None:
        """
        Presence events are in order and have the counts of their time, even if the presence callback closes
        other channels.
        """
        channels: list[SSEChannel] = []

        def only_the_newest(subscriber: Subscriber, present: bool) -> None:
            if present:
                for channel in channels:
                    channel.close()
                channels[:] = [subscriber.channel]

        world = new_world(presence=only_the_newest, presence_topic="presence")
        watching = world.join("presence")
        channels.clear()
        world.join()
        world.join()
        world.reactor.run_soon()
        seen = [json.loads(text) for text in watching.texts]
        assert [(each["present"], each["subscribers"]) for each in seen] == [
            (True, 1),
            (True, 2),
            (True, 3),
            (False, 2),
        ]

    def test_callback_fails(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        A presence callback that raises is logged, and the subscriber still gets its updates.
        """

        def failing(subscriber: Subscriber, present: bool) -> None:
            raise ZeroDivisionError

        world = new_world(presence=failing)
        member = world.join()
        world.publish("x")
        assert member.texts == ["x"]
        member.leave()
        assert world.hub.subscribers.total == 0
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError] * 2
        assert str(failures[0]["subscriber"]).startswith("<Subscriber 1 ")

    def test_callback_removes_subscriber(self, new_world: Callable[..., World]) -> None:
        """
        The presence callback may close or unsubscribe the new subscriber, which then gets no update.
        """

        def changed(subscriber: Subscriber, present: bool) -> None:
            if not present:
                return
            if "closed" in subscriber.topics.exact:
                subscriber.channel.close()
            else:
                subscriber.unsubscribe()

        world = new_world(presence=changed)
        members = [world.join("closed"), world.join("left")]
        opened = world.open()
        assert not world.hub.subscribe(opened.channel, "left").is_subscribed
        world.publish("x", topics=["closed", "left"])
        assert [member.texts for member in [*members, opened]] == [[], [], []]
        assert members[0].client.ended
        assert world.hub.subscribers.total == 0
        assert world.hub.metrics().replaying == 0

    def test_callback_publishes(self, new_world: Callable[..., World]) -> None:
        """
        Updates that the presence callback publishes reach the subscribers in order with all other updates.
        """

        def changed(subscriber: Subscriber, present: bool) -> None:
            world.hub.publish("news", f"{subscriber.id} {'joined' if present else 'left'}")

        world = new_world(presence=changed)
        ann = world.join()
        bob = world.join()
        world.publish("one")
        bob.leave()
        world.publish("two")
        assert ann.texts[-4:] == ["2 joined", "one", "2 left", "two"]
        assert ann.texts.count("2 joined") == 1


class TopicTests:
    def test_published(self, new_world: Callable[..., World]) -> None:
        """
        When a subscriber joins or leaves, the presence topic gets an event of the type ``presence`` with JSON
        data.
        """
        world = new_world(presence_topic="who")
        watching = world.join("who")
        before = len(watching.events)
        member = world.join(["news", Prefix("a/"), "*"])
        member.leave()
        joined, left = watching.events[before:]
        assert (joined.event, left.event) == ("presence", "presence")
        topics = ["news", "a/…", "*"]
        assert json.loads(joined.data) == {
            "subscriber": "2",
            "topics": topics,
            "present": True,
            "subscribers": 2,
        }
        assert json.loads(left.data) == {
            "subscriber": "2",
            "topics": topics,
            "present": False,
            "subscribers": 1,
        }

    def test_with_callback(self, new_world: Callable[..., World]) -> None:
        """
        A hub with both a presence callback and a presence topic notifies both.
        """
        recorder = Recorder()
        world = new_world(presence=recorder, presence_topic="who")
        listener = world.join("who")
        world.join()
        assert recorder.calls == [("1", True), ("2", True)]
        assert json.loads(listener.events[-1].data)["subscriber"] == "2"

    def test_not_while_stopping(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        A hub that stops publishes no presence events, and logs no failure.
        """
        world = new_world(presence_topic="who")
        members = [world.join("who") for _ in range(3)]
        published = world.hub.metrics().published
        world.hub.stop()
        assert all(member.client.ended for member in members if member.events is not None)
        assert world.hub.metrics().published == published
        assert failures == []

    def test_event_too_large(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        A presence event that exceeds ``max_update_size`` is logged, and the subscriber still gets its
        updates.
        """
        world = new_world(presence_topic="who", max_update_size=100)
        member = world.join("x" * 100)
        world.publish("y", topics="x" * 100)
        assert member.texts == ["y"]
        assert member.client.status == 200
        member.leave()
        assert world.hub.subscribers.total == 0
        assert len(failures) == 2

    def test_not_recorded(self, new_world: Callable[..., World]) -> None:
        """
        Presence events are ephemeral: no journal records them, and none is replayed.
        """
        world = new_world(bounds={"max_count": 2}, presence_topic="news")
        (first,) = world.publish("a")
        world.publish("b")
        for _ in range(5):
            world.join("other").leave()
        member = world.join(last_event_id=first)
        assert member.texts[0] == "b"
        assert world.hub.metrics().published == 2


class SubscriberTests:
    def test_each(self, world: World) -> None:
        """
        Iterating over ``hub.subscribers`` gives each subscriber's id, topics and client.
        """
        assert list(world.hub.subscribers) == []
        world.join(["news", Prefix("a/")])
        bob = world.join("*")
        ann, other = world.hub.subscribers
        assert (ann.id, [str(topic) for topic in ann.topics]) == ("1", ["news", "a/…"])
        assert ann.channel.request.client == IPv4Address("TCP", "127.0.0.1", 50000)
        assert (other.id, [str(topic) for topic in other.topics]) == ("2", ["*"])
        bob.leave()
        assert [subscriber.id for subscriber in world.hub.subscribers] == ["1"]

"""
Who listens, and who comes and goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent

from tests.hub.fakes import Prefix, World
from txsse.hub.subscriber import Subscriber
from txsse.server.channel import SSEChannel


class Watching:
    """
    Notes who comes and goes.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    def __call__(self, subscriber: Subscriber, present: bool) -> None:
        self.told.append((subscriber.id, present))


class CallbackTests:
    def test_come_and_go(self, new_world: Callable[..., World]) -> None:
        """
        It is told of each subscriber once when it comes, and once when it has gone.
        """
        watching = Watching()
        world = new_world(presence=watching)
        ann, bob = world.join(), world.join("sport")
        assert watching.told == [("1", True), ("2", True)]
        bob.leave()
        ann.channel.close()
        ann.client.pump()
        assert watching.told == [("1", True), ("2", True), ("2", False), ("1", False)]

    def test_how_many_there_are(self, new_world: Callable[..., World]) -> None:
        """
        When it is told, the hub's figures include who has come, and not who has gone.
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
        Whoever unsubscribes is gone, and its channel's end is no news.
        """
        watching = Watching()
        world = new_world(presence=watching)
        channel = world.open().channel
        subscriber = world.hub.subscribe(channel, "news")
        subscriber.unsubscribe()
        channel.close()
        assert watching.told == [("1", True), ("1", False)]

    def test_one_that_closes_another(self, new_world: Callable[..., World]) -> None:
        """
        What the topic is told is in order, with what is so then, though the callback has others go.
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
        told = [json.loads(text) for text in watching.texts]
        assert [(each["present"], each["subscribers"]) for each in told] == [
            (True, 1),
            (True, 2),
            (True, 3),
            (False, 2),
        ]

    def test_failing(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        Its failure is logged, and the subscriber gets its events all the same.
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

    def test_sends_away(self, new_world: Callable[..., World]) -> None:
        """
        It may unsubscribe or close whoever has come, who is sent nothing then.
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

    def test_publishes(self, new_world: Callable[..., World]) -> None:
        """
        What it publishes reaches those that are there, in order with everything else.
        """

        def changed(subscriber: Subscriber, present: bool) -> None:
            world.hub.publish("news", f"{subscriber.id} {'came' if present else 'went'}")

        world = new_world(presence=changed)
        ann = world.join()
        bob = world.join()
        world.publish("one")
        bob.leave()
        world.publish("two")
        assert ann.texts[-4:] == ["2 came", "one", "2 went", "two"]
        assert ann.texts.count("2 came") == 1


class TopicTests:
    def test_published(self, new_world: Callable[..., World]) -> None:
        """
        Coming and going are events of the type ``presence`` on the topic, as JSON.
        """
        world = new_world(presence_topic="who")
        watching = world.join("who")
        before = len(watching.events)
        member = world.join(["news", Prefix("a/"), "*"])
        member.leave()
        came, went = watching.events[before:]
        assert (came.event, went.event) == ("presence", "presence")
        topics = ["news", "a/…", "*"]
        assert json.loads(came.data) == {
            "subscriber": "2",
            "topics": topics,
            "present": True,
            "subscribers": 2,
        }
        assert json.loads(went.data) == {
            "subscriber": "2",
            "topics": topics,
            "present": False,
            "subscribers": 1,
        }

    def test_beside_a_callback(self, new_world: Callable[..., World]) -> None:
        """
        Both are told.
        """
        watching = Watching()
        world = new_world(presence=watching, presence_topic="who")
        listener = world.join("who")
        world.join()
        assert watching.told == [("1", True), ("2", True)]
        assert json.loads(listener.events[-1].data)["subscriber"] == "2"

    def test_not_while_stopping(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        That everybody goes when the hub stops is not published, and no failure.
        """
        world = new_world(presence_topic="who")
        members = [world.join("who") for _ in range(3)]
        published = world.hub.metrics().published
        world.hub.stop()
        assert all(member.client.ended for member in members if member.events is not None)
        assert world.hub.metrics().published == published
        assert failures == []

    def test_too_large_to_be_published(
        self, new_world: Callable[..., World], failures: list[LogEvent]
    ) -> None:
        """
        That is logged, and the subscriber does not depend on it.
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
        Comings and goings are for those who are there: no journal holds them, and none is replayed.
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
        Iterating over ``hub.subscribers`` shows each subscriber's id, topics and client.
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

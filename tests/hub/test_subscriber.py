"""
A subscriber: a channel with its topics, grants and position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.fakes import Prefix, World
from txsse import ServerSentEvent, SSEChannel, Update
from txsse.hub.subscriber import REPLAYING, Subscriber
from txsse.topics.topic_set import TopicSet


class Owner:
    """
    A hub's part that records the subscribers that have left.
    """

    def __init__(self) -> None:
        self.left: list[Subscriber] = []

    def subscriber_left(self, subscriber: Subscriber) -> None:
        self.left.append(subscriber)

    def change_topics(self, subscriber: Subscriber, topics: TopicSet, private: TopicSet) -> None:
        raise NotImplementedError


def subscriber_of(channel: SSEChannel, topics: Any = "news", private: Any = ()) -> tuple[Subscriber, Owner]:
    owner = Owner()
    made = Subscriber(channel, TopicSet(topics), TopicSet(private), number=255, owner=owner)
    channel.watcher = made
    return made, owner


def update(*topics: str, private: bool = False) -> Update:
    return Update(topics, ServerSentEvent("x", id="1"), private=private)


class SubscriberTests:
    def test_new(self, world: World) -> None:
        """
        A new subscriber is replaying until the hub sets its position.
        """
        subscriber, _ = subscriber_of(world.open().channel)
        assert subscriber.is_subscribed
        assert subscriber.is_replaying
        assert subscriber.since == REPLAYING
        subscriber.since = 7
        assert not subscriber.is_replaying

    def test_position_of_replaying(self) -> None:
        """
        The position that marks a replaying subscriber is above every position of a journal.
        """
        assert REPLAYING > 2**64

    def test_id_and_repr(self, world: World) -> None:
        """
        A subscriber's ``repr``, for the log, has its id, channel and topics.
        """
        subscriber, _ = subscriber_of(world.open().channel)
        assert subscriber.id == "ff"
        assert repr(subscriber).startswith("<Subscriber ff <SSEChannel b'/' of ")
        assert repr(subscriber).endswith(" TopicSet(['news'])>")

    @pytest.mark.parametrize(
        ("policy", "replays"),
        [(None, True), ("replay", True), ("close", False), ("latest", False), ("drop", False)],
    )
    def test_slow_reader(self, new_world: Callable[..., World], policy: str | None, replays: bool) -> None:
        """
        A hub's channel has the policy ``replay`` unless its upgrader has another one.
        """
        subscriber, _ = subscriber_of(new_world(upgrader={"slow_policy": policy}).open().channel)
        assert subscriber.replays_when_slow is replays

    def test_access(self, world: World) -> None:
        """
        A subscriber has access to updates of its topics and patterns, and to private ones only with a grant.
        """
        subscriber, _ = subscriber_of(world.open().channel, ["news", Prefix("a/")], [Prefix("a/")])
        assert subscriber.may_have(update("news"))
        assert subscriber.may_have(update("other", "a/1"))
        assert not subscriber.may_have(update("other"))
        assert not subscriber.may_have(update("news", private=True))
        assert subscriber.may_have(update("a/1", private=True))
        assert subscriber.may_have(update("news", "a/1", private=True))
        assert not subscriber.may_have(update("other", private=True))

    def test_grant_without_topic(self, world: World) -> None:
        """
        A grant gives no access to topics that the subscriber has not subscribed to.
        """
        subscriber, _ = subscriber_of(world.open().channel, "news", "*")
        assert not subscriber.may_have(update("other", private=True))
        assert subscriber.may_have(update("news", private=True))

    def test_unsubscribe(self, world: World) -> None:
        """
        ``unsubscribe`` notifies the hub once, and leaves the channel open and without a watcher.
        """
        channel = world.open().channel
        subscriber, owner = subscriber_of(channel)
        subscriber.since = 7
        subscriber.unsubscribe()
        assert owner.left == [subscriber]
        assert not subscriber.is_subscribed
        assert subscriber.is_replaying
        assert channel.watcher is None
        assert channel.is_open
        subscriber.unsubscribe()
        assert owner.left == [subscriber]

    def test_other_watcher(self, world: World) -> None:
        """
        ``unsubscribe`` does not remove another watcher of the channel.
        """
        channel = world.open().channel
        subscriber, owner = subscriber_of(channel)
        other, _ = subscriber_of(channel)
        subscriber.unsubscribe()
        assert owner.left == [subscriber]
        assert channel.watcher is other

    def test_channel_closes(self, world: World) -> None:
        """
        When its channel closes, the subscriber is unsubscribed, and the hub is notified once.
        """
        member = world.open()
        subscriber, owner = subscriber_of(member.channel)
        member.leave()
        assert owner.left == [subscriber]
        assert not subscriber.is_subscribed
        subscriber.unsubscribe()
        assert owner.left == [subscriber]

"""
One channel and what it wants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.fakes import Prefix, World
from txsse import ServerSentEvent, SSEChannel, Update
from txsse.hub.subscriber import REPLAYING, Subscriber
from txsse.hub.topics import TopicSet


class Owner:
    """
    Notes who left.
    """

    def __init__(self) -> None:
        self.left: list[Subscriber] = []

    def subscriber_left(self, subscriber: Subscriber) -> None:
        self.left.append(subscriber)


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
        It is subscribed, and behind until somebody says where it begins.
        """
        subscriber, _ = subscriber_of(world.open().channel)
        assert subscriber.is_subscribed
        assert subscriber.is_replaying
        assert subscriber.since == REPLAYING
        subscriber.since = 7
        assert not subscriber.is_replaying

    def test_behind(self) -> None:
        """
        No journal's position reaches it.
        """
        assert REPLAYING > 2**64

    def test_id_and_repr(self, world: World) -> None:
        """
        They tell it from others, and what it is, for the log.
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
        A hub's channels replay unless they were told otherwise.
        """
        subscriber, _ = subscriber_of(new_world(upgrader={"slow_policy": policy}).open().channel)
        assert subscriber.replays_when_slow is replays

    def test_what_it_may_have(self, world: World) -> None:
        """
        What it wants, by name or by pattern; where that is private, what it was granted too.
        """
        subscriber, _ = subscriber_of(world.open().channel, ["news", Prefix("a/")], [Prefix("a/")])
        assert subscriber.may_have(update("news"))
        assert subscriber.may_have(update("other", "a/1"))
        assert not subscriber.may_have(update("other"))
        assert not subscriber.may_have(update("news", private=True))
        assert subscriber.may_have(update("a/1", private=True))
        assert subscriber.may_have(update("news", "a/1", private=True))
        assert not subscriber.may_have(update("other", private=True))

    def test_granted_but_not_wanted(self, world: World) -> None:
        """
        A grant alone brings nothing.
        """
        subscriber, _ = subscriber_of(world.open().channel, "news", "*")
        assert not subscriber.may_have(update("other", private=True))
        assert subscriber.may_have(update("news", private=True))

    def test_unsubscribe(self, world: World) -> None:
        """
        The owner is told once, and the channel stays open with nobody to watch it.
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

    def test_somebody_else_watches(self, world: World) -> None:
        """
        Unsubscribing leaves another watcher alone.
        """
        channel = world.open().channel
        subscriber, owner = subscriber_of(channel)
        other, _ = subscriber_of(channel)
        subscriber.unsubscribe()
        assert owner.left == [subscriber]
        assert channel.watcher is other

    def test_channel_ends(self, world: World) -> None:
        """
        The owner is told then too, once.
        """
        member = world.open()
        subscriber, owner = subscriber_of(member.channel)
        member.leave()
        assert owner.left == [subscriber]
        assert not subscriber.is_subscribed
        subscriber.unsubscribe()
        assert owner.left == [subscriber]

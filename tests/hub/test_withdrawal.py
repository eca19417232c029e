"""
Withdrawal: a channel that unsubscribes is sent none of the private updates that it still buffers.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes import Wire
from tests.hub.fakes import Member, World, turn
from txsse.hub.subscriber import Subscriber

POLICIES = ["replay", "close", "latest", "drop"]


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    policy: str = request.param
    return policy


@pytest.fixture
def slow(wire: Wire, policy: str) -> Iterator[World]:
    """
    Return a hub on each kind of connection, with each overflow policy.
    """
    world = World(wire, upgrader={"slow_policy": policy, "max_buffer": 1_000_000})
    yield world
    world.end()


def become_slow(world: World, *, private: object = "*") -> tuple[Member, Subscriber]:
    """
    Subscribe a client that does not read, and fill its transport's buffer.
    """
    member = world.open()
    subscriber = world.hub.subscribe(member.channel, ["a", "b"], private=private)  # type: ignore[arg-type]
    member.client.pump()
    member.stop_reading()
    while not member.channel.is_slow:
        member.channel.comment("x" * 70_000)
    return member, subscriber


def read_on(member: Member) -> list[str]:
    """
    Read everything, and return the data of the client's events.
    """
    member.read_on()
    return member.texts


def publish(world: World) -> None:
    for text, topic, private in (
        ("1", "a", False),
        ("secret 2", "b", True),
        ("3", "a", False),
        ("4", "b", False),
    ):
        world.publish(text, topics=topic, private=private)
        world.reactor.run_soon()


class HeldTests:
    def test_unsubscribed(self, slow: World, policy: str) -> None:
        """
        A channel that unsubscribes is sent no buffered private update.
        """
        member, subscriber = become_slow(slow)
        publish(slow)
        subscriber.unsubscribe()
        # The newest of each topic is public.
        left = {"replay": [], "latest": ["3", "4"]}.get(policy, ["1"])
        assert read_on(member) == left
        assert slow.hub.upgrader._budget.held == 0

    def test_grant_revoked(self, slow: World, policy: str) -> None:
        """
        A slow channel that is subscribed again without its grant gets all public updates once, in order, and
        no private one.
        """
        member, subscriber = become_slow(slow)
        publish(slow)
        subscriber.unsubscribe()
        slow.hub.subscribe(member.channel, ["a", "b"])
        slow.publish("5", topics="b")
        wanted = ["3", "5"] if policy == "latest" else ["1", "3", "4", "5"]
        assert read_on(member) == wanted

    def test_grant_kept(self, slow: World, policy: str) -> None:
        """
        A slow channel that is subscribed again with its grant gets all updates once, in order.
        """
        member, subscriber = become_slow(slow)
        publish(slow)
        subscriber.unsubscribe()
        slow.hub.subscribe(member.channel, ["a", "b", "c"], private="b")
        slow.publish("5", topics="c")
        wanted = ["3", "4", "5"] if policy == "latest" else ["1", "secret 2", "3", "4", "5"]
        assert read_on(member) == wanted

    def test_unsubscribed_while_closing(self, slow: World, policy: str) -> None:
        """
        A closing channel that unsubscribes sends its buffered public updates, and no private one.
        """
        member, subscriber = become_slow(slow)
        publish(slow)
        member.channel.close()
        subscriber.unsubscribe()
        # The newest of each topic is public.
        left = {"replay": [], "latest": ["3", "4"]}.get(policy, ["1"])
        assert read_on(member) == left

    def test_own_frames_stay(self, slow: World) -> None:
        """
        Events that the program sent on the channel stay buffered when the channel unsubscribes.
        """
        member, subscriber = become_slow(slow)
        slow.publish("secret", topics="a", private=True)
        slow.reactor.run_soon()
        member.channel.send("own")
        subscriber.unsubscribe()
        assert read_on(member) == ["own"]

    def test_ephemeral_events(self, slow: World, policy: str) -> None:
        """
        When a channel unsubscribes, buffered private ephemeral events are withdrawn, and public ones are
        sent.
        """
        member, subscriber = become_slow(slow)
        slow.hub.publish_ephemeral("a", "public")
        slow.hub.publish_ephemeral("b", "secret", private=True)
        slow.reactor.run_soon()
        subscriber.unsubscribe()
        assert read_on(member) == ([] if policy == "replay" else ["public"])


class ResubscribeTests:
    """
    A channel that changes its topics.
    """

    def test_before_the_fan_out(self, any_world: World) -> None:
        """
        A channel that changes its topics before the fan-out of a turn gets all updates of that turn.
        """
        member = any_world.open()
        subscriber = any_world.hub.subscribe(member.channel, "a")
        any_world.publish("1", topics="a")
        subscriber.unsubscribe()
        any_world.publish("2", topics="a")
        any_world.hub.subscribe(member.channel, ["a", "b"])
        any_world.publish("3", topics="b")
        any_world.reactor.run_soon()
        assert member.texts == ["1", "2", "3"]

    @pytest.mark.slow
    @pytest.mark.parametrize("which", [0, 199])
    def test_during_a_fan_out(self, world: World, which: int) -> None:
        """
        A channel that changes its topics during a fan-out gets each update once, whether it was already sent
        the batch or not.
        """
        members = [world.open() for _ in range(200)]
        for member in members:
            # The fan-out takes more than one turn.
            member.socket.cost = 0.0001
        subscribers = [world.hub.subscribe(member.channel, "a") for member in members]
        world.publish("1", "2", topics="a")
        turn(world.reactor)
        assert len(members[0].socket.sends) == len(members[199].socket.sends) + 1
        subscribers[which].unsubscribe()
        world.hub.subscribe(members[which].channel, ["a", "b"])
        world.publish("3", topics="b")
        world.reactor.run_soon()
        assert members[which].texts == ["1", "2", "3"]
        assert members[100].texts == ["1", "2"]

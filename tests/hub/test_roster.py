"""
The roster, with a fake registry: what it registers, and what it does when nodes end.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from txsse.hub.roster import Roster
from txsse.hub.subscriber import Subscriber
from txsse.journal.keys import Anonymous
from txsse.journal.registry import IRegistryListener, Name
from txsse.topics.pattern import TopicPattern
from txsse.topics.topic_set import TopicSet


class FakeRegistry:
    """
    A registry that records what is put, and returns fixed counts.
    """

    def __init__(self) -> None:
        self.puts: list[dict[Name, int | None]] = []
        self.elsewhere: dict[Hashable, int] = {}
        self.asked: list[str] = []
        self.has_stopped = False

    def listen(self, listener: IRegistryListener) -> None:
        self.listener = listener

    def put(self, counts: Mapping[Name, int | None]) -> None:
        self.puts.append(dict(counts))

    def counts(self, group: str) -> Deferred[dict[Hashable, int]]:
        self.asked.append(group)
        return succeed(self.elsewhere)

    def stop(self) -> None:
        self.has_stopped = True


class Followers:
    """
    Records the notifications of keys and topics.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def notify(self, topic: str, key: Hashable, present: bool) -> None:
        self.calls.append((topic, key, present))

    def open(self, topic: str) -> None:
        self.calls.append(("open", topic))

    def close(self, topic: str) -> None:
        self.calls.append(("close", topic))

    def stop(self) -> None:
        self.calls.append(("stop",))


class World:
    """
    A roster of a hub with other nodes.
    """

    def __init__(self, *, follows: bool) -> None:
        self.clock = Clock()
        self.registry = FakeRegistry()
        self.followers = Followers()
        self.roster = Roster(
            self.registry,
            lambda: self.clock,
            presence=self.followers if follows else None,
            presence_grace=2.0,
            demand=self.followers if follows else None,
            topic_grace=1.0,
            new_name=lambda: "this node",
        )

    def take(self) -> list[dict[Name, int | None]]:
        """
        Return what was put since the last call of this, after a turn of the reactor.
        """
        self.clock.advance(0)
        puts, self.registry.puts = self.registry.puts, []
        return puts


def subscriber(number: int, key: Hashable = None, topics: Any = "news") -> Subscriber:
    return cast(Subscriber, SimpleNamespace(id=str(number), key=key, topics=TopicSet(topics)))


class CountTests:
    def test_counts_of_a_turn(self) -> None:
        """
        The counts that have changed within a turn are put together, streams without a key as one name.
        """
        world = World(follows=False)
        members = [subscriber(1, "ann"), subscriber(2, "ann"), subscriber(3), subscriber(4)]
        for member in members:
            world.roster.joined(member)
        assert world.take() == [{("streams/news", "ann"): 2, ("streams/news", None): 2}]
        world.roster.left(members[0])
        world.roster.left(members[2])
        world.roster.left(members[3])
        assert world.take() == [{("streams/news", "ann"): 1, ("streams/news", None): None}]
        assert world.roster.keys_here("news") == {"ann": 1}
        world.roster.joined(subscriber(5, topics=[]))
        assert world.take() == []

    def test_followed(self) -> None:
        """
        If the hub follows keys and topics, each stream without a key has a name of its own, and topics are
        counted; both have their grace periods.
        """
        world = World(follows=True)
        members = [subscriber(1, "ann"), subscriber(2), subscriber(3)]
        for member in members:
            world.roster.joined(member)
        named = [("streams/news", Anonymous("this node", str(number))) for number in (2, 3)]
        [put] = world.take()
        assert put == {("topics", "news"): 3, ("streams/news", "ann"): 1} | dict.fromkeys(named, 1)
        assert world.roster.keys_here("news") == {"ann": 1, None: 2}
        for member in members:
            world.roster.left(member)
        [put] = world.take()
        assert put == {("topics", "news"): 0, ("streams/news", "ann"): 0} | dict.fromkeys(named)
        world.clock.advance(1)
        assert world.take() == [{("topics", "news"): None}]
        world.clock.advance(1)
        assert world.take() == [{("streams/news", "ann"): None}]
        assert world.roster._counts == {}

    def test_keys_elsewhere(self) -> None:
        """
        The keys of other nodes are returned with their counts, and all streams without a key together.
        """
        world = World(follows=True)
        world.registry.elsewhere = {"ann": 2, None: 3, Anonymous("other", "1"): 1, Anonymous("other", "2"): 1}
        found: list[dict[Hashable, int]] = []
        world.roster.keys_elsewhere("news").addCallback(found.append)
        assert found == [{"ann": 2, None: 5}]
        assert world.registry.asked == ["streams/news"]

    @pytest.mark.parametrize("is_idle", [False, True])
    def test_stopped(self, is_idle: bool) -> None:
        """
        A roster that has stopped counts nothing, and takes no names over.
        """
        world = World(follows=True)
        world.roster.joined(subscriber(1, "ann"))
        if is_idle:
            world.take()
        world.roster.stop()
        world.roster.joined(subscriber(2, "bob"))
        world.registry.listener.taken_over(("streams/news", "eve"))
        assert world.take() == []
        assert (world.registry.has_stopped, world.followers.calls) == (True, [("stop",)])
        assert world.clock.getDelayedCalls() == []


class LastMomentTests:
    def test_back(self) -> None:
        """
        A client that reconnects in the turn in which its key's grace period ends is present.
        """
        world = World(follows=False)
        first, again = subscriber(1, "ann"), subscriber(2, "ann")
        world.roster.joined(first)
        world.take()
        world.clock.callLater(2.0, world.roster.joined, again)
        world.roster.left(first)
        world.take()
        world.clock.advance(2.0)
        assert world.take() == [{("streams/news", "ann"): 1}]
        assert world.roster.keys_here("news") == {"ann": 1}

    @pytest.mark.parametrize("again_after", [False, True])
    def test_back_and_gone(self, again_after: bool) -> None:
        """
        A client that comes back and leaves in the turn in which its key's grace period ends is absent, also
        if it does so again after that end.
        """
        world = World(follows=False)
        first, again = subscriber(1, "ann"), subscriber(2, "ann")
        world.roster.joined(first)
        world.take()
        world.clock.callLater(2.0, world.roster.joined, again)
        world.clock.callLater(2.0, world.roster.left, again)
        world.roster.left(first)
        world.take()
        if again_after:
            world.clock.callLater(2.0, world.roster.joined, again)
            world.clock.callLater(2.0, world.roster.left, again)
        world.clock.advance(2.0)
        assert world.take() == [{("streams/news", "ann"): None}]
        assert world.roster.keys_here("news") == {}
        world.clock.advance(2.0)
        assert world.take() == []

    def test_second_grace_period(self) -> None:
        """
        A client that reconnects, and disconnects again, has a whole grace period again; others do not wait.
        """
        world = World(follows=False)
        ann, bob = subscriber(1, "ann"), subscriber(2, "bob")
        world.roster.joined(ann)
        world.roster.joined(bob)
        world.take()
        world.roster.left(ann)
        world.take()
        world.clock.advance(1.0)
        world.roster.joined(ann)
        world.roster.left(bob)
        world.take()
        world.clock.advance(0.5)
        world.roster.left(ann)
        world.take()
        world.clock.advance(1.5)
        assert world.take() == [{("streams/news", "bob"): None}]
        world.clock.advance(0.5)
        assert world.take() == [{("streams/news", "ann"): None}]

    def test_several_topics_change(self) -> None:
        """
        A subscriber that changes its topics is counted for those that it gains and loses.
        """
        world = World(follows=False)
        member = subscriber(1, "ann", ["a", "b"])
        world.roster.joined(member)
        world.take()
        before, member.topics = member.topics, TopicSet(["b", "c"])
        world.roster.changed(member, before)
        assert world.take() == [{("streams/a", "ann"): 0, ("streams/c", "ann"): 1}]

    def test_topic_and_pattern_of_one_name(self) -> None:
        """
        A subscriber that has a topic and a pattern of the same name counts until it has neither.
        """
        world = World(follows=False)
        member = subscriber(1, "ann", ["a/*", TopicPattern("a/*")])
        world.roster.joined(member)
        assert world.take() == [{("streams/a/*", "ann"): 1}]
        rests: list[Any] = [[TopicPattern("a/*")], ["a/*"], ["a/*", TopicPattern("a/*")]]
        for rest in rests:
            before, member.topics = member.topics, TopicSet(rest)
            world.roster.changed(member, before)
            assert world.roster.keys_here("a/*") == {"ann": 1}
        world.roster.left(member)
        assert world.take() == [{("streams/a/*", "ann"): 0}]


class ResponsibleTests:
    def test_notified(self) -> None:
        """
        A key is reported if it is new or over. A topic is opened and closed with the responsibility for it.
        """
        world = World(follows=True)
        for is_first in (True, False):
            for name in (("streams/a/b", "ann"), ("streams/x", Anonymous("other", "1")), ("topics", "a")):
                world.registry.listener.became_responsible(name, is_new=is_first)
                world.registry.listener.no_longer_responsible(name, is_over=is_first)
        assert world.followers.calls == [
            ("a/b", "ann", True),
            ("a/b", "ann", False),
            ("x", None, True),
            ("x", None, False),
            ("open", "a"),
            ("close", "a"),
            ("open", "a"),
            ("close", "a"),
        ]

    def test_callbacks_at_other_nodes_only(self) -> None:
        """
        A hub that does not follow keys and topics, unlike other nodes, ignores that it is responsible.
        """
        world = World(follows=False)
        for name in (("streams/a", "ann"), ("topics", "a")):
            world.registry.listener.became_responsible(name, is_new=True)
            world.registry.listener.no_longer_responsible(name, is_over=True)
        assert world.followers.calls == []


class TakenOverTests:
    @pytest.mark.parametrize(
        ("name", "grace"),
        [
            (("streams/news", "ann"), 2.0),
            (("topics", "news"), 1.0),
            (("streams/x", Anonymous("o", "1")), 2.0),
        ],
    )
    def test_clients_do_not_return(self, name: Name, grace: float) -> None:
        """
        A name of a node that has ended is released after its grace period.
        """
        world = World(follows=True)
        world.registry.listener.taken_over(name)
        world.clock.advance(grace - 0.1)
        assert world.take() == []
        world.clock.advance(0.1)
        assert world.take() == [{name: None}]
        assert world.roster._counts == {}

    def test_client_reconnects(self) -> None:
        """
        A name of a node that has ended stays if its client connects to this node.
        """
        world = World(follows=False)
        name = ("streams/news", "ann")
        world.registry.listener.taken_over(name)
        assert world.roster.keys_here("news") == {"ann": 0}
        world.roster.joined(subscriber(1, "ann"))
        assert world.take()[0][name] == 1
        world.clock.advance(5)
        assert world.take() == []

    @pytest.mark.parametrize("is_first", [False, True])
    def test_client_connects_and_disconnects(self, is_first: bool) -> None:
        """
        A name of a node that has ended is released if its client connects here, and disconnects, in
        one turn.
        """
        world = World(follows=False)
        name, member = ("streams/news", "ann"), subscriber(1, "ann")
        if is_first:
            world.registry.listener.taken_over(name)
        world.roster.joined(member)
        if not is_first:
            world.registry.listener.taken_over(name)
        world.roster.left(member)
        world.take()
        world.clock.advance(2)
        assert world.take() == [{name: None}]
        assert world.roster._counts == {}

    def test_client_is_here_already(self) -> None:
        """
        A name that has streams at this node, too, stays without a grace period.
        """
        world = World(follows=False)
        world.roster.joined(subscriber(1, "ann"))
        world.take()
        world.registry.listener.taken_over(("streams/news", "ann"))
        world.clock.advance(5)
        assert world.take() == []

"""
Cutting streams off by their key: disconnect and revoke, on one node and on several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import LogEvent
from twisted.web.http import Request
from zope.interface import implementer

from tests.fakes import Wire
from tests.hub.fakes import Member, Prefix, ScriptedJournal, World, outcome_of, result_of
from txsse import Access, CloseReason, HubStopped, NotAcknowledged, TopicPattern, UpgradeRefused
from txsse.hub import cut_off as cut_off_module
from txsse.journal.cluster import ICluster, IClusterListener, NoCluster


def join(world: World, key: Any, *topics: Any, private: Any = ()) -> Member:
    return world.join(Access(topics or ("news",), private, key=key))


def is_cut_off(member: Member) -> bool:
    member.client.pump()
    return member.channel.close_reason is CloseReason.DISCONNECTED and not member.channel.is_open


class DisconnectTests:
    def test_streams_of_the_key(self, any_world: World) -> None:
        """
        All streams of the key close, each client gets the end of its stream, and other streams stay open.
        """
        anns = [join(any_world, "ann"), join(any_world, "ann", "sport")]
        bob, keyless = join(any_world, "bob"), any_world.join()
        assert result_of(any_world.hub.disconnect(key="ann")) == 2
        any_world.reactor.run_soon()
        assert [is_cut_off(each) for each in (*anns, bob, keyless)] == [True, True, False, False]
        assert all(ann.client.ended for ann in anns)
        any_world.publish("a")
        assert [ann.texts for ann in anns] == [[], []]
        assert bob.texts == keyless.texts == ["a"]
        assert any_world.hub.metrics().closes[CloseReason.DISCONNECTED] == 2
        assert result_of(any_world.hub.disconnect(key="ann")) == 0

    @pytest.mark.parametrize("key", [7, ("ann", 7), frozenset([1]), 1.5])
    def test_any_key(self, world: World, key: Any) -> None:
        """
        The key of a hub without other nodes may be any hashable value.
        """
        member = join(world, key)
        assert result_of(world.hub.disconnect(key=key)) == 1
        assert is_cut_off(member)

    def test_key_of_a_subscription(self, world: World) -> None:
        """
        A channel that a program subscribes has the key that the program gives it.
        """
        member = world.open()
        subscriber = world.hub.subscribe(member.channel, "news", key="ann")
        assert subscriber.key == member.channel.key == "ann"
        assert world.hub.subscribers.with_key("ann") == [subscriber]
        assert result_of(world.hub.disconnect(key="ann")) == 1
        assert is_cut_off(member)
        assert world.hub.subscribers.with_key("ann") == []

    @pytest.mark.parametrize("key", ["ann", ("session", "7"), ("token", "1")])
    def test_several_keys(self, world: World, key: Any) -> None:
        """
        A stream whose access has several keys is disconnected by each of them, also while its client is slow.
        """

        class Session(Access):
            keys = ("ann", ("session", "7"), ("token", "1"), "ann")

        member = world.join(Session("news", key="ann"))
        assert member.channel.key == "ann"
        assert len(world.hub.subscribers.with_key(key)) == 1
        assert result_of(world.hub.disconnect(key=key)) == 1
        assert is_cut_off(member)
        assert world.hub.subscribers.with_key("ann") == []

    def test_access_without_a_first_key(self, world: World) -> None:
        """
        A stream whose access has no key of its own is disconnected by the other keys that it has.
        """

        class Token(Access):
            keys = (None, ("token", "1"))

        member = world.join(Token("news"))
        assert member.channel.key is None
        assert result_of(world.hub.disconnect(key=("token", "1"))) == 1
        assert is_cut_off(member)

    def test_published_before(self, any_world: World) -> None:
        """
        An update that was published in the same turn before is not sent any more.
        """
        member = join(any_world, "ann")
        any_world.hub.publish("news", "a")
        any_world.hub.disconnect(key="ann")
        any_world.reactor.run_soon()
        assert member.texts == []

    @pytest.mark.parametrize("policy", ["close", "latest", "drop", "replay"])
    def test_slow_reader(self, wire: Wire, policy: str) -> None:
        """
        Nothing that a channel holds back for a slow reader is sent after its key was disconnected.
        """
        world = World(wire, upgrader={"slow_policy": policy, "max_buffer": 1_000_000})
        member = join(world, "ann")
        member.stop_reading()
        while not member.channel.is_slow:
            member.channel.comment("x" * 70_000)
        world.publish("secret")
        world.reactor.run_soon()
        assert result_of(world.hub.disconnect(key="ann")) == 1
        member.read_on()
        world.reactor.run_soon()
        assert is_cut_off(member)
        assert member.texts == []
        assert world.hub.metrics().buffered == 0
        world.end()

    def test_twice(self, any_world: World) -> None:
        """
        A stream counts once, also if its connection has not ended when its key is disconnected again.
        """
        member = join(any_world, "ann")
        member.stop_reading()
        while not member.channel.is_slow:
            member.channel.comment("x" * 70_000)
        assert result_of(any_world.hub.disconnect(key="ann")) == 1
        assert result_of(any_world.hub.disconnect(key="ann")) == 0
        assert result_of(any_world.hub.revoke("ann", "news")) == 0

    def test_closing(self, any_world: World) -> None:
        """
        A stream that is closing counts, and loses the frames that it holds back.
        """
        member = join(any_world, "ann")
        member.stop_reading()
        while not member.channel.buffered:
            member.channel.comment("x" * 70_000)
        member.channel.close()
        assert result_of(any_world.hub.disconnect(key="ann")) == 1
        assert member.channel.buffered == 0

    @pytest.mark.parametrize(
        ("topics", "count"), [(None, 2), ("news", 1), (["x", "news"], 1), ("sport", 0), (Prefix("n"), 1)]
    )
    def test_access_has_ended(self, wire: Wire, topics: Any, count: int) -> None:
        """
        A stream whose access has ended is aborted if it still holds back an update that its key may no longer
        receive.
        """
        world = World(wire, upgrader={"slow_policy": "close", "max_buffer": 1_000_000})
        member = world.join(Access(["news", "sport"], key="ann", expires=10))
        member.stop_reading()
        while not member.channel.buffered:
            member.channel.comment("x" * 70_000)
        other = world.join(Access("sport", key="ann", expires=10))
        other.stop_reading()
        while not other.channel.buffered:
            other.channel.comment("x" * 70_000)
        world.publish("late")
        world.reactor.run_soon()
        world.reactor.advance(10)
        assert member.channel.close_reason is CloseReason.EXPIRED
        hub = world.hub
        assert result_of(hub.revoke("ann", topics) if topics else hub.disconnect(key="ann")) == count
        if count:
            assert result_of(hub.disconnect(key="ann")) == (1 if topics else 0)
            assert result_of(hub.disconnect(key="ann")) == 0
        member.read_on()
        other.read_on()
        world.reactor.run_soon()
        assert member.texts == ["late"] * (not count)
        assert not hub._membership._flushing
        world.end()

    def test_many(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Many streams are closed in slices, between which the reactor has its turn; a client that disconnects
        meanwhile does not count.
        """
        monkeypatch.setattr(cut_off_module, "_SLICE", 2)
        members = [join(world, "ann") for _ in range(5)]
        outcome = outcome_of(world.hub.disconnect(key="ann"))
        assert [member.channel.is_open for member in members] == [False, False, True, True, True]
        members[4].leave()
        world.reactor.run_soon()
        assert outcome == [4]

    def test_stream_that_cannot_be_closed(
        self, world: World, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
    ) -> None:
        """
        If closing one stream fails, the other streams are closed, and the Deferred fails.
        """
        broken, other = join(world, "ann"), join(world, "ann")
        close = type(broken.channel).close

        def failing(channel: Any, **options: Any) -> None:
            if channel is broken.channel:
                raise ZeroDivisionError
            close(channel, **options)

        with monkeypatch.context() as patch:
            patch.setattr(type(broken.channel), "close", failing)
            (error,) = outcome_of(world.hub.disconnect(key="ann"))
        assert isinstance(error, ZeroDivisionError)
        assert is_cut_off(other)
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]
        broken.leave()

    def test_neither_repr_nor_log_discloses_the_key(self, world: World) -> None:
        """
        The reprs of a channel and a subscriber, which logs show, do not contain the key or the context.
        """
        member = world.join(Access("news", key="s3cret", context="c0ntext"))
        (subscriber,) = world.hub.subscribers.with_key("s3cret")
        shown = repr(member.channel) + repr(subscriber)
        assert "s3cret" not in shown
        assert "c0ntext" not in shown

    @pytest.mark.parametrize(("key", "error"), [([], TypeError), ({}, TypeError), (None, ValueError)])
    def test_wrong_key(self, world: World, key: Any, error: type[Exception]) -> None:
        """
        A key that no stream can have is refused at once.
        """
        with pytest.raises(error, match=r"hashable|None is the key of no stream"):
            world.hub.disconnect(key=key)

    def test_wrong_key_of_a_subscription(self, world: World) -> None:
        """
        A subscription with a key that is not hashable is refused, and the channel can be subscribed later.
        """
        member = world.open()
        with pytest.raises(TypeError, match="key must be hashable"):
            world.hub.subscribe(member.channel, "news", key=[])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="key must be hashable"):
            world.hub.subscribers.with_key([])  # type: ignore[arg-type]
        world.hub.subscribe(member.channel, "news")

    def test_hub_stopped(self, world: World) -> None:
        """
        A hub that has been stopped disconnects no key: it closes all streams.
        """
        result_of(world.hub.stop())
        (error,) = outcome_of(world.hub.disconnect(key="ann"))
        assert isinstance(error, HubStopped)


class UnderWayTests:
    def test_rule_decided_before(self, any_world: World) -> None:
        """
        A request whose rule has not answered when its key is disconnected gets a stream that ends at once; a
        later request gets a stream.
        """
        decision: Deferred[Access] = Deferred()
        member = any_world.join(lambda request: decision)
        assert result_of(any_world.hub.disconnect(key="ann")) == 0
        later = join(any_world, "ann")
        decision.callback(Access("news", key="ann"))
        member.client.pump()
        assert (member.client.status, member.client.ended) == (200, True)
        assert b"retry:" in member.client.body
        assert any_world.hub.subscribers.total == 1
        assert later.channel.is_open

    def test_other_key(self, world: World) -> None:
        """
        A request of another key, or of none, is not affected.
        """
        decisions: list[Deferred[Access]] = [Deferred(), Deferred()]
        members = [world.join(lambda request, each=each: each) for each in decisions]
        world.hub.disconnect(key="ann")
        decisions[0].callback(Access("news", key="bob"))
        decisions[1].callback(Access("news"))
        for member in members:
            member.client.pump()
        assert [member.client.ended for member in members] == [False, False]
        assert world.hub.subscribers.total == 2

    def test_while_the_journal_is_asked(self, plain: Wire) -> None:
        """
        A request that waits for the journal when its key is disconnected gets a stream that ends at once.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = World(plain, journal=journal)
        (first,) = world.publish("a")
        journal.held.add("find")
        member = world.join(Access("news", key="ann"), last_event_id=first)
        world.hub.disconnect(key="ann")
        journal.release("find")
        member.client.pump()
        assert (member.client.status, member.client.ended) == (200, True)
        assert world.hub.subscribers.total == 0
        world.end()

    def test_revoked(self, world: World) -> None:
        """
        A stream whose topics were revoked while its rule decided opens without them, or closes.
        """
        decisions: list[Deferred[Access]] = [Deferred(), Deferred()]
        members = [world.join(lambda request, each=each: each) for each in decisions]
        assert result_of(world.hub.revoke("ann", "secret")) == 0
        decisions[0].callback(Access(["news", "secret"], "*", key="ann"))
        decisions[1].callback(Access("secret", key="ann"))
        world.reactor.run_soon()
        world.publish("a", topics="secret")
        world.publish("b")
        assert members[0].texts == ["b"]
        members[1].client.pump()
        assert members[1].client.ended

    def test_nothing_is_kept(self, world: World) -> None:
        """
        Orders are forgotten when no admission is under way, also if a rule fails or the client disconnects.
        """
        decisions: list[Deferred[Access]] = [Deferred(), Deferred()]
        members = [world.join(lambda request, each=each: each) for each in decisions]
        world.hub.disconnect(key="ann")
        under_way = world.hub.admission.under_way
        assert under_way._orders
        decisions[0].errback(UpgradeRefused("no", status=403))
        members[1].leave()
        assert not under_way._orders
        assert not under_way._admissions


class RevokeTests:
    def test_some_topics(self, any_world: World) -> None:
        """
        The streams of the key lose the topics and stay open; streams without these topics do not count.
        """
        both, other = join(any_world, "ann", "news", "secret"), join(any_world, "ann", "news")
        bob = join(any_world, "bob", "secret")
        assert result_of(any_world.hub.revoke("ann", "secret")) == 1
        any_world.publish("1", topics="secret")
        any_world.publish("2", topics="news")
        assert [member.texts for member in (both, other, bob)] == [["2"], ["2"], ["1"]]

    def test_last_topic(self, world: World) -> None:
        """
        A stream that has no topics left is closed.
        """
        member = join(world, "ann", "a", "b")
        assert result_of(world.hub.revoke("ann", ["a", "b", "c"])) == 1
        assert is_cut_off(member)

    def test_grants(self, world: World) -> None:
        """
        The grants of revoked topics are taken, too, also from a stream that subscribes to other topics.
        """
        member = join(world, "ann", "news", private=["news", "secret"])
        assert result_of(world.hub.revoke("ann", "secret")) == 1
        world.publish("1", topics=["secret", "news"], private=True)
        assert member.texts == ["1"]
        (subscriber,) = world.hub.subscribers.with_key("ann")
        assert subscriber.private.exact == ("news",)

    @pytest.mark.parametrize(
        ("topics", "private", "revoked", "closed"),
        [
            (["*"], [], "x/1", True),
            ([Prefix("x/")], [], "x/1", True),
            ([Prefix("x/")], [], "y/1", False),
            (["news"], [Prefix("x/")], "x/1", True),
            (["news"], ["*"], "x/1", False),
            (["news", Prefix("x/")], [], Prefix("x/"), False),
            (["news", Prefix("x/")], [], Prefix("x/1"), True),
            (["news", "x/1"], [], Prefix("x/"), False),
            (["news", "x/1"], [], "*", True),
            ([Prefix("x/")], [], "*", True),
            ([TopicPattern("x/*"), "news"], [], TopicPattern("x/*"), False),
        ],
    )
    def test_patterns(self, world: World, topics: Any, private: Any, revoked: Any, closed: bool) -> None:
        """
        A stream is closed if a pattern that is left may select a revoked topic, and keeps its other topics
        otherwise.
        """
        member = join(world, "ann", *topics, private=private)
        result_of(world.hub.revoke("ann", revoked))
        assert is_cut_off(member) is closed
        if not closed:
            world.publish("revoked", topics=str(revoked) if isinstance(revoked, str) else "x/1")
            world.publish("other", topics="news")
            assert member.texts == (["other"] if "news" in topics else [])

    def test_in_a_fan_out(self, world: World) -> None:
        """
        Topics that are revoked while an update is sent to others are not sent any more.
        """
        first, ann = join(world, "bob", "a", "b"), join(world, "ann", "a", "b")

        def revoke() -> None:
            first.socket.before_send = int
            world.hub.revoke("ann", "a")

        first.socket.before_send = revoke
        world.hub.publish("a", "1")
        world.reactor.run_soon()
        world.publish("2", topics="b")
        assert first.texts == ["1", "2"]
        assert ann.texts == ["2"]

    def test_while_the_hub_stops(self, new_world: Callable[..., World]) -> None:
        """
        A stream is closed if its topics are revoked by another node while the hub waits for its clients.
        """
        world = new_world(upgrader={"slow_policy": "close", "max_buffer": 1_000_000})
        member = join(world, "ann", "news", "secret")
        member.stop_reading()
        while not member.channel.is_slow:
            member.channel.comment("x" * 70_000)
        world.publish("a", topics="secret")
        world.hub.stop(deadline=5.0)
        message = json.dumps({"revoke": '"ann"', "topics": ["secret"], "patterns": []})
        received = world.hub._cut_off.message_received(message)
        assert received is not None
        assert result_of(received) == "1"
        member.read_on()
        world.reactor.run_soon()
        assert member.texts == []

    @pytest.mark.parametrize(("topics", "error"), [((), ValueError), (7, TypeError), ([7], TypeError)])
    def test_wrong_topics(self, world: World, topics: Any, error: type[Exception]) -> None:
        """
        Topics that cannot be revoked are refused at once.
        """
        with pytest.raises(error):
            world.hub.revoke("ann", topics)


class OfTests:
    def test_subscribers_of_a_topic(self, world: World) -> None:
        """
        The subscribers of a topic are those that name it, and those with a pattern that selects it.
        """
        members = [join(world, "ann", "a/1"), join(world, "bob", Prefix("a/")), join(world, "eve", "b")]
        found = {subscriber.channel for subscriber in world.hub.subscribers.of("a/1")}
        assert found == {member.channel for member in members[:2]}
        assert world.hub.subscribers.of("c") == []


@implementer(ICluster)
class TwoNodes(NoCluster):
    """
    A cluster of two hubs in one process, which must not count as one node.

    :ivar messages: the messages that were sent.
    :ivar error: fails each broadcast, after the nodes have received the message; ``None`` for success.
    """

    def __init__(self) -> None:
        self.listeners: list[IClusterListener] = []
        self.messages: list[str] = []
        self.error: Exception | None = None

    def start(self, listener: IClusterListener) -> Deferred[None]:
        self.listeners.append(listener)
        return succeed(None)

    def broadcast(self, message: str, *, deadline: float = 15.0) -> Deferred[list[str]]:
        self.messages.append(message)
        replies = [self._reply(listener.message_received(message)) for listener in self.listeners]
        return fail(self.error) if self.error else succeed([reply for reply in replies if reply is not None])

    def _reply(self, reply: Any) -> str | None:
        return result_of(reply) if isinstance(reply, Deferred) else reply


@pytest.fixture
def nodes(plain: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, World, TwoNodes]]:
    """
    Return two hubs that have started, and their cluster.
    """
    monkeypatch.setattr(cut_off_module, "NoCluster", type("Never", (), {}))
    cluster = TwoNodes()
    first, second = World(plain, cluster=cluster), World(plain, cluster=cluster)
    result_of(first.hub.start())
    result_of(second.hub.start())
    yield first, second, cluster
    first.end()
    second.end()


class ClusterTests:
    def test_disconnect(self, nodes: tuple[World, World, TwoNodes]) -> None:
        """
        All nodes close the streams of the key, and the streams of all nodes are counted once.
        """
        first, second, _ = nodes
        members = [join(first, "ann"), join(second, "ann"), join(second, "ann"), join(second, "bob")]
        assert result_of(first.hub.disconnect(key="ann")) == 3
        assert [is_cut_off(member) for member in members] == [True, True, True, False]

    def test_revoke(self, nodes: tuple[World, World, TwoNodes]) -> None:
        """
        All nodes take the topics from the streams of the key.
        """
        first, second, _ = nodes
        members = [join(first, 7, "a", "b"), join(second, 7, "a", TopicPattern("x/*")), join(second, 7, "a")]
        assert result_of(first.hub.revoke(7, ["a", TopicPattern("x/*")])) == 3
        assert [is_cut_off(member) for member in members] == [False, True, True]
        first.publish("1", topics="a")
        first.publish("2", topics="b")
        assert members[0].texts == ["2"]
        assert result_of(second.hub.revoke(7, "*")) == 1

    def test_node_out_of_reach(self, nodes: tuple[World, World, TwoNodes]) -> None:
        """
        If another node does not answer, the Deferred fails and names it, and this node's streams are closed.
        """
        first, _, cluster = nodes
        cluster.error = NotAcknowledged(["node 2"])
        member = join(first, "ann")
        (error,) = outcome_of(first.hub.disconnect(key="ann"))
        assert isinstance(error, NotAcknowledged) and error.nodes == ["node 2"]
        assert is_cut_off(member)

    def test_stream_that_cannot_be_closed(
        self,
        nodes: tuple[World, World, TwoNodes],
        monkeypatch: pytest.MonkeyPatch,
        failures: list[LogEvent],
    ) -> None:
        """
        If this node fails to close a stream, the other nodes close theirs.
        """
        first, second, _ = nodes
        broken, other = join(first, "ann"), join(second, "ann")
        close = type(broken.channel).close
        errors: list[Exception] = [ZeroDivisionError()]

        def failing(channel: Any, **options: Any) -> None:
            if channel is broken.channel and errors:
                raise errors.pop()
            close(channel, **options)

        with monkeypatch.context() as patch:
            patch.setattr(type(broken.channel), "close", failing)
            (error,) = outcome_of(first.hub.disconnect(key="ann"))
        assert isinstance(error, ZeroDivisionError)
        assert is_cut_off(other)
        failures.clear()

    def test_cancelled(self, nodes: tuple[World, World, TwoNodes], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A Deferred that is cancelled between two slices sends nothing to the other nodes.
        """
        monkeypatch.setattr(cut_off_module, "_SLICE", 1)
        first, _, cluster = nodes
        join(first, "ann")
        disconnecting = first.hub.disconnect(key="ann")
        outcome = outcome_of(disconnecting)
        disconnecting.cancel()
        assert isinstance(outcome[0], CancelledError)
        assert cluster.messages == []

    @pytest.mark.parametrize("key", [1.5, b"ann", "x" * 4100])
    def test_key_that_others_cannot_recognise(
        self, nodes: tuple[World, World, TwoNodes], failures: list[LogEvent], key: Any
    ) -> None:
        """
        A hub with several nodes refuses keys that the others could not recognise, before a stream opens.
        """
        first, _, cluster = nodes
        with pytest.raises((TypeError, ValueError), match="key"):
            first.hub.disconnect(key=key)
        assert cluster.messages == []

        def rule(request: Request) -> Access:
            return Access("news", key=key)

        assert first.join(rule).client.status == 500
        assert len(failures) == 1
        with pytest.raises((TypeError, ValueError), match="key"):
            first.hub.subscribe(first.open().channel, "news", key=key)
        with pytest.raises((TypeError, ValueError), match="key"):
            first.hub.resource(Access("news", key=key))

    def test_selector_that_others_cannot_recognise(self, nodes: tuple[World, World, TwoNodes]) -> None:
        """
        A hub with several nodes revokes strings and TopicPatterns only.
        """
        first, _, cluster = nodes
        with pytest.raises(TypeError, match="topics must be strings or TopicPatterns"):
            first.hub.revoke("ann", Prefix("a/"))
        assert cluster.messages == []

    def test_too_many_topics(self, nodes: tuple[World, World, TwoNodes]) -> None:
        """
        More topics than one message holds are refused before any is revoked.
        """
        first, _, cluster = nodes
        member = join(first, "ann", "topic 1", "news")
        with pytest.raises(ValueError, match="65536 is the limit; revoke them in several calls"):
            first.hub.revoke("ann", [f"topic {number}" for number in range(6000)])
        assert cluster.messages == []
        first.publish("a", topics="topic 1")
        assert member.texts == ["a"]

    @pytest.mark.parametrize(
        "message",
        [
            "",
            "7",
            "[]",
            "null",
            "{}",
            '{"disconnect": 7}',
            '{"disconnect": "{}"}',
            '{"revoke": "7"}',
            '{"revoke": "7", "topics": 7, "patterns": []}',
            '{"revoke": "7", "topics": [], "patterns": ["a*"]}',
            '{"revoke": "7", "topics": [7], "patterns": []}',
            "[" * 100_000,
        ],
    )
    def test_message_that_is_no_order(self, nodes: tuple[World, World, TwoNodes], message: str) -> None:
        """
        A hub acknowledges a message that is no order, and closes no stream.
        """
        first, _, cluster = nodes
        member = join(first, 7)
        assert result_of(cluster.broadcast(message)) == []
        assert member.channel.is_open

    def test_message_has_no_secrets_of_its_own(self, nodes: tuple[World, World, TwoNodes]) -> None:
        """
        An order contains the key, the topics and nothing else.
        """
        first, _, cluster = nodes
        first.hub.disconnect(key=("ann", 7))
        assert [json.loads(message) for message in cluster.messages] == [{"disconnect": '["ann",7]'}]

    def test_missed_orders(self, nodes: tuple[World, World, TwoNodes]) -> None:
        """
        A node that may have missed orders closes its streams that have a key, those of requests under way
        included; their clients resume without loss.
        """
        first, second, cluster = nodes
        ann, keyless = join(first, "ann"), first.join()
        elsewhere = join(second, "ann")
        decisions: list[Deferred[Access]] = [Deferred(), Deferred()]
        waiting = [first.join(lambda request, each=each: each) for each in decisions]
        first.publish("1")
        first.reactor.run_soon()
        cluster.listeners[0].messages_missed()
        decisions[0].callback(Access("news", key="bob"))
        decisions[1].callback(Access("news"))
        for member in waiting:
            member.client.pump()
        assert [is_cut_off(each) for each in (ann, keyless, elsewhere)] == [True, False, False]
        assert [member.client.ended for member in waiting] == [True, False]
        first.publish("2")
        again = first.join(Access("news", key="ann"), last_event_id=ann.last_event_id)
        assert (ann.texts, again.texts) == (["1"], ["2"])

    def test_journal_that_starts_later(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An order waits for the start of the journal, without which a node does not know the others.
        """
        monkeypatch.setattr(cut_off_module, "NoCluster", type("Never", (), {}))
        journal = ScriptedJournal(reactor=plain.reactor)
        journal.held.add("start")
        cluster = TwoNodes()
        world = World(plain, journal=journal, cluster=cluster)
        outcome = outcome_of(world.hub.disconnect(key="ann"))
        assert (outcome, cluster.messages) == ([], [])
        journal.release("start")
        assert (outcome, len(cluster.messages)) == ([0], 1)
        world.end()

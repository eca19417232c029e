"""
Presence: which keys have streams of a topic, by ``hub.presence``, by callback and by topic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.fakes import Wire
from tests.hub.fakes import Member, Prefix, World, result_of
from txsse import Access, CloseReason, Hub, InvalidField, TopicPattern
from txsse.hub import roster
from txsse.hub.roster import DEFAULT_GRACE
from txsse.journal.registry import Name

Change = tuple[str, Hashable, bool]


class Recorder:
    """
    A presence callback that records its calls.
    """

    def __init__(self) -> None:
        self.calls: list[Change] = []

    def __call__(self, topic: str, key: Hashable, present: bool) -> None:
        self.calls.append((topic, key, present))

    def take(self) -> list[Change]:
        """
        Return the calls since the last call of this.
        """
        calls, self.calls = self.calls, []
        return calls


def join(world: World, key: Hashable, *topics: Any) -> Member:
    """
    Connect a client, and let the hub notice it.
    """
    member = world.join(Access(topics or ("news",), key=key))
    world.reactor.run_soon()
    return member


def leave(world: World, *members: Member) -> None:
    for member in members:
        member.leave()
    world.reactor.run_soon()


class KeysTests:
    def test_keys_of_a_topic(self, wire: Wire) -> None:
        """
        The hub returns the keys of a topic, each with its number of streams; those without a key together.
        """
        world = World(wire, presence_grace=1)
        for key in ("ann", "ann", ("bob", 7), None, None):
            join(world, key)
        join(world, "eve", "sport")
        assert result_of(world.hub.presence("news")) == {"ann": 2, ("bob", 7): 1, None: 2}
        assert result_of(world.hub.presence("sport")) == {"eve": 1}
        assert result_of(world.hub.presence("other")) == {}
        world.end()

    def test_not_counted(self, world: World) -> None:
        """
        A hub that does not count who is present says so, and how to make one that does.
        """
        join(world, "ann")
        with pytest.raises(
            RuntimeError, match=r"does not count who is present; make it with Hub\(presence_grace="
        ):
            world.hub.presence("news")
        assert world.hub._roster._counts == {}

    @pytest.mark.parametrize(
        ("topics", "name"), [("*", "*"), (TopicPattern("a/*"), "a/*"), (Prefix("a/"), "a/…"), ("a", "a")]
    )
    def test_names(self, new_world: Callable[..., World], topics: Any, name: str) -> None:
        """
        Streams are found by the name that they were subscribed by: a topic, a pattern, or ``*``.
        """
        for options in ({"presence_grace": 0}, {"on_presence": Recorder()}):
            world = new_world(**options)
            join(world, "ann", topics)
            join(world, None, topics)
            assert result_of(world.hub.presence(name)) == {"ann": 1, None: 1}
            assert result_of(world.hub.presence("a/b")) == {}

    def test_grace_period(self, new_world: Callable[..., World]) -> None:
        """
        A key whose streams have ended is present with 0 streams until its grace period ends.
        """
        world = new_world(presence_grace=DEFAULT_GRACE)
        leave(world, join(world, "ann"), join(world, None))
        assert result_of(world.hub.presence("news")) == {"ann": 0}
        world.reactor.advance(DEFAULT_GRACE - 0.1)
        assert result_of(world.hub.presence("news")) == {"ann": 0}
        world.reactor.advance(0.1)
        assert result_of(world.hub.presence("news")) == {}

    @pytest.mark.parametrize("topic", [7, None, b"news"])
    def test_wrong_topic(self, world: World, topic: Any) -> None:
        """
        A topic of a wrong type is refused.
        """
        with pytest.raises(TypeError, match="topic must be str"):
            world.hub.presence(topic)

    @pytest.mark.parametrize("options", [{"presence_grace": -1}, {"topic_grace": float("nan")}])
    def test_wrong_grace(self, options: Any) -> None:
        """
        A negative grace period is refused, as is one that is no number.
        """
        with pytest.raises(ValueError, match="must be a number of seconds that is not negative"):
            Hub(**options)

    def test_many_keys(self, new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Many keys begin their grace period, and are released after it, in slices: the reactor has its turn in
        between.
        """
        monkeypatch.setattr(roster, "_SLICE", 7)
        world = new_world(presence_grace=DEFAULT_GRACE)
        for number in range(30):
            join(world, number)
        registry = world.hub._roster._registry
        sizes: list[int] = []
        put = registry.put

        def record(counts: Mapping[Name, int | None]) -> None:
            sizes.append(len(counts))
            put(counts)

        monkeypatch.setattr(registry, "put", record)
        for subscriber in world.hub.subscribers:
            subscriber.unsubscribe()
        world.reactor.run_soon()
        world.reactor.advance(DEFAULT_GRACE)
        assert sizes == [7, 7, 7, 7, 2] * 2
        assert result_of(world.hub.presence("news")) == {}


class CallbackTests:
    def test_first_and_last_stream(self, new_world: Callable[..., World]) -> None:
        """
        The callback is called for the first stream of a key, and when the grace period after its last one has
        ended.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder, presence_grace=5)
        streams = [join(world, "ann") for _ in range(3)]
        assert recorder.take() == [("news", "ann", True)]
        leave(world, *streams)
        world.reactor.advance(4.9)
        assert recorder.take() == []
        world.reactor.advance(0.1)
        assert recorder.take() == [("news", "ann", False)]

    def test_reconnection(self, new_world: Callable[..., World]) -> None:
        """
        A key whose client reconnects within the grace period is reported neither as absent nor as present.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder, presence_grace=5)
        leave(world, join(world, "ann"))
        world.reactor.advance(4.9)
        again = join(world, "ann")
        world.reactor.advance(10)
        assert recorder.take() == [("news", "ann", True)]
        leave(world, again)
        world.reactor.advance(5)
        assert recorder.take() == [("news", "ann", False)]

    def test_within_one_turn(self, new_world: Callable[..., World]) -> None:
        """
        A stream that opens and ends within one turn of the reactor is not reported.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder)
        for key in ("ann", None):
            world.hub.subscribe(world.open().channel, "news", key=key).unsubscribe()
        world.reactor.advance(60)
        assert recorder.take() == []

    def test_streams_without_a_key(self, new_world: Callable[..., World]) -> None:
        """
        Each stream without a key is reported, as ``None``, and has no grace period.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder)
        streams = [join(world, None) for _ in range(2)]
        assert recorder.take() == [("news", None, True)] * 2
        assert result_of(world.hub.presence("news")) == {None: 2}
        leave(world, streams[0])
        assert recorder.take() == [("news", None, False)]
        assert result_of(world.hub.presence("news")) == {None: 1}

    def test_no_grace_period(self, new_world: Callable[..., World]) -> None:
        """
        With a grace period of 0, a key is absent as soon as its last stream has ended.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder, presence_grace=0)
        leave(world, join(world, "ann"))
        assert recorder.take() == [("news", "ann", True), ("news", "ann", False)]

    def test_several_topics(self, new_world: Callable[..., World]) -> None:
        """
        A key is reported for each of its topics and patterns, and once for a topic and a pattern of one name.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder)
        join(world, "ann", "news", TopicPattern("news"), "sport", Prefix("a/"), "*")
        assert sorted(recorder.take()) == [(name, "ann", True) for name in ("*", "a/…", "news", "sport")]

    def test_change(self, new_world: Callable[..., World]) -> None:
        """
        A change of topics reports those that the key has gained and lost, each once.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder, presence_grace=1)
        join(world, "ann", "a", "b", "c")
        recorder.take()
        [subscriber] = world.hub.subscribers
        subscriber.change(["b", "c", "d"])
        subscriber.change(["c", "d", "e"])
        world.reactor.run_soon()
        world.reactor.advance(1)
        assert sorted(recorder.take()) == [
            ("a", "ann", False),
            ("b", "ann", False),
            ("d", "ann", True),
            ("e", "ann", True),
        ]

    def test_unsubscribed(self, new_world: Callable[..., World]) -> None:
        """
        A subscriber that unsubscribes, and whose channel closes later, is reported as absent once.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder, presence_grace=0)
        channel = world.open().channel
        subscriber = world.hub.subscribe(channel, "news", key="ann")
        world.reactor.run_soon()
        subscriber.unsubscribe()
        world.reactor.run_soon()
        channel.close()
        world.reactor.run_soon()
        assert recorder.take() == [("news", "ann", True), ("news", "ann", False)]

    def test_half_open_peer(self, new_world: Callable[..., World]) -> None:
        """
        A key whose last stream ends because its peer no longer answers is absent after the grace period.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder, presence_grace=5)
        member = join(world, "ann")
        member.channel.abort(reason=CloseReason.PEER_TIMEOUT)
        world.reactor.run_soon()
        world.reactor.advance(5)
        assert recorder.take() == [("news", "ann", True), ("news", "ann", False)]

    def test_hub_stops(self, new_world: Callable[..., World]) -> None:
        """
        When the hub stops, all keys are absent, also those in their grace period, and no timer is left.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder)
        leave(world, join(world, "ann"))
        members = [join(world, "bob"), world.open()]
        world.hub.subscribe(members[1].channel, "news", key="eve")
        recorder.take()
        world.hub.stop()
        world.reactor.run_soon()
        assert all(member.client.ended for member in members if member.events is not None)
        assert {(key, present) for _, key, present in recorder.take()} >= {("ann", False), ("bob", False)}
        assert world.reactor.getDelayedCalls() == []

    @pytest.mark.parametrize("is_async", [False, True])
    def test_callback_fails(
        self, new_world: Callable[..., World], failures: list[LogEvent], is_async: bool
    ) -> None:
        """
        A callback that raises, or whose awaitable fails, is logged, and the subscriber gets its updates.
        """

        def failing(topic: str, key: Hashable, present: bool) -> None:
            raise ZeroDivisionError

        async def failing_later(topic: str, key: Hashable, present: bool) -> None:
            raise ZeroDivisionError

        world = new_world(on_presence=failing_later if is_async else failing, presence_grace=0)
        member = join(world, "secret")
        world.publish("x")
        assert member.texts == ["x"]
        leave(world, member)
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError] * 2
        assert "on_presence failed" in str(failures[0]["log_format"].format(**failures[0]))

    def test_callback_that_never_returns(self, new_world: Callable[..., World]) -> None:
        """
        A callback whose Deferred never fires holds nothing up.
        """
        calls: list[Deferred[None]] = []

        def waiting(topic: str, key: Hashable, present: bool) -> Deferred[None]:
            calls.append(Deferred())
            return calls[-1]

        world = new_world(on_presence=waiting, presence_grace=0)
        leave(world, join(world, "ann"))
        join(world, "ann")
        assert len(calls) == 3

    def test_callback_uses_the_hub(self, new_world: Callable[..., World]) -> None:
        """
        The callback may publish, close channels and ask who is present.
        """
        seen: list[dict[Hashable, int]] = []

        async def changed(topic: str, key: Hashable, present: bool) -> None:
            seen.append(await world.hub.presence(topic))
            world.hub.publish("who", f"{key} {present}")
            if present and key == "bad":
                for subscriber in world.hub.subscribers.with_key(key):
                    subscriber.channel.close()

        world = new_world(on_presence=changed, presence_grace=0)
        watching = join(world, "op", "who")
        seen.clear()
        join(world, "bad")
        world.reactor.run_soon()
        assert seen == [{"bad": 1}, {}]
        assert watching.texts[-2:] == ["bad True", "bad False"]

    def test_wrong_callback(self) -> None:
        """
        A callback that is not callable is refused, with an error that says what to give.
        """
        with pytest.raises(TypeError, match="on_presence must be a callable that takes a topic, a key"):
            Hub(on_presence="x")  # type: ignore[arg-type]


class TopicTests:
    def test_published(self, new_world: Callable[..., World]) -> None:
        """
        The presence topic gets an event for each change, without the key; it is recorded, as any update.
        """
        world = new_world(presence_topic="who", presence_grace=0)
        watching = join(world, "op", "who")
        leave(world, join(world, "secret", "news", "sport"))
        assert [event.event for event in watching.events] == ["presence"] * 4
        changes = [json.loads(event.data) for event in watching.events]
        assert [change["present"] for change in changes] == [True, True, False, False]
        assert {change["topic"] for change in changes} == {"news", "sport"}
        assert b"secret" not in watching.client.body
        assert world.hub.metrics().published == 4

    def test_topic_for_each_topic(self, new_world: Callable[..., World]) -> None:
        """
        A callable chooses the topic of the events for each topic; ``None`` is for no events.
        """
        world = new_world(
            presence_topic=lambda topic: None if topic.endswith("/who") else f"{topic}/who", presence_grace=0
        )
        watching = join(world, "op", "news/who")
        join(world, "ann")
        join(world, "eve", "sport")
        assert [json.loads(text) for text in watching.texts] == [{"topic": "news", "present": True}]

    def test_callable_fails(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        A callable that raises, or returns what is no topic, is logged; the callback is called all the same.
        """
        recorder = Recorder()
        world = new_world(on_presence=recorder, presence_topic=lambda topic: {"a": "*"}[topic])
        join(world, "ann", "a")
        join(world, "ann", "b")
        assert recorder.take() == [("a", "ann", True), ("b", "ann", True)]
        assert [event["log_failure"].type for event in failures] == [InvalidField, KeyError]

    def test_not_while_stopping(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        A hub that stops publishes no presence events, and logs no failure.
        """
        world = new_world(presence_topic="who")
        members = [join(world, number, "news") for number in range(3)]
        published = world.hub.metrics().published
        world.hub.stop()
        world.reactor.run_soon()
        assert all(member.client.ended for member in members if member.events is not None)
        assert world.hub.metrics().published == published
        assert failures == []

    @pytest.mark.parametrize("topic", ["*", "\ud800"])
    def test_topic_that_cannot_be_published_to(self, topic: str) -> None:
        """
        A presence topic that cannot be published to is refused when the hub is made.
        """
        with pytest.raises(InvalidField):
            Hub(presence_topic=topic)


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

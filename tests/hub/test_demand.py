"""
Demand: the callbacks for topics that get their first subscriber, and lose their last one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.hub.fakes import Member, Prefix, World
from txsse import Hub, TopicPattern
from txsse.hub.demand import _PATIENCE
from txsse.hub.roster import DEFAULT_GRACE


class Upstreams:
    """
    Callbacks that record their calls.

    :ivar waiting: what the callbacks return, if they are to wait.
    """

    def __init__(self, *, wait: bool = False) -> None:
        self.calls: list[str] = []
        self.waiting: list[Deferred[None]] = []
        self._wait = wait

    def opened(self, topic: str) -> Deferred[None] | None:
        return self._called(f"open {topic}")

    def closed(self, topic: str) -> Deferred[None] | None:
        return self._called(f"close {topic}")

    def _called(self, call: str) -> Deferred[None] | None:
        self.calls.append(call)
        if not self._wait:
            return None
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def take(self) -> list[str]:
        """
        Return the calls since the last call of this.
        """
        calls, self.calls = self.calls, []
        return calls

    def answer(self) -> None:
        self.waiting.pop(0).callback(None)


New = Callable[..., World]


def following(new_world: New, upstreams: Upstreams, **options: Any) -> World:
    return new_world(on_topic_opened=upstreams.opened, on_topic_closed=upstreams.closed, **options)


def join(world: World, *topics: Any) -> Member:
    member = world.join(topics)
    world.reactor.run_soon()
    return member


def leave(world: World, *members: Member) -> None:
    for member in members:
        member.leave()
    world.reactor.run_soon()


class TopicTests:
    def test_first_and_last_subscriber(self, new_world: New) -> None:
        """
        A topic is opened for its first subscriber, and closed after the grace period after its last one.
        """
        upstreams = Upstreams()
        world = following(new_world, upstreams)
        members = [join(world, "news") for _ in range(3)]
        assert upstreams.take() == ["open news"]
        leave(world, *members)
        world.reactor.advance(DEFAULT_GRACE - 0.1)
        assert upstreams.take() == []
        world.reactor.advance(0.1)
        assert upstreams.take() == ["close news"]
        assert world.hub._roster._demand._topics == {}  # type: ignore[union-attr]
        join(world, "news")
        assert upstreams.take() == ["open news"]

    def test_subscriber_within_the_grace_period(self, new_world: New) -> None:
        """
        A topic that gets a subscriber within its grace period stays open.
        """
        upstreams = Upstreams()
        world = following(new_world, upstreams, topic_grace=2)
        leave(world, join(world, "news"))
        world.reactor.advance(1.9)
        join(world, "news")
        world.reactor.advance(10)
        assert upstreams.take() == ["open news"]

    def test_patterns(self, new_world: New) -> None:
        """
        For a pattern, and for all topics, the pattern is opened, and not the topics that it matches.
        """
        upstreams = Upstreams()
        world = following(new_world, upstreams)
        join(world, TopicPattern("a/*"), Prefix("b/"), "*", "c")
        assert sorted(upstreams.take()) == ["open *", "open a/*", "open b/…", "open c"]
        world.publish("x", topics="a/b")
        assert upstreams.take() == []

    def test_unknown_topic(self, new_world: New) -> None:
        """
        A topic that another node opened, and that this node no longer is responsible for, is not closed here.
        """
        upstreams = Upstreams()
        world = following(new_world, upstreams)
        world.hub._roster.no_longer_responsible(("topics", "news"), is_over=True)
        assert upstreams.take() == []

    def test_change(self, new_world: New) -> None:
        """
        A subscriber that changes its topics opens and closes them.
        """
        upstreams = Upstreams()
        world = following(new_world, upstreams, topic_grace=0)
        join(world, "a", "b")
        upstreams.take()
        [subscriber] = world.hub.subscribers
        subscriber.change(["b", "c"])
        world.reactor.run_soon()
        assert sorted(upstreams.take()) == ["close a", "open c"]

    @pytest.mark.parametrize("only", ["on_topic_opened", "on_topic_closed"])
    def test_one_callback(self, new_world: New, only: str) -> None:
        """
        Each of the callbacks may be given alone.
        """
        upstreams = Upstreams()
        world = new_world(topic_grace=0, **{only: upstreams.opened})
        leave(world, join(world, "news"))
        assert upstreams.take() == ["open news"]
        assert world.hub._roster._demand._topics == {}  # type: ignore[union-attr]

    def test_hub_stops(self, new_world: New) -> None:
        """
        When the hub stops, its open topics are closed, and no timer is left.
        """
        upstreams = Upstreams()
        world = following(new_world, upstreams)
        leave(world, join(world, "old"))
        join(world, "news")
        upstreams.take()
        world.hub.stop()
        world.reactor.run_soon()
        assert sorted(upstreams.take()) == ["close news", "close old"]
        world.hub._roster.became_responsible(("topics", "late"), is_new=True)
        assert upstreams.take() == []
        assert world.reactor.getDelayedCalls() == []

    @pytest.mark.parametrize("name", ["on_topic_opened", "on_topic_closed"])
    def test_wrong_callback(self, name: str) -> None:
        """
        A callback that is not callable is refused, with an error that says what to give.
        """
        with pytest.raises(TypeError, match=f"{name} must be a callable that takes the name of a topic"):
            Hub(**{name: "x"})  # type: ignore[arg-type]


class WaitingTests:
    def test_calls_do_not_overlap(self, new_world: New) -> None:
        """
        A topic is closed after the callback that opens it has ended.
        """
        upstreams = Upstreams(wait=True)
        world = following(new_world, upstreams, topic_grace=0)
        leave(world, join(world, "news"))
        assert upstreams.take() == ["open news"]
        upstreams.answer()
        assert upstreams.take() == ["close news"]
        upstreams.answer()
        assert world.reactor.getDelayedCalls() == []

    def test_changes_meanwhile(self, new_world: New) -> None:
        """
        While a callback runs, only the last change counts.
        """
        upstreams = Upstreams(wait=True)
        world = following(new_world, upstreams, topic_grace=0)
        leave(world, join(world, "news"))
        member = join(world, "news")
        upstreams.answer()
        assert upstreams.take() == ["open news"]
        leave(world, member)
        assert upstreams.take() == ["close news"]
        leave(world, join(world, "news"))
        upstreams.answer()
        assert upstreams.take() == []
        assert world.hub._roster._demand._topics == {}  # type: ignore[union-attr]

    def test_callback_that_never_returns(self, new_world: New, logged: list[LogEvent]) -> None:
        """
        A callback that takes too long is logged, with its topic; the hub goes on, and ignores its end.
        """
        upstreams = Upstreams(wait=True)
        world = following(new_world, upstreams, topic_grace=0)
        leave(world, join(world, "news"))
        world.reactor.advance(_PATIENCE)
        assert upstreams.take() == ["open news", "close news"]
        late = [event for event in logged if "has not returned" in event["log_format"]]
        assert [event["topic"] for event in late] == ["news"]
        upstreams.answer()
        member = join(world, "news")
        assert upstreams.take() == []
        upstreams.answer()
        assert upstreams.take() == ["open news"]
        upstreams.answer()
        leave(world, member)
        upstreams.answer()

    def test_hub_stops_meanwhile(self, new_world: New) -> None:
        """
        A hub that stops does not wait for callbacks: it closes the topics that are being opened.
        """
        upstreams = Upstreams(wait=True)
        world = following(new_world, upstreams)
        join(world, "news")
        stopped = world.hub.stop()
        world.reactor.run_soon()
        assert stopped.called
        assert upstreams.take() == ["open news", "close news"]
        assert world.reactor.getDelayedCalls() == []
        upstreams.answer()
        upstreams.answer()
        assert upstreams.take() == []

    @pytest.mark.parametrize("is_async", [False, True])
    def test_callback_fails(self, new_world: New, failures: list[LogEvent], is_async: bool) -> None:
        """
        A callback that raises, or whose awaitable fails, is logged; the topic is closed as any other.
        """
        closed: list[str] = []

        def failing(topic: str) -> None:
            raise ZeroDivisionError

        async def failing_later(topic: str) -> None:
            raise ZeroDivisionError

        world = new_world(
            on_topic_opened=failing_later if is_async else failing,
            on_topic_closed=closed.append,
            topic_grace=0,
        )
        member = join(world, "news")
        world.publish("x", topics="news")
        assert member.texts == ["x"]
        leave(world, member)
        assert closed == ["news"]
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]

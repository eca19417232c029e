"""
The cost of patterns: the limit on their total weight, and slices of matching between which the reactor runs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.fakes import Wire
from tests.hub.fakes import Heavy, Prefix, ScriptedJournal, World, lost, outcome_of, result_of, turn
from txsse import Access, Hub, HubStopped, ISelector, ServerSentEvent, TooManyPatterns, Update
from txsse.hub.hub import DEFAULT_MAX_PATTERN_WEIGHT
from txsse.hub.subscriber import Subscriber

LIMIT = 1000

patterns = st.sampled_from(
    [
        Heavy("a", 100),
        Heavy("b", 300),
        Heavy("c", 500),
        Heavy("d", 999),
        Heavy("e", 1001),
        Prefix("f"),
        "exact",
        "*",
    ]
)
wishes = st.lists(patterns, max_size=4)


def held(hub: Hub) -> int:
    """
    Return the weight of all subscribers' patterns, computed from scratch: each different pattern counts once
    among the wanted and once among the granted ones.
    """
    wanted = {selector for each in hub._membership.by_channel.values() for selector in each.topics.selectors}
    granted = {
        selector for each in hub._membership.by_channel.values() for selector in each.private.selectors
    }
    return sum(getattr(each, "weight", 100) for group in (wanted, granted) for each in group)


class BoundTests:
    @pytest.mark.slow
    def test_random(self, new_world: Callable[..., World]) -> None:
        """
        Over random subscriptions, the patterns' weight stays within the limit; the hub refuses a subscription
        only if it would exceed the limit, and reuses the weight of removed ones.
        """
        world = new_world(max_pattern_weight=LIMIT)
        hub = world.hub
        channels = [world.open().channel for _ in range(5)]
        seen = set()

        @settings(derandomize=True, deadline=None, max_examples=150)
        @given(st.lists(st.tuples(st.integers(0, 4), wishes, wishes), max_size=25))
        def check(changes: list[tuple[int, list[str | ISelector], list[str | ISelector]]]) -> None:
            subscribers: dict[int, Subscriber] = {}
            for number, topics, private in changes:
                if number in subscribers:
                    subscribers.pop(number).unsubscribe()
                else:
                    before = held(hub)
                    try:
                        subscribers[number] = hub.subscribe(channels[number], topics, private=private)
                    except TooManyPatterns as error:
                        assert error.limit == LIMIT
                        assert held(hub) == before
                        own = {each for each in topics if isinstance(each, Prefix)}
                        other = {each for each in private if isinstance(each, Prefix)}
                        weights = [getattr(each, "weight", 100) for each in (*own, *other)]
                        assert before + sum(weights) > LIMIT
                        seen.add("refused")
                    else:
                        seen.add("taken")
                assert held(hub) == hub._membership.index.weight + hub._membership.private.weight <= LIMIT
            for subscriber in subscribers.values():
                subscriber.unsubscribe()
            assert hub._membership.index.weight == hub._membership.private.weight == 0

        check()
        assert seen == {"refused", "taken"}

    def test_shared(self, new_world: Callable[..., World]) -> None:
        """
        At the limit, any number of clients may subscribe to patterns that the hub already has, and no client
        to others.
        """
        world = new_world(max_pattern_weight=LIMIT)
        members = [world.join(Heavy("n", LIMIT)) for _ in range(5)]
        assert world.join(Heavy("m", 1)).client.status == 503
        assert world.join("news").client.status == 200
        members[0].leave()
        assert world.join(Heavy("m", 1)).client.status == 503
        for member in members[1:]:
            member.leave()
        assert world.join(Heavy("m", 1)).client.status == 200

    @pytest.mark.parametrize("rule", [Heavy("n", LIMIT + 1), Access("news", [Heavy("n", LIMIT + 1)])])
    @pytest.mark.parametrize(("callable", "method"), [(False, "GET"), (True, "GET"), (True, "HEAD")])
    def test_answer(self, new_world: Callable[..., World], rule: Any, callable: bool, method: str) -> None:
        """
        A subscription that exceeds the pattern limit gets 503 with Retry-After and the option's name.
        """
        world = new_world(max_pattern_weight=LIMIT)
        result_of(world.hub.start())
        member = world.join((lambda request: rule) if callable else rule, method=method)
        assert member.client.status == 503
        assert member.client.headers["retry-after"] == "60"
        if method == "GET":
            assert member.client.body == (
                b"the hub has reached its limit of patterns: subscribe to exact topics, or try again later "
                b"(max_pattern_weight is 1000)\n"
            )

    def test_default(self, world: World) -> None:
        """
        The default limit on the weight of patterns is 1,000,000.
        """
        assert DEFAULT_MAX_PATTERN_WEIGHT == 1_000_000
        assert world.join(Heavy("n", 1_000_001)).client.status == 503
        assert world.join(Heavy("n", 1_000_000)).client.status == 200

    def test_without_limit(self, new_world: Callable[..., World]) -> None:
        """
        ``max_pattern_weight=None`` switches the limit on patterns off.
        """
        world = new_world(max_pattern_weight=None)
        assert world.join(Heavy("n", 10**12)).client.status == 200

    def test_limit_of_zero(self) -> None:
        """
        A ``max_pattern_weight`` below 1 raises ``ValueError``.
        """
        with pytest.raises(ValueError, match="max_pattern_weight must be at least 1, not 0"):
            Hub(max_pattern_weight=0)


class TurnTests:
    """
    The hub matches many patterns in slices, and yields to the reactor between them.
    """

    # The cost of matching one pattern, in seconds; and the most matches in a turn: those of a slice of 10 ms,
    # and one step more.
    COST = 0.0005
    WEIGHT = 1000
    MOST = 20 + 11

    TOPICS = tuple(f"topic-{number}" for number in range(100))

    @pytest.fixture
    def journal(self, plain: Wire) -> ScriptedJournal:
        return ScriptedJournal(reactor=plain.reactor)

    def heavies(self, world: World, count: int, prefix: str = "x") -> list[Heavy]:
        return [
            Heavy(f"{prefix}{number}", self.WEIGHT, cost=self.COST, reactor=world.reactor)
            for number in range(count)
        ]

    def most_in_a_turn(self, world: World, asked: list[Heavy], total: int) -> int:
        """
        Run the reactor until the patterns were matched a total number of times, and return the greatest
        number in one turn.
        """
        most = before = 0
        for _ in range(100_000):
            turn(world.reactor)
            now = sum(len(heavy.asked) for heavy in asked)
            most = max(most, now - before)
            before = now
            if now >= total and not world.reactor.getDelayedCalls():
                break
        assert before == total
        return most

    @pytest.mark.parametrize("private", [False, True])
    def test_fan_out(self, new_world: Callable[..., World], private: bool) -> None:
        """
        A fan-out to many new topics and patterns takes several turns of the reactor, and delivers every
        update in order.
        """
        world = new_world()
        heavies = self.heavies(world, 50)
        for heavy in heavies:
            world.join(Access(heavy, heavy))
        reader = world.join(Access("topic-99", Prefix("topic")))
        for number in range(3):
            topics = [f"{number}-{topic}" for topic in self.TOPICS]
            world.publish(str(number), topics=[*topics, "topic-99"], private=private)
        assert sum(len(heavy.asked) for heavy in heavies) == 0
        total = (3 * 100 + 1) * len(heavies) * (1 + private)
        assert self.most_in_a_turn(world, heavies, total) <= self.MOST
        assert reader.texts == ["0", "1", "2"]

    def test_publishers_wait(self, world: World) -> None:
        """
        ``wait_for_room`` delays publishers while many patterns have to be matched; every update is delivered,
        and no turn is longer.
        """
        heavies = self.heavies(world, 10)
        for heavy in heavies:
            world.join(heavy)
        reader = world.join("all")
        waiting: list[Any] = []

        async def publish(text: str) -> None:
            topics = [f"{text}-{'x' * 8000}-{number}" for number in range(30)]
            update = Update([*topics, "all"], ServerSentEvent(text, id=text))
            await world.hub.wait_for_room(update)
            waiting.remove(text)
            await world.hub.publish_update(update)

        for number in range(20):
            waiting.append(str(number))
            Deferred.fromCoroutine(publish(str(number)))
        # Four updates are almost a megabyte, the limit of the queue.
        assert waiting == [str(number) for number in range(4, 20)]
        counts = self.asked_in_turns(world, heavies)
        assert max(counts) <= self.MOST
        assert sum(counts) == (20 * 30 + 1) * len(heavies)
        assert waiting == []
        assert sorted(map(int, reader.texts)) == list(range(20))

    def test_large_update(self, world: World) -> None:
        """
        A single large update does not wait in ``wait_for_room``, and is sent at the end of the turn.
        """
        reader = world.join("a")
        update = Update("a", ServerSentEvent("x" * 2**20, id="1"))
        result_of(Deferred.fromCoroutine(world.hub.wait_for_room(update)))
        world.hub.publish_update(update, while_draining=True)
        assert reader.socket.sends[1:] == []
        assert [len(text) for text in reader.texts] == [2**20]

    def test_stop(self, world: World) -> None:
        """
        When the hub stops, publishers in ``wait_for_room`` get ``HubStopped``.
        """
        for heavy in self.heavies(world, 10):
            world.join(heavy)
        update = Update([f"{'x' * 8000}-{number}" for number in range(100)], ServerSentEvent("a", id="1"))
        world.hub.publish_update(update)

        async def publish() -> str:
            await world.hub.wait_for_room(update)
            return await world.hub.publish_update(update)

        outcome = outcome_of(Deferred.fromCoroutine(publish()))
        assert outcome == []
        world.hub.stop()
        world.reactor.run_soon()
        assert isinstance(outcome[0], HubStopped)

    @pytest.mark.slow
    def test_subscribers_change_during_matching(self, world: World) -> None:
        """
        While patterns are matched, a client that subscribes gets later updates only, and one that disconnects
        gets none.
        """
        for heavy in self.heavies(world, 50):
            world.join(heavy)
        staying, leaving, late = world.join(Prefix("topic")), world.join(Prefix("topic-")), world.open()
        world.publish("a", topics=self.TOPICS)
        turn(world.reactor)
        world.hub.subscribe(late.channel, Prefix("top"))
        leaving.client.transport.connectionLost(lost())
        turn(world.reactor)
        world.publish("b", topics=self.TOPICS)
        world.reactor.run_soon()
        assert (staying.texts, leaving.texts, late.texts) == (["a", "b"], [], ["b"])

    def asked_in_turns(self, world: World, heavies: list[Heavy]) -> list[int]:
        """
        Run the reactor until it is idle, and return the number of matches in each turn.
        """
        counts = [0, sum(len(heavy.asked) for heavy in heavies)]
        while world.reactor.getDelayedCalls():
            turn(world.reactor)
            counts.append(sum(len(heavy.asked) for heavy in heavies))
        return [after - before for before, after in pairwise(counts)]

    @pytest.mark.parametrize("several", [3, 20])
    def test_replay(self, new_world: Callable[..., World], journal: ScriptedJournal, several: int) -> None:
        """
        A replay to a client with many patterns takes several turns; an update that is published meanwhile is
        delivered once.
        """
        world = new_world(journal=journal)
        (first,) = world.publish("first")
        for number in range(5):
            world.publish(str(number), topics=[f"{number}-{topic}" for topic in self.TOPICS], private=True)
        world.reactor.run_soon()
        heavies = self.heavies(world, several)
        rule = Access([*heavies, Prefix("1-"), Prefix("late")], [*heavies, Prefix("1"), Prefix("late")])
        journal.held.add("read")
        reader = world.join(rule, last_event_id=first)
        assert sum(len(heavy.asked) for heavy in heavies) == 0
        journal.release("read")
        world.publish("meanwhile", topics="late")
        counts = self.asked_in_turns(world, heavies)
        assert sum(counts) > 4 * 100 * len(heavies)
        # A turn has one slice of the replay, and one of the fan-out.
        assert max(counts) <= 2 * self.MOST
        assert reader.texts == ["1", "meanwhile"]

    def test_disconnects_during_replay(
        self, new_world: Callable[..., World], journal: ScriptedJournal
    ) -> None:
        """
        A client that disconnects while its patterns are matched for a replay is sent nothing.
        """
        world = new_world(journal=journal)
        (first,) = world.publish("first")
        world.publish("a", topics=self.TOPICS)
        world.publish("b")
        journal.held.add("read")
        reader = world.join([*self.heavies(world, 50), "news"], last_event_id=first)
        journal.release("read")
        reader.client.transport.connectionLost(lost())
        world.reactor.run_soon()
        assert world.hub.metrics().replaying == 0
        assert world.hub.metrics().delivered == 0

    @pytest.mark.parametrize("granted", [True, False])
    def test_last_event_id(
        self, new_world: Callable[..., World], journal: ScriptedJournal, granted: bool
    ) -> None:
        """
        Resuming from the id of a private update matches no pattern: the id stands for its position, granted
        or not.
        """
        world = new_world(journal=journal)
        (last,) = world.publish("a", topics=self.TOPICS, private=True)
        world.publish("b", topics="topic-99")
        heavies = self.heavies(world, 50)
        rule = Access("topic-99", [*heavies, *([Prefix("topic-99")] if granted else [])])
        journal.held.add("find")
        reader = world.join(rule, last_event_id=last)
        journal.release("find")
        assert sum(self.asked_in_turns(world, heavies)) == 0
        reader.client.pump()
        assert reader.client.headers["last-event-id"] == last
        assert reader.texts == ["b"]

"""
Expiry: channels are closed at a time of day, also when the system's clock is set.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from txsse.errors import CloseReason
from txsse.server.expiry import Expiry
from txsse.testing import WallClock


class FakeChannel:
    """
    A channel that closes on command, or when its client disconnects.
    """

    def __init__(self, clock: WallClock, problem: Exception | None = None) -> None:
        self.closed: float | None = None
        self._clock = clock
        self._problem = problem
        self._ended: Deferred[CloseReason] = Deferred()

    def when_closed(self) -> Deferred[CloseReason]:
        return self._ended if self.closed is None else succeed(CloseReason.CLIENT_GONE)

    def end_access(self, reason: CloseReason) -> None:
        if self.closed is None:
            assert reason is CloseReason.EXPIRED
            self.leave()
        if self._problem is not None:
            raise self._problem

    def leave(self) -> None:
        self.closed = self._clock.wall()
        self._ended.callback(CloseReason.CLIENT_GONE)


class World:
    def __init__(self) -> None:
        self.clock = WallClock()
        self.clock.step(1_000_000)
        self.expiries = Expiry(lambda: self.clock)

    def add(self, left: float, problem: Exception | None = None) -> Any:
        channel: Any = FakeChannel(self.clock, problem)
        self.expiries.end_at(channel, self.clock.wall() + left)
        return channel


class ExpiriesTests:
    def test_in_order(self) -> None:
        """
        Each channel closes at its time, whatever the order in which channels were added.
        """
        world = World()
        channels = {left: world.add(left) for left in (30.0, 10.0, 100.0, 20.0)}
        for left in sorted(channels):
            world.clock.advance(left - world.clock.seconds() - 0.5)
            assert channels[left].closed is None
            world.clock.advance(0.5)
            assert channels[left].closed == 1_000_000 + left
        assert not world.clock.getDelayedCalls()

    def test_expired_already(self) -> None:
        """
        A channel whose access has expired before it is added closes at once, but not within the call.
        """
        world = World()
        channel = world.add(-5)
        assert channel.closed is None
        world.clock.advance(0)
        assert channel.closed is not None

    def test_clock_set_back(self) -> None:
        """
        If the system's clock is set back, a channel stays open until its time of day, and no longer.
        """
        world = World()
        channel = world.add(100)
        world.clock.advance(50)
        world.clock.step(-3600)
        world.clock.pump([10.0] * 364)
        assert channel.closed is None
        world.clock.advance(10)
        assert channel.closed == 1_000_100

    def test_clock_set_forward(self) -> None:
        """
        If the system's clock is set forward past the expiry, a channel closes within a minute.
        """
        world = World()
        channel = world.add(1800)
        world.clock.advance(50)
        world.clock.step(3600)
        world.clock.advance(9.5)
        assert channel.closed is None
        world.clock.advance(0.5)
        assert channel.closed is not None

    def test_disconnected_clients_are_forgotten(self) -> None:
        """
        Nothing is kept of channels whose clients disconnect, also while other channels stay open.
        """
        world = World()
        stays = world.add(1e9)
        for _ in range(1000):
            world.add(1e8).leave()
        assert len(world.expiries._heap) < 100
        stays.leave()
        assert not world.expiries._heap
        assert not world.expiries._channels
        assert not world.clock.getDelayedCalls()

    def test_closed_before_it_is_added(self) -> None:
        """
        Nothing is kept of a channel that is closed before it is added.
        """
        world = World()
        channel: Any = FakeChannel(world.clock)
        channel.leave()
        world.expiries.end_at(channel, 5.0)
        assert not world.clock.getDelayedCalls()

    def test_closed_before_it_expires(self) -> None:
        """
        The expiry of a channel that is closed already has no effect on other channels.
        """
        world = World()
        closed, stays = world.add(10), world.add(20)
        closed.leave()
        world.clock.advance(10)
        assert stays.closed is None
        world.clock.advance(10)
        assert stays.closed is not None

    def test_many_at_once(self) -> None:
        """
        When many channels expire at the same time, the reactor gets turns before all of them are closed.
        """
        world = World()
        channels = [world.add(10) for _ in range(600)]
        counts: list[int] = []

        def count(_: object) -> None:
            counts.append(sum(channel.closed is not None for channel in channels))

        channels[0].when_closed().addCallback(lambda _: world.clock.callLater(0, count, None))
        world.clock.advance(10)
        count(None)
        assert 0 < counts[0] < counts[1] == 600
        assert not world.clock.getDelayedCalls()

    def test_channel_that_fails(self) -> None:
        """
        A channel whose close raises does not keep the others from being closed.
        """
        world = World()
        world.add(10, RuntimeError("cannot close"))
        other = world.add(10)
        with pytest.raises(RuntimeError, match="cannot close"):
            world.clock.advance(10)
        world.clock.advance(0)
        assert other.closed is not None

    @settings(derandomize=True, deadline=None)
    @given(
        st.lists(st.integers(0, 300), min_size=1, max_size=10),
        st.lists(st.tuples(st.integers(-500, 500), st.integers(0, 200)), max_size=10),
    )
    def test_any_steps_of_the_clock(self, lefts: list[int], steps: list[tuple[int, int]]) -> None:
        """
        However the clock is set, no channel closes before its access expires, nor later than a minute after.
        """
        world = World()
        channels = [(world.clock.wall() + left, world.add(left)) for left in lefts]
        overdue = dict.fromkeys(range(len(channels)), 0)
        for step, seconds in [*steps, (0, 0)]:
            world.clock.step(step)
            for _ in range(seconds):
                for number, (expires, channel) in enumerate(channels):
                    late = channel.closed is None and world.clock.wall() >= expires
                    overdue[number] = overdue[number] + 1 if late else 0
                    assert overdue[number] <= 60
                world.clock.advance(1)
        for expires, channel in channels:
            assert channel.closed is None or channel.closed >= expires
            if channel.closed is None:
                channel.leave()
        assert not world.clock.getDelayedCalls()

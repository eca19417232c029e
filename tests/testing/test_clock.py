"""
``WallClock``, and streams, hubs and clients while the wall-clock time is set.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from txsse import CloseReason, Hub, SSEResource, Upgrader
from txsse._clock import wall
from txsse.testing import MemoryPair, WallClock

STEPS = [-3600, 3600]


class WallClockTests:
    def test_clocks(self) -> None:
        """
        A ``WallClock`` advances its timers and its wall-clock time together, and ``step`` sets only the
        latter.
        """
        clock = WallClock()
        clock.advance(10)
        assert clock.seconds() == clock.wall() == wall(clock) == 10
        clock.step(-3)
        clock.advance(1)
        assert (clock.seconds(), clock.wall()) == (11, 8)


@pytest.mark.parametrize("step", STEPS)
class SetClockTests:
    def test_keepalive(self, step: float) -> None:
        """
        Keep-alive comments continue when the wall-clock time jumps: a client with a read timeout stays
        connected.
        """
        clock = WallClock()
        resource = SSEResource(lambda channel: None, upgrader=Upgrader(reactor=clock, keepalive=15.0))
        pair = MemoryPair(resource, clock=clock, read_timeout=20.0)
        for _ in range(10):
            clock.step(step)
            clock.pump([1.0] * 15)
        assert not pair.errors
        assert pair.agent.connections == 1

    def test_deadlines(self, step: float) -> None:
        """
        When the wall-clock time jumps, a client still disconnects after its read timeout and reconnects after
        its delay.
        """
        clock = WallClock()
        resource = SSEResource(lambda channel: None, upgrader=Upgrader(reactor=clock, keepalive=None))
        pair = MemoryPair(resource, clock=clock, read_timeout=20.0, retry=5.0)
        clock.step(step)
        clock.pump([1.0] * 19)
        assert not pair.errors
        clock.pump([1.0] * 2)
        assert len(pair.errors) == 1
        assert not pair.agent.connections
        clock.step(step)
        clock.pump([1.0] * 6)
        assert pair.agent.connections == 1

    def test_max_lifetime(self, step: float) -> None:
        """
        A stream ends after its ``max_lifetime``, even if the wall-clock time jumps.
        """
        clock = WallClock()
        reasons: list[CloseReason] = []

        class Opened(SSEResource):
            def channel_opened(self, channel: object) -> None:
                channel.when_closed().addCallback(reasons.append)  # type: ignore[attr-defined]

        pair = MemoryPair(Opened(upgrader=Upgrader(reactor=clock, max_lifetime=100.0)), clock=clock)
        clock.step(step)
        clock.pump([1.0] * 79)
        assert not reasons
        clock.pump([1.0] * 22)
        assert reasons == [CloseReason.MAX_LIFETIME]
        pair.source.close()

    def test_resuming(self, step: float) -> None:
        """
        A client that was disconnected while the wall-clock time was set gets every update once, in order.
        """
        clock = WallClock()
        hub = Hub(reactor=clock)
        pair = MemoryPair(hub.resource("news"), clock=clock, retry=1.0)
        for number in range(12):
            if number % 4 == 1:
                pair.agent.cut()
            if number % 4 == 2:
                clock.step(step)
            hub.publish("news", str(number))
            clock.advance(0.5)
        clock.pump([1.0] * 5)
        assert [event.data for event in pair.events] == [str(number) for number in range(12)]
        ids = [event.id or "" for event in pair.events]
        assert ids == sorted(set(ids))

    def test_drain(self, step: float) -> None:
        """
        A hub with a client that does not read stops at its deadline, even if the wall-clock time jumps.
        """
        clock = WallClock()
        hub = Hub(reactor=clock, upgrader=Upgrader(reactor=clock, flush_timeout=1000.0))
        stuck: Deferred[None] = Deferred()
        pair = MemoryPair(hub.resource("news"), clock=clock, event_received=lambda event: stuck)
        for _ in range(20):
            hub.publish("news", "x" * 65536)
            clock.advance(0)
        stopped: list[object] = []
        hub.stop(deadline=10.0).addCallback(stopped.append)
        clock.advance(0)
        clock.step(step)
        clock.pump([1.0] * 9)
        assert not stopped
        clock.pump([1.0] * 2)
        assert len(stopped) == 1
        pair.source.close()

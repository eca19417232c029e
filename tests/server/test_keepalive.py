"""
Tests of the keep-alive clock, one timer wheel for all idle channels.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from txsse.server.keepalive import SLOTS, KeepaliveClock, NoKeepalive


class Silent:
    """
    A channel that records the times of its keep-alives.
    """

    def __init__(self, clock: Clock) -> None:
        self.spoke = 0
        self.slot = 0
        self.times: list[float] = []
        self._clock = clock

    def keepalive_due(self) -> None:
        self.times.append(self._clock.seconds())


def setting(interval: float = 16.0) -> tuple[Clock, KeepaliveClock]:
    clock = Clock()
    return clock, KeepaliveClock(clock, interval)


class KeepaliveClockTests:
    def test_silent_channel(self) -> None:
        """
        The keep-alive clock calls a silent channel once per interval.
        """
        clock, keepalive = setting()
        channel = Silent(clock)
        keepalive.add(channel)
        clock.pump([0.5] * 100)
        assert channel.times == [16, 32, 48]

    def test_channel_added_between_two_turns(self) -> None:
        """
        A channel added between two turns of the clock is called within the interval, and not much before its
        end.
        """
        clock, keepalive = setting()
        keepalive.add(Silent(clock))
        clock.advance(0.7)
        channel = Silent(clock)
        keepalive.add(channel)
        clock.pump([0.1] * 160)
        assert 15.7 <= channel.times[0] <= 16.7

    def test_channel_that_sends(self) -> None:
        """
        The keep-alive clock calls a channel one interval after it last sent.
        """
        for sent_at in range(40):
            clock, keepalive = setting()
            channel = Silent(clock)
            keepalive.add(channel)
            for _ in range(sent_at):
                channel.spoke = keepalive.now
                clock.advance(1)
            channel.spoke = keepalive.now
            clock.pump([1] * 20)
            assert channel.times[0] == sent_at + 16
            keepalive.remove(channel)

    def test_one_timer_for_all(self) -> None:
        """
        The keep-alive clock has one delayed call for any number of channels, and none without channels.
        """
        clock, keepalive = setting()
        channels = [Silent(clock) for _ in range(100)]
        for channel in channels:
            keepalive.add(channel)
            clock.advance(0.3)
            assert len(clock.getDelayedCalls()) == 1
        for channel in channels:
            assert len(clock.getDelayedCalls()) == 1
            keepalive.remove(channel)
        assert clock.getDelayedCalls() == []

    def test_channel_that_was_removed(self) -> None:
        """
        The keep-alive clock does not call a removed channel, and starts again with the next one.
        """
        clock, keepalive = setting()
        removed, channel = Silent(clock), Silent(clock)
        keepalive.add(removed)
        clock.advance(5)
        keepalive.remove(removed)
        clock.advance(100)
        keepalive.add(channel)
        clock.pump([1] * 16)
        assert removed.times == []
        assert channel.times == [121]

    @pytest.mark.slow
    def test_many_due_at_once(self) -> None:
        """
        Many channels due at once are called in slices, with turns of the reactor between, each channel once.
        """
        clock, keepalive = setting()
        turns: list[int] = []

        def turn() -> None:
            turns.append(sum(bool(channel.times) for channel in channels))
            if turns[-1] < 2000:
                clock.callLater(0, turn)

        class First(Silent):
            def keepalive_due(self) -> None:
                super().keepalive_due()
                if sum(bool(channel.times) for channel in channels) == 1:
                    clock.callLater(0, turn)

        channels = [First(clock) for _ in range(2000)]
        for channel in channels:
            keepalive.add(channel)
        clock.pump([1] * 16)
        assert turns == [512, 1024, 1536, 2000]
        assert all(channel.times == [16] for channel in channels)
        clock.pump([1] * 16)
        assert all(channel.times == [16, 32] for channel in channels)

    def test_channels_added_and_removed_in_a_call(self) -> None:
        """
        The keep-alive clock continues if a call adds and removes channels, with one delayed call.
        """
        clock, keepalive = setting()
        late = Silent(clock)

        class Leaving(Silent):
            def keepalive_due(self) -> None:
                super().keepalive_due()
                keepalive.remove(self)
                if late.slot == 0:
                    keepalive.add(late)

        leaving = Leaving(clock)
        keepalive.add(leaving)
        clock.pump([1] * 16)
        assert leaving.times == [16]
        assert len(clock.getDelayedCalls()) == 1
        clock.pump([1] * 16)
        assert late.times == [32]
        keepalive.remove(late)
        assert clock.getDelayedCalls() == []

    def test_last_channel_removed_in_a_call(self) -> None:
        """
        If a call removes the last channel, no delayed call stays in the reactor.
        """
        clock, keepalive = setting()

        class Leaving(Silent):
            def keepalive_due(self) -> None:
                keepalive.remove(self)

        keepalive.add(Leaving(clock))
        clock.pump([1] * 17)
        assert clock.getDelayedCalls() == []

    def test_channel_that_fails(self) -> None:
        """
        The keep-alive clock logs the failure of a channel and calls the others as usual.
        """
        clock, keepalive = setting()

        class Failing(Silent):
            def keepalive_due(self) -> None:
                raise ZeroDivisionError

        channels = [Failing(clock), Silent(clock), Failing(clock), Silent(clock)]
        for channel in channels:
            keepalive.add(channel)
        logged: list[LogEvent] = []
        globalLogPublisher.addObserver(logged.append)  # type: ignore[arg-type]
        try:
            clock.pump([1] * 32)
        finally:
            globalLogPublisher.removeObserver(logged.append)  # type: ignore[arg-type]
        assert channels[1].times == channels[3].times == [16, 32]
        failures = [event for event in logged if "log_failure" in event]
        assert len(failures) == 4

    def test_reactor_that_was_late(self) -> None:
        """
        After a long delay of the reactor, each channel is called once: one interval is made up for.
        """

        class Strict(Clock):
            def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:  # noqa: N802
                # Twisted's reactors refuse what this fake one takes.
                assert delay >= 0
                return super().callLater(delay, callable, *args, **kw)

        clock = Strict()
        keepalive = KeepaliveClock(clock, 16.0)
        channel = Silent(clock)
        keepalive.add(channel)
        clock.advance(3600)
        for _ in range(100):
            clock.advance(0)
        assert len(channel.times) == 1
        clock.pump([1] * 16)
        assert len(channel.times) == 2

    def test_slots_cover_the_interval(self) -> None:
        """
        The first keep-alive is due after the interval, even if the interval is a fraction of a second.
        """
        clock, keepalive = setting(0.4)
        channel = Silent(clock)
        keepalive.add(channel)
        clock.pump([0.4 / SLOTS] * (SLOTS + 1))
        assert channel.times[0] == pytest.approx(0.4)


class NoKeepaliveTests:
    def test_nothing_happens(self) -> None:
        """
        NoKeepalive accepts channels and never calls them.
        """
        none = NoKeepalive()
        channel = Silent(Clock())
        none.add(channel)
        none.remove(channel)
        assert channel.times == []

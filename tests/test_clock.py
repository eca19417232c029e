"""
The reactor's clock is steady, so that timers survive a change of the system's time; dates come from the
system's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import asyncioreactor, pollreactor, selectreactor
from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock, LoopingCall

from txsse import _clock
from txsse._clock import make_steady, wall
from txsse._reactor import global_reactor

try:
    from twisted.internet import epollreactor
except ImportError:
    epollreactor = None  # type: ignore[assignment]


class System:
    """
    The system's clocks, in place of the module ``time``.
    """

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.up = 50.0

    def time(self) -> float:
        return self.now

    def clock_gettime(self, clock: int) -> float:
        return self.up

    def monotonic(self) -> float:
        return self.up / 2

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.up += seconds


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    made = System()
    monkeypatch.setattr(_clock, "time", made)
    monkeypatch.setattr(_clock, "_BOOTTIME", 7)
    # The reactor's clock before it is made steady.
    monkeypatch.setattr(ReactorBase, "seconds", staticmethod(made.time))
    monkeypatch.setattr(_clock, "default_seconds", ReactorBase.seconds)
    return made


def _asyncio_reactor() -> ReactorBase:
    return asyncioreactor.AsyncioSelectorReactor(asyncio.SelectorEventLoop())


KINDS: dict[str, Callable[[], Any]] = {
    "poll": pollreactor.PollReactor,
    "select": selectreactor.SelectReactor,
    "asyncio": _asyncio_reactor,
}
if epollreactor is not None:
    KINDS["epoll"] = epollreactor.EPollReactor


@pytest.fixture(params=KINDS)
def reactor(request: pytest.FixtureRequest, system: System) -> Iterator[Any]:
    """
    Make a reactor of each kind, and do not install it.
    """
    made: Any = KINDS[request.param]()
    yield made
    for call in made.getDelayedCalls():
        call.cancel()
    for reader in list(made._internalReaders):
        made.removeReader(reader)
        reader.connectionLost(None)
    loop = getattr(made, "_asyncioEventloop", None)
    if loop is not None:
        loop.close()


class MakeSteadyTests:
    @pytest.mark.parametrize("step", [-3600, 3600])
    def test_timers(self, reactor: Any, system: System, step: float) -> None:
        """
        A timer fires after its delay, even if the system's time is set meanwhile.
        """
        assert make_steady(reactor) is reactor
        called: list[str] = []
        reactor.callLater(10, called.append, "later")
        system.pass_by(4)
        system.now += step
        reactor.runUntilCurrent()
        assert not called
        assert reactor.timeout() == 6
        reactor.callLater(0, called.append, "at once")
        reactor.runUntilCurrent()
        assert called == ["at once"]
        system.pass_by(6)
        reactor.runUntilCurrent()
        assert called == ["at once", "later"]

    @pytest.mark.parametrize("step", [-3600, 3600])
    def test_earlier_timers(self, reactor: Any, system: System, step: float) -> None:
        """
        A timer that was set before the clock was made steady keeps its delay, even if it is reset later.
        """
        called: list[str] = []
        reactor.callLater(10, called.append, "kept")
        renewed = reactor.callLater(10, called.append, "renewed")
        reactor.timeout()
        waiting = reactor.callLater(10, called.append, "waiting")
        make_steady(reactor)
        system.now += step
        system.pass_by(5)
        renewed.reset(10)
        waiting.reset(7)
        system.pass_by(5)
        reactor.runUntilCurrent()
        assert called == ["kept"]
        system.pass_by(2)
        reactor.runUntilCurrent()
        assert called == ["kept", "waiting"]
        system.pass_by(3)
        reactor.runUntilCurrent()
        assert called == ["kept", "waiting", "renewed"]

    def test_looping_call(self, reactor: Any, system: System) -> None:
        """
        A LoopingCall keeps its interval, and counts no intervals that did not pass, if the system's time is
        set.
        """
        make_steady(reactor)
        counts: list[int] = []
        looping = LoopingCall.withCount(counts.append)
        looping.clock = reactor
        looping.start(10, now=False)
        for step in (-3600, 7200, 0):
            system.now += step
            system.pass_by(10)
            reactor.runUntilCurrent()
        looping.stop()
        assert counts == [1, 1, 1]

    def test_same_as_wall_clock(self, reactor: Any, system: System) -> None:
        """
        A steady clock equals the system's time until that is set.
        """
        make_steady(reactor)
        system.pass_by(123)
        assert reactor.seconds() == system.now == wall(reactor)

    def test_done_twice(self, reactor: Any, system: System) -> None:
        """
        Making a clock steady twice is the same as once.
        """
        make_steady(reactor)
        system.now += 3600
        before = reactor.seconds()
        make_steady(reactor)
        assert reactor.seconds() == before

    def test_clock_of_the_program(self, reactor: Any, system: System) -> None:
        """
        A reactor whose ``seconds`` a program has replaced keeps that clock, even if it is the system's time.
        """
        reactor.seconds = own = system.time
        make_steady(reactor)
        assert reactor.seconds is own

    def test_clock_of_the_class(self) -> None:
        """
        A reactor whose class defines its own clock keeps it.
        """

        class Own(selectreactor.SelectReactor):
            def __init__(self) -> None:
                # Without the sockets of the base class, which the test would have to close.
                pass

            def seconds(self) -> float:  # type: ignore[override]
                return 5.0

        own = Own()
        assert make_steady(own).seconds() == 5.0
        assert not vars(own)

    def test_fake_clock(self) -> None:
        """
        A fake clock is not changed.
        """
        clock = Clock()
        make_steady(clock)
        clock.advance(5)
        assert clock.seconds() == 5.0

    def test_system_without_boottime(self, monkeypatch: pytest.MonkeyPatch, system: System) -> None:
        """
        The steady clock is the monotonic one on a system without CLOCK_BOOTTIME.
        """
        monkeypatch.setattr(_clock, "_BOOTTIME", None)
        seconds = _clock._make_seconds()
        system.pass_by(10)
        assert seconds() == system.now - 5

    def test_global_reactor(self) -> None:
        """
        ``global_reactor`` returns a reactor with a steady clock.
        """
        assert "steady_seconds" in repr(vars(global_reactor())["seconds"])


class WallTests:
    def test_reactor(self, reactor: Any, system: System) -> None:
        """
        ``wall`` returns the system's time, whatever clock the reactor has.
        """
        make_steady(reactor)
        system.now -= 3600
        assert wall(reactor) == system.now
        reactor.seconds = lambda: 5.0
        assert wall(reactor) == system.now

    def test_fake_clock(self) -> None:
        """
        ``wall`` of a fake clock returns that clock's time.
        """
        clock = Clock()
        clock.advance(5)
        assert wall(clock) == 5.0

"""
A steady clock for timers, and the wall's for dates.
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
    The clocks of a system, in the place of the module ``time``.
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
    # What a reactor's own clock is before.
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
    A reactor of each kind, which nobody has installed.
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
        A timer comes after its delay, however the system's time is set meanwhile.
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
    def test_timers_that_were_there(self, reactor: Any, system: System, step: float) -> None:
        """
        A timer that was set before keeps its delay, and so does one that is reset later.
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
        It goes on, and counts no intervals that have not been.
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

    def test_reads_like_the_wall(self, reactor: Any, system: System) -> None:
        """
        Until the system's time is set, nobody sees a difference.
        """
        make_steady(reactor)
        system.pass_by(123)
        assert reactor.seconds() == system.now == wall(reactor)

    def test_done_twice(self, reactor: Any, system: System) -> None:
        """
        The second time changes nothing.
        """
        make_steady(reactor)
        system.now += 3600
        before = reactor.seconds()
        make_steady(reactor)
        assert reactor.seconds() == before

    def test_clock_of_the_program(self, reactor: Any, system: System) -> None:
        """
        A reactor that a program has given a clock keeps it, even if that is the wall's.
        """
        reactor.seconds = own = system.time
        make_steady(reactor)
        assert reactor.seconds is own

    def test_clock_of_the_class(self) -> None:
        """
        A reactor whose class has a clock of its own keeps it.
        """

        class Own(selectreactor.SelectReactor):
            def __init__(self) -> None:
                # Without sockets, which nobody would close.
                pass

            def seconds(self) -> float:  # type: ignore[override]
                return 5.0

        own = Own()
        assert make_steady(own).seconds() == 5.0
        assert not vars(own)

    def test_fake(self) -> None:
        """
        A fake clock stays as it is.
        """
        clock = Clock()
        make_steady(clock)
        clock.advance(5)
        assert clock.seconds() == 5.0

    def test_system_without_boottime(self, monkeypatch: pytest.MonkeyPatch, system: System) -> None:
        """
        The monotonic clock is taken where there is no other.
        """
        monkeypatch.setattr(_clock, "_BOOTTIME", None)
        seconds = _clock._make_seconds()
        system.pass_by(10)
        assert seconds() == system.now - 5

    def test_global_reactor(self) -> None:
        """
        The reactor that is fetched is a steady one.
        """
        assert "steady_seconds" in repr(vars(global_reactor())["seconds"])


class WallTests:
    def test_reactor(self, reactor: Any, system: System) -> None:
        """
        It is the system's time, whatever clock the reactor has.
        """
        make_steady(reactor)
        system.now -= 3600
        assert wall(reactor) == system.now
        reactor.seconds = lambda: 5.0
        assert wall(reactor) == system.now

    def test_fake(self) -> None:
        """
        A fake clock is its own wall.
        """
        clock = Clock()
        clock.advance(5)
        assert wall(clock) == 5.0

"""
Work by slices.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.fakes import FakeReactor
from tests.hub.fakes import turn
from txsse._timeslice import TimeSlices


def work(
    reactor: FakeReactor, turns: TimeSlices, name: str, done: list[str], times: int, seconds: float
) -> None:
    """
    Work as often as that, each time for so long.
    """

    async def work() -> None:
        for _ in range(times):
            if turns.is_over:
                await turns.wait()
            done.append(name)
            reactor.rightNow += seconds

    Deferred.fromCoroutine(work())


def test_time_is_left() -> None:
    """
    Who takes no time does not wait.
    """
    reactor = FakeReactor()
    done: list[str] = []
    work(reactor, TimeSlices(reactor), "a", done, 100, 0.0)
    assert len(done) == 100


def test_at_most_ten_milliseconds_a_turn() -> None:
    """
    Whoever works for longer goes on in the next turn, and the one after that.
    """
    reactor = FakeReactor()
    done: list[str] = []
    work(reactor, TimeSlices(reactor), "a", done, 50, 0.001)
    counts: list[int] = []
    while not counts or counts[-1] < 50:
        counts.append(len(done))
        turn(reactor)
        assert len(counts) < 100
    assert counts[:3] == [10, 20, 30]
    turn(reactor)
    assert reactor.getDelayedCalls() == []


def test_one_after_the_other() -> None:
    """
    Those who wait take turns: none of them works twice before all have worked once.
    """
    reactor = FakeReactor()
    done: list[str] = []
    turns = TimeSlices(reactor)
    for name in "abc":
        work(reactor, turns, name, done, 3, 0.02)
    while len(done) < 9:
        turn(reactor)
    # The first one has worked before there was anybody to wait for.
    assert "".join(done) == "a" + "abc" + "abc" + "bc"


def test_another_turn() -> None:
    """
    A turn that has come by itself begins with all of its time.
    """
    reactor = FakeReactor()
    turns = TimeSlices(reactor)
    assert not turns.is_over
    reactor.rightNow += 1
    assert turns.is_over
    turn(reactor)
    assert not turns.is_over

"""
Long work in slices: at most ten milliseconds in a reactor turn, shared by all workers.
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
    Start a worker that works ``times`` times, for ``seconds`` each time.
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
    A worker that uses no time does not wait for the next reactor turn.
    """
    reactor = FakeReactor()
    done: list[str] = []
    work(reactor, TimeSlices(reactor), "a", done, 100, 0.0)
    assert len(done) == 100


def test_at_most_ten_milliseconds_a_turn() -> None:
    """
    A worker that needs more than ten milliseconds continues in the next reactor turns.
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


def test_workers_take_turns() -> None:
    """
    Workers that wait take turns: none works a second time before all others have worked once.
    """
    reactor = FakeReactor()
    done: list[str] = []
    turns = TimeSlices(reactor)
    for name in "abc":
        work(reactor, turns, name, done, 3, 0.02)
    while len(done) < 9:
        turn(reactor)
    # The first worker worked before the others started.
    assert "".join(done) == "a" + "abc" + "abc" + "bc"


def test_new_reactor_turn() -> None:
    """
    A new reactor turn begins with all of its time.
    """
    reactor = FakeReactor()
    turns = TimeSlices(reactor)
    assert not turns.is_over
    reactor.rightNow += 1
    assert turns.is_over
    turn(reactor)
    assert not turns.is_over

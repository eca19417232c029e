"""
Publishes for some time: ``python -m recording.programs.publisher CONTESTANT PLACE IN_FLIGHT SECONDS COUNT``.

The journal is full before it is measured, as one is whose process runs for a while: for each update that
comes, one goes. It prints a line when measuring begins, and its figures in the end.
"""

from __future__ import annotations

import sys
import time
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react

from recording.contestants import named
from recording.programs.load import Load, quantile
from recording.programs.making import TOPIC, make_journal, record_alone, tell
from txsse import Hub

_DATA = "x" * 100

# A Redis keeps so many that are given up for those who are late, and is full only then.
_LATE = 1_500

# What is compiled at run time is compiled then, and the disk has got used to it.
_WARM_UP = 0.5


async def measure(
    clock: IReactorTime, name: str, place: str, in_flight: int, seconds: float, count: int
) -> None:
    """
    Publish, and tell what it took.
    """
    contestant = named(name)
    hub = Hub(journal=make_journal(contestant, place, count))
    await hub.start()
    publish = partial(hub.publish, TOPIC, _DATA)
    filling = Load(publish, clock, in_flight=1000, count=count + _LATE)
    filling.begin()
    await filling.when_finished()
    record_alone(contestant)
    load = Load(publish, clock, in_flight=in_flight)
    load.begin()
    await deferLater(clock, _WARM_UP)
    tell("begun")
    del load.latencies[:]
    began, cpu, reactors = time.perf_counter(), time.process_time(), time.thread_time()
    await deferLater(clock, seconds)
    took, updates = time.perf_counter() - began, len(load.latencies)
    figures = {
        "rate": updates / took,
        "cpu": (time.process_time() - cpu) / updates,
        "reactor": (time.thread_time() - reactors) / updates,
        "p50": quantile(load.latencies, 0.5),
        "p99": quantile(load.latencies, 0.99),
        "longest": max(load.latencies),
        "updates": updates,
    }
    await load.end()
    tell(figures)
    await hub.stop()


def main() -> None:
    name, place, in_flight, seconds, count = sys.argv[1:]

    def begin(clock: IReactorTime) -> Deferred[None]:
        work = measure(clock, name, place, int(in_flight), float(seconds), int(count))
        return Deferred.fromCoroutine(work)

    react(begin)


if __name__ == "__main__":
    main()

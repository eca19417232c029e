"""
Publish for some time: ``python -m recording.programs.publisher CONTESTANT PLACE IN_FLIGHT SECONDS COUNT``.

The journal is filled before the measurement, because in a process that has run for some time each new update
replaces the oldest. The program prints a line when the measurement begins, and its figures at the end.
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
from recording.programs.making import TOPIC, make_journal, record_alone, report
from txsse import Hub

_DATA = "x" * 100

# A journal in Redis keeps so many deleted updates for slow nodes, and is full only after these.
_LATE = 1_500

# Seconds of publishing before the measurement: code is compiled at run time, and the disk becomes steady.
_WARM_UP = 0.5


async def measure(
    clock: IReactorTime, name: str, place: str, in_flight: int, seconds: float, count: int
) -> None:
    """
    Publish, and report the figures.
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
    report("begun")
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
    report(figures)
    await hub.stop()


def main() -> None:
    name, place, in_flight, seconds, count = sys.argv[1:]

    def begin(clock: IReactorTime) -> Deferred[None]:
        work = measure(clock, name, place, int(in_flight), float(seconds), int(count))
        return Deferred.fromCoroutine(work)

    react(begin)


if __name__ == "__main__":
    main()

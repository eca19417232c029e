"""
The scenarios that servers are measured in. Each gets a new server and a new load generator, and returns its
figures: times in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from shared.processes import Failed
from shared.results import Figures

from fanout.bench import Bench
from fanout.contestants import Asked


@dataclass(frozen=True)
class Sizes:
    """
    The numbers of subscribers, events and seconds of all scenarios.
    """

    subscribers: int = 1_000
    turns: int = 300
    bursts: int = 60
    burst: int = 16
    single: int = 200_000
    single_burst: int = 100
    idle: int = 10_000
    # Two or three keep-alives for each subscriber.
    idle_seconds: float = 45
    keepalive: float = 15
    paced: int = 200
    few: int = 5_000
    many: int = 19_000
    # Deliveries in each half of the scenario "many".
    many_deliveries: int = 190_000
    opened: int = 10_000
    topics: int = 1_000_000
    topic_turns: int = 20_000
    channels: int = 100_000
    channel_deliveries: int = 2_000_000
    sockets: int = 9_000

    def within(self, files: int) -> Sizes:
        """
        Return these sizes with at most so many connections at a time as there can be open files.
        """
        names = ("subscribers", "idle", "few", "many", "opened", "sockets")
        return replace(self, **{name: min(getattr(self, name), files) for name in names})


QUICK = Sizes(
    turns=50,
    bursts=10,
    single=20_000,
    idle=500,
    idle_seconds=2,
    keepalive=1,
    paced=20,
    few=500,
    many=2_000,
    many_deliveries=6_000,
    opened=1_000,
    topics=10_000,
    topic_turns=2_000,
    channels=5_000,
    channel_deliveries=50_000,
    sockets=500,
)


def _deliver(bench: Bench, asked: Asked, subscribers: int) -> Figures:
    # Warm up: code is compiled at run time, and socket buffers grow.
    bench.publish(replace(asked, turns=max(1, asked.turns // 10)))
    found = bench.publish(asked)
    count = asked.turns * asked.burst * subscribers
    if found.events != count:
        raise Failed(f"{found.events} deliveries of {count}")
    return {
        "cpu": found.cpu.total / count,
        "user": found.cpu.user / count,
        "system": found.cpu.system / count,
        "load": found.load_cpu / count,
        "rate": count / found.seconds,
        "p50": found.p50,
        "p99": found.p99,
        "longest": found.longest,
        # Below 1 if the load generator read several events at a time.
        "reads": found.reads / count,
    }


def fanout(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure 1,000 subscribers, one event per turn.
    """
    bench.connect(sizes.subscribers)
    return _deliver(bench, Asked(turns=sizes.turns), sizes.subscribers)


def burst(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure 1,000 subscribers, 16 events per turn.
    """
    bench.connect(sizes.subscribers)
    return _deliver(bench, Asked(turns=sizes.bursts, burst=sizes.burst), sizes.subscribers)


def single(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure one subscriber, with events as fast as possible.
    """
    bench.connect(1)
    return _deliver(bench, Asked(turns=sizes.single // sizes.single_burst, burst=sizes.single_burst), 1)


def idle(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure idle subscribers, which receive only keep-alives.
    """
    bench.connect(sizes.idle)
    cpu, comments = bench.watch(sizes.idle_seconds)
    if comments < sizes.idle * (sizes.idle_seconds // sizes.keepalive) * 0.9:
        raise Failed(f"only {comments} keep-alives")
    return {
        "cpu": cpu.total / sizes.idle_seconds,
        "user": cpu.user / sizes.idle_seconds,
        "system": cpu.system / sizes.idle_seconds,
        "comments": comments / sizes.idle,
    }


def paced(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure the latency of 1,000 subscribers, 20 events a second.
    """
    bench.connect(sizes.subscribers)
    return _deliver(bench, Asked(turns=sizes.paced, interval=0.05), sizes.subscribers)


def memory(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure the memory of an idle subscriber.
    """
    # Do not count modules and caches that the first requests load.
    bench.connect(10)
    before = bench.settled_resident()
    bench.connect(sizes.few)
    few = bench.settled_resident()
    bench.connect(sizes.many - sizes.few)
    many = bench.settled_resident()
    return {
        "few": (few - before) / sizes.few,
        "many": (many - before) / sizes.many,
        "before": before,
    }


def connect(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure opening connections.
    """
    bench.connect(min(100, sizes.opened))
    cpu, seconds = bench.connect(sizes.opened)
    return {
        "cpu": cpu.total / sizes.opened,
        "user": cpu.user / sizes.opened,
        "system": cpu.system / sizes.opened,
        "rate": sizes.opened / seconds,
    }


def many(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure 1,000 subscribers, and as many as there can be open files.

    The events are paced, so that each has been sent before the next is published, however long that takes.
    """
    figures: dict[str, float] = {}
    there = 0
    for name, subscribers in (("few", sizes.subscribers), ("many", sizes.many)):
        bench.connect(subscribers - there)
        there = subscribers
        asked = Asked(turns=max(2, sizes.many_deliveries // subscribers), interval=subscribers * 60e-6)
        found = _deliver(bench, asked, subscribers)
        figures |= {name: found["cpu"], f"{name}_p99": found["p99"], f"{name}_longest": found["longest"]}
    figures["ratio"] = figures["many"] / figures["few"]
    # Measuring pauses costs CPU, so it runs separately.
    return figures | bench.publish(replace(asked, turns=5, watch=True)).answer


@dataclass(frozen=True)
class Scenario:
    """
    A scenario.

    :ivar run: runs it.
    :ivar most_rounds: the maximal number of rounds: some scenarios are long and hardly vary.
    """

    name: str
    run: Callable[[Bench, Sizes], Figures]
    most_rounds: int = 100


ALL = (
    Scenario("fanout", fanout),
    Scenario("burst", burst),
    Scenario("single", single),
    Scenario("idle", idle, most_rounds=2),
    Scenario("paced", paced, most_rounds=3),
    Scenario("memory", memory, most_rounds=2),
    Scenario("connect", connect),
    Scenario("many", many, most_rounds=3),
)

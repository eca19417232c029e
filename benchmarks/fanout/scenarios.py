"""
What the servers are put through. Each scenario gets a fresh server and a fresh load generator, and returns
its figures: times in seconds, sizes in bytes.
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
    How much of everything.
    """

    subscribers: int = 1_000
    turns: int = 300
    bursts: int = 60
    burst: int = 16
    single: int = 200_000
    single_burst: int = 100
    idle: int = 10_000
    # Two or three keep-alives of each.
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
        Have no more connections at a time than there can be open files.
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
    # What is compiled at run time is compiled now, and the buffers of the sockets have grown.
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
        # Less than one where the load generator had to read several events at a time.
        "reads": found.reads / count,
    }


def fanout(bench: Bench, sizes: Sizes) -> Figures:
    """
    1,000 subscribers, one event per turn.
    """
    bench.connect(sizes.subscribers)
    return _deliver(bench, Asked(turns=sizes.turns), sizes.subscribers)


def burst(bench: Bench, sizes: Sizes) -> Figures:
    """
    1,000 subscribers, 16 events per turn.
    """
    bench.connect(sizes.subscribers)
    return _deliver(bench, Asked(turns=sizes.bursts, burst=sizes.burst), sizes.subscribers)


def single(bench: Bench, sizes: Sizes) -> Figures:
    """
    One subscriber, events as fast as they go.
    """
    bench.connect(1)
    return _deliver(bench, Asked(turns=sizes.single // sizes.single_burst, burst=sizes.single_burst), 1)


def idle(bench: Bench, sizes: Sizes) -> Figures:
    """
    Subscribers that get nothing but the keep-alive.
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
    1,000 subscribers, 20 events a second.
    """
    bench.connect(sizes.subscribers)
    return _deliver(bench, Asked(turns=sizes.paced, interval=0.05), sizes.subscribers)


def memory(bench: Bench, sizes: Sizes) -> Figures:
    """
    What an idle subscriber takes.
    """
    # What the first request brings along, modules and caches, is none of the subscribers'.
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
    Connections opened.
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
    1,000 subscribers, and as many as there can be files.

    The events are paced, so that one has been sent before the next comes, however long that takes.
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
    # Watching has its price, so it comes by itself.
    return figures | bench.publish(replace(asked, turns=5, watch=True)).answer


@dataclass(frozen=True)
class Scenario:
    """
    A scenario.

    :ivar run: runs it.
    :ivar most_rounds: how often at most: some take long and hardly vary.
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

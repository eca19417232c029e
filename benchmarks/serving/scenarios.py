"""
The scenarios that servers are measured in. Each gets a new server and a new load generator, and returns its
figures: times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.results import Figures
from shared.rounds import Late

from serving.bench import Bench, Found
from serving.contestants import ALL as CONTESTANTS
from serving.contestants import Contestant
from serving.sizes import Sizes

__all__ = ["ALL", "Scenario"]

# The share of the requested rate that has to be reached; otherwise the latencies are those of another rate.
_KEPT = 0.95


def steady(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure publishing at a steady rate, on one connection.
    """
    bench.connect(sizes.subscribers)
    # Warm up: code is compiled at run time, and socket buffers grow.
    bench.publish(max(1, sizes.steady // 10), connections=1, rate=sizes.steady_rate)
    found = bench.publish(sizes.steady, connections=1, rate=sizes.steady_rate)
    figures = _figures(found, sizes.steady)
    if figures["rate"] < _KEPT * sizes.steady_rate:
        raise Late(f"only {figures['rate']:.0f} updates a second were acknowledged")
    return figures | {"p50": found.p50, "p99": found.p99, "longest": found.longest}


def fast(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure publishing as fast as possible, on several connections.
    """
    bench.connect(sizes.subscribers)
    found = _publish_fast(bench, sizes.fast, sizes.publishers)
    deliveries = sizes.fast * sizes.subscribers
    return _figures(found, sizes.fast) | {
        "deliveries": deliveries / found.seconds,
        "cpu_each": found.cpu.total / deliveries,
        "user_each": found.cpu.user / deliveries,
        "system_each": found.cpu.system / deliveries,
    }


def alone(bench: Bench, sizes: Sizes) -> Figures:
    """
    Measure publishing as fast as possible, without subscribers.
    """
    return _figures(_publish_fast(bench, sizes.alone, sizes.publishers), sizes.alone)


def _publish_fast(bench: Bench, count: int, connections: int) -> Found:
    bench.publish(max(connections, count // 10), connections=connections)
    return bench.publish(count, connections=connections)


def _figures(found: Found, count: int) -> dict[str, float]:
    return {
        "rate": count / found.answered,
        "cpu": found.cpu.total / count,
        "user": found.cpu.user / count,
        "system": found.cpu.system / count,
        # If this is near 1, the load generator limits the rate.
        "load": found.load / found.seconds,
    }


@dataclass(frozen=True)
class Scenario:
    """
    A scenario.

    :ivar run: runs it.
    :ivar contestants: the servers that take part.
    """

    name: str
    run: Callable[[Bench, Sizes], Figures]
    contestants: tuple[Contestant, ...]


_STREAMS = tuple(each for each in CONTESTANTS if each.streams)

ALL = (
    Scenario("steady", steady, _STREAMS),
    Scenario("fast", fast, _STREAMS),
    # Without subscribers, private updates do not differ from public ones.
    Scenario("alone", alone, tuple(each for each in CONTESTANTS if each.name != "private")),
)

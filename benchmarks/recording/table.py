"""
Format the results as reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from shared import tables
from shared.results import Results
from shared.tables import MICRO, MILLI, Column, wrapped

from recording import contestants
from recording.scenarios import IN_FLIGHT

__all__ = ["TABLES", "written"]

# The project's goal for a node, in updates per second into a Redis.
_AIM = 20_000


@dataclass(frozen=True, kw_only=True)
class Table(tables.Table):
    """
    The table of one scenario, without columns that have no figures.

    :ivar ratio: the figure that is compared.
    :ivar compared: the journal that all are compared with; ``alone`` for the same journal without batches.
    :ivar heading: the heading of the ratios.
    """

    names: ClassVar = {contestant.name: contestant.title for contestant in contestants.ALL}
    wraps_notes = True

    ratio: str
    compared: str
    heading: str

    def rows(self, results: Results) -> Iterator[list[str]]:
        there = set(results.servers(self.scenario))
        columns = [
            column
            for column in self.columns
            if any(results.median(self.scenario, name, column.key) is not None for name in there)
        ]
        yield ["journal", *self.headings(columns, results), self.heading]
        for name in filter(there.__contains__, self.names):
            other = f"{name}-alone" if self.compared == "alone" else self.compared
            ratio = results.ratio(self.scenario, name, other, self.ratio)
            yield [*self.cells(columns, name, results), tables.ratio_cell(ratio)]


_MIB = 1024.0 * 1024

_PUBLISH = (
    Column("rate", "1 per second", 1, 0),
    Column("p50", "p50, ms", MILLI, 2),
    Column("p99", "p99, ms", MILLI, 2),
    Column("longest", "max, ms", MILLI, 1),
    Column("cpu", "node, µs", MICRO, 1),
    Column("reactor", "its reactor, µs", MICRO, 1),
    Column("redis", "Redis, µs", MICRO, 1),
)

_NODES = (
    Column("rate", "1 per second", 1, 0),
    Column("deliveries", "deliveries, 1,000/s", 1e3, 0),
    Column("a_p50", "A: p50, ms", MILLI, 1),
    Column("a_p99", "p99", MILLI, 1),
    Column("b_p50", "B: p50, ms", MILLI, 1),
    Column("b_p99", "p99", MILLI, 1),
    Column("a_cpu", "A, µs", MICRO, 0),
    Column("b_cpu", "B, µs", MICRO, 0),
    Column("redis", "Redis, µs", MICRO, 0),
    Column("a_slow_replays", "A: slow_replays", 1, 0),
    Column("b_slow_replays", "B: slow_replays", 1, 0),
)

TABLES = (
    *(
        Table(
            f"publish-{in_flight}",
            f"Publishing, {in_flight:,} in flight",
            _PUBLISH,
            "The journals are full, so that each new update replaces the oldest. CPU for each update: of "
            "the node's process, of only its reactor's thread, and of the Redis. The last column is the rate "
            "in relation to that with one transaction, or one call, for each update.",
            ratio="rate",
            compared="alone",
            heading="to one each",
        )
        for in_flight in IN_FLIGHT
    ),
    Table(
        "steady",
        "Two nodes, {subscribers} subscribers each, {steady_rate:,} updates a second",
        _NODES,
        "{steady:,} updates, published at A. Latency from publishing until a subscriber has the update; CPU "
        "for each update.",
        ratio="a_p50",
        compared="memory",
        heading="p50 to one node",
    ),
    Table(
        "fast",
        "Two nodes, {subscribers} subscribers each, as fast as possible",
        _NODES,
        "{fast:,} updates, published at A, {fast_in_flight:,} in flight. Latency as above; most of it is "
        "waiting time.",
        ratio="rate",
        compared="memory",
        heading="to one node",
    ),
    Table(
        "storm",
        "A storm: {replayed:,} updates for each of {clients:,} clients that resume at once",
        (
            Column("seconds", "all, s", 1, 2),
            Column("half", "half, s", 1, 2),
            Column("rate", "1,000/s", 1e3, 0),
            Column("cpu", "CPU, s", 1, 2),
            Column("cpu_each", "CPU each, µs", MICRO, 2),
            Column("redis", "Redis, s", 1, 2),
            Column("pause", "pause, ms", MILLI, 0),
            Column("busy", "of CPU", MILLI, 0),
            Column("publish", "publish, ms", MILLI, 0),
            Column("resident", "memory, MiB", _MIB, 0),
            Column("peak", "peak", _MIB, 0),
            Column("clients", "clients", 1, 0),
        ),
        "Seconds until all clients, and until half of them, have all updates; delivered updates per second; "
        "the hub's CPU in all and for each update. The pause is the longest time between two calls of a "
        "timer of 5 ms, and next to it is the most CPU that the hub used between two calls; then the longest "
        "wait of a publisher that publishes other updates 20 times a second. Journals that hold no update in "
        "memory have {few_clients:,} clients.",
        ratio="cpu_each",
        compared="memory",
        heading="CPU to memory",
    ),
)


def written(results: Results) -> str:
    """
    Return the whole page.
    """
    disk = f"{results.sizes['disk']}, where 4 KiB take {results.sizes['sync'] * 1e3:.2f} ms to reach the disk"
    held = f"Journals hold {results.sizes['held']:,} updates; data have 100 bytes."
    introduction = [*wrapped(f"{tables.taken(results)}; {disk}. {held}"), "", *_aim(results)]
    return tables.written("journals.py", "Journal benchmark: all figures", introduction, TABLES, results)


def _aim(results: Results) -> Iterator[str]:
    scenario, name = f"publish-{max(IN_FLIGHT)}", "redis-everysec"
    rate, cpu = results.median(scenario, name, "rate"), results.median(scenario, name, "cpu")
    if rate and cpu:
        outcome = "reached" if rate >= _AIM else "missed"
        yield from wrapped(
            f"The goal of {_AIM:,} updates a second from one node into a Redis is {outcome}: {rate:,.0f}. "
            f"With a core to itself, the node could publish {1 / cpu:,.0f}."
        )
        yield ""

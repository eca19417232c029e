"""
Format the results as reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared import tables
from shared.results import Results
from shared.tables import KIB, MICRO, MILLI, PERCENT, Column

from fanout.contestants import NAMES

_SHORT = {"c": "C", "twisted": "Twisted"}


@dataclass(frozen=True)
class Table(tables.Table):
    """
    The table of one scenario. Servers are ordered and compared by its first column.

    :ivar compared: the servers that all others are compared with.
    """

    names = NAMES

    compared: tuple[str, ...] = ("c", "twisted")

    def rows(self, results: Results) -> Iterator[list[str]]:
        key = self.columns[0].key
        compared = [f"to {_SHORT[name]}" for name in self.compared]
        yield ["server", *self.headings(self.columns, results), *compared]
        for server in results.ranked(self.scenario, key):
            ratios = [results.ratio(self.scenario, server, other, key) for other in self.compared]
            yield [*self.cells(self.columns, server, results), *map(tables.ratio_cell, ratios)]


_CPU = (
    Column("cpu", "CPU, µs", MICRO, 2),
    Column("user", "user", MICRO, 2),
    Column("system", "system", MICRO, 2),
)
_RATE = Column("rate", "1,000/s", 1e3, 0)
_LATENCY = (
    Column("p50", "p50, ms", MILLI),
    Column("p99", "p99, ms", MILLI),
    Column("longest", "max, ms", MILLI),
)
_LOAD = Column("load", "load, µs", MICRO, 2)

TABLES = (
    Table("fanout", "{subscribers:,} subscribers, one event per turn", (*_CPU, _RATE, _LOAD)),
    Table("burst", "{subscribers:,} subscribers, {burst} events per turn", (*_CPU, _RATE, _LOAD)),
    Table(
        "single",
        "One subscriber, events as fast as possible",
        (*_CPU, _RATE, _LOAD),
        "{single:,} events, {single_burst} in each turn.",
    ),
    Table(
        "idle",
        "{idle:,} idle subscribers",
        (
            Column("cpu", "% of a core", PERCENT, 2),
            Column("user", "user", PERCENT, 2),
            Column("system", "system", PERCENT, 2),
        ),
        "A keep-alive every {keepalive:g} seconds, measured for {idle_seconds:g} seconds.",
    ),
    Table(
        "paced",
        "Latency at {subscribers:,} subscribers, 20 events a second",
        (Column("p99", "p99, ms", MILLI), _LATENCY[0], _LATENCY[2], *_CPU),
        "From the publication of an event until the load generator has received it.",
    ),
    Table(
        "memory",
        "Resident memory per idle subscriber, KiB",
        (Column("many", "at {many:,}", KIB), Column("few", "at {few:,}", KIB)),
        compared=("twisted",),
    ),
    Table("connect", "Connections opened", (*_CPU, Column("rate", "1 per second", 1, 0))),
    Table(
        "many",
        "{many:,} subscribers",
        (
            Column("many", "CPU, µs", MICRO, 2),
            Column("few", "at {subscribers:,}", MICRO, 2),
            Column("ratio", "ratio", 1, 2),
            Column("many_p99", "p99, ms", MILLI),
            Column("pause", "pause, ms", MILLI),
            Column("busy", "of CPU", MILLI),
        ),
        "CPU per delivery, paced. The pause is the longest time between two calls of a function that is "
        "scheduled every 5 ms; the last column is the server's CPU time meanwhile.",
    ),
    Table(
        "hundred-thousand",
        "{channels:,} subscribers in one process",
        (
            Column("many", "CPU, µs", MICRO, 2),
            Column("few", "at {subscribers:,}", MICRO, 2),
            Column("ratio", "ratio", 1, 2),
            Column("pause", "pause, ms", MILLI),
            Column("busy", "of CPU", MILLI),
        ),
        "CPU per delivery. All channels share {sockets:,} sockets, because of the limit on open files.",
        compared=(),
    ),
    Table(
        "topics",
        "{topics:,} topics, one publish to one of them",
        (
            Column("many", "CPU, µs", MICRO, 2),
            Column("few", "with 10", MICRO, 2),
            Column("ratio", "ratio", 1, 2),
        ),
        compared=(),
    ),
)


def written(results: Results) -> str:
    """
    Return the whole page.
    """
    return tables.written(
        "hub.py", "Hub benchmark: all figures", [f"{tables.taken(results)}.", ""], TABLES, results
    )

"""
Format the results as reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from shared import tables
from shared.results import Results
from shared.tables import MICRO, MILLI, PERCENT, Column, wrapped

from serving import contestants
from serving.sizes import SIZE

__all__ = ["TABLES", "written"]


@dataclass(frozen=True, kw_only=True)
class Table(tables.Table):
    """
    The table of one scenario.

    :ivar compared: the figures that are compared with nchan's, with the headings of the ratios.
    :ivar more: the figures of which a higher value is better.
    """

    names: ClassVar = {contestant.name: contestant.title for contestant in contestants.ALL}
    wraps_notes = wraps_failures = True

    compared: tuple[tuple[str, str], ...]
    more: tuple[str, ...] = ("rate", "deliveries")

    def rows(self, results: Results) -> Iterator[list[str]]:
        there = set(results.servers(self.scenario))
        compared = [heading for _, heading in self.compared]
        yield ["server", *self.headings(self.columns, results), *compared]
        for name in filter(there.__contains__, self.names):
            ratios = [self._ratio(name, key, results) for key, _ in self.compared]
            yield [*self.cells(self.columns, name, results), *map(tables.ratio_cell, ratios)]

    def _ratio(self, name: str, key: str, results: Results) -> float | None:
        pair = (name, contestants.NCHAN.name)
        own, other = pair if key in self.more else reversed(pair)
        return results.ratio(self.scenario, own, other, key)


_RATE = Column("rate", "updates/s", 1, 0)
_CPU = (
    Column("cpu", "CPU, µs", MICRO, 0),
    Column("user", "user", MICRO, 0),
    Column("system", "system", MICRO, 0),
)
_LOAD = Column("load", "load, %", PERCENT, 0)

TABLES = (
    Table(
        "steady",
        "{subscribers:,} subscribers, {steady_rate} updates a second",
        (
            Column("p50", "p50, ms", MILLI, 2),
            Column("p99", "p99, ms", MILLI, 2),
            Column("longest", "max, ms", MILLI, 1),
            *_CPU,
            _LOAD,
        ),
        "{steady:,} updates, on one connection. The delay is from just before the request is sent until a"
        " subscriber has the event, over all subscribers; CPU time per update, which is delivered "
        "{subscribers:,} times.",
        compared=(("p50", "p50, ×"), ("p99", "p99, ×"), ("cpu", "CPU, ×")),
    ),
    Table(
        "fast",
        "{subscribers:,} subscribers, {publishers} connections at full speed",
        (
            _RATE,
            Column("deliveries", "deliveries, 1,000/s", 1e3, 0),
            Column("cpu_each", "CPU, µs", MICRO, 2),
            Column("user_each", "user", MICRO, 2),
            Column("system_each", "system", MICRO, 2),
            Column("cpu", "an update, µs", MICRO, 0),
            _LOAD,
        ),
        "{fast:,} updates. Acknowledged updates and deliveries per second; CPU time per delivery, and per"
        " update.",
        compared=(("rate", "updates, ×"), ("deliveries", "deliveries, ×"), ("cpu_each", "CPU, ×")),
    ),
    Table(
        "alone",
        "No subscribers, {publishers} connections at full speed",
        (_RATE, *_CPU, _LOAD),
        "{alone:,} updates; CPU time per update. The bare POST is a Twisted server that reads such a form"
        " and responds, and does nothing else.",
        compared=(("rate", "updates, ×"), ("cpu", "CPU, ×")),
    ),
)


def written(results: Results) -> str:
    """
    Return the whole page.
    """
    rounds = max((results.rounds(table.scenario) for table in TABLES), default=0)
    introduction = [
        *wrapped(
            f"{tables.taken(results)}. To reproduce: ``PYTHONPATH=. python benchmarks/mercure.py "
            f"--rounds {rounds}{results.sizes['options']} --write FILE``."
        ),
        "",
        *wrapped(
            "The service, ``twist txsse`` with a journal in memory, compared with nginx with nchan, one "
            f"worker and a buffer. Both hold {results.sizes['held']:,} updates, and data have {SIZE} bytes. "
            "The service accepts a form with a token, and clients subscribe to a topic; only subscribers with"
            " tokens receive its private updates. nchan accepts plain bytes, without authorisation. The "
            "server has a core to itself, and only its CPU time counts; all clients run on another core, and "
            "*load* is the CPU usage of that core. A table has figures only if every subscriber received "
            "every update exactly once. Ratios are relative to nchan; above 1, txsse is better."
        ),
        "",
    ]
    return tables.written("mercure.py", "Mercure benchmark: all figures", introduction, TABLES, results)

"""
The results as text: tables in reStructuredText, which read well on a screen too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fanout.results import Results
from fanout.table import Column

from recording import contestants
from recording.scenarios import IN_FLIGHT

__all__ = ["shown", "written"]

# What the project wants of a node, in updates per second into a Redis.
_AIM = 20_000


@dataclass(frozen=True)
class Table:
    """
    A scenario's table.

    :ivar title: filled in with the sizes; so is the note.
    :ivar ratio: the figure that is compared.
    :ivar compared: what all are compared with; ``alone`` for the same journal that records one by one.
    :ivar heading: that of the comparison.
    """

    scenario: str
    title: str
    columns: tuple[Column, ...]
    ratio: str
    compared: str
    heading: str
    note: str


_MICRO, _MILLI, _MIB = 1e-6, 1e-3, 1024.0 * 1024

_PUBLISH = (
    Column("rate", "1 per second", 1, 0),
    Column("p50", "p50, ms", _MILLI, 2),
    Column("p99", "p99, ms", _MILLI, 2),
    Column("longest", "max, ms", _MILLI, 1),
    Column("cpu", "node, µs", _MICRO, 1),
    Column("reactor", "its reactor, µs", _MICRO, 1),
    Column("redis", "Redis, µs", _MICRO, 1),
)

_NODES = (
    Column("rate", "1 per second", 1, 0),
    Column("deliveries", "deliveries, 1,000/s", 1e3, 0),
    Column("a_p50", "A: p50, ms", _MILLI, 1),
    Column("a_p99", "p99", _MILLI, 1),
    Column("b_p50", "B: p50, ms", _MILLI, 1),
    Column("b_p99", "p99", _MILLI, 1),
    Column("a_cpu", "A, µs", _MICRO, 0),
    Column("b_cpu", "B, µs", _MICRO, 0),
    Column("redis", "Redis, µs", _MICRO, 0),
    Column("a_rewinds", "A: rewinds", 1, 0),
    Column("b_rewinds", "B: rewinds", 1, 0),
)

TABLES = (
    *(
        Table(
            f"publish-{in_flight}",
            f"Publishing, {in_flight:,} in flight",
            _PUBLISH,
            "rate",
            "alone",
            "to one each",
            "The journals are full, so that for each update that comes, one goes. CPU for each update: of "
            "the node's process, of its reactor's thread alone, and of the Redis. The last column tells how "
            "many times as fast it is as with a transaction, or a call, for each update.",
        )
        for in_flight in IN_FLIGHT
    ),
    Table(
        "steady",
        "Two nodes, {subscribers} subscribers each, {steady_rate:,} updates a second",
        _NODES,
        "a_p50",
        "memory",
        "p50 to one node",
        "{steady:,} updates, published at A. Latency from publishing until a subscriber has it; CPU for each "
        "update.",
    ),
    Table(
        "fast",
        "Two nodes, {subscribers} subscribers each, as fast as it goes",
        _NODES,
        "rate",
        "memory",
        "to one node",
        "{fast:,} updates, published at A, {fast_in_flight:,} in flight. Latency as above, most of it "
        "waiting.",
    ),
    Table(
        "storm",
        "A storm: {replayed:,} updates for each of {clients:,} clients that come back at once",
        (
            Column("seconds", "all, s", 1, 2),
            Column("half", "half, s", 1, 2),
            Column("rate", "1,000/s", 1e3, 0),
            Column("cpu", "CPU, s", 1, 2),
            Column("cpu_each", "CPU each, µs", _MICRO, 2),
            Column("redis", "Redis, s", 1, 2),
            Column("pause", "pause, ms", _MILLI, 0),
            Column("busy", "of CPU", _MILLI, 0),
            Column("publish", "publish, ms", _MILLI, 0),
            Column("resident", "memory, MiB", _MIB, 0),
            Column("peak", "peak", _MIB, 0),
            Column("clients", "clients", 1, 0),
        ),
        "cpu_each",
        "memory",
        "CPU to memory",
        "Seconds until all have everything, and half of them; updates; the hub's CPU in all and for each "
        "update. The pause is the longest between two calls of what asks to be called every 5 ms, and next "
        "to it what the hub computed meanwhile; then the longest wait of those who publish something else "
        "20 times a second. Where nothing is held in memory, {few_clients:,} clients come.",
    ),
)

_NAMES = {contestant.name: contestant.title for contestant in contestants.ALL}


def written(results: Results) -> str:
    """
    Write everything.
    """
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    disk = f"{results.sizes['disk']}, where 4 KiB take {results.sizes['sync'] * 1e3:.2f} ms to be on the disk"
    lines = [
        ".. Written by benchmarks/journals.py; not to be edited.",
        "",
        *_wrapped(
            f"Taken on {results.taken}: {results.machine}, {results.sizes['cores']} cores; {versions}; "
            f"{disk}. Journals hold {results.sizes['held']:,} updates; data have 100 bytes."
        ),
        "",
        *_aim(results),
    ]
    for table in TABLES:
        if results.figures.get(table.scenario) or results.failures.get(table.scenario):
            lines += [*_table(table, results), ""]
    lines += [f"Without {_NAMES.get(name, name)}: {reason}." for name, reason in results.missing.items()]
    return "\n".join(lines).rstrip() + "\n"


def shown(scenario: str, results: Results) -> str:
    """
    Write the table of one scenario.
    """
    return "\n".join(
        line for table in TABLES if table.scenario == scenario for line in _table(table, results)
    )


def _aim(results: Results) -> Iterator[str]:
    scenario, name = f"publish-{max(IN_FLIGHT)}", "redis-everysec"
    rate, cpu = results.median(scenario, name, "rate"), results.median(scenario, name, "cpu")
    if rate and cpu:
        outcome = "reached" if rate >= _AIM else "missed"
        yield from _wrapped(
            f"The aim of {_AIM:,} updates a second from one node into a Redis is {outcome}: {rate:,.0f}. "
            f"A core of its own would let the node publish {1 / cpu:,.0f}."
        )
        yield ""


def _table(table: Table, results: Results) -> Iterator[str]:
    title = table.title.format(**results.sizes)
    yield title
    yield "-" * len(title)
    yield ""
    rounds = results.rounds(table.scenario)
    if rounds:
        there = set(results.servers(table.scenario))
        columns = [
            column
            for column in table.columns
            if any(results.median(table.scenario, name, column.key) is not None for name in there)
        ]
        names = [each.name for each in contestants.ALL if each.name in there]
        headings = ["journal", *(column.heading for column in columns), table.heading]
        yield from _grid([headings, *(_row(table, columns, name, results) for name in names)])
        yield ""
        counted = "One round." if rounds == 1 else f"Medians of {rounds} rounds."
        yield from _wrapped(f"{counted} {table.note.format(**results.sizes)}")
    for name, reason in results.failures.get(table.scenario, {}).items():
        yield ""
        yield f"{_NAMES[name]} failed: {reason}."


def _row(table: Table, columns: Sequence[Column], name: str, results: Results) -> list[str]:
    row = [_NAMES[name]]
    for column in columns:
        value = results.median(table.scenario, name, column.key)
        row.append("–" if value is None else f"{value / column.unit:,.{column.digits}f}")
    other = f"{name}-alone" if table.compared == "alone" else table.compared
    ratio = results.ratio(table.scenario, name, other, table.ratio)
    row.append("–" if ratio is None else f"{ratio:.2f}")
    return row


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 118)


def _grid(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """
    Lay out a simple table, numbers to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    yield rule
    for number, (first, *cells) in enumerate(rows):
        right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *right])
        if not number:
            yield rule
    yield rule

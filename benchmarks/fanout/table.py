"""
The results as text: tables in reStructuredText, which read well on a screen too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fanout import contestants
from fanout.results import Results


@dataclass(frozen=True)
class Column:
    """
    A column: a figure, the unit that it is shown in, and how many digits behind the point.
    """

    key: str
    heading: str
    unit: float
    digits: int = 1


@dataclass(frozen=True)
class Table:
    """
    A scenario's table. The first column is what servers are compared by.

    :ivar title: filled in with the sizes.
    :ivar note: what else to know, filled in likewise.
    :ivar compared: the servers that all are compared with.
    """

    scenario: str
    title: str
    columns: tuple[Column, ...]
    note: str = ""
    compared: tuple[str, ...] = ("c", "twisted")


_MICRO, _MILLI, _PERCENT, _KIB = 1e-6, 1e-3, 1e-2, 1024.0

_CPU = (
    Column("cpu", "CPU, µs", _MICRO, 2),
    Column("user", "user", _MICRO, 2),
    Column("system", "system", _MICRO, 2),
)
_RATE = Column("rate", "1,000/s", 1e3, 0)
_LATENCY = (
    Column("p50", "p50, ms", _MILLI),
    Column("p99", "p99, ms", _MILLI),
    Column("longest", "max, ms", _MILLI),
)
_LOAD = Column("load", "load, µs", _MICRO, 2)

TABLES = (
    Table("fanout", "{subscribers:,} subscribers, one event per turn", (*_CPU, _RATE, _LOAD)),
    Table("burst", "{subscribers:,} subscribers, {burst} events per turn", (*_CPU, _RATE, _LOAD)),
    Table(
        "single",
        "One subscriber, events as fast as they go",
        (*_CPU, _RATE, _LOAD),
        "{single:,} events, {single_burst} in each turn.",
    ),
    Table(
        "idle",
        "{idle:,} idle subscribers",
        (
            Column("cpu", "% of a core", _PERCENT, 2),
            Column("user", "user", _PERCENT, 2),
            Column("system", "system", _PERCENT, 2),
        ),
        "A keep-alive every {keepalive:g} seconds, watched for {idle_seconds:g}.",
    ),
    Table(
        "paced",
        "Latency at {subscribers:,} subscribers, 20 events a second",
        (Column("p99", "p99, ms", _MILLI), _LATENCY[0], _LATENCY[2], *_CPU),
        "From publishing until the load generator has it.",
    ),
    Table(
        "memory",
        "Resident memory per idle subscriber, KiB",
        (Column("many", "at {many:,}", _KIB), Column("few", "at {few:,}", _KIB)),
        compared=("twisted",),
    ),
    Table("connect", "Connections opened", (*_CPU, Column("rate", "1 per second", 1, 0))),
    Table(
        "many",
        "{many:,} subscribers",
        (
            Column("many", "CPU, µs", _MICRO, 2),
            Column("few", "at {subscribers:,}", _MICRO, 2),
            Column("ratio", "ratio", 1, 2),
            Column("many_p99", "p99, ms", _MILLI),
            Column("pause", "pause, ms", _MILLI),
            Column("busy", "of CPU", _MILLI),
        ),
        "CPU per delivery, paced. The pause is the longest between two calls of what asks to be called every "
        "5 ms, the last figure what the server computed meanwhile.",
    ),
    Table(
        "hundred-thousand",
        "{channels:,} subscribers in one process",
        (
            Column("many", "CPU, µs", _MICRO, 2),
            Column("few", "at {subscribers:,}", _MICRO, 2),
            Column("ratio", "ratio", 1, 2),
            Column("pause", "pause, ms", _MILLI),
            Column("busy", "of CPU", _MILLI),
        ),
        "CPU per delivery. All channels share {sockets:,} sockets, since there cannot be files enough.",
        compared=(),
    ),
    Table(
        "topics",
        "{topics:,} topics, one publish to one of them",
        (
            Column("many", "CPU, µs", _MICRO, 2),
            Column("few", "with 10", _MICRO, 2),
            Column("ratio", "ratio", 1, 2),
        ),
        compared=(),
    ),
)

_SHORT = {"c": "C", "twisted": "Twisted"}
_NAMES = {contestant.name: contestant.title for contestant in contestants.ALL}


def written(results: Results) -> str:
    """
    Write everything.
    """
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        ".. Written by benchmarks/hub.py; not to be edited.",
        "",
        f"Taken on {results.taken}: {results.machine}; {versions}.",
        "",
    ]
    for table in TABLES:
        if results.figures.get(table.scenario) or results.failures.get(table.scenario):
            lines += [*_table(table, results), ""]
    lines += [f"Without {_NAMES[name]}: {reason}." for name, reason in results.missing.items()]
    return "\n".join(lines).rstrip() + "\n"


def shown(table_of: str, results: Results) -> str:
    """
    Write the table of one scenario.
    """
    return "\n".join(
        line for table in TABLES if table.scenario == table_of for line in _table(table, results)
    )


def _table(table: Table, results: Results) -> Iterator[str]:
    title = table.title.format(**results.sizes)
    yield title
    yield "-" * len(title)
    yield ""
    rounds = results.rounds(table.scenario)
    if rounds:
        key = table.columns[0].key
        servers = sorted(
            results.servers(table.scenario), key=lambda name: results.median(table.scenario, name, key) or 0
        )
        headings = ["server", *(column.heading.format(**results.sizes) for column in table.columns)]
        headings += [f"to {_SHORT[name]}" for name in table.compared]
        yield from _grid([headings, *(_row(table, server, results) for server in servers)])
        yield ""
        counted = "One round." if rounds == 1 else f"Medians of {rounds} rounds."
        yield f"{counted} {table.note.format(**results.sizes)}".rstrip()
    for server, reason in results.failures.get(table.scenario, {}).items():
        yield ""
        yield f"{_NAMES.get(server, server)} failed: {reason}."


def _row(table: Table, server: str, results: Results) -> list[str]:
    row = [_NAMES.get(server, server)]
    for column in table.columns:
        value = results.median(table.scenario, server, column.key)
        row.append("–" if value is None else f"{value / column.unit:,.{column.digits}f}")
    for other in table.compared:
        ratio = results.ratio(table.scenario, server, other, table.columns[0].key)
        row.append("–" if ratio is None else f"{ratio:.2f}")
    return row


def _grid(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """
    Lay out a simple table, numbers to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    yield rule
    for number, row in enumerate(rows):
        first = row[0].ljust(widths[0])
        yield "  ".join(
            [first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        if not number:
            yield rule
    yield rule

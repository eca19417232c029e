"""
The results as text: tables in reStructuredText, which read well on a screen too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fanout.results import Results
from fanout.table import Column

from serving import contestants
from serving.sizes import SIZE

__all__ = ["shown", "written"]


@dataclass(frozen=True)
class Table:
    """
    A scenario's table.

    :ivar title: filled in with the sizes; so is the note.
    :ivar compared: the figures that are compared with nchan's, and the headings of that.
    :ivar more: those of them of which more is better.
    """

    scenario: str
    title: str
    columns: tuple[Column, ...]
    compared: tuple[tuple[str, str], ...]
    note: str
    more: tuple[str, ...] = ("rate", "deliveries")


_MICRO, _MILLI, _PERCENT = 1e-6, 1e-3, 1e-2

_RATE = Column("rate", "updates/s", 1, 0)
_CPU = (
    Column("cpu", "CPU, µs", _MICRO, 0),
    Column("user", "user", _MICRO, 0),
    Column("system", "system", _MICRO, 0),
)
_LOAD = Column("load", "load, %", _PERCENT, 0)

TABLES = (
    Table(
        "steady",
        "{subscribers:,} subscribers, {steady_rate} updates a second",
        (
            Column("p50", "p50, ms", _MILLI, 2),
            Column("p99", "p99, ms", _MILLI, 2),
            Column("longest", "max, ms", _MILLI, 1),
            *_CPU,
            _LOAD,
        ),
        (("p50", "p50, ×"), ("p99", "p99, ×"), ("cpu", "CPU, ×")),
        "{steady:,} updates, on one connection. From just before the request is sent to when a subscriber "
        "has the event, all subscribers; CPU for each update, which is delivered {subscribers:,} times.",
    ),
    Table(
        "fast",
        "{subscribers:,} subscribers, as fast as {publishers} connections go",
        (
            _RATE,
            Column("deliveries", "deliveries, 1,000/s", 1e3, 0),
            Column("cpu_each", "CPU, µs", _MICRO, 2),
            Column("user_each", "user", _MICRO, 2),
            Column("system_each", "system", _MICRO, 2),
            Column("cpu", "an update, µs", _MICRO, 0),
            _LOAD,
        ),
        (("rate", "updates, ×"), ("deliveries", "deliveries, ×"), ("cpu_each", "CPU, ×")),
        "{fast:,} updates. Those that are acknowledged in a second, and what is delivered; CPU for each "
        "delivery, and for each update.",
    ),
    Table(
        "alone",
        "No subscribers, as fast as {publishers} connections go",
        (_RATE, *_CPU, _LOAD),
        (("rate", "updates, ×"), ("cpu", "CPU, ×")),
        "{alone:,} updates; CPU for each. The bare POST is what twisted.web takes to read such a form and to "
        "answer, without anything behind it.",
    ),
)

_NAMES = {contestant.name: contestant.title for contestant in contestants.ALL}


def written(results: Results) -> str:
    """
    Write everything.
    """
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    rounds = max((results.rounds(table.scenario) for table in TABLES), default=0)
    lines = [
        ".. Written by benchmarks/mercure.py; not to be edited.",
        "",
        *_wrapped(
            f"Taken on {results.taken}: {results.machine}, {results.sizes['cores']} cores; {versions}. "
            f"To get them again: ``PYTHONPATH=. python benchmarks/mercure.py --rounds {rounds}"
            f"{results.sizes['options']} --write FILE``."
        ),
        "",
        *_wrapped(
            "The service, ``twist txsse`` with a journal in memory, beside nginx with nchan, one worker and "
            f"a buffer: both hold {results.sizes['held']:,} updates. Data have {SIZE} bytes. The service "
            "takes a form with a token, and is asked for by topic; its private updates go to subscribers "
            "with tokens. nchan takes the bytes, from anybody, and gives them to anybody. The server has a "
            "core to itself, and only its CPU counts; all clients are on another one, and *load* tells how "
            "busy they kept it. Everything that was published has arrived at every subscriber, once, or "
            "there are no figures. Ratios are beside nchan, and above 1 in favour of txsse."
        ),
        "",
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


def _table(table: Table, results: Results) -> Iterator[str]:
    title = table.title.format(**results.sizes)
    yield title
    yield "-" * len(title)
    yield ""
    rounds = results.rounds(table.scenario)
    if rounds:
        there = set(results.servers(table.scenario))
        names = [each.name for each in contestants.ALL if each.name in there]
        headings = ["server", *(column.heading for column in table.columns)]
        headings += [heading for _, heading in table.compared]
        yield from _grid([headings, *(_row(table, name, results) for name in names)])
        yield ""
        counted = "One round." if rounds == 1 else f"Medians of {rounds} rounds."
        yield from _wrapped(f"{counted} {table.note.format(**results.sizes)}")
    for name, reason in results.failures.get(table.scenario, {}).items():
        yield ""
        yield from _wrapped(f"{_NAMES[name]} failed: {reason}.")


def _row(table: Table, name: str, results: Results) -> list[str]:
    row = [_NAMES[name]]
    for column in table.columns:
        value = results.median(table.scenario, name, column.key)
        row.append("–" if value is None else f"{value / column.unit:,.{column.digits}f}")
    for key, _ in table.compared:
        pair = (name, contestants.NCHAN.name)
        own, other = pair if key in table.more else reversed(pair)
        ratio = results.ratio(table.scenario, own, other, key)
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

"""
Format results as tables in reStructuredText, which are also readable in a terminal.
"""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from shared.results import Results

MICRO, MILLI, PERCENT, KIB = 1e-6, 1e-3, 1e-2, 1024.0


@dataclass(frozen=True)
class Column:
    """
    A column: the figure's key, its heading, its unit, and the number of decimal places.
    """

    key: str
    heading: str
    unit: float
    digits: int = 1

    def cell(self, value: float | None) -> str:
        """
        Return a figure as text.
        """
        return "–" if value is None else f"{value / self.unit:,.{self.digits}f}"


@dataclass(frozen=True)
class Table(ABC):
    """
    The table of one scenario.

    :cvar names: the titles of the contestants, by name.
    :cvar wraps_notes: whether notes are wrapped.
    :cvar wraps_failures: whether the reasons of failures are wrapped.
    :ivar title: the title. In it, in headings and in the note, names in braces stand for sizes.
    :ivar note: an explanation below the table.
    """

    names: ClassVar[Mapping[str, str]]
    wraps_notes: ClassVar[bool] = False
    wraps_failures: ClassVar[bool] = False

    scenario: str
    title: str
    columns: tuple[Column, ...] = ()
    note: str = ""

    @abstractmethod
    def rows(self, results: Results) -> Iterator[Sequence[str]]:
        """
        Generate the headings, then a row for each contestant that has figures.
        """

    def headings(self, columns: Iterable[Column], results: Results) -> list[str]:
        """
        Return the headings of columns.
        """
        return [column.heading.format(**results.sizes) for column in columns]

    def cells(self, columns: Iterable[Column], name: str, results: Results) -> list[str]:
        """
        Return a contestant's title and its medians.
        """
        medians = [column.cell(results.median(self.scenario, name, column.key)) for column in columns]
        return [self.names.get(name, name), *medians]

    def lines(self, results: Results) -> Iterator[str]:
        """
        Generate the lines of the table, with title, note and failures.
        """
        title = self.title.format(**results.sizes)
        yield from (title, "-" * len(title), "")
        rounds = results.rounds(self.scenario)
        if rounds:
            yield from _grid([*self.rows(results)])
            yield ""
            counted = "One round." if rounds == 1 else f"Medians of {rounds} rounds."
            note = f"{counted} {self.note.format(**results.sizes)}".rstrip()
            yield from wrapped(note) if self.wraps_notes else [note]
        for name, reason in results.failures.get(self.scenario, {}).items():
            yield ""
            failed = f"{self.names.get(name, name)} failed: {reason}."
            yield from wrapped(failed) if self.wraps_failures else [failed]


def written(
    program: str, title: str, introduction: Iterable[str], tables: Sequence[Table], results: Results
) -> str:
    """
    Return the whole page.

    :param program: the file name of the benchmark.
    :param title: the title of the page.
    :param introduction: the lines before the tables.
    """
    lines = [f".. Written by benchmarks/{program}; not to be edited."]
    lines += ["", title, "=" * len(title), "", *introduction]
    for table in tables:
        if results.figures.get(table.scenario) or results.failures.get(table.scenario):
            lines += [*table.lines(results), ""]
    names = tables[0].names
    lines += [f"Without {names.get(name, name)}: {reason}." for name, reason in results.missing.items()]
    return "\n".join(lines).rstrip() + "\n"


def shown(tables: Iterable[Table], scenario: str, results: Results) -> str:
    """
    Return the table of one scenario.
    """
    return "\n".join(line for table in tables if table.scenario == scenario for line in table.lines(results))


def taken(results: Results) -> str:
    """
    Return the date, the machine and the versions of a measurement.
    """
    cores = f", {results.sizes['cores']} cores" if "cores" in results.sizes else ""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return f"Taken on {results.taken}: {results.machine}{cores}; {versions}"


def ratio_cell(ratio: float | None) -> str:
    """
    Return a ratio as text.
    """
    return "–" if ratio is None else f"{ratio:.2f}"


def wrapped(text: str) -> list[str]:
    """
    Wrap a paragraph at 118 columns.
    """
    return textwrap.wrap(text, 118)


def _grid(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """
    Format a simple table, with numbers aligned to the right.
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

"""
Format the results as a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abusing.wire import KIB, MIB

__all__ = ["verdict", "written"]

# For each column: its heading, the figure, the figure's unit, and its decimal places.
_COLUMNS = (
    ("peak MiB", "peak", MIB, 1),
    ("after", "after", MIB, 1),
    ("fds", "descriptors", 1, 0),
    ("tmp MiB", "files", MIB, 1),
    ("waited ms", "waited", 1e-3, 0),
    ("CPU ms", "held", 1e-3, 0),
    ("CPU s", "cpu", 1, 2),
    ("log KiB", "log", KIB, 1),
)

_LEGEND = """\
Each figure is the increase during the attack. peak: the service's maximal memory; after: its memory after the
attacker has disconnected; fds: maximal open descriptors; tmp: maximal size of temporary files; waited: the
longest that another client waited for a small response; CPU ms: the most CPU that the service used during one
such wait; CPU s: its total CPU; kept: whether all bounds are kept.
"""


def written(results: Mapping[str, Any]) -> str:
    """
    Return the table, with its legend.
    """
    rows = [["entry", "attack", *(column[0] for column in _COLUMNS), "kept", "figure <= bound; notes"]]
    rows += [_cells(row) for row in results["rows"]]
    kept = [all(check["kept"] for check in row["checks"]) for row in results["rows"]]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"Taken on {results['taken']} in {results['seconds']:.0f} s: {results['machine']}, "
        f"{results['cores']} cores, load {results['load'][0]:.1f} to {results['load'][1]:.1f}",
        versions,
        "",
        *_grid(rows),
        "",
        _LEGEND,
        f"{kept.count(False)} of {len(kept)} attacks break a bound.",
        *(f"Skipped for lack of time: {name}." for name in results["left_out"]),
    ]
    return "\n".join(lines)


def verdict(row: Mapping[str, Any]) -> str:
    """
    Return the bounds of an attack with the figures, and its notes.
    """
    checks = [
        f"{check['what']} {check['value']:,.4g} {'<=' if check['kept'] else '>'} {check['most']:,.4g} "
        f"{check['unit']}".rstrip()
        for check in row["checks"]
    ]
    notes = [*([f"failed: {row['failed']}"] if row["failed"] else ()), *row["notes"]]
    if row["figures"]["failed"]:
        notes.append(f"{row['figures']['failed']} requests of the other client received no response")
    return "; ".join([*checks, *notes])


def _cells(row: Mapping[str, Any]) -> list[str]:
    figures = row["figures"]
    numbers = [f"{figures[key] / unit:,.{digits}f}" for _, key, unit, digits in _COLUMNS]
    checks = row["checks"]
    kept = "yes" if all(check["kept"] for check in checks) else "no"
    if not checks:
        kept = "?" if row["failed"] else "-"
    return [row["entry"], row["attack"], *numbers, kept, verdict(row)]


def _grid(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= index < 2 + len(_COLUMNS) else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()

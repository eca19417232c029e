"""
The results as a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abusing.wire import KIB, MIB

__all__ = ["verdict", "written"]

# The headings, what the cells hold, and its unit.
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
Each figure is what the attack added. peak: the service's memory at most; after: its memory once the attacker
has disconnected; fds: open descriptors at most; tmp: bytes of temporary files at most; waited: the longest
that another client waited for a small answer; CPU ms: the most CPU that the service used in one such wait;
CPU s: all that it used; kept: whether all bounds are kept.
"""


def written(results: Mapping[str, Any]) -> str:
    """
    Write all of it.
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
        *(f"Left out, for lack of time: {name}." for name in results["left_out"]),
    ]
    return "\n".join(lines)


def verdict(row: Mapping[str, Any]) -> str:
    """
    Write which bounds there are, and what came of them.
    """
    checks = [
        f"{check['what']} {check['value']:,.4g} {'<=' if check['kept'] else '>'} {check['most']:,.4g} "
        f"{check['unit']}".rstrip()
        for check in row["checks"]
    ]
    notes = [*([f"failed: {row['failed']}"] if row["failed"] else ()), *row["notes"]]
    if row["figures"]["failed"]:
        notes.append(f"{row['figures']['failed']} requests of the other client were not answered")
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

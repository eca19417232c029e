"""
The results as text: tables in reStructuredText, which read well on a screen too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fanout.results import Results

from clients import bench
from clients.streams import Stream, all_streams

# What all are compared with, and the headings of that.
_COMPARED = {"txsse": "to callbacks", "txsse-iteration": "to async for"}
_NAMES = {contestant.name: contestant.title for contestant in bench.ALL}


def written(results: Results) -> str:
    """
    Write everything.
    """
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        ".. Written by benchmarks/client.py; not to be edited.",
        "",
        f"Taken on {results.taken}: {results.machine}; {versions}.",
        "",
        "CPU of the client's process, all threads, for each event, from the first of "
        f"{results.sizes['events']:,} to the last. Ratios above 1 are in favour of txsse.",
        "",
    ]
    for stream in all_streams(results.sizes["events"]):
        if results.figures.get(stream.name) or results.failures.get(stream.name):
            lines += [*shown(stream, results), ""]
    lines += [f"Without {_NAMES[name]}: {reason}." for name, reason in results.missing.items()]
    return "\n".join(lines).rstrip() + "\n"


def shown(stream: Stream, results: Results) -> Iterator[str]:
    """
    Write the table of one stream, line by line.
    """
    title = _title(stream)
    yield title
    yield "-" * len(title)
    yield ""
    rounds = results.rounds(stream.name)
    if rounds:
        clients = sorted(
            results.servers(stream.name), key=lambda name: results.median(stream.name, name, "cpu") or 0
        )
        headings = ["client", "CPU, µs", "user", "system", "1,000/s", *_COMPARED.values()]
        yield from _grid([headings, *(_row(stream.name, client, results) for client in clients)])
        yield ""
        yield "One round." if rounds == 1 else f"Medians of {rounds} rounds."
    for client, reason in results.failures.get(stream.name, {}).items():
        yield ""
        yield f"{_NAMES[client]} failed: {reason}."


def _title(stream: Stream) -> str:
    shape = "Id, type and data" if stream.named else "Data alone"
    return f"{shape}, {'one chunk for each event' if stream.alone else 'chunks of 64 KiB'}"


def _row(name: str, client: str, results: Results) -> list[str]:
    row = [_NAMES[client]]
    for key in ("cpu", "user", "system"):
        row.append(f"{(results.median(name, client, key) or 0) * 1e6:.2f}")
    row.append(f"{1e-3 / (results.median(name, client, 'cpu') or 1):,.0f}")
    for other in _COMPARED:
        ratio = results.ratio(name, client, other, "cpu")
        row.append("–" if ratio is None else f"{ratio:.2f}")
    return row


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

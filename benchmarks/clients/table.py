"""
Format the results as reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from shared import tables
from shared.results import Results

from clients import bench
from clients.streams import Stream, all_streams

# The clients that all others are compared with, and the headings of the ratios.
_COMPARED = {"txsse": "to callbacks", "txsse-iteration": "to async for"}


@dataclass(frozen=True)
class Table(tables.Table):
    """
    The table of one stream.
    """

    names: ClassVar = {contestant.name: contestant.title for contestant in bench.ALL}

    def rows(self, results: Results) -> Iterator[list[str]]:
        yield ["client", "CPU, µs", "user", "system", "1,000/s", *_COMPARED.values()]
        for client in results.ranked(self.scenario, "cpu"):
            cpu, *split = (
                results.median(self.scenario, client, key) or 0 for key in ("cpu", "user", "system")
            )
            ratios = [results.ratio(self.scenario, client, other, "cpu") for other in _COMPARED]
            yield [
                self.names[client],
                *(f"{seconds * 1e6:.2f}" for seconds in (cpu, *split)),
                f"{1e-3 / (cpu or 1):,.0f}",
                *map(tables.ratio_cell, ratios),
            ]


def written(results: Results) -> str:
    """
    Return the whole page.
    """
    events = results.sizes["events"]
    introduction = [
        f"{tables.taken(results)}.",
        "",
        "CPU of the client's process, all threads, for each event, from the first of "
        f"{events:,} to the last. Ratios above 1 are in favour of txsse.",
        "",
    ]
    streams = [Table(stream.name, _title(stream)) for stream in all_streams(events)]
    return tables.written("client.py", "Client benchmark: all figures", introduction, streams, results)


def _title(stream: Stream) -> str:
    shape = "Id, type and data" if stream.named else "Data only"
    return f"{shape}, {'one chunk for each event' if stream.alone else 'chunks of 64 KiB'}"

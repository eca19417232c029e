"""
The report at the end of the soak test.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from clustered.processes import Child, RedisServer
from clustered.publishing import Publishing
from clustered.verdict import Entry, number_of

__all__ = ["Measured", "rows"]


class Measured(Protocol):
    """
    The results that the report needs.
    """

    options: argparse.Namespace
    publishing: Publishing
    redis: RedisServer
    nodes: list[Child]
    crowds: list[Child]
    entries: list[Entry]
    took: float

    def sum(self, name: str) -> int:
        """
        Return the sum of a counter over all processes.
        """

    def seen(self) -> Counter[str]:
        """
        Return the sums of the subscribers' counters.
        """


def rows(cluster: Measured) -> Iterator[tuple[str, str]]:
    """
    Generate the rows of the report: a name and its value.
    """
    publishing, options, seen = cluster.publishing, cluster.options, cluster.seen()
    records, counts = publishing.records, publishing.counts
    recorded = set(map(number_of, cluster.entries))
    unheard = [each for each in records if each.id is None and each.acknowledged is None]
    yield "nodes", f"{options.nodes}"
    yield (
        "updates published",
        f"{len(records):,}, {sum(each.id is None for each in records):,} without an id",
    )
    yield (
        "acknowledged",
        f"{sum(each.acknowledged is not None for each in records):,}, after "
        "{:.0f} / {:.0f} / {:.0f} ms (median, 95 %, 99 %)".format(*publishing.percentiles(0.5, 0.95, 0.99)),
    )
    yield "in the stream", f"{len(cluster.entries):,}"
    yield (
        "publishing failed",
        f"{counts['failed, certain']:,} times at once, {counts['failed, uncertain']:,} times on the way",
    )
    yield (
        "without an id, not acknowledged",
        f"{len(unheard):,}, {sum(each.number in recorded for each in unheard):,} of them recorded",
    )
    yield "published again with the same id", f"{counts['published again']:,} times"
    yield "published at two nodes at once", f"{counts['published twice']:,}"
    for outage in publishing.outages:
        back = max(outage.back.values())
        yield "Redis killed", f"back after {outage.started:.1f} s, used again by all after {back:.1f} s"
    yield "subscribers", f"{options.subscribers:,}"
    yield "visits", f"{seen['visits']:,}, {seen['cuts']:,} cut off, {seen['slow']:,} stopped reading"
    yield "events received", f"{seen['events']:,}, {seen['bytes'] / 2**30:.1f} GiB"
    yield "from the journal", f"{cluster.sum('replayed'):,}, {cluster.sum('slow_replays'):,} moves to replay"
    yield "violations", f"{cluster.sum('violations')}, {cluster.sum('gaps')} gaps"
    nodes = " + ".join(f"{node.seconds:.0f}" for node in cluster.nodes)
    crowds = sum(crowd.seconds for crowd in cluster.crowds)
    yield "CPU", f"nodes {nodes} s, Redis {cluster.redis.seconds:.0f} s, subscribers {crowds:.0f} s"
    yield "duration", f"{cluster.took:.0f} s"

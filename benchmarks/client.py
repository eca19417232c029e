"""
Compare the client's speed with that of other clients: ``python benchmarks/client.py`` (Linux; installs them).

Each client reads the same streams over loopback, on its own core, as fast as it can. The server has all bytes
ready in advance, so that no client waits. The clients take turns in every round, so that other load on the
machine affects all of them equally. The figures are medians of the CPU per event. A client that misses an
event has no figures.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from clients import bench, peers, table
from clients.streams import all_streams
from shared.command import main, new_parser, parse, prepared
from shared.machine import choose_cores, describe_machine
from shared.peers import versions
from shared.results import Results
from shared.rounds import take_turns

EVENTS = 200_000
QUICK_EVENTS = 20_000


def _options() -> argparse.Namespace:
    choices = {
        "streams": [stream.name for stream in all_streams(EVENTS)],
        "clients": [contestant.name for contestant in bench.ALL],
    }
    parser = new_parser(__doc__, "about a minute", choices)
    parser.add_argument("--setup", action="store_true", help="reinstall all clients, and exit")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as reStructuredText")
    return parse(parser, "client-results.json")


def _measured(options: argparse.Namespace) -> Results:
    missing = prepared((peers.PYTHON, peers.NODE), options)
    events = QUICK_EVENTS if options.quick else EVENTS
    results = Results(describe_machine(), versions(peers.PYTHON, peers.NODE, {}), {"events": events})
    chosen = [contestant for contestant in bench.ALL if contestant.name in options.clients]
    results.missing = {one.name: missing[one.needs] for one in chosen if one.needs in missing}
    there = [one for one in chosen if one.needs not in missing]
    cores = choose_cores()
    for stream in all_streams(events):
        if stream.name in options.streams:
            take_turns(
                stream.name,
                there,
                1 if options.quick else options.rounds,
                partial(bench.run, stream=stream, cores=cores),
                results,
                shown=lambda figures: f"{figures['cpu'] * 1e6:.2f} µs, ",
            )
            results.save(options.save)
    return results


if __name__ == "__main__":
    main(_options(), _measured, table.written)

"""
How fast the client is beside others: ``python benchmarks/client.py`` (Linux; fetches the others by itself).

Each reads the same streams over loopback, on a core of its own, as fast as it can: the server has made all
bytes before, so that no client waits. They take turns, round by round, so that whatever else the machine does
hits all alike. The figures are medians of the CPU per event; a client that misses one has none.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from clients import bench, peers, table
from clients.bench import Contestant
from clients.streams import Stream, all_streams
from fanout.bench import choose_cores
from fanout.processes import Failed
from fanout.results import Results, describe_machine

EVENTS = 200_000
QUICK_EVENTS = 20_000


def main() -> None:
    options = _options()
    if options.results:
        results = Results.load(options.results)
    else:
        results = _measured(options)
    text = table.written(results)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)


def _options() -> argparse.Namespace:
    names = [contestant.name for contestant in bench.ALL]
    streams = [stream.name for stream in all_streams(EVENTS)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="about a minute: does everything work?")
    parser.add_argument("--streams", nargs="+", choices=streams, default=streams, metavar="NAME")
    parser.add_argument("--clients", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--setup", action="store_true", help="fetch all clients anew, and do no more")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables, in reStructuredText")
    parser.add_argument("--save", type=Path, metavar="FILE", default=peers.CACHE / "client-results.json")
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing: use what was saved")
    parser.epilog = f"Clients: {', '.join(names)}. Streams: {', '.join(streams)}."
    return parser.parse_args()


def _measured(options: argparse.Namespace) -> Results:
    missing = peers.set_up(again=options.setup)
    for reason in missing.values():
        print(f"set-up: {reason}", file=sys.stderr)
    if options.setup:
        raise SystemExit(1 if missing else 0)
    events = QUICK_EVENTS if options.quick else EVENTS
    results = Results(describe_machine(), peers.versions(), {"events": events})
    chosen = [contestant for contestant in bench.ALL if contestant.name in options.clients]
    results.missing = {one.name: missing[one.needs] for one in chosen if one.needs in missing}
    there = [one for one in chosen if one.needs not in missing]
    cores = choose_cores()
    for stream in all_streams(events):
        if stream.name in options.streams:
            _run(stream, there, 1 if options.quick else options.rounds, cores, results)
            results.save(options.save)
    return results


def _run(
    stream: Stream,
    clients: Sequence[Contestant],
    rounds: int,
    cores: tuple[int, int],
    results: Results,
) -> None:
    failed: set[str] = set()
    for round_, contestant in _turns(clients, rounds):
        if contestant.name in failed:
            continue
        began = time.monotonic()
        try:
            figures = bench.run(contestant, stream, cores)
        except Failed as error:
            failed.add(contestant.name)
            results.fail(stream.name, contestant.name, str(error))
            # Not those of the rounds before either.
            results.figures.get(stream.name, {}).pop(contestant.name, None)
            said = f"failed: {error}"
        else:
            results.add(stream.name, contestant.name, round_, figures)
            said = f"{figures['cpu'] * 1e6:.2f} µs, {time.monotonic() - began:.0f} s"
        print(f"{stream.name}, round {round_ + 1}: {contestant.name}: {said}", file=sys.stderr)


def _turns(clients: Sequence[Contestant], rounds: int) -> Iterator[tuple[int, Contestant]]:
    """
    Each round begins with another client: what comes after whom, and when, shall not matter.
    """
    for round_ in range(rounds):
        first = round_ % len(clients) if clients else 0
        for contestant in (*clients[first:], *clients[:first]):
            yield round_, contestant


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        raise SystemExit("this benchmark reads /proc, and needs Linux")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    main()

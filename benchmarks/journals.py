"""
How fast the journals are, side by side: ``python benchmarks/journals.py`` (Linux; redis-server and gcc).

What publishing costs until it is acknowledged, what two nodes deliver that share a Redis, and what happens
when everybody comes back at once. The journals take turns, round by round, so that whatever else the machine
does hits all alike. The figures are medians; what loses an update, or delivers it twice, has none.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from fanout import peers
from fanout.processes import Failed
from fanout.results import Results, describe_machine
from recording import contestants, disk, scenarios, table, two_nodes
from recording.contestants import REDIS, Contestant
from recording.place import Cores, choose_cores
from recording.scenarios import Scenario
from recording.sizes import QUICK, Sizes


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
    names = [contestant.name for contestant in contestants.ALL]
    known = [scenario.name for scenario in scenarios.ALL]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="about two minutes: does everything work?")
    parser.add_argument("--scenarios", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--journals", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables, in reStructuredText")
    parser.add_argument("--save", type=Path, metavar="FILE", default=peers.CACHE / "journal-results.json")
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing: use what was saved")
    parser.epilog = f"Journals: {', '.join(names)}. Scenarios: {', '.join(known)}."
    return parser.parse_args()


def _measured(options: argparse.Namespace) -> Results:
    peers.CACHE.mkdir(exist_ok=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sizes = (QUICK if options.quick else Sizes()).within(most - 500)
    about = {
        "disk": disk.file_system(peers.CACHE),
        "sync": disk.sync_seconds(peers.CACHE),
        "cores": len(os.sched_getaffinity(0)),
    }
    results = Results(describe_machine(), _versions(), asdict(sizes) | about)
    chosen = [contestant for contestant in contestants.ALL if contestant.name in options.journals]
    if shutil.which("redis-server") is None:
        gone = [contestant for contestant in chosen if contestant.kind == REDIS]
        results.missing = {contestant.name: "needs Debian's redis-server" for contestant in gone}
        chosen = [contestant for contestant in chosen if contestant not in gone]
    cores = choose_cores()
    for scenario in scenarios.ALL:
        if scenario.name in options.scenarios:
            there = [contestant for contestant in scenario.contestants if contestant in chosen]
            _run(scenario, there, 1 if options.quick else options.rounds, sizes, cores, results)
            results.save(options.save)
            print(f"\n{table.shown(scenario.name, results)}\n", file=sys.stderr, flush=True)
    return results


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    if shutil.which("redis-server") is not None:
        said = subprocess.run(
            ["redis-server", "--version"], capture_output=True, text=True, check=True
        ).stdout
        found["Redis"] = said.partition("v=")[2].split()[0]
    return found | {name: version(name) for name in ("Twisted", "txredisapi", "hiredis")}


def _run(
    scenario: Scenario,
    journals: Sequence[Contestant],
    rounds: int,
    sizes: Sizes,
    cores: Cores,
    results: Results,
) -> None:
    if scenario.needs_load:
        try:
            two_nodes.compile_load()
        except Failed as error:
            results.missing[scenario.name] = str(error)
            return
    failed: set[str] = set()
    for round_, contestant in _turns(journals, rounds):
        if contestant.name in failed:
            continue
        began = time.monotonic()
        try:
            figures = scenario.run(contestant, sizes, cores)
        except Failed as error:
            failed.add(contestant.name)
            results.fail(scenario.name, contestant.name, str(error))
            # Not those of the rounds before either.
            results.figures.get(scenario.name, {}).pop(contestant.name, None)
            said = f"failed: {error}"
        else:
            results.add(scenario.name, contestant.name, round_, figures)
            said = f"{figures['rate']:,.0f} per second, {time.monotonic() - began:.0f} s"
        print(f"{scenario.name}, round {round_ + 1}: {contestant.name}: {said}", file=sys.stderr, flush=True)


def _turns(journals: Sequence[Contestant], rounds: int) -> Iterator[tuple[int, Contestant]]:
    """
    Each round begins with another journal: what comes after whom, and when, shall not matter.
    """
    for round_ in range(rounds):
        first = round_ % len(journals) if journals else 0
        for contestant in (*journals[first:], *journals[:first]):
            yield round_, contestant


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        raise SystemExit("this benchmark reads /proc, and needs Linux")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    main()

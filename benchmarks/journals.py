"""
Compare the journals' speed: ``python benchmarks/journals.py`` (Linux; redis-server and gcc).

The scenarios are publishing until acknowledgement, two nodes that share a Redis, and many clients that
resume at once. The journals take turns in every round, so that other load on the machine affects all of them
equally. The figures are medians. A journal that loses or duplicates an update has no figures.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from fanout.peers import LOAD
from recording import contestants, disk, scenarios, table
from recording.contestants import REDIS, Contestant
from recording.place import Cores, choose_cores
from recording.scenarios import Scenario
from recording.sizes import QUICK, Sizes
from shared.command import main, new_parser, parse
from shared.machine import allow_files, describe_machine
from shared.peers import CACHE
from shared.processes import Failed
from shared.results import Figures, Results
from shared.rounds import take_turns
from shared.tables import shown


def _options() -> argparse.Namespace:
    choices = {
        "scenarios": [scenario.name for scenario in scenarios.ALL],
        "journals": [contestant.name for contestant in contestants.ALL],
    }
    parser = new_parser(__doc__, "about two minutes", choices)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as reStructuredText")
    return parse(parser, "journal-results.json")


def _measured(options: argparse.Namespace) -> Results:
    CACHE.mkdir(exist_ok=True)
    sizes = (QUICK if options.quick else Sizes()).within(allow_files() - 500)
    about = {
        "disk": disk.file_system(CACHE),
        "sync": disk.sync_seconds(CACHE),
        "cores": len(os.sched_getaffinity(0)),
    }
    results = Results(describe_machine(), _versions(), asdict(sizes) | about)
    chosen = [contestant for contestant in contestants.ALL if contestant.name in options.journals]
    if shutil.which("redis-server") is None:
        left_out = [contestant for contestant in chosen if contestant.kind == REDIS]
        results.missing = {contestant.name: "needs Debian's redis-server" for contestant in left_out}
        chosen = [contestant for contestant in chosen if contestant not in left_out]
    cores = choose_cores()
    rounds = 1 if options.quick else options.rounds
    for scenario in scenarios.ALL:
        if scenario.name in options.scenarios:
            there = [contestant for contestant in scenario.contestants if contestant in chosen]
            _run(scenario, there, rounds, sizes, cores, results)
            results.save(options.save)
            print(f"\n{shown(table.TABLES, scenario.name, results)}\n", file=sys.stderr)
    return results


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    if shutil.which("redis-server") is not None:
        output = subprocess.run(
            ["redis-server", "--version"], capture_output=True, text=True, check=True
        ).stdout
        found["Redis"] = output.partition("v=")[2].split()[0]
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
            LOAD.require()
        except Failed as error:
            results.missing[scenario.name] = str(error)
            return

    def run(contestant: Contestant) -> Figures:
        return scenario.run(contestant, sizes, cores)

    take_turns(scenario.name, journals, rounds, run, results)


if __name__ == "__main__":
    main(_options(), _measured, table.written)

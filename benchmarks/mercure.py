"""
Measure the service's speed: ``PYTHONPATH=. python benchmarks/mercure.py`` (Linux; txsse[mercure], gcc, and,
for the comparison, Debian's nginx and libnginx-mod-nchan).

The benchmark compares ``twist txsse`` with nginx and nchan: the cost of publishing over HTTP, to many
subscribers and to none, and the latency. The servers take turns in every round, so that other load on the
machine affects all of them equally. The figures are medians. A server that loses or duplicates an update has
no figures.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fanout import peers
from serving import contestants, scenarios, table
from serving.bench import LOAD, benched
from serving.contestants import NCHAN, Contestant
from serving.scenarios import Scenario
from serving.sizes import QUICK, Sizes
from shared.command import main, new_parser, parse
from shared.machine import allow_files, choose_cores, describe_machine
from shared.peers import CACHE
from shared.processes import Failed
from shared.results import Figures, Results
from shared.rounds import take_turns
from shared.tables import shown


def _options() -> argparse.Namespace:
    choices = {
        "scenarios": [scenario.name for scenario in scenarios.ALL],
        "servers": [contestant.name for contestant in contestants.ALL],
    }
    parser = new_parser(__doc__, "a minute", choices)
    parser.add_argument(
        "--rate", type=int, default=Sizes.steady_rate, help="updates/s of the steady scenario"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as reStructuredText")
    return parse(parser, "mercure-results.json")


def _measured(options: argparse.Namespace) -> Results:
    CACHE.mkdir(exist_ok=True)
    sizes = (QUICK if options.quick else Sizes()).within(allow_files() - 500)
    sizes = replace(sizes, steady_rate=options.rate)
    about = {"cores": len(os.sched_getaffinity(0)), "options": _given(options)}
    try:
        LOAD.require()
        cores = choose_cores()
    except Failed as error:
        raise SystemExit(f"mercure.py: {error}") from None
    results = Results(describe_machine(), _versions(), asdict(sizes) | about)
    chosen = [contestant for contestant in contestants.ALL if contestant.name in options.servers]
    if NCHAN in chosen and not peers.NCHAN.exists():
        results.missing = {NCHAN.name: peers.WITHOUT_NCHAN}
        chosen.remove(NCHAN)
    rounds = 1 if options.quick else options.rounds
    for scenario in scenarios.ALL:
        if scenario.name in options.scenarios:
            there = [contestant for contestant in scenario.contestants if contestant in chosen]
            run = partial(_run, scenario, sizes, cores)
            take_turns(scenario.name, there, rounds, run, results)
            results.save(options.save)
            print(f"\n{shown(table.TABLES, scenario.name, results)}\n", file=sys.stderr)
    return results


def _given(options: argparse.Namespace) -> str:
    """
    Return the options that differ from the defaults, as on the command line.
    """
    rate = f" --rate {options.rate}" if options.rate != Sizes.steady_rate else ""
    return f"{' --quick' if options.quick else ''}{rate}"


def _versions() -> dict[str, str]:
    known = peers.versions()
    return (
        {"python": platform.python_version()}
        | {name: version(name) for name in ("Twisted", "PyJWT")}
        | {name: known[name] for name in ("nginx", "nchan") if name in known}
    )


def _run(scenario: Scenario, sizes: Sizes, cores: tuple[int, int], contestant: Contestant) -> Figures:
    with benched(contestant, sizes, cores) as bench:
        return scenario.run(bench, sizes)


if __name__ == "__main__":
    main(_options(), _measured, table.written)

"""
Compare the hub's speed with other servers: ``python benchmarks/hub.py`` (Linux; gcc; installs the rest).

Each server has its own core. A load generator on another core checks every event that arrives against the
expected sequence. The servers take turns in every round, so that other load on the machine affects all of
them equally. The figures are medians. The most reliable figure is the CPU per delivery.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

from fanout import alone, contestants, peers, picture, scenarios, table
from fanout.bench import benched
from fanout.contestants import Contestant
from fanout.scenarios import Scenario, Sizes
from shared.command import new_parser, parse, prepared, results_for
from shared.machine import allow_files, choose_cores, describe_machine
from shared.processes import Failed
from shared.results import Figures, Results
from shared.rounds import take_turns
from shared.tables import shown


def main() -> None:
    options = _options()
    results = results_for(options, _measured)
    text = table.written(results)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    if options.picture:
        options.picture.write_text(picture.drawn(results), encoding="utf-8")
    if options.results and not (options.write or options.picture):
        print(text)


def _options() -> argparse.Namespace:
    choices = {
        "scenarios": [scenario.name for scenario in (*scenarios.ALL, *alone.ALL)],
        "servers": [contestant.name for contestant in contestants.ALL],
    }
    parser = new_parser(__doc__, "about two minutes", choices)
    parser.add_argument("--setup", action="store_true", help="reinstall all peers, and exit")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as reStructuredText")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the picture as SVG")
    return parse(parser, "results.json")


def _measured(options: argparse.Namespace) -> Results:
    missing = prepared(peers.PARTS, options, needed="c")
    # At most as many subscribers as there can be open files.
    sizes = (scenarios.QUICK if options.quick else Sizes()).within(allow_files() - 500)
    results = Results(describe_machine(), peers.versions(), asdict(sizes))
    chosen = [contestant for contestant in contestants.ALL if contestant.name in options.servers]
    results.missing = {one.name: missing[one.needs] for one in chosen if one.needs in missing}
    there = [one for one in chosen if one.needs not in missing]
    cores = choose_cores()
    rounds = 1 if options.quick else options.rounds
    for scenario in scenarios.ALL:
        if scenario.name in options.scenarios:
            run = partial(_run, scenario, sizes, cores)
            most = min(rounds, scenario.most_rounds)
            take_turns(scenario.name, there, most, run, results, shown=lambda figures: "", forgets=False)
            results.save(options.save)
            print(f"\n{shown(table.TABLES, scenario.name, results)}\n", flush=True)
    for harness in alone.ALL:
        if harness.name in options.scenarios and any(one.name == "txsse" for one in there):
            for round_ in range(min(rounds, harness.most_rounds)):
                try:
                    results.add(harness.name, "txsse", round_, alone.run(harness, sizes, cores))
                except Failed as error:
                    results.fail(harness.name, "txsse", str(error))
                    break
            results.save(options.save)
            print(f"\n{shown(table.TABLES, harness.name, results)}\n", flush=True)
    return results


def _run(scenario: Scenario, sizes: Sizes, cores: tuple[int, int], contestant: Contestant) -> Figures:
    with benched(contestant, cores=cores, keepalive=sizes.keepalive) as bench:
        return scenario.run(bench, sizes)


if __name__ == "__main__":
    main()

"""
How fast the hub is beside others: ``python benchmarks/hub.py`` (Linux; needs gcc, and fetches the rest).

Each server has a core to itself; a load generator on another one holds every event that arrives against the
sequence. The servers take turns, round by round, so that whatever else the machine does hits all alike; the
figures are medians. The one to trust is the CPU per delivery.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from fanout import alone, contestants, peers, picture, scenarios, table
from fanout.bench import benched, choose_cores
from fanout.contestants import Contestant
from fanout.processes import Failed
from fanout.results import Results, describe_machine
from fanout.scenarios import Scenario, Sizes


def main() -> None:
    options = _options()
    if options.results:
        results = Results.load(options.results)
    else:
        results = _measured(options)
    text = table.written(results)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    if options.picture:
        options.picture.write_text(picture.drawn(results), encoding="utf-8")
    if options.results and not (options.write or options.picture):
        print(text)


def _options() -> argparse.Namespace:
    known = [scenario.name for scenario in (*scenarios.ALL, *alone.ALL)]
    names = [contestant.name for contestant in contestants.ALL]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="about two minutes: does everything work?")
    parser.add_argument("--scenarios", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--servers", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--setup", action="store_true", help="fetch all peers anew, and do no more")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables, in reStructuredText")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the picture, in SVG")
    parser.add_argument("--save", type=Path, metavar="FILE", default=peers.CACHE / "results.json")
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing: use what was saved")
    parser.epilog = f"Servers: {', '.join(names)}. Scenarios: {', '.join(known)}."
    return parser.parse_args()


def _measured(options: argparse.Namespace) -> Results:
    missing = peers.set_up(again=options.setup)
    for reason in missing.values():
        print(f"set-up: {reason}", file=sys.stderr)
    if options.setup or "c" in missing:
        raise SystemExit(1 if missing else 0)
    sizes = _fitting(scenarios.QUICK if options.quick else Sizes())
    results = Results(describe_machine(), peers.versions(), asdict(sizes))
    chosen = [contestant for contestant in contestants.ALL if contestant.name in options.servers]
    results.missing = {one.name: missing[one.needs] for one in chosen if one.needs in missing}
    there = [one for one in chosen if one.needs not in missing]
    cores = choose_cores()
    rounds = 1 if options.quick else options.rounds
    for scenario in scenarios.ALL:
        if scenario.name in options.scenarios:
            _run(scenario, there, min(rounds, scenario.most_rounds), sizes, cores, results)
            results.save(options.save)
            print(f"\n{table.shown(scenario.name, results)}\n", flush=True)
    for harness in alone.ALL:
        if harness.name in options.scenarios and any(one.name == "txsse" for one in there):
            for round_ in range(min(rounds, harness.most_rounds)):
                try:
                    results.add(harness.name, "txsse", round_, alone.run(harness, sizes, cores))
                except Failed as error:
                    results.fail(harness.name, "txsse", str(error))
                    break
            results.save(options.save)
            print(f"\n{table.shown(harness.name, results)}\n", flush=True)
    return results


def _fitting(sizes: Sizes) -> Sizes:
    """
    Have as many subscribers as there can be open files.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return sizes.within(most - 500)


def _run(
    scenario: Scenario,
    servers: Sequence[Contestant],
    rounds: int,
    sizes: Sizes,
    cores: tuple[int, int],
    results: Results,
) -> None:
    failed: set[str] = set()
    for round_, contestant in _turns(servers, rounds):
        if contestant.name in failed:
            continue
        began = time.monotonic()
        try:
            with benched(contestant, cores=cores, keepalive=sizes.keepalive) as bench:
                figures = scenario.run(bench, sizes)
        except Failed as error:
            failed.add(contestant.name)
            results.fail(scenario.name, contestant.name, str(error))
            said = f"failed: {error}"
        else:
            results.add(scenario.name, contestant.name, round_, figures)
            said = f"{time.monotonic() - began:.0f} s"
        print(f"{scenario.name}, round {round_ + 1}: {contestant.name}: {said}", file=sys.stderr)


def _turns(servers: Sequence[Contestant], rounds: int) -> Iterator[tuple[int, Contestant]]:
    """
    Each round begins with another server: what comes after whom, and when, shall not matter.
    """
    for round_ in range(rounds):
        first = round_ % len(servers) if servers else 0
        for contestant in (*servers[first:], *servers[:first]):
            yield round_, contestant


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        raise SystemExit("this benchmark reads /proc, and needs Linux")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    main()

"""
How fast the service is: ``PYTHONPATH=. python benchmarks/mercure.py`` (Linux; txsse[mercure], gcc, and
Debian's nginx and libnginx-mod-nchan to compare with).

What publishing over HTTP costs, to many subscribers and to none, and how long it takes until they have it:
``twist txsse`` beside nginx with nchan. The servers take turns, round by round, so that whatever else the
machine does hits all alike. The figures are medians; what loses an update, or delivers it twice, has none.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from fanout import peers
from fanout.bench import choose_cores
from fanout.processes import Failed
from fanout.results import Results, describe_machine
from serving import contestants, scenarios, table
from serving.bench import benched, compile_load
from serving.contestants import NCHAN, Contestant
from serving.scenarios import Late, Scenario
from serving.sizes import QUICK, Sizes


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
    parser.add_argument("--quick", action="store_true", help="a minute: does everything work?")
    parser.add_argument("--scenarios", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--servers", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--rate", type=int, default=Sizes.steady_rate, help="of the steady scenario")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables, in reStructuredText")
    parser.add_argument("--save", type=Path, metavar="FILE", default=peers.CACHE / "mercure-results.json")
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing: use what was saved")
    parser.epilog = f"Servers: {', '.join(names)}. Scenarios: {', '.join(known)}."
    return parser.parse_args()


def _measured(options: argparse.Namespace) -> Results:
    peers.CACHE.mkdir(exist_ok=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sizes = replace((QUICK if options.quick else Sizes()).within(most - 500), steady_rate=options.rate)
    about = {"cores": len(os.sched_getaffinity(0)), "options": _said(options)}
    try:
        compile_load()
        cores = choose_cores()
    except Failed as error:
        raise SystemExit(f"mercure.py: {error}") from None
    results = Results(describe_machine(), _versions(), asdict(sizes) | about)
    chosen = [contestant for contestant in contestants.ALL if contestant.name in options.servers]
    if NCHAN in chosen and not peers.NCHAN.exists():
        results.missing = {NCHAN.name: f"needs Debian's {' and '.join(peers.DEBIAN)}"}
        chosen.remove(NCHAN)
    for scenario in scenarios.ALL:
        if scenario.name in options.scenarios:
            there = [contestant for contestant in scenario.contestants if contestant in chosen]
            _run(scenario, there, 1 if options.quick else options.rounds, sizes, cores, results)
            results.save(options.save)
            print(f"\n{table.shown(scenario.name, results)}\n", file=sys.stderr, flush=True)
    return results


def _said(options: argparse.Namespace) -> str:
    """
    Write what else was asked for than usual, as it was on the command line.
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


def _run(
    scenario: Scenario,
    servers: Sequence[Contestant],
    rounds: int,
    sizes: Sizes,
    cores: tuple[int, int],
    results: Results,
) -> None:
    failed: set[str] = set()
    late: dict[str, str] = {}
    for round_, contestant in _turns(servers, rounds):
        if contestant.name in failed:
            continue
        began = time.monotonic()
        try:
            with benched(contestant, sizes, cores) as bench:
                figures = scenario.run(bench, sizes)
        except Late as error:
            late[contestant.name] = said = str(error)
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
    for name, reason in late.items():
        if name not in results.servers(scenario.name) and name not in failed:
            results.fail(scenario.name, name, reason)


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

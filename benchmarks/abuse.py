"""
Measure what hostile clients cost the service: ``python benchmarks/abuse.py`` (Linux; txsse[mercure,http2]).

Each attack runs against a new ``twist txsse`` on loopback, over TCP, TLS with HTTP/2, or a UNIX socket. The
script measures the memory, CPU, descriptors and log that the attack costs the service, and how long another
client waits meanwhile. If a figure has a bound, the table shows whether the service keeps it. On an idle
machine the run takes less than three minutes. Attacks that have not begun after ``--seconds`` are skipped.
The exit status is 0, whatever the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from abusing import behind, bodies, endings, patterns, resets, table, unread
from abusing.bench import Attack, Bench
from abusing.service import Subject, benched
from shared.machine import choose_cores, describe_machine
from shared.peers import CACHE, ROOT
from shared.processes import Failed

# The usual default limit, whatever this machine's is, so that attacks on descriptors can reach it.
_DESCRIPTORS = 1024


def _idle(bench: Bench) -> None:
    with bench.attacked():
        time.sleep(1)


ATTACKS = (
    Attack("-", "none: the noise of this machine", _idle),
    *sorted(
        (attack for each in (endings, unread, bodies, resets, patterns, behind) for attack in each.ATTACKS),
        key=lambda attack: int(attack.entry[1:]),
    ),
)


def main() -> None:
    options = _options()
    if not sys.platform.startswith("linux"):
        raise SystemExit("this benchmark reads /proc, and needs Linux")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
    for name in [name for name in os.environ if name.startswith("TXSSE_")]:
        del os.environ[name]
    CACHE.mkdir(exist_ok=True)
    try:
        # Not Path.resolve: an environment's interpreter is a link to another one.
        subject = Subject.find(os.path.abspath(options.python), options.tree.resolve())
        core = _core()
    except Failed as error:
        raise SystemExit(f"abuse.py: {error}") from None
    results = _measured(subject, core, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(table.written(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    entries = list(dict.fromkeys(attack.entry for attack in ATTACKS))
    named = f"run the attacks of these entries: {', '.join(entries)}"
    parser.add_argument("--only", nargs="+", metavar="ENTRY", choices=entries, default=entries, help=named)
    parser.add_argument("--name", metavar="TEXT", default="", help="run the attacks whose names contain TEXT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--tree", type=Path, metavar="FOLDER", default=ROOT, help="the service's checkout")
    parser.add_argument("--python", metavar="FILE", default=sys.executable, help="the service's interpreter")
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="start no attack later than this (default: 150)"
    )
    return parser.parse_args()


def _core() -> int:
    """
    Return the service's core. On a machine with one core, all processes share it.
    """
    try:
        return choose_cores()[0]
    except Failed:
        return min(os.sched_getaffinity(0))


def _measured(subject: Subject, core: int, options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {
        "taken": date.today().isoformat(),
        "machine": describe_machine(),
        "cores": os.cpu_count(),
        "versions": subject.versions,
        "load": [os.getloadavg()[0]],
        "rows": [],
        "left_out": [],
    }
    began = time.monotonic()
    chosen = [each for each in ATTACKS if each.entry in options.only and options.name in each.name]
    with ExitStack() as running:
        starting = [_start(subject, attack, running) for attack in chosen[:1]]
        for number, attack in enumerate(chosen):
            if time.monotonic() - began > options.seconds:
                results["left_out"].append(f"{attack.entry} {attack.name}")
                continue
            # Starting takes longer than most attacks, so the next service starts meanwhile.
            starting += [_start(subject, each, running) for each in chosen[number + 1 : number + 2]]
            bench, ended = starting.pop(0)
            with ended:
                row = _row(attack, bench, core)
            results["rows"].append(row)
            said = f"{row['seconds']:5.1f} s  {attack.entry:4} {attack.name}: {table.verdict(row)}"
            print(said, file=sys.stderr)
    results["seconds"] = time.monotonic() - began
    results["load"].append(os.getloadavg()[0])
    return results


def _start(subject: Subject, attack: Attack, running: ExitStack) -> tuple[Bench, ExitStack]:
    ended = running.enter_context(ExitStack())
    return ended.enter_context(benched(subject, attack.options)), ended


def _row(attack: Attack, bench: Bench, core: int) -> dict[str, Any]:
    began = time.monotonic()
    failed = None
    try:
        bench.wait_until_ready(core)
        attack.run(bench)
    except (OSError, Failed) as error:
        failed = str(error) or type(error).__name__
    return {
        "entry": attack.entry,
        "attack": attack.name,
        "failed": failed,
        "figures": asdict(bench.figures),
        "checks": [asdict(check) | {"kept": check.kept} for check in bench.checks],
        "notes": bench.notes,
        "seconds": time.monotonic() - began,
    }


if __name__ == "__main__":
    main()

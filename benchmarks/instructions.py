"""
Count the instructions of publishing and delivering: ``python benchmarks/instructions.py`` (Debian's
``valgrind`` and ``redis-server``; txsse[redis]).

On a busy machine times vary by a factor of two; numbers of instructions do not. The figures are the
instructions of one publication of 100 bytes, in all threads of the process, and of one delivery to one of
500 subscribers on sockets. They are differences of two runs, with 500 and 2,500 publications, or with 20 and
120 events that are published one per turn, so that starting the process does not count. The kernel's
instructions are not included. To compare with another revision, give its checkout and an interpreter that has
its requirements::

    git worktree add ../before 032c337
    python benchmarks/instructions.py --against ../before
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from recording.program import redis_server
from shared.machine import describe_machine
from shared.peers import ROOT
from shared.processes import Failed

_PROGRAMS = Path(__file__).parent / "counting"
_JOURNALS = ("memory", "sqlite", "redis")
_DELIVERY = "delivery"
_ALL = (*_JOURNALS, _DELIVERY)

# How many updates are published in the shorter and in the longer run.
_PUBLISHED = (500, 2500)
_DELIVERED = (20, 120)

_SUBSCRIBERS = 500

# The time limit of one run, in seconds; it takes some twenty.
_PATIENCE = 600


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="the checkout to compare with")
    parser.add_argument(
        "--python", metavar="FILE", default=sys.executable, help="the interpreter for the other checkout"
    )
    parser.add_argument("--only", nargs="+", choices=_ALL, default=_ALL, help="measure only these")
    return parser.parse_args()


def _counted(tree: Path, python: str, program: str, *arguments: str) -> int:
    """
    Count the instructions of a whole run.
    """
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", python]
    # Fixed, because hashes determine the number of collisions in dictionaries.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    ran = subprocess.run(
        [*command, str(_PROGRAMS / program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    found = re.search(r"Collected : (\d+)", ran.stderr)
    if ran.returncode or found is None:
        raise Failed(f"{' '.join(arguments)} in {tree}: {ran.stderr.strip()[-400:]}")
    return int(found[1])


def _per_publication(tree: Path, python: str, journal: str, folder: Path) -> int:
    counts = []
    for count in _PUBLISHED:
        with tempfile.TemporaryDirectory(dir=folder) as place, ExitStack() as running:
            where = f"{place}/journal.db"
            if journal == "redis":
                core = max(os.sched_getaffinity(0))
                _, port = running.enter_context(redis_server("everysec", core=core, folder=Path(place)))
                where = f"redis://127.0.0.1:{port}"
            counts.append(_counted(tree, python, "publishing.py", journal, str(count), where))
    return (counts[1] - counts[0]) // (_PUBLISHED[1] - _PUBLISHED[0])


def _per_delivery(tree: Path, python: str) -> int:
    few, many = (_counted(tree, python, "delivering.py", str(count)) for count in _DELIVERED)
    return (many - few) // ((_DELIVERED[1] - _DELIVERED[0]) * _SUBSCRIBERS)


def _measured(what: str, tree: Path, python: str, folder: Path) -> int:
    if what == _DELIVERY:
        return _per_delivery(tree, python)
    return _per_publication(tree, python, what, folder)


def _show(chosen: Sequence[str], before: Path | None, python: str) -> None:
    print(f"{describe_machine()}; Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        for what in chosen:
            now = _measured(what, ROOT, sys.executable, Path(folder))
            line = f"{what:8} {now:9,} instructions"
            if before is not None:
                then = _measured(what, before, python, Path(folder))
                line += f", {then:9,} before: {now / then - 1:+.1%}"
            print(line, flush=True)


def main() -> None:
    """
    Count the instructions, and print them.
    """
    options = _options()
    try:
        _show(options.only, options.against and options.against.resolve(), options.python)
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"instructions.py: {error}") from None


if __name__ == "__main__":
    main()

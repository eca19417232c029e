"""
The command line of a benchmark that compares.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from shared.peers import CACHE, Part, set_up
from shared.results import Results


def new_parser(
    description: str | None, quick: str, choices: Mapping[str, Sequence[str]]
) -> argparse.ArgumentParser:
    """
    Begin with the options: how much is measured, and what.

    :param description: what the benchmark says of itself.
    :param quick: how long ``--quick`` takes.
    :param choices: what can be chosen, by the option.
    """
    named = [f"{option.capitalize()}: {', '.join(names)}." for option, names in choices.items()]
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=" ".join(reversed(named)),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help=f"{quick}: does everything work?")
    for option, names in choices.items():
        parser.add_argument(f"--{option}", nargs="+", choices=names, default=names, metavar="NAME")
    return parser


def parse(parser: argparse.ArgumentParser, saved: str) -> argparse.Namespace:
    """
    End with the options for where results are kept, and parse all of them.

    :param saved: the file that they are in.
    """
    parser.add_argument("--save", type=Path, metavar="FILE", default=CACHE / saved)
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing: use what was saved")
    return parser.parse_args()


def prepared(parts: Iterable[Part], options: argparse.Namespace, *, needed: str = "") -> dict[str, str]:
    """
    Fetch what is missing, and end, where no more is asked for.

    :param needed: the part without which there is nothing to measure.
    :returns: what is not there, by its name, with the reason.
    """
    missing = set_up(parts, again=options.setup)
    for reason in missing.values():
        print(f"set-up: {reason}", file=sys.stderr)
    if options.setup or needed in missing:
        raise SystemExit(1 if missing else 0)
    return missing


def results_for(options: argparse.Namespace, measure: Callable[[argparse.Namespace], Results]) -> Results:
    """
    Measure, or read what was measured.
    """
    if options.results:
        return Results.load(options.results)
    if not sys.platform.startswith("linux"):
        raise SystemExit("this benchmark reads /proc, and needs Linux")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return measure(options)


def main(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Results],
    written: Callable[[Results], str],
) -> None:
    """
    Do all that is asked for.

    :param written: writes the tables.
    """
    text = written(results_for(options, measure))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)

"""
The command line that the comparing benchmarks share.
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
    Return a parser with the options for what to measure, and how often.

    :param description: the benchmark's docstring.
    :param quick: how long ``--quick`` takes.
    :param choices: for each option that selects something, its possible values.
    """
    named = [f"{option.capitalize()}: {', '.join(names)}." for option, names in choices.items()]
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=" ".join(reversed(named)),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help=f"a short run to check that everything works; takes {quick}"
    )
    for option, names in choices.items():
        parser.add_argument(f"--{option}", nargs="+", choices=names, default=names, metavar="NAME")
    return parser


def parse(parser: argparse.ArgumentParser, saved: str) -> argparse.Namespace:
    """
    Add the options for the files of results, and parse the command line.

    :param saved: the default name of the file that results are saved in.
    """
    parser.add_argument("--save", type=Path, metavar="FILE", default=CACHE / saved)
    parser.add_argument("--results", type=Path, metavar="FILE", help="do not measure: use saved results")
    return parser.parse_args()


def prepared(parts: Iterable[Part], options: argparse.Namespace, *, needed: str = "") -> dict[str, str]:
    """
    Install what is missing. Exit after that if only the set-up was requested.

    :param needed: the part without which nothing can be measured.
    :returns: the parts that could not be installed, with the reasons.
    """
    missing = set_up(parts, again=options.setup)
    for reason in missing.values():
        print(f"set-up: {reason}", file=sys.stderr)
    if options.setup or needed in missing:
        raise SystemExit(1 if missing else 0)
    return missing


def results_for(options: argparse.Namespace, measure: Callable[[argparse.Namespace], Results]) -> Results:
    """
    Return new results, or saved ones.
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
    Run a benchmark: measure, and write the page.

    :param written: returns the page.
    """
    text = written(results_for(options, measure))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    print(text)

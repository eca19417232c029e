"""
Rounds in which all contestants take turns, so that other load on the machine affects all of them equally.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from shared.processes import Failed
from shared.results import Figures, Results


@dataclass(frozen=True)
class Contestant:
    """
    A participant of a comparison.

    :ivar name: its name on the command line and in the results.
    :ivar title: its name in the tables.
    """

    name: str
    title: str


C = TypeVar("C", bound=Contestant)


class Late(Exception):
    """
    Raised if a round does not count, for instance because of other load. Only if all rounds are late, the
    contestant has failed.
    """


def take_turns(
    scenario: str,
    contestants: Sequence[C],
    rounds: int,
    run: Callable[[C], Figures],
    results: Results,
    *,
    shown: Callable[[Figures], str] = lambda figures: f"{figures['rate']:,.0f} per second, ",
    forgets: bool = True,
) -> None:
    """
    Run all contestants, round by round. A contestant that has failed does not run again.

    :param run: runs one contestant.
    :param shown: returns the text about its figures that is printed as progress.
    :param forgets: whether a contestant that fails also loses the figures of earlier rounds.
    """
    failed: set[str] = set()
    late: dict[str, str] = {}
    for round_, contestant in _turns(contestants, rounds):
        name = contestant.name
        if name in failed:
            continue
        began = time.monotonic()
        try:
            figures = run(contestant)
        except Late as error:
            late[name] = outcome = str(error)
        except Failed as error:
            failed.add(name)
            results.fail(scenario, name, str(error))
            if forgets:
                results.figures.get(scenario, {}).pop(name, None)
            outcome = f"failed: {error}"
        else:
            results.add(scenario, name, round_, figures)
            outcome = f"{shown(figures)}{time.monotonic() - began:.0f} s"
        print(f"{scenario}, round {round_ + 1}: {name}: {outcome}", file=sys.stderr)
    for name, reason in late.items():
        if name not in results.servers(scenario) and name not in failed:
            results.fail(scenario, name, reason)


def _turns(contestants: Sequence[C], rounds: int) -> Iterator[tuple[int, C]]:
    """
    Generate the turns. Each round begins with another contestant, so that the order does not matter.
    """
    for round_ in range(rounds):
        first = round_ % len(contestants) if contestants else 0
        for contestant in (*contestants[first:], *contestants[:first]):
            yield round_, contestant

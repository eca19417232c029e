"""
Rounds in which all take turns, so that whatever else the machine does hits all alike.
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
    Who takes part.

    :ivar name: its name on the command line, and in the results.
    :ivar title: that in the tables.
    """

    name: str
    title: str


C = TypeVar("C", bound=Contestant)


class Late(Exception):
    """
    A round does not count, be it for what else the machine did. It is no failure, unless all rounds are late.
    """


def take_turns(
    scenario: str,
    contestants: Sequence[C],
    rounds: int,
    run: Callable[[C], Figures],
    results: Results,
    *,
    told: Callable[[Figures], str] = lambda figures: f"{figures['rate']:,.0f} per second, ",
    forgets: bool = True,
) -> None:
    """
    Run all of them, round by round. One that has failed does not run again.

    :param run: runs one.
    :param told: what is told of its figures while others run.
    :param forgets: whether one that fails has no figures of the rounds before either.
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
            late[name] = said = str(error)
        except Failed as error:
            failed.add(name)
            results.fail(scenario, name, str(error))
            if forgets:
                results.figures.get(scenario, {}).pop(name, None)
            said = f"failed: {error}"
        else:
            results.add(scenario, name, round_, figures)
            said = f"{told(figures)}{time.monotonic() - began:.0f} s"
        print(f"{scenario}, round {round_ + 1}: {name}: {said}", file=sys.stderr)
    for name, reason in late.items():
        if name not in results.servers(scenario) and name not in failed:
            results.fail(scenario, name, reason)


def _turns(contestants: Sequence[C], rounds: int) -> Iterator[tuple[int, C]]:
    """
    Each round begins with another one: what comes after whom, and when, shall not matter.
    """
    for round_ in range(rounds):
        first = round_ % len(contestants) if contestants else 0
        for contestant in (*contestants[first:], *contestants[:first]):
            yield round_, contestant

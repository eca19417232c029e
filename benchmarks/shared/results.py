"""
The results of all rounds. They are saved after each scenario, so that tables can be rewritten later.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

Figures = Mapping[str, float]


@dataclass
class Results:
    """
    The results of all rounds.

    :ivar figures: the figures by scenario, server, and number of the round.
    :ivar failures: the reasons of failures, by scenario and server.
    :ivar missing: the servers that were not available, with the reasons.
    """

    machine: str
    versions: dict[str, str]
    sizes: dict[str, Any]
    taken: str = field(default_factory=lambda: date.today().isoformat())
    figures: dict[str, dict[str, dict[str, dict[str, float]]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Results:
        """
        Read a file that :meth:`save` has written.
        """
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        """
        Write all results to a file.
        """
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def add(self, scenario: str, server: str, round_: int, figures: Figures) -> None:
        """
        Add the figures of a round.
        """
        self.figures.setdefault(scenario, {}).setdefault(server, {})[str(round_)] = dict(figures)

    def fail(self, scenario: str, server: str, reason: str) -> None:
        """
        Add a failure.
        """
        self.failures.setdefault(scenario, {})[server] = reason

    def servers(self, scenario: str) -> Iterator[str]:
        """
        Return the names of the servers that have figures, in the order of their first rounds.
        """
        return iter(self.figures.get(scenario, {}))

    def ranked(self, scenario: str, key: str) -> list[str]:
        """
        Return the names of these servers in the order of the medians of a figure.
        """
        return sorted(self.servers(scenario), key=lambda name: self.median(scenario, name, key) or 0)

    def rounds(self, scenario: str) -> int:
        """
        Return the number of rounds.
        """
        return max((len(rounds) for rounds in self.figures.get(scenario, {}).values()), default=0)

    def median(self, scenario: str, server: str, key: str) -> float | None:
        """
        Return the median of a figure over all rounds.
        """
        rounds = self.figures.get(scenario, {}).get(server, {}).values()
        values = [figures[key] for figures in rounds if key in figures]
        return statistics.median(values) if values else None

    def ratio(self, scenario: str, server: str, other: str, key: str) -> float | None:
        """
        Return the median of the ratios within each round, because other load slows both servers of a round.
        """
        servers = self.figures.get(scenario, {})
        own, others = servers.get(server, {}), servers.get(other, {})
        ratios = [
            own[number][key] / others[number][key]
            for number in own.keys() & others.keys()
            if key in own[number] and others[number].get(key)
        ]
        return statistics.median(ratios) if ratios else None

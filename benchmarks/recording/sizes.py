"""
The sizes of the scenarios: numbers of updates, clients and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["QUICK", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """
    The sizes of all scenarios.

    :ivar held: how many updates a journal holds. A full journal deletes one update for each that it records.
    """

    seconds: float = 5
    held: int = 10_000
    subscribers: int = 100
    steady: int = 10_000
    steady_rate: int = 1_000
    fast: int = 50_000
    fast_in_flight: int = 1_000
    clients: int = 1_000
    replayed: int = 10_000
    # For journals that read every page from the file or from Redis.
    few_clients: int = 1_000

    def within(self, files: int) -> Sizes:
        """
        Return these sizes with at most so many connections at a time as there can be open files.
        """
        return replace(self, clients=min(self.clients, files), few_clients=min(self.few_clients, files))


QUICK = Sizes(
    seconds=0.5,
    held=2_000,
    subscribers=20,
    steady=500,
    fast=2_000,
    clients=50,
    few_clients=5,
    replayed=2_000,
)

"""
The sizes of the scenarios: numbers of updates and connections.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["QUICK", "SIZE", "Sizes"]

#: The size of an update's data, in bytes.
SIZE = 100


@dataclass(frozen=True)
class Sizes:
    """
    The sizes of all scenarios.

    :ivar held: how many updates a journal, or nchan's buffer, holds.
    :ivar publishers: how many connections publish as fast as possible.
    """

    subscribers: int = 1_000
    held: int = 10_000
    publishers: int = 16
    steady: int = 600
    # On a virtual machine, waking an idle client on another core costs any server some 8 µs, even the floor
    # in C of fanout/. So nchan cannot deliver a hundred updates a second.
    steady_rate: int = 40
    fast: int = 4_000
    alone: int = 20_000

    def within(self, files: int) -> Sizes:
        """
        Return these sizes with at most so many connections at a time as there can be open files.
        """
        return replace(self, subscribers=min(self.subscribers, files))


QUICK = Sizes(steady=80, fast=500, alone=3_000)

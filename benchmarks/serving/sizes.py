"""
How much of everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["QUICK", "SIZE", "Sizes"]

#: How many bytes the data of an update have.
SIZE = 100


@dataclass(frozen=True)
class Sizes:
    """
    How much of everything.

    :ivar held: how many updates a journal holds, or a buffer.
    :ivar publishers: how many connections publish as fast as it goes.
    """

    subscribers: int = 1_000
    held: int = 10_000
    publishers: int = 16
    steady: int = 600
    # To wake clients that have nothing to do takes any server some 8 µs for each, between the cores of a
    # virtual machine, even the floor in C of fanout/: a hundred updates a second are more than nchan can do.
    steady_rate: int = 40
    fast: int = 4_000
    alone: int = 20_000

    def within(self, files: int) -> Sizes:
        """
        Have no more connections at a time than there can be open files.
        """
        return replace(self, subscribers=min(self.subscribers, files))


QUICK = Sizes(steady=80, fast=500, alone=3_000)

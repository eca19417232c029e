"""
Test support for streams and their clients.

It has a scripted server, an in-memory network on a simulated clock, and a clock whose wall-clock time can be
set. The contract suite for journals is :mod:`txsse.testing.journal_contract`.
"""

from txsse.testing.clock import WallClock
from txsse.testing.memory import MemoryAgent, MemoryPair
from txsse.testing.script import CUT, HOLD, Reply, ScriptedResource, Step, Visit

__all__ = [
    "CUT",
    "HOLD",
    "MemoryAgent",
    "MemoryPair",
    "Reply",
    "ScriptedResource",
    "Step",
    "Visit",
    "WallClock",
]

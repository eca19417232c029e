"""
What the tests of streams and of their readers need: a server that plays a script, and a network in memory
with a clock that stands still until it is told to go on, and whose time of day can be set. The suite that any
journal has to pass is :mod:`txsse.testing.journal_contract`.
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

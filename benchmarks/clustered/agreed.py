"""
What nodes, subscribers and publishers have agreed on.
"""

from __future__ import annotations

__all__ = ["END", "KEY", "SEED", "TOPICS"]

# What the names of the keys in Redis begin with.
KEY = "txsse"

TOPICS = ["a", "b", "c", "d"]

# The ids of the first update and of the last one, which go to all topics.
SEED, END = "seed", "end"

"""
Constants that nodes, subscribers and publishers share.
"""

from __future__ import annotations

__all__ = ["END", "KEY", "SEED", "TOPICS"]

# The prefix of the keys in Redis.
KEY = "txsse"

TOPICS = ["a", "b", "c", "d"]

# The ids of the first and the last update, which both have all topics.
SEED, END = "seed", "end"

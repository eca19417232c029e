"""
Code that the programs share: creating a journal, and writing results for the benchmark.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any, Literal, cast

from recording.contestants import MEMORY, SQLITE, Contestant
from txsse import MemoryJournal
from txsse.journal.interfaces import IJournal
from txsse.journal.redis import journal as redis
from txsse.journal.redis import outbox as redis_outbox
from txsse.journal.sqlite import journal as sqlite

__all__ = ["TOPIC", "make_journal", "record_alone", "report"]

TOPIC = "bench"


def make_journal(contestant: Contestant, place: str, count: int) -> IJournal:
    """
    Create a journal.

    :param place: the path of its file, or the port of its Redis.
    :param count: how many updates it holds.
    """
    if contestant.kind == MEMORY:
        return MemoryJournal(max_count=count)
    # Keep all updates in memory; or none, with a limit that no update fits in, so that all are read from the
    # file or from Redis.
    for module in (sqlite, redis):
        replace(module, "RECENT_COUNT", count)
    recent = {} if contestant.held else {"recent_bytes": 1}
    if contestant.kind == SQLITE:
        synchronous = cast(Literal["NORMAL", "FULL"], contestant.sync)
        return sqlite.SQLiteJournal(place, max_count=count, synchronous=synchronous, **recent)
    return redis.RedisJournal(f"redis://127.0.0.1:{place}", max_count=count, **recent)


def record_alone(contestant: Contestant) -> None:
    """
    Record each update with its own transaction or call from now on, if the contestant does. Call this after
    the journal is filled, because filling it in this way would take minutes.
    """
    if contestant.alone:
        replace(sqlite, "MAX_BATCH_COUNT", 1)
        replace(redis_outbox, "_CHUNK_COUNT", 1)


def replace(module: ModuleType, name: str, value: int) -> None:
    """
    Replace a constant of a journal.

    :raises AttributeError: if the module has no such constant: the figures would be wrong.
    """
    getattr(module, name)
    setattr(module, name, value)


def report(value: Any) -> None:
    """
    Write a value to stdout, as a line of JSON, for the benchmark.
    """
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()

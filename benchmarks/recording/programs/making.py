"""
What the programs have in common: making a journal, and telling the runner.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal, cast

from recording.contestants import MEMORY, SQLITE, Contestant
from txsse import MemoryJournal
from txsse.journal.interfaces import IJournal
from txsse.journal.redis import journal as redis
from txsse.journal.redis import outbox as redis_outbox
from txsse.journal.sqlite import journal as sqlite

__all__ = ["TOPIC", "make_journal", "record_alone", "tell"]

TOPIC = "bench"


def make_journal(contestant: Contestant, place: str, count: int) -> IJournal:
    """
    Make a journal.

    :param place: its file, or the port of its Redis.
    :param count: how many updates it holds.
    """
    if contestant.kind == MEMORY:
        return MemoryJournal(max_count=count)
    # All of it is in memory; or nothing: a single update does not fit, and everything is read from where
    # it was recorded.
    sqlite._RECENT_COUNT = redis._RECENT_COUNT = count
    recent = {} if contestant.held else {"recent_bytes": 1}
    if contestant.kind == SQLITE:
        synchronous = cast(Literal["NORMAL", "FULL"], contestant.sync)
        return sqlite.SQLiteJournal(place, max_count=count, synchronous=synchronous, **recent)
    return redis.RedisJournal(f"redis://127.0.0.1:{place}", max_count=count, **recent)


def record_alone(contestant: Contestant) -> None:
    """
    Give each update a transaction, or a call, of its own, from now on, where that is asked for: filling a
    journal that way would take minutes.
    """
    if contestant.alone:
        sqlite._BATCH_COUNT = redis_outbox._BATCH_COUNT = 1


def tell(told: Any) -> None:
    """
    Tell the runner something.
    """
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()

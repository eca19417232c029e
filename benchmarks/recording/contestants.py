"""
The journals, in all the ways they are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared import rounds

__all__ = ["ALL", "MEMORY", "REDIS", "SQLITE", "Contestant", "named"]

MEMORY, SQLITE, REDIS = "memory", "sqlite", "redis"


@dataclass(frozen=True)
class Contestant(rounds.Contestant):
    """
    A journal with its options.

    :ivar kind: which journal.
    :ivar sync: SQLite's ``synchronous``, or the ``appendfsync`` of the Redis.
    :ivar alone: whether each update has a transaction, or a call, of its own.
    :ivar held: whether everything is in memory. A journal as it comes is between the two: its newest part is.
    """

    kind: str
    sync: str = ""
    alone: bool = False
    held: bool = True

    @property
    def together(self) -> str | None:
        """
        The name of the same journal that records together what comes together; ``None`` for that itself.
        """
        return self.name.removesuffix("-alone") if self.alone else None


ALL = (
    Contestant("memory", "MemoryJournal", MEMORY),
    Contestant("sqlite-normal", "SQLiteJournal, NORMAL", SQLITE, "NORMAL"),
    Contestant("sqlite-normal-alone", "SQLiteJournal, NORMAL, one each", SQLITE, "NORMAL", alone=True),
    Contestant("sqlite-full", "SQLiteJournal, FULL", SQLITE, "FULL"),
    Contestant("sqlite-full-alone", "SQLiteJournal, FULL, one each", SQLITE, "FULL", alone=True),
    Contestant("redis-everysec", "RedisJournal, everysec", REDIS, "everysec"),
    Contestant("redis-everysec-alone", "RedisJournal, everysec, one each", REDIS, "everysec", alone=True),
    Contestant("redis-always", "RedisJournal, always", REDIS, "always"),
    Contestant("redis-always-alone", "RedisJournal, always, one each", REDIS, "always", alone=True),
    Contestant("sqlite-file", "SQLiteJournal, from its file", SQLITE, "NORMAL", held=False),
    Contestant("redis-server", "RedisJournal, from its Redis", REDIS, "everysec", held=False),
)


def named(name: str) -> Contestant:
    """
    Find one by its name.
    """
    (found,) = (each for each in ALL if each.name == name)
    return found

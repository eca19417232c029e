"""
The journals that are compared, with their options.
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
    :ivar sync: SQLite's ``synchronous``, or Redis's ``appendfsync``.
    :ivar alone: whether each update is recorded by its own transaction or call.
    :ivar held: whether all updates are also in memory; otherwise none is. By default, a journal keeps the
        newest ones in memory.
    """

    kind: str
    sync: str = ""
    alone: bool = False
    held: bool = True

    @property
    def together(self) -> str | None:
        """
        The name of the same journal with batches; ``None`` if this one records batches.
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
    Return the journal with a name.
    """
    (found,) = (each for each in ALL if each.name == name)
    return found

"""
A journal by its name, as it stands on a command line.
"""

from __future__ import annotations

from typing import Any

from txsse._redact import without_secrets
from txsse.journal.interfaces import IJournal
from txsse.journal.memory import MemoryJournal

__all__ = ["JOURNAL_NAMES", "journal_named"]

#: How journals are named, for help texts.
JOURNAL_NAMES = "memory:, sqlite:PATH, or a Redis as redis://HOST:6379/0, rediss://, unix: or redis+sentinel:"


def journal_named(name: str, **options: Any) -> IJournal:
    """
    Make a journal.

    :param name: ``memory:``, ``sqlite:`` and a path, or the URL of a Redis.
    :param options: those that all journals have: ``max_count``, ``max_bytes``, ``max_age``, ``reactor``.
    :raises ValueError: for a name that is none.
    :raises ImportError: for a Redis, where the packages for it are missing.
    """
    scheme, colon, rest = name.partition(":")
    if name == "memory:":
        return MemoryJournal(**options)
    if scheme == "sqlite" and rest:
        # Only for those who ask: this one needs SQLite, which not every Python has, and the other one needs
        # packages that are optional.
        from txsse.journal.sqlite import SQLiteJournal

        return SQLiteJournal(rest.removeprefix("//"), **options)
    if colon and scheme in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"):
        from txsse.journal.redis import RedisJournal

        return RedisJournal(name, **options)
    raise ValueError(f"{without_secrets(name)!r} is no journal; name {JOURNAL_NAMES}")

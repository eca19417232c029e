"""
Makes a journal from its name, as given on a command line or in an environment variable.
"""

from __future__ import annotations

from typing import TypedDict, Unpack

from txsse._redact import without_secrets
from txsse._typing import AnyReactor
from txsse.journal.interfaces import IJournal
from txsse.journal.memory import MemoryJournal

__all__ = ["JOURNAL_NAMES", "JournalOptions", "journal_named"]

#: The possible names of journals, for help texts and errors.
JOURNAL_NAMES = "memory:, sqlite:PATH, or a Redis as redis://HOST:6379/0, rediss://, unix: or redis+sentinel:"


class JournalOptions(TypedDict, total=False):
    """
    The options that all journals have.
    """

    max_count: int
    max_bytes: int
    max_age: float | None
    max_retained: int
    max_retained_bytes: int
    reactor: AnyReactor | None


def journal_named(name: str, **options: Unpack[JournalOptions]) -> IJournal:
    """
    Make a journal.

    :param name: ``memory:``, ``sqlite:`` and a path, or the URL of a Redis server.
    :param options: those that all journals have.
    :raises ValueError: if the name is not one of these.
    :raises ImportError: if the optional packages that the journal needs are missing.
    """
    scheme, colon, rest = name.partition(":")
    if name == "memory:":
        return MemoryJournal(**options)
    if scheme == "sqlite" and rest:
        # Imported when needed: this journal needs SQLite, which not every Python has, and the other one needs
        # optional packages.
        from txsse.journal.sqlite import SQLiteJournal

        return SQLiteJournal(rest.removeprefix("//"), **options)
    if colon and scheme in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"):
        from txsse.journal.redis import RedisJournal

        return RedisJournal(name, **options)
    raise ValueError(f"{without_secrets(name)!r} is not a journal; use {JOURNAL_NAMES}")

"""
Opens a journal's file in the thread, and reads from it what the reactor's thread begins with.
"""

from __future__ import annotations

from typing import NamedTuple

from txsse.journal.page import Entry
from txsse.journal.sqlite.database import Database

__all__ = ["Opened", "open_journal"]


class Opened(NamedTuple):
    """
    The content of a file that has been opened; its retained updates are returned by ``Database.take_loaded``.

    :ivar newest: the newest updates with their times, in order.
    :ivar repeated: the ids among these that an older update in the file also has.
    :ivar visits: for each of the latest processes, this one last: the secret of its resume IDs, and its final
        position.
    """

    newest: list[tuple[Entry, float]]
    repeated: set[str]
    visits: list[tuple[bytes, int]]


def open_journal(database: Database, now: float, secret: bytes, *, count: int, size: int) -> Opened:
    """
    Open a file, or create it.

    :param now: the time of day, in seconds since 1970.
    :param secret: the secret of this process's resume IDs.
    :param count: the maximum number of the newest updates to read.
    :param size: the maximum size of their frames, in bytes.
    :raises JournalFailed: if it is not a journal of this version, or another process has it open.
    :raises sqlite3.Error: if it cannot be opened.
    """
    database.open(now)
    visits = database.begin_visit(secret)
    newest, repeated = database.newest(count, size)
    return Opened(newest, repeated, visits)

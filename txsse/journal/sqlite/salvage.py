"""
Saving what can be read of a damaged database, where SQLite cannot write to it any more.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from txsse.journal.sqlite.codec import COLUMNS, decode
from txsse.journal.sqlite.ids import insert, supersede
from txsse.journal.sqlite.schema import create, mark, put_visits, visits
from txsse.journal.sqlite.table_scan import rows_after

__all__ = ["copy_readable"]

_ID = COLUMNS.split(", ").index("id")


def copy_readable(damaged: sqlite3.Connection, path: Path, *, floor: int, head: int) -> None:
    """
    Copy all updates that are as they were written into an empty file.

    :param floor: the position after which to begin.
    :param head: the last position.
    """
    fresh = sqlite3.connect(path, isolation_level=None)
    try:
        # The file is of no use until it is complete, and is flushed then.
        fresh.execute("PRAGMA journal_mode = OFF")
        fresh.execute("PRAGMA synchronous = OFF")
        fresh.execute("BEGIN")
        create(fresh)
        for row in rows_after(damaged, COLUMNS, floor, up_to=head):
            if decode(row) is not None:
                if not insert(fresh, row):
                    supersede(fresh, row[_ID])
                    insert(fresh, row)
        put_visits(fresh, visits(damaged))
        mark(fresh, head)
        fresh.execute("COMMIT")
    finally:
        fresh.close()

"""
Copies the readable rows of a damaged database, to which SQLite can no longer write, into a new one.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from txsse.journal.sqlite.codec import COLUMNS, decode
from txsse.journal.sqlite.ids import insert, supersede
from txsse.journal.sqlite.retained_table import copy_retained
from txsse.journal.sqlite.revocation_table import copy_revocations
from txsse.journal.sqlite.schema import create, mark, put_visits, visits
from txsse.journal.sqlite.table_scan import rows_after

__all__ = ["copy_readable"]


def copy_readable(damaged: sqlite3.Connection, path: Path, *, floor: int, head: int) -> None:
    """
    Copy all undamaged updates, retained updates and revocations into an empty file.

    :param floor: the position after which to begin.
    :param head: the last position, inclusive.
    """
    fresh = sqlite3.connect(path, isolation_level=None)
    try:
        # An incomplete copy is discarded, so it needs no journal. The complete one is flushed when it
        # replaces the damaged file.
        fresh.execute("PRAGMA journal_mode = OFF")
        fresh.execute("PRAGMA synchronous = OFF")
        fresh.execute("BEGIN")
        create(fresh)
        for row in rows_after(damaged, COLUMNS, floor, up_to=head):
            found = decode(row)
            if found is not None and not insert(fresh, row):
                (_, update), _ = found
                supersede(fresh, update.id.encode())
                insert(fresh, row)
        copy_revocations(damaged, fresh)
        copy_retained(damaged, fresh)
        put_visits(fresh, visits(damaged))
        mark(fresh, head)
        fresh.execute("COMMIT")
    finally:
        fresh.close()

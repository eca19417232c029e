"""
Reads pages of updates from a journal's file. A page ends before a missing or damaged update.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import islice

from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.sqlite.codec import COLUMNS, decode
from txsse.journal.sqlite.table_scan import newest, rows_after
from txsse.journal.window import PAGE_BYTES, PAGE_COUNT

__all__ = ["read_newest", "read_page"]

# The maximum number of rows that are read for one page. If all are damaged, the page is empty, and the reader
# continues with the next one.
_PAGE_ROWS = 16 * PAGE_COUNT


def read_page(
    connection: sqlite3.Connection, after: int, *, floor: int, head: int, lost: Callable[[int, int], None]
) -> Page:
    """
    Read the page after a position; see :meth:`IJournal.read <txsse.journal.interfaces.IJournal.read>`.

    :param floor: the position up to which all updates have been dropped.
    :param head: the position of the newest update.
    :param lost: called with the first and the last position of each range that cannot be read.
    """
    missed = OLDEST < after < floor
    last = max(after, floor)
    entries: list[Entry] = []
    size = rows = 0
    with closing(rows_after(connection, COLUMNS, last, _PAGE_ROWS, up_to=head)) as found:
        for row in found:
            rows += 1
            decoded = decode(row)
            if decoded is None or row[0] <= last:
                continue
            entry, _ = decoded
            if entry[0] > last + 1:
                if entries:
                    break
                lost(last + 1, entry[0] - 1)
                missed = True
            entries.append(entry)
            last = entry[0]
            size += len(entry[1].frame)
            if size >= PAGE_BYTES or len(entries) >= PAGE_COUNT:
                break
    if not entries and last < head:
        # If more rows may follow, the next page begins after the last row that was read.
        end = min(max(row[0], last + 1), head) if rows >= _PAGE_ROWS else head
        lost(last + 1, end)
        return Page([], end, True)
    return Page(entries, last, missed)


def read_newest(
    connection: sqlite3.Connection, count: int, size: int, *, floor: int, head: int
) -> list[tuple[Entry, float]]:
    """
    Return the newest updates with their times, in order: as many as follow each other without a gap.

    :param count: the maximum number of updates.
    :param size: the maximum size of their frames, in bytes.
    """
    entries = []
    with closing(newest(connection, head, floor)) as found:
        for entry, time in islice(found, count):
            size -= len(entry[1].frame)
            if size < 0:
                break
            entries.append((entry, time))
    return entries[::-1]

"""
The journal in a SQLite file, for one process.
"""

from txsse.journal.sqlite.journal import SQLiteJournal

__all__ = ["SQLiteJournal"]

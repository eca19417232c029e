"""
A journal in a file of SQLite.
"""

from txsse.journal.sqlite.journal import SQLiteJournal

__all__ = ["SQLiteJournal"]

"""
The list of revoked tokens in a journal's file: the part that works in the reactor's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from txsse.errors import JournalFailed, TooManyRevocations
from txsse.journal.revocations import MAX_REVOCATIONS, IRevocations, Revocation
from txsse.journal.sqlite.database import Database
from txsse.journal.sqlite.revocation_table import delete, page_after, record, size_of
from txsse.journal.sqlite.worker import Worker

__all__ = ["SQLiteRevocations"]

T = TypeVar("T")

_log = Logger()

# How many rows the thread reads at once. Updates that are published meanwhile are recorded between two pages.
_PAGE_COUNT = 1000


@implementer(IRevocations)
class SQLiteRevocations:
    """
    Revocations in a journal's file.

    :param worker: the thread of the journal.
    :param database: its file.
    :param now: returns the time of day, in seconds since 1970.
    :param max_count: the maximum number of revocations whose tokens have not expired.
    """

    def __init__(
        self,
        worker: Worker,
        database: Database,
        now: Callable[[], float],
        *,
        max_count: int = MAX_REVOCATIONS,
    ) -> None:
        self._worker = worker
        self._database = database
        self._now = now
        self._max_count = max_count
        self._has_logged = False

    def add(self, revocation: Revocation) -> Deferred[None]:
        """
        Record a revocation, and delete some of those that have expired.
        """
        work = partial(record, revocation=revocation, now=self._now(), max_count=self._max_count)
        return self._change(work, size_of(revocation)).addCallback(self._has_added)

    def load(self) -> Deferred[list[Revocation]]:
        """
        Return the revocations whose tokens have not expired, and delete some of the others.
        """
        return Deferred.fromCoroutine(self._load())

    def _has_added(self, is_recorded: bool) -> None:
        if not is_recorded:
            raise TooManyRevocations(self._max_count)

    async def _load(self) -> list[Revocation]:
        # One that changes meanwhile is read twice, the later one last.
        found: dict[tuple[str, str], Revocation] = {}
        damaged: list[int] = []
        is_torn, end = False, 0
        while True:
            read = partial(page_after, after=end, limit=_PAGE_COUNT)
            page = await self._worker.run(self._database.query, read)
            found.update(((each.claim, each.value), each) for each in page.found)
            damaged += page.damaged
            is_torn = is_torn or page.is_torn
            if page.end is None:
                break
            end = page.end
        if (damaged or is_torn) and not self._has_logged:
            self._has_logged = True
            _log.error(
                "{path}: records of revoked tokens are damaged and are skipped; revoke again the tokens that "
                "must not be accepted",
                path=self._database.path,
            )
        now = self._now()
        current = [each for each in found.values() if each.expires > now]
        if damaged or len(current) < len(found):
            # The list is complete, even if the file cannot be written. The failure is the journal's problem.
            with suppress(JournalFailed):
                await self._change(partial(delete, numbers=damaged, now=now), 0)
        return current

    def _change(self, work: Callable[[sqlite3.Connection], T], size: int) -> Deferred[T]:
        changed: Deferred[T] = self._worker.run(self._database.change, work, size)
        return changed.addCallback(self._has_written)

    def _has_written(self, result: T) -> T:
        self._worker.note(self._database.trouble.current)
        return result

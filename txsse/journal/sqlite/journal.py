"""
The journal in a SQLite file, as its users see it: the part that works in the reactor's thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse._clock import make_steady, wall_of
from txsse._randomness import randomness_of
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.errors import JournalFailed
from txsse.journal.base import (
    DEFAULT_AGE,
    MAX_PENDING,
    RECENT_BYTES,
    RECENT_COUNT,
    all_of,
    check_bounds,
    check_retained_bounds,
    not_started,
    to_max_age,
)
from txsse.journal.interfaces import IFollower, IRetainingJournal
from txsse.journal.page import Page
from txsse.journal.resume_ids import ResumeIds, new_secret
from txsse.journal.retained_updates import DEFAULT_MAX_RETAINED, DEFAULT_MAX_RETAINED_BYTES, RetainedUpdates
from txsse.journal.sqlite.appending_file import Appended
from txsse.journal.sqlite.database import Bounds, Database
from txsse.journal.sqlite.opening import Opened, open_journal
from txsse.journal.sqlite.retained_rows import RetainedBounds
from txsse.journal.sqlite.revocations import SQLiteRevocations
from txsse.journal.sqlite.waiting_updates import Waiting, WaitingUpdates
from txsse.journal.sqlite.worker import Worker
from txsse.journal.update import Update
from txsse.journal.window import Window

__all__ = ["SQLiteJournal"]

T = TypeVar("T")

_log = Logger()

# How many reads of pages may be queued for the thread: a published update waits for no more of them.
_READS = 2

# How often to delete old rows, to check that no file was removed, and to test whether a problem persists, in
# seconds.
_TIDY_INTERVAL = 5.0


@implementer(IRetainingJournal)
class SQLiteJournal:
    """
    A journal in a SQLite file, whose updates outlive the process.

    SQLite runs in a separate thread, so the reactor never waits for the disk. Updates that are appended while
    a transaction runs are recorded together in the next one.

    An update that was published survives a kill of the process. With ``synchronous="FULL"`` it also survives
    a power cut; each transaction then waits for the disk. Damaged records are skipped, counted, and reported
    to clients that resume before them.

    Only one process can have the file open; several use :class:`txsse.journal.redis.RedisJournal`.

    :param path: the file, which is created if it does not exist. The files next to it with the suffixes
        ``-wal``, ``-shm`` and ``-head`` belong to it.
    :param max_count: the maximum number of updates.
    :param max_bytes: the maximum size of the updates in the file, in bytes, approximately.
    :param max_age: the maximum age of an update, in seconds; ``None`` for no such limit.
    :param max_retained: the maximum number of retained updates.
    :param max_retained_bytes: the maximum size of the retained updates, in bytes, approximately. They are in
        memory, too.
    :param recent_bytes: the memory for the newest updates, in bytes. Reading these needs no disk access.
    :param max_pending: how many bytes of updates may wait to be recorded. Appending more of them fails.
    :param synchronous: ``NORMAL`` or ``FULL``.
    :param lock_timeout: how long to wait for another process that has the file open, in seconds.
    :param reactor: the reactor; ``None`` for the global one.
    :raises ValueError: if a limit is not greater than 0.
    :ivar retained: the retained updates, an :class:`~txsse.journal.retained.IRetained`, in the same file.
    :ivar revocations: the list of revoked tokens, in the same file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_count: int = 1_000_000,
        max_bytes: int = 1024 * 1024 * 1024,
        max_age: float | None = DEFAULT_AGE,
        max_retained: int = DEFAULT_MAX_RETAINED,
        max_retained_bytes: int = DEFAULT_MAX_RETAINED_BYTES,
        recent_bytes: int = RECENT_BYTES,
        max_pending: int = MAX_PENDING,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        lock_timeout: float = 5.0,
        reactor: AnyReactor | None = None,
    ) -> None:
        check_bounds(max_count, max_bytes, max_age)
        check_retained_bounds(max_retained, max_retained_bytes)
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous must be NORMAL or FULL, not {synchronous!r}")
        self._max_age = to_max_age(max_age)
        self._path = Path(path)
        self._database = Database(
            self._path,
            Bounds(max_count, max_bytes, self._max_age),
            RetainedBounds(max_retained, max_retained_bytes),
            synchronous=synchronous,
            lock_timeout=lock_timeout,
            seconds=lambda: not_started() if self._reactor is None else self._reactor.seconds(),
        )
        self._recent_bytes = recent_bytes
        self._recent = self._new_recent(0)
        self._floor = 0
        # The resume IDs of this process; and those of earlier processes, with the final position of each. The
        # updates after that position may be others than those that the earlier process had there, if a power
        # cut or a restored backup set the file back.
        self._resume_ids = ResumeIds(new_secret(randomness_of(reactor)))
        self._earlier: list[tuple[ResumeIds, int]] = []
        self._given_reactor = cast("IReactorTime | None", reactor)
        self._reactor: IReactorTime | None = None
        self._now: Callable[[], float] = not_started
        self._worker = Worker(self, self._path)
        self.revocations = SQLiteRevocations(self._worker, self._database, lambda: self._now())
        # A copy of the rows in the file, as far as the follower has been given the updates.
        self.retained = RetainedUpdates(
            lambda: self._now(), max_count=max_retained, max_bytes=max_retained_bytes
        )
        self._follower: IFollower | None = None
        self._waiting = WaitingUpdates(str(self._path), max_pending)
        self._committing = False
        self._reading = DeferredSemaphore(_READS)
        self._idle: Deferred[None] | None = None
        self._tidying: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<SQLiteJournal {self._path}>"

    @property
    def head(self) -> int:
        """
        The position of the newest update that the follower was given.
        """
        return self._recent.head

    @property
    def problem(self) -> Exception | None:
        """
        The current problem; ``None`` while the journal works.
        """
        return self._worker.problem

    @property
    def damaged(self) -> int:
        """
        The number of positions whose updates are damaged or lost.
        """
        return self._database.damage.count

    def start(self, follower: IFollower) -> Deferred[None]:
        """
        Start the thread, and open the file. The Deferred fails if it cannot be opened.
        """
        self._follower = follower
        self._reactor = make_steady(self._given_reactor or global_reactor())
        self._now = wall_of(self._reactor)
        self._worker.start(self._reactor)
        opened = self._run_in_thread(self._open, self._now()).addCallback(self._update_problem)
        return opened.addCallbacks(self._has_opened, self._has_not_opened)

    def append(self, update: Update) -> Deferred[int]:
        """
        Record an update, in the next transaction.
        """
        now = self._now()
        # While a transaction runs, it or the next one may add a newer update with this id: the thread checks.
        known = None if self._committing else self._recent.find_equal(update, now)
        if known is not None:
            return succeed(known)
        try:
            recorded = self._waiting.add(update, now)
        except JournalFailed as error:
            return fail(error)
        self._commit()
        return recorded

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        """
        Record several updates, all in one transaction.
        """
        try:
            recorded = self._waiting.add_many(updates, self._now())
        except JournalFailed as error:
            return fail(error)
        self._commit()
        return all_of(recorded)

    def find(self, id: str) -> Deferred[int | None]:
        """
        Look up the id of an update, or a resume ID.
        """
        now = self._now()
        position = self._recent.find(id, now)
        if position is None:
            position = self._find_resume_id(id)
        # The file is searched if it may hold an earlier update with this id.
        if (position is not None and self._recent.begins(id)) or self._all_is_recent():
            return succeed(position)
        return self._run_in_thread(self._database.find, id, now)

    def at(self, position: int) -> Deferred[Update | None]:
        """
        Return the update at a position, from memory if it is one of the newest.
        """
        now = self._now()
        update = self._recent.at(position, now)
        if update is not None or self._all_is_recent():
            return succeed(update)
        return self._run_in_thread(self._database.at, position, now)

    def read(self, after: int) -> Deferred[Page]:
        """
        Read the updates after a position, from memory if they are among the newest.
        """
        now = self._now()
        self._recent.trim(now)
        if after >= self._recent.floor or self._all_is_recent():
            return succeed(self._recent.read(after, now))
        return self._reading.run(self._run_in_thread, self._database.read, after, now)

    def resume_id(self, position: int) -> str:
        """
        Return an opaque resume ID for a position.
        """
        return self._resume_ids.resume_id(position)

    def _find_resume_id(self, id: str) -> int | None:
        found = (ids.find(id, end) for ids, end in (*self._earlier, (self._resume_ids, self.head)))
        return next((position for position in found if position is not None), None)

    def stop(self) -> Deferred[None]:
        """
        Record the appended updates, then close the file and end the thread.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._committing:
            self._idle = Deferred()
            await self._idle
        tidying, self._tidying = self._tidying, None
        if tidying is not None:
            tidying.cancel()
        await self._worker.stop(self._database.finish)

    # These are called in the thread.

    def _open(self, now: float) -> Opened:
        secret = new_secret(randomness_of(self._reactor))
        return open_journal(self._database, now, secret, count=RECENT_COUNT, size=self._recent_bytes)

    def _append(self, batch: list[Waiting]) -> tuple[Sequence[Appended], set[str]]:
        database = self._database
        updates = [(each.update, each.time) for each in batch]
        if any(update.retention is not None for update, _ in updates):
            results = database.append_retaining(updates, [each.more for each in batch])
            return results, database.repeated
        return database.append(updates), database.repeated

    # These are called in the reactor's thread, with the results.

    def _has_opened(self, found: Opened) -> None:
        newest, repeated, visits = found
        *earlier, (secret, head) = visits
        self._earlier = [(ResumeIds(each), end) for each, end in earlier]
        self._resume_ids = ResumeIds(secret)
        # The window begins just before the oldest of these updates.
        self._recent = self._new_recent(newest[0][0][0] - 1 if newest else head)
        for (position, update), time in newest:
            self._recent.add(position, update, time, repeated=update.id in repeated)
        self._tidy_later()

    def _has_not_opened(self, failure: Failure) -> Deferred[None]:
        return Deferred.fromCoroutine(self._worker.stop()).addCallback(lambda _: failure)

    def _commit(self) -> None:
        if self._committing or not self._waiting:
            return
        self._committing = True
        batch, size = self._waiting.take()
        recorded = self._run_in_thread(self._append, batch)
        recorded.addCallback(self._update_problem)
        recorded.addBoth(self._release, size)
        recorded.addCallbacks(
            self._has_recorded, self._has_not_recorded, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        recorded.addErrback(
            lambda error: _log.failure("{journal}: a callback for new updates failed", error, journal=self)
        )
        recorded.addBoth(self._commit_next)

    def _release(self, result: T, size: int) -> T:
        self._waiting.release(size)
        return result

    def _has_recorded(self, appended: tuple[Sequence[Appended], set[str]], batch: list[Waiting]) -> None:
        assert self._follower is not None
        results, repeated = appended
        for position, (update, time, _, _) in zip(results, batch, strict=True):
            if isinstance(position, int) and position > self._recent.head:
                entry = self._recent.add(position, update, time, repeated=update.id in repeated)
                if update.retention is not None:
                    self.retained.apply(position, update)
                self._follower.update_appended(entry)
        self._recent.forget(self._floor)
        # An update is given to the follower before the Deferred of its publisher fires.
        for result, waiting in zip(results, batch, strict=True):
            if isinstance(result, int):
                waiting.recorded.callback(result)
            else:
                waiting.recorded.errback(result)

    def _has_not_recorded(self, failure: Failure, batch: list[Waiting]) -> None:
        for waiting in batch:
            waiting.recorded.errback(failure)

    def _commit_next(self, _: object) -> None:
        self._committing = False
        self._commit()
        if not self._committing and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    # These are called at intervals.

    def _tidy_later(self, seconds: float = _TIDY_INTERVAL) -> None:
        if self._worker.is_running and self._reactor is not None:
            self._tidying = self._reactor.callLater(seconds, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        self._tidy_now().addCallback(lambda more: self._tidy_later(0.0 if more else _TIDY_INTERVAL))

    def _tidy_now(self) -> Deferred[bool]:
        # A failure has already been logged, and the next interval is soon enough for a retry.
        return Deferred.fromCoroutine(self._probe_and_tidy()).addErrback(lambda _: False)

    async def _probe_and_tidy(self) -> bool:
        if self.problem is not None:
            # Without the probe, the problem would persist until a client publishes.
            await self._run_in_thread(self._database.probe)
            self._update_problem(None)
        return await self._run_in_thread(self._database.tidy, self._now())

    # These pass work to the thread.

    def _run_in_thread(self, ask: Callable[..., T], *arguments: object) -> Deferred[T]:
        """
        Call a function in the thread. The call may have dropped updates, or read the retained ones again.
        """

        def work() -> tuple[T, int, RetainedUpdates | None]:
            return ask(*arguments), self._database.floor, self._database.take_loaded()

        def answered(answer: tuple[T, int, RetainedUpdates | None]) -> T:
            result, self._floor, loaded = answer
            if loaded is not None:
                self.retained.adopt(loaded)
            return result

        return self._worker.run(work).addCallback(answered)

    def _update_problem(self, result: T) -> T:
        """
        Set or clear the problem after a write. A successful read does not clear it: a full disk can be read.
        """
        self._worker.note(self._database.trouble.current)
        return result

    def _new_recent(self, head: int) -> Window:
        return Window(max_count=RECENT_COUNT, max_bytes=self._recent_bytes, max_age=self._max_age, head=head)

    def _all_is_recent(self) -> bool:
        return self._recent.floor <= self._floor

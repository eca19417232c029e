"""
The thread in which SQLite runs, and the problem of the journal, which is set if work in the thread fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from txsse._randomness import ThreadPool, make_thread_pool
from txsse._typing import AnyReactor
from txsse.errors import JournalFailed
from txsse.journal.problem import HasProblem
from txsse.journal.sqlite.errors import explain

__all__ = ["Worker"]

T = TypeVar("T")


class Worker(HasProblem[Exception]):
    """
    A thread pool of one thread, in which a journal runs all its access to the file.

    :param journal: the journal, for the log.
    :param path: its file, for errors.
    :ivar problem: the current problem; ``None`` while the journal works.
    """

    def __init__(self, journal: object, path: Path) -> None:
        super().__init__(journal)
        self._path = path
        self._reactor: IReactorFromThreads | None = None
        self._threads: ThreadPool | None = None
        self._at_exit: object = None

    @property
    def is_running(self) -> bool:
        """
        Whether the thread has been started and not been stopped.
        """
        return self._threads is not None

    def start(self, reactor: AnyReactor) -> None:
        """
        Start the thread, as soon as the reactor runs.
        """
        self._reactor = cast(IReactorFromThreads, reactor)
        self._threads = make_thread_pool(reactor, "txsse-sqlite")
        core = cast(IReactorCore, reactor)
        # A thread keeps the interpreter from exiting, and does not survive a fork. Therefore it starts when
        # the reactor does, without which no result could be delivered anyway; and it ends after the reactor
        # has shut down, even if the program does not stop its hub. Work passed before the start waits for it.
        core.callWhenRunning(self._threads.start)
        self._at_exit = core.addSystemEventTrigger("after", "shutdown", self._threads.stop)

    def run(self, work: Callable[..., T], *arguments: object) -> Deferred[T]:
        """
        Call a function in the thread.

        :returns: a Deferred that fires with its result. An error of SQLite or the operating system becomes a
            :exc:`~txsse.errors.JournalFailed`; every error becomes the current problem.
        """
        if self._threads is None:
            return fail(JournalFailed(str(self._path), "has not been started, or has been stopped"))
        assert self._reactor is not None
        done: Deferred[T] = deferToThreadPool(self._reactor, self._threads, work, *arguments)
        return done.addErrback(self._has_failed)

    async def stop(self, last: Callable[[], None] | None = None) -> None:
        """
        Stop the thread, after the work passed to it.

        :param last: a function that the thread calls last.
        :raises JournalFailed: if SQLite fails in this function.
        """
        threads, self._threads = self._threads, None
        if threads is None:
            return
        assert self._reactor is not None
        try:
            if last is not None:
                await deferToThreadPool(self._reactor, threads, last)
        except sqlite3.Error as error:
            raise JournalFailed(str(self._path), explain(error)) from error
        finally:
            cast(IReactorCore, self._reactor).removeSystemEventTrigger(self._at_exit)
            threads.stop()

    def _has_failed(self, failure: Failure) -> Failure:
        if failure.check(sqlite3.Error, OSError):
            error = JournalFailed(str(self._path), explain(cast(Exception, failure.value)))
            failure = Failure(error)
        self.note(cast(Exception, failure.value))
        return failure

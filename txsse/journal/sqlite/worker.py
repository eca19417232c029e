"""
The thread in which SQLite works, and the state that the journal is in by what happens there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorCore
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from txsse._randomness import make_thread_pool
from txsse._typing import AnyReactor
from txsse.errors import JournalFailed
from txsse.journal.problem import HasProblem
from txsse.journal.sqlite.errors import explain

__all__ = ["Worker"]

T = TypeVar("T")


class Worker(HasProblem[Exception]):
    """
    One thread.

    :param journal: the journal, for the log.
    :param path: its file, for errors.
    :ivar problem: what is wrong at the moment.
    """

    def __init__(self, journal: object, path: Path) -> None:
        super().__init__(journal)
        self._path = path
        self._reactor: Any = None
        self._threads: Any = None
        self._at_exit: Any = None

    @property
    def is_running(self) -> bool:
        """
        Whether it has been started, and not been stopped.
        """
        return self._threads is not None

    def start(self, reactor: AnyReactor) -> None:
        """
        Begin.
        """
        self._reactor = reactor
        self._threads = make_thread_pool(reactor, "txsse-sqlite")
        core = cast(IReactorCore, reactor)
        # A thread keeps the interpreter from ending, and does not survive a fork: there is none before the
        # reactor runs, without which no answer would come anyway; and none after it, also where the program
        # does not stop its hub. What is asked meanwhile waits.
        core.callWhenRunning(self._threads.start)
        self._at_exit = core.addSystemEventTrigger("after", "shutdown", self._threads.stop)

    def run(self, work: Callable[..., T], *arguments: object) -> Deferred[T]:
        """
        Have the thread do something.
        """
        if self._threads is None:
            return fail(JournalFailed(str(self._path), "has not been started, or has been stopped"))
        done: Deferred[T] = deferToThreadPool(self._reactor, self._threads, work, *arguments)
        return done.addErrback(self._has_failed)

    async def stop(self, last: Callable[[], None] | None = None) -> None:
        """
        End.

        :param last: what the thread does last.
        """
        threads, self._threads = self._threads, None
        if threads is None:
            return
        try:
            if last is not None:
                await deferToThreadPool(self._reactor, threads, last)
        except sqlite3.Error as error:
            raise JournalFailed(str(self._path), explain(error)) from error
        finally:
            self._reactor.removeSystemEventTrigger(self._at_exit)
            threads.stop()

    def _has_failed(self, failure: Failure) -> Failure:
        if failure.check(sqlite3.Error, OSError):
            error = JournalFailed(str(self._path), explain(cast(Exception, failure.value)))
            failure = Failure(error)
        self.note(cast(Exception, failure.value))
        return failure

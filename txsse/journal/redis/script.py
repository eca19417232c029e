"""
Calls commands of ``script.lua`` in the current session, and sets the journal's problem by their results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import JournalFailed
from txsse.journal.problem import HasProblem
from txsse.journal.redis.connection import Refused
from txsse.journal.redis.failed_commands import Refusals
from txsse.journal.redis.replies import Argument, Reply
from txsse.journal.redis.session import Session

__all__ = ["Script"]

_log = Logger()

# How often to retry the commands that the server has refused, in seconds.
_TRIAL_INTERVAL = 2.0


class Script(HasProblem[JournalFailed]):
    """
    The script of a journal.

    :param journal: the journal, for the log.
    :param name: the name of its server, for errors.
    :param now: returns the time, in seconds.
    :ivar session: the current session; ``None`` while the server is unavailable.
    :ivar problem: the current problem; ``None`` while the journal works.
    """

    def __init__(self, journal: object, name: str, now: Callable[[], float]) -> None:
        self.session: Session | None = None
        super().__init__(journal)
        self._name = name
        self._now = now
        self._refusals = Refusals()
        self._failures = RateLimitedLog(_log)
        self._reactor: IReactorTime | None = None
        self._trying: IDelayedCall | None = None

    def start(self, reactor: IReactorTime) -> None:
        """
        Start with no refused commands.
        """
        self._reactor = reactor
        self._refusals = Refusals()

    def stop(self) -> None:
        """
        End the use of the session, and the trials of refused commands.
        """
        self.session = None
        trying, self._trying = self._trying, None
        if trying is not None:
            trying.cancel()

    def session_began(self, session: Session) -> None:
        """
        Use a session from now on.
        """
        self.session = session
        # The server may still refuse the commands that it refused before, so the problem stays until they
        # work.
        self.note(self._refusals.problem)

    def session_lost(self, error: JournalFailed) -> None:
        """
        Fail every call until the next session begins.
        """
        self.session = None
        self.note(error)

    def to_failed(self, error: Exception) -> JournalFailed:
        """
        Return the error of a session that ends with an exception. Log one that is no ``JournalFailed``.
        """
        if isinstance(error, JournalFailed):
            return error
        # For example an exception of the follower.
        self._failures.failure("{journal} cannot be followed", journal=self._journal)
        return JournalFailed(self._name, f"cannot be followed because of {type(error).__name__}; see the log")

    def unreachable(self) -> JournalFailed:
        """
        Return the error of a call without a session.
        """
        problem = "not started" if self.problem is None else self.problem.problem
        return JournalFailed(self._name, problem)

    def run(self, *arguments: Argument) -> Deferred[Reply]:
        """
        Run a command of the script.

        :returns: a Deferred that fires with its result. It fails with :exc:`~txsse.errors.JournalFailed`.
        """
        if self.session is None:
            return fail(self.unreachable())
        return self._run(self.session, *arguments)

    def _run(self, session: Session, *arguments: Argument) -> Deferred[Reply]:
        ran = session.run(*arguments)
        return ran.addCallbacks(
            self._worked,
            self._failed,
            callbackArgs=(arguments,),
            errbackArgs=(session, arguments),
        )

    def _worked(self, result: Reply, arguments: Sequence[Argument]) -> Reply:
        if self._refusals and self._refusals.worked(arguments):
            self.note(self._refusals.problem)
        return result

    def _failed(self, failure: Failure, session: Session, arguments: Sequence[Argument]) -> Failure:
        error = failure.value
        if isinstance(error, JournalFailed) and session is self.session:
            self.note(error)
            if "READONLY" in error.problem or "NOSCRIPT" in error.problem:
                # Another server is the master now, or this one has lost the script. A new session fixes both.
                session.cut()
            elif isinstance(error, Refused):
                self._refusals.refused(arguments, error)
                self._try_again_later()
        return failure

    def _try_again_later(self) -> None:
        if self._trying is None:
            assert self._reactor is not None
            self._trying = self._reactor.callLater(_TRIAL_INTERVAL, self._try_again)

    def _try_again(self) -> None:
        """
        Retry the refused commands. If no caller runs them, only this reveals that they work again.
        """
        self._trying = None
        for refused in self._refusals.trials(int(self._now() * 1000)):
            self.run(*refused).addErrback(lambda _: None)
        if self._refusals:
            self._try_again_later()

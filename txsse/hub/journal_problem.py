"""
Unexpected errors of a journal, such as a lack of memory: how publishers and the hub's status report them.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import JournalFailed, SSEError

__all__ = ["JournalProblem"]

_log = Logger()

# How long an unexpected error counts as a problem of the hub if nothing is published afterwards, in seconds.
# Without a limit, a load balancer that sends no requests to a node with a problem would never see it recover.
_SECONDS = 30.0


class JournalProblem:
    """
    Converts unexpected errors of a journal into :exc:`~txsse.errors.JournalFailed`.

    It keeps the last one as the hub's problem until an update is recorded, or for 30 seconds.

    :param seconds: returns the time, in seconds.
    :ivar noted: whether an error has occurred since the last update was recorded. If not, the hub need not
        call :meth:`recorded`, which saves a call for each update.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._failures = RateLimitedLog(_log)
        self.noted = False
        self._problem: JournalFailed | None = None
        self._until = 0.0

    @property
    def problem(self) -> JournalFailed | None:
        """
        The last error; ``None`` if an update was recorded since, or 30 seconds have passed.
        """
        if self._problem is not None and self._seconds() >= self._until:
            self._problem = None
        return self._problem

    def recorded(self) -> None:
        """
        Clear the problem: an update was recorded.
        """
        self.noted = False
        self._problem = None

    def failed(self, failure: Failure) -> Failure:
        """
        Note that an update was not recorded.

        :returns: the failure for its publisher.
        """
        error = failure.value
        if isinstance(error, (SSEError, CancelledError)):
            # The journal expects these errors, and has logged them.
            return failure
        self._failures.failure("the journal has failed in an unexpected way", failure)
        self.noted = True
        # The update may have been recorded before the error.
        problem = f"failed in an unexpected way ({type(error).__name__}); see the log"
        self._problem = JournalFailed("the journal", problem, uncertain=True)
        self._problem.__cause__ = error
        self._until = self._seconds() + _SECONDS
        return Failure(self._problem)

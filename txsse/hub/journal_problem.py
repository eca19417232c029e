"""
Errors that a journal does not expect, such as memory that is gone: what they make of a publication, and of a
hub.
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

# How long such an error is a problem of the hub's where nothing is published afterwards, in seconds. A proxy
# that sends nothing to a node with a problem would never see that it works again.
_SECONDS = 30.0


class JournalProblem:
    """
    Turns unexpected errors of a journal into :exc:`~txsse.errors.JournalFailed`, and remembers the last one
    until an update is recorded.

    :param seconds: returns the time, in seconds.
    :ivar noted: whether there was an error since an update was recorded last.
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
        The last error; ``None`` where it is over.
        """
        if self._problem is not None and self._seconds() >= self._until:
            self._problem = None
        return self._problem

    def recorded(self) -> None:
        """
        Take note of an update that was recorded.
        """
        self.noted = False
        self._problem = None

    def failed(self, failure: Failure) -> Failure:
        """
        Take note of an update that was not recorded.

        :returns: what its publisher gets.
        """
        error = failure.value
        if isinstance(error, (SSEError, CancelledError)):
            # That is how a journal says it, and it has logged it.
            return failure
        self._failures.failure("the journal has failed in an unexpected way", failure)
        self.noted = True
        # Nobody knows how far it came.
        problem = f"failed in an unexpected way ({type(error).__name__}); see the log"
        self._problem = JournalFailed("the journal", problem, uncertain=True)
        self._problem.__cause__ = error
        self._until = self._seconds() + _SECONDS
        return Failure(self._problem)

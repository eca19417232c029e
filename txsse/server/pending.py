"""
Requests that wait for a decision, such as that of an access rule, before their streams open.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.http import Request

from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import UpgradeRefused
from txsse.server.negotiation import STREAM_HEADERS, Headers, refusal
from txsse.server.upgrade import answer
from txsse.web.responses import can_respond

__all__ = ["Pending", "access_expired", "answer_failure"]


class Pending:
    """
    A request that waits for work. If the client disconnects meanwhile, the work is cancelled.

    :param request: the request.
    """

    __slots__ = ("_disconnected", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._disconnected: Deferred[None] | None = None

    def run(
        self,
        work: Coroutine[Deferred[object], object, None],
        headers: Headers,
        refuse: Callable[[Failure, Request, Headers], None],
    ) -> None:
        """
        Start the work.

        :param headers: headers of the response if the work fails; those that open a stream are left out.
        :param refuse: called if the work fails and the client waits for a response, with these headers.
        """

        def failed(failure: Failure) -> None:
            if can_respond(self._request):
                plain = [header for header in headers if header not in STREAM_HEADERS]
                refuse(failure, self._request, plain)

        working = Deferred.fromCoroutine(work).addErrback(failed)
        if not working.called:
            self._disconnected = self._request.notifyFinish()
            self._disconnected.addErrback(_cancel, working)

    def over(self) -> None:
        """
        Stop watching the client: from here on, its channel notices a disconnect.

        A request with a pending ``notifyFinish`` would not be released.
        """
        if self._disconnected is not None:
            self._disconnected.cancel()


def _cancel(disconnected: Failure, work: Deferred[None]) -> None:
    if not disconnected.check(CancelledError):
        work.cancel()


def answer_failure(failure: Failure, request: Request, headers: Headers, failures: RateLimitedLog) -> None:
    """
    Refuse a request whose work failed: as an :exc:`~txsse.UpgradeRefused` says, or with 500 and a log entry.

    :param headers: headers of the response.
    :param failures: the log of unexpected failures.
    """
    error = failure.value
    if isinstance(error, UpgradeRefused) and error.status is not None:
        own = [(name.encode("ascii"), value.encode()) for name, value in error.headers.items()]
        answer(request, refusal(error.status, error.reason, headers), own)
    else:
        failures.failure("the access of {request} could not be determined", failure, request=request)
        answer(request, refusal(500, "your access could not be determined", headers))


def access_expired() -> UpgradeRefused:
    """
    Return the refusal of a request whose access has ended before its stream opened.
    """
    return UpgradeRefused("your access has expired", status=403)

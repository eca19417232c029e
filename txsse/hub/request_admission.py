"""
Admission of HTTP requests to a hub: decide the access of each request, and open its stream or refuse it.

All HTTP resources of a hub share this.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET

from txsse._clock import wall
from txsse._randomness import Randomness, randomness_of
from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import HubStopped, JournalFailed, TooManyPatterns, TooManyTopics, UpgradeRefused
from txsse.hub.admission import Admission
from txsse.hub.subscriber import Subscriber
from txsse.journal.position import ResumePoint
from txsse.journal.update import EARLIEST
from txsse.protocol.encoder import encode_retry
from txsse.server.access import Access, AccessRule, Granted
from txsse.server.channel import SSEChannel
from txsse.server.negotiation import STREAM_HEADERS, Accepted, Answer, Headers, refusal
from txsse.server.upgrade import Upgrader, answer
from txsse.topics.topic_set import TopicSet

__all__ = ["RequestAdmission"]

_log = Logger()

# The reconnection delay for clients of a hub that shuts down, in seconds: by then, another process has taken
# over.
_RETRY_STOPPED = (1.0, 10.0)

# When to retry if the journal cannot be read, in seconds.
_RETRY_JOURNAL = (b"Retry-After", b"5")

# When to retry if the hub's limit of patterns is reached, in seconds.
_RETRY_FULL = 60


class RequestAdmission:
    """
    Opens a stream for each request that is granted access, and refuses the others.

    :param admission: the hub's admission.
    :param rule: the access of all requests, or a callable that returns the access of a request.
    :param upgrader: creates the channels.
    :param resume_headers: the names of the response headers that disclose the ID from which a replay begins.
    :param expired: returns the refusal of a request whose access has expired; ``None`` for 403.
    :param subscribed: called with each new subscriber and its access; ``None`` for no call.
    """

    def __init__(
        self,
        admission: Admission,
        rule: AccessRule,
        upgrader: Upgrader,
        *,
        resume_headers: Sequence[bytes] = (b"Last-Event-ID",),
        expired: Callable[[], UpgradeRefused] | None = None,
        subscribed: Callable[[Subscriber, Access], None] | None = None,
    ) -> None:
        self._admission = admission
        self._upgrader = upgrader
        self._rule = rule
        self._resume_headers = resume_headers
        self._expired = expired or _expired
        self._subscribed = subscribed
        self._failures = RateLimitedLog(_log)
        self._fixed = None if callable(rule) else _Wanted(rule)
        if self._fixed is not None and not self._fixed.topics:
            raise ValueError("resource needs a topic: give 'news', ['a', 'b'], or '*' for all topics")

    def render(self, request: Request) -> int:
        """
        Open a stream for a request and subscribe it, or send another response.
        """
        decision = self._upgrader.decide(request)
        if isinstance(decision, Accepted):
            self._render_stream(request, decision)
        elif decision.status == 200 and self._fixed is None:
            # A HEAD request, where the response to a GET depends on the rule.
            self._begin(request, self._admit_head(request, decision), decision.headers)
        else:
            self._carry_out(request, decision)
        return NOT_DONE_YET

    def _render_stream(self, request: Request, accepted: Accepted) -> None:
        if self._fixed is not None and self._fixed.is_plain and not accepted.last_event_id:
            point = self._admission.here(self._fixed.topics, self._fixed.private)
            if point is not None:
                # The usual case: there is nothing to wait for.
                self._open(request, accepted, self._fixed, point)
                return
        disconnected: list[Deferred[None]] = []
        admitting = self._begin(request, self._admit(request, accepted, disconnected), accepted.cors)
        if not admitting.called:
            # The client may disconnect while the rule or the journal is asked.
            disconnected.append(request.notifyFinish())
            disconnected[0].addErrback(_cancel, admitting)

    def _begin(
        self, request: Request, work: Coroutine[Deferred[object], object, None], headers: Headers
    ) -> Deferred[None]:
        working = Deferred.fromCoroutine(work)
        return working.addErrback(self._failed, request, headers)

    async def _admit(self, request: Request, accepted: Accepted, disconnected: list[Deferred[None]]) -> None:
        wanted = self._fixed or await self._granted(request)
        access = wanted.access
        if access.last_event_id is not None:
            self._upgrader.check_last_event_id(access.last_event_id)
            accepted = replace(accepted, last_event_id=access.last_event_id)
        self._admission.check(wanted.topics, wanted.private)
        try:
            point = await self._admission.locate(accepted.last_event_id)
        except (CancelledError, HubStopped):
            raise
        except JournalFailed:
            # While the journal is unavailable, the stream opens, and resumes later. The journal has logged
            # the error.
            point = None
        except Exception:
            self._failures.failure("the journal cannot be read; {request} resumes later", request=request)
            point = None
        # The access may have expired, or the hub may have been stopped, meanwhile.
        self._check(wanted)
        named = None if point is None else _id_to_name(point, access)
        if named is not None:
            for field in self._resume_headers:
                request.responseHeaders.setRawHeaders(field, [named.encode()])
                if accepted.cors:
                    request.responseHeaders.addRawHeader(b"Access-Control-Expose-Headers", field)
        for waiting in disconnected:
            # From here on, the channel notices a disconnect. A request with a pending ``notifyFinish`` would
            # not be released.
            waiting.cancel()
        self._open(request, accepted, wanted, point)

    async def _admit_head(self, request: Request, decision: Answer) -> None:
        wanted = await self._granted(request)
        self._check(wanted)
        self._carry_out(request, decision)

    def _check(self, wanted: _Wanted) -> None:
        self._admission.check(wanted.topics, wanted.private)
        expires = wanted.access.expires
        if expires is not None and expires <= wall(self._upgrader.reactor):
            raise self._expired()

    def _open(self, request: Request, accepted: Accepted, wanted: _Wanted, point: ResumePoint | None) -> None:
        channel = self._carry_out(request, accepted)
        if channel is not None:
            access = wanted.access
            subscriber = self._admission.admit(
                channel, wanted.topics, wanted.private, point, expires=access.expires
            )
            if self._subscribed is not None:
                self._subscribed(subscriber, access)

    def _carry_out(self, request: Request, decision: Accepted | Answer) -> SSEChannel | None:
        try:
            return self._upgrader.carry_out(request, decision, keep_request=False)
        except UpgradeRefused as refused:
            _log.debug("{request}: {refused}", request=request, refused=refused)
            return None

    async def _granted(self, request: Request) -> _Wanted:
        rule: Any = self._rule
        granted = rule(request)
        return _Wanted(await granted if isawaitable(granted) else granted)

    def _failed(self, failure: Failure, request: Request, headers: Headers) -> None:
        if request.finished or getattr(request, "channel", None) is None:
            # The client has disconnected, or a response has been sent.
            return
        # Headers that belong only to a response which opens a stream.
        headers = [header for header in headers if header not in STREAM_HEADERS]
        error = failure.value
        if isinstance(error, UpgradeRefused) and error.status is not None:
            own = [(name.encode("ascii"), value.encode()) for name, value in error.headers.items()]
            answer(request, refusal(error.status, error.reason, headers), own)
        elif isinstance(error, TooManyTopics):
            # The same request would be refused again: 400, not 503.
            answer(request, refusal(400, str(error), headers))
        elif isinstance(error, TooManyPatterns):
            later = (b"Retry-After", b"%d" % _RETRY_FULL)
            answer(request, refusal(503, str(error), [later, *headers]))
        elif isinstance(error, HubStopped):
            answer(request, _end_at_once(headers, randomness_of(self._upgrader.reactor)))
        elif isinstance(error, JournalFailed):
            # The rule itself called the journal, which has logged the error.
            answer(request, refusal(503, "the journal cannot be read", [_RETRY_JOURNAL, *headers]))
        else:
            self._failures.failure(
                "the access of {request} could not be determined", failure, request=request
            )
            answer(request, refusal(500, "your access could not be determined", headers))


def _id_to_name(point: ResumePoint, access: Access) -> str | None:
    """
    Return the ID that the response headers disclose; ``None`` for none.

    If the access says that the client does not resume, this is the ID of the place where the stream begins.
    """
    if point.named is None and access.last_event_id is not None:
        return point.resume_id or EARLIEST
    return point.named


def _expired() -> UpgradeRefused:
    return UpgradeRefused("your access has expired", status=403)


def _end_at_once(headers: Headers, randomness: Randomness) -> Answer:
    """
    Return a stream that ends at once, for a client of a hub that shuts down.

    After any status but 200, a browser would not reconnect. After this response, it does, with a random
    delay.
    """
    retry = randomness.uniform(*_RETRY_STOPPED)
    later = (b"Retry-After", b"%d" % round(retry))
    return Answer(200, "the hub stops", [*STREAM_HEADERS, later, *headers], encode_retry(retry))


class _Wanted:
    """
    The access that a rule returned, with its topics parsed.
    """

    def __init__(self, granted: Granted) -> None:
        self.access = access = granted if isinstance(granted, Access) else Access(granted)
        self.is_plain = access.last_event_id is None and access.expires is None
        try:
            self.topics = TopicSet(access.topics)
            self.private = TopicSet(access.private)
        except TypeError as error:
            raise TypeError(
                f"{error}; give topics or an Access; to refuse a request, raise UpgradeRefused"
            ) from None


def _cancel(disconnected: Failure, work: Deferred[Any]) -> None:
    if not disconnected.check(CancelledError):
        work.cancel()

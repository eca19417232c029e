"""
Admission of HTTP requests to a hub: decide the access of each request, and open its stream or refuse it.

All HTTP resources of a hub share this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

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
from txsse.hub.cut_off import take_topics
from txsse.hub.snapshot import SnapshotRequest, Snapshots, StreamSnapshot
from txsse.hub.subscriber import Subscriber
from txsse.journal.position import ResumePoint
from txsse.journal.update import EARLIEST
from txsse.protocol.encoder import encode_retry
from txsse.server.access import Access, AccessRule, ask, to_access, topics_of
from txsse.server.channel import SSEChannel
from txsse.server.negotiation import STREAM_HEADERS, Accepted, Answer, Headers, refusal
from txsse.server.pending import Pending, access_expired, answer_failure
from txsse.server.upgrade import Upgrader, answer

__all__ = ["RequestAdmission"]

_log = Logger()

# The reconnection delay for clients of a hub that shuts down, in seconds: by then, another process has taken
# over.
_RETRY_STOPPED = (1.0, 10.0)

# When to retry if the journal cannot be read, in seconds.
_RETRY_JOURNAL = (b"Retry-After", b"5")

# When to retry if the program cannot make a snapshot, in seconds.
_RETRY_SNAPSHOT = (b"Retry-After", b"5")

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
    :param snapshots: makes the snapshots that clients are sent first; ``None`` for none.
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
        snapshots: Snapshots | None = None,
    ) -> None:
        self._admission = admission
        self._upgrader = upgrader
        self._rule = rule
        self._resume_headers = resume_headers
        self._expired = expired or access_expired
        self._subscribed = subscribed
        self._snapshots = snapshots
        self._failures = RateLimitedLog(_log)
        self._fixed = None if callable(rule) else _Wanted(to_access(rule))
        if self._fixed is not None and not self._fixed.topics:
            raise ValueError("resource needs a topic: give 'news', ['a', 'b'], or '*' for all topics")
        if self._fixed is not None:
            admission.check_key(self._fixed.access.key)

    def render(self, request: Request) -> int:
        """
        Open a stream for a request and subscribe it, or send another response.
        """
        decision = self._upgrader.decide(request)
        if isinstance(decision, Accepted):
            if not self._render_at_once(request, decision):
                pending = Pending(request)
                pending.run(self._admit(request, decision, pending), decision.cors, self._failed)
        elif decision.status == 200 and self._fixed is None:
            # A HEAD request, where the response to a GET depends on the rule.
            Pending(request).run(self._admit_head(request, decision), decision.headers, self._failed)
        else:
            self._carry_out(request, decision)
        return NOT_DONE_YET

    def _render_at_once(self, request: Request, accepted: Accepted) -> bool:
        """
        Open the stream if there is nothing to wait for, which is the usual case.

        :returns: whether it was opened.
        """
        fixed = self._fixed
        if fixed is None or not fixed.is_plain or accepted.last_event_id or self._snapshots is not None:
            return False
        point = self._admission.here(fixed.topics, fixed.private)
        if point is None or (point.with_state and self._admission.limits_states):
            return False
        self._open(request, accepted, fixed, point)
        return True

    async def _admit(self, request: Request, accepted: Accepted, pending: Pending) -> None:
        under_way = self._admission.under_way
        number = under_way.begin()
        try:
            await self._admit_numbered(number, request, accepted, pending)
        finally:
            under_way.end(number)

    async def _admit_numbered(
        self, number: int, request: Request, accepted: Accepted, pending: Pending
    ) -> None:
        wanted = await self._ask(request)
        access = wanted.access
        if access.last_event_id is not None:
            self._upgrader.check_last_event_id(access.last_event_id)
            accepted = replace(accepted, last_event_id=access.last_event_id)
        self._admission.check(wanted.topics, wanted.private, access.key)
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
        snapshot = None
        if point is not None and not point.is_resumption:
            await self._admission.check_state(wanted.topics, wanted.private)
            if self._snapshots is not None:
                point, snapshot = await self._begin_snapshot(self._snapshots, request, wanted, point)
        try:
            self._open_numbered(number, request, accepted, wanted, point, pending, snapshot)
        except BaseException:
            if snapshot is not None:
                snapshot.close()
            raise

    def _open_numbered(
        self,
        number: int,
        request: Request,
        accepted: Accepted,
        wanted: _Wanted,
        point: ResumePoint | None,
        pending: Pending,
        snapshot: StreamSnapshot | None,
    ) -> None:
        # The access may have expired, or the hub may have been stopped, meanwhile.
        self._check(wanted)
        access, under_way = wanted.access, self._admission.under_way
        if access.keys and under_way.is_disconnected(number, access.keys):
            raise _Disconnected
        if snapshot is not None and under_way.revoked(number, access.keys):
            # The program's events cannot be filtered by topic. The client reconnects, for another snapshot.
            raise _Disconnected
        named = None if point is None else _id_to_name(point, access)
        if named is not None:
            for field in self._resume_headers:
                request.responseHeaders.setRawHeaders(field, [named.encode()])
                if accepted.cors:
                    request.responseHeaders.addRawHeader(b"Access-Control-Expose-Headers", field)
        pending.over()
        subscriber = self._open(request, accepted, wanted, point, snapshot)
        if subscriber is not None:
            for topics in under_way.revoked(number, access.keys):
                take_topics(subscriber, topics)

    async def _begin_snapshot(
        self, snapshots: Snapshots, request: Request, wanted: _Wanted, point: ResumePoint
    ) -> tuple[ResumePoint, StreamSnapshot]:
        """
        Begin a snapshot before the stream opens, so that a failure is a response to the request.

        :param point: where the client begins, or resumes with a gap.
        :returns: where it continues after the snapshot, and the snapshot.
        """

        def describe(resume_id: str) -> SnapshotRequest:
            access, asked = wanted.access, self._upgrader.describe(request)
            return SnapshotRequest(
                wanted.topics, wanted.private, access.key, access.context, asked, resume_id
            )

        beginning = Deferred.fromCoroutine(snapshots.begin(self._admission.fix_position, describe))
        stopping = self._admission.when_stopping()
        stopping.addCallbacks(lambda _: beginning.cancel(), lambda _: None)
        try:
            run = await beginning
        except UpgradeRefused:
            raise
        except Exception as error:
            if stopping.called:
                raise HubStopped from None
            raise _NoSnapshot from error
        finally:
            stopping.cancel()
        found = run.point
        # After a gap, the response names the position after the snapshot.
        named = found.resume_id if point.missed else point.named
        return (
            replace(found, missed=point.missed, named=named, with_state=True),
            StreamSnapshot(snapshots, run),
        )

    async def _admit_head(self, request: Request, decision: Answer) -> None:
        self._check(await self._ask(request))
        self._carry_out(request, decision)

    async def _ask(self, request: Request) -> _Wanted:
        """
        Return the access of a request.
        """
        if self._fixed is not None:
            wanted = self._fixed
        else:
            wanted = _Wanted(await ask(self._rule, request))
        return wanted.from_now(wall(self._upgrader.reactor))

    def _check(self, wanted: _Wanted) -> None:
        self._admission.check(wanted.topics, wanted.private, wanted.access.key)
        if wanted.until is not None and wanted.until <= wall(self._upgrader.reactor):
            raise self._expired()

    def _open(
        self,
        request: Request,
        accepted: Accepted,
        wanted: _Wanted,
        point: ResumePoint | None,
        snapshot: StreamSnapshot | None = None,
    ) -> Subscriber | None:
        channel = self._carry_out(request, accepted)
        if channel is None:
            if snapshot is not None:
                snapshot.close()
            return None
        if snapshot is None and self._snapshots is not None:
            # For a gap, or for when the journal can be read.
            snapshot = StreamSnapshot(self._snapshots)
        access = wanted.access
        channel.identify(access.keys, access.context)
        subscriber = self._admission.admit(
            channel, wanted.topics, wanted.private, point, until=wanted.until, snapshot=snapshot
        )
        if self._subscribed is not None:
            self._subscribed(subscriber, access)
        return subscriber

    def _carry_out(self, request: Request, decision: Accepted | Answer) -> SSEChannel | None:
        try:
            return self._upgrader.carry_out(request, decision, keep_request=False)
        except UpgradeRefused as refused:
            _log.debug("{request}: {refused}", request=request, refused=refused)
            return None

    def _failed(self, failure: Failure, request: Request, headers: Headers) -> None:
        error = failure.value
        if isinstance(error, TooManyTopics):
            # The same request would be refused again: 400, not 503.
            answer(request, refusal(400, str(error), headers))
        elif isinstance(error, TooManyPatterns):
            later = (b"Retry-After", b"%d" % _RETRY_FULL)
            answer(request, refusal(503, str(error), [later, *headers]))
        elif isinstance(error, HubStopped | _Disconnected):
            answer(request, _end_at_once(headers, randomness_of(self._upgrader.reactor)))
        elif isinstance(error, _NoSnapshot):
            self._failures.failure(
                "the snapshot for {request} could not be made", Failure(error.__cause__), request=request
            )
            answer(request, refusal(503, "the state cannot be read", [_RETRY_SNAPSHOT, *headers]))
        elif isinstance(error, JournalFailed):
            # The rule itself called the journal, which has logged the error.
            answer(request, refusal(503, "the journal cannot be read", [_RETRY_JOURNAL, *headers]))
        else:
            answer_failure(failure, request, headers, self._failures)


class _NoSnapshot(Exception):
    """
    The program could not make a snapshot before the stream opened.
    """


class _Disconnected(Exception):
    """
    The key of a request was disconnected while its access was decided.
    """


def _id_to_name(point: ResumePoint, access: Access) -> str | None:
    """
    Return the ID that the response headers disclose; ``None`` for none.

    If the access says that the client does not resume, this is the ID of the place where the stream begins.
    """
    if point.named is None and access.last_event_id is not None:
        return point.resume_id or EARLIEST
    return point.named


def _end_at_once(headers: Headers, randomness: Randomness) -> Answer:
    """
    Return a stream that ends at once, for a client of a hub that shuts down, or of a disconnected key.

    After any status but 200, a browser would not reconnect. After this response, it does, with a random
    delay.
    """
    retry = randomness.uniform(*_RETRY_STOPPED)
    later = (b"Retry-After", b"%d" % round(retry))
    return Answer(200, "the stream ends at once", [*STREAM_HEADERS, later, *headers], encode_retry(retry))


class _Wanted:
    """
    The access that a rule granted, with its topics parsed.

    :ivar until: when it ends, in seconds since 1970; ``None`` for never.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.until: float | None = None
        self.is_plain = access.last_event_id is None and access.expires is None
        self.topics, self.private = topics_of(access)

    def from_now(self, now: float) -> _Wanted:
        """
        Return the same access with the time of its end, for one request.
        """
        if self.access.expires is None:
            return self
        timed = copy(self)
        timed.until = now + self.access.expires
        return timed

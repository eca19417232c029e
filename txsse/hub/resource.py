"""
A hub as a resource in a web tree.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET

from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import HubStopped, JournalFailed, TooManyPatterns, TooManyTopics, UpgradeRefused
from txsse.hub.access import Access, AccessRule
from txsse.hub.subscriber import Subscriber
from txsse.hub.topics import TopicSet
from txsse.journal.position import ResumePoint
from txsse.protocol.encoder import encode_retry
from txsse.server.channel import SSEChannel
from txsse.server.negotiation import STREAM_HEADERS, Accepted, Answer, Headers, refusal
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader, answer

__all__ = ["HubResource"]

_log = Logger()

# How long a client is to stay away from a hub that stops, in seconds: another one takes its place.
_RETRY_STOPPED = (1.0, 10.0)

# When to ask again where a journal cannot be read, in seconds.
_RETRY_JOURNAL = (b"Retry-After", b"5")

# When to try again where the hub holds as many patterns as it may, in seconds.
_RETRY_FULL = 60


class Admission(Protocol):
    """
    The part of a hub that takes subscribers in.
    """

    upgrader: Upgrader

    def check(self, topics: TopicSet, private: TopicSet) -> None:
        """
        Raise where the hub takes no subscriber of these topics.
        """

    def place_of_newcomer(self, topics: TopicSet, private: TopicSet) -> ResumePoint | None:
        """
        Return the place of a client that comes for the first time, where it can come in and the place is
        known.
        """

    async def locate(self, last_event_id: str) -> ResumePoint:
        """
        Find the place where a client resumes.
        """

    def admit(
        self, channel: SSEChannel, topics: TopicSet, private: TopicSet, place: ResumePoint | None
    ) -> Subscriber:
        """
        Subscribe a channel; without a place, it is looked for until it is found.
        """


class HubResource(SSEResource):
    """
    A resource whose every request becomes a subscriber. ``Hub.resource`` makes it.

    :param hub: the hub.
    :param rule: the topics, or what tells them for a request.
    :param upgrader: makes the channels; ``None`` for the hub's own.
    :ivar resume_fields: the response headers that tell where a replay begins.
    """

    resume_fields: Sequence[bytes] = (b"Last-Event-ID",)

    def __init__(self, hub: Admission, rule: AccessRule, *, upgrader: Upgrader | None = None) -> None:
        super().__init__(upgrader=upgrader or hub.upgrader)
        self._hub = hub
        self._streams = upgrader or hub.upgrader
        self._rule = rule
        self._failures = RateLimitedLog(_log)
        self._fixed = None if callable(rule) else _Wanted(rule)
        if self._fixed is not None and not self._fixed.topics:
            raise ValueError("resource needs a topic: give 'news', ['a', 'b'], or '*' for all topics")

    def subscribed(self, subscriber: Subscriber, access: Access) -> None:
        """
        Take note of a new subscriber. This does nothing.

        :param subscriber: the subscriber.
        :param access: what the rule returned.
        """

    def check_access(self, access: Access) -> None:
        """
        Raise where what the rule returned is not so any more: looking for a client's place may have taken its
        time. This does nothing.

        :param access: what the rule returned.
        :raises UpgradeRefused: what the client gets then.
        """

    def resumes_from(self, accepted: Accepted, access: Access) -> str:
        """
        Return the id that a client resumes from: the one that the upgrader found, unless this is overridden.

        :param access: what the rule returned.
        """
        return accepted.last_event_id

    def resumes_at(self, request: Request, place: ResumePoint, access: Access) -> str | None:
        """
        Tell what the response says of a place; ``None`` for nothing.

        :param access: what the rule returned.
        """
        return place.named

    def render(self, request: Request) -> int:
        """
        Open a channel and subscribe it, or answer otherwise.
        """
        decision = self._streams.decide(request)
        if isinstance(decision, Accepted):
            self._render_stream(request, decision)
        elif decision.status == 200 and self._fixed is None:
            # A HEAD, and what a GET would get depends on who asks.
            self._begin(request, self._admit_head(request, decision), decision.headers)
        else:
            return super().render(request)
        return NOT_DONE_YET

    def _render_stream(self, request: Request, accepted: Accepted) -> None:
        if self._fixed is not None and not accepted.last_event_id:
            place = self._hub.place_of_newcomer(self._fixed.topics, self._fixed.private)
            if place is not None:
                # Most requests: nothing has to be waited for.
                self._open(request, accepted, self._fixed, place)
                return
        gone: list[Deferred[None]] = []
        admitting = self._begin(request, self._admit(request, accepted, gone), accepted.cors)
        if not admitting.called:
            # While the rule or the journal takes its time, the client may go.
            gone.append(request.notifyFinish())
            gone[0].addErrback(_cancel, admitting)

    def _begin(
        self, request: Request, work: Coroutine[Deferred[Any], Any, None], headers: Headers
    ) -> Deferred[None]:
        working = Deferred.fromCoroutine(work)
        return working.addErrback(self._failed, request, headers)

    async def _admit(self, request: Request, accepted: Accepted, gone: list[Deferred[None]]) -> None:
        wanted = self._fixed or await self._granted(request)
        accepted = replace(accepted, last_event_id=self.resumes_from(accepted, wanted.access))
        self._hub.check(wanted.topics, wanted.private)
        try:
            place = await self._hub.locate(accepted.last_event_id)
        except (CancelledError, HubStopped):
            raise
        except JournalFailed:
            # A journal that has lost its server costs nobody the stream, and none of those who come
            # meanwhile. It has said so itself.
            place = None
        except Exception:
            self._failures.failure("the journal cannot be read; {request} resumes later", request=request)
            place = None
        # That may have taken its time.
        self._hub.check(wanted.topics, wanted.private)
        self.check_access(wanted.access)
        named = None if place is None else self.resumes_at(request, place, wanted.access)
        if named is not None:
            for field in self.resume_fields:
                request.responseHeaders.setRawHeaders(field, [named.encode()])
                if accepted.cors:
                    request.responseHeaders.addRawHeader(b"Access-Control-Expose-Headers", field)
        for waiting in gone:
            # From here on the channel looks after its client, and after nobody else may the upgrader have to
            # look.
            waiting.cancel()
        self._open(request, accepted, wanted, place)

    async def _admit_head(self, request: Request, decision: Answer) -> None:
        wanted = await self._granted(request)
        self._hub.check(wanted.topics, wanted.private)
        self._carry_out(request, decision)

    def _open(self, request: Request, accepted: Accepted, wanted: _Wanted, place: ResumePoint | None) -> None:
        channel = self._carry_out(request, accepted)
        if channel is not None:
            subscriber = self._hub.admit(channel, wanted.topics, wanted.private, place)
            self.subscribed(subscriber, wanted.access)

    def _carry_out(self, request: Request, decision: Accepted | Answer) -> SSEChannel | None:
        try:
            return self._streams.carry_out(request, decision, keep_request=False)
        except UpgradeRefused as refused:
            _log.debug("{request}: {refused}", request=request, refused=refused)
            return None

    async def _granted(self, request: Request) -> _Wanted:
        rule: Any = self._rule
        granted = rule(request)
        return _Wanted(await granted if isawaitable(granted) else granted)

    def _failed(self, failure: Failure, request: Request, headers: Headers) -> None:
        if request.finished or getattr(request, "channel", None) is None:
            # The client has gone, or the upgrader has answered.
            return
        # What only an answer that opens a stream has.
        headers = [header for header in headers if header not in STREAM_HEADERS]
        error = failure.value
        if isinstance(error, UpgradeRefused) and error.status is not None:
            own = [(name.encode("ascii"), value.encode()) for name, value in error.headers.items()]
            answer(request, refusal(error.status, error.reason, headers), own)
        elif isinstance(error, TooManyTopics):
            # Asking again later does not help.
            answer(request, refusal(400, str(error), headers))
        elif isinstance(error, TooManyPatterns):
            later = (b"Retry-After", b"%d" % _RETRY_FULL)
            answer(request, refusal(503, str(error), [later, *headers]))
        elif isinstance(error, HubStopped):
            answer(request, _come_back_later(headers))
        elif isinstance(error, JournalFailed):
            # What the rule has asked of the hub. It has been logged.
            answer(request, refusal(503, "the journal cannot be read", [_RETRY_JOURNAL, *headers]))
        else:
            self._failures.failure("what {request} may read cannot be told", failure, request=request)
            answer(request, refusal(500, "what you may read cannot be told", headers))


def _come_back_later(headers: Headers) -> Answer:
    """
    Send a client away from a hub that stops. Any status but 200 would keep a browser away for good; a stream
    that ends at once makes it come back, in its own time.
    """
    retry = random.uniform(*_RETRY_STOPPED)
    later = (b"Retry-After", b"%d" % round(retry))
    return Answer(200, "the hub stops", [*STREAM_HEADERS, later, *headers], encode_retry(retry))


class _Wanted:
    """
    What a rule returned, told apart.
    """

    def __init__(self, granted: Any) -> None:
        self.access = access = granted if isinstance(granted, Access) else Access(granted)
        try:
            self.topics = TopicSet(access.topics)
            self.private = TopicSet(access.private)
        except TypeError as error:
            raise TypeError(
                f"{error}; give topics, or an Access, and raise UpgradeRefused where there are none"
            ) from None


def _cancel(gone: Failure, work: Deferred[Any]) -> None:
    if not gone.check(CancelledError):
        work.cancel()

"""
A hub as a resource in a web tree.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET

from txsse.errors import HubStopped, TooManyTopics, UpgradeRefused
from txsse.hub.access import Access, AccessRule
from txsse.hub.place import Place
from txsse.hub.topics import TopicSet
from txsse.server.channel import SSEChannel
from txsse.server.negotiation import Accepted, refusal
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader, answer

__all__ = ["HubResource"]

_log = Logger()

# How long a client is to stay away from a hub that stops, in seconds: another one takes its place.
_RETRY_STOPPED = b"5"


class Admission(Protocol):
    """
    The part of a hub that takes subscribers in.
    """

    upgrader: Upgrader

    def check(self, topics: TopicSet) -> None:
        """
        Raise where the hub takes no subscriber of these topics.
        """

    def place_of_newcomer(self, topics: TopicSet) -> Place | None:
        """
        Return the place of a client that comes for the first time, where it can come in and the place is
        known.
        """

    async def locate(self, last_event_id: str) -> Place:
        """
        Find the place where a client resumes.
        """

    def admit(self, channel: SSEChannel, topics: TopicSet, private: TopicSet, place: Place) -> object:
        """
        Subscribe a channel.
        """


class HubResource(SSEResource):
    """
    A resource whose every request becomes a subscriber. ``Hub.resource`` makes it.

    :param hub: the hub.
    :param rule: the topics, or what tells them for a request.
    """

    def __init__(self, hub: Admission, rule: AccessRule) -> None:
        super().__init__(upgrader=hub.upgrader)
        self._hub = hub
        self._rule = rule
        self._fixed = None if callable(rule) else _sets(rule)

    def render(self, request: Request) -> int:
        """
        Open a channel and subscribe it, or answer otherwise.
        """
        decision = self._hub.upgrader.decide(request)
        if not isinstance(decision, Accepted):
            return super().render(request)
        if self._fixed is not None and not decision.last_event_id:
            place = self._hub.place_of_newcomer(self._fixed[0])
            if place is not None:
                # Most requests: nothing has to be waited for.
                self._open(request, decision, *self._fixed, place)
                return NOT_DONE_YET
        gone: list[Deferred[None]] = []
        admitting = Deferred.fromCoroutine(self._admit(request, decision, gone))
        if not admitting.called:
            # While the rule or the journal takes its time, the client may go.
            gone.append(request.notifyFinish())
            gone[0].addErrback(_cancel, admitting)
        admitting.addErrback(self._failed, request, decision)
        return NOT_DONE_YET

    async def _admit(self, request: Request, accepted: Accepted, gone: list[Deferred[None]]) -> None:
        topics, private = self._fixed or _sets(await self._granted(request))
        self._hub.check(topics)
        place = await self._hub.locate(accepted.last_event_id)
        # That may have taken its time.
        self._hub.check(topics)
        if place.named is not None:
            request.responseHeaders.setRawHeaders(b"Last-Event-ID", [place.named.encode()])
            if accepted.cors:
                request.responseHeaders.addRawHeader(b"Access-Control-Expose-Headers", b"Last-Event-ID")
        for waiting in gone:
            # From here on the channel looks after its client, and after nobody else may the upgrader have to
            # look.
            waiting.cancel()
        self._open(request, accepted, topics, private, place)

    def _open(
        self, request: Request, accepted: Accepted, topics: TopicSet, private: TopicSet, place: Place
    ) -> None:
        try:
            channel = self._hub.upgrader.carry_out(request, accepted, keep_request=False)
        except UpgradeRefused as refused:
            _log.debug("{request}: {refused}", request=request, refused=refused)
        else:
            self._hub.admit(channel, topics, private, place)

    async def _granted(self, request: Request) -> Any:
        granted: Any = self._rule(request)  # type: ignore[operator]
        return await granted if isawaitable(granted) else granted

    def _failed(self, failure: Failure, request: Request, accepted: Accepted) -> None:
        if request.finished or getattr(request, "channel", None) is None:
            # The client has gone, or the upgrader has answered.
            return
        error = failure.value
        if isinstance(error, UpgradeRefused) and error.status is not None:
            answer(request, refusal(error.status, error.reason, accepted.cors))
        elif isinstance(error, TooManyTopics):
            # Asking again later does not help.
            answer(request, refusal(400, str(error), accepted.cors))
        elif isinstance(error, HubStopped):
            headers = [(b"Retry-After", _RETRY_STOPPED), *accepted.cors]
            answer(request, refusal(503, "this server is stopping", headers))
        else:
            _log.failure("what {request} may read cannot be told", failure, request=request)
            answer(request, refusal(500, "what you may read cannot be told", accepted.cors))


def _sets(granted: Any) -> tuple[TopicSet, TopicSet]:
    access = granted if isinstance(granted, Access) else Access(granted)
    return TopicSet(access.topics), TopicSet(access.private)


def _cancel(gone: Failure, work: Deferred[Any]) -> None:
    if not gone.check(CancelledError):
        work.cancel()

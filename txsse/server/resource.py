"""
:class:`SSEResource`: a resource in a web tree whose requests become streams.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from inspect import isawaitable

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txsse._arguments import wrong_type
from txsse._clock import wall
from txsse._futures import FutureCancelled, explain_future, future_to_deferred
from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import ChannelClosed, CloseReason, UpgradeRefused
from txsse.server.access import Access, AccessRule, ask, topics_of
from txsse.server.channel import SSEChannel
from txsse.server.expiry import Expiry
from txsse.server.negotiation import Accepted, Answer
from txsse.server.pending import Pending, access_expired, answer_failure
from txsse.server.pump import cancel_at_close
from txsse.server.upgrade import Upgrader, default_upgrader

__all__ = ["SSEResource"]

_log = Logger()


class SSEResource(Resource):
    """
    A resource that turns every request into a channel.

    For example::

        root.putChild(b"events", SSEResource(handler))

    It serves all methods, and all paths below its own.

    :param handler: called with each new :class:`txsse.SSEChannel`; a subclass may override
        :meth:`channel_opened` instead.
    :param access: the access of the requests, as for :meth:`txsse.Hub.resource`: an :class:`txsse.Access`, or
        a callable that takes the request and returns one, or a Deferred or another awaitable of one. It is
        called before the response begins. To refuse a request, it raises, for example, ``UpgradeRefused("log
        in first", status=401)``. ``channel.key`` and ``channel.context`` are the access's; its topics are
        for hubs, and not used here. ``None`` for no rule.
    :param upgrader: makes the channels; ``None`` for an upgrader with default options.
    :raises TypeError: for arguments of another type.
    """

    isLeaf = True

    def __init__(
        self,
        handler: Callable[[SSEChannel], object] | None = None,
        *,
        access: AccessRule | None = None,
        upgrader: Upgrader | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if handler is not None and not callable(handler):
            raise wrong_type("handler", handler, "callable with an SSEChannel")
        if upgrader is not None and not isinstance(upgrader, Upgrader):
            raise wrong_type("upgrader", upgrader, "an Upgrader, such as Upgrader(keepalive=15)")
        if access is not None and not callable(access) and not isinstance(access, Access):
            raise wrong_type("access", access, "an Access, or a callable that returns one for a request")
        self._handler = handler
        self._upgrader = upgrader
        self._access = access
        self._refuse = partial(answer_failure, failures=RateLimitedLog(_log))
        self._expiry = Expiry(lambda: (self._upgrader or default_upgrader()).reactor)

    def render(self, request: Request) -> int:
        """
        Open a channel; if the upgrader refuses the request, it has sent a response.
        """
        upgrader = self._upgrader or default_upgrader()
        decision = upgrader.decide(request)
        pending = Pending(request)
        if self._access is None:
            self._open(request, upgrader, decision)
        elif isinstance(decision, Accepted):
            pending.run(self._admit(request, upgrader, decision, pending), decision.cors, self._refuse)
        elif decision.status == 200:
            # A HEAD request: the response to a GET depends on the rule.
            pending.run(self._admit_head(request, upgrader, decision), decision.headers, self._refuse)
        else:
            self._open(request, upgrader, decision)
        return NOT_DONE_YET

    async def _admit(
        self, request: Request, upgrader: Upgrader, accepted: Accepted, pending: Pending
    ) -> None:
        access = await self._ask(request)
        if access.last_event_id is not None:
            upgrader.check_last_event_id(access.last_event_id)
            accepted = replace(accepted, last_event_id=access.last_event_id)
        pending.over()
        self._open(request, upgrader, accepted, access)

    async def _admit_head(self, request: Request, upgrader: Upgrader, decision: Answer) -> None:
        await self._ask(request)
        self._open(request, upgrader, decision)

    async def _ask(self, request: Request) -> Access:
        assert self._access is not None
        access = await ask(self._access, request)
        # A rule that returns, for example, False or nothing does not grant access.
        topics_of(access)
        if access.expires is not None and access.expires <= 0:
            raise access_expired()
        return access

    def _open(
        self,
        request: Request,
        upgrader: Upgrader,
        decision: Accepted | Answer,
        access: Access | None = None,
    ) -> None:
        try:
            channel = upgrader.carry_out(request, decision)
        except UpgradeRefused as refused:
            _log.debug("{request}: {refused}", request=request, refused=refused)
            return
        if access is not None:
            channel.identify(access.keys, access.context)
            if access.expires is not None:
                self._expiry.end_at(channel, wall(upgrader.reactor) + access.expires)
        self._serve(channel)

    def channel_opened(self, channel: SSEChannel) -> object:
        """
        Serve a client.

        :param channel: the new channel.
        :returns: ``None`` to leave the stream open until ``channel.close()`` is called or the client
            disconnects. With a Deferred or another awaitable, as from ``async def``, the stream closes when
            it is done, and it is cancelled if the stream is closed before, or the reactor stops. With an
            iterator or asynchronous iterator, as from a function that yields, its events are sent, and then
            the stream closes. An exception is logged, and closes the stream.
        """
        return self._handler(channel) if self._handler is not None else None

    def _serve(self, channel: SSEChannel) -> None:
        try:
            work = _to_deferred(channel, self.channel_opened(channel))
        except Exception:
            work = fail()
        if work is not None:
            cancel_at_close(channel, work, is_handler=True)
            work.addCallbacks(_done, _failed, callbackArgs=(channel,), errbackArgs=(channel,))


def _to_deferred(channel: SSEChannel, result: object) -> Deferred[object] | Deferred[int] | None:
    result = future_to_deferred(result)
    if result is None or isinstance(result, Deferred):
        return result
    if isinstance(result, Iterator | AsyncIterator):
        return channel.send_from(result)
    if isawaitable(result):
        return Deferred.fromCoroutine(_await(result))
    raise TypeError(
        f"the handler returned {result!r}; it may return None, to leave the stream open, "
        "a Deferred or another awaitable, or an iterator"
    )


async def _await(work: Awaitable[object]) -> object:
    return await work


def _done(_: object, channel: SSEChannel) -> None:
    channel.close()


def _failed(failure: Failure, channel: SSEChannel) -> None:
    # A handler that ends because its channel has ended, or because it was cancelled, has not failed.
    is_ending = not channel.is_open or channel.close_reason is not None
    if is_ending and failure.check(ChannelClosed, CancelledError, FutureCancelled):
        channel.close()
        return
    _log.failure("the handler of {channel} failed", explain_future(failure), channel=channel)
    channel.close(reason=CloseReason.HANDLER_FAILED)

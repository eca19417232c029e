"""
A stream as a resource in a web tree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txsse._arguments import wrong_type
from txsse._futures import FutureCancelled, explain_future, future_to_deferred
from txsse.errors import ChannelClosed, CloseReason, UpgradeRefused
from txsse.server.channel import SSEChannel
from txsse.server.pump import cancel_at_close
from txsse.server.upgrade import Upgrader, default_upgrader

__all__ = ["SSEResource"]

_log = Logger()


class SSEResource(Resource):
    """
    A resource whose every request becomes a channel::

        root.putChild(b"events", SSEResource(handler))

    It answers all methods, and everything below its own path.

    :param handler: called with each new :class:`txsse.SSEChannel`; a subclass may override
        :meth:`channel_opened` instead.
    :param upgrader: makes the channels; ``None`` for one with the usual options.
    :raises TypeError: for anything else.
    """

    isLeaf = True

    def __init__(
        self,
        handler: Callable[[SSEChannel], object] | None = None,
        *,
        upgrader: Upgrader | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if handler is not None and not callable(handler):
            raise wrong_type("handler", handler, "callable with an SSEChannel")
        if upgrader is not None and not isinstance(upgrader, Upgrader):
            raise wrong_type("upgrader", upgrader, "an Upgrader, such as Upgrader(keepalive=15)")
        self._handler = handler
        self._upgrader = upgrader

    def render(self, request: Request) -> int:
        """
        Open a channel, or have the upgrader answer otherwise.
        """
        upgrader = self._upgrader or default_upgrader()
        try:
            channel = upgrader.upgrade(request)
        except UpgradeRefused as refused:
            _log.debug("{request}: {refused}", request=request, refused=refused)
        else:
            self._serve(channel)
        return NOT_DONE_YET

    def channel_opened(self, channel: SSEChannel) -> object:
        """
        Serve a client.

        :param channel: the new channel.
        :returns: ``None`` to leave the stream open, until somebody calls ``channel.close()`` or the client
            goes. A Deferred or another awaitable, as of ``async def``: the stream closes when it is done,
            and it is cancelled when the stream is closed before, or the reactor stops. An iterator or
            asynchronous iterator, as of a function that yields: its events are sent, then the stream closes.
            What is raised is logged, and closes the stream.
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


def _to_deferred(channel: SSEChannel, result: object) -> Deferred[Any] | None:
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
    # A handler that ends because its channel has ended, or was told to, did what it should.
    told = not channel.is_open or channel.close_reason is not None
    if told and failure.check(ChannelClosed, CancelledError, FutureCancelled):
        channel.close()
        return
    _log.failure("the handler of {channel} failed", explain_future(failure), channel=channel)
    channel.close(reason=CloseReason.HANDLER_FAILED)

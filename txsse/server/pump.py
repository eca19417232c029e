"""
Sending from a source, such as an asynchronous iterator, to a channel, no faster than its client reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from inspect import isawaitable, isgenerator
from typing import Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from txsse._futures import FutureCancelled, explain_future, future_to_deferred
from txsse._twisted.types import AnyDeferred
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.event import ServerSentEvent

__all__ = ["Item", "Outlet", "Source", "close_items", "send_all"]

Item: TypeAlias = "str | bytes | ServerSentEvent"
Source: TypeAlias = (
    "Iterable[Item] | AsyncIterable[Item] | Awaitable[Item] | Deferred[str] | Deferred[bytes]"
    " | Deferred[ServerSentEvent]"
)

# A source that never waits must not block the reactor: it yields after so many events, or so many seconds.
_SLICE_EVENTS = 128
_SLICE_SECONDS = 0.01


class Outlet(Protocol):
    """
    The part of :class:`txsse.SSEChannel` that a source is sent through.
    """

    @property
    def reactor(self) -> IReactorTime:
        """
        See :class:`txsse.SSEChannel`.
        """

    @property
    def is_open(self) -> bool:
        """
        See :class:`txsse.SSEChannel`.
        """

    @property
    def is_slow(self) -> bool:
        """
        See :class:`txsse.SSEChannel`.
        """

    @property
    def ends_sources(self) -> bool:
        """
        Whether the cancellation of a source counts as its normal end.
        """

    def hold(self, work: AnyDeferred, *, is_handler: bool) -> bool:
        """
        Register work that is cancelled when the reactor stops; return whether it was not registered before.
        """

    def release(self, work: AnyDeferred) -> None:
        """
        Unregister work that is done.
        """

    def send(self, data: str | bytes) -> None:
        """
        See :class:`txsse.SSEChannel`.
        """

    def send_event(self, event: ServerSentEvent) -> None:
        """
        See :class:`txsse.SSEChannel`.
        """

    def drain(self) -> Deferred[None]:
        """
        See :class:`txsse.SSEChannel`.
        """

    def when_closed(self) -> Deferred[CloseReason]:
        """
        See :class:`txsse.SSEChannel`.
        """


def send_all(outlet: Outlet, source: Source) -> Deferred[int]:
    """
    Send the events of a source; the implementation of :meth:`txsse.SSEChannel.send_from`.

    :raises TypeError: at once, if the argument is not a source.
    """
    items = _items(source)
    sending = Deferred.fromCoroutine(_send_each(outlet, items))
    sending.addErrback(explain_future)
    cancel_at_close(outlet, sending)
    # Added after the cancellation, so that the source may take its time to clean up.
    sending.addBoth(lambda result: Deferred.fromCoroutine(close_items(items)).addCallback(lambda _: result))
    return sending


def cancel_at_close(outlet: Outlet, work: AnyDeferred, *, is_handler: bool = False) -> None:
    """
    Cancel work that is not done when its channel is closed or the reactor stops.

    The work itself may close the channel, by a call to ``close`` or ``send``. A coroutine cannot be cancelled
    while it runs, so the cancellation waits for the next turn of the reactor.
    """
    if not outlet.hold(work, is_handler=is_handler):
        # The work is registered already: a second cancellation would interrupt its cleaning up.
        return
    cancelling: list[IDelayedCall] = []
    closed = outlet.when_closed()

    def cancel_soon(_: CloseReason) -> None:
        cancelling.append(outlet.reactor.callLater(0, work.cancel))

    def done(result: object) -> object:
        outlet.release(work)
        closed.cancel()
        # If the cancellation is still pending, it would cancel the work that follows in the chain.
        for call in cancelling:
            if call.active():
                call.cancel()
        return result

    # ``done`` cancels this Deferred, and its failure needs no handling.
    closed.addCallbacks(cancel_soon, _ignore)
    work.addBoth(done)


def _ignore(_: Failure) -> None:
    """
    Handle a failure that needs no action.
    """


async def _send_each(outlet: Outlet, items: AsyncIterator[Item]) -> int:
    sent = 0
    slice_sent = 0
    slice_began = outlet.reactor.seconds()
    try:
        async for item in items:
            if isinstance(item, ServerSentEvent):
                outlet.send_event(item)
            elif isinstance(item, str | bytes):
                outlet.send(item)
            else:
                raise TypeError(
                    f"a source must yield str, bytes or ServerSentEvent, not {type(item).__name__};"
                    " for JSON, yield json.dumps(...)"
                )
            sent += 1
            slice_sent += 1
            slice_over = (
                slice_sent >= _SLICE_EVENTS or outlet.reactor.seconds() - slice_began >= _SLICE_SECONDS
            )
            if slice_over or outlet.is_slow:
                await outlet.drain()
                slice_sent = 0
                slice_began = outlet.reactor.seconds()
    except (ChannelClosed, CancelledError, FutureCancelled):
        # The end of the channel is the normal end of the sending, not an error.
        if not outlet.ends_sources:
            raise
    return sent


async def close_items(items: object) -> None:
    """
    Close an iterator of events.
    """
    # A generator has aclose, an EventSource has close: without it, its connection would stay open unread.
    close = getattr(items, "aclose", None) or getattr(items, "close", None)
    if close is not None:
        closing = close()
        if isawaitable(closing):
            await closing


def _items(source: Source) -> AsyncIterator[Item]:
    """
    Return an asynchronous iterator over any source.
    """
    if isinstance(source, str | bytes | ServerSentEvent):
        raise TypeError("send_from takes a source of events; send() and send_event() send a single one")
    if isinstance(source, AsyncIterable):
        return aiter(source)
    if isawaitable(source):
        return _one(future_to_deferred(source))
    if isinstance(source, Iterable):
        return _each(source)
    raise TypeError(
        "send_from takes an iterable, an asynchronous iterable, a Deferred or another awaitable, not "
        + type(source).__name__
    )


async def _one(source: Awaitable[Item]) -> AsyncIterator[Item]:
    yield await source


async def _each(source: Iterable[Item]) -> AsyncIterator[Item]:
    try:
        for item in source:
            yield item
    finally:
        if isgenerator(source):
            source.close()

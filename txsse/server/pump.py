"""
From whatever can bring events to a channel, at the pace of its client.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from inspect import isawaitable, isgenerator
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from txsse._futures import FutureCancelled, explain_future, future_to_deferred
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.event import ServerSentEvent

__all__ = ["Item", "Outlet", "Source", "send_all"]

Item: TypeAlias = "str | bytes | ServerSentEvent"
Source: TypeAlias = (
    "Iterable[Item] | AsyncIterable[Item] | Awaitable[Item] | Deferred[str] | Deferred[bytes]"
    " | Deferred[ServerSentEvent]"
)

# A source that never waits must leave the reactor its turn: after so many events, or so many seconds.
_SLICE_EVENTS = 128
_SLICE_SECONDS = 0.01


class Outlet(Protocol):
    """
    What a source is sent to: the part of :class:`txsse.SSEChannel` that this needs.
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
        Whether a source that is cancelled ends as one that has come to its end.
        """

    def hold(self, work: Deferred[Any], *, is_handler: bool) -> bool:
        """
        Have work cancelled when the reactor stops, and return whether it was not held before.
        """

    def release(self, work: Deferred[Any]) -> None:
        """
        Forget work that is done.
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
    Send what a source brings; see :meth:`txsse.SSEChannel.send_from`, which is this.

    :raises TypeError: at once, where the source is none.
    """
    items = _items(source)
    sending = Deferred.fromCoroutine(_send_each(outlet, items))
    sending.addErrback(explain_future)
    cancel_at_close(outlet, sending)
    # Behind what cancels, so that the source may take its time to clean up.
    sending.addBoth(lambda result: Deferred.fromCoroutine(_close(items)).addCallback(lambda _: result))
    return sending


def cancel_at_close(outlet: Outlet, work: Deferred[Any], *, is_handler: bool = False) -> None:
    """
    Cancel work when its channel is closed, or the reactor stops, unless it is done by then.

    The end may come about inside of that very work, by a call to ``close`` or ``send``; a coroutine cannot
    be cancelled while it runs, so this waits for a turn of the reactor.
    """
    if not outlet.hold(work, is_handler=is_handler):
        # Cancelled twice, a source would not end its cleaning up.
        return
    cancelling: list[IDelayedCall] = []
    closed = outlet.when_closed()

    def cancel_soon(_: CloseReason) -> None:
        cancelling.append(outlet.reactor.callLater(0, work.cancel))

    def done(result: object) -> object:
        outlet.release(work)
        closed.cancel()
        # Where the turn has not come yet, what follows this work must not be cancelled in its place.
        for call in cancelling:
            if call.active():
                call.cancel()
        return result

    # Cancelled by ``done``, it fails with nobody to tell.
    closed.addCallbacks(cancel_soon, _ignore)
    work.addBoth(done)


def _ignore(_: Failure) -> None:
    """
    Leave a failure be.
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
                    f"a source must bring str, bytes or ServerSentEvent, not {type(item).__name__};"
                    " for JSON, let it bring json.dumps(...)"
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
        # The end of the channel ends the sending, and is no failure of it.
        if not outlet.ends_sources:
            raise
    return sent


async def _close(items: AsyncIterator[Item]) -> None:
    # A generator has the one, an EventSource the other: its connection would stay open without a reader.
    close = getattr(items, "aclose", None) or getattr(items, "close", None)
    if close is not None:
        closing = close()
        if isawaitable(closing):
            await closing


def _items(source: Source) -> AsyncIterator[Item]:
    """
    Make an asynchronous iterator of any source.
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

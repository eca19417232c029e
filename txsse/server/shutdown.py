"""
Shutdown of the open channels of a reactor that stops.

Strategy: a reactor that has open channels has one system event trigger, which it calls before it closes any
connection. A service that stops calls :meth:`Shutdown.end` for its own channels, as its reactor may run on.
Both cancel the handlers, and the sources of channels without a handler. Until a handler has ended, its
channel can still send, for example from a ``finally`` clause. Channels with neither a handler nor a source
stay open when the reactor stops: a hub, a service, or the application itself, closes them. The reactor
continues to stop when all of the cancelled work has ended, or when its time is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txsse._twisted.types import AnyDeferred
from txsse.errors import CloseReason

__all__ = ["Ending", "Shutdown", "shutdown_of"]

_log = Logger()

# The last frames leave in the next turns of the reactor: over HTTP/2, one frame per turn. Twisted does not
# notify when the last one has left; in seconds.
_FLUSH = 0.2


class Ending(Protocol):
    """
    The part of :class:`txsse.SSEChannel` that the shutdown needs.
    """

    @property
    def shutdown_timeout(self) -> float:
        """
        How long the channel's handler may take to end, in seconds.
        """

    def begin_shutdown(self) -> bool:
        """
        Set the close reason to ``SHUTDOWN``; return whether the channel is open and this is the first call.
        """

    def close(self, *, reason: CloseReason) -> None:
        """
        See :class:`txsse.SSEChannel`.
        """

    def when_closed(self) -> Deferred[CloseReason]:
        """
        See :class:`txsse.SSEChannel`.
        """


class Shutdown:
    """
    The open channels of a reactor, and the handlers and sources that are cancelled when it stops.

    :param reactor: the reactor. One without system events, such as a :class:`twisted.internet.task.Clock`,
        never stops.
    :ivar stopping: whether the reactor has begun to stop.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self.stopping = False
        self._reactor = reactor
        self._core: IReactorCore | None = IReactorCore(reactor, None)
        self._trigger: object = None
        self._channels = 0
        # The running handler, and the running sources, of each channel.
        self._handlers: dict[Ending, AnyDeferred] = {}
        self._sources: dict[Ending, list[AnyDeferred]] = {}
        self._ending: list[Deferred[None]] = []

    def channel_opened(self) -> None:
        """
        Count a channel; with the first one, add the trigger to the reactor.
        """
        self._channels += 1
        if self._channels == 1 and self._core is not None and not self.stopping:
            self._trigger = self._core.addSystemEventTrigger("before", "shutdown", self._stop)

    def channel_closed(self) -> None:
        """
        Stop counting a channel; with the last one, remove the trigger.
        """
        self._channels -= 1
        if not self._channels and self._core is not None and self._trigger is not None:
            self._core.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def hold(self, channel: Ending, work: AnyDeferred, *, is_handler: bool) -> bool:
        """
        Register work that ends with its channel.

        :param is_handler: whether it is the channel's handler. Then only the handler is cancelled, which in
            turn cancels the source that it waits for: once, so that the source can take its time to clean up.
        :returns: whether the work was not registered before: a handler may return the Deferred of
            ``send_from``.
        """
        sources = self._sources.get(channel, [])
        is_new = work not in sources
        if is_handler:
            self._handlers[channel] = work
        else:
            self._sources[channel] = [*sources, work]
        if self.stopping:
            # The client connected while the reactor stops. The handler may be running at this moment.
            self._reactor.callLater(0, self._begin_to_end, channel)
        return is_new

    def release(self, channel: Ending, work: AnyDeferred) -> None:
        """
        Unregister work that is done.
        """
        if self._handlers.get(channel) is work:
            del self._handlers[channel]
        sources = self._sources.get(channel, [])
        if work in sources:
            sources.remove(work)
            if not sources:
                del self._sources[channel]

    def has_handler(self, channel: Ending) -> bool:
        """
        Return whether a channel's handler is running.
        """
        return channel in self._handlers

    def _stop(self) -> Deferred[None]:
        # The reactor has removed a trigger that it called.
        self._trigger = None
        self.stopping = True
        for channel in [*self._handlers, *self._sources]:
            self._begin_to_end(channel)
        return Deferred.fromCoroutine(self._end_all())

    def _works_of(self, channel: Ending) -> list[AnyDeferred]:
        handler = self._handlers.get(channel)
        return self._sources.get(channel, []).copy() if handler is None else [handler]

    def _begin_to_end(self, channel: Ending) -> None:
        works = self._works_of(channel)
        # If the channel has begun to shut down, a source that its handler sends last is not cancelled.
        if works and channel.begin_shutdown():
            ending = Deferred.fromCoroutine(self._end(channel, works))
            self._ending.append(ending)
            ending.addBoth(self._ended, ending)

    def _ended(self, result: object, ending: Deferred[None]) -> object:
        # While the reactor stops, the list shows whether to wait until the last frames have left.
        if not self.stopping:
            self._ending.remove(ending)
        return result

    async def end(self, channels: Iterable[Ending]) -> None:
        """
        End some channels although the reactor does not stop; return when they are closed.

        Handlers and sources are cancelled as when the reactor stops. A channel without any is closed at once.
        """
        channels = list(channels)
        for channel in channels:
            if self._works_of(channel):
                # If the reactor stops too, the channel may be ending already.
                self._begin_to_end(channel)
            else:
                channel.close(reason=CloseReason.SHUTDOWN)
        await DeferredList([channel.when_closed() for channel in channels], consumeErrors=True)

    async def _end_all(self) -> None:
        if not self._ending:
            return
        while self._ending:
            await self._ending.pop()
        await deferLater(self._reactor, _FLUSH)

    async def _end(self, channel: Ending, works: list[AnyDeferred]) -> None:
        reactor = self._reactor
        over = reactor.seconds() + channel.shutdown_timeout
        done = DeferredList([_end_of(work) for work in works], consumeErrors=True)
        for work in works:
            try:
                work.cancel()
            except Exception:
                # Cancel the others, too.
                _log.failure("cannot cancel the handler or source of {channel}", channel=channel)
        # The time-out cancels the waiting, not the work.
        results = await done.addTimeout(channel.shutdown_timeout, reactor)
        if not all(succeeded for succeeded, _ in results):
            _log.warn(
                "The handler of {channel} did not end within {timeout} s after it was cancelled",
                channel=channel,
                timeout=channel.shutdown_timeout,
            )
        channel.close(reason=CloseReason.SHUTDOWN)
        with suppress(TimeoutError):
            await channel.when_closed().addTimeout(max(0.0, over - reactor.seconds()), reactor)


def _end_of(work: AnyDeferred) -> Deferred[None]:
    """
    Return a Deferred that fires when work and all callbacks added to it so far have ended.
    """
    ended: Deferred[None] = Deferred()

    def end(result: object) -> object:
        ended.callback(None)
        return result

    work.addBoth(end)
    return ended


# Upgraders that share a reactor share one object, which is released with the last upgrader.
_shutdowns: WeakValueDictionary[IReactorTime, Shutdown] = WeakValueDictionary()


def shutdown_of(reactor: IReactorTime) -> Shutdown:
    """
    Return the shutdown of a reactor; each reactor has one.
    """
    shutdown = _shutdowns.get(reactor)
    if shutdown is None:
        shutdown = _shutdowns[reactor] = Shutdown(reactor)
    return shutdown

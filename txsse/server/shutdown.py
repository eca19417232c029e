"""
What happens to open channels when their reactor stops.

Strategy: a reactor that has open channels has one system event trigger, which is called before the reactor
closes any connection. It cancels the handlers, and the sources of channels without a handler. Until a handler
has ended, its channel can still send, so that a ``finally`` may say goodbye. Channels that have neither stay
open: a hub, or the program itself, ends them. The reactor goes on to stop when all of that has ended, or when
the time for it is over.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txsse.errors import CloseReason

__all__ = ["Ending", "Shutdown", "shutdown_of"]

_log = Logger()

# What was written last leaves in the next turns of the reactor: over HTTP/2, one frame in each. Twisted does
# not notify when the last one has left; in seconds.
_FLUSH = 0.2


class Ending(Protocol):
    """
    What is ended: the part of :class:`txsse.SSEChannel` that this needs.
    """

    @property
    def shutdown_timeout(self) -> float:
        """
        How long its handler may take to end, in seconds.
        """

    def begin_shutdown(self) -> bool:
        """
        Set the reason, and return whether the channel is open.
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
    The open channels of a reactor, and the work that is cancelled when it stops.

    :param reactor: the reactor. One without system events, such as a :class:`twisted.internet.task.Clock`,
        never stops.
    :ivar stopping: whether the reactor is about to stop.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self.stopping = False
        self._reactor = reactor
        self._core: Any = IReactorCore(reactor, None)
        self._trigger: object = None
        self._channels = 0
        # Of each channel, what its handler does, and what its sources do.
        self._handlers: dict[Ending, Deferred[Any]] = {}
        self._sources: dict[Ending, list[Deferred[Any]]] = {}
        self._ending: list[Deferred[None]] = []

    def channel_opened(self) -> None:
        """
        Count a channel. The first one has the reactor call this object when it stops.
        """
        self._channels += 1
        if self._channels == 1 and self._core is not None and not self.stopping:
            self._trigger = self._core.addSystemEventTrigger("before", "shutdown", self._stop)

    def channel_closed(self) -> None:
        """
        Count a channel no more.
        """
        self._channels -= 1
        if not self._channels and self._trigger is not None:
            self._core.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def hold(self, channel: Ending, work: Deferred[Any], *, is_handler: bool) -> bool:
        """
        Take note of work that ends with its channel.

        :param is_handler: whether it is the channel's handler, which is the only one to be cancelled: what it
            waits for is cancelled by that, once, so that it can take its time to clean up.
        :returns: whether it is new: a handler may have returned what ``send_from`` did.
        """
        sources = self._sources.get(channel, [])
        is_new = work not in sources
        if is_handler:
            self._handlers[channel] = work
        else:
            self._sources[channel] = [*sources, work]
        if self.stopping:
            # A client that connected while the reactor stops. The handler may be running at this moment.
            self._reactor.callLater(0, self._begin_to_end, channel)
        return is_new

    def release(self, channel: Ending, work: Deferred[Any]) -> None:
        """
        Forget work that is done.
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
        Return whether a channel's handler is at work.
        """
        return channel in self._handlers

    def _stop(self) -> Deferred[None]:
        # A trigger that was called is not there any more.
        self._trigger = None
        self.stopping = True
        for channel in [*self._handlers, *self._sources]:
            self._begin_to_end(channel)
        return Deferred.fromCoroutine(self._end_all())

    def _begin_to_end(self, channel: Ending) -> None:
        handler = self._handlers.get(channel)
        works = self._sources.get(channel, []).copy() if handler is None else [handler]
        # What a handler sends last, by send_from, is not cancelled in its turn.
        if works and channel.begin_shutdown():
            self._ending.append(Deferred.fromCoroutine(self._end(channel, works)))

    async def _end_all(self) -> None:
        if not self._ending:
            return
        while self._ending:
            await self._ending.pop()
        await deferLater(self._reactor, _FLUSH)

    async def _end(self, channel: Ending, works: list[Deferred[Any]]) -> None:
        reactor = self._reactor
        over = reactor.seconds() + channel.shutdown_timeout
        done = DeferredList([_end_of(work) for work in works], consumeErrors=True)
        for work in works:
            try:
                work.cancel()
            except Exception:
                # The others are to end, too.
                _log.failure("what serves {channel} cannot be cancelled", channel=channel)
        # When the time is over, this cancels the waiting, not the work.
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


def _end_of(work: Deferred[Any]) -> Deferred[None]:
    """
    Return a Deferred that fires when another one has, and everything that was added to it so far.
    """
    ended: Deferred[None] = Deferred()

    def end(result: object) -> object:
        ended.callback(None)
        return result

    work.addBoth(end)
    return ended


# Upgraders that share a reactor share this, and it ends with the last of them.
_shutdowns: WeakValueDictionary[IReactorTime, Shutdown] = WeakValueDictionary()


def shutdown_of(reactor: IReactorTime) -> Shutdown:
    """
    Return what ends the channels of a reactor; there is one of each.
    """
    shutdown = _shutdowns.get(reactor)
    if shutdown is None:
        shutdown = _shutdowns[reactor] = Shutdown(reactor)
    return shutdown

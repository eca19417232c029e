"""
Close streams when their access ends.

Access ends at a time of day, and the system's clock may be set while a stream is open. A single timer for all
streams therefore compares the time of day when the next stream should end, and at least once a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from twisted.internet.interfaces import IDelayedCall

from txsse._clock import Timers, wall
from txsse.errors import CloseReason
from txsse.server.channel_io import ChannelIO

__all__ = ["Expiry"]

# How long a stream may outlast its token if the system's clock is set forward, in seconds.
_LOOK_INTERVAL = 60.0

# How many streams are closed before the reactor gets its turn: some 10 ms of work at 40 µs each.
_SLICE = 256

# The heap is not tidied up for fewer entries of closed streams than this.
_STALE_ENTRIES = 64


class Expiry:
    """
    Closes each channel at its time of day.

    Without such channels, no timer is left in the reactor.

    :param reactor: returns the reactor; first called when a channel is added.
    """

    def __init__(self, reactor: Callable[[], Timers]) -> None:
        self._reactor = reactor
        self._numbers = count()
        self._channels: dict[int, ChannelIO] = {}
        # The entry of a channel that is closed earlier stays until the heap is tidied up.
        self._heap: list[tuple[float, int]] = []
        self._call: IDelayedCall | None = None
        self._first = 0.0

    def end_at(self, channel: ChannelIO, expires: float) -> None:
        """
        Close a channel at a time of day.

        :param expires: when, in seconds since 1970; a time in the past closes it in the reactor's next turn.
        """
        number = next(self._numbers)
        self._channels[number] = channel
        heappush(self._heap, (expires, number))
        channel.when_closed().addCallback(self._forget, number)
        if self._call is None or expires < self._first:
            self._schedule()

    def _forget(self, _: object, number: int) -> None:
        del self._channels[number]
        if len(self._heap) > 2 * len(self._channels) + _STALE_ENTRIES:
            self._heap = [entry for entry in self._heap if entry[1] in self._channels]
            heapify(self._heap)
        if not self._channels:
            self._heap.clear()
            self._cancel()

    def _close_expired(self) -> None:
        self._call = None
        now = wall(self._reactor())
        try:
            for _ in range(_SLICE):
                if not self._heap or self._heap[0][0] > now:
                    break
                _, number = heappop(self._heap)
                channel = self._channels.get(number)
                if channel is not None:
                    channel.end_access(CloseReason.EXPIRED)
        finally:
            # If closing one stream fails, the others must not outlast their tokens.
            self._schedule()

    def _schedule(self) -> None:
        self._cancel()
        if self._heap:
            self._first = self._heap[0][0]
            left = max(0.0, self._first - wall(self._reactor()))
            self._call = self._reactor().callLater(min(left, _LOOK_INTERVAL), self._close_expired)

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

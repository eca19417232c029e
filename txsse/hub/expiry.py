"""
Closes streams whose access ends.

An access ends at a time of day, and the system's time may be set after the stream has begun. So one timer for
all streams looks at the time of day when the first of them should end, and once a minute at least.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from twisted.internet.interfaces import IDelayedCall

from txsse._clock import Timers, wall
from txsse.errors import CloseReason
from txsse.hub.subscriber import Subscriber

__all__ = ["Expiry"]

# How long a stream may outlast its token when the system's time is set forward, in seconds.
_LOOK_INTERVAL = 60.0

# How many streams end before the reactor gets its turn: some 10 ms of work at 40 µs each.
_SLICE = 256

# How many entries of streams that have ended are never worth tidying up.
_GONE_ENTRIES = 64


class Expiry:
    """
    Closes each channel at a time of day.

    Nothing is left in the reactor without such channels.

    :param reactor: returns the reactor; called once there are such channels.
    """

    def __init__(self, reactor: Callable[[], Timers]) -> None:
        self._reactor = reactor
        self._numbers = count()
        self._subscribers: dict[int, Subscriber] = {}
        # A channel that ends earlier leaves its entry behind for a while.
        self._heap: list[tuple[float, int]] = []
        self._call: IDelayedCall | None = None
        self._first = 0.0

    def end_at(self, subscriber: Subscriber, expires: float) -> None:
        """
        Close the channel of a subscriber.

        :param expires: when, in seconds since 1970.
        """
        number = next(self._numbers)
        self._subscribers[number] = subscriber
        heappush(self._heap, (expires, number))
        subscriber.channel.when_closed().addCallback(self._forget, number)
        if self._call is None or expires < self._first:
            self._look_later()

    def _forget(self, _: object, number: int) -> None:
        del self._subscribers[number]
        if len(self._heap) > 2 * len(self._subscribers) + _GONE_ENTRIES:
            self._heap = [entry for entry in self._heap if entry[1] in self._subscribers]
            heapify(self._heap)
        if not self._subscribers:
            self._heap.clear()
            self._cancel()

    def _look(self) -> None:
        self._call = None
        now = wall(self._reactor())
        try:
            for _ in range(_SLICE):
                if not self._heap or self._heap[0][0] > now:
                    break
                _, number = heappop(self._heap)
                subscriber = self._subscribers.get(number)
                if subscriber is not None:
                    _expire(subscriber)
        finally:
            # Whatever goes wrong with one, the others must not outlast their tokens.
            self._look_later()

    def _look_later(self) -> None:
        self._cancel()
        if self._heap:
            self._first = self._heap[0][0]
            left = max(0.0, self._first - wall(self._reactor()))
            self._call = self._reactor().callLater(min(left, _LOOK_INTERVAL), self._look)

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


def _expire(subscriber: Subscriber) -> None:
    subscriber.channel.close(reason=CloseReason.EXPIRED)
    # The channel still sends what it holds back, except private updates: the token no longer allows these.
    subscriber.unsubscribe()

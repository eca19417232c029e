"""
Publish with a fixed number of unacknowledged updates.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

__all__ = ["Load", "quantile"]


class Load:
    """
    Publishes a new update whenever one is acknowledged, so that a fixed number is always in flight. If an
    update is acknowledged within the call, as by a journal in memory, the next one follows in the next turn
    of the reactor. Otherwise a single turn would never end.

    :param publish: publishes one update.
    :param in_flight: how many updates are in flight.
    :param count: how many updates to publish in all.
    :ivar latencies: the time from each call until its acknowledgement, in seconds.
    """

    def __init__(
        self,
        publish: Callable[[], Deferred[str]],
        reactor: IReactorTime,
        *,
        in_flight: int,
        count: float = math.inf,
    ) -> None:
        self.latencies = array("d")
        self._publish = publish
        self._reactor = reactor
        self._in_flight = in_flight
        self._left = count
        self._outstanding = 0
        self._in_call = False
        self._next_turn = 0
        self._finished: Deferred[None] | None = None
        self._failure: Failure | None = None

    def begin(self) -> None:
        """
        Start publishing.
        """
        self._take_turn(self._in_flight)

    def end(self) -> Deferred[None]:
        """
        Stop publishing.

        :returns: a Deferred that fires when all updates are acknowledged.
        """
        self._left = 0
        return self.when_finished()

    def when_finished(self) -> Deferred[None]:
        """
        Return a Deferred that fires when all updates are published and acknowledged. It fails if one could
        not be published: then the figures are meaningless.
        """
        self._finished = finished = Deferred()
        self._look()
        return finished

    def _take_turn(self, count: int) -> None:
        for _ in range(count):
            self._publish_one()

    def _publish_one(self) -> None:
        if not self._left:
            return
        self._left -= 1
        self._outstanding += 1
        began = time.perf_counter()
        self._in_call = True
        published = self._publish()
        published.addCallbacks(self._acknowledged, self._failed, callbackArgs=(began,))
        self._in_call = False

    def _acknowledged(self, _: str, began: float) -> None:
        self.latencies.append(time.perf_counter() - began)
        self._outstanding -= 1
        if not self._left:
            self._look()
        elif not self._in_call:
            self._publish_one()
        else:
            if not self._next_turn:
                self._reactor.callLater(0, self._go_on)
            self._next_turn += 1

    def _go_on(self) -> None:
        count, self._next_turn = self._next_turn, 0
        self._take_turn(count)

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self._outstanding -= 1
        self._left = 0
        self._look()

    def _look(self) -> None:
        if self._left or self._outstanding or self._finished is None:
            return
        finished, self._finished = self._finished, None
        if self._failure is not None:
            finished.errback(self._failure)
        else:
            finished.callback(None)


def quantile(values: array[float], part: float) -> float:
    """
    Return a quantile, for a part from 0 to 1.
    """
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]

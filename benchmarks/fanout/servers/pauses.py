"""
Measure how long a reactor delays timers.
"""

from __future__ import annotations

import time

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

_INTERVAL = 0.005


class Pauses:
    """
    A timer of 5 ms that records the longest time between two calls, and the most CPU that this process used
    between two calls. The latter does not depend on other processes on the same core.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._last = reactor.seconds()
        self._used = time.process_time()
        self._longest = self._busiest = 0.0
        self._call = LoopingCall(self._look)
        self._call.clock = reactor
        self._call.start(_INTERVAL)

    def stop(self) -> dict[str, float]:
        """
        Stop the timer, and return the longest pauses in seconds.
        """
        self._look()
        self._call.stop()
        return {"pause": self._longest, "busy": self._busiest}

    def _look(self) -> None:
        now, used = self._reactor.seconds(), time.process_time()
        self._longest = max(self._longest, now - self._last)
        self._busiest = max(self._busiest, used - self._used)
        self._last, self._used = now, used

"""
One clock for all idle channels of an upgrader, instead of a timer each.

The channels stand on a wheel of :data:`SLOTS` slots, each at the slot where its keep-alive is due, and one
delayed call turns the wheel. A channel that sends only notes the number of the last turn; that its comment
is due later now shows when its slot comes round, once in an interval. So traffic costs one attribute, and
10,000 idle streams cost one timer.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["Idle", "KeepaliveClock", "NoKeepalive"]

_log = Logger()

# The comment comes after between 15/16 and the whole of the interval: in time for any proxy whose time-out
# the interval was chosen for, and late enough not to send more of them than needed.
SLOTS = 16

# How many channels are served before the reactor gets its turn: some 4 ms of work at 8 µs each.
_SLICE = 512


class Idle(Protocol):
    """
    What stands on the wheel.

    :ivar spoke: the turn at which it last sent.
    :ivar slot: where it stands, for the clock's own use.
    """

    spoke: int
    slot: int

    def keepalive_due(self) -> None:
        """
        Send a sign of life: nothing was sent for an interval.
        """


class KeepaliveClock:
    """
    Tell channels when they have been silent for too long.

    The clock runs while it has channels, and leaves nothing in the reactor otherwise.

    :param reactor: where the delayed call goes.
    :param interval: the longest silence, in seconds.
    :ivar now: the number of the turn; a channel that sends copies it to its ``spoke``.
    """

    def __init__(self, reactor: IReactorTime, interval: float) -> None:
        self.now = 0
        self._reactor = reactor
        self._step = interval / SLOTS
        # One more than a channel can wait turns, so that whoever moves never stays in the slot served.
        self._slots: list[set[Idle]] = [set() for _ in range(SLOTS + 1)]
        self._count = 0
        self._next_turn = 0.0
        self._call: IDelayedCall | None = None
        self._serving = False

    def add(self, channel: Idle) -> None:
        """
        Begin to watch over a channel, which has just sent something.
        """
        channel.spoke = self.now
        self._put(channel, self.now + SLOTS)
        self._count += 1
        if self._call is None and not self._serving:
            self._next_turn = self._reactor.seconds() + self._step
            self._call = self._reactor.callLater(self._step, self._turn)

    def remove(self, channel: Idle) -> None:
        """
        Forget a channel that was added.
        """
        self._slots[channel.slot].discard(channel)
        self._count -= 1
        if not self._count and self._call is not None:
            self._call.cancel()
            self._call = None

    def _put(self, channel: Idle, turn: int) -> None:
        channel.slot = turn % len(self._slots)
        self._slots[channel.slot].add(channel)

    def _turn(self) -> None:
        self.now += 1
        # Where the clock jumped, over a suspend or by a correction, one interval is made up for and no more:
        # each channel is told once.
        earliest = self._reactor.seconds() - SLOTS * self._step
        self._next_turn = max(self._next_turn + self._step, earliest)
        self._serve()

    def _serve(self) -> None:
        self._call = None
        self._serving = True
        due = self._slots[self.now % len(self._slots)]
        for _ in range(_SLICE):
            if not due:
                break
            self._visit(due.pop())
        self._serving = False
        if due:
            self._call = self._reactor.callLater(0, self._serve)
        elif self._count:
            delay = max(0, self._next_turn - self._reactor.seconds())
            self._call = self._reactor.callLater(delay, self._turn)

    def _visit(self, channel: Idle) -> None:
        turn = channel.spoke + SLOTS
        if turn > self.now:
            self._put(channel, turn)
            return
        channel.spoke = self.now
        self._put(channel, self.now + SLOTS)
        try:
            channel.keepalive_due()
        except Exception:
            # The others' keep-alive must not depend on this one.
            _log.failure("keep-alive failed for {channel}", channel=channel)


class NoKeepalive:
    """
    The clock of channels that want none.
    """

    now = 0

    def add(self, channel: Idle) -> None:
        """
        Do nothing.
        """

    def remove(self, channel: Idle) -> None:
        """
        Do nothing.
        """

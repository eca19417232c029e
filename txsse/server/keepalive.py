"""
The keep-alive clock: one timer for all idle channels of an upgrader, instead of one timer each.

It is a timer wheel of :data:`SLOTS` slots, turned by one delayed call. Each channel is in the slot in which
its keep-alive comment is due. A channel that sends only stores the number of the current turn; the clock
moves the channel to a later slot when its slot is due, once per interval. So sending costs one attribute, and
10,000 idle streams cost one timer.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["Idle", "KeepaliveClock", "NoKeepalive"]

_log = Logger()

# The comment is sent after between 15/16 and the whole of the interval: in time for any proxy whose time-out
# the interval was chosen for, and late enough not to send more comments than needed.
SLOTS = 16

# How many channels are served per turn of the reactor: some 4 ms of work at 8 µs each.
_SLICE = 512


class Idle(Protocol):
    """
    The part of a channel that the clock uses.

    :ivar spoke: the turn in which the channel last sent.
    :ivar slot: the channel's slot on the wheel, set by the clock.
    """

    spoke: int
    slot: int

    def keepalive_due(self) -> None:
        """
        Send a comment: nothing was sent for an interval.
        """


class KeepaliveClock:
    """
    Call ``keepalive_due`` of each channel that has sent nothing for an interval.

    The clock has a delayed call in the reactor only while it has channels.

    :param reactor: the reactor of the delayed call.
    :param interval: the longest silence, in seconds.
    :ivar now: the number of the current turn; a channel that sends copies it to its ``spoke``.
    """

    def __init__(self, reactor: IReactorTime, interval: float) -> None:
        self.now = 0
        self._reactor = reactor
        self._step = interval / SLOTS
        # One slot more than the longest wait in turns, so that a channel never moves into the slot being
        # served.
        self._slots: list[set[Idle]] = [set() for _ in range(SLOTS + 1)]
        self._count = 0
        self._next_turn = 0.0
        self._call: IDelayedCall | None = None
        self._serving = False

    def add(self, channel: Idle) -> None:
        """
        Add a channel, which has just sent something.
        """
        channel.spoke = self.now
        self._put(channel, self.now + SLOTS)
        self._count += 1
        if self._call is None and not self._serving:
            self._next_turn = self._reactor.seconds() + self._step
            self._call = self._reactor.callLater(self._step, self._turn)

    def remove(self, channel: Idle) -> None:
        """
        Remove a channel that was added.
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
        # If the time jumps ahead, after a suspend or a correction, at most one interval is made up for: each
        # channel
        # sends one comment.
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
            # A failure of one channel must not stop the keep-alive of the others.
            _log.failure("keep-alive failed for {channel}", channel=channel)


class NoKeepalive:
    """
    A clock that sends no comments, for channels without a keep-alive.
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

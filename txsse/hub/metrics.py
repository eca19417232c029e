"""
What a hub counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from txsse.errors import CloseReason

__all__ = ["FANOUT_BUCKETS", "Counters", "HubMetrics"]

# The upper ends of the histogram of fan-out times, in seconds; what takes longer is counted in all of them
# together, as Prometheus has it.
FANOUT_BUCKETS = (0.0001, 0.001, 0.01, 0.1, 1.0)


@dataclass
class Counters:
    """
    What has been counted since the hub was made.

    :ivar published: updates that came from the journal, which are those of all nodes.
    :ivar delivered: events handed over to a channel, live or by replay.
    :ivar bytes: their bytes.
    :ivar replayed: those of them that came out of the journal.
    :ivar gaps: how often a client was told that it missed something.
    :ivar slow_replays: how often a slow reader was moved to replay.
    :ivar drops: events that were given up for slow readers, of channels that have ended.
    :ivar failures: subscribers that were dropped because of an error.
    :ivar closes: ended channels, by reason.
    :ivar fanouts: how many batches of updates were fanned out.
    :ivar fanout_seconds: the time that took, altogether.
    :ivar fanout_buckets: how many took at most as long as each of :data:`FANOUT_BUCKETS`.
    """

    published: int = 0
    delivered: int = 0
    bytes: int = 0
    replayed: int = 0
    gaps: int = 0
    slow_replays: int = 0
    drops: int = 0
    failures: int = 0
    closes: Counter[CloseReason] = field(default_factory=Counter)
    fanouts: int = 0
    fanout_seconds: float = 0.0
    fanout_buckets: list[int] = field(default_factory=lambda: [0] * len(FANOUT_BUCKETS))

    def fanout_took(self, seconds: float) -> None:
        """
        Count a fan-out.
        """
        self.fanouts += 1
        self.fanout_seconds += seconds
        for number, bound in enumerate(FANOUT_BUCKETS):
            if seconds <= bound:
                self.fanout_buckets[number] += 1


@dataclass(frozen=True)
class HubMetrics:
    """
    How things stand with a hub; see ``Counters`` for what is counted.

    :ivar channels: how many channels are open now.
    :ivar topics: how many topics somebody wants now.
    :ivar journal_up: whether the journal can be read and written.
    :ivar damaged: how many updates of the journal could not be read, and were skipped.
    :ivar replaying: how many channels replay from the journal now.
    :ivar buffered: how many bytes are buffered for slow readers.
    """

    channels: int
    topics: int
    journal_up: bool
    damaged: int
    replaying: int
    buffered: int
    published: int
    delivered: int
    bytes: int
    replayed: int
    gaps: int
    slow_replays: int
    drops: int
    failures: int
    closes: dict[CloseReason, int]
    fanouts: int
    fanout_seconds: float
    fanout_buckets: tuple[int, ...]

    @property
    def behind(self) -> int:
        """
        The same as ``replaying``, for programs that measure this version beside earlier ones.
        """
        return self.replaying

"""
The counters of a hub, and a snapshot of them together with its gauges.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from txsse.errors import CloseReason

__all__ = ["FANOUT_BUCKETS", "Counters", "HubMetrics"]

# The upper bounds of the histogram of fan-out times, in seconds. As in Prometheus, each bucket includes the
# smaller ones; a fan-out above the last bound is counted in none of them.
FANOUT_BUCKETS = (0.0001, 0.001, 0.01, 0.1, 1.0)


@dataclass
class Counters:
    """
    The counters of a hub, since it was created.

    :ivar published: updates received from the journal, from all nodes.
    :ivar delivered: events handed over to a channel, live or by replay.
    :ivar bytes: the bytes of the delivered events.
    :ivar replayed: delivered events that were read from the journal.
    :ivar retained_delivered: delivered events that were retained, and sent before the changes.
    :ivar gaps: how often a client was notified of a gap.
    :ivar slow_replays: how often a slow reader was moved to replay.
    :ivar drops: events that were dropped for slow readers. Here, those of ended subscriptions only; a
        snapshot adds those that the current subscribers have counted.
    :ivar failures: subscribers whose channels were aborted because of an unexpected error.
    :ivar closes: closed channels, by reason.
    :ivar fanouts: batches of updates that were fanned out.
    :ivar fanout_seconds: the total time of all fan-outs.
    :ivar fanout_buckets: how many fan-outs took at most as long as each of :data:`FANOUT_BUCKETS`.
    """

    published: int = 0
    delivered: int = 0
    bytes: int = 0
    replayed: int = 0
    retained_delivered: int = 0
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

        :param seconds: how long it took, without the reactor's other work between its time slices.
        """
        self.fanouts += 1
        self.fanout_seconds += seconds
        for number, bound in enumerate(FANOUT_BUCKETS):
            if seconds <= bound:
                self.fanout_buckets[number] += 1


@dataclass(frozen=True)
class HubMetrics:
    """
    A snapshot of a hub's metrics; ``Counters`` describes the counters.

    :ivar channels: open channels.
    :ivar topics: topics with at least one subscriber.
    :ivar journal_up: whether the journal can be read and written.
    :ivar damaged: updates of the journal that could not be read, and were skipped.
    :ivar replaying: channels that replay from the journal.
    :ivar buffered: bytes buffered for slow readers.
    :ivar retained: updates that the journal retains; under two topics, an update counts twice.
    :ivar retained_bytes: their size, in bytes, approximately.
    """

    channels: int
    topics: int
    journal_up: bool
    damaged: int
    replaying: int
    buffered: int
    retained: int
    retained_bytes: int
    published: int
    delivered: int
    bytes: int
    replayed: int
    retained_delivered: int
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
        The same as ``replaying``, for programs that compare this version with earlier ones.
        """
        return self.replaying

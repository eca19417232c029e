"""
The publishers, which record each update that they publish and whether it was acknowledged.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from clustered.agreed import TOPICS
from clustered.processes import Child

__all__ = ["Outage", "Published", "Publishing"]

reactor: Any = global_reactor

# How many updates are published in one turn of a node.
_BURSTS = [1, 1, 2, 5, 20, 50]
# The share of updates without an id, and the share of updates that are published at two nodes at once, as by
# a publisher that does not wait for the first response.
_NAMELESS_SHARE, _TWICE_SHARE = 0.1, 0.02
# The maximal number of updates that are not yet acknowledged.
_MAX_OUTSTANDING = 2000
# How long a publisher waits before it tries again, in seconds.
_AGAIN = (0.05, 0.5)


@dataclass
class Published:
    """
    An update, as its publisher records it.

    :ivar first: the node where it was published first.
    :ivar tries: how often it was published.
    :ivar since: when it was published first.
    :ivar waiting: how many responses are outstanding.
    :ivar acknowledged: the id that it was acknowledged with.
    :ivar uncertain: whether it failed, and may have been recorded nevertheless.
    """

    number: int
    id: str | None
    topics: list[str]
    data: str
    first: int = -1
    tries: int = 0
    since: float = 0.0
    waiting: int = 0
    acknowledged: str | None = None
    uncertain: bool = False


@dataclass
class Outage:
    """
    A period without Redis.

    :ivar killed: when it began.
    :ivar started: when Redis responded again, in seconds since the kill.
    :ivar back: when each node acknowledged updates again, in seconds since the kill.
    """

    killed: float
    started: float = 0.0
    back: dict[str, float] = field(default_factory=dict)


class Publishing:
    """
    All publishers.

    :param nodes: the nodes that they publish at.
    :param total: the number of updates.
    :param seconds: the duration of publishing.
    :param seed: the seed of random choices.
    :ivar records: all updates, by number.
    :ivar outages: the periods without Redis.
    """

    def __init__(self, nodes: list[Child], total: int, seconds: float, seed: int) -> None:
        self.records: list[Published] = []
        self.counts: Counter[str] = Counter()
        self.outages: list[Outage] = []
        self._nodes = nodes
        self._total = total
        self._rate = total / seconds
        self._chance = random.Random(seed)
        self._again: list[tuple[float, int, Published]] = []
        self._outstanding = 0
        self._loop = LoopingCall(self._turn)
        self._began = 0.0
        # The times of acknowledgements at the first attempt, in seconds.
        self._times: list[float] = []

    def start(self) -> Deferred[Any]:
        """
        Start publishing.

        :returns: a Deferred that fires if it fails.
        """
        self._began = reactor.seconds()
        return self._loop.start(0.02)

    def stop(self) -> None:
        """
        Stop publishing.
        """
        if self._loop.running:
            self._loop.stop()

    @property
    def progress(self) -> float:
        """
        The share of updates that have been published, from 0 to 1.
        """
        return len(self.records) / self._total

    @property
    def is_over(self) -> bool:
        """
        Whether all updates are published, and those with an id acknowledged.
        """
        return len(self.records) >= self._total and not self._outstanding and not self._again

    def publish(self, record: Published) -> None:
        """
        Publish one update at a random node.
        """
        self.records.append(record)
        self._send(self._chance.randrange(len(self._nodes)), [record])

    def percentiles(self, *shares: float, newest: int = 0) -> list[float]:
        """
        Return percentiles of the times of acknowledgements at the first attempt, in milliseconds.

        :param newest: how many of the newest times to use; 0 for all.
        """
        times = sorted(self._times[-newest:]) or [0.0]
        return [times[int(len(times) * share)] * 1000 for share in shares]

    def _turn(self) -> None:
        now = reactor.seconds()
        while self._again and self._again[0][0] <= now:
            record = heapq.heappop(self._again)[2]
            self.counts["published again"] += 1
            self._send(self._chance.randrange(len(self._nodes)), [record])
        due = min(self._total, int((now - self._began) * self._rate))
        while len(self.records) < due and self._outstanding < _MAX_OUTSTANDING:
            self.burst(self._chance.randrange(len(self._nodes)), self._chance.choice(_BURSTS))

    def burst(self, node: int, size: int) -> None:
        """
        Publish new updates at a node, all in one message.
        """
        size = min(size, self._total - len(self.records))
        burst = [self._new() for _ in range(size)]
        self._send(node, burst)
        twice = [each for each in burst if each.id is not None and self._chance.random() < _TWICE_SHARE]
        if twice:
            self.counts["published twice"] += len(twice)
            self._send((node + 1) % len(self._nodes), twice)

    def _new(self) -> Published:
        number = len(self.records)
        id = None if self._chance.random() < _NAMELESS_SHARE else f"order-{number}"
        topics = self._chance.sample(TOPICS, self._chance.choice([1, 1, 1, 1, 1, 1, 1, 2]))
        data = f"{number} für alle " + "x" * self._chance.choice([0, 30, 60, 100, 400])
        if self._chance.random() < 0.1:
            data += "\nand a second line"
        record = Published(number, id, topics, data)
        self.records.append(record)
        return record

    def _send(self, node: int, records: list[Published]) -> None:
        for record in records:
            if not record.tries:
                record.first = node
                record.since = reactor.seconds()
            record.tries += 1
            record.waiting += 1
        self._outstanding += len(records)
        self._nodes[node].write([(each.number, each.id, each.topics, each.data) for each in records])

    def results(self, node: Child, results: list[Any]) -> None:
        """
        Record the results of publishing at a node.
        """
        now = reactor.seconds()
        self._outstanding -= len(results)
        for number, id, uncertain in results:
            record = self.records[number]
            record.waiting -= 1
            if id is None:
                self._failed(record, uncertain, now)
                continue
            self.counts["acknowledgements"] += 1
            if record.tries == 1:
                self._times.append(now - record.since)
            if record.acknowledged is None:
                record.acknowledged = id
            if self.outages and self.outages[-1].started:
                self.outages[-1].back.setdefault(node.name, now - self.outages[-1].killed)

    def _failed(self, record: Published, uncertain: bool, now: float) -> None:
        record.uncertain |= uncertain
        self.counts["failed, uncertain" if uncertain else "failed, certain"] += 1
        # If it was published at two nodes, the other one may still acknowledge it.
        if record.id is not None and record.acknowledged is None and not record.waiting:
            heapq.heappush(self._again, (now + self._chance.uniform(*_AGAIN), record.number, record))

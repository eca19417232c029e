"""
A process that runs many subscribers on one selector.
"""

from __future__ import annotations

import heapq
import json
import os
import selectors
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from clustered.agreed import SEED, TOPICS
from clustered.subscriber import Subscriber, Track

__all__ = ["Crowd"]

# The average duration of a visit, and of the absence after it, in seconds.
_VISIT, _AWAY = 6.0, 1.0
# During a long absence a subscriber misses more than a node has in memory, so the node reads it from Redis.
_LONG_AWAY, _LONG_AWAY_SHARE = (10.0, 40.0), 0.03
# How long a slow subscriber stops reading, in seconds.
_PAUSE = (2.0, 8.0)


class Crowd:
    """
    The subscribers of this process.

    :param options: the first line of the input.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.ports: list[int] = options["ports"]
        self.seed: int = options["seed"]
        self.finishing = False
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self._directory = Path(options["directory"])
        self._name: int = options["crowd"]
        self._seconds: float = options["seconds"]
        self._tracks = [Track(topic) for topic in (None, *TOPICS)]
        self._subscribers = [self._new(number) for number in range(options["first"], options["end"])]
        self._selector = selectors.DefaultSelector()
        self._alarms: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._input = b""
        self._running = True

    def _new(self, number: int) -> Subscriber:
        if number % 4 == 3:
            # Every fourth subscribes to only one topic.
            return Subscriber(number, self._tracks[1 + number // 4 % len(TOPICS)], SEED, self)
        # Some of the others connect late, either from the earliest update or for new updates only.
        first_ids = {0: "earliest", 2: ""}
        return Subscriber(number, self._tracks[0], first_ids.get(number % 10, SEED), self)

    def run(self) -> None:
        """
        Run the subscribers, and follow the commands on stdin until it ends.
        """
        self._selector.register(0, selectors.EVENT_READ, None)
        for subscriber in self._subscribers:
            late = subscriber.last_id != SEED
            self._later(
                subscriber.chance.uniform(0, self._seconds if late else 2.0), self._connect, subscriber
            )
        while self._running:
            wait = self._alarms[0][0] - time.monotonic() if self._alarms else 1.0
            for key, _ in self._selector.select(max(0.0, wait)):
                if key.data is None:
                    self._read_input()
                elif key.data.socket is key.fileobj:
                    self._serve(key.data)
            while self._alarms and self._alarms[0][0] <= time.monotonic():
                _, _, action, arguments = heapq.heappop(self._alarms)
                action(*arguments)

    def _later(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._alarms, (time.monotonic() + seconds, next(self._order), action, arguments))

    # Actions of subscribers.

    def _connect(self, subscriber: Subscriber) -> None:
        if subscriber.socket is not None:
            return
        subscriber.connect()
        self.counts["visits"] += 1
        self._watch(subscriber)
        about = subscriber.chance.expovariate(1 / _VISIT)
        self._later(about, self._cut, subscriber, subscriber.visit)
        if subscriber.slow:
            self._later(about / 4, self._stop_reading, subscriber, subscriber.visit)

    def _stop_reading(self, subscriber: Subscriber, visit: int) -> None:
        if not self.finishing and subscriber.visit == visit and subscriber.socket is not None:
            self.counts["slow"] += 1
            self._selector.unregister(subscriber.socket)
            self._later(subscriber.chance.uniform(*_PAUSE), self._resume_reading, subscriber, visit)

    def _resume_reading(self, subscriber: Subscriber, visit: int) -> None:
        if subscriber.visit == visit and subscriber.socket is not None:
            self._watch(subscriber)

    def _cut(self, subscriber: Subscriber, visit: int) -> None:
        if self.finishing or subscriber.visit != visit or subscriber.socket is None:
            return
        self.counts["cuts"] += 1
        self._disconnect(subscriber, reset=subscriber.chance.random() < 0.5)
        long = subscriber.chance.random() < _LONG_AWAY_SHARE
        away = subscriber.chance.uniform(*_LONG_AWAY) if long else subscriber.chance.expovariate(1 / _AWAY)
        self._later(away, self._connect, subscriber)

    def _disconnect(self, subscriber: Subscriber, *, reset: bool) -> None:
        assert subscriber.socket is not None
        with suppress(KeyError):
            self._selector.unregister(subscriber.socket)
        subscriber.disconnect(reset=reset)

    def _watch(self, subscriber: Subscriber) -> None:
        assert subscriber.socket is not None
        with suppress(KeyError):
            self._selector.unregister(subscriber.socket)
        what = selectors.EVENT_READ if subscriber.asked else selectors.EVENT_WRITE
        self._selector.register(subscriber.socket, what, subscriber)

    def _serve(self, subscriber: Subscriber) -> None:
        assert subscriber.socket is not None
        try:
            if not subscriber.asked:
                subscriber.ask()
                self._watch(subscriber)
                return
            data = subscriber.socket.recv(262144)
        except OSError:
            data = b""
        self.counts["bytes"] += len(data)
        if data:
            subscriber.take(data)
        else:
            self.counts["streams ended"] += 1
            self._disconnect(subscriber, reset=False)
            self._later(0.2, self._connect, subscriber)

    # Commands on stdin, and responses on stdout.

    def _read_input(self) -> None:
        data = os.read(0, 65536)
        self._running = bool(data)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._do(json.loads(line))

    def _do(self, asked: str) -> None:
        if asked == "finish":
            self._finish()
        elif asked == "write":
            self._write()
        print(json.dumps({"how": self._how()}), flush=True)

    def _finish(self) -> None:
        """
        Connect all subscribers, and keep them connected to the end.
        """
        self.finishing = True
        for subscriber in self._subscribers:
            if subscriber.slow and subscriber.socket is not None:
                # With its small receive buffer it would take too long.
                self._disconnect(subscriber, reset=True)
            if subscriber.socket is None:
                self._later(subscriber.chance.uniform(0, 1), self._connect, subscriber)

    def _write(self) -> None:
        """
        Write the received events to files, for comparison with the published updates, and count them.
        """
        for track in self._tracks:
            (self._directory / f"{track.topic}.{self._name}").write_bytes(track.received)
        for subscriber in self._subscribers:
            place = subscriber.began, subscriber.offset
            self.counts["events"] += subscriber.track.received.count(b"\n\n", *place)

    def _how(self) -> dict[str, Any]:
        return {
            "connected": sum(each.socket is not None for each in self._subscribers),
            "done": sum(each.is_done for each in self._subscribers),
            "undone": [each.whereabouts for each in self._subscribers if not each.is_done][:3],
            "wrong": self.wrong[:5],
            "violations": len(self.wrong),
            "counts": dict(self.counts),
        }

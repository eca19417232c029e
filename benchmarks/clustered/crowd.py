"""
A process full of subscribers.
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

# How long a visit takes, and how long one is away after it, on average, in seconds.
_VISIT, _AWAY = 6.0, 1.0
# Who is away for long misses more than a node has in memory, and is sent it from Redis.
_LONG_AWAY, _LONG_AWAY_SHARE = (10.0, 40.0), 0.03
# For how long a slow one stops reading, in seconds.
_PAUSE = (2.0, 8.0)


class Crowd:
    """
    A process full of subscribers.

    :param options: what the first line of the input says.
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
        self._going = True

    def _new(self, number: int) -> Subscriber:
        if number % 4 == 3:
            # Every fourth wants one topic alone.
            return Subscriber(number, self._tracks[1 + number // 4 % len(TOPICS)], SEED, self)
        # Some of the others come late, for the whole record or for what is new then.
        first_ids = {0: "earliest", 2: ""}
        return Subscriber(number, self._tracks[0], first_ids.get(number % 10, SEED), self)

    def run(self) -> None:
        """
        Do as the input says until it ends.
        """
        self._selector.register(0, selectors.EVENT_READ, None)
        for subscriber in self._subscribers:
            late = subscriber.last_id != SEED
            self._later(subscriber.chance.uniform(0, self._seconds if late else 2.0), self._come, subscriber)
        while self._going:
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

    # What subscribers do.

    def _come(self, subscriber: Subscriber) -> None:
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
            self._later(subscriber.chance.uniform(*_PAUSE), self._read_on, subscriber, visit)

    def _read_on(self, subscriber: Subscriber, visit: int) -> None:
        if subscriber.visit == visit and subscriber.socket is not None:
            self._watch(subscriber)

    def _cut(self, subscriber: Subscriber, visit: int) -> None:
        if self.finishing or subscriber.visit != visit or subscriber.socket is None:
            return
        self.counts["cuts"] += 1
        self._leave(subscriber, reset=subscriber.chance.random() < 0.5)
        long = subscriber.chance.random() < _LONG_AWAY_SHARE
        away = subscriber.chance.uniform(*_LONG_AWAY) if long else subscriber.chance.expovariate(1 / _AWAY)
        self._later(away, self._come, subscriber)

    def _leave(self, subscriber: Subscriber, *, reset: bool) -> None:
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
            self._leave(subscriber, reset=False)
            self._later(0.2, self._come, subscriber)

    # What this process is told, and tells.

    def _read_input(self) -> None:
        data = os.read(0, 65536)
        self._going = bool(data)
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
        Have everybody come, and stay to the end.
        """
        self.finishing = True
        for subscriber in self._subscribers:
            if subscriber.slow and subscriber.socket is not None:
                # With so small a buffer it would not be done today.
                self._leave(subscriber, reset=True)
            if subscriber.socket is None:
                self._later(subscriber.chance.uniform(0, 1), self._come, subscriber)

    def _write(self) -> None:
        """
        Have what came be held against what was published, and count it.
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

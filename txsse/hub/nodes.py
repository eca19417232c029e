"""
How many listen at the nodes of a cluster: each tells the others of its own now and then, and is forgotten
when it is not heard of any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

__all__ = ["Nodes"]

# How often a node tells how many it has, in seconds, and for how many times as long that counts.
_INTERVAL = 2.0
_LIVES = 5

# How many topics are told at once; a node with more of them tells the rest the next time.
_MOST_TOPICS = 1000

Run = Callable[..., "Deferred[Any]"]


class Nodes:
    """
    This node among the others.

    :param run: runs a command of the journal's script, and may fail.
    :param counts: returns how many want each topic here, and under ``*`` how many there are in all.
    :param now: returns the time, in seconds.
    :param reactor: the reactor.
    """

    def __init__(
        self,
        run: Run,
        counts: Callable[[], Mapping[str, int]],
        now: Callable[[], float],
        reactor: IReactorTime,
    ) -> None:
        self._run = run
        self._counts = counts
        self._now = now
        self._reactor = reactor
        self._name = secrets.token_hex(8)
        self._told: dict[str, int] = {}
        self._anew = True
        self._call = reactor.callLater(0, self._announce)
        self._stopped = False

    def elsewhere(self, topic: str) -> Deferred[int]:
        """
        Return how many want a topic at the other nodes; ``*`` for all.
        """
        return self._run("elsewhere", self._milliseconds(), self._name, topic)

    def stop(self) -> Deferred[Any]:
        """
        Leave.
        """
        self._stopped = True
        if self._call.active():
            self._call.cancel()
        return self._run("leave", self._name).addErrback(lambda _: None)

    def _announce(self) -> None:
        counts = self._counts()
        changes = {topic: count for topic, count in counts.items() if self._told.get(topic) != count}
        changes.update((topic, 0) for topic in self._told if topic not in counts)
        changes = dict(list(changes.items())[:_MOST_TOPICS])
        lifetime = int(_INTERVAL * _LIVES * 1000)
        told = [each for change in changes.items() for each in change]
        done = self._run("announce", self._milliseconds(), self._name, lifetime, int(self._anew), *told)
        done.addCallbacks(self._has_announced, self._has_not_announced, callbackArgs=(changes,))
        done.addBoth(self._again)

    def _has_announced(self, _: object, changes: Mapping[str, int]) -> None:
        self._anew = False
        for topic, count in changes.items():
            if count:
                self._told[topic] = count
            else:
                del self._told[topic]

    def _has_not_announced(self, _: object) -> None:
        # Who knows what the others have of it.
        self._anew = True
        self._told.clear()

    def _again(self, _: object) -> None:
        if not self._stopped:
            self._call = self._reactor.callLater(_INTERVAL, self._announce)

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)

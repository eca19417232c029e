"""
The nodes that share a journal in Redis: their heartbeats, with the counts of their subscribers; and their
metadata, which is sent at once. A node whose heartbeat ends is forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from txsse._randomness import Randomness
from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import JournalFailed
from txsse.journal.cluster import (
    DEFAULT_DEADLINE,
    ICluster,
    IClusterListener,
    check_broadcast,
    check_metadata,
)
from txsse.journal.redis.broadcasts import Broadcasts
from txsse.journal.update import ALL

__all__ = ["RedisCluster"]

_log = Logger()

# How often a node sends its heartbeat, in seconds, and for how many times as long it counts as alive.
_INTERVAL = 2.0
_LIVES = 5

# How many topics go with one heartbeat; a node with more of them sends the rest when these have arrived.
_MOST_TOPICS = 1000

# How many texts of metadata go into one command, how many are sent in one turn where all are, and about how
# many are looked at in one step of the server's.
_MOST_TEXTS = 100
_MOST_IN_A_TURN = 1000
_LOOK_AT = 1000

Run = Callable[..., "Deferred[Any]"]


def _lifetime() -> int:
    return int(_INTERVAL * _LIVES * 1000)


@implementer(ICluster)
class RedisCluster:
    """
    This node among the others, by way of the connections of its journal.

    :param run: runs a command of the journal's script, and may fail.
    :param now: returns the time, in seconds.
    :param flush: has :meth:`send_metadata` called soon, before what is appended next.
    :param randomness: where the names of nodes and messages come from.
    :ivar node: the name of this node.
    """

    def __init__(
        self, run: Run, now: Callable[[], float], flush: Callable[[], None], randomness: Randomness
    ) -> None:
        self.node = randomness.token(8).hex()
        self._run = run
        self._now = now
        self._flush = flush
        self._listener: IClusterListener | None = None
        self._broadcasts = Broadcasts(run, self.node, self._times, randomness)
        self._failures = RateLimitedLog(_log)
        # The counts that the others have.
        self._shown: dict[str, int] = {}
        # The topics to send: those that have changed; and, of all, those that are left.
        self._changed: dict[str, None] = {}
        self._left: list[str] = []
        self._metadata: dict[str, str] = {}
        # The names of those that the others do not have as they are now.
        self._unsent: dict[str, None] = {}
        self._stale: list[str] = []
        self._anew = True
        # Those of the session, while there is one.
        self._reactor: IReactorTime | None = None
        self._call: IDelayedCall | None = None

    def start(self, listener: IClusterListener) -> Deferred[None]:
        """
        Join.
        """
        self._listener = listener
        if self._reactor is not None:
            self.session_began(self._reactor)
        return succeed(None)

    def session_began(self, reactor: IReactorTime) -> None:
        """
        Join, or join again: everything is sent anew, and at once.
        """
        self._reactor = reactor
        self._broadcasts.read_again()
        self._begin_anew()
        self._cancel_heartbeat()
        if self._listener is not None:
            self._call = reactor.callLater(0, self._beat)

    def session_lost(self, make_error: Callable[[], JournalFailed]) -> None:
        """
        Fail what was on its way.
        """

        def uncertain() -> JournalFailed:
            error = make_error()
            return JournalFailed(error.journal, error.problem, uncertain=True)

        self._broadcasts.lose(uncertain)

    def count_subscribers(self, topic: str) -> Deferred[int]:
        """
        Return how many subscribers a topic has at the other nodes.
        """
        return self._run("count_subscribers", self._milliseconds(), self.node, topic)

    def broadcast(self, message: str, *, deadline: float = DEFAULT_DEADLINE) -> Deferred[None]:
        """
        Send a message to all nodes.
        """
        check_broadcast(message, deadline)
        if self._listener is None or self._reactor is None:
            return fail(JournalFailed("the cluster", "not started"))
        return self._broadcasts.send(message, deadline, self._reactor)

    @property
    def inbox_cursor(self) -> int:
        """
        The entry up to which the inbox has been read.
        """
        return self._broadcasts.cursor

    def receive(self, entries: Sequence[Any]) -> None:
        """
        Take entries of the inbox.
        """
        if entries and self._listener is not None:
            self._broadcasts.receive(entries, self._listener)

    def put_metadata(self, name: str, text: str | None) -> None:
        """
        Show the other nodes a text, or delete it.
        """
        check_metadata(name, text)
        if text is None:
            self._metadata.pop(name, None)
        else:
            self._metadata[name] = text
        if not self._anew:
            self._unsent[name] = None
            self._flush()

    def send_metadata(self) -> None:
        """
        Send the metadata that has changed, before whatever is asked of the server next.
        """
        names, self._unsent = list(self._unsent), {}
        self._send(names)

    def metadata(self, name: str) -> Deferred[list[str]]:
        """
        Return the texts of the other nodes. They are read page by page, so that the server is not kept from
        the rest of its work.
        """
        return Deferred.fromCoroutine(self._read_metadata(name))

    async def _read_metadata(self, name: str) -> list[str]:
        found: list[bytes] = []
        pattern = re.sub(r"([\\*?[\]])", r"\\\1", name) + "/*"
        for node in await self._run("other_nodes", self._milliseconds(), self.node):
            named = await self._run("metadata_of", node, name)
            # What changes meanwhile may come twice.
            below: dict[bytes, bytes] = {}
            cursor = None
            while cursor != b"0":
                cursor, texts = await self._run("metadata", node, cursor or 0, pattern, _LOOK_AT)
                below.update(zip(texts[::2], texts[1::2], strict=True))
            found += [*([] if named is None else [named]), *below.values()]
        return [text.decode("utf-8", "replace") for text in found]

    def stop(self) -> Deferred[None]:
        """
        Leave.
        """
        if self._listener is None:
            return succeed(None)
        self._listener = None
        self._stale.clear()
        self._cancel_heartbeat()
        self.session_lost(lambda: JournalFailed("the cluster", "has been stopped"))
        return self._run("leave", self.node).addCallbacks(lambda _: None, lambda _: None)

    def _cancel_heartbeat(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _beat(self) -> None:
        try:
            self._beat_now()
        except Exception:
            # Such as a follower that fails.
            self._failures.failure("a node cannot send its heartbeat")
            self._begin_anew()
            self._later(None, _INTERVAL)

    def _beat_now(self) -> None:
        assert self._listener is not None
        anew, self._anew = self._anew, False
        counts, changed = self._listener.subscriber_counts(), self._listener.changed_topics()
        if anew:
            self._shown.clear()
            self._stale = list(self._metadata)
            # How many there are in all comes first.
            self._changed, self._left = {ALL: None}, list(counts)
        else:
            self._changed.update(dict.fromkeys(changed))
        some = {
            topic: count
            for topic in self._next_topics()
            if self._shown.get(topic, 0) != (count := counts.get(topic, 0))
        }
        sent = [each for change in some.items() for each in change]
        expected = bool(self._shown), len(self._metadata) > len(self._unsent) + len(self._stale)
        done = self._run("heartbeat", self._milliseconds(), self.node, _lifetime(), int(anew), *sent)
        done.addCallbacks(self._has_beaten, self._has_not_beaten, callbackArgs=(some, expected))
        done.addBoth(self._later, 0.0 if self._changed or self._left else _INTERVAL)
        if anew:
            self._send_stale()
        if self._broadcasts.are_pending:
            alive = self._run("other_nodes", self._milliseconds(), self.node)
            alive.addCallbacks(self._broadcasts.keep, lambda _: None)

    def _next_topics(self) -> list[str]:
        """
        Take the topics that are sent with one heartbeat. A look at all of them each time would take 44 ms
        where there are 100,000.
        """
        topics = list(islice(self._changed, _MOST_TOPICS))
        for topic in topics:
            del self._changed[topic]
        more = _MOST_TOPICS - len(topics)
        if more:
            topics += self._left[-more:]
            del self._left[-more:]
        return topics

    def _has_beaten(self, there: Sequence[int], changes: Mapping[str, int], expected: Sequence[bool]) -> None:
        for topic, count in changes.items():
            if count:
                self._shown[topic] = count
            else:
                self._shown.pop(topic, None)
        if any(each and not found for each, found in zip(expected, there, strict=True)):
            # The server has forgotten it: this node was silent for too long.
            self._begin_anew()

    def _has_not_beaten(self, _: object) -> None:
        # Who knows what the others have of it.
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._anew = True
        self._unsent.clear()
        self._stale.clear()

    def _later(self, _: object, seconds: float) -> None:
        assert self._call is not None
        if self._reactor is not None and self._listener is not None and not self._call.active():
            self._call = self._reactor.callLater(seconds, self._beat)

    def _send_stale(self) -> None:
        """
        Send all anew, a part in each turn.
        """
        self._send([name for name in self._stale[:_MOST_IN_A_TURN] if name in self._metadata])
        del self._stale[:_MOST_IN_A_TURN]
        if self._stale:
            assert self._reactor is not None
            self._reactor.callLater(0, self._send_stale)

    def _send(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _MOST_TEXTS):
            if self._anew:
                # All will be sent.
                return
            sent = [
                each
                for name in names[start : start + _MOST_TEXTS]
                for each in (name, self._metadata.get(name, ""))
            ]
            self._run("put_metadata", self.node, _lifetime(), *sent).addErrback(self._has_not_beaten)

    def _times(self) -> tuple[int, int]:
        return self._milliseconds(), _lifetime()

    def _milliseconds(self) -> int:
        # Before the first session nothing is sent.
        return 0 if self._reactor is None else int(self._now() * 1000)

"""
The cluster of the nodes that share a journal in Redis.

Each node sends heartbeats, which carry its subscriber counts. Its metadata is sent as soon as it changes. A
node whose heartbeats stop is removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

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
from txsse.journal.redis.replies import (
    Run,
    StreamEntry,
    as_bytes,
    as_list_of_bytes,
    as_number,
    as_numbers,
    as_scanned,
)
from txsse.topics.topic_set import ALL

__all__ = ["RedisCluster"]

_log = Logger()

# How often a node sends its heartbeat, in seconds, and for how many intervals it counts as alive without one.
_INTERVAL = 2.0
_LIVES = 5

# The maximum number of topics in one heartbeat. A node with more changed topics sends the others after the
# reply.
_MOST_TOPICS = 1000

# How many texts of metadata one command sends; how many are sent in one turn of the reactor, when all are
# sent anew; and about how many the server scans in one command.
_MOST_TEXTS = 100
_MOST_IN_A_TURN = 1000
_LOOK_AT = 1000


def _lifetime() -> int:
    return int(_INTERVAL * _LIVES * 1000)


@implementer(ICluster)
class RedisCluster:
    """
    A node's membership in the cluster. It uses the connections of the node's journal.

    :param run: runs a command of the journal's script. Its Deferred may fail.
    :param now: returns the time, in seconds.
    :param flush: schedules a call of :meth:`send_metadata`, before the next update is sent.
    :param randomness: the source of the names of nodes and of message tokens.
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
        # The counts that the server has.
        self._shown: dict[str, int] = {}
        # The topics whose counts are to be sent: those that have changed; and the rest of all topics, when
        # all are sent anew.
        self._changed: dict[str, None] = {}
        self._left: list[str] = []
        self._metadata: dict[str, str] = {}
        # The names of texts to be sent: those that have changed; and the rest of all, when all are sent anew.
        self._unsent: dict[str, None] = {}
        self._stale: list[str] = []
        # Whether the next heartbeat is to replace all counts and metadata that the server has.
        self._anew = True
        # How many messages had been sent to all nodes at the last heartbeat.
        self._messages: int | None = None
        # Set from the first session on.
        self._reactor: IReactorTime | None = None
        self._call: IDelayedCall | None = None

    def start(self, listener: IClusterListener) -> Deferred[None]:
        """
        Join the cluster, by a heartbeat in the next turn of the reactor.
        """
        self._listener = listener
        if self._reactor is not None:
            self.session_began(self._reactor)
        return succeed(None)

    def session_began(self, reactor: IReactorTime) -> None:
        """
        Join the cluster, or rejoin it: send all counts and metadata anew, at once.
        """
        self._reactor = reactor
        self._broadcasts.read_again()
        self._begin_anew()
        self._cancel_heartbeat()
        if self._listener is not None:
            self._call = reactor.callLater(0, self._beat)

    def session_lost(self, make_error: Callable[[], JournalFailed]) -> None:
        """
        Fail the broadcasts that are not acknowledged, as uncertain.
        """

        def uncertain() -> JournalFailed:
            error = make_error()
            return JournalFailed(error.journal, error.problem, uncertain=True)

        self._broadcasts.lose(uncertain)

    def count_subscribers(self, topic: str) -> Deferred[int]:
        """
        Return how many subscribers a topic has at the other nodes.
        """
        counted = self._run("count_subscribers", self._milliseconds(), self.node, topic)
        return counted.addCallback(as_number)

    def broadcast(self, message: str, *, deadline: float = DEFAULT_DEADLINE) -> Deferred[list[str]]:
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

    def receive(self, entries: Sequence[StreamEntry]) -> None:
        """
        Process entries of this node's inbox.
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
        Send the metadata that has changed, before the next command.
        """
        names, self._unsent = list(self._unsent), {}
        self._send(names)

    def metadata(self, name: str) -> Deferred[list[str]]:
        """
        Return the texts of the other nodes.

        They are read page by page, so that no command blocks the server for long.
        """
        return Deferred.fromCoroutine(self._read_metadata(name))

    async def _read_metadata(self, name: str) -> list[str]:
        found: list[bytes] = []
        pattern = re.sub(r"([\\*?[\]])", r"\\\1", name) + "/*"
        for node in as_list_of_bytes(await self._run("other_nodes", self._milliseconds(), self.node)):
            named = await self._run("metadata_of", node, name)
            # A text that changes during the scan may be returned twice.
            below: dict[bytes, bytes] = {}
            cursor = b"0"
            while True:
                cursor, texts = as_scanned(await self._run("metadata", node, cursor, pattern, _LOOK_AT))
                below.update(texts)
                if cursor == b"0":
                    break
            found += [*([] if named is None else [as_bytes(named)]), *below.values()]
        return [text.decode("utf-8", "replace") for text in found]

    def stop(self) -> Deferred[None]:
        """
        Leave the cluster: fail the pending broadcasts, and remove this node from the server.
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
            # For example because the listener fails.
            self._failures.failure("this node cannot send its heartbeat")
            self._begin_anew()
            self._later(None, _INTERVAL)

    def _beat_now(self) -> None:
        assert self._listener is not None
        anew, self._anew = self._anew, False
        counts, changed = self._listener.subscriber_counts(), self._listener.changed_topics()
        if anew:
            self._shown.clear()
            self._stale = list(self._metadata)
            # The number of all subscribers is sent first.
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
        beaten = self._run("heartbeat", self._milliseconds(), self.node, _lifetime(), int(anew), *sent)
        done = beaten.addCallback(as_numbers, 4)
        done.addCallbacks(self._has_beaten, self._has_not_beaten, callbackArgs=(some, expected))
        done.addBoth(self._later, 0.0 if self._changed or self._left else _INTERVAL)
        if anew:
            self._send_stale()
        if self._broadcasts.are_pending:
            alive = self._run("other_nodes", self._milliseconds(), self.node).addCallback(as_list_of_bytes)
            alive.addCallbacks(self._broadcasts.keep, lambda _: None)

    def _next_topics(self) -> list[str]:
        """
        Take the topics to send with one heartbeat.

        Comparing the counts of all topics at each heartbeat would take 44 ms for 100,000 topics.
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
        *had_data, was_alive, messages = there
        if self._messages is not None and messages != self._messages and not was_alive:
            self._report_missed()
        self._messages = messages
        for topic, count in changes.items():
            if count:
                self._shown[topic] = count
            else:
                self._shown.pop(topic, None)
        if any(each and not found for each, found in zip(expected, had_data, strict=True)):
            # The server has expired the data of this node, whose heartbeats were missing for too long.
            self._begin_anew()

    def _report_missed(self) -> None:
        if self._listener is not None:
            try:
                self._listener.messages_missed()
            except Exception:
                self._failures.failure("this node cannot handle that it has missed cluster messages")

    def _has_not_beaten(self, _: object) -> None:
        # It is unknown which counts and metadata the server has.
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
        Send all metadata anew, a part in each turn of the reactor.
        """
        self._send([name for name in self._stale[:_MOST_IN_A_TURN] if name in self._metadata])
        del self._stale[:_MOST_IN_A_TURN]
        if self._stale:
            assert self._reactor is not None
            self._reactor.callLater(0, self._send_stale)

    def _send(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _MOST_TEXTS):
            if self._anew:
                # The next heartbeat sends all of them.
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
        # No command is sent before the first session.
        return 0 if self._reactor is None else int(self._now() * 1000)

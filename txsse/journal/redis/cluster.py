"""
What the nodes of a cluster tell each other: how many listen at each, now and then; and notes, at once. A node
that is not heard of any more is forgotten.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txsse._rate_limited_log import RateLimitedLog
from txsse.journal.update import ALL

__all__ = ["Nodes"]

_log = Logger()

# How often a node tells how many it has, in seconds, and for how many times as long that counts.
_INTERVAL = 2.0
_LIVES = 5

# How many topics are told at once; a node with more of them tells the rest when these have arrived.
_MOST_TOPICS = 1000

# How many notes go into one command, how many are sent in one turn where all are, and about how many are
# looked at in one step of the server's.
_MOST_NOTES = 100
_MOST_IN_A_TURN = 1000
_LOOK_AT = 1000

Run = Callable[..., "Deferred[Any]"]


def _lifetime() -> int:
    return int(_INTERVAL * _LIVES * 1000)


class _Counting(Protocol):
    """
    The part of a follower that knows how many there are; see :class:`~txsse.journal.interfaces.IFollower`.
    """

    def subscriber_counts(self) -> Mapping[str, int]: ...

    def changed_topics(self) -> Collection[str]: ...


class Nodes:
    """
    This node among the others.

    :param run: runs a command of the journal's script, and may fail.
    :param follower: returns what knows how many want each topic here.
    :param now: returns the time, in seconds.
    """

    def __init__(
        self,
        run: Run,
        follower: Callable[[], _Counting],
        now: Callable[[], float],
    ) -> None:
        self._run = run
        self._follower = follower
        self._now = now
        self._name = secrets.token_hex(8)
        self._failures = RateLimitedLog(_log)
        self._told: dict[str, int] = {}
        # The topics to tell of: those that have changed; and, of all, those that are left.
        self._changed: dict[str, None] = {}
        self._left: list[str] = []
        self._notes: dict[str, str] = {}
        # The names of those that the others do not have as they are now.
        self._unsent: dict[str, None] = {}
        self._stale: list[str] = []
        self._anew = True
        self._reactor: IReactorTime | None = None
        self._call: IDelayedCall | None = None

    def start(self, reactor: IReactorTime) -> None:
        """
        Join, or join again: all is told anew, and at once.
        """
        self._reactor = reactor
        self._begin_anew()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = reactor.callLater(0, self._announce)

    def elsewhere(self, topic: str) -> Deferred[int]:
        """
        Return how many want a topic at the other nodes; ``*`` for all.
        """
        return self._run("elsewhere", self._milliseconds(), self._name, topic)

    def put_note(self, name: str, note: str | None) -> None:
        """
        Change a note of this node's; :meth:`send_notes` shows it to the others.
        """
        if note is None:
            self._notes.pop(name, None)
        else:
            self._notes[name] = note
        if not self._anew:
            self._unsent[name] = None

    def send_notes(self) -> None:
        """
        Show the others what has changed, before whatever is asked of the server next.
        """
        names, self._unsent = list(self._unsent), {}
        self._send(names)

    async def notes_elsewhere(self, name: str) -> list[str]:
        """
        Return the notes of the others: those with a name, and those below it. They are looked for page by
        page, so that the server is not kept from the rest of its work.
        """
        found: list[bytes] = []
        pattern = re.sub(r"([\\*?[\]])", r"\\\1", name) + "/*"
        for node in await self._run("others", self._milliseconds(), self._name):
            named = await self._run("note_named", node, name)
            # What changes meanwhile may come twice.
            below: dict[bytes, bytes] = {}
            cursor = None
            while cursor != b"0":
                cursor, notes = await self._run("notes", node, cursor or 0, pattern, _LOOK_AT)
                below.update(zip(notes[::2], notes[1::2], strict=True))
            found += [*([] if named is None else [named]), *below.values()]
        return [note.decode("utf-8", "replace") for note in found]

    def stop(self) -> Deferred[Any]:
        """
        Leave.
        """
        self._reactor = None
        self._stale.clear()
        if self._call is not None and self._call.active():
            self._call.cancel()
        return self._run("leave", self._name).addErrback(lambda _: None)

    def _announce(self) -> None:
        try:
            self._announce_now()
        except Exception:
            # Such as a follower that fails.
            self._failures.failure("what a node has cannot be told")
            self._begin_anew()
            self._later(None, _INTERVAL)

    def _announce_now(self) -> None:
        anew, self._anew = self._anew, False
        follower = self._follower()
        counts, changed = follower.subscriber_counts(), follower.changed_topics()
        if anew:
            self._told.clear()
            self._stale = list(self._notes)
            # How many there are in all comes first.
            self._changed, self._left = {ALL: None}, list(counts)
        else:
            self._changed.update(dict.fromkeys(changed))
        some = {
            topic: count
            for topic in self._next_topics()
            if self._told.get(topic, 0) != (count := counts.get(topic, 0))
        }
        told = [each for change in some.items() for each in change]
        expected = bool(self._told), len(self._notes) > len(self._unsent) + len(self._stale)
        done = self._run("announce", self._milliseconds(), self._name, _lifetime(), int(anew), *told)
        done.addCallbacks(self._has_announced, self._has_not_announced, callbackArgs=(some, expected))
        done.addBoth(self._later, 0.0 if self._changed or self._left else _INTERVAL)
        if anew:
            self._send_stale()

    def _next_topics(self) -> list[str]:
        """
        Take the topics that are told of in one turn. A look at all of them each time would take 44 ms where
        there are 100,000.
        """
        topics = list(islice(self._changed, _MOST_TOPICS))
        for topic in topics:
            del self._changed[topic]
        more = _MOST_TOPICS - len(topics)
        if more:
            topics += self._left[-more:]
            del self._left[-more:]
        return topics

    def _has_announced(
        self, there: Sequence[int], changes: Mapping[str, int], expected: Sequence[bool]
    ) -> None:
        for topic, count in changes.items():
            if count:
                self._told[topic] = count
            else:
                self._told.pop(topic, None)
        if any(each and not found for each, found in zip(expected, there, strict=True)):
            # The server has forgotten it: this node was silent for too long.
            self._begin_anew()

    def _has_not_announced(self, _: object) -> None:
        # Who knows what the others have of it.
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._anew = True
        self._unsent.clear()
        self._stale.clear()

    def _later(self, _: object, seconds: float) -> None:
        assert self._call is not None
        if self._reactor is not None and not self._call.active():
            self._call = self._reactor.callLater(seconds, self._announce)

    def _send_stale(self) -> None:
        """
        Send all anew, a part in each turn.
        """
        self._send([name for name in self._stale[:_MOST_IN_A_TURN] if name in self._notes])
        del self._stale[:_MOST_IN_A_TURN]
        if self._stale:
            assert self._reactor is not None
            self._reactor.callLater(0, self._send_stale)

    def _send(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _MOST_NOTES):
            if self._anew:
                # All will be sent.
                return
            told = [
                each
                for name in names[start : start + _MOST_NOTES]
                for each in (name, self._notes.get(name, ""))
            ]
            self._run("note", self._name, _lifetime(), *told).addErrback(self._has_not_announced)

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)

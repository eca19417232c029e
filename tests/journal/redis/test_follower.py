"""
Tests of the follower of a stream, with a fake session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred

from tests.journal.journals import Follower, update
from txsse.journal.redis.cluster import RedisCluster
from txsse.journal.redis.codec import to_arguments
from txsse.journal.redis.follower import StreamFollower
from txsse.journal.redis.outbox import Outbox
from txsse.journal.redis.recording import Recorded
from txsse.journal.redis.retained import RedisRetained
from txsse.journal.redis.session import Session
from txsse.journal.redis.stream_ids import to_number, to_text
from txsse.journal.retention import Retention
from txsse.journal.update import Update
from txsse.journal.window import Window


class Played:
    """
    A fake session with Redis, and a fake cluster.

    :ivar reads: the entries that the next reads return, one list for each.
    :ivar cursors: the entries after which the follower has read.
    :ivar floor: the entry up to which all are dropped.
    :ivar retaining: the calls for the retained updates.
    """

    inbox_cursor = 0

    def __init__(self, *reads: list[Any]) -> None:
        self.reads = list(reads)
        self.cursors: list[str] = []
        self.floor = "0-0"
        self.waiting: Deferred[Any] = Deferred()
        self.follower = Follower()
        self.retaining: list[str] = []
        outbox, retained = Outbox(self.record, lambda: 0), cast(RedisRetained, self)
        self.following = StreamFollower(self, self.new_window, outbox, retained)
        self.following.follower = self.follower

    def new_window(self, head: int) -> Window:
        return Window(max_count=100, max_bytes=10**6, max_age=10**9, head=head)

    def record(self, *_: object) -> Deferred[Sequence[Recorded]]:
        raise NotImplementedError

    def receive(self, inbox: object) -> None:
        assert inbox == []

    def apply(self, position: int, update: Update, stored_at: float) -> None:
        assert not self.follower.given or self.follower.given[-1][0] < position
        assert update.retention is not None
        self.retaining.append(f"{update.retention.key} at {stored_at:g}")

    def followed(self, *, idle: bool) -> None:
        self.retaining.append("idle" if idle else "followed")

    def missed(self) -> None:
        # Before the hub is notified, which then reads them.
        assert not self.follower.missed
        self.retaining.append("missed")

    async def look(self, number: int) -> tuple[int, int, str | None]:
        return to_number("9-0"), to_number(self.floor), None

    async def wait_for_entries(self, after: int, inbox_after: int, count: int) -> tuple[list[Any], list[Any]]:
        self.cursors.append(to_text(after))
        while not self.reads:
            self.waiting = Deferred()
            await self.waiting
        return self.reads.pop(0), []

    def follow(self) -> None:
        Deferred.fromCoroutine(self.following.follow(cast(Session, self), cast(RedisCluster, self)))

    @property
    def ids(self) -> list[str]:
        return [each.id for _, each in self.follower.given]


def entry(id: str, after: str, *, more: bool = False, key: str | None = None) -> tuple[bytes, list[bytes]]:
    """
    Return an entry as the script stores it; the update's id is that of the entry.

    :param key: the key with which the update is retained.
    """
    retention = None if key is None else Retention(key)
    name, topics, _, _, _, data, _, crc, *retain = to_arguments(update(id, retention=retention))
    flat = [b"after", after.encode(), b"id", name, b"topics", topics, b"data", data, b"crc", crc]
    flat += [b"retain", retain[0]] if retain else []
    return id.encode(), [*flat, b"more", b"1"] if more else flat


class BatchTests:
    def test_read_in_parts(self) -> None:
        """
        The follower of a stream holds the beginning of a batch back until it has read the end.
        """
        played = Played(
            [entry("1-0", "0-0"), entry("2-0", "1-0", more=True)],
            [entry("3-0", "2-0", more=True)],
        )
        played.follow()
        assert played.cursors == ["0-0", "2-0", "3-0"]
        assert played.ids == ["1-0"]
        assert to_text(played.following.recent.head) == "1-0"
        played.reads.append([entry("4-0", "3-0"), entry("5-0", "4-0")])
        played.waiting.callback(None)
        assert played.ids == ["1-0", "2-0", "3-0", "4-0", "5-0"]

    def test_entries_dropped_before_a_batch(self) -> None:
        """
        If the follower of a stream goes back to read updates before a batch, it reads the batch again.
        """
        played = Played(
            [entry("1-0", "0-0")],
            [entry("5-0", "4-0"), entry("6-0", "5-0", more=True)],
        )
        played.floor = "3-0"
        played.follow()
        assert played.cursors == ["0-0", "1-0", "3-0"]
        assert [to_text(position) for position in played.follower.missed] == ["3-0"]
        again = [entry("4-0", "3-0"), entry("5-0", "4-0"), entry("6-0", "5-0", more=True)]
        played.reads.append([*again, entry("7-0", "6-0")])
        played.waiting.callback(None)
        assert played.ids == ["1-0", "4-0", "5-0", "6-0", "7-0"]

    def test_without_its_end(self) -> None:
        """
        The follower of a stream reports a batch whose end is not in the stream as missed.
        """
        played = Played([entry("1-0", "0-0"), entry("2-0", "1-0", more=True)], [])
        played.follow()
        assert played.ids == ["1-0"]
        assert [to_text(position) for position in played.follower.missed] == ["2-0"]
        assert played.cursors == ["0-0", "2-0", "2-0"]


class RetainedTests:
    def test_order(self) -> None:
        """
        An update is retained directly before the follower is given it, and the end of each read is reported.
        """
        played = Played(
            [entry("1000-0", "0-0", key="a"), entry("2000-0", "1000-0"), entry("3000-0", "2000-0", key="b")],
            [],
        )
        played.follow()
        assert played.retaining == ["a at 1", "b at 3", "followed", "idle"]
        assert played.ids == ["1000-0", "2000-0", "3000-0"]

    def test_gap(self) -> None:
        """
        If the follower of a stream skips updates, the retained ones are stale before the hub is notified.
        """
        played = Played([entry("5-0", "4-0", key="a")])
        played.floor = "3-0"
        played.follow()
        assert played.retaining == ["missed", "followed"]
        assert len(played.follower.missed) == 1

"""
The state that a client is sent before the changes: the retained updates of its topics, and the snapshot.

Strategy: a state belongs to a position, after which the updates follow. Retained updates are read by pages,
in the order of their positions, each page when the client has taken the one before. An update that is
replaced or removed meanwhile is missing in the later pages, but what replaced or removed it is among the
updates that follow. So the client is complete from the newest change on, and is sent no ID before that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred

from txsse._timeslice import TimeSlices
from txsse.errors import CloseReason, UpgradeRefused
from txsse.hub.metrics import Counters
from txsse.hub.page_cache import SharedFrames
from txsse.hub.retained_pages import RetainedPages, SharedState
from txsse.hub.snapshot import SnapshotRequest, SnapshotRun
from txsse.hub.subscriber import Subscriber
from txsse.journal.interfaces import IJournal
from txsse.journal.position import ResumePoint
from txsse.server.sinks.base import Framed
from txsse.topics.topic_set import TopicSet

__all__ = ["IncompleteState", "State"]


class IncompleteState(Exception):
    """
    The state of a subscriber cannot be sent, so its stream ends.
    """


class Reader(Protocol):
    """
    The methods of the replay that sending a state needs.
    """

    async def frame(self, subscriber: Subscriber, shared: SharedFrames) -> tuple[Framed, int]:
        """
        Return the frames of a page that a subscriber may receive, and their number.
        """

    async def persist(
        self, subscriber: Subscriber, ask: Callable[[], Awaitable[SharedState]]
    ) -> SharedState | None:
        """
        Call the journal until it answers; return ``None`` if the subscriber has unsubscribed meanwhile.
        """

    def next_turn(self) -> Deferred[None] | None:
        """
        Return a Deferred for the next turn of the reactor, if the time for this one is over.
        """


class State:
    """
    Sends subscribers their states.

    :param journal: the journal.
    :param retained: its retained updates.
    :param reader: reads and frames pages for a subscriber.
    :param counters: the hub's counters.
    :param max_bytes: how many bytes of retained updates one subscriber is sent; ``None`` for no limit.
    """

    def __init__(
        self,
        journal: IJournal,
        retained: RetainedPages,
        reader: Reader,
        counters: Counters,
        *,
        max_bytes: int | None,
    ) -> None:
        self._journal = journal
        self._retained = retained
        self._reader = reader
        self._counters = counters
        self._max_bytes = max_bytes

    def is_needed(self, subscriber: Subscriber, position: int) -> bool:
        """
        Return whether a subscriber is sent a state after a gap that ends at a position.

        Updates that were retained there, and have been removed since, count too.
        """
        retained = self._retained
        return subscriber.snapshot is not None or not retained.is_empty or retained.changed_at > position

    @property
    def is_limited(self) -> bool:
        """
        Whether there is a limit of bytes.
        """
        return self._max_bytes is not None

    async def check(self, topics: TopicSet, private: TopicSet, turns: TimeSlices) -> None:
        """
        Check that a subscriber can be sent the retained updates of its topics.

        :raises UpgradeRefused: if they have too many bytes.
        """
        limit = self._max_bytes
        if limit is not None and await self._retained.exceeds(limit, topics, private, turns):
            raise UpgradeRefused(
                f"the retained updates of these topics have more than {limit} bytes; subscribe to fewer",
                status=400,
            )

    async def send(self, subscriber: Subscriber, point: ResumePoint) -> ResumePoint | None:
        """
        Send a subscriber its state.

        :param point: the position of the state, if the subscriber has no snapshot: that fixes its own.
        :returns: where to continue; ``None`` if the subscriber has unsubscribed meanwhile.
        :raises IncompleteState: if there is too much of it; otherwise whatever a snapshot raises.
        """
        snapshot = subscriber.snapshot
        if snapshot is None:
            return await self._send_retained(subscriber, point)
        rights = subscriber.topics, subscriber.private
        try:
            run = await snapshot.take(self._head, partial(_describe, subscriber))
        except CancelledError:
            if subscriber.is_subscribed:
                raise
            return None
        try:
            following = await self._send_retained(subscriber, run.point)
            if following is not None and await self._send_snapshot(subscriber, run, *rights):
                return following
            return None
        finally:
            run.close()

    async def _send_retained(self, subscriber: Subscriber, point: ResumePoint) -> ResumePoint | None:
        after, size = 0, 0
        has_more = not self._retained.is_empty
        while has_more:
            await subscriber.channel.drain()
            shared = await self._reader.persist(
                subscriber, partial(self._retained.read, subscriber.topics, after, point.position)
            )
            if shared is None:
                return None
            framed, count = await self._reader.frame(subscriber, shared)
            if not subscriber.is_subscribed:
                return None
            if self._max_bytes is not None and size + framed.size > self._max_bytes:
                raise IncompleteState(
                    f"its retained updates have more than {self._max_bytes} bytes; raise "
                    "max_retained_bytes_per_stream, or subscribe it to fewer topics"
                )
            if framed.data and not subscriber.channel.offer(framed):
                continue
            size += framed.size
            after = shared.end
            has_more = after < min(point.position, self._retained.changed_at)
            self._counters.delivered += count
            self._counters.retained_delivered += count
            self._counters.bytes += framed.size
        complete_from = min(self._retained.changed_at, self._journal.head)
        return ResumePoint(point.position, resume_id=point.resume_id, complete_from=complete_from)

    async def _send_snapshot(
        self, subscriber: Subscriber, run: SnapshotRun, topics: TopicSet, private: TopicSet
    ) -> bool:
        """
        Send the events of a snapshot; return whether the subscriber was sent all of them.
        """
        while frames := await self._next(subscriber, run):
            framed = Framed(b"".join(frames))
            while True:
                await subscriber.channel.drain()
                if not subscriber.is_subscribed or not _has_still(subscriber, topics, private):
                    return False
                if subscriber.channel.offer(framed):
                    break
            self._counters.delivered += len(frames)
            self._counters.bytes += framed.size
            turn = self._reader.next_turn()
            if turn is not None:
                await turn
        return subscriber.is_subscribed

    async def _next(self, subscriber: Subscriber, run: SnapshotRun) -> list[bytes]:
        try:
            return await run.next()
        except CancelledError:
            if subscriber.is_subscribed:
                raise
            return []

    def _head(self) -> ResumePoint:
        head = self._journal.head
        return ResumePoint(head, resume_id=self._journal.resume_id(head))


def _has_still(subscriber: Subscriber, topics: TopicSet, private: TopicSet) -> bool:
    """
    Return whether a subscriber has the rights that its snapshot is made for. If not, end its stream.

    The program's events have no topics, so they cannot be filtered. The client reconnects, and gets another
    snapshot.
    """
    if subscriber.topics.includes(topics) and subscriber.private.includes(private):
        return True
    subscriber.channel.abort(reason=CloseReason.DISCONNECTED)
    return False


def _describe(subscriber: Subscriber, resume_id: str) -> SnapshotRequest:
    channel = subscriber.channel
    return SnapshotRequest(
        subscriber.topics, subscriber.private, channel.key, channel.context, channel.request, resume_id
    )

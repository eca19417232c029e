"""
The path of updates from the journal to the subscribers: the parts of a hub that need the reactor.
"""

from __future__ import annotations

from functools import lru_cache

from twisted.internet.interfaces import IReactorTime

from txsse._clock import wall_of
from txsse._randomness import randomness_of
from txsse.hub.fanout import Fanout
from txsse.hub.journal_problem import JournalProblem
from txsse.hub.membership import Membership
from txsse.hub.metrics import Counters
from txsse.hub.replay import Replay
from txsse.hub.retained_pages import RetainedPages
from txsse.hub.subscriber import Subscriber
from txsse.hub.update_ids import IdMaker
from txsse.journal.cluster import Cluster, IClusterListener
from txsse.journal.interfaces import IJournal, IRetainingJournal
from txsse.journal.page import Entry
from txsse.journal.position import OLDEST, ResumePoint
from txsse.journal.update import EARLIEST, Update
from txsse.protocol.encoder import encode_id
from txsse.server.sinks.base import Framed

__all__ = ["Distribution"]


# Clients that connect between the same two updates are sent the same ID.
@lru_cache(maxsize=8)
def _resume_id_frames(id: str) -> Framed:
    return Framed(encode_id(id))


class Distribution:
    """
    Follows a journal, and sends its updates to the subscribers.

    A hub creates it at its first use, so that a hub which is made at import time installs no reactor.

    :param reactor: the reactor.
    :param journal: the journal.
    :param cluster: the nodes that share it.
    :param membership: the subscribers.
    :param counters: the hub's counters.
    :param node: the hub as a node of the cluster.
    :param max_retained_bytes: how many bytes of retained updates one subscriber is sent; ``None`` for no
        limit.
    :ivar roster: counts the streams of each topic and key.
    :ivar retained: the retained updates of the journal; ``None`` for a journal that retains none.
    :ivar started: whether the journal has been started.
    :ivar has_head: whether the journal's head is known, which is a little earlier: a node of a cluster then
        asks the server for the newest update.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        journal: IJournal,
        cluster: Cluster,
        membership: Membership,
        counters: Counters,
        node: IClusterListener,
        *,
        max_retained_bytes: int | None = None,
    ) -> None:
        self.reactor = reactor
        self.journal = journal
        self.retained = journal.retained if IRetainingJournal.providedBy(journal) else None
        self.cluster = cluster
        self.started = self.has_head = False
        pages = RetainedPages(self.retained, reactor)
        self.replay = Replay(journal, reactor, counters, pages, max_retained_bytes=max_retained_bytes)
        self.fanout = Fanout(reactor, membership.index, membership.private, self.replay, counters)
        self.ids = IdMaker(wall_of(reactor), randomness_of(reactor))
        self.problem = JournalProblem(reactor.seconds)
        self.roster = membership.roster
        self._membership = membership
        self._counters = counters
        self._node = node
        # The newest update that this process received, and the ID of the update at the journal's head. After
        # the start, only the ID is known: that of the newest update in the journal.
        self._head: Update | None = None
        self._head_id: str | None = None

    async def start(self) -> None:
        """
        Start the journal, and then join the cluster.
        """
        await self.journal.start(self)
        self.has_head = True
        for subscriber in self._membership.by_channel.values():
            subscriber.date_earlier(self.journal.head)
        await self.cluster.start(self._node)
        newest = await self.journal.at(self.journal.head)
        # An update of another node may have arrived meanwhile.
        if newest is not None and self._head is None:
            self._head_id = newest.id
        self.started = True

    async def stop(self) -> None:
        """
        Leave the cluster, and then stop the journal, even if leaving fails.
        """
        try:
            await self.cluster.stop()
        finally:
            await self.journal.stop()

    def resume_id(self) -> str:
        """
        Return an ID for the journal's head that is safe to disclose to every client.

        This is the ID of the newest update if that is public, otherwise an opaque resume ID.
        """
        head, journal = self._head, self.journal
        return journal.resume_id(journal.head) if head is None or head.private else head.id

    def here(self) -> ResumePoint:
        """
        Return where a client begins that does not resume: the journal's head.
        """
        return ResumePoint(
            self.journal.head,
            resume_id=self.resume_id(),
            with_state=self.retained is not None and not self.retained.is_empty,
        )

    async def locate(self, last_event_id: str) -> ResumePoint:
        """
        Find the position that a client resumes from.

        The client may name an update that it may not receive: it may have received it, and have lost the
        grant since. The updates after it are authorised when they are sent.

        :param last_event_id: the ID that the client resumes from; ``""`` for a client that does not resume.
        :returns: where to continue. If the journal does not hold the ID, this is the oldest update, with a
            gap.
        """
        if not last_event_id:
            return self.here()
        if last_event_id == EARLIEST:
            return ResumePoint(OLDEST, named=EARLIEST)
        position = await self.journal.find(last_event_id)
        if position is None and last_event_id == self._head_id:
            # The client has missed nothing, even if the journal no longer holds this update: none was
            # published since.
            position = self.journal.head
        if position is None:
            return ResumePoint(OLDEST, missed=True, named=EARLIEST)
        return ResumePoint(position, named=last_event_id)

    def begin(self, subscriber: Subscriber, point: ResumePoint) -> None:
        """
        Make a subscriber live if it has missed nothing and its client is not slow; otherwise replay first.
        """
        up_to_date = point.position == self.journal.head and not point.missed and not point.with_state
        if up_to_date and (
            point.resume_id is None or subscriber.sink.offer(_resume_id_frames(point.resume_id))
        ):
            subscriber.since = point.position
            subscriber.reached = None
            subscriber.earlier = ()
        else:
            self.replay.begin(subscriber, point)

    def update_appended(self, entry: Entry) -> None:
        """
        Send an update that was appended to the journal, by any node.
        """
        self._head = update = entry[1]
        self._head_id = update.id
        self._counters.published += 1
        self.fanout.add(entry)

    def updates_missed(self, position: int) -> None:
        """
        Move all live subscribers to replay, which reports the gap.
        """
        self.replay.forget_pages()
        # After the fan-out that is under way: in the middle of it, the position of each subscriber is not
        # known. Then by slices, so that many subscribers do not block the reactor.
        self.fanout.when_sent(self._move_all_to_replay)
        self._head = self._head_id = None

    def _move_all_to_replay(self) -> None:
        self.replay.move_all_to_replay(
            (subscriber, max(subscriber.since, self.fanout.sent_up_to))
            for subscriber in self._membership.by_channel.values()
            if not subscriber.is_replaying
        )

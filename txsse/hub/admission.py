"""
Admission of channels to a hub: check its limits, find where a subscription begins, and subscribe the channel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

from twisted.internet.defer import Deferred

from txsse.errors import HubStopped, SSEError, TooManyChanges, TooManyPatterns, TooManyTopics
from txsse.hub.distribution import Distribution
from txsse.hub.lifecycle import Lifecycle
from txsse.hub.membership import Membership
from txsse.hub.rights import Earlier
from txsse.hub.snapshot import StreamSnapshot
from txsse.hub.subscriber import Subscriber
from txsse.hub.under_way import UnderWay
from txsse.hub.withdrawal import withdraw_denied
from txsse.journal.position import Progress, ResumePoint
from txsse.server.channel import SSEChannel
from txsse.server.expiry import Expiry
from txsse.topics.topic_set import TopicSet

__all__ = ["MAX_EARLIER", "Admission"]

#: How many former sets of topics a replaying subscriber remembers: each may have a hundred topics.
MAX_EARLIER = 16


class Admission:
    """
    Admits channels to a hub.

    :param get_distribution: returns the hub's distribution; the first call makes it.
    :param lifecycle: the hub's lifecycle.
    :param membership: the hub's subscribers.
    :param expiry: closes channels whose access ends.
    :param under_way: records the admissions that are under way.
    :param check_key: checks a key, and raises for one that the hub cannot use.
    :param max_topics: the maximum number of topics and patterns per channel.
    :param max_pattern_weight: the maximum weight of the patterns of all subscribers together; see
        :class:`~txsse.ISelector`; ``None`` for no limit.
    :ivar check_key: the same callable.
    :ivar under_way: the same admissions.
    """

    def __init__(
        self,
        get_distribution: Callable[[], Distribution],
        lifecycle: Lifecycle,
        membership: Membership,
        expiry: Expiry,
        under_way: UnderWay,
        check_key: Callable[[Hashable], None],
        *,
        max_topics: int,
        max_pattern_weight: int | None,
    ) -> None:
        self._get_distribution = get_distribution
        self._lifecycle = lifecycle
        self._membership = membership
        self._expiry = expiry
        self.under_way = under_way
        self.check_key = check_key
        self._max_topics = max_topics
        self._max_pattern_weight = max_pattern_weight

    def check(self, topics: TopicSet, private: TopicSet, key: Hashable = None) -> None:
        """
        Check that the hub accepts a subscriber with these topics.

        :param topics: the topics that it subscribes to.
        :param private: the topics whose private updates it may receive.
        :param key: whose stream it is; ``None`` for a stream without a key.
        :raises TypeError: for a key that the hub's other nodes could not recognise.
        :raises HubStopped: if the hub has been stopped.
        :raises TooManyTopics: if there are more than ``max_topics`` topics.
        :raises TooManyPatterns: if the patterns would exceed ``max_pattern_weight``.
        """
        self.check_key(key)
        self._check(topics, private, None)

    def _check(self, topics: TopicSet, private: TopicSet, instead_of: Subscriber | None) -> None:
        if self._lifecycle.is_stopping:
            raise HubStopped
        if len(topics) > self._max_topics:
            raise TooManyTopics(len(topics), self._max_topics)
        if topics.selectors or private.selectors:
            # Also without a limit: a selector whose weight cannot be read must be refused before anything
            # changes.
            weight, limit = (
                self._membership.weight_with(topics, private, instead_of),
                self._max_pattern_weight,
            )
            if limit is not None and weight > limit:
                raise TooManyPatterns(limit)

    def here(self, topics: TopicSet, private: TopicSet) -> ResumePoint | None:
        """
        Return where a client that does not resume begins: the journal's head. This needs no Deferred.

        :returns: the resume point; ``None`` if the hub does not accept the client, or has not started its
            journal. :meth:`check` and :meth:`locate` then raise the error, or start the journal.
        """
        distribution = self._get_distribution()
        if not distribution.started:
            return None
        try:
            self.check(topics, private)
        except SSEError:
            return None
        return distribution.here()

    async def locate(self, last_event_id: str) -> ResumePoint:
        """
        Find where a client begins or resumes. The journal is started first if necessary.

        :param last_event_id: the ID that the client resumes from; ``""`` for a client that does not resume.
        :raises HubStopped: if the hub has been stopped.
        """
        distribution = self._get_distribution()
        if not distribution.started or self._lifecycle.is_stopped:
            await self._lifecycle.start()
        return await distribution.locate(last_event_id)

    def fix_position(self) -> ResumePoint:
        """
        Return the journal's head, after :meth:`locate`: where a client begins that is sent a snapshot now.
        """
        return self._get_distribution().here()

    def when_stopping(self) -> Deferred[None]:
        """
        Return a Deferred that fires when the hub is stopped.
        """
        return self._lifecycle.when_stopping()

    @property
    def limits_states(self) -> bool:
        """
        Whether the size of a client's state is limited, so that :meth:`check_state` has to check it.
        """
        return self._get_distribution().replay.state.is_limited

    async def check_state(self, topics: TopicSet, private: TopicSet) -> None:
        """
        Check that a client can be sent the retained updates of its topics.

        :raises UpgradeRefused: if they have too many bytes.
        """
        replay = self._get_distribution().replay
        await replay.state.check(topics, private, replay.turns)

    def admit(
        self,
        channel: SSEChannel,
        topics: TopicSet,
        private: TopicSet,
        point: ResumePoint | None = None,
        *,
        until: float | None = None,
        snapshot: StreamSnapshot | None = None,
    ) -> Subscriber:
        """
        Subscribe a channel.

        :param point: where the subscription begins; ``None`` to look up the channel's ``last_event_id``,
            which is retried while the journal cannot be read. It is ignored for a channel that was subscribed
            before: the new subscription continues where the previous one ended.
        :param until: when to close the channel, in seconds since 1970; ``None`` for never.
        :param snapshot: makes the snapshots that the client is sent; ``None`` for none.
        """
        distribution = self._get_distribution()
        progress = self._membership.progress_of(channel) or Progress(point)
        if progress.place is None and distribution.started and not channel.last_event_id:
            progress.place = distribution.here()
        subscriber = self._membership.join(channel, topics, private, progress, snapshot)
        if not subscriber.is_subscribed:
            # The channel has been closed.
            return subscriber
        if until is not None:
            self._expiry.end_at(channel, until)
        if progress.place is not None:
            distribution.begin(subscriber, progress.place)
        else:
            distribution.replay.begin_where(
                subscriber, progress, lambda: self._find_resume_point(subscriber, progress)
            )
        return subscriber

    def change(self, subscriber: Subscriber, topics: TopicSet, private: TopicSet) -> None:
        """
        Give a subscriber other topics and grants. If this raises, nothing has changed.

        Strategy: a live subscriber changes on the spot if all published updates have been sent, or if it
        gains no topic and none is being sent. Otherwise it replays what has been published and not been sent.
        A replaying subscriber remembers the topics that it had up to the journal's head: of the updates up to
        there, it is sent only those that it wanted before, too.

        :raises HubStopped: as :meth:`check` does, like the other errors.
        :raises TooManyChanges: if the subscriber remembers too many sets of topics.
        """
        self._check(topics, private, subscriber)
        distribution = self._get_distribution()
        fanout, head = distribution.fanout, distribution.journal.head
        before = Earlier(head if distribution.has_head else None, subscriber.topics, subscriber.private)
        gains = not (before.topics.includes(topics) and before.private.includes(private))
        position = None if subscriber.is_replaying else fanout.position_of(subscriber)
        has_pending = position is None or position < head
        if gains and has_pending:
            if len(subscriber.earlier) >= MAX_EARLIER:
                raise TooManyChanges(MAX_EARLIER)
            subscriber.earlier += (before,)
        self._membership.replace_topics(subscriber, topics, private)
        withdraw_denied(subscriber)
        fanout.leave_out(subscriber)
        if position is not None and (fanout.is_sending or (gains and has_pending)):
            distribution.replay.begin(subscriber, ResumePoint(position))

    async def _find_resume_point(self, subscriber: Subscriber, progress: Progress) -> ResumePoint:
        await self._lifecycle.start()
        if progress.place is None:
            point = await self.locate(subscriber.channel.last_event_id)
            if subscriber.snapshot is not None and not point.is_resumption and not point.missed:
                point = replace(point, with_state=True)
            # A later subscription of the same channel shares ``progress``, and may have found it meanwhile.
            progress.place = progress.place or point
        return progress.place

"""
Admission of channels to a hub: check its limits, find where a subscription begins, and subscribe the channel.
"""

from __future__ import annotations

from collections.abc import Callable

from txsse.errors import HubStopped, SSEError, TooManyPatterns, TooManyTopics
from txsse.hub.distribution import Distribution
from txsse.hub.expiry import Expiry
from txsse.hub.lifecycle import Lifecycle
from txsse.hub.membership import Membership
from txsse.hub.subscriber import Subscriber
from txsse.hub.topics import TopicSet
from txsse.journal.position import Progress, ResumePoint
from txsse.server.channel import SSEChannel

__all__ = ["Admission"]


class Admission:
    """
    Admits channels to a hub.

    :param use: returns the hub's distribution, and makes it at the first call.
    :param lifecycle: the hub's lifecycle.
    :param membership: the hub's subscribers.
    :param expiry: closes channels whose access ends.
    :param max_topics: the maximum number of topics and patterns per channel.
    :param max_pattern_weight: the maximum weight of all patterns together; ``None`` for no limit.
    """

    def __init__(
        self,
        use: Callable[[], Distribution],
        lifecycle: Lifecycle,
        membership: Membership,
        expiry: Expiry,
        *,
        max_topics: int,
        max_pattern_weight: int | None,
    ) -> None:
        self._use = use
        self._lifecycle = lifecycle
        self._membership = membership
        self._expiry = expiry
        self._max_topics = max_topics
        self._max_pattern_weight = max_pattern_weight

    def check(self, topics: TopicSet, private: TopicSet) -> None:
        """
        Check that the hub accepts a subscriber with these topics.

        :raises HubStopped: if the hub has been stopped.
        :raises TooManyTopics: if there are more than ``max_topics`` topics.
        :raises TooManyPatterns: if the patterns would exceed ``max_pattern_weight``.
        """
        if self._lifecycle.is_stopping:
            raise HubStopped
        if len(topics) > self._max_topics:
            raise TooManyTopics(len(topics), self._max_topics)
        most = self._max_pattern_weight
        if most is not None and (topics.selectors or private.selectors):
            if self._membership.weight_with(topics, private) > most:
                raise TooManyPatterns(most)

    def here(self, topics: TopicSet, private: TopicSet) -> ResumePoint | None:
        """
        Return, without waiting, where a client begins that does not resume.

        :returns: the resume point; ``None`` if the hub does not accept the client, or has not started its
            journal.
        """
        distribution = self._use()
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
        """
        distribution = self._use()
        if not distribution.started or self._lifecycle.is_stopped:
            await self._lifecycle.start()
        return await distribution.locate(last_event_id)

    def admit(
        self,
        channel: SSEChannel,
        topics: TopicSet,
        private: TopicSet,
        point: ResumePoint | None = None,
        *,
        expires: float | None = None,
    ) -> Subscriber:
        """
        Subscribe a channel.

        :param point: where the subscription begins; ``None`` to look up the channel's ``last_event_id``,
            which is retried while the journal cannot be read. A channel that was subscribed before continues
            where that subscription ended, whatever this says.
        :param expires: when to close the channel, in seconds since 1970; ``None`` for never.
        """
        distribution = self._use()
        progress = self._membership.progress_of(channel) or Progress(point)
        if progress.place is None and distribution.started and not channel.last_event_id:
            progress.place = distribution.here()
        subscriber = self._membership.join(channel, topics, private, progress)
        if not subscriber.is_subscribed:
            return subscriber
        if expires is not None:
            self._expiry.end_at(subscriber, expires)
        if progress.place is not None:
            distribution.begin(subscriber, progress.place)
        else:
            distribution.replay.begin_where(
                subscriber, progress, lambda: self._locate_once(subscriber, progress)
            )
        return subscriber

    async def _locate_once(self, subscriber: Subscriber, progress: Progress) -> ResumePoint:
        await self._lifecycle.start()
        if progress.place is None:
            point = await self.locate(subscriber.channel.last_event_id)
            # Another subscription of the same channel may have found it meanwhile.
            progress.place = progress.place or point
        return progress.place

"""
Who may subscribe, and where a subscription begins.
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

    :param use: returns what distributes the hub's updates.
    :param lifecycle: the hub's lifecycle.
    :param membership: the hub's subscribers.
    :param expiry: closes channels whose access ends.
    :param max_topics: how many topics and patterns a channel may want.
    :param max_pattern_weight: what all patterns may weigh; ``None`` for no limit.
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
        Check that the hub takes a subscriber of these topics.

        :raises HubStopped: once the hub stops.
        :raises TooManyTopics: for more topics than a channel may want.
        :raises TooManyPatterns: for patterns that exceed what all of them may weigh.
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
        Return where a client begins that does not resume; ``None`` if the hub does not take it, or the
        journal has not been started.
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
        Find where a client resumes, once the journal has been started.

        :param last_event_id: ``""`` for a client that does not resume.
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

        :param point: where it begins; ``None`` to locate it by the channel's ``last_event_id``, again and
            again while the journal cannot be read.
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
            # Another subscription of the channel may have found it first.
            progress.place = progress.place or point
        return progress.place

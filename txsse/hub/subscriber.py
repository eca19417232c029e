"""
A subscriber: one channel with its topics and its position in the journal.

A subscriber is *live* while it is sent every update as it is published. It is *replaying* while it reads from
the journal: after it has resumed, or when its client is a slow reader.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from dataclasses import replace
from typing import Protocol

from txsse._threads import check_thread
from txsse.hub.rights import Earlier, Restricted, may_have, seek
from txsse.hub.snapshot import StreamSnapshot
from txsse.journal.position import Progress
from txsse.server.channel import SSEChannel
from txsse.server.channel_io import ChannelIO
from txsse.topics.topic_set import Topics, TopicSet

__all__ = ["REPLAYING", "Subscriber"]

# Greater than any position, also those of a RedisJournal in later epochs. To the fan-out, a subscriber that
# replays thus looks like one that has been sent everything already.
REPLAYING = 1 << 1024


class _Owner(Protocol):
    def subscriber_left(self, subscriber: Subscriber) -> None:
        """
        Forget a subscriber whose channel is closed, or that unsubscribed.
        """

    def change_topics(self, subscriber: Subscriber, topics: TopicSet, private: TopicSet) -> None:
        """
        Give a subscriber other topics and grants.
        """


class Subscriber:
    """
    A channel that a hub sends updates to. ``Hub.subscribe`` creates it.

    :ivar channel: the channel.
    :ivar sink: takes the channel's frames.
    :ivar topics: the topics that it wants.
    :ivar private: the topics whose private updates it may receive.
    :ivar since: the position up to which it has been sent its updates; ``REPLAYING`` while it replays.
    :ivar reached: while it replays, how far it has come.
    :ivar earlier: while it replays, the topics and grants that it had at earlier positions.
    :ivar snapshot: makes its snapshots; ``None`` for a subscriber without.
    """

    __slots__ = (
        "_dropped_before",
        "_number",
        "_owner",
        "channel",
        "earlier",
        "private",
        "reached",
        "since",
        "sink",
        "snapshot",
        "topics",
    )

    def __init__(
        self,
        channel: SSEChannel,
        topics: TopicSet,
        private: TopicSet,
        *,
        number: int,
        owner: _Owner,
        snapshot: StreamSnapshot | None = None,
    ) -> None:
        self.channel = channel
        self.sink = channel.sink
        self.topics = topics
        self.private = private
        self.since = REPLAYING
        self.reached: Progress | None = None
        self.earlier: tuple[Earlier, ...] = ()
        self.snapshot = snapshot
        self._dropped_before = channel.dropped
        self._number = number
        self._owner: _Owner | None = owner

    def __repr__(self) -> str:
        return f"<Subscriber {self.id} {self.channel!r} {self.topics!r}>"

    @property
    def id(self) -> str:
        """
        The subscriber's ID, which is unique in its hub.
        """
        return f"{self._number:x}"

    @property
    def key(self) -> Hashable:
        """
        Whose stream it is, see :class:`~txsse.Access`; ``None`` for a stream without a key.
        """
        return self.channel.key

    @property
    def is_replaying(self) -> bool:
        """
        Whether it reads from the journal, and is sent no live updates.
        """
        return self.since == REPLAYING

    @property
    def is_subscribed(self) -> bool:
        """
        Whether it is still sent updates.
        """
        return self._owner is not None

    @property
    def replays_when_slow(self) -> bool:
        """
        Whether the hub moves it to replay when its client is a slow reader.
        """
        return self.channel.replays_when_slow

    @property
    def drops(self) -> int:
        """
        How many events its channel has dropped since it subscribed.
        """
        return self.channel.dropped - self._dropped_before

    def may_have(self, update: Restricted) -> bool:
        """
        Return whether the subscriber wants an update and is allowed to receive it.
        """
        return may_have(self.topics, self.private, update)

    def seek(self, update: Restricted) -> Generator[None, None, bool]:
        """
        Return the same as :meth:`may_have`, in steps.
        """
        return seek(self.topics, self.private, update)

    def change(self, topics: Topics, *, private: Topics | None = None) -> None:
        """
        Subscribe the channel to other topics, without a reconnection.

        Of a topic that it has before and after, the client loses no update and receives none twice. A topic
        that it gains begins with the next update that is published. Of a topic that it loses, nothing is sent
        any more, also if it was held back for a slow reader; bytes in the transport cannot be recalled.
        Ephemeral events that were published in the same turn of the reactor may be missed.

        :param topics: the topics from now on, as for :meth:`Hub.subscribe <txsse.Hub.subscribe>`.
        :param private: the topics whose private updates the channel may receive from now on; ``None`` to
            leave that unchanged.
        :raises ValueError: if it is not subscribed any more.
        :raises TooManyTopics: as :meth:`Hub.subscribe <txsse.Hub.subscribe>` does, like the other errors; it
            then has its topics as before.
        :raises TooManyChanges: if it has gained topics too often while it replays.
        """
        check_thread(self.channel.reactor, "subscriber.change")
        if self._owner is None:
            raise ValueError(f"{self!r} is not subscribed any more; subscribe an open channel")
        granted = self.private if private is None else TopicSet(private)
        self._owner.change_topics(self, TopicSet(topics), granted)

    def date_earlier(self, head: int) -> None:
        """
        Record up to where it had the topics that it gave up before the journal was started.

        :param head: the journal's head when it was started.
        """
        self.earlier = tuple(
            replace(each, up_to=head) if each.up_to is None else each for each in self.earlier
        )

    def forget_earlier(self, position: int) -> None:
        """
        Forget the topics that it had only up to a position which it has reached.
        """
        self.earlier = tuple(each for each in self.earlier if each.up_to is None or position < each.up_to)

    def unsubscribe(self) -> None:
        """
        Send this channel no more updates, and leave it open.

        Private updates that the channel holds back are withdrawn, and so are the updates that were published
        after the first of them; :meth:`Hub.subscribe <txsse.Hub.subscribe>` continues from there.
        """
        check_thread(self.channel.reactor, "subscriber.unsubscribe")
        self._leave()

    def channel_closed(self, channel: ChannelIO) -> None:
        """
        End the subscription: the channel is closed.
        """
        self._leave()

    def access_ended(self, channel: ChannelIO) -> None:
        """
        End the subscription, which withdraws private updates that the channel holds back.
        """
        self._leave()

    def _leave(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            if self.channel.watcher is self:
                self.channel.watcher = None
            owner.subscriber_left(self)
        if self.snapshot is not None:
            self.snapshot.close()
        self.since = REPLAYING

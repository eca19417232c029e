"""
A subscriber: one channel with its topics and its position in the journal.

A subscriber is *live* while it is sent every update as it is published. It is *replaying* while it reads from
the journal: after it has resumed, or when its client is a slow reader.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from txsse._threads import check_thread
from txsse.journal.position import Progress
from txsse.journal.update import Update
from txsse.server.channel import SSEChannel
from txsse.server.channel_io import ChannelIO
from txsse.topics.topic_set import TopicSet

__all__ = ["REPLAYING", "Subscriber"]

# Greater than any position, also those of a RedisJournal in later epochs. To the fan-out, a subscriber that
# replays thus looks like one that has been sent everything already.
REPLAYING = 1 << 1024


class _Owner(Protocol):
    def subscriber_left(self, subscriber: Subscriber) -> None:
        """
        Forget a subscriber whose channel is closed, or that unsubscribed.
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
    """

    __slots__ = (
        "_dropped_before",
        "_number",
        "_owner",
        "channel",
        "private",
        "reached",
        "since",
        "sink",
        "topics",
    )

    def __init__(
        self, channel: SSEChannel, topics: TopicSet, private: TopicSet, *, number: int, owner: _Owner
    ) -> None:
        self.channel = channel
        self.sink = channel.sink
        self.topics = topics
        self.private = private
        self.since = REPLAYING
        self.reached: Progress | None = None
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

    def may_have(self, update: Update) -> bool:
        """
        Return whether the subscriber wants an update and is allowed to receive it.
        """
        return self.topics.has(update.topics) and (not update.private or self.private.has(update.topics))

    def seek(self, update: Update) -> Generator[None, None, bool]:
        """
        Return the same as :meth:`may_have`, in steps.
        """
        if not (yield from self.topics.seek(update.topics)):
            return False
        return not update.private or (yield from self.private.seek(update.topics))

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
        self.since = REPLAYING

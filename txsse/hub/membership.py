"""
The subscribers of a hub: by channel, by topic, and how far each has come in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from itertools import chain
from typing import TypeVar
from weakref import WeakKeyDictionary

from txsse.hub.metrics import Counters
from txsse.hub.roster import Roster
from txsse.hub.snapshot import StreamSnapshot
from txsse.hub.subscriber import Subscriber
from txsse.hub.subscribers import Counts, Subscribers
from txsse.hub.topic_index import TopicIndex
from txsse.hub.withdrawal import withdraw
from txsse.journal.position import Progress, ResumePoint
from txsse.server.channel import SSEChannel
from txsse.topics.topic_set import ALL, TopicSet

__all__ = ["Membership"]

_Member = TypeVar("_Member")


class Membership:
    """
    Keeps the subscribers of a hub.

    :param counters: the hub's counters.
    :param roster: counts the streams of each topic and key.
    :param sent_up_to: returns the position up to which a live subscriber has been sent its updates.
    :param change: gives a subscriber other topics and grants.
    :ivar by_channel: the subscribers.
    :ivar index: the subscribers by the topics that they want.
    :ivar private: the subscribers by the topics whose private updates they may receive.
    :ivar roster: counts the streams of each topic and key.
    """

    def __init__(
        self,
        counters: Counters,
        roster: Roster,
        sent_up_to: Callable[[Subscriber], int],
        change: Callable[[Subscriber, TopicSet, TopicSet], None],
    ) -> None:
        self.by_channel: dict[SSEChannel, Subscriber] = {}
        self.index: TopicIndex[Subscriber] = TopicIndex()
        self.private: TopicIndex[Subscriber] = TopicIndex()
        self._counters = counters
        self.roster = roster
        self._sent_up_to = sent_up_to
        self._change = change
        self._number = 0
        self._by_key: dict[Hashable, dict[Subscriber, None]] = {}
        # The channels whose access has ended, and that still send the public updates that they hold back.
        self._flushing: dict[Hashable, dict[SSEChannel, None]] = {}
        # The progress of open channels that have unsubscribed.
        self._progress: WeakKeyDictionary[SSEChannel, Progress] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self.by_channel)

    @property
    def subscribers(self) -> Subscribers:
        """
        A live view of the subscribers.
        """
        return Subscribers(self.by_channel.values(), self.index, self._by_key)

    def with_any_key(self) -> list[Subscriber]:
        """
        Return the subscribers that have a key.
        """
        return list(dict.fromkeys(chain.from_iterable(self._by_key.values())))

    def with_key(self, key: Hashable) -> list[Subscriber]:
        """
        Return the subscribers with a key.
        """
        return list(self._by_key.get(key, ()))

    def flushing(self, key: Hashable) -> list[SSEChannel]:
        """
        Return the channels with a key whose access has ended, and that still hold updates back.
        """
        return [channel for channel in self._flushing.get(key, ()) if channel.buffered]

    def counts(self) -> Mapping[str, int]:
        """
        Return how many subscribers each topic has, for the other nodes.
        """
        return Counts(self.by_channel, self.index.counts())

    def take_changed_topics(self) -> Collection[str]:
        """
        Return the topics whose counts have changed since the last call, for the other nodes.
        """
        return self.index.take_changed() | {ALL}

    def weight_with(self, topics: TopicSet, private: TopicSet, instead_of: Subscriber | None = None) -> int:
        """
        Return the weight of all patterns together with those of a new subscriber.

        :param instead_of: the subscriber whose topics these replace; ``None`` for none.
        :returns: 0 if no pattern is added: a pattern that the hub already holds adds no weight.
        """
        weight = self.index.new_weight(topics) + self.private.new_weight(private)
        if not weight:
            return 0
        if instead_of is not None:
            weight -= self.index.freed_weight(instead_of, instead_of.topics.without(topics))
            weight -= self.private.freed_weight(instead_of, instead_of.private.without(private))
        return self.index.weight + self.private.weight + weight

    def change_topics(self, subscriber: Subscriber, topics: TopicSet, private: TopicSet) -> None:
        """
        Give a subscriber other topics and grants.
        """
        self._change(subscriber, topics, private)

    def replace_topics(self, subscriber: Subscriber, topics: TopicSet, private: TopicSet) -> None:
        """
        Record other topics and grants of a subscriber.
        """
        self.index.replace(subscriber, subscriber.topics, topics)
        self.private.replace(subscriber, subscriber.private, private)
        before = subscriber.topics
        subscriber.topics, subscriber.private = topics, private
        self.roster.changed(subscriber, before)

    def progress_of(self, channel: SSEChannel) -> Progress | None:
        """
        Return the progress of a channel's last subscription, and forget it.

        :returns: ``None`` for a channel that was not subscribed before.
        """
        return self._progress.pop(channel, None)

    def join(
        self,
        channel: SSEChannel,
        topics: TopicSet,
        private: TopicSet,
        progress: Progress,
        snapshot: StreamSnapshot | None = None,
    ) -> Subscriber:
        """
        Subscribe a channel. For a channel that is closed, return a subscriber that is not subscribed.
        """
        self._number += 1
        subscriber = Subscriber(channel, topics, private, number=self._number, owner=self, snapshot=snapshot)
        subscriber.reached = progress
        if not channel.is_open:
            subscriber.unsubscribe()
            return subscriber
        channel.watcher = subscriber
        self.by_channel[channel] = subscriber
        self.index.add(subscriber, topics)
        self.private.add(subscriber, private)
        for key in _named(channel):
            self._by_key.setdefault(key, {})[subscriber] = None
        self.roster.joined(subscriber)
        return subscriber

    def subscriber_left(self, subscriber: Subscriber) -> None:
        """
        Forget a subscriber. If its channel is still open, keep its progress for another subscription.
        """
        channel = subscriber.channel
        if self.by_channel.pop(channel, None) is None:
            return
        self.index.remove(subscriber, subscriber.topics)
        self.private.remove(subscriber, subscriber.private)
        for key in _named(channel):
            _remove(self._by_key, key, subscriber)
        self._counters.drops += subscriber.drops
        withdrawn = withdraw(channel)
        if channel.is_open:
            self._progress[channel] = self._progress_at_end(subscriber, withdrawn)
        elif channel.buffered and channel.keys:
            for key in _named(channel):
                self._flushing.setdefault(key, {})[channel] = None
            channel.when_closed().addCallback(self._has_flushed, channel)
        if channel.close_reason is not None:
            self._counters.closes[channel.close_reason] += 1
        self.roster.left(subscriber)

    def _has_flushed(self, _: object, channel: SSEChannel) -> None:
        for key in _named(channel):
            _remove(self._flushing, key, channel)

    def _progress_at_end(self, subscriber: Subscriber, withdrawn: int | None) -> Progress:
        progress = subscriber.reached or Progress(ResumePoint(self._sent_up_to(subscriber)))
        if withdrawn is not None and progress.place is not None and withdrawn < progress.place.position:
            return Progress(ResumePoint(withdrawn))
        return progress


def _named(channel: SSEChannel) -> Collection[Hashable]:
    # A rule may give two keys that are equal, and a Mercure token without a subject has no first one.
    return set(channel.keys) - {None}


def _remove(by_key: dict[Hashable, dict[_Member, None]], key: Hashable, member: _Member) -> None:
    of_key = by_key[key]
    del of_key[member]
    if not of_key:
        del by_key[key]

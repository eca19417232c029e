"""
The roster of a hub: which topics have subscribers, and whose streams they are, for all nodes.

Strategy: the roster counts the streams of each topic and key at this node, and puts the counts that have
changed within a turn of the reactor into the registry of the cluster. When a count falls to 0, the name stays
there for a grace period, so that a client which reconnects, to whichever node, does not disappear in between.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import islice
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txsse.hub.subscriber import Subscriber
from txsse.journal.keys import Anonymous
from txsse.journal.registry import AnyRegistry, Name
from txsse.topics.topic_set import TopicSet

__all__ = ["DEFAULT_GRACE", "DemandListener", "PresenceListener", "Roster"]

#: How long a name without streams stays, in seconds: longer than the reconnection delays of a shutdown.
DEFAULT_GRACE = 15.0

# The group of the topics that have subscribers; and what the group of the streams of one topic begins with.
_TOPICS = "topics"
_STREAMS = "streams/"

# How many names are registered, or released, before the reactor gets its turn: some 2 ms of work.
_SLICE = 1000

_NO_TOPICS = TopicSet()


class PresenceListener(Protocol):
    """
    The part of a hub that follows the keys of topics.
    """

    def notify(self, topic: str, key: Hashable, present: bool) -> None:
        """
        Learn that a key has appeared or disappeared; ``None`` for a stream without a key.
        """


class DemandListener(Protocol):
    """
    The part of a hub that follows the topics that this node is responsible for.
    """

    def open(self, topic: str) -> None:
        """
        Learn that this node is responsible for a topic that has subscribers.
        """

    def close(self, topic: str) -> None:
        """
        Learn that the topic has no subscribers, or that another node is responsible for it.
        """

    def stop(self) -> None:
        """
        Learn that nothing follows.
        """


class Roster:
    """
    Counts the streams of this node, and registers them for all nodes.

    :param registry: the names that the nodes hold.
    :param get_reactor: returns the hub's reactor.
    :param presence: is notified of the keys of each topic; ``None`` if the hub only counts them.
    :param presence_grace: how long a key without streams stays present, in seconds; ``None`` if the hub does
        not count them.
    :param demand: is notified of the topics; ``None`` if the hub does not follow them.
    :param topic_grace: how long a topic without subscribers stays open, in seconds.
    :param new_name: returns a name that no other process has, for this node's streams without a key.
    :ivar counts_presence: whether the hub counts the keys of each topic.
    """

    def __init__(
        self,
        registry: AnyRegistry,
        get_reactor: Callable[[], IReactorTime],
        *,
        presence: PresenceListener | None,
        presence_grace: float | None,
        demand: DemandListener | None,
        topic_grace: float,
        new_name: Callable[[], str],
    ) -> None:
        self._registry = registry
        self._get_reactor = get_reactor
        self._presence = presence
        self._demand = demand
        self.counts_presence = presence_grace is not None
        self._new_name = new_name
        self._node: str | None = None
        # By group and name. A count of 0 is that of a registered name in its grace period.
        self._counts: dict[str, dict[Hashable, int]] = {}
        # The names whose counts have changed in this turn, each with whether it is registered.
        self._changed: dict[Name, bool] = {}
        self._flushing: IDelayedCall | None = None
        self._has_stopped = False
        self._leaving_topics = _Leaving(topic_grace, get_reactor, self._release)
        self._leaving_streams = _Leaving(presence_grace or 0.0, get_reactor, self._release)
        registry.listen(self)

    def joined(self, subscriber: Subscriber) -> None:
        """
        Count a subscriber.
        """
        self._count(subscriber, subscriber.topics, 1)

    def changed(self, subscriber: Subscriber, before: TopicSet) -> None:
        """
        Count a subscriber that has other topics than before.
        """
        self._count(subscriber, before, -1, besides=subscriber.topics)
        self._count(subscriber, subscriber.topics, 1, besides=before)

    def left(self, subscriber: Subscriber) -> None:
        """
        Count a subscriber no longer.
        """
        self._count(subscriber, subscriber.topics, -1)

    def keys_elsewhere(self, topic: str) -> Deferred[dict[Hashable, int]]:
        """
        Return the keys of a topic at the other nodes, each with its number of streams.
        """
        return self._registry.counts(_STREAMS + topic).addCallback(_by_key)

    def keys_here(self, topic: str) -> dict[Hashable, int]:
        """
        Return the keys of a topic at this node, each with its number of streams.

        It is 0 for a key in its grace period. The streams without a key have the key ``None``.
        """
        return _by_key(self._counts.get(_STREAMS + topic, {}))

    def stop(self) -> None:
        """
        Release all names, and count no more.
        """
        self._has_stopped = True
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self._leaving_topics.stop()
        self._leaving_streams.stop()
        self._changed.clear()
        self._counts.clear()
        self._registry.stop()
        if self._demand is not None:
            self._demand.stop()

    def became_responsible(self, name: Name, *, is_new: bool) -> None:
        """
        Notify the parts of the hub that follow the name.
        """
        group, of_group = name
        if group == _TOPICS:
            if self._demand is not None:
                self._demand.open(str(of_group))
        elif is_new and self._presence is not None:
            self._presence.notify(group.removeprefix(_STREAMS), _to_key(of_group), True)

    def no_longer_responsible(self, name: Name, *, is_over: bool) -> None:
        """
        Notify the parts of the hub that follow the name.
        """
        group, of_group = name
        if group == _TOPICS:
            if self._demand is not None:
                self._demand.close(str(of_group))
        elif is_over and self._presence is not None:
            self._presence.notify(group.removeprefix(_STREAMS), _to_key(of_group), False)

    def taken_over(self, name: Name) -> None:
        """
        Begin the grace period of a name that a node held which has ended.
        """
        group, of_group = name
        if name in self._changed:
            # The registry holds it now: if it came and went within this turn, it must be released.
            self._changed[name] = True
        if not self._has_stopped and self._counts.setdefault(group, {}).setdefault(of_group, 0) == 0:
            self._leaving_of(name).add(name)

    def _count(
        self, subscriber: Subscriber, topics: TopicSet, by: int, *, besides: TopicSet = _NO_TOPICS
    ) -> None:
        if self._has_stopped or not (self.counts_presence or self._demand):
            return
        # A topic and a pattern may have the same name: a stream that has both counts once, until it has
        # neither.
        names = _names_of(topics) - _names_of(besides)
        if not names:
            return
        key = subscriber.key
        if key is None and self._presence is not None:
            key = Anonymous(self._own_name, subscriber.id)
        for topic in names:
            if self.counts_presence:
                self._add(_STREAMS + topic, key, by)
            if self._demand:
                self._add(_TOPICS, topic, by)
        if self._flushing is None:
            self._flushing = self._get_reactor().callLater(0, self._flush)

    @property
    def _own_name(self) -> str:
        if self._node is None:
            self._node = self._new_name()
        return self._node

    def _add(self, group: str, of_group: Hashable, by: int) -> None:
        counts = self._counts.setdefault(group, {})
        count = counts.get(of_group)
        self._changed.setdefault((group, of_group), count is not None)
        counts[of_group] = (count or 0) + by

    def _flush(self) -> None:
        self._flushing = None
        put: dict[Name, int | None] = {}
        for name in list(islice(self._changed, _SLICE)):
            is_registered = self._changed.pop(name)
            count = self._counts.get(name[0], {}).get(name[1])
            if count is None:
                # Its grace period has ended in this turn.
                continue
            leaving = self._leaving_of(name)
            leaving.discard(name)
            if count:
                put[name] = count
            elif not is_registered:
                # It came and went within one turn.
                self._forget(name)
            elif leaving.grace and _can_return(name):
                put[name] = 0
                leaving.add(name)
            else:
                put[name] = None
                self._forget(name)
        if self._changed:
            self._flushing = self._get_reactor().callLater(0, self._flush)
        if put:
            self._registry.put(put)

    def _release(self, names: Iterable[Name]) -> None:
        release: dict[Name, int | None] = {}
        for name in names:
            # A client that came back in this turn counts.
            if self._counts[name[0]][name[1]] == 0:
                release[name] = None
                self._forget(name)
                if name in self._changed:
                    self._changed[name] = False
        if release:
            self._registry.put(release)

    def _forget(self, name: Name) -> None:
        group, of_group = name
        del self._counts[group][of_group]
        if not self._counts[group]:
            del self._counts[group]

    def _leaving_of(self, name: Name) -> _Leaving:
        return self._leaving_topics if name[0] == _TOPICS else self._leaving_streams


class _Leaving:
    """
    The names in their grace period, in the order in which it ends.

    :param grace: how long it is, in seconds.
    :param release: called with the names for which it has ended.
    """

    def __init__(
        self,
        grace: float,
        get_reactor: Callable[[], IReactorTime],
        release: Callable[[Iterable[Name]], None],
    ) -> None:
        self.grace = grace
        self._get_reactor = get_reactor
        self._release = release
        self._ends: dict[Name, float] = {}
        self._timer: IDelayedCall | None = None

    def add(self, name: Name) -> None:
        reactor = self._get_reactor()
        self._ends[name] = reactor.seconds() + self.grace
        if self._timer is None:
            self._timer = reactor.callLater(self.grace, self._end)

    def discard(self, name: Name) -> None:
        self._ends.pop(name, None)

    def stop(self) -> None:
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        reactor = self._get_reactor()
        now = reactor.seconds()
        over: list[Name] = []
        wait: float | None = None
        for name, end in self._ends.items():
            wait = max(0.0, end - now)
            if wait or len(over) == _SLICE:
                break
            over.append(name)
            wait = None
        for name in over:
            del self._ends[name]
        if wait is not None:
            self._timer = reactor.callLater(wait, self._end)
        if over:
            self._release(over)


def _names_of(topics: TopicSet) -> set[str]:
    return {str(each) for each in topics}


def _can_return(name: Name) -> bool:
    """
    Return whether the client of a stream that has ended can be recognised when it reconnects.
    """
    return name[1] is not None and not isinstance(name[1], Anonymous)


def _to_key(of_group: Hashable) -> Hashable:
    return None if isinstance(of_group, Anonymous) else of_group


def _by_key(counts: Mapping[Hashable, int]) -> dict[Hashable, int]:
    """
    Return counts by key, with the sum of the streams without a key.
    """
    found: dict[Hashable, int] = {}
    keyless = 0
    for of_group, count in counts.items():
        if _to_key(of_group) is None:
            keyless += count
        else:
            found[of_group] = count
    return found | {None: keyless} if keyless else found

"""
Cutting streams off by their key, at all nodes: for a log-out, or for topics that a user may no longer read.

Strategy: a node carries an order out at once for its own streams, and records it for the admissions that are
under way. It then sends the order to the other nodes, each of which does the same, and replies how many
streams it has cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txsse._arguments import wrong_type
from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import CloseReason, HubStopped
from txsse.hub.distribution import Distribution
from txsse.hub.lifecycle import Lifecycle
from txsse.hub.membership import Membership
from txsse.hub.subscriber import Subscriber
from txsse.hub.under_way import Order, UnderWay
from txsse.hub.withdrawal import Held
from txsse.journal.cluster import MAX_MESSAGE_BYTES, Cluster, NoCluster
from txsse.journal.keys import decode_key, encode_key
from txsse.server.access import check_key
from txsse.server.channel import SSEChannel
from txsse.topics.pattern import TopicPattern
from txsse.topics.topic_set import ALL, TopicSet, selects

__all__ = ["CutOff", "disconnect", "take_topics"]

_log = Logger()
_failures = RateLimitedLog(_log)

# How many streams are cut off before the reactor gets its turn: some 10 ms of work at 40 µs each.
_SLICE = 256


class CutOff:
    """
    Carries out orders to cut streams off, and sends them to the other nodes.

    :param get_distribution: returns the hub's distribution; the first call makes it.
    :param lifecycle: the hub's lifecycle.
    :param cluster: the nodes.
    :param membership: the hub's subscribers.
    :param under_way: the admissions that are under way.
    """

    def __init__(
        self,
        get_distribution: Callable[[], Distribution],
        lifecycle: Lifecycle,
        cluster: Cluster,
        membership: Membership,
        under_way: UnderWay,
    ) -> None:
        self._get_distribution = get_distribution
        self._lifecycle = lifecycle
        self._cluster = cluster
        self._membership = membership
        self._under_way = under_way

    def check_key(self, key: Hashable) -> None:
        """
        Check that a key is hashable, and that the other nodes, if there are any, can recognise it.

        :raises TypeError: if not.
        :raises ValueError: if it is too long for the other nodes.
        """
        check_key(key)
        if key is not None and not self._is_alone:
            encode_key(key)

    def order(self, key: Hashable, topics: TopicSet | None) -> Deferred[int]:
        """
        Cut the streams of a key off, at all nodes.

        :param topics: the topics to take from them; ``None`` to close them.
        :returns: a Deferred of how many streams were cut off.
        :raises TypeError: for a key or selectors that other nodes could not recognise.
        :raises ValueError: for ``None`` as the key, and for more topics than one message to the nodes holds.
        """
        self.check_key(key)
        if key is None:
            raise ValueError("None is the key of no stream; give the key of an Access")
        order = Order(key, topics)
        message = None if self._is_alone else _encode(order)
        return Deferred.fromCoroutine(self._carry_out_everywhere(order, message))

    def message_received(self, message: str) -> Deferred[str | None] | None:
        """
        Carry out an order of another node.

        :returns: a Deferred of how many streams were cut off; ``None`` for a message that is no order.
        """
        order = _decode(message)
        if order is None:
            return None
        return Deferred.fromCoroutine(self._reply(order))

    def messages_missed(self) -> None:
        """
        Close all streams that have a key, since this node may not have received an order for them.

        Their clients reconnect, and the access rule decides again.
        """
        self._under_way.miss()
        keyed = self._membership.with_any_key()
        _log.warn(
            "this node was out of reach of the other nodes, and may have missed orders: {count} streams that "
            "have a key are closed, and their clients reconnect",
            count=len(keyed),
        )
        # A stream that cannot be closed is logged.
        Deferred.fromCoroutine(self._cut_all(keyed, None)).addErrback(lambda _: None)

    @property
    def _is_alone(self) -> bool:
        return isinstance(self._cluster, NoCluster)

    async def _carry_out_everywhere(self, order: Order, message: str | None) -> int:
        if self._lifecycle.is_stopping:
            raise HubStopped
        count, failed = 0, None
        try:
            # This node's streams first, also if the other nodes cannot be reached.
            count = await self._carry_out(order)
        except CancelledError:
            raise
        except Exception as error:
            # The other nodes must carry the order out, too.
            failed = error
        if message is not None:
            await self._lifecycle.start()
            # This node receives the message, too, and finds nothing more to do.
            count += sum(map(int, await self._cluster.broadcast(message)))
        if failed is not None:
            raise failed
        return count

    async def _reply(self, order: Order) -> str | None:
        return str(await self._carry_out(order))

    async def _carry_out(self, order: Order) -> int:
        self._under_way.record(order)
        count = 0
        try:
            count = await self._cut_all(self._membership.with_key(order.key), order.topics)
        finally:
            for channel in self._membership.flushing(order.key):
                count += _stop_flushing(channel, order.topics)
        return count

    async def _cut_all(self, subscribers: Iterable[Subscriber], topics: TopicSet | None) -> int:
        count, failed = 0, None
        for number, subscriber in enumerate(subscribers, start=1):
            # It may have left while the reactor had its turn.
            if subscriber.is_subscribed:
                try:
                    count += _cut(subscriber, topics)
                except Exception as error:
                    # The other streams must be cut off, too.
                    _failures.failure("{subscriber} cannot be cut off", subscriber=subscriber)
                    failed = failed or error
            if not number % _SLICE:
                await deferLater(self._get_distribution().reactor, 0)
        if failed is not None:
            raise failed
        return count


def _cut(subscriber: Subscriber, topics: TopicSet | None) -> bool:
    return disconnect(subscriber) if topics is None else take_topics(subscriber, topics)


def _stop_flushing(channel: SSEChannel, topics: TopicSet | None) -> bool:
    """
    Abort a channel whose access has ended, if it holds back an update that must not be sent any more.
    """
    is_concerned = topics is None

    def look(held: Held) -> bool:
        nonlocal is_concerned
        is_concerned = is_concerned or (topics is not None and topics.has(held.update.topics))
        return False

    channel.withdraw(look)
    return is_concerned and channel.abort(reason=CloseReason.DISCONNECTED)


def take_topics(subscriber: Subscriber, revoked: TopicSet) -> bool:
    """
    Take topics and their grants from a subscriber.

    If it has ``*`` or a pattern that may select one of the topics, or is granted such a pattern, its channel
    is closed: a pattern cannot have exceptions. So is the channel of a subscriber that has no topics left.

    :returns: whether it had any of them.
    """
    topics, private = _rest(subscriber.topics, revoked), _rest(subscriber.private, revoked)
    # A grant of ``*`` does not count: it grants the topics that are left, too.
    if not topics or topics.all or _may_select(topics, revoked) or _may_select(private, revoked):
        return disconnect(subscriber)
    if len(topics) == len(subscriber.topics) and len(private) == len(subscriber.private):
        return False
    try:
        subscriber.change(topics, private=private)
    except HubStopped:
        # The hub closes its streams, which may take seconds. Until then, they must not be sent these topics.
        return disconnect(subscriber)
    return True


def _rest(topics: TopicSet, revoked: TopicSet) -> TopicSet:
    kept = (each for each in topics.exact if not revoked.has([each]))
    return TopicSet(
        [*kept, *topics.without(revoked).selectors, *([ALL] if topics.all and not revoked.all else [])]
    )


def _may_select(topics: TopicSet, revoked: TopicSet) -> bool:
    """
    Return whether a selector may select a revoked topic. Of two different selectors, this is not known.
    """
    if topics.selectors and (revoked.selectors or revoked.all):
        return True
    return any(selects(selector, topic) for selector in topics.selectors for topic in revoked.exact)


def disconnect(subscriber: Subscriber) -> bool:
    """
    Close a subscriber's channel, without the updates that it holds back.

    :returns: ``False`` if it had been closed before, and holds nothing back. It remains subscribed until its
        connection has ended, and must not be counted by a second order.
    """
    channel = subscriber.channel
    is_first = channel.is_open or channel.buffered > 0
    if channel.is_slow:
        # Held-back updates must not be sent any more.
        channel.abort(reason=CloseReason.DISCONNECTED)
    else:
        channel.close(reason=CloseReason.DISCONNECTED)
    return is_first


def _encode(order: Order) -> str:
    key = encode_key(order.key)
    if order.topics is None:
        return json.dumps({"disconnect": key})
    for selector in order.topics.selectors:
        if not isinstance(selector, TopicPattern):
            raise wrong_type(
                "topics",
                selector,
                "strings or TopicPatterns, where a hub shares its journal with other nodes",
            )
    topics = [*order.topics.exact, *([ALL] if order.topics.all else [])]
    patterns = [str(selector) for selector in order.topics.selectors]
    message = json.dumps({"revoke": key, "topics": topics, "patterns": patterns})
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(
            f"the topics take {len(message)} bytes in a message to the other nodes, and {MAX_MESSAGE_BYTES} "
            "is the limit; revoke them in several calls"
        )
    return message


def _decode(message: str) -> Order | None:
    try:
        order = json.loads(message)
        if "disconnect" in order:
            return Order(decode_key(order["disconnect"]), None)
        if "revoke" in order:
            topics = TopicSet([*order["topics"], *map(TopicPattern, order["patterns"])])
            return Order(decode_key(order["revoke"]), topics)
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    return None

"""
The hub's public API: publish an update once, and send it to every subscriber.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from concurrent.futures import Future
from dataclasses import fields
from math import inf
from typing import cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._arguments import check_number, wrong_type
from txsse._clock import make_steady, wall
from txsse._randomness import randomness_of
from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_text
from txsse._threads import check_thread, get_ident, refuse, threadable
from txsse._typing import AnyReactor
from txsse._unhandled import Unhandled
from txsse.errors import HubStopped, JournalFailed, NotRetained, RetainedFull
from txsse.hub.admission import Admission
from txsse.hub.callbacks import Callbacks
from txsse.hub.cut_off import CutOff
from txsse.hub.demand import Demand, OnTopic
from txsse.hub.distribution import Distribution
from txsse.hub.lifecycle import Lifecycle
from txsse.hub.membership import Membership
from txsse.hub.metrics import Counters, HubMetrics
from txsse.hub.node import Node
from txsse.hub.presence import OnPresence, Presence, PresenceTopic
from txsse.hub.publishing import Publishing
from txsse.hub.resource import HubResource
from txsse.hub.roster import DEFAULT_GRACE, Roster
from txsse.hub.shutdown import shut_down
from txsse.hub.snapshot import (
    DEFAULT_MAX_SNAPSHOTS,
    DEFAULT_SNAPSHOT_TIMEOUT,
    MakeSnapshot,
    Snapshots,
)
from txsse.hub.subscriber import Subscriber
from txsse.hub.subscribers import Subscribers
from txsse.hub.under_way import UnderWay
from txsse.journal.cluster import AnyCluster, Cluster, ICluster, NoCluster
from txsse.journal.interfaces import AnyJournal, IJournal
from txsse.journal.memory import MemoryJournal
from txsse.journal.registry import LocalRegistry
from txsse.journal.retained import AnyRetained
from txsse.journal.retention import UNRETAIN_TYPE, Retention, to_retention
from txsse.journal.revocations import AnyRevocations
from txsse.journal.update import EphemeralUpdate, Update
from txsse.protocol.encoder import encode_event, encode_retry
from txsse.protocol.event import ServerSentEvent, check_text
from txsse.protocol.fields import NO_ID
from txsse.server.access import AccessRule, check_expires
from txsse.server.channel import SSEChannel
from txsse.server.expiry import Expiry
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader
from txsse.topics.topic_set import ALL, Topics, TopicSet

__all__ = ["DEFAULT_MAX_PATTERN_WEIGHT", "Hub"]

_log = Logger()

#: The default limit for the weight of all patterns: some 100 MiB, and 4 ms for each new topic of usual
#: length.
DEFAULT_MAX_PATTERN_WEIGHT = 1_000_000


# How often the log reports failed Deferreds of the hub that no caller handled, in seconds.
_UNHANDLED_INTERVAL = 10.0

_PUBLISH_FROM_THREAD = "hub.publish_from_thread(topics, data, ...)"


class Hub:
    """
    Sends published updates to subscribed channels, and replays missed ones from a journal.

    ::

        hub = Hub()
        root.putChild(b"news", hub.resource("news"))
        hub.publish("news", "It works.")

    A hub starts at its first use, and runs until :meth:`stop`. Except for :meth:`publish_from_thread`, call
    its methods in the reactor's thread only; while the reactor runs, they raise :exc:`RuntimeError` in other
    threads.

    :param journal: the journal that clients resume from; ``None`` for a :class:`~txsse.MemoryJournal`.
    :param cluster: the nodes that share the journal; ``None`` for the journal's own cluster, such as
        :attr:`RedisJournal.cluster <txsse.journal.redis.RedisJournal>`, or, if it has none, for this node
        alone.
    :param upgrader: creates the channels of :meth:`resource`; ``None`` for one with default options.
    :param reactor: the reactor; ``None`` for the upgrader's, which by default is the global one. The hub's
        timers do not depend on the system's time, see :mod:`txsse._clock`.
    :param max_update_size: the maximum size of an update on the wire, in bytes.
    :param max_topics: the maximum number of topics and patterns per channel.
    :param max_pattern_weight: the maximum weight of all patterns (see :class:`~txsse.ISelector`) that
        channels want or are granted; ``None`` for no limit. A pattern counts once, however many channels have
        it. The limit bounds the cost of a publication to a new topic, and the memory for patterns: by default
        100 MiB, or some 1,500 plain URL patterns.
    :param on_presence: called with a topic, a key (see :class:`~txsse.Access`), and ``True`` when the key's
        first stream of this topic has opened, at any node, or ``False`` when it has none any more. One node
        is called for each change. A stream without a key counts as a key of its own, and is reported as
        ``None``. The callback may return an awaitable.
    :param presence_topic: the topic of an event for each such change, or a callable that takes the topic of
        the streams, and returns that of the event, or ``None`` for no event. The event's type is
        ``presence``; its data is JSON: ``topic`` and ``present``. It does not disclose the key.
    :param presence_grace: how long a key whose last stream has ended stays present, in seconds: clients that
        reconnect do not disappear. ``None`` for 15 seconds if one of the two parameters before is given;
        otherwise the hub does not count who is present. Give all nodes the same.
    :param on_topic_opened: called with a topic that gets its first subscriber, to begin to fetch what is to
        be published: one node is called, and another one if that node ends. For a pattern or ``*``, this is
        the pattern. The callback may return an awaitable.
    :param on_topic_closed: called at that node when the topic has no subscribers any more, after the end of
        ``on_topic_opened``; and when the hub stops.
    :param topic_grace: how long a topic without subscribers stays open, in seconds.
    :param max_retained_bytes_per_stream: how many bytes of retained updates one stream is sent; ``None`` for
        no limit. A request for more is refused with 400.
    :raises ValueError: for a limit below 1, a negative grace period, and for a ``presence_topic`` that cannot
        be published to.
    :raises TypeError: for arguments of another type.
    :ivar upgrader: the upgrader.
    :ivar cluster: the nodes that share the journal, an :class:`~txsse.journal.cluster.ICluster`.
    :ivar admission: admits channels; for HTTP resources other than :meth:`resource`.
    :ivar node: this hub in its cluster; other parts of a program add their handlers of cluster messages.
    """

    def __init__(
        self,
        *,
        journal: AnyJournal | None = None,
        cluster: AnyCluster | None = None,
        upgrader: Upgrader | None = None,
        reactor: AnyReactor | None = None,
        max_update_size: int = 1024 * 1024,
        max_topics: int = 100,
        max_pattern_weight: int | None = DEFAULT_MAX_PATTERN_WEIGHT,
        on_presence: OnPresence | None = None,
        presence_topic: PresenceTopic | None = None,
        presence_grace: float | None = None,
        on_topic_opened: OnTopic | None = None,
        on_topic_closed: OnTopic | None = None,
        topic_grace: float = DEFAULT_GRACE,
        max_retained_bytes_per_stream: int | None = None,
    ) -> None:
        limits = {"max_update_size": max_update_size, "max_topics": max_topics}
        if max_pattern_weight is not None:
            limits["max_pattern_weight"] = max_pattern_weight
        if max_retained_bytes_per_stream is not None:
            limits["max_retained_bytes_per_stream"] = max_retained_bytes_per_stream
        for name, limit in limits.items():
            check_number(name, limit, "a whole number", whole=True)
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, not {limit}")
        follows_presence = on_presence is not None or presence_topic is not None
        if presence_grace is None and follows_presence:
            presence_grace = DEFAULT_GRACE
        for name, grace in (("presence_grace", presence_grace or 0.0), ("topic_grace", topic_grace)):
            check_number(name, grace, "a number of seconds")
            if not 0 <= grace < inf:
                raise ValueError(f"{name} must be a number of seconds that is not negative, not {grace!r}")
        if journal is not None and not IJournal.providedBy(journal):
            raise wrong_type(
                "journal", journal, "an object that provides IJournal, such as SQLiteJournal('hub.sqlite')"
            )
        if cluster is None:
            cluster = getattr(journal, "cluster", None) or NoCluster(reactor=reactor)
        elif not ICluster.providedBy(cluster):
            raise wrong_type("cluster", cluster, "an object that provides ICluster, such as NoCluster()")
        if upgrader is not None and not isinstance(upgrader, Upgrader):
            raise wrong_type("upgrader", upgrader, "an Upgrader, such as Upgrader(keepalive=15)")
        self.upgrader = upgrader or Upgrader(reactor=reactor)
        self.cluster = cast(Cluster, cluster)
        self._given_journal = journal
        self._given_reactor = cast("IReactorTime | None", reactor)
        self._counters = Counters()
        self._failures = RateLimitedLog(_log)
        self._unhandled = Unhandled(
            RateLimitedLog(_log, burst=1, interval=_UNHANDLED_INTERVAL),
            JournalFailed,
            HubStopped,
            RetainedFull,
            NotRetained,
        )
        self._distribution: Distribution | None = None
        self._max_retained_bytes = max_retained_bytes_per_stream
        callbacks = Callbacks()
        presence = Presence(on_presence, presence_topic, self._publish_presence, callbacks)
        demand = Demand(on_topic_opened, on_topic_closed, self._reactor, callbacks)
        self._roster = Roster(
            getattr(cluster, "registry", None) or LocalRegistry(),
            lambda: self._use().reactor,
            presence=presence if follows_presence else None,
            presence_grace=presence_grace,
            demand=demand if on_topic_opened or on_topic_closed else None,
            topic_grace=topic_grace,
            new_name=lambda: randomness_of(self._reactor()).token(8).hex(),
        )
        self._membership = Membership(
            self._counters,
            self._roster,
            lambda subscriber: self._use().fanout.position_of(subscriber),
            lambda *change: self.admission.change(*change),
        )
        self._lifecycle = Lifecycle(lambda: self._use().start())
        self._publishing = Publishing(self._lifecycle, self._unhandled, max_update_size)
        under_way = UnderWay()
        self._cut_off = CutOff(self._use, self._lifecycle, self.cluster, self._membership, under_way)
        self.node = Node(self._membership)
        self.node.add(self._cut_off)
        self.admission = Admission(
            self._use,
            self._lifecycle,
            self._membership,
            Expiry(lambda: self._use().reactor),
            under_way,
            self._cut_off.check_key,
            max_topics=max_topics,
            max_pattern_weight=max_pattern_weight,
        )

    def publish(
        self,
        topics: str | Iterable[str],
        data: str | bytes,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
        private: bool = False,
        retain: str | None = None,
        retain_for: float | None = None,
    ) -> Deferred[str]:
        """
        Send an event to all subscribers of its topics, and record it for clients that resume.

        All updates that are published within one turn of the reactor are sent at its end, in one write for
        each channel.

        :param topics: a topic or several. A topic is any string but ``*``.
        :param data: the text, or its UTF-8 form.
        :param event: the event type; ``None`` for ``message``.
        :param id: the ID that clients resume from; ``None`` to have the hub generate one. If the newest
            update with this ID in the journal is equal, the call is a no-op. If it differs, the new update is
            sent, too; a client that resumes from the ID continues after the earliest update that has it.
        :param retry: how long clients wait before they reconnect, in seconds.
        :param private: whether to send the update only to subscribers with a grant for one of its topics.
        :param retain: the key under which to retain the update: of each topic and key, clients that open a
            stream are first sent the newest update; ``None`` not to retain it. Give all updates of a key the
            same privacy: whatever it is, the newest one counts.
        :param retain_for: for how long to retain it, in seconds; ``None`` until another update with its topic
            and key replaces it, or :meth:`unretain` removes it. Subscribers are not notified when it expires.
        :returns: a Deferred that fires with the ID, once the journal has recorded the update. It fails with
            :exc:`~txsse.errors.JournalFailed` if the update could not be recorded, with
            :exc:`~txsse.errors.RetainedFull` if the journal has no room to retain it, and with
            :exc:`~txsse.errors.HubStopped` if the hub has been stopped.
        :raises RetainUnsupported: if the hub's journal retains no updates.
        :raises InvalidField: for a value that :class:`txsse.Update` or :class:`txsse.ServerSentEvent`
            refuses.
        :raises UpdateTooLarge: for an update of more than ``max_update_size`` bytes.
        """
        if get_ident() != threadable.ioThread:
            refuse(self._reactor(), "hub.publish", _PUBLISH_FROM_THREAD)
        distribution = self._distribution or self._use()
        new = ServerSentEvent(
            to_text(data), event, distribution.ids.next() if id is None or id is NO_ID else id, retry
        )
        retention = None if retain is None and retain_for is None else to_retention(retain, retain_for)
        return self._publishing.publish(
            Update(topics, new, private=private, retention=retention), distribution
        )

    def unretain(
        self, topics: str | Iterable[str], key: str, *, id: str | None = None, private: bool = False
    ) -> Deferred[str]:
        """
        Remove a retained update, and notify the subscribers of its topics.

        They are sent an update of the type ``unretain``, whose data is the key.

        :param topics: a topic or several; the key is removed under each of them.
        :param key: the key that :meth:`publish` was given as ``retain``.
        :param id: the ID of the update, as for :meth:`publish`.
        :param private: whether the update is private: give the same as for the retained one.
        :returns: a Deferred, as :meth:`publish` does. It fails with :exc:`~txsse.errors.NotRetained` if no
            update is retained with a topic and the key; nothing is sent then.
        :raises RetainUnsupported: as :meth:`publish` does, like :exc:`InvalidField`.
        """
        check_thread(self._reactor(), "hub.unretain")
        # First, because its errors name the key, and those of the event its data.
        retention = Retention(key)
        distribution = self._use()
        removal = ServerSentEvent(key, UNRETAIN_TYPE, distribution.ids.next() if id is None else id)
        return self._publishing.publish(
            Update(topics, removal, private=private, retention=retention),
            distribution,
            called="hub.unretain",
        )

    def publish_update(self, update: Update, *, while_draining: bool = False) -> Deferred[str]:
        """
        Publish an :class:`~txsse.Update` object.

        :param update: the update.
        :param while_draining: whether to publish it also while the hub drains, and whatever its size: for
            updates about streams that end. The remaining channels, the other nodes, and clients that resume
            receive it.
        :returns: a Deferred, as :meth:`publish` does.
        :raises UpdateTooLarge: for an update of more than ``max_update_size`` bytes.
        """
        check_thread(self._reactor(), "hub.publish_update")
        if not isinstance(update, Update):
            raise wrong_type("update", update, "an Update; hub.publish(topics, data) makes one")
        return self._publishing.publish(update, self._use(), while_draining=while_draining)

    async def wait_for_room(self, update: Update) -> None:
        """
        Wait until the update can be published without exceeding the limit of unsent updates.

        Beyond that limit, ``publish`` sends all of them at once, which blocks the reactor.
        """
        await self._use().fanout.wait_for_room(update)

    def publish_ephemeral(
        self,
        topics: str | Iterable[str],
        data: str | bytes,
        *,
        event: str | None = None,
        private: bool = False,
    ) -> None:
        """
        Send an ephemeral event: it reaches the live subscribers of this node and is not recorded.

        Use it for data that is worthless a second later, such as typing indicators. Slow readers miss it.

        :param topics: as for :meth:`publish`, like the other parameters.
        :raises HubStopped: if the hub has been stopped.
        :raises UpdateTooLarge: as :meth:`publish` does, like :exc:`InvalidField`.
        """
        check_thread(self._reactor(), "hub.publish_ephemeral")
        self._publish_ephemeral(
            EphemeralUpdate(topics, ServerSentEvent(to_text(data), event), private=private)
        )

    def _publish_ephemeral(self, update: EphemeralUpdate) -> None:
        self._publishing.publish_ephemeral(update, self._use())

    def _publish_presence(self, topic: str, event: ServerSentEvent) -> None:
        # The journal logs why it does not accept the update. A hub that is stopping publishes none.
        self.publish(topic, event.data, event=event.event).addErrback(lambda _: None)

    def publish_from_thread(
        self,
        topics: str | Iterable[str],
        data: str | bytes,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
        private: bool = False,
        retain: str | None = None,
        retain_for: float | None = None,
    ) -> Future[str]:
        """
        Publish from any thread but the reactor's.

        :returns: a :class:`concurrent.futures.Future` of the ID. Its ``result()`` raises the errors of
            :meth:`publish`, which are not logged: a caller that does not call it does not notice them.
        """
        future: Future[str] = Future()

        def publish() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                published = self.publish(
                    topics,
                    data,
                    event=event,
                    id=id,
                    retry=retry,
                    private=private,
                    retain=retain,
                    retain_for=retain_for,
                )
            except Exception as error:
                future.set_exception(error)
            else:
                published.addCallbacks(future.set_result, lambda failed: future.set_exception(failed.value))

        cast(IReactorFromThreads, self._reactor()).callFromThread(publish)
        return future

    def subscribe(
        self,
        channel: SSEChannel,
        topics: Topics,
        *,
        private: Topics = (),
        key: Hashable = None,
        expires: float | None = None,
    ) -> Subscriber:
        """
        Send a channel the updates of some topics; if its client resumes, first those that it missed.

        A channel that was subscribed before continues where that subscription ended: it also receives the
        updates that were published in between.

        :param channel: an open channel.
        :param topics: a topic, a :class:`~txsse.TopicPattern` or another :class:`~txsse.ISelector`, or
            several; ``*`` for all topics.
        :param private: the topics whose private updates the channel may receive too.
        :param key: whose channel it is, see :class:`~txsse.Access`; ``None`` for the channel's own key.
        :param expires: when the hub closes the channel, in seconds from now; ``None`` for never.
        :returns: the subscriber; its ``unsubscribe()`` ends the subscription before the channel is closed.
        :raises TooManyTopics: for more than ``max_topics``.
        :raises TooManyPatterns: for patterns that would exceed the hub's ``max_pattern_weight``.
        :raises HubStopped: if the hub has been stopped.
        :raises ValueError: for a channel that is subscribed already, to this or another hub.
        """
        check_thread(self._reactor(), "hub.subscribe")
        if not isinstance(channel, SSEChannel):
            raise wrong_type("channel", channel, "an SSEChannel, such as upgrade(request) returns")
        check_expires(expires)
        wanted, granted = TopicSet(topics), TopicSet(private)
        self.admission.check(wanted, granted, channel.key if key is None else key)
        if channel.watcher is not None:
            raise ValueError(f"{channel!r} is subscribed already; pass all of its topics to one subscription")
        if key is not None:
            channel.identify((key,), channel.context)
        until = None if expires is None else wall(self._use().reactor) + expires
        return self.admission.admit(channel, wanted, granted, until=until)

    def resource(
        self,
        topics: AccessRule,
        *,
        snapshot: MakeSnapshot | None = None,
        max_snapshots: int = DEFAULT_MAX_SNAPSHOTS,
        snapshot_timeout: float = DEFAULT_SNAPSHOT_TIMEOUT,
    ) -> SSEResource:
        """
        Create a resource that subscribes the client of each request.

        :param topics: the access of the requests: topics as for :meth:`subscribe`; or an
            :class:`~txsse.Access`, which grants private updates too; or a callable that takes the
            request and returns either, or a Deferred or another awaitable of either. To refuse a request, it
            raises, for example, ``UpgradeRefused("log in first", status=401)``.
        :param snapshot: returns the state that a client is sent before the changes: called with a
            :class:`~txsse.SnapshotRequest`, it returns events (``str``, ``bytes`` or ``ServerSentEvent``
            objects without IDs), an awaitable of events, or an asynchronous iterator of them. The updates
            that are recorded after the call are sent after them. A client that resumes is sent no snapshot,
            unless it has missed updates that the journal no longer holds: then one after ``stream-reset``.
        :param max_snapshots: how many snapshots are made at the same time; further clients wait.
        :param snapshot_timeout: how long one may take, in seconds, without the time in which its client
            reads; also how long a client waits for its turn. If a snapshot fails or takes longer before the
            stream opens, the request gets 503, or the response of the ``UpgradeRefused`` that it raises;
            later, the stream is closed. Both are logged.
        :raises ValueError: for a limit below 1, and for a time that is not positive.
        """
        snapshots = None
        if snapshot is not None:
            snapshots = Snapshots(
                snapshot, self._reactor, max_snapshots=max_snapshots, timeout=snapshot_timeout
            )
        return HubResource(self.admission, topics, upgrader=self.upgrader, snapshots=snapshots)

    def disconnect(self, *, key: Hashable) -> Deferred[int]:
        """
        Close all streams of a key, at all nodes: for a user who logs out, or whose account is closed.

        Requests whose access is being decided count, too. Updates that a channel holds back for a slow reader
        are dropped. A client reconnects when its stream is closed, so the access rule has to refuse it from
        now on; with ``UpgradeRefused("logged out", status=204)``, a browser stops.

        :param key: the key, see :class:`~txsse.Access`.
        :returns: a Deferred that fires with the number of streams, once every node that is alive has handed
            over nothing more to their transports. It fails with :exc:`~txsse.errors.NotAcknowledged` if nodes
            did not answer or failed, with :exc:`~txsse.errors.JournalFailed` if the other nodes cannot be
            reached, and with :exc:`~txsse.errors.HubStopped`; the streams of this node are then closed.
            A node that has not reached the others for ten seconds does not count as alive. If it still runs,
            it closes all streams that have a key when it reaches them again.
        :raises TypeError: for a key that is not hashable, or that other nodes could not recognise.
        :raises ValueError: for ``None``, which is the key of no stream.
        """
        check_thread(self._reactor(), "hub.disconnect")
        return self._unhandled.watch(self._cut_off.order(key, None), "hub.disconnect")

    def revoke(self, key: Hashable, topics: Topics) -> Deferred[int]:
        """
        Take topics and their grants from all streams of a key, at all nodes.

        A stream that has no topics left is closed; so is one with a pattern, or ``*``, that may select one of
        the topics. The access rule has to leave the topics out from now on.

        :param key: the key, see :class:`~txsse.Access`.
        :param topics: the topics, as for :meth:`subscribe`; ``*`` for all. In a hub with several nodes, they
            are strings and :class:`~txsse.TopicPattern` objects.
        :returns: a Deferred that fires with the number of streams that had any of the topics, as that of
            :meth:`disconnect` does, and fails as that does.
        :raises TypeError: as :meth:`disconnect` does, like :exc:`ValueError`; and for topics of a wrong type.
        :raises ValueError: for no topics, or for more than 64 KiB of topics in a hub with several nodes.
        """
        check_thread(self._reactor(), "hub.revoke")
        revoked = TopicSet(topics)
        if not revoked:
            raise ValueError("revoke needs a topic: give 'news', ['a', 'b'], or '*' for all topics")
        return self._unhandled.watch(self._cut_off.order(key, revoked), "hub.revoke")

    def presence(self, topic: str) -> Deferred[dict[Hashable, int]]:
        """
        Return whose streams a topic has, at all nodes.

        :param topic: the topic, by its name; or the name of a pattern, or ``*``, for the streams that were
            subscribed by it.
        :returns: a Deferred that fires with the keys, each with its number of streams: 0 for a key in its
            grace period. The streams without a key have the key ``None``. It fails with
            :exc:`~txsse.errors.JournalFailed` if the other nodes cannot be reached, and with
            :exc:`~txsse.errors.HubStopped` if a hub with other nodes has been stopped.
        :raises RuntimeError: if the hub does not count who is present.
        """
        check_thread(self._reactor(), "hub.presence")
        check_text("topic", topic)
        if not self._roster.counts_presence:
            raise RuntimeError(
                "this hub does not count who is present; make it with Hub(presence_grace=15), or with "
                "on_presence or presence_topic, at all nodes"
            )
        self._use()
        found = self._when_joined().addCallback(lambda _: self._roster.keys_elsewhere(topic))
        found.addCallback(self._with_keys_here, topic)
        return self._unhandled.watch(found, "hub.presence")

    def _when_joined(self) -> Deferred[None]:
        """
        Wait until this node has joined its cluster: before that, the other nodes cannot be asked.
        """
        return succeed(None) if isinstance(self.cluster, NoCluster) else self._lifecycle.start()

    def _with_keys_here(self, elsewhere: dict[Hashable, int], topic: str) -> dict[Hashable, int]:
        found = Counter(elsewhere)
        found.update(self._roster.keys_here(topic))
        return dict(found)

    @property
    def subscribers(self) -> Subscribers:
        """
        A live view of the subscribers of this node.

        ``hub.subscribers.total`` is their number, ``hub.subscribers["news"]`` that of a topic. Iterate over
        it for the :class:`~txsse.hub.subscriber.Subscriber` objects.
        """
        return self._membership.subscribers

    def count_subscribers(self, topic: str | None = None) -> Deferred[int]:
        """
        Count the subscribers at all nodes of the cluster.

        The counts of the other nodes are as of their last heartbeats, some seconds ago.

        :param topic: the topic whose subscribers to count, by its name; ``None`` for all subscribers.
        :returns: a Deferred that fires with the number. It fails with :exc:`~txsse.errors.JournalFailed` if
            the counts of the other nodes cannot be read, and with :exc:`~txsse.errors.HubStopped` if a hub
            with other nodes has been stopped.
        """
        check_thread(self._reactor(), "hub.count_subscribers")
        here = len(self._membership) if topic is None else self._membership.index.counts()[topic]
        self._use()
        elsewhere = self._when_joined().addCallback(
            lambda _: self.cluster.count_subscribers(ALL if topic is None else topic)
        )
        counted = elsewhere.addCallback(lambda there: here + there)
        return self._unhandled.watch(counted, "hub.count_subscribers")

    def resume_id(self) -> Deferred[str]:
        """
        Return an opaque resume ID for the journal's head: render a page, then stream from there.

        A client that sends it as its ``Last-Event-ID`` receives all updates that are published from now on.
        It discloses nothing about private updates.

        :returns: a Deferred that fires with the ID. It fails with :exc:`~txsse.errors.JournalFailed` if the
            journal cannot be started.
        """
        check_thread(self._reactor(), "hub.resume_id")
        distribution = self._use()
        found = self._lifecycle.start().addCallback(lambda _: distribution.resume_id())
        return self._unhandled.watch(found, "hub.resume_id")

    @property
    def revocations(self) -> AnyRevocations | None:
        """
        The list of revoked tokens that the journal keeps; ``None`` for a journal that keeps none.

        The hub's Mercure resource uses it. Reading it starts the hub, as its first use does.
        """
        return getattr(self._use().journal, "revocations", None)

    @property
    def retained(self) -> AnyRetained | None:
        """
        The retained updates of the journal; ``None`` for a journal that retains none.

        Reading it starts the hub, as its first use does.
        """
        return self._use().retained

    @property
    def problem(self) -> Exception | None:
        """
        The current problem of the journal; ``None`` if it works.

        While there is a problem, publishing fails. Subscribers stay connected.
        """
        distribution = self._distribution
        return None if distribution is None else distribution.journal.problem or distribution.problem.problem

    @property
    def damaged(self) -> int:
        """
        How many updates of the journal this process could not read, and skipped.

        A client that would have received one is sent ``stream-reset``.
        """
        return 0 if self._distribution is None else self._distribution.journal.damaged

    def metrics(self) -> HubMetrics:
        """
        Return a snapshot of the hub's counters and gauges.
        """
        counted = {each.name: getattr(self._counters, each.name) for each in fields(Counters)}
        counted["drops"] += sum(subscriber.drops for subscriber in self._membership.by_channel.values())
        counted["closes"] = dict(self._counters.closes)
        counted["fanout_buckets"] = tuple(self._counters.fanout_buckets)
        retained = None if self._distribution is None else self._distribution.retained
        return HubMetrics(
            channels=len(self._membership),
            topics=len(self._membership.index.counts()),
            journal_up=self.problem is None,
            damaged=self.damaged,
            replaying=0 if self._distribution is None else self._distribution.replay.replaying,
            buffered=sum(channel.buffered for channel in self._membership.by_channel),
            retained=0 if retained is None else retained.count,
            retained_bytes=0 if retained is None else retained.size,
            **counted,
        )

    def start(self) -> Deferred[None]:
        """
        Start the journal, and wait until updates can be published.

        This is optional: the hub starts its journal at its first use. Call it to learn whether that succeeds.

        :returns: a Deferred that fires when updates can be published. It fails with the journal's error if
            the journal cannot be started, and with :exc:`~txsse.errors.HubStopped` if the hub has been
            stopped.
        """
        check_thread(self._reactor(), "hub.start")
        return self._unhandled.watch(self._lifecycle.start(), "hub.start")

    def stop(
        self,
        *,
        farewell: ServerSentEvent | None = None,
        retry: tuple[float, float] = (1.0, 10.0),
        deadline: float = 30.0,
    ) -> Deferred[None]:
        """
        Shut the hub down: refuse new updates and subscribers, send pending updates, and close all channels.

        :param farewell: a last event for every subscriber; ``None`` for none.
        :param retry: the shortest and the longest reconnection delay, in seconds. Each client is sent a
            random delay in between, to avoid a thundering herd.
        :param deadline: how long the shutdown may take, in seconds. Clients that have not read everything by
            then are cut off. The hub does not wait longer for its journal either; if the clients used up the
            time, the journal has one more second.
        :returns: a Deferred that fires when all channels are closed and the journal has stopped. It does not
            fail.
        :raises ValueError: for a ``retry`` that cannot be encoded, and for a deadline that is not positive.
        """
        check_thread(self._reactor(), "hub.stop")
        if not isinstance(retry, tuple | list) or len(retry) != 2:
            raise wrong_type("retry", retry, "two numbers of seconds, the shortest and the longest")
        for seconds in retry:
            encode_retry(seconds)
        check_number("deadline", deadline, "a number of seconds")
        if not deadline > 0:
            raise ValueError(f"deadline must be a positive number of seconds, not {deadline!r}")
        last = b"" if farewell is None else encode_event(farewell)
        return self._lifecycle.stop(
            lambda: shut_down(
                self._distribution,
                self._lifecycle,
                self._membership.by_channel,
                self._publishing,
                last=last,
                retry=retry,
                deadline=deadline,
            )
        )

    def _use(self) -> Distribution:
        """
        Return the parts that need the reactor. The first call creates them, and starts the journal.
        """
        if self._distribution is not None:
            return self._distribution
        reactor = make_steady(self._reactor())
        journal = self._given_journal or MemoryJournal(reactor=reactor)
        self._distribution = distribution = Distribution(
            reactor,
            journal,
            self.cluster,
            self._membership,
            self._counters,
            self.node,
            max_retained_bytes=self._max_retained_bytes,
        )
        self._lifecycle.start().addErrback(_log_not_started)
        return distribution

    @property
    def reactor(self) -> IReactorTime:
        """
        The reactor that the hub runs in. Reading it installs the global reactor if the hub uses that.
        """
        return self._reactor()

    @property
    def is_stopping(self) -> bool:
        """
        Whether :meth:`stop` has been called; a hub does not start again.
        """
        return self._lifecycle.is_stopping

    def _reactor(self) -> IReactorTime:
        return self._given_reactor or self.upgrader.reactor


def _log_not_started(failure: Failure) -> None:
    # A journal logs a JournalFailed itself. A hub that has been stopped does not start.
    if not failure.check(JournalFailed, HubStopped):
        _log.failure("the journal did not start", failure)

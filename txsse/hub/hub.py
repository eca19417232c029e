"""
Publish once, and reach every subscriber.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import fields
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._arguments import check_number, wrong_type
from txsse._clock import make_steady
from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_text
from txsse._threads import check_thread, get_ident, refuse, threadable
from txsse._typing import AnyReactor
from txsse._unhandled import Unhandled
from txsse.errors import HubStopped, JournalFailed
from txsse.hub.access import AccessRule
from txsse.hub.admission import Admission
from txsse.hub.distribution import Distribution
from txsse.hub.expiry import Expiry
from txsse.hub.lifecycle import Lifecycle
from txsse.hub.membership import Membership
from txsse.hub.metrics import Counters, HubMetrics
from txsse.hub.presence import Presence
from txsse.hub.publishing import Publishing
from txsse.hub.resource import HubResource
from txsse.hub.shutdown import shut_down
from txsse.hub.subscriber import Subscriber
from txsse.hub.subscribers import Subscribers
from txsse.hub.topics import Topics, TopicSet
from txsse.journal.cluster import AnyCluster, Cluster, ICluster, NoCluster
from txsse.journal.interfaces import AnyJournal, IJournal
from txsse.journal.memory import MemoryJournal
from txsse.journal.update import ALL, EphemeralUpdate, Update
from txsse.protocol.encoder import encode_event, encode_retry
from txsse.protocol.event import NO_ID, ServerSentEvent
from txsse.server.channel import SSEChannel
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader

__all__ = ["DEFAULT_MAX_PATTERN_WEIGHT", "Hub"]

_log = Logger()

#: What the patterns of a hub may weigh: some 100 MiB, and 4 ms for each new topic of usual length.
DEFAULT_MAX_PATTERN_WEIGHT = 1_000_000


# How often the log says that nobody handled failures of what the hub returned, in seconds.
_UNHANDLED_INTERVAL = 10.0

_PUBLISH_FROM_THREAD = "hub.publish_from_thread(topics, data, ...)"


class Hub:
    """
    Many channels, and updates for all that want them::

        hub = Hub()
        root.putChild(b"news", hub.resource("news"))
        hub.publish("news", "It works.")

    A hub needs no start: it begins when it is first used, and ends by :meth:`stop`. But for
    :meth:`publish_from_thread`, its methods are to be called in the reactor's thread; where the reactor runs,
    they raise :exc:`RuntimeError` in another thread.

    :param journal: what clients that come back resume from; ``None`` for a
        :class:`~txsse.MemoryJournal`.
    :param cluster: the nodes that share the journal; ``None`` for those that the journal knows, such as
        :attr:`RedisJournal.cluster <txsse.journal.redis.RedisJournal>`, and otherwise for this one alone.
    :param upgrader: makes the channels of :meth:`resource`; ``None`` for one with the usual options.
    :param reactor: the reactor; ``None`` for the upgrader's, which is the global one unless it was told. Its
        timers are made independent of the system's time, see :mod:`txsse._clock`.
    :param max_update_size: how many bytes an update may take on the wire.
    :param max_topics: how many topics and patterns a channel may want.
    :param max_pattern_weight: how much all patterns that channels want or are granted may weigh (see
        :class:`~txsse.ISelector`), each counted once, however many channels have it; ``None`` for no limit.
        It bounds what a publication to a new topic costs, and the memory of patterns: by default 100 MiB, or
        some 1,500 plain URL patterns.
    :param presence: called with a :class:`~txsse.hub.subscriber.Subscriber` and whether it is there now, when
        one comes or goes.
    :param presence_topic: a topic that is told of it as well (see :meth:`publish_ephemeral`), by an event of
        the type ``presence`` whose data is JSON: ``subscriber``, ``topics``, ``present``, and
        ``subscribers``, how many there are now.
    :raises ValueError: for a limit below 1, and for a ``presence_topic`` that cannot be.
    :raises TypeError: for arguments of another type.
    :ivar upgrader: the upgrader.
    :ivar cluster: the nodes that share the journal, an :class:`~txsse.journal.cluster.ICluster`.
    :ivar admission: what HTTP faces admit their clients with.
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
        presence: Callable[[Subscriber, bool], None] | None = None,
        presence_topic: str | None = None,
    ) -> None:
        limits = {"max_update_size": max_update_size, "max_topics": max_topics}
        if max_pattern_weight is not None:
            limits["max_pattern_weight"] = max_pattern_weight
        for name, limit in limits.items():
            check_number(name, limit, "a whole number", whole=True)
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, not {limit}")
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
            RateLimitedLog(_log, burst=1, interval=_UNHANDLED_INTERVAL), JournalFailed, HubStopped
        )
        self._distribution: Distribution | None = None
        self._membership = Membership(
            self._counters,
            Presence(presence, presence_topic, self._publish_ephemeral),
            lambda subscriber: self._use().fanout.place_of(subscriber),
        )
        self._lifecycle = Lifecycle(lambda: self._use().start())
        self._publishing = Publishing(self._lifecycle, self._unhandled, max_update_size)
        self.admission = Admission(
            self._use,
            self._lifecycle,
            self._membership,
            Expiry(lambda: self._use().reactor),
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
    ) -> Deferred[str]:
        """
        Send an event to all that want any of its topics, and record it for those that come back.

        Everything that is published within one turn of the reactor leaves at its end, in one write for each
        channel.

        :param topics: a topic or several. A topic is any string but ``*``.
        :param data: the text, or its UTF-8 form.
        :param event: the type; ``None`` for ``message``.
        :param id: what clients resume from; ``None`` to have the hub make one. An update that is equal to the
            newest one with that id which the journal holds is not sent again. One that differs is, but a
            client that resumes from the id goes on after the earliest update that has it.
        :param retry: how long clients are to wait before they reconnect, in seconds.
        :param private: whether it is only for those subscribers who were granted that.
        :returns: a Deferred that fires with the id, once the journal has the update. It fails with what
            befell the journal, and with :exc:`~txsse.errors.HubStopped`.
        :raises InvalidField: as :class:`txsse.Update` and :class:`txsse.ServerSentEvent` do.
        :raises UpdateTooLarge: for more than ``max_update_size``.
        """
        if get_ident() != threadable.ioThread:
            refuse(self._reactor(), "hub.publish", _PUBLISH_FROM_THREAD)
        distribution = self._distribution or self._use()
        new = ServerSentEvent(
            to_text(data), event, distribution.ids.next() if id is None or id is NO_ID else id, retry
        )
        return self._publishing.publish(Update(topics, new, private=private), distribution)

    def publish_update(self, update: Update, *, while_draining: bool = False) -> Deferred[str]:
        """
        Publish an update that has been built.

        :param update: the update.
        :param while_draining: whether to publish it also while the hub drains, and whatever its size: an
            update on the end of a stream. The remaining channels, the other nodes, and clients that resume
            get it.
        :returns: a Deferred, as :meth:`publish` does.
        :raises UpdateTooLarge: for more than ``max_update_size``.
        """
        check_thread(self._reactor(), "hub.publish_update")
        if not isinstance(update, Update):
            raise wrong_type("update", update, "an Update; hub.publish(topics, data) makes one")
        return self._publishing.publish(update, self._use(), while_draining=while_draining)

    async def wait_for_room(self, update: Update) -> None:
        """
        Wait until so little is on its way to the subscribers that another update will not hold the reactor.
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
        Send an event to those alone who listen at this moment and keep up, and record nothing: who is typing,
        who is there, what is out of date in a second. In a cluster, those of this node get it.

        :param topics: as for :meth:`publish`; so are the others.
        :raises HubStopped: once the hub has been stopped.
        :raises UpdateTooLarge: as :meth:`publish` does; so is :exc:`InvalidField`.
        """
        check_thread(self._reactor(), "hub.publish_ephemeral")
        self._publish_ephemeral(
            EphemeralUpdate(topics, ServerSentEvent(to_text(data), event), private=private)
        )

    def _publish_ephemeral(self, update: EphemeralUpdate) -> None:
        self._publishing.publish_ephemeral(update, self._use())

    def publish_from_thread(
        self,
        topics: str | Iterable[str],
        data: str | bytes,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
        private: bool = False,
    ) -> Future[str]:
        """
        Publish from any thread but the reactor's.

        :returns: a :class:`concurrent.futures.Future` of the id. Whoever does not ask it for its ``result()``
            does not learn of a failure either.
        """
        future: Future[str] = Future()

        def publish() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                published = self.publish(topics, data, event=event, id=id, retry=retry, private=private)
            except Exception as error:
                future.set_exception(error)
            else:
                published.addCallbacks(future.set_result, lambda failed: future.set_exception(failed.value))

        cast(IReactorFromThreads, self._reactor()).callFromThread(publish)
        return future

    def subscribe(
        self, channel: SSEChannel, topics: Topics, *, private: Topics = (), expires: float | None = None
    ) -> Subscriber:
        """
        Send a channel the updates of some topics from now on; and, where its client resumes, those first that
        it missed. One that was subscribed before goes on from where it was then: it gets what was published
        meanwhile, too.

        :param channel: the channel, open.
        :param topics: a topic, an :class:`~txsse.hub.topics.ISelector`, or several; ``*`` for all topics.
        :param private: the topics whose private updates it may have too.
        :param expires: when the hub closes the channel, in seconds since 1970; ``None`` for never.
        :returns: the subscriber, which can be asked to ``unsubscribe()``. It ends with the channel by itself.
        :raises TooManyTopics: for more than ``max_topics``.
        :raises TooManyPatterns: for patterns that would take the hub above its ``max_pattern_weight``.
        :raises HubStopped: once the hub has been stopped.
        :raises ValueError: for a channel that has a hub already.
        """
        check_thread(self._reactor(), "hub.subscribe")
        if not isinstance(channel, SSEChannel):
            raise wrong_type("channel", channel, "an SSEChannel, such as upgrade(request) returns")
        wanted, granted = TopicSet(topics), TopicSet(private)
        self.admission.check(wanted, granted)
        if channel.watcher is not None:
            raise ValueError(f"{channel!r} is subscribed already; give one subscription all of its topics")
        return self.admission.admit(channel, wanted, granted, expires=expires)

    def resource(self, topics: AccessRule) -> SSEResource:
        """
        Make a resource whose every request becomes a subscriber.

        :param topics: what the subscribers want: topics as for :meth:`subscribe`; or an
            :class:`~txsse.hub.access.Access`, which grants private updates too; or a callable that is called
            with the request and returns either, or a Deferred or another awaitable of either. It may raise
            ``UpgradeRefused("log in first", status=401)``, and that is what the client gets.
        """
        return HubResource(self.admission, topics, upgrader=self.upgrader)

    @property
    def subscribers(self) -> Subscribers:
        """
        The subscribers: ``hub.subscribers.total`` in all, ``hub.subscribers["news"]`` of a topic, and each of
        them where this is iterated over.
        """
        return self._membership.subscribers

    def count_subscribers(self, topic: str | None = None) -> Deferred[int]:
        """
        Count the subscribers at all nodes of a cluster. Those of the others are what each told some seconds
        ago.

        :param topic: those of a topic, by its name; ``None`` for all.
        :returns: a Deferred that fires with the number; it fails with what befell the journal.
        """
        check_thread(self._reactor(), "hub.count_subscribers")
        here = len(self._membership) if topic is None else self._membership.index.counts()[topic]
        self._use()
        elsewhere = self.cluster.count_subscribers(ALL if topic is None else topic)
        counted = elsewhere.addCallback(lambda there: here + there)
        return self._unhandled.watch(counted, "hub.count_subscribers")

    def resume_id(self) -> Deferred[str]:
        """
        Return an opaque resume ID for the journal's head: render a page, then stream from there. A client
        that sends it as its ``Last-Event-ID`` gets all updates that are published from now on. It discloses
        nothing of private updates.

        :returns: a Deferred that fires with the id. It fails with :exc:`~txsse.errors.JournalFailed` if the
            journal cannot be started.
        """
        check_thread(self._reactor(), "hub.resume_id")
        distribution = self._use()
        found = self._lifecycle.start().addCallback(lambda _: distribution.resume_id())
        return self._unhandled.watch(found, "hub.resume_id")

    @property
    def problem(self) -> Exception | None:
        """
        What is wrong with the journal at the moment; ``None`` where nothing is. While it is, nothing can be
        published, and the subscribers stay.
        """
        distribution = self._distribution
        return None if distribution is None else distribution.journal.problem or distribution.problem.problem

    @property
    def damaged(self) -> int:
        """
        How many updates of the journal this process could not read, and skipped. Clients that would get one
        are sent ``stream-reset``.
        """
        return 0 if self._distribution is None else self._distribution.journal.damaged

    def metrics(self) -> HubMetrics:
        """
        Return what has been counted, and how things stand.
        """
        counted = {each.name: getattr(self._counters, each.name) for each in fields(Counters)}
        counted["drops"] += sum(subscriber.drops for subscriber in self._membership.by_channel.values())
        counted["closes"] = dict(self._counters.closes)
        counted["fanout_buckets"] = tuple(self._counters.fanout_buckets)
        return HubMetrics(
            channels=len(self._membership),
            topics=len(self._membership.index.counts()),
            journal_up=self.problem is None,
            damaged=self.damaged,
            replaying=0 if self._distribution is None else self._distribution.replay.replaying,
            buffered=sum(channel.buffered for channel in self._membership.by_channel),
            **counted,
        )

    def start(self) -> Deferred[None]:
        """
        Start the journal. The hub does so by itself when it is first used; this tells when it is done, and
        whether it failed.

        :returns: a Deferred that fires when updates can be published; it fails with what befell the journal,
            and with :exc:`~txsse.errors.HubStopped`.
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
        End the hub: take no updates and no subscribers any more, send what was published, and close all
        channels.

        :param farewell: an event that every subscriber is sent last; ``None`` for none.
        :param retry: the shortest and the longest time after which clients are to reconnect, in seconds. Each
            is told another one, so that they do not all come at once.
        :param deadline: how long this may take, in seconds; who has not read everything by then is cut off.
            A journal that does not answer by then is waited for no longer; where the clients used up the
            time, it has one second more.
        :returns: a Deferred that fires when the last channel is closed and the journal has ended.
        :raises ValueError: for times that cannot be.
        """
        check_thread(self._reactor(), "hub.stop")
        if not isinstance(retry, tuple | list) or len(retry) != 2:
            raise wrong_type("retry", retry, "two numbers of seconds, the least and the most")
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
        Return the parts that need the reactor. The first call makes them, and starts the journal.
        """
        if self._distribution is not None:
            return self._distribution
        reactor = make_steady(self._reactor())
        journal = self._given_journal or MemoryJournal(reactor=reactor)
        self._distribution = distribution = Distribution(
            reactor, journal, self.cluster, self._membership, self._counters
        )
        self._lifecycle.start().addErrback(_log_not_started)
        return distribution

    def _reactor(self) -> IReactorTime:
        return self._given_reactor or self.upgrader.reactor


def _log_not_started(failure: Failure) -> None:
    # A journal that knows what is wrong has logged it; a hub that was stopped starts nothing.
    if not failure.check(JournalFailed, HubStopped):
        _log.failure("the journal did not start", failure)

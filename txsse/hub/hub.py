"""
Publish once, and reach every subscriber.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import fields
from typing import Any, cast
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._arguments import check_number, wrong_type
from txsse._clock import make_steady, wall_of
from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_text
from txsse._threads import check_thread, get_ident, refuse, threadable
from txsse._typing import AnyReactor
from txsse._unhandled import Unhandled
from txsse._waiters import Waiters
from txsse.errors import HubStopped, JournalFailed, TooManyPatterns, TooManyTopics, UpdateTooLarge
from txsse.hub.access import AccessRule
from txsse.hub.fanout import Fanout
from txsse.hub.live import Live, resume_id_frames
from txsse.hub.metrics import Counters, HubMetrics
from txsse.hub.presence import Presence
from txsse.hub.replay import Replay
from txsse.hub.resource import HubResource
from txsse.hub.shutdown import drain
from txsse.hub.subscriber import Subscriber
from txsse.hub.subscribers import Counts, Subscribers
from txsse.hub.topic_index import TopicIndex
from txsse.hub.topics import Topics, TopicSet
from txsse.hub.update_ids import IdMaker
from txsse.hub.withdrawal import withdraw
from txsse.journal.interfaces import AnyJournal, IJournal
from txsse.journal.memory import MemoryJournal
from txsse.journal.page import Entry
from txsse.journal.position import OLDEST, Progress, ResumePoint
from txsse.journal.update import ALL, EARLIEST, EphemeralUpdate, Update
from txsse.protocol.encoder import encode_event, encode_retry
from txsse.protocol.event import NO_ID, ServerSentEvent, check_text
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

# How long the journal may take to end where the clients have used up the time, in seconds.
_JOURNAL_TIME = 1.0


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
    """

    def __init__(
        self,
        *,
        journal: AnyJournal | None = None,
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
        if upgrader is not None and not isinstance(upgrader, Upgrader):
            raise wrong_type("upgrader", upgrader, "an Upgrader, such as Upgrader(keepalive=15)")
        if presence is not None and not callable(presence):
            raise wrong_type("presence", presence, "callable with a Subscriber and whether it is there")
        self.upgrader = upgrader or Upgrader(reactor=reactor)
        self._given_journal = journal
        self._given_reactor = cast("IReactorTime | None", reactor)
        self._max_update_size = max_update_size
        self._max_topics = max_topics
        self._max_pattern_weight = max_pattern_weight
        self._presence: Presence | None = None
        if presence_topic is not None:
            # One that cannot be told anything is better refused here.
            EphemeralUpdate(presence_topic, ServerSentEvent())
        if presence is not None or presence_topic is not None:
            self._presence = Presence(presence, presence_topic, self._tell)
        self._counters = Counters()
        self._failures = RateLimitedLog(_log)
        self._unhandled = Unhandled(
            RateLimitedLog(_log, burst=1, interval=_UNHANDLED_INTERVAL), JournalFailed, HubStopped
        )
        self._members: dict[SSEChannel, Subscriber] = {}
        self._index: TopicIndex[Subscriber] = TopicIndex()
        self._private: TopicIndex[Subscriber] = TopicIndex()
        self._number = 0
        self._live: Live | None = None
        self._starting: Waiters[None] | None = None
        self._stopping: Waiters[None] | None = None
        self._ended = False
        self._stopped = False
        # How many updates the journal has not answered for.
        self._on_their_way = 0
        self._arrived: Waiters[None] = Waiters()
        # How far open channels have come that were subscribed before.
        self._reached: WeakKeyDictionary[SSEChannel, Progress] = WeakKeyDictionary()

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
        live = self._live or self._come_alive()
        new = ServerSentEvent(
            to_text(data), event, live.ids.next() if id is None or id is NO_ID else id, retry
        )
        return self._publish(Update(topics, new, private=private), live)

    def publish_update(self, update: Update) -> Deferred[str]:
        """
        Publish an update that has been built.

        :param update: the update.
        :returns: a Deferred, as :meth:`publish` does.
        :raises UpdateTooLarge: for more than ``max_update_size``.
        """
        check_thread(self._reactor(), "hub.publish_update")
        if not isinstance(update, Update):
            raise wrong_type("update", update, "an Update; hub.publish(topics, data) makes one")
        return self._publish(update, self._live or self._come_alive())

    async def wait_for_room(self, update: Update) -> None:
        """
        Wait until so little is on its way to the subscribers that another update will not hold the reactor.
        """
        await (self._live or self._come_alive()).fanout.wait_for_room(update)

    def publish_to_the_end(self, update: Update) -> Deferred[str]:
        """
        Publish an update also while the hub stops, as long as its channels leave: what is told of them. Those
        who are left get it, the other nodes', and those who come back.

        :param update: the update, of whatever size.
        :returns: a Deferred, as :meth:`publish` does.
        """
        if self._ended:
            return fail(HubStopped())
        return self._publish(update, self._live or self._come_alive(), to_the_end=True)

    def _publish(self, update: Update, live: Live, *, to_the_end: bool = False) -> Deferred[str]:
        if not to_the_end:
            if len(update.frame) > self._max_update_size:
                raise UpdateTooLarge(len(update.frame), self._max_update_size)
            if self._stopping is not None:
                return self._unhandled.watch(fail(HubStopped()), "hub.publish")
        if live.started:
            try:
                recorded = live.journal.append(update)
            except Exception:
                # Memory may be gone; what is missing for one update may be there for the next.
                recorded = fail(Failure())
            if recorded.called and isinstance(recorded.result, int):
                # What the callback below comes to, for a third of its price.
                if live.trouble.noted:
                    live.trouble.recorded()
                return succeed(update.id)
        else:
            recorded = self.start().addCallback(lambda _: live.journal.append(update))
        self._on_their_way += 1
        # One callback: a second one would cost as much as the checksum of a record.
        return recorded.addCallbacks(
            self._was_recorded,
            self._was_not_recorded,
            callbackArgs=(update.id, live),
            errbackArgs=(recorded, live),
        )

    def _was_recorded(self, _: object, id: str, live: Live) -> str:
        self._has_arrived()
        if live.trouble.noted:
            live.trouble.recorded()
        return id

    def _was_not_recorded(self, failure: Failure, recorded: Deferred[Any], live: Live) -> Failure:
        self._has_arrived()
        self._unhandled.watch(recorded, "hub.publish")
        return live.trouble.failed(failure)

    def _has_arrived(self) -> None:
        self._on_their_way -= 1
        if not self._on_their_way:
            self._arrived.fire(None)

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
        update = EphemeralUpdate(topics, ServerSentEvent(to_text(data), event), private=private)
        if len(update.frame) > self._max_update_size:
            raise UpdateTooLarge(len(update.frame), self._max_update_size)
        if self._stopping is not None:
            raise HubStopped
        (self._live or self._come_alive()).fanout.add_ephemeral(update)

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

    def subscribe(self, channel: SSEChannel, topics: Topics, *, private: Topics = ()) -> Subscriber:
        """
        Send a channel the updates of some topics from now on; and, where its client resumes, those first that
        it missed. One that was subscribed before goes on from where it was then: it gets what was published
        meanwhile, too.

        :param channel: the channel, open.
        :param topics: a topic, an :class:`~txsse.hub.topics.ISelector`, or several; ``*`` for all topics.
        :param private: the topics whose private updates it may have too.
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
        self.check(wanted, granted)
        if channel.watcher is not None:
            raise ValueError(f"{channel!r} is subscribed already; give one subscription all of its topics")
        return self.admit(channel, wanted, granted, None)

    def resource(self, topics: AccessRule) -> SSEResource:
        """
        Make a resource whose every request becomes a subscriber.

        :param topics: what the subscribers want: topics as for :meth:`subscribe`; or an
            :class:`~txsse.hub.access.Access`, which grants private updates too; or a callable that is called
            with the request and returns either, or a Deferred or another awaitable of either. It may raise
            ``UpgradeRefused("log in first", status=401)``, and that is what the client gets.
        """
        return HubResource(self, topics)

    @property
    def subscribers(self) -> Subscribers:
        """
        The subscribers: ``hub.subscribers.total`` in all, ``hub.subscribers["news"]`` of a topic, and each of
        them where this is iterated over.
        """
        return Subscribers(self._members.values(), self._index.counts())

    def count_subscribers(self, topic: str | None = None) -> Deferred[int]:
        """
        Count the subscribers at all nodes of a cluster. Those of the others are what each told some seconds
        ago.

        :param topic: those of a topic, by its name; ``None`` for all.
        :returns: a Deferred that fires with the number; it fails with what befell the journal.
        """
        check_thread(self._reactor(), "hub.count_subscribers")
        here = len(self._members) if topic is None else self._index.counts()[topic]
        live = self._live or self._come_alive()
        elsewhere = live.journal.subscribers_elsewhere(ALL if topic is None else topic)
        counted = elsewhere.addCallback(lambda there: here + there)
        return self._unhandled.watch(counted, "hub.count_subscribers")

    def put_note(self, name: str, note: str | None) -> None:
        """
        Show the other nodes of a cluster a note of this one's, until the node ends; ``None`` takes it back.
        Who is told of an update that is published later finds it so.

        :param name: what it is called. Two nodes may have notes of the same name.
        :raises ValueError: for an empty one; so is :exc:`InvalidField` for lone surrogates.
        """
        check_thread(self._reactor(), "hub.put_note")
        check_text("name", name)
        if note is not None and not check_text("note", note):
            raise ValueError("a note is a text that is not empty")
        live = self._live or self._come_alive()
        live.journal.put_note(name, note)

    def notes_elsewhere(self, name: str) -> Deferred[list[str]]:
        """
        Return the notes of the other nodes.

        :param name: that of a note; those below it come as well, whose names begin with it and a slash.
        :returns: a Deferred that fires with the notes, in no order; it fails with what befell the journal.
        """
        live = self._live or self._come_alive()
        return self.start().addCallback(lambda _: live.journal.notes_elsewhere(name))

    def resume_id(self) -> Deferred[str]:
        """
        Return an opaque resume ID for the journal's head: render a page, then stream from there. A client
        that sends it as its ``Last-Event-ID`` gets all updates that are published from now on. It discloses
        nothing of private updates.

        :returns: a Deferred that fires with the id. It fails with :exc:`~txsse.errors.JournalFailed` if the
            journal cannot be started.
        """
        check_thread(self._reactor(), "hub.resume_id")
        live = self._live or self._come_alive()
        found = self.start().addCallback(lambda _: live.resume_id())
        return self._unhandled.watch(found, "hub.resume_id")

    @property
    def problem(self) -> Exception | None:
        """
        What is wrong with the journal at the moment; ``None`` where nothing is. While it is, nothing can be
        published, and the subscribers stay.
        """
        return None if self._live is None else self._live.journal.problem or self._live.trouble.problem

    @property
    def damaged(self) -> int:
        """
        How many updates of the journal this process could not read, and skipped. Clients that would get one
        are sent ``stream-reset``.
        """
        return 0 if self._live is None else self._live.journal.damaged

    def metrics(self) -> HubMetrics:
        """
        Return what has been counted, and how things stand.
        """
        counted = {each.name: getattr(self._counters, each.name) for each in fields(Counters)}
        counted["drops"] += sum(subscriber.drops for subscriber in self._members.values())
        counted["closes"] = dict(self._counters.closes)
        counted["fanout_buckets"] = tuple(self._counters.fanout_buckets)
        return HubMetrics(
            channels=len(self._members),
            topics=len(self._index.counts()),
            journal_up=self.problem is None,
            damaged=self.damaged,
            replaying=0 if self._live is None else self._live.replay.replaying,
            buffered=sum(channel.buffered for channel in self._members),
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
        if self._stopped:
            return self._unhandled.watch(fail(HubStopped()), "hub.start")
        live = self._live or self._come_alive()
        if live.started:
            return succeed(None)
        if self._starting is not None:
            return self._unhandled.watch(self._starting.wait(), "hub.start")
        self._starting = waiting = Waiters[None]()
        started = self._unhandled.watch(waiting.wait(), "hub.start")
        work = Deferred.fromCoroutine(self._start(live))
        work.addBoth(self._has_started, waiting)
        return started

    async def _start(self, live: Live) -> None:
        await live.journal.start(self)
        newest = await live.journal.at(live.journal.head)
        # An update of another node may have been received meanwhile.
        if newest is not None and live.head is None:
            live.head_id = newest.id
        live.started = True

    def _has_started(self, result: Failure | None, waiting: Waiters[None]) -> None:
        self._starting = None
        if isinstance(result, Failure):
            waiting.fail(cast(Exception, result.value))
        else:
            waiting.fire(None)

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
        if self._stopped:
            return succeed(None)
        if self._stopping is not None:
            return self._stopping.wait()
        self._stopping = waiting = Waiters[None]()
        stopped = waiting.wait()
        work = Deferred.fromCoroutine(self._stop(last, retry, deadline))
        work.addErrback(lambda failure: _log.failure("the journal did not stop well", failure))
        work.addCallback(self._has_stopped, waiting)
        return stopped

    async def _stop(self, last: bytes, retry: tuple[float, float], deadline: float) -> None:
        live = self._live or self._come_alive()
        over = live.reactor.seconds() + deadline
        if self._on_their_way:
            # What is recorded is to be sent, and is told of then.
            with suppress(TimeoutError):
                await self._arrived.wait().addTimeout(deadline, live.reactor)
        if live.fanout.busy:
            # Somebody who was just sent something stops the hub; the others are to get it too.
            await deferLater(live.reactor, 0)
        live.fanout.flush()
        deadline = over - live.reactor.seconds()
        await drain(self._members, live.reactor, last=last, retry=retry, deadline=deadline)
        self._ended = True
        # A journal that could not be started has nothing to end.
        if live.started or self._starting is not None:
            stopping = Deferred.fromCoroutine(self._stop_journal(live.journal))
            # Clients that used up the time are no reason to cut the journal off.
            stopping.addTimeout(max(_JOURNAL_TIME, over - live.reactor.seconds()), live.reactor)
            try:
                await stopping
            except TimeoutError:
                _log.error("the hub has stopped, and its journal did not answer in time")

    async def _stop_journal(self, journal: IJournal) -> None:
        try:
            await self.start()
        except JournalFailed:
            # It has said so itself.
            return
        await journal.stop()

    def _has_stopped(self, _: object, waiting: Waiters[None]) -> None:
        self._stopped = True
        waiting.fire(None)

    # What the resource asks for.

    def check(self, topics: TopicSet, private: TopicSet) -> None:
        """
        Raise where the hub takes no subscriber of these topics.
        """
        if self._stopping is not None:
            raise HubStopped
        if len(topics) > self._max_topics:
            raise TooManyTopics(len(topics), self._max_topics)
        if not self._has_room(topics, private):
            assert self._max_pattern_weight is not None
            raise TooManyPatterns(self._max_pattern_weight)

    def _has_room(self, topics: TopicSet, private: TopicSet) -> bool:
        """
        Tell whether the hub may hold a subscriber's patterns beside those that it holds.
        """
        if self._max_pattern_weight is None or not (topics.selectors or private.selectors):
            return True
        weight = self._index.new_weight(topics) + self._private.new_weight(private)
        # Patterns that are held already cost nothing more.
        return not weight or self._index.weight + self._private.weight + weight <= self._max_pattern_weight

    def place_of_newcomer(self, topics: TopicSet, private: TopicSet) -> ResumePoint | None:
        """
        Return the place of a client that comes for the first time, where it can come in and the place is
        known.
        """
        live = self._live
        if live is None or not live.started or self._stopping is not None or len(topics) > self._max_topics:
            return None
        return live.here() if self._has_room(topics, private) else None

    async def locate(self, last_event_id: str) -> ResumePoint:
        """
        Find the place where a client resumes.

        The id of an update that the client may not receive is a place as any other: a client may have
        received it, and have been granted less since. What follows it is checked when it is sent.
        """
        await self.start()
        live = self._live
        assert live is not None
        if not last_event_id:
            return live.here()
        if last_event_id == EARLIEST:
            return ResumePoint(OLDEST, named=EARLIEST)
        position = await live.journal.find(last_event_id)
        if position is None and last_event_id == live.head_id:
            # Where it is the one at the head, the journal need not hold it any more: nothing came since.
            position = live.journal.head
        if position is None:
            return ResumePoint(OLDEST, missed=True, named=EARLIEST)
        return ResumePoint(position, named=last_event_id)

    def admit(
        self, channel: SSEChannel, topics: TopicSet, private: TopicSet, place: ResumePoint | None
    ) -> Subscriber:
        """
        Subscribe a channel; without a place, it is looked for until it is found.
        """
        live = self._live or self._come_alive()
        reached = self._reached.pop(channel, None) or Progress(place)
        if reached.place is None and live.started and not channel.last_event_id:
            reached.place = live.here()
        subscriber = self._join(channel, topics, private, reached)
        if not subscriber.is_subscribed:
            return subscriber
        if reached.place is not None:
            self._begin(live, subscriber, reached.place)
        else:
            live.replay.begin_where(subscriber, reached, lambda: self._locate_once(subscriber, reached))
        return subscriber

    async def _locate_once(self, subscriber: Subscriber, reached: Progress) -> ResumePoint:
        await self.start()
        if reached.place is None:
            place = await self.locate(subscriber.channel.last_event_id)
            # Another subscription of the channel may have found it first.
            reached.place = reached.place or place
        return reached.place

    def _begin(self, live: Live, subscriber: Subscriber, place: ResumePoint) -> None:
        up_to_date = place.position == live.journal.head and not place.missed
        if up_to_date and (
            place.resume_id is None or subscriber.sink.offer(resume_id_frames(place.resume_id))
        ):
            subscriber.since = place.position
            subscriber.reached = None
        else:
            live.replay.begin(subscriber, place)

    def _join(
        self, channel: SSEChannel, topics: TopicSet, private: TopicSet, reached: Progress
    ) -> Subscriber:
        self._number += 1
        subscriber = Subscriber(channel, topics, private, number=self._number, owner=self)
        subscriber.reached = reached
        if not channel.is_open:
            subscriber.unsubscribe()
            return subscriber
        channel.watcher = subscriber
        self._members[channel] = subscriber
        self._index.add(subscriber, topics)
        self._private.add(subscriber, private)
        if self._presence is not None:
            self._presence.tell(subscriber, True, len(self._members))
        return subscriber

    # What the journal and the subscribers tell.

    def update_appended(self, entry: Entry) -> None:
        """
        Send an update that the journal has.
        """
        live = self._live
        assert live is not None
        live.head = update = entry[1]
        live.head_id = update.id
        self._counters.published += 1
        live.fanout.add(entry)

    def subscriber_counts(self) -> Mapping[str, int]:
        """
        Return how many subscribers want each topic, for the other nodes.
        """
        return Counts(self._members, self._index.counts())

    def changed_topics(self) -> Collection[str]:
        """
        Return the topics whose counts have changed, for the other nodes.
        """
        return self._index.take_changed() | {ALL}

    def updates_missed(self, position: int) -> None:
        """
        Have everybody read on from where they were, and learn there that something is missing.
        """
        live = self._live
        assert live is not None
        live.replay.forget_pages()
        # By slices, as all that is sent, and in its order: in the middle of a fan-out, nobody knows how far
        # each subscriber is.
        live.fanout.when_sent(self._move_all_to_replay)
        live.head = live.head_id = None

    def _move_all_to_replay(self) -> None:
        live = self._live
        assert live is not None
        live.replay.move_all_to_replay(
            (subscriber, max(subscriber.since, live.fanout.sent_up_to))
            for subscriber in self._members.values()
            if not subscriber.is_replaying
        )

    def subscriber_left(self, subscriber: Subscriber) -> None:
        """
        Forget a subscriber.
        """
        channel = subscriber.channel
        if self._members.pop(channel, None) is None:
            return
        self._index.remove(subscriber, subscriber.topics)
        self._private.remove(subscriber, subscriber.private)
        self._counters.drops += subscriber.drops
        withdrawn = withdraw(channel)
        if channel.is_open:
            self._reached[channel] = self._reached_by(subscriber, withdrawn)
        if channel.close_reason is not None:
            self._counters.closes[channel.close_reason] += 1
        if self._presence is not None:
            self._presence.tell(subscriber, False, len(self._members))

    def _reached_by(self, subscriber: Subscriber, withdrawn: int | None) -> Progress:
        reached = subscriber.reached
        if reached is None:
            live = self._live
            assert live is not None
            reached = Progress(ResumePoint(live.fanout.place_of(subscriber)))
        if withdrawn is not None and reached.place is not None and withdrawn < reached.place.position:
            return Progress(ResumePoint(withdrawn))
        return reached

    def _tell(self, topic: str, data: str, event: str) -> None:
        if self._stopping is None:
            try:
                self.publish_ephemeral(topic, data, event=event)
            except Exception:
                # A subscriber does not depend on who is told of it.
                self._failures.failure("presence cannot be told")

    def _reactor(self) -> IReactorTime:
        return self._given_reactor or self.upgrader.reactor

    def _come_alive(self) -> Live:
        # Not before it is used, so that making a hub at import time installs no reactor.
        reactor = make_steady(self._reactor())
        journal = self._given_journal or MemoryJournal(reactor=reactor)
        replay = Replay(journal, reactor, self._counters)
        fanout = Fanout(reactor, self._index, self._private, replay, self._counters)
        self._live = Live(reactor, replay, fanout, IdMaker(wall_of(reactor)), journal)
        self.start().addErrback(_log_not_started)
        return self._live


def _log_not_started(failure: Failure) -> None:
    # A journal that knows what is wrong has said so itself.
    if not failure.check(JournalFailed):
        _log.failure("the journal did not start", failure)

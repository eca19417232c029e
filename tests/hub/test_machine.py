"""
A stateful property test of the hub: after any sequence of operations, every client gets exactly the updates
that it has access to, in order.

The model is a list, the record of published updates. A simulated client keeps the position of the last update
that it has received; the next update must be the next one in the record that the client has access to, across
all of its connections. After the event ``stream-reset``, which reports a gap, the replay begins with the
oldest update that the journal still holds.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, TypeVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

import txsse.hub.fanout
import txsse.journal.window
from tests.fakes import Client, FakeReactor, Wire
from tests.hub.fakes import result_of
from txsse import EventStreamParser, Hub, IJournal, MemoryJournal, SSEChannel, SSEResource, Update
from txsse.hub.admission import MAX_EARLIER
from txsse.hub.subscriber import Subscriber
from txsse.journal.interfaces import IFollower
from txsse.journal.page import Page
from txsse.journal.position import OLDEST
from txsse.journal.resume_ids import ResumeIds
from txsse.protocol.event import ServerSentEvent
from txsse.server.access import Access
from txsse.topics.topic_set import ISelector, TopicSet

pytestmark = pytest.mark.fuzz

T = TypeVar("T")

POLICIES = ["replay", "close", "latest", "drop"]


class SteppedReactor(FakeReactor):
    """
    A reactor that runs one turn at a time, so that other operations can happen between any two turns.
    """

    def run_soon(self) -> None:
        """
        Do nothing: the test decides when a turn runs.
        """

    def turn(self) -> None:
        """
        Run the calls that are due now, without those that they schedule.
        """
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def settle(self) -> None:
        """
        Run all calls that are due now, with those that they schedule.
        """
        super().run_soon()


class SteppedWire(Wire):
    """
    A wire with a :class:`SteppedReactor`.
    """

    def __init__(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(kind, monkeypatch)
        self.reactor: SteppedReactor = SteppedReactor()
        monkeypatch.setattr(http, "H2Connection", functools.partial(http.H2Connection, reactor=self.reactor))  # type: ignore[attr-defined]


class Broken(Exception):
    """
    The error of a journal that has lost its server.
    """


@implementer(IJournal)
class DelayedJournal:
    """
    A journal as in another process: its answers come later, may be outdated by then, or fail.

    :param journal: the journal in memory that has the updates.
    :param lag: the delay of an answer, in seconds; ``None`` for an immediate answer.
    :param stale: whether an answer has the state of the time of the call; otherwise, that of its delivery.
    :ivar record: every update that was ever appended: the model.
    """

    def __init__(
        self, journal: MemoryJournal, reactor: FakeReactor, *, lag: float | None, stale: bool
    ) -> None:
        self.record: list[tuple[int, Update]] = []
        self.broken = False
        self.running = False
        self._journal = journal
        self._reactor = reactor
        self.lag = lag
        self._stale = stale

    @property
    def head(self) -> int:
        return self._journal.head

    @property
    def problem(self) -> Exception | None:
        return None

    @property
    def damaged(self) -> int:
        return 0

    def start(self, follower: IFollower) -> Deferred[None]:
        def begin() -> Deferred[None]:
            self.running = True
            return self._journal.start(follower)

        return self._answer(begin, stale=False)

    def append(self, update: Update) -> Deferred[int]:
        return self._answer(lambda: self._append(update), stale=False)

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        raise NotImplementedError

    def find(self, id: str) -> Deferred[int | None]:
        return self._answer(lambda: self._journal.find(id))

    def at(self, position: int) -> Deferred[Update | None]:
        return self._answer(lambda: self._journal.at(position))

    def read(self, after: int) -> Deferred[Page]:
        return self._answer(lambda: self._journal.read(after))

    def resume_id(self, position: int) -> str:
        return self._journal.resume_id(position)

    def stop(self) -> Deferred[None]:
        self.running = False
        return self._journal.stop()

    @property
    def resume_ids(self) -> ResumeIds:
        return self._journal._resume_ids

    def oldest_position(self) -> int:
        """
        Return the position of the oldest update that the journal holds; that after the head if it holds no
        update.
        """
        if not self.record:
            return 1
        page = cast(Page, self._journal.read(OLDEST).result)
        return page.entries[0][0] if page.entries else self.head + 1

    def _append(self, update: Update) -> Deferred[int]:
        if self.broken:
            return fail(Broken())
        before = self.head
        self.record.append((before + 1, update))
        appended = self._journal.append(update)
        if self.head == before:
            self.record.pop()
        return appended

    def _answer(self, ask: Callable[[], Deferred[T]], *, stale: bool = True) -> Deferred[T]:
        if self.broken:
            return fail(Broken())
        if self.lag is None:
            return ask()
        if self._stale and stale:
            answer = ask()
            return deferLater(self._reactor, self.lag).addCallback(lambda _: answer)
        return deferLater(self._reactor, self.lag).addCallback(lambda _: ask())


@implementer(ISelector)
@dataclass(frozen=True)
class Prefix:
    """
    A selector of all topics with a prefix.
    """

    start: str

    def matches(self, topic: str) -> bool:
        return topic.startswith(self.start)


@dataclass(frozen=True)
class _Dated:
    """
    The access of a client from a position on.
    """

    since: int
    topics: TopicSet
    private: TopicSet
    is_change: bool


class Viewer:
    """
    A simulated client, over all of its connections, and the updates that it must get.

    :ivar seen: the position of the last update received; ``None`` while the client has received no id.
    :ivar due: after a gap, the position from which on every update must arrive.
    """

    def __init__(
        self,
        wire: SteppedWire,
        journal: DelayedJournal,
        wanted: Any,
        granted: Any,
        *,
        key: str | None,
        exact: bool,
    ) -> None:
        self.key = key
        self.changed = False
        self.subscriber: Subscriber | None = None
        self.resource: SSEResource
        self._accesses: list[_Dated] = []
        self._cut_at: int | None = None
        self.grant(wanted, granted)
        self.seen: int | None = None
        self.due = 0
        self.skipped = 0
        self.received: list[int] = []
        self.connections = 0
        self.resets = 0
        self.last_id = ""
        self.client: Client | None = None
        self._wire = wire
        self._journal = journal
        self._exact = exact

    def grant(self, topics: Any, private: Any, *, since: int = 0, is_change: bool = False) -> None:
        """
        Note the access from a position on. The hub may still send updates at earlier positions by the access
        before, because they may be in transit.

        :param is_change: whether the subscription continues, so that the new access alone allows no update
            before the position.
        """
        self.topics, self.private = topics, private
        self._accesses.append(_Dated(since, TopicSet(topics), TopicSet(private), is_change))

    def _accesses_to(self, position: int) -> list[_Dated]:
        newest = max(
            (number for number, each in enumerate(self._accesses) if position > each.since), default=0
        )
        return self._accesses[newest:]

    def may_have(self, position: int, update: Update) -> bool:
        """
        Return whether the client is allowed to receive an update.
        """
        return any(
            allows(each.topics, each.private, update)
            for each in self._accesses_to(position)
            if position > each.since or not each.is_change
        )

    def must_have(self, position: int, update: Update) -> bool:
        """
        Return whether the client must receive an update: every access that may apply to it allows it.
        """
        return all(allows(each.topics, each.private, update) for each in self._accesses_to(position))

    @property
    def connected(self) -> bool:
        return self.client is not None and self.client.connected and not self.client.ended and not self._left

    @property
    def is_waiting(self) -> bool:
        """
        Whether its request has no response yet.
        """
        return self.connected and self.client is not None and not self.client.status

    @property
    def _has_resume_id(self) -> bool:
        return self.last_id.startswith("#")

    @property
    def progress(self) -> int:
        """
        The number of bytes received on this connection.
        """
        return 0 if self.client is None else len(self.client.body)

    def cut_off(self) -> None:
        """
        Note that the hub has closed this client's stream, so that no later update arrives.
        """
        self.changed = True
        self._cut_at = self._journal.head

    def connect(self) -> None:
        """
        Connect, or reconnect with the last event ID.
        """
        self._cut_at = None
        self.connections += 1
        # Updates that were in transit are lost with the connection: only the newest access applies.
        self._accesses = [replace(self._accesses[-1], since=0)]
        if not self.last_id:
            self.seen = None
            self.due = 0
        headers = {"Last-Event-ID": self.last_id.encode().decode("latin-1")} if self.last_id else {}
        self._parser = EventStreamParser(last_event_id=self.last_id)
        self._fed = 0
        self._left = False
        self._first = True
        # A client that connected before the first update has the resume ID of position 0.
        position = self._position(self.last_id)
        # The hub knows the id of the head, also if the journal has dropped that update because of its size.
        oldest = self._journal.oldest_position() - self._has_resume_id
        self._gap = 0 < position < oldest and position < self._journal.head
        self.client = self._wire.connect(self.resource)
        self.client.request(headers=headers)

    def disconnect(self, *, clean: bool) -> None:
        """
        Take the data received so far, and disconnect.
        """
        assert self.client is not None
        self.look()
        self._left = True
        self.client.disconnect(clean=clean)

    def look(self) -> None:
        """
        Read the received data, and compare it with the record.
        """
        if self.client is None or self._left:
            return
        self.client.receive()
        if not self.client.headers or self.client.status != 200:
            return
        body = self.client.body
        # Block by block, because an id may come without an event.
        while end := body.find(b"\n\n", self._fed) + 1:
            for event in self._parser.feed(body[self._fed : end + 1]):
                self._check(event)
            self._fed = end + 1
            if self._parser.last_event_id != self.last_id:
                self.last_id = self._parser.last_event_id
                self._check_position(self._position(self.last_id))

    def _position(self, id: str) -> int:
        if id.startswith("#"):
            # A resume ID.
            resume_ids: ResumeIds = self._journal.resume_ids
            found = resume_ids.find(id, self._journal.head)
            assert found is not None, "a resume ID that the journal does not know"
            return found
        return next((position for position, update in self._journal.record if update.id == id), 0)

    def _check_position(self, position: int) -> None:
        if self.seen is None:
            self.seen = position
        assert self.seen == position, "an id that is not that of the update received last"

    def _check(self, event: ServerSentEvent) -> None:
        assert self.client is not None
        named = self.client.headers.get("last-event-id", "").encode("latin-1").decode()
        # If the header names the last id, the journal may still drop the next update before the hub reads it.
        if self._first and (self._gap or named == "earliest"):
            assert event.event == "stream-reset", "the gap was not reported"
        first, self._first = self._first, False
        if event.event == "stream-reset":
            assert self.seen is not None
            # The journal no longer knows whether an update followed an id that it dropped.
            no_gap = self._journal.oldest_position() <= self.seen + (not first or self._has_resume_id)
            assert not no_gap, "a gap was reported although no update is missing"
            self.resets += 1
            self.due = self._journal.oldest_position()
            assert event.id is not None
            position = self._position(event.id)
            assert self.seen <= position < self.due, "an id that is not that of the end of the gap"
            self.seen = position
            return
        found = [(position, update) for position, update in self._journal.record if update.id == event.id]
        assert found, f"{event!r} was never published"
        position, update = found[0]
        assert self._cut_at is None or position <= self._cut_at, f"{update!r} came after the key was cut off"
        assert self.may_have(position, update), f"{update!r} is not allowed for this client"
        wanted = (update.event.data, update.event.event or "message", update.id)
        assert (event.data, event.event, event.id) == wanted
        assert self.seen is not None, "an update before the first id"
        assert position > self.seen, f"{update!r} came twice, or out of order"
        missing = self.missing(position)
        self.skipped += len(missing)
        assert not (self._exact and missing), f"{missing!r} did not come before {update!r}"
        self.seen = position
        self.received.append(position)

    def missing(self, before: int) -> list[Update]:
        """
        Return the updates before a position that the client should have received, and did not.
        """
        if self.seen is None:
            return []
        after = max(self.seen, self.due - 1)
        return [
            update
            for position, update in self._journal.record
            if after < position < before and self.must_have(position, update)
        ]


def allows(topics: TopicSet, private: TopicSet, update: Update) -> bool:
    """
    Return whether an access allows an update: the plainest implementation, to compare the hub with.
    """
    wanted = any(
        topics.all or topic in topics.exact or any(s.matches(topic) for s in topics.selectors)
        for topic in update.topics
    )
    granted = any(private.all or topic in private.exact for topic in update.topics)
    return wanted and (granted or not update.private)


def topics_wanted() -> st.SearchStrategy[list[Any]]:
    """
    Draw the topics of a subscription.
    """
    return st.lists(
        st.sampled_from(["a", "b", "c/1", "*", Prefix("c/")]), min_size=1, max_size=3, unique=True
    )


def published() -> st.SearchStrategy[dict[str, Any]]:
    """
    Draw an update: its size is small, fills a socket or fills a transport.
    """
    return st.fixed_dictionaries(
        {
            # Few, so that a turn has several updates with the same topics.
            "topics": st.sampled_from([["a"], ["b"], ["a", "b"], ["c/1"], ["c/2", "b"]]),
            "size": st.sampled_from([0, 1, 30, 30, 2000, 70_000]),
            "event": st.sampled_from([None, None, "kind"]),
            "private": st.sampled_from([False, False, False, True]),
            "named": st.sampled_from([None, "id", "ä 😀", 'a, b; c="d"']),
        }
    )


class HubMachine(RuleBasedStateMachine):
    """
    The operations on a hub, its journal and its clients.
    """

    viewers = Bundle("viewers")

    def __init__(self, kind: str, policy: str) -> None:
        super().__init__()
        self.monkeypatch = pytest.MonkeyPatch()
        self.policy = policy
        self.wire = SteppedWire(kind, self.monkeypatch)
        self.reactor = self.wire.reactor
        self.all: list[Viewer] = []
        self.channels: list[SSEChannel] = []
        self.number = 0
        self.outage = 0
        self.started = False
        self.answers: list[str] = []
        self.failures: list[Failure] = []
        # How many streams, or keys, the hub has reported as present.
        self.present: Counter[tuple[str, object]] = Counter()

    @initialize(
        target=viewers,
        bounds=st.fixed_dictionaries(
            {
                "max_count": st.sampled_from([1000, 1000, 20, 5, 2, 1]),
                "max_bytes": st.sampled_from([10_000_000, 10_000_000, 1500]),
                "max_age": st.sampled_from([None, 60.0]),
            }
        ),
        lag=st.sampled_from([None, None, 0.0, 0.5]),
        stale=st.booleans(),
        page=st.sampled_from([1, 3, 256]),
        look=st.sampled_from([1, 64]),
        slice_seconds=st.sampled_from([0.0, 0.01]),
        batch=st.sampled_from([65536, 65536, 1]),
        pending=st.sampled_from([1_000_000, 1_000_000, 200]),
        room=st.sampled_from([300, 150_000]),
        keepalive=st.sampled_from([None, 15.0]),
    )
    def begin(
        self,
        bounds: dict[str, Any],
        lag: float | None,
        stale: bool,
        page: int,
        look: int,
        slice_seconds: float,
        batch: int,
        pending: int,
        room: int,
        keepalive: float | None,
    ) -> Any:
        # Smaller than in production, so that a few subscribers exercise several pages, slices and batches.
        for module, name, value in (
            (txsse.journal.window, "PAGE_COUNT", page),
            (txsse.hub.fanout, "_LOOK", look),
            (txsse.hub.fanout, "_SLICE_SECONDS", slice_seconds),
            (txsse.hub.fanout, "_MAX_BATCH", batch),
            (txsse.hub.fanout, "_MAX_PENDING", pending),
        ):
            self.monkeypatch.setattr(module, name, value)
        kept = MemoryJournal(reactor=self.reactor, **bounds)
        self.journal = DelayedJournal(kept, self.reactor, lag=lag, stale=stale)
        # With a small buffer, ``latest`` would also drop the newest updates of topics; the model has no such
        # drops.
        self.max_buffer = 1_000_000 if self.policy == "latest" else room
        self.upgrader = self.wire.upgrader(
            slow_policy=self.policy, max_buffer=self.max_buffer, keepalive=keepalive
        )
        self.hub = Hub(
            journal=self.journal,
            upgrader=self.upgrader,
            reactor=self.reactor,
            on_presence=self.presence,
            presence_grace=2,
        )
        self.started = True
        # Some clients are connected from the beginning, and live.
        connected = [self.connect(*access, None, None, key) for access, key in self.first]
        for _ in range(3):
            self.settle()
            self.wait(1.0)
        return multiple(*connected)

    # The topics, the grants, whether by a resource, and the key of clients that connect at the beginning.
    first: ClassVar[Sequence[tuple[tuple[Any, Any, bool], str | None]]] = [
        ((["*"], ["*"], True), None),
        ((["a"], [], True), "k"),
        ((["a", "b", Prefix("c/")], ["b"], False), "k"),
    ]

    def presence(self, topic: str, key: object, present: bool) -> None:
        self.present[topic, key] += 1 if present else -1
        assert self.present[topic, key] in (range(1000) if key is None else (0, 1))

    def check_presence(self) -> None:
        """
        Check that the hub has reported the keys of its streams, and no others.
        """
        streams = Counter(
            (topic, subscriber.key)
            for subscriber in self.hub.subscribers
            for topic in {str(each) for each in subscriber.topics}
        )
        reported = {name: count for name, count in self.present.items() if count}
        assert reported == {name: count if name[1] is None else 1 for name, count in streams.items()}
        for topic in {topic for topic, _ in streams}:
            found = result_of(self.hub.presence(topic))
            assert found == {key: count for (of, key), count in streams.items() if of == topic}

    @rule(what=published())
    def publish(self, what: dict[str, Any]) -> None:
        self.number += 1
        named = what["named"]
        answer = self.hub.publish(
            what["topics"],
            f"{self.number} " + "x" * what["size"],
            event=what["event"],
            id=None if named is None else f"{named}{self.number}",
            private=what["private"],
        )
        answer.addCallbacks(self.answers.append, self.failures.append)

    @rule(what=st.lists(published(), min_size=2, max_size=6), turns=st.sampled_from([0, 0, 1, 2, 9]))
    def publish_several(self, what: list[dict[str, Any]], turns: int) -> None:
        for each in what:
            self.publish(each)
        for _ in range(turns):
            self.turn()

    @rule(
        viewer=viewers,
        what=st.lists(published(), min_size=3, max_size=6),
        size=st.sampled_from([0, 50, 3000, 100_000]),
    )
    def publish_to_slow_client(self, viewer: Viewer, what: list[dict[str, Any]], size: int) -> None:
        """
        Publish each update in a turn of its own, while one client reads only a number of bytes.
        """
        assert viewer.client is not None
        viewer.client.read_some(size)
        for each in what:
            self.publish(each)
            self.turn()

    @precondition(lambda self: self.journal.record and not self.journal.broken)
    @rule(back=st.integers(0, 3))
    def publish_again(self, back: int) -> None:
        """
        Publish an update again, as a publisher that does not know whether it was recorded.
        """
        position, update = self.journal.record[-1 - min(back, len(self.journal.record) - 1)]
        # If the journal no longer held the update, it would record a second one with the same id, and clients
        # that have received the first would get it. With a lag, the journal may drop the first meanwhile.
        if position >= self.journal.oldest_position() and self.journal.lag is None:
            before = list(self.journal.record)
            again: list[str] = []
            self.hub.publish_update(update).addCallback(again.append)
            assert again == [update.id]
            assert self.journal.record == before

    @precondition(lambda self: len(self.all) < 6)
    @rule(
        target=viewers,
        wanted=topics_wanted(),
        granted=st.sampled_from([[], ["a"], ["*"], ["b", "c/1"]]),
        by_resource=st.booleans(),
        before=st.none() | published(),
        after=st.none() | published(),
        key=st.sampled_from([None, "k", "l"]),
    )
    def connect(
        self,
        wanted: list[Any],
        granted: list[str],
        by_resource: bool,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
        key: str | None,
    ) -> Viewer:
        """
        Connect a client between two publications in one turn: the first is old for it, the second new.
        """
        exact = self.policy in ("replay", "close")
        viewer = Viewer(self.wire, self.journal, wanted, granted, key=key, exact=exact)
        if not by_resource:
            viewer.resource = SSEResource(
                lambda channel: self.subscribe(channel, viewer), upgrader=self.upgrader
            )
        elif key is None:
            viewer.resource = self.hub.resource(Access(wanted, granted))
        else:
            viewer.resource = self.hub.resource(
                lambda request: Access(viewer.topics, viewer.private, key=key, context=viewer)
            )
        if before is not None:
            self.publish(before)
        self.all.append(viewer)
        viewer.connect()
        if after is not None:
            self.publish(after)
        return viewer

    def subscribe(self, channel: SSEChannel, viewer: Viewer) -> None:
        viewer.subscriber = self.hub.subscribe(channel, viewer.topics, private=viewer.private, key=viewer.key)
        channel.context = viewer
        self.channels.append(channel)

    @rule(
        viewer=viewers,
        wanted=topics_wanted(),
        granted=st.sampled_from([[], ["a"], ["*"], ["b", "c/1"]]),
        before=st.none() | published(),
        between=st.none() | published(),
        after=st.none() | published(),
        turns=st.sampled_from([0, 0, 1, 2, 9]),
    )
    def change_topics(
        self,
        viewer: Viewer,
        wanted: list[Any],
        granted: list[str],
        before: dict[str, Any] | None,
        between: dict[str, Any] | None,
        after: dict[str, Any] | None,
        turns: int,
    ) -> None:
        """
        Change the topics of a channel, live or replaying: the new subscription continues at the old position.
        """
        subscriber = viewer.subscriber
        if subscriber is None or not subscriber.channel.is_open:
            return
        if before is not None:
            self.publish(before)
        since = self.journal.head
        subscriber.unsubscribe()
        if between is not None:
            self.publish(between)
        for _ in range(turns):
            self.turn()
        if subscriber.channel.is_open:
            viewer.grant(wanted, granted, since=since)
            viewer.changed = True
            self.subscribe(subscriber.channel, viewer)
        if after is not None:
            self.publish(after)

    @rule(
        chosen=st.integers(0, 5),
        wanted=topics_wanted(),
        granted=st.none() | st.sampled_from([[], ["a"], ["*"], ["b", "c/1"]]),
        before=st.lists(published(), max_size=3),
        turns=st.sampled_from([0, 0, 1, 2]),
        after=st.lists(published(), max_size=2),
    )
    def change(
        self,
        chosen: int,
        wanted: list[Any],
        granted: list[str] | None,
        before: list[dict[str, Any]],
        turns: int,
        after: list[dict[str, Any]],
    ) -> None:
        """
        Change the topics of a subscriber, also while updates are fanned out or replayed.
        """
        for each in before:
            self.publish(each)
        for _ in range(turns):
            self.turn()
        subscribed = [
            (viewer, viewer.subscriber)
            for viewer in self.all
            if viewer.subscriber is not None and viewer.subscriber.is_subscribed
        ]
        if subscribed:
            viewer, subscriber = subscribed[chosen % len(subscribed)]
            if len(subscriber.earlier) < MAX_EARLIER:
                subscriber.change(wanted, private=granted)
                viewer.grant(
                    wanted,
                    viewer.private if granted is None else granted,
                    since=self.journal.head,
                    is_change=True,
                )
                viewer.changed = True
        for each in after:
            self.publish(each)

    @rule(
        key=st.sampled_from(["k", "l"]),
        before=st.lists(published(), max_size=3),
        turns=st.integers(0, 2),
        again=st.booleans(),
    )
    def disconnect_key(self, key: str, before: list[dict[str, Any]], turns: int, again: bool) -> None:
        """
        Close the streams of a key, also while updates are fanned out or replayed.
        """
        for each in before:
            self.publish(each)
        for _ in range(turns):
            self.turn()
        streams = self.hub.subscribers.with_key(key)
        # A stream that has been closed stays subscribed until its connection has ended.
        count = sum(each.channel.is_open or each.channel.buffered > 0 for each in streams)
        counted: list[int] = []
        self.hub.disconnect(key=key).addCallback(counted.append)
        assert counted == [count]
        assert not any(subscriber.channel.is_open for subscriber in streams)
        self.reconnect_cut_off([viewer for viewer in self.all if viewer.key == key], again)

    def reconnect_cut_off(self, viewers: list[Viewer], again: bool) -> None:
        """
        Have clients whose streams were closed by the hub take what they have received, and reconnect.
        """
        for viewer in viewers:
            viewer.cut_off()
        if again:
            self.settle()
            for viewer in viewers:
                viewer.look()
                if not viewer.connected:
                    viewer.connect()

    @rule(
        key=st.sampled_from(["k", "l"]),
        topics=st.sampled_from([["a"], ["b", "c/1"], [Prefix("c/")], ["*"]]),
        before=st.lists(published(), max_size=3),
        turns=st.integers(0, 2),
        again=st.booleans(),
    )
    def revoke(
        self, key: str, topics: list[Any], before: list[dict[str, Any]], turns: int, again: bool
    ) -> None:
        """
        Take topics from the streams of a key, also while updates are fanned out or replayed.
        """
        for each in before:
            self.publish(each)
        for _ in range(turns):
            self.turn()
        if any(viewer.key == key and viewer.is_waiting for viewer in self.all):
            # The topics are taken when the stream opens, which the model does not notice.
            return
        streams = self.hub.subscribers.with_key(key)
        kept = {subscriber: subscriber.topics for subscriber in streams}
        self.hub.revoke(key, topics)
        revoked = TopicSet(topics)
        for subscriber in streams:
            viewer = cast(Viewer, subscriber.channel.context)
            viewer.changed = True
            if not subscriber.channel.is_open:
                self.reconnect_cut_off([viewer], again)
                continue
            for topic in ("a", "b", "c/1", "c/2"):
                has = subscriber.topics.has([topic])
                assert has == (kept[subscriber].has([topic]) and not revoked.has([topic])), topic
            viewer.grant(
                tuple(subscriber.topics),
                tuple(subscriber.private),
                since=self.journal.head,
                is_change=True,
            )

    @rule(size=st.sampled_from([1, 70_000]))
    def send_without_the_hub(self, size: int) -> None:
        """
        Send a comment on each channel without the hub, as the program may.
        """
        for channel in self.channels:
            if channel.is_open and not channel.is_slow:
                channel.comment("x" * size)

    @rule(viewer=viewers)
    def pause(self, viewer: Viewer) -> None:
        assert viewer.client is not None
        viewer.client.stop_reading()

    @rule(viewer=viewers, size=st.sampled_from([1, 10, 100, 1000, 50_000]))
    def read_some(self, viewer: Viewer, size: int) -> None:
        assert viewer.client is not None
        viewer.client.read_some(size)

    @rule(viewer=viewers)
    def read_on(self, viewer: Viewer) -> None:
        assert viewer.client is not None
        viewer.client.read_on()

    @rule(viewer=viewers, clean=st.booleans())
    def disconnect_or_reconnect(self, viewer: Viewer, clean: bool) -> None:
        if viewer.connected:
            viewer.disconnect(clean=clean)
        else:
            viewer.connect()

    @rule(viewer=viewers, before=published(), after=published(), clean=st.booleans())
    def reconnect_between_publications(
        self, viewer: Viewer, before: dict[str, Any], after: dict[str, Any], clean: bool
    ) -> None:
        """
        Reconnect a client between two publications in one turn.
        """
        if viewer.connected:
            viewer.disconnect(clean=clean)
        self.publish(before)
        viewer.connect()
        self.publish(after)

    @rule()
    def turn(self) -> None:
        self.reactor.turn()
        self.pump()

    @rule()
    def settle(self) -> None:
        for _ in range(100):
            self.reactor.settle()
            self.pump()
            if not any(call.getTime() <= self.reactor.seconds() for call in self.reactor.getDelayedCalls()):
                break

    @rule(seconds=st.sampled_from([0.3, 1.0, 20.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        self.journal.broken = False
        self.pump()

    @precondition(lambda self: not self.journal.broken)
    @rule(steps=st.integers(1, 5))
    def lose_journal(self, steps: int) -> None:
        """
        Make the journal fail for a number of steps.
        """
        self.journal.broken = True
        self.outage = steps

    def pump(self) -> None:
        for viewer in self.all:
            assert viewer.client is not None
            viewer.client.pump()

    @invariant()
    def look(self) -> None:
        for viewer in self.all:
            viewer.look()
            if viewer.client is not None and viewer.connected and viewer.client.status not in (0, 200):
                viewer.disconnect(clean=False)

    @invariant()
    def mended(self) -> None:
        self.outage -= 1
        if self.outage < 0 and self.started:
            self.journal.broken = False

    @invariant()
    def bounded(self) -> None:
        if not self.started:
            return
        metrics = self.hub.metrics()
        assert self.upgrader._budget.held == metrics.buffered
        if self.policy == "replay":
            assert metrics.buffered == 0, "the policy replay buffers nothing"
        assert metrics.buffered <= self.max_buffer * metrics.channels
        assert metrics.channels == self.hub.subscribers.total

    def teardown(self) -> None:
        try:
            if self.started:
                self.end()
        finally:
            self.monkeypatch.undo()

    def end(self) -> None:
        """
        Reconnect all clients, let them read everything, and check that no update is missing and nothing is
        left.
        """
        self.journal.broken = False
        once = all(
            viewer.connections == 1 and viewer.connected and not viewer.resets and not viewer.changed
            for viewer in self.all
        )
        # A delayed journal may return one update at a time. The clients have everything when no data has
        # arrived for more than two seconds: the hub retries a failed journal after one second.
        rounds = quiet = 0
        while quiet < 4:
            rounds += 1
            assert rounds < 1000, "data still arrives after 1000 rounds"
            before = [(viewer.connections, viewer.progress) for viewer in self.all]
            for viewer in self.all:
                if not viewer.connected:
                    viewer.connect()
                assert viewer.client is not None
                viewer.client.read_on()
            self.settle()
            self.wait(0.6)
            self.settle()
            self.look()
            after = [(viewer.connections, viewer.progress) for viewer in self.all]
            # A replay passes over updates that its client does not want, without data.
            is_quiet = after == before and not self.hub.metrics().replaying
            quiet = quiet + 1 if is_quiet else 0
        for viewer in self.all:
            assert viewer.connected
            self.check_end(viewer)
        # Each recorded update was acknowledged, in order, and each publication was acknowledged or failed.
        assert self.answers == [update.id for _, update in self.journal.record]
        assert len(self.answers) + len(self.failures) == self.number
        assert all(isinstance(failure.value.__cause__, Broken) for failure in self.failures)  # type: ignore[union-attr]
        metrics = self.hub.metrics()
        assert metrics.published == len(self.journal.record)
        assert metrics.failures == 0
        assert (metrics.channels, metrics.replaying, metrics.buffered) == (len(self.all), 0, 0), metrics
        if once and self.policy in ("latest", "drop"):
            lost = sum(viewer.skipped + len(viewer.missing(self.journal.head + 1)) for viewer in self.all)
            assert metrics.drops == lost
        self.wait(2)
        self.settle()
        self.check_presence()
        stopped = self.hub.stop(deadline=5)
        self.settle()
        for viewer in self.all:
            assert viewer.client is not None
            if viewer.client.connected:
                viewer.client.disconnect(clean=False)
        # As long as an answer of the journal may take, and the next one.
        for _ in range(4):
            self.settle()
            self.wait(1)
        assert stopped.called
        assert not self.journal.running, "the journal was started, and never stopped"
        assert self.reactor.getDelayedCalls() == [], "a delayed call is left"
        metrics = self.hub.metrics()
        assert (metrics.channels, metrics.replaying, metrics.buffered, metrics.topics) == (0, 0, 0, 0)
        assert not any(self.present.values())

    def check_end(self, viewer: Viewer) -> None:
        assert viewer.seen is not None
        missing = viewer.missing(self.journal.head + 1)
        if self.policy != "latest":
            if self.policy != "drop":
                assert missing == []
            return
        # The newest update of each topic; the policy ``latest`` compares updates by their first topic.
        newest = {
            update.topics[0]: position
            for position, update in self.journal.record
            if viewer.must_have(position, update)
            and position >= max(viewer.due, (viewer.received or [1 << 60])[0])
        }
        assert set(newest.values()) <= set(viewer.received)


class ChangingMachine(HubMachine):
    """
    Mostly changes of topics, where the other machine has all operations.
    """

    first = (
        ((["a", "b"], ["a"], False), "k"),
        ((["b", Prefix("c/")], ["*"], False), "k"),
        ((["a", "b", "c/1"], ["b", "c/1"], True), "l"),
        ((["*"], ["*"], False), None),
    )
    # These rules take steps that changes of topics need.
    publish_again = publish_several = change_topics = cast(Any, None)
    send_without_the_hub = lose_journal = reconnect_between_publications = pause = cast(Any, None)


# The wires "request" and "http10" have the same sink, so one policy for each is sufficient.
COMBINATIONS = [
    *product(["direct", "detached", "http2"], POLICIES),
    ("request", "replay"),
    ("http10", "close"),
]


class MachineTests:
    @pytest.mark.parametrize(("kind", "policy"), COMBINATIONS)
    def test_any_order_of_events(self, kind: str, policy: str) -> None:
        """
        After any sequence of operations on a hub, every client has received exactly the updates that it has
        access to, in order, across all of its connections.
        """
        # The hub's code depends little on the wire, so one wire gets most of the examples.
        examples = 60 if kind == "direct" else 12
        every = settings(
            derandomize=True, deadline=None, max_examples=examples, stateful_step_count=30, database=None
        )
        run_state_machine_as_test(cast(Any, lambda: HubMachine(kind, policy)), settings=every)

    @pytest.mark.parametrize(("kind", "policy"), COMBINATIONS)
    def test_changes(self, kind: str, policy: str) -> None:
        """
        While topics change, are revoked, and keys are disconnected, every client receives exactly the updates
        that it has access to, in order.
        """
        examples = 60 if kind == "direct" else 12
        every = settings(
            derandomize=True, deadline=None, max_examples=examples, stateful_step_count=30, database=None
        )
        run_state_machine_as_test(cast(Any, lambda: ChangingMachine(kind, policy)), settings=every)

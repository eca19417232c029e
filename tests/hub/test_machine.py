"""
The hub as a state machine: whatever happens, in whatever order, every client gets what it may have.

The model is a list: the record of what was published. A client keeps the place of the last update that it has
seen; what comes next must be the next update in the record that it may have, whatever happened between. Where
it was told that something is missing, by the event ``stream-reset``, the replay begins with what the journal
still holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

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
from tests.fakes import WIRES, Client, FakeReactor, Wire
from txsse import EventStreamParser, Hub, IJournal, MemoryJournal, SSEChannel, SSEResource, Update
from txsse.hub.access import Access
from txsse.hub.subscriber import Subscriber
from txsse.hub.topics import ISelector, TopicSet
from txsse.journal.interfaces import IFollower
from txsse.journal.page import Page
from txsse.journal.position import OLDEST
from txsse.journal.resume_ids import ResumeIds
from txsse.protocol.event import ServerSentEvent

T = TypeVar("T")

POLICIES = ["replay", "close", "latest", "drop"]


class SteppedReactor(FakeReactor):
    """
    A reactor whose turns come one by one, so that there is much that can happen between them.
    """

    def run_soon(self) -> None:
        """
        Do nothing by itself.
        """

    def turn(self) -> None:
        """
        Run what is due now, and nothing that this brings about.
        """
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def settle(self) -> None:
        """
        Run everything that is due now.
        """
        super().run_soon()


class SteppedWire(Wire):
    """
    A wire with such a reactor.
    """

    def __init__(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(kind, monkeypatch)
        self.reactor: SteppedReactor = SteppedReactor()
        monkeypatch.setattr(http, "H2Connection", functools.partial(http.H2Connection, reactor=self.reactor))  # type: ignore[attr-defined]


class Broken(Exception):
    """
    The journal has lost its server.
    """


@implementer(IJournal)
class TakingItsTime:
    """
    A journal as one in another process is: its answers come later, and are as old as that by then, or fail.

    :param journal: where everything really is.
    :param lag: how long an answer takes, in seconds; ``None`` for no time at all.
    :param stale: whether answers to questions are as of when they were asked.
    :ivar record: everything that was ever appended: the model.
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

    def oldest(self) -> int:
        """
        Tell the position from which on everything is held.
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
    All topics that begin so.
    """

    start: str

    def matches(self, topic: str) -> bool:
        return topic.startswith(self.start)


class Viewer:
    """
    A client, over all of its connections, and what it is due.

    :ivar seen: the position of the last update that it has seen; ``None`` while it has seen no id at all.
    :ivar due: the position from which on everything must come, where something is missing before.
    """

    def __init__(
        self, wire: SteppedWire, journal: TakingItsTime, access: Access, resource: SSEResource, *, exact: bool
    ) -> None:
        self.changed = False
        self.subscriber: Subscriber | None = None
        self._accesses: list[tuple[int, TopicSet, TopicSet]] = []
        self.grant(access.topics, access.private)
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
        self._resource = resource
        self._exact = exact

    def grant(self, topics: Any, private: Any, *, since: int = 0) -> None:
        """
        Take note of what it may have of the updates behind a position. Of those before, it may still be sent
        what it was to have before, for that may be on its way.
        """
        self.topics, self.private = topics, private
        self._accesses.append((since, TopicSet(topics), TopicSet(private)))

    def _accesses_to(self, position: int) -> list[tuple[int, TopicSet, TopicSet]]:
        newest = max((number for number, each in enumerate(self._accesses) if position > each[0]), default=0)
        return self._accesses[newest:]

    def may_have(self, position: int, update: Update) -> bool:
        """
        Tell whether it may be sent an update.
        """
        return any(allows(*each[1:], update) for each in self._accesses_to(position))

    def must_have(self, position: int, update: Update) -> bool:
        """
        Tell whether it has to be sent an update, whenever its topics changed.
        """
        return all(allows(*each[1:], update) for each in self._accesses_to(position))

    @property
    def connected(self) -> bool:
        return self.client is not None and self.client.connected and not self.client.ended and not self._left

    @property
    def _resumes_at_a_place(self) -> bool:
        return self.last_id.startswith("#")

    @property
    def progress(self) -> int:
        """
        How many bytes came on this connection.
        """
        return 0 if self.client is None else len(self.client.body)

    def connect(self) -> None:
        """
        Come, or come back with the last id.
        """
        self.connections += 1
        # Whatever was on its way is gone.
        self._accesses = [(0, *self._accesses[-1][1:])]
        if not self.last_id:
            self.seen = None
            self.due = 0
        headers = {"Last-Event-ID": self.last_id.encode().decode("latin-1")} if self.last_id else {}
        self._parser = EventStreamParser(last_event_id=self.last_id)
        self._fed = 0
        self._left = False
        self._first = True
        # What was told to a client that came when there was nothing stands for the place before everything.
        place = self._position(self.last_id)
        self._gap = 0 < place < self._journal.oldest() - self._resumes_at_a_place
        self.client = self._wire.connect(self._resource)
        self.client.request(headers=headers)

    def leave(self, *, clean: bool) -> None:
        """
        Go, with what has come so far.
        """
        assert self.client is not None
        self.look()
        self._left = True
        self.client.disconnect(clean=clean)

    def look(self) -> None:
        """
        Read what has come, and hold it against the record.
        """
        if self.client is None or self._left:
            return
        self.client.receive()
        if not self.client.headers or self.client.status != 200:
            return
        body = self.client.body
        # Block by block, because an id may come alone.
        while end := body.find(b"\n\n", self._fed) + 1:
            for event in self._parser.feed(body[self._fed : end + 1]):
                self._check(event)
            self._fed = end + 1
            if self._parser.last_event_id != self.last_id:
                self.last_id = self._parser.last_event_id
                self._check_place(self._position(self.last_id))

    def _position(self, id: str) -> int:
        if id.startswith("#"):
            # A place that is named by itself.
            resume_ids: ResumeIds = self._journal.resume_ids
            found = resume_ids.find(id, self._journal.head)
            assert found is not None, "a name of no place"
            return found
        return next((position for position, update in self._journal.record if update.id == id), 0)

    def _check_place(self, position: int) -> None:
        if self.seen is None:
            self.seen = position
        assert self.seen == position, "an id that is not the one of what was received last"

    def _check(self, event: ServerSentEvent) -> None:
        assert self.client is not None
        named = self.client.headers.get("last-event-id", "").encode("latin-1").decode()
        # Where the header names the last id, the journal may still lose the next one before it is read.
        if self._first and (self._gap or named == "earliest"):
            assert event.event == "stream-reset", "it was not told that something is missing"
        first, self._first = self._first, False
        if event.event == "stream-reset":
            assert self.seen is not None
            # The journal does not know any more whether there was anything behind an id that it lost.
            nothing = self._journal.oldest() <= self.seen + (not first or self._resumes_at_a_place)
            assert not nothing, "it was told that something is missing, and nothing is"
            self.resets += 1
            self.due = self._journal.oldest()
            assert event.id is not None
            position = self._position(event.id)
            assert self.seen <= position < self.due, "an id that is not the one before what comes next"
            self.seen = position
            return
        found = [(position, update) for position, update in self._journal.record if update.id == event.id]
        assert found, f"{event!r} was never published"
        position, update = found[0]
        assert self.may_have(position, update), f"{update!r} is none of its business"
        wanted = (update.event.data, update.event.event or "message", update.id)
        assert (event.data, event.event, event.id) == wanted
        assert self.seen is not None, "an update before the place where it begins"
        assert position > self.seen, f"{update!r} came twice, or too late"
        missing = self.missing(position)
        self.skipped += len(missing)
        assert not (self._exact and missing), f"{missing!r} did not come before {update!r}"
        self.seen = position
        self.received.append(position)

    def missing(self, before: int) -> list[Update]:
        """
        Tell which updates should have come before a position, and did not.
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
    Tell whether a subscriber may have an update, in the simplest words.
    """
    wanted = any(
        topics.all or topic in topics.exact or any(s.matches(topic) for s in topics.selectors)
        for topic in update.topics
    )
    granted = any(private.all or topic in private.exact for topic in update.topics)
    return wanted and (granted or not update.private)


def topics_wanted() -> st.SearchStrategy[list[Any]]:
    """
    Draw what a subscriber may want.
    """
    return st.lists(
        st.sampled_from(["a", "b", "c/1", "*", Prefix("c/")]), min_size=1, max_size=3, unique=True
    )


def published() -> st.SearchStrategy[dict[str, Any]]:
    """
    Draw what is published: sizes that go unnoticed, that fill a socket and that fill a transport.
    """
    return st.fixed_dictionaries(
        {
            # Few, so that the same come again within one turn.
            "topics": st.sampled_from([["a"], ["b"], ["a", "b"], ["c/1"], ["c/2", "b"]]),
            "size": st.sampled_from([0, 1, 30, 30, 2000, 70_000]),
            "event": st.sampled_from([None, None, "kind"]),
            "private": st.sampled_from([False, False, False, True]),
            "named": st.sampled_from([None, "id", "ä 😀", 'a, b; c="d"']),
        }
    )


class HubMachine(RuleBasedStateMachine):
    """
    What can happen to a hub.
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
        self.present: set[object] = set()

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
        # Smaller than they are, so that a test of a few subscribers gets to see several of everything.
        for module, name, value in (
            (txsse.journal.window, "PAGE_COUNT", page),
            (txsse.hub.fanout, "_LOOK", look),
            (txsse.hub.fanout, "_SLICE_SECONDS", slice_seconds),
            (txsse.hub.fanout, "_MAX_BATCH", batch),
            (txsse.hub.fanout, "_MAX_PENDING", pending),
        ):
            self.monkeypatch.setattr(module, name, value)
        kept = MemoryJournal(reactor=self.reactor, **bounds)
        self.journal = TakingItsTime(kept, self.reactor, lag=lag, stale=stale)
        # What ``latest`` has to give up for want of room is not the newest of each topic.
        self.max_buffer = 1_000_000 if self.policy == "latest" else room
        self.upgrader = self.wire.upgrader(
            slow_policy=self.policy, max_buffer=self.max_buffer, keepalive=keepalive
        )
        self.hub = Hub(
            journal=self.journal, upgrader=self.upgrader, reactor=self.reactor, presence=self.presence
        )
        self.started = True
        # Some who are there from the beginning, and live.
        first = [(["*"], ["*"], True), (["a"], [], True), (["a", "b", Prefix("c/")], ["b"], False)]
        there = [self.come(*access, None, None) for access in first]
        for _ in range(3):
            self.settle()
            self.wait(1.0)
        return multiple(*there)

    def presence(self, subscriber: object, there: bool) -> None:
        assert (subscriber in self.present) is not there
        (self.present.add if there else self.present.remove)(subscriber)

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
    def publish_to_a_slow_one(self, viewer: Viewer, what: list[dict[str, Any]], size: int) -> None:
        """
        Each in a turn of its own, while one takes only so much.
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
        A publisher that did not hear whether its update arrived.
        """
        position, update = self.journal.record[-1 - min(back, len(self.journal.record) - 1)]
        # What the journal does not hold any more would be another update of the same id, sent to those who
        # have seen the first one; and with time to pass on the way, it may be so by then.
        if position >= self.journal.oldest() and self.journal.lag is None:
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
    )
    def come(
        self,
        wanted: list[Any],
        granted: list[str],
        by_resource: bool,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> Viewer:
        """
        Of what is published in one turn, a part is old when the client comes, and a part is new.
        """
        access = Access(wanted, granted)
        if by_resource:
            resource = self.hub.resource(access)
        else:
            resource = SSEResource(lambda channel: self.subscribe(channel, viewer), upgrader=self.upgrader)
        exact = self.policy in ("replay", "close")
        viewer = Viewer(self.wire, self.journal, access, resource, exact=exact)
        if before is not None:
            self.publish(before)
        self.all.append(viewer)
        viewer.connect()
        if after is not None:
            self.publish(after)
        return viewer

    def subscribe(self, channel: SSEChannel, viewer: Viewer) -> None:
        viewer.subscriber = self.hub.subscribe(channel, viewer.topics, private=viewer.private)
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
        A channel is subscribed anew, live or behind: it goes on from where it was.
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

    @rule(size=st.sampled_from([1, 70_000]))
    def send_past_the_hub(self, size: int) -> None:
        """
        A channel is sent something of its own, by whoever has it.
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
    def leave_or_come_back(self, viewer: Viewer, clean: bool) -> None:
        if viewer.connected:
            viewer.leave(clean=clean)
        else:
            viewer.connect()

    @rule(viewer=viewers, before=published(), after=published(), clean=st.booleans())
    def come_back_between(
        self, viewer: Viewer, before: dict[str, Any], after: dict[str, Any], clean: bool
    ) -> None:
        """
        Likewise with one who was there before.
        """
        if viewer.connected:
            viewer.leave(clean=clean)
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
        Let the journal fail for some steps.
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
                viewer.leave(clean=False)

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
            assert metrics.buffered == 0, "a hub holds nothing back where it can read on"
        assert metrics.buffered <= self.max_buffer * metrics.channels
        assert metrics.channels == self.hub.subscribers.total == len(self.present)

    def teardown(self) -> None:
        try:
            if self.started:
                self.end()
        finally:
            self.monkeypatch.undo()

    def end(self) -> None:
        """
        Everybody comes back and reads: then nothing is missing, and at the end nothing is left.
        """
        self.journal.broken = False
        once = all(
            viewer.connections == 1 and viewer.connected and not viewer.resets and not viewer.changed
            for viewer in self.all
        )
        # A journal that takes its time gives them no more than an update at a time. They are at rest when
        # nothing has come for more than two seconds: a journal that failed is asked again after one.
        rounds = quiet = 0
        while quiet < 4:
            rounds += 1
            assert rounds < 1000, "it does not come to rest"
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
            quiet = quiet + 1 if after == before else 0
        for viewer in self.all:
            assert viewer.connected
            self.check_end(viewer)
        # Whoever published was told the truth.
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
        stopped = self.hub.stop(deadline=5)
        self.settle()
        for viewer in self.all:
            assert viewer.client is not None
            if viewer.client.connected:
                viewer.client.disconnect(clean=False)
        # As long as an answer may take, and the next one.
        for _ in range(4):
            self.settle()
            self.wait(1)
        assert stopped.called
        assert not self.journal.running, "the journal was started, and never stopped"
        assert self.reactor.getDelayedCalls() == [], "something is left"
        metrics = self.hub.metrics()
        assert (metrics.channels, metrics.replaying, metrics.buffered, metrics.topics) == (0, 0, 0, 0)
        assert self.present == set()

    def check_end(self, viewer: Viewer) -> None:
        assert viewer.seen is not None
        missing = viewer.missing(self.journal.head + 1)
        if self.policy != "latest":
            if self.policy != "drop":
                assert missing == []
            return
        # The newest of each topic: by the first one, which an update is known by.
        newest = {
            update.topics[0]: position
            for position, update in self.journal.record
            if viewer.must_have(position, update)
            and position >= max(viewer.due, (viewer.received or [1 << 60])[0])
        }
        assert set(newest.values()) <= set(viewer.received)


class MachineTests:
    @pytest.mark.parametrize("policy", POLICIES)
    @pytest.mark.parametrize("kind", WIRES)
    def test_any_order_of_events(self, kind: str, policy: str) -> None:
        """
        Every client gets exactly what it may have, in order, across all of its connections.
        """
        # What is the hub's own depends on the way to the client but little.
        examples = 60 if kind == "direct" else 12
        every = settings(
            derandomize=True, deadline=None, max_examples=examples, stateful_step_count=30, database=None
        )
        run_state_machine_as_test(cast(Any, lambda: HubMachine(kind, policy)), settings=every)

"""
A stateful property test of states: whatever happens, a client that knows a position knows the state there.

The model is the record of published updates. A simulated client applies each event that it receives to its
state: the newest number of each key. Whenever it receives an ID, its state must be that of the record up to
this position, as far as it has access to it; and the updates since its last ID must be exactly those of the
record, once each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

import txsse.journal.retained_updates
import txsse.journal.window
from tests.fakes import Client
from tests.hub.test_machine import COMBINATIONS, DelayedJournal, Prefix, SteppedWire, allows
from txsse import (
    Access,
    EventStreamParser,
    Hub,
    IRetainingJournal,
    MemoryJournal,
    NotRetained,
    Retention,
    ServerSentEvent,
    SnapshotRequest,
    Update,
)
from txsse.journal.retained import RetainedPage
from txsse.topics.topic_set import TopicSet

pytestmark = pytest.mark.fuzz

# The topics of each key, and whether its updates are private. A number as a key is one of the program.
KEYS: dict[str, tuple[tuple[str, ...], bool]] = {
    "a1": (("a",), False),
    "a2": (("a",), False),
    "a3": (("a",), True),
    "b1": (("b",), False),
    "ab": (("a", "b"), False),
    "c1": (("c/1",), False),
}

# The topics that a client subscribes to, and those whose private updates it may receive.
ACCESSES: list[tuple[Any, Any]] = [
    (["a"], []),
    (["a"], ["a"]),
    (["a", "b"], []),
    (["*"], ["*"]),
    ([Prefix("c/"), "b"], []),
    (["d"], []),
]


@implementer(IRetainingJournal)
class RetainingJournal(DelayedJournal):
    """
    A journal as in another process, that retains updates.
    """

    @property
    def retained(self) -> Any:
        return self

    @property
    def _store(self) -> Any:
        return self._journal.retained

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, *arguments: Any) -> Any:
        if len(arguments) == 1:
            return super().read(*arguments)
        # A page of retained updates agrees with the updates that the follower has been given.
        page: Deferred[RetainedPage] = self._answer(lambda: self._store.read(*arguments), stale=False)
        return page


class Viewer:
    """
    A simulated client, over all of its connections.

    :ivar state: the newest number of each key.
    :ivar position: the position of its last ID; ``None`` while its state is not complete.
    :ivar since: the numbers of the updates since its last ID, or since its state began.
    """

    def __init__(self, machine: StateMachine, wanted: Any, granted: Any, snapshot: str | None) -> None:
        self.machine = machine
        self.topics, self.private = TopicSet(wanted), TopicSet(granted)
        self.has_snapshot = snapshot is not None
        self.resource = machine.hub.resource(
            Access(wanted, granted), snapshot=None if snapshot is None else machine.snapshots[snapshot]
        )
        self.state: dict[str, int] = {}
        self.position: int | None = None
        self.since: list[int] = []
        self.last_id = ""
        self.states = 0
        self.client: Client | None = None
        self.has_left = False

    def connect(self) -> None:
        if not self.last_id:
            self.begin_anew()
        self.parser = EventStreamParser(last_event_id=self.last_id)
        self.fed = 0
        self.has_left = False
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        self.client = self.machine.wire.connect(self.resource)
        self.client.request(headers=headers)

    def begin_anew(self) -> None:
        self.state, self.position, self.since = {}, None, []

    @property
    def connected(self) -> bool:
        client = self.client
        return client is not None and client.connected and not client.ended and not self.has_left

    def cut(self, *, clean: bool) -> None:
        assert self.client is not None
        self.look()
        self.has_left = True
        self.client.disconnect(clean=clean)

    def look(self) -> None:
        """
        Apply the events that have arrived.
        """
        assert self.client is not None
        if self.has_left:
            return
        self.client.receive()
        if self.client.status != 200:
            return
        body = self.client.body
        while end := body.find(b"\n\n", self.fed) + 1:
            block = body[self.fed : end + 1]
            for event in self.parser.feed(block):
                self.apply(event, has_id=b"\nid: " in b"\n" + block)
            if self.parser.last_event_id != self.last_id:
                self.last_id = self.parser.last_event_id
                self.check(self.machine.position_of(self.last_id))
            self.fed = end + 1

    def apply(self, event: ServerSentEvent, *, has_id: bool) -> None:
        if event.event == "stream-reset":
            self.begin_anew()
        elif event.event == "snapshot":
            assert not has_id
            key, _, number = event.data.partition(" ")
            self.state[key] = int(number)
        elif event.event == "unretain" and not has_id:
            self.state.pop(event.data, None)
        else:
            self.apply_update(int(event.id or "") if has_id else int(event.data.partition(" ")[0]), event)

    def apply_update(self, number: int, event: ServerSentEvent) -> None:
        update = self.machine.updates[number]
        assert update.event.data == event.data
        assert allows(self.topics, self.private, update), f"{update!r} is not allowed for this client"
        assert number not in self.since, f"{update!r} came twice"
        self.since.append(number)
        self.machine.apply(self, self.state, update)

    def check(self, position: int) -> None:
        """
        Check the state, and the updates, up to the position of an ID.
        """
        if self.machine.policy in ("replay", "close"):
            expected = self.machine.numbers_up_to(position, self)
            if self.position is None:
                self.states += 1
                # Of the updates that are not retained, only the newest ones are sent, all of them.
                plain = [each for each in self.since if each in self.machine.plain]
                expected = [each for each in expected if each in self.machine.plain]
                assert plain == expected[len(expected) - len(plain) :]
            else:
                missing = self.machine.numbers_up_to(self.position, self)
                assert self.since == expected[len(missing) :]
            assert self.state == self.machine.state_up_to(position, self)
        self.position = position
        self.since = []


class StateMachine(RuleBasedStateMachine):
    """
    The operations on a hub with retained updates and snapshots.
    """

    viewers = Bundle("viewers")

    def __init__(self, kind: str, policy: str) -> None:
        super().__init__()
        self.monkeypatch = pytest.MonkeyPatch()
        self.policy = policy
        self.wire = SteppedWire(kind, self.monkeypatch)
        self.reactor = self.wire.reactor
        self.number = 0
        self.updates: dict[int, Update] = {}
        self.plain: set[int] = set()
        self.program: dict[str, int] = {}
        self.all: list[Viewer] = []
        self.started = False
        self.snapshots: dict[str, Any] = {
            "list": self.listed,
            "deferred": self.deferred,
            "iterator": self.iterated,
        }

    @initialize(
        max_count=st.sampled_from([1000, 1000, 20, 5, 2, 1]),
        lag=st.sampled_from([None, None, 0.0, 0.5]),
        stale=st.booleans(),
        page=st.sampled_from([1, 2, 256]),
        room=st.sampled_from([300, 150_000]),
    )
    def begin(self, max_count: int, lag: float | None, stale: bool, page: int, room: int) -> None:
        for module in (txsse.journal.window, txsse.journal.retained_updates):
            self.monkeypatch.setattr(module, "PAGE_COUNT", page)
        kept = MemoryJournal(reactor=self.reactor, max_count=max_count)
        self.journal = RetainingJournal(kept, self.reactor, lag=lag, stale=stale)
        max_buffer = 1_000_000 if self.policy == "latest" else room
        upgrader = self.wire.upgrader(slow_policy=self.policy, max_buffer=max_buffer)
        self.hub = Hub(journal=self.journal, upgrader=upgrader, reactor=self.reactor)
        self.hub.start()
        self.settle()
        self.wait(2)
        self.started = True

    # The state of the program, which it changes when its updates have been recorded.

    def copy(self, request: SnapshotRequest) -> list[ServerSentEvent]:
        return [
            ServerSentEvent(f"{key} {number}", "snapshot")
            for key, number in self.program.items()
            if allows(request.topics, request.private, self.updates[number])
        ]

    def listed(self, request: SnapshotRequest) -> list[ServerSentEvent]:
        return self.copy(request)

    def deferred(self, request: SnapshotRequest) -> Deferred[list[ServerSentEvent]]:
        copied = self.copy(request)
        return deferLater(self.reactor, 0.5).addCallback(lambda _: copied)

    def iterated(self, request: SnapshotRequest) -> AsyncIterator[ServerSentEvent]:
        copied = self.copy(request)

        async def iterate() -> AsyncIterator[ServerSentEvent]:
            for event in copied:
                yield event
                await deferLater(self.reactor, 0.1)

        return iterate()

    # The model.

    def apply(self, viewer: Viewer, state: dict[str, int], update: Update) -> None:
        """
        Apply an update to the state of a client.
        """
        number = int(update.id)
        if update.retention is not None:
            if update.unretains:
                state.pop(update.retention.key, None)
            else:
                state[update.retention.key] = number
        elif update.event.event == "program" and viewer.has_snapshot:
            state[update.topics[0]] = number

    def position_of(self, id: str) -> int:
        if id.startswith("#"):
            found = self.journal.resume_ids.find(id, self.journal.head)
            assert found is not None
            return found
        return next(position for position, update in self.journal.record if update.id == id)

    def numbers_up_to(self, position: int, viewer: Viewer) -> list[int]:
        return [
            int(update.id)
            for at, update in self.journal.record
            if at <= position and allows(viewer.topics, viewer.private, update)
        ]

    def state_up_to(self, position: int, viewer: Viewer) -> dict[str, int]:
        state: dict[str, int] = {}
        for number in self.numbers_up_to(position, viewer):
            self.apply(viewer, state, self.updates[number])
        return state

    # The operations.

    def publish_update(self, topics: Any, event: ServerSentEvent, *, private: bool, key: str | None) -> None:
        retention = None if key is None else Retention(key)
        update = Update(topics, event, private=private, retention=retention)
        number = int(update.id)
        self.updates[number] = update

        def recorded(_: object) -> None:
            if event.event == "program":
                self.program[update.topics[0]] = number

        def refused(failure: Failure) -> None:
            failure.trap(NotRetained)

        if key is None and event.event != "program":
            self.plain.add(number)
        self.hub.publish_update(update).addCallbacks(recorded, refused)

    def next_id(self) -> str:
        self.number += 1
        return str(self.number)

    @rule(key=st.sampled_from(sorted(KEYS)), size=st.sampled_from([0, 1, 30, 2000, 70_000]))
    def retain(self, key: str, size: int) -> None:
        topics, private = KEYS[key]
        id = self.next_id()
        self.publish_update(topics, ServerSentEvent(id + " " + "x" * size, id=id), private=private, key=key)

    @rule(keys=st.lists(st.sampled_from(sorted(KEYS)), min_size=3, max_size=8), turns=st.integers(0, 2))
    def retain_several(self, keys: list[str], turns: int) -> None:
        for key in keys:
            self.retain(key, 2000)
        for _ in range(turns):
            self.turn()

    @rule(key=st.sampled_from(sorted(KEYS)))
    def remove(self, key: str) -> None:
        topics, private = KEYS[key]
        event = ServerSentEvent(key, "unretain", self.next_id())
        self.publish_update(topics, event, private=private, key=key)

    @rule(topic=st.sampled_from(["a", "b", "c/1", "d"]), size=st.sampled_from([0, 30, 2000, 70_000]))
    def publish(self, topic: str, size: int) -> None:
        id = self.next_id()
        self.publish_update([topic], ServerSentEvent(id + " " + "x" * size, id=id), private=False, key=None)

    @rule(topic=st.sampled_from(["a", "d"]))
    def change_program(self, topic: str) -> None:
        id = self.next_id()
        self.publish_update([topic], ServerSentEvent(id, "program", id), private=False, key=None)

    @precondition(lambda self: len(self.all) < 6)
    @rule(
        target=viewers,
        access=st.sampled_from(ACCESSES),
        snapshot=st.sampled_from([None, None, "list", "deferred", "iterator"]),
    )
    def connect(self, access: tuple[Any, Any], snapshot: str | None) -> Viewer:
        viewer = Viewer(self, *access, snapshot)
        self.all.append(viewer)
        viewer.connect()
        return viewer

    @rule(viewer=viewers, size=st.sampled_from([0, 50, 3000, 100_000]))
    def read_some(self, viewer: Viewer, size: int) -> None:
        assert viewer.client is not None
        viewer.client.read_some(size)

    @rule(viewer=viewers)
    def read_on(self, viewer: Viewer) -> None:
        assert viewer.client is not None
        viewer.client.read_on()

    @rule(viewer=viewers, clean=st.booleans(), again=st.booleans())
    def cut(self, viewer: Viewer, clean: bool, again: bool) -> None:
        if viewer.connected:
            viewer.cut(clean=clean)
        if again and not viewer.connected:
            viewer.connect()

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 2.0]))
    def wait(self, seconds: float) -> None:
        self.reactor.rightNow += seconds
        self.turn()

    @rule()
    def turn(self) -> None:
        self.reactor.turn()
        self.look()

    @rule()
    def settle(self) -> None:
        self.reactor.settle()
        self.look()

    def look(self) -> None:
        for viewer in self.all:
            viewer.look()

    def teardown(self) -> None:
        try:
            if self.started:
                self.end()
        finally:
            self.monkeypatch.undo()

    def end(self) -> None:
        """
        At the end, every client that reads has the newest state.
        """
        for viewer in self.all:
            assert viewer.client is not None
            viewer.client.read_on()
        for _ in range(2):
            self.run()
            for viewer in self.all:
                if not viewer.connected:
                    # The policy ``close`` has closed its stream.
                    viewer.look()
                    viewer.connect()
        self.run()
        for viewer in self.all:
            if self.policy != "drop":
                assert viewer.position is not None
                assert viewer.state == self.state_up_to(self.journal.head, viewer)
        stopped = self.hub.stop(deadline=5)
        self.settle()
        for viewer in self.all:
            assert viewer.client is not None
            if viewer.client.connected:
                viewer.client.disconnect(clean=False)
        for _ in range(4):
            self.wait(2)
            self.settle()
        assert stopped.called
        assert self.reactor.getDelayedCalls() == []

    def run(self) -> None:
        for _ in range(30):
            self.settle()
            for viewer in self.all:
                assert viewer.client is not None
                viewer.client.pump()
            self.wait(0.5)


class MachineTests:
    @pytest.mark.parametrize(("kind", "policy"), COMBINATIONS)
    def test_any_order_of_events(self, kind: str, policy: str) -> None:
        """
        After any sequence of publications, removals, cuts and pauses, the state of each client that has
        received an ID is the state at that position.
        """
        examples = 40 if kind == "direct" else 8
        every = settings(
            derandomize=True, deadline=None, max_examples=examples, stateful_step_count=30, database=None
        )
        run_state_machine_as_test(cast(Any, lambda: StateMachine(kind, policy)), settings=every)

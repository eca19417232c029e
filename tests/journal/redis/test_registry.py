"""
Tests of the names that nodes hold in a shared Redis: which node is responsible, and what it learns.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from tests.journal.redis_server import RedisServer
from tests.waiting import until
from txsse import JournalFailed
from txsse.journal.redis import cluster as redis_cluster
from txsse.journal.redis import registry as redis_registry
from txsse.journal.redis.journal import RedisJournal
from txsse.journal.registry import Name

# How often nodes send heartbeats in these tests, in seconds: a node counts as alive for five intervals.
INTERVAL = 0.1

NAMES: list[Name] = [
    (group, name) for group in ("rooms", "7:é") for name in ("ann", ("b", 7), None, -5, "x" * 3000)
]


class Cluster:
    """
    The nodes of a test, and what they were notified of.

    :ivar present: how many more nodes were notified of a new name than of its end.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.present: Counter[Name] = Counter()

    @property
    def living(self) -> list[Node]:
        return [node for node in self.nodes if node.is_alive]

    def held_elsewhere(self, than: Node, group: str) -> dict[Hashable, int]:
        """
        Return the sums of the counts of the other living nodes.
        """
        sums: dict[Hashable, int] = {}
        for node in self.living:
            for (of, name), count in node.held.items():
                if node is not than and of == group:
                    sums[name] = sums.get(name, 0) + count
        return sums

    def is_settled(self) -> bool:
        """
        Return whether one living node is responsible for each name that is held, and none for others.
        """
        held = set().union(*(node.held for node in self.living))
        responsible = Counter(name for node in self.living for name in node.responsible)
        return responsible == Counter(held) and {name for name, of in self.present.items() if of} == held


class Node:
    """
    A node, and what it was notified of.

    :ivar releases: whether it releases the names that it takes over.
    """

    def __init__(self, cluster: Cluster, journal: RedisJournal) -> None:
        self.held: dict[Name, int] = {}
        self.responsible: set[Name] = set()
        self.taken_over_names: list[Name] = []
        self.is_alive = self.releases = True
        self.journal = journal
        self.registry = journal.cluster.registry
        self.registry.listen(self)
        self._cluster = cluster
        cluster.nodes.append(self)

    def put(self, name: Name, count: int | None) -> None:
        if count is None:
            self.held.pop(name, None)
        else:
            self.held[name] = count
        self.registry.put({name: count})

    async def end(self, *, cleanly: bool) -> None:
        """
        End, either by leaving the cluster, or as a killed process does.

        A node has been notified of all that it has registered: a process that is killed before takes the
        notification with it.
        """
        self.is_alive = False
        while self.registry._is_running:
            await wait(0.001)
        if cleanly:
            self.registry.stop()
            await self.journal.cluster.stop()
        else:
            self.registry._has_stopped = True
            self.journal.cluster._listener = None
            self.journal.cluster._cancel_heartbeat()

    def became_responsible(self, name: Name, *, is_new: bool) -> None:
        assert name not in self.responsible
        self.responsible.add(name)
        if is_new:
            self._cluster.present[name] += 1
            assert self._cluster.present[name] == 1, f"{name} is new twice"

    def no_longer_responsible(self, name: Name, *, is_over: bool) -> None:
        assert name in self.responsible
        self.responsible.remove(name)
        if is_over:
            self._cluster.present[name] -= 1
            assert self._cluster.present[name] == 0, f"{name} is over twice"

    def taken_over(self, name: Name) -> None:
        self.taken_over_names.append(name)
        if name not in self.held and self.releases:
            reactor.callLater(0, self._release, name)  # type: ignore[attr-defined]

    def _release(self, name: Name) -> None:
        if name not in self.held:
            self.registry.put({name: None})

    # The listener of the cluster.

    def subscriber_counts(self) -> Mapping[str, int]:
        return Counter()

    def changed_topics(self) -> Collection[str]:
        return ()

    def message_received(self, message: str) -> None: ...

    def messages_missed(self) -> None: ...

    # The follower of the journal.

    def update_appended(self, entry: object) -> None: ...

    def updates_missed(self, position: int) -> None: ...


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(redis_cluster, "_INTERVAL", INTERVAL)
    return Cluster()


Start = Callable[[], Deferred[Node]]


@pytest.fixture
def start(cluster: Cluster, new: Callable[..., Any]) -> Start:
    """
    Start nodes that share a record.
    """

    async def start_one() -> Node:
        node = Node(cluster, new().journal)
        await node.journal.start(node)
        await node.journal.cluster.start(node)
        return node

    return lambda: Deferred.fromCoroutine(start_one())


async def wait(seconds: float) -> None:
    await deferLater(reactor, seconds)  # type: ignore[arg-type]


@pytest.mark.redis
class HoldTests:
    @pytest_twisted.ensureDeferred
    async def test_first_and_last(self, cluster: Cluster, start: Start) -> None:
        """
        The node that holds a name first is responsible, until no node holds it, also if others release it
        later.
        """
        one, other = await start(), await start()
        name = ("rooms", "ann")
        one.put(name, 1)
        await until(lambda: one.responsible == {name})
        other.put(name, 2)
        await until(lambda: name in other.registry._known)
        one.put(name, None)
        await wait(3 * INTERVAL)
        assert (one.responsible, other.responsible) == ({name}, set())
        other.put(name, None)
        await until(cluster.is_settled)
        assert cluster.present == {name: 0}

    @pytest_twisted.ensureDeferred
    async def test_counts(self, cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A node reads the sums of the counts of the other nodes, by group, page by page.
        """
        monkeypatch.setattr(redis_registry, "_SCAN", 10)
        one, two, three = await start(), await start(), await start()
        one.put(("rooms", "ann"), 5)
        two.put(("rooms", "ann"), 2)
        three.put(("rooms", "ann"), 3)
        three.put(("rooms", None), 0)
        three.put(("others", "bob"), 1)
        many: dict[Name, int | None] = {("rooms", number): number for number in range(500)}
        three.registry.put(many)
        three.held |= dict.fromkeys(many, 1)
        await until(cluster.is_settled)
        wanted: dict[Hashable, int] = {number: number for number in range(500)}
        assert await one.registry.counts("rooms") == {"ann": 5, None: 0} | wanted
        assert await three.registry.counts("rooms") == {"ann": 7}
        assert await one.registry.counts("unknown") == {}

    @pytest_twisted.ensureDeferred
    async def test_come_and_gone(self, cluster: Cluster, start: Start) -> None:
        """
        A name that a node releases before it was sent is never reported.
        """
        node = await start()
        node.registry._is_running = True
        node.put(("rooms", "ann"), 1)
        node.put(("rooms", "ann"), None)
        node.registry._is_running = False
        node.put(("rooms", "bob"), 1)
        await until(cluster.is_settled)
        assert set(cluster.present) == {("rooms", "bob")}


@pytest.mark.redis
class EndTests:
    @pytest_twisted.ensureDeferred
    async def test_killed(self, cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Another node takes over the names of a node that was killed, page by page, and is responsible for
        those that the killed node was responsible for.
        """
        monkeypatch.setattr(redis_registry, "_PAGE", 7)
        one, other = await start(), await start()
        own, shared = ("rooms", "own"), ("rooms", "shared")
        for number in range(20):
            one.put(("rooms", number), 1)
        one.put(own, 1)
        one.put(shared, 1)
        await until(cluster.is_settled)
        other.put(shared, 1)
        await until(lambda: shared in other.registry._known)
        await one.end(cleanly=False)
        await until(lambda: len(other.taken_over_names) == 21)
        await until(cluster.is_settled)
        assert other.responsible == {shared}
        assert cluster.present[own] == 0

    @pytest_twisted.ensureDeferred
    async def test_stopped(self, cluster: Cluster, start: Start) -> None:
        """
        A node that stops is responsible for nothing; another one takes its names over, also if that starts
        later.
        """
        one = await start()
        one.put(("rooms", "ann"), 1)
        await until(cluster.is_settled)
        await one.end(cleanly=True)
        assert one.responsible == set()
        assert cluster.present == {("rooms", "ann"): 1}
        other = await start()
        await until(lambda: other.taken_over_names == [("rooms", "ann")])
        await until(cluster.is_settled)
        assert cluster.present == {("rooms", "ann"): 0}

    @pytest_twisted.ensureDeferred
    async def test_nothing_is_left(self, cluster: Cluster, start: Start, server: RedisServer) -> None:
        """
        When no node holds a name any more, and all nodes have stopped, the server has no data of the
        registry.
        """
        one, other = await start(), await start()
        for node in (one, other):
            for name in NAMES:
                node.put(name, 1)
        await until(lambda: all(len(node.registry._known) == len(NAMES) for node in (one, other)))
        for node in (one, other):
            for name in NAMES:
                node.put(name, None)
        await until(lambda: cluster.is_settled() and not any(node.registry._known for node in (one, other)))
        await one.journal.cluster.stop()
        await other.journal.cluster.stop()
        keys = [f"{{txsse}}:nodes:names:{group}" for group in {group for group, _ in NAMES}]
        keys += [f"{{txsse}}:nodes:{node.journal.cluster.node}:held" for node in (one, other)]
        assert server.ask("EXISTS", "{txsse}:nodes:holders", *keys) == ":0\r\n"


@pytest.mark.redis
class LostTests:
    @pytest_twisted.ensureDeferred
    async def test_late_heartbeat(self, cluster: Cluster, start: Start) -> None:
        """
        A node whose names others have taken over, because its heartbeats were late, learns that it is no
        longer responsible, and still holds its names.
        """
        one, other = await start(), await start()
        name = ("rooms", "ann")
        other.releases = False
        one.put(name, 3)
        await until(cluster.is_settled)
        one.journal.cluster._cancel_heartbeat()
        await until(lambda: other.responsible == {name})
        assert one.responsible == {name}
        one.journal.cluster._beat()
        await until(cluster.is_settled)
        assert other.responsible == {name}
        assert await other.registry.counts("rooms") == {"ann": 3}
        assert cluster.present == {name: 1}

    @pytest_twisted.ensureDeferred
    async def test_server_lost_its_data(self, cluster: Cluster, start: Start, server: RedisServer) -> None:
        """
        After the server has lost its data, one node is responsible for each name that is held.
        """
        one, other = await start(), await start()
        for name in NAMES:
            one.put(name, 1)
        await until(cluster.is_settled)
        other.put(NAMES[0], 1)
        await until(lambda: NAMES[0] in other.registry._known)
        one.put(NAMES[0], None)
        await until(lambda: NAMES[0] not in one.registry._known)
        assert server.ask("FLUSHALL") == "+OK\r\n"
        # A name that was new before may be reported as new again.
        cluster.present.clear()
        one.journal._script.session.cut()  # type: ignore[union-attr]
        other.journal._script.session.cut()  # type: ignore[union-attr]

        def one_is_responsible() -> bool:
            responsible = Counter(name for node in cluster.nodes for name in node.responsible)
            return responsible == Counter(NAMES)

        await until(one_is_responsible)


@pytest.mark.redis
class RandomTests:
    @pytest.mark.parametrize("seed", range(6))
    @pytest_twisted.ensureDeferred
    async def test_any_order(
        self, cluster: Cluster, start: Start, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        """
        Whatever nodes put while others are killed, stop, start and lose their connections, each name is
        reported as new and as over in turns, and one node is responsible for each name that is held.
        """
        chance = random.Random(seed)
        monkeypatch.setattr(redis_registry, "_PAGE", chance.choice([2, 3, 250]))
        for _ in range(3):
            await start()
        for step in range(300):
            node = chance.choice(cluster.living)
            node.put(chance.choice(NAMES), chance.choice([None, None, 0, 1, 2]))
            if chance.random() < 0.3:
                await wait(chance.choice([0, 0, 0.002, 0.01, 0.05]))
            if chance.random() < 0.02:
                session = node.journal._script.session
                if session is not None:
                    session.cut()
            if step in (100, 200):
                last = chance.choice(cluster.living)
                await last.end(cleanly=chance.random() < 0.5)
                await start()
        await until(cluster.is_settled)
        for node in cluster.living:
            for group in {group for group, _ in NAMES}:
                while await node.registry.counts(group) != cluster.held_elsewhere(node, group):
                    await wait(INTERVAL)
        for node in cluster.living:
            for name in NAMES:
                node.put(name, None)
        await until(cluster.is_settled)
        assert not any(cluster.present.values())


class FakeServer:
    """
    A server that records commands, and replies when the test says so.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[Any]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.registry = redis_registry.RedisRegistry(self.run, "aa", lambda: 7)
        self.registry.listen(self)

    def run(self, *arguments: Any) -> Deferred[Any]:
        self.asked.append(arguments)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def beat(self, *, was_alive: bool = True, others: bool = False, over: bool = False) -> None:
        self.registry.heartbeat_sent(was_alive=was_alive, others_have_ended=others, some_are_over=over)

    def reply(self, reply: object) -> tuple[Any, ...]:
        """
        Reply to the last command, and return it.
        """
        asked = self.asked.pop()
        self.waiting.pop().callback(reply)
        return asked

    def became_responsible(self, name: Name, *, is_new: bool) -> None:
        self.calls.append((name, is_new))

    def no_longer_responsible(self, name: Name, *, is_over: bool) -> None:
        self.calls.append((name, "over" if is_over else "lost"))

    def taken_over(self, name: Name) -> None:
        self.calls.append((name, "taken over"))


A, B = ("rooms", "a"), ("rooms", "b")


class RegistryTests:
    def test_one_command_at_a_time(self) -> None:
        """
        Counts that are put while a command runs are sent with the next one, and none before a heartbeat.
        """
        server = FakeServer()
        server.registry.put({A: 1})
        assert server.asked == []
        server.beat()
        server.registry.put({B: 1})
        server.registry.put({A: 2, B: None})
        assert server.reply([1]) == ("register", "aa", "rooms", '"a"', 1, 0)
        assert server.reply([0]) == ("register", "aa", "rooms", '"a"', 2, 2)
        assert server.reply([b"0", []]) == ("names_of", "aa", 0, 1000)
        assert server.asked == []
        assert server.calls == [(A, True)]

    def test_lost_reply(self) -> None:
        """
        After a lost reply, all names are sent anew, and those that only the server knows are taken over.
        """
        server = FakeServer()
        server.registry.put({A: 1})
        server.beat()
        server.registry.disconnected()
        server.waiting.pop().errback(JournalFailed("x", "lost"))
        server.registry.put({A: None, B: 1})
        assert len(server.asked) == 1
        server.beat()
        assert server.reply([1, 0])[2:] == ("rooms", '"b"', 1, 0, "rooms", '"a"', "", 1)
        of_server = [
            b"rooms",
            b'"b"',
            1,
            1,
            b"rooms",
            b'"c"',
            1,
            1,
            b"rooms",
            b"{",
            1,
            1,
            b"rooms",
            b'"d"',
            0,
            0,
        ]
        server.reply([b"0", of_server])
        taken = ("rooms", "c")
        assert server.calls == [(B, True), (taken, False), (taken, "taken over")]
        assert server.registry._counts == {B: 1, taken: 0}

    def test_lost_names_of_a_node_that_has_ended(self) -> None:
        """
        A node that has no names learns of those that it was given in a lost reply, also if it is lost again.
        """
        server = FakeServer()
        server.beat(others=True)
        for command in ("take_over", "names_of"):
            assert server.asked.pop()[0] == command
            server.registry.disconnected()
            server.waiting.pop().errback(JournalFailed("x", "lost"))
            server.beat()
        assert server.reply([b"5", [b"rooms", b'"a"', 1, 1]])[0] == "names_of"
        assert server.reply([b"0", []]) == ("names_of", "aa", b"5", 1000)
        assert server.calls == [(A, False), (A, "taken over")]
        assert server.asked == []

    def test_responsible_for_a_name_of_others(self) -> None:
        """
        After a lost connection, a node also sends the names that it is responsible for and does not hold.
        """
        server = FakeServer()
        server.registry.put({A: 1})
        server.beat()
        server.reply([1])
        server.reply([b"0", []])
        server.registry.put({A: None})
        server.reply([0])
        server.registry.disconnected()
        server.beat()
        assert server.reply([3])[2:] == ("rooms", '"a"', "", 2)
        assert server.calls == [(A, True), (A, "lost")]

    def test_taken_over_while_it_is_put(self) -> None:
        """
        The count of a name that is put while the node takes it over is sent. A name that is released
        meanwhile, and that the node did not hold, is taken over.
        """
        server = FakeServer()
        server.beat(others=True)
        server.registry.put({A: 3, B: None})
        server.reply([0, [b"rooms", b'"a"', 0, 1, b"rooms", b'"b"', 0, 1]])
        assert server.reply([0])[2:] == ("rooms", '"a"', 3, 1)
        assert server.asked == []
        assert server.calls == [(B, "taken over")]

    def test_names_that_come_and_go_during_an_outage(self) -> None:
        """
        Names that are put and released while the server is out of reach are neither kept nor sent, unless
        the server may know them.
        """
        server = FakeServer()
        server.registry.put({A: 1})
        server.beat()
        server.registry.disconnected()
        server.waiting.pop().errback(JournalFailed("x", "lost"))
        server.asked.clear()
        for number in range(100):
            name = ("rooms", number)
            server.registry.put({name: 1})
            server.registry.put({name: None})
        server.registry.put({A: None})
        assert list(server.registry._unsent) == [A]
        server.beat()
        assert server.reply([2])[2:] == ("rooms", '"a"', "", 1)
        server.reply([b"0", []])
        assert server.registry._known == set()

    def test_names_over(self) -> None:
        """
        A name that no node holds any more is release, unless the node holds it again.
        """
        server = FakeServer()
        server.registry.put({B: 1})
        server.beat()
        server.reply([0])
        server.reply([b"0", []])
        server.beat(over=True)
        server.reply([b"rooms", b'"a"', b"rooms", b'"b"', b"rooms", b"\xff"])
        assert server.reply([2])[2:] == ("rooms", '"a"', "", 0)
        assert server.calls == [(A, "over")]
        assert server.asked == []

    def test_damaged_names(self) -> None:
        """
        A damaged name of another node is skipped.
        """
        server = FakeServer()
        found: list[object] = []
        server.registry.counts("rooms").addCallback(found.append)
        server.reply([b"0", [b'"a"', 2, b"\xff", 1, b"[", 1]])
        assert found == [{"a": 2}]

    @pytest.mark.parametrize(
        "reply", [[b"0", [b'"a"']], [b"0"], 7, [7, []], [b"0", [7, 7]], [b"0", [b'"a"', b"x"]]]
    )
    def test_malformed_reply(self, reply: Any) -> None:
        """
        A reply of another form fails the Deferred, as uncertain.
        """
        server = FakeServer()
        found: list[Any] = []
        server.registry.counts("rooms").addErrback(lambda failure: found.append(failure.value))
        server.reply(reply)
        assert isinstance(found[0], JournalFailed)
        assert found[0].uncertain

    def test_failure(self, failures: list[LogEvent]) -> None:
        """
        A failure of another kind is logged, and the next heartbeat tries again.
        """
        server = FakeServer()
        server.registry.put({A: 1})
        server.beat()
        server.waiting.pop().errback(ZeroDivisionError())
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]
        server.beat()
        assert len(server.asked) == 2

    def test_stopped(self) -> None:
        """
        A registry that has stopped takes no names over, ignores heartbeats, and sends nothing.
        """
        server = FakeServer()
        server.beat(others=True)
        server.registry.stop()
        assert server.reply([1, [b"rooms", b'"a"', 1, 1]])[0] == "take_over"
        server.beat(was_alive=False)
        server.registry.put({B: 1})
        assert (server.asked, server.calls) == ([], [])

    def test_started_again(self) -> None:
        """
        A registry that listens again after it has stopped sends the new names, and learns of those of before.
        """
        server = FakeServer()
        server.registry.put({A: 1})
        server.beat()
        server.reply([1])
        server.reply([b"0", []])
        server.registry.stop()
        server.registry.disconnected()
        server.calls.clear()
        server.registry.listen(server)
        server.registry.put({B: 1})
        server.beat(was_alive=False)
        assert server.reply([1]) == ("register", "aa", "rooms", '"b"', 1, 0)
        server.reply([b"0", [b"rooms", b'"a"', 1, 1, b"rooms", b'"b"', 1, 1]])
        assert server.calls == [(B, True), (A, False), (A, "taken over")]

    def test_stopped_while_names_are_sent(self) -> None:
        """
        Names that are new, or over, are reported also if the reply arrives after the registry has stopped.
        """
        server = FakeServer()
        server.registry.put({A: 1})
        server.beat()
        server.reply([1])
        server.reply([b"0", []])
        server.registry.put({A: None, B: 1, ("rooms", "c"): 1})
        server.registry.stop()
        server.reply([2, 1, 0])
        assert server.calls == [(A, True), (A, "lost"), (A, "over"), (B, True), (B, "lost")]
        assert server.asked == []

    @pytest.mark.parametrize("command", ["register", "take_over"])
    def test_stopped_by_a_notification(self, command: str) -> None:
        """
        After a notification that stops the registry, it is responsible for no other name of the same reply.
        """
        server = FakeServer()
        if command == "register":
            server.registry.put({A: 1, B: 1})
        server.beat(others=True)

        def begun(name: Name, *, is_new: bool) -> None:
            server.calls.append((name, is_new))
            if name == A:
                server.registry.stop()

        server.became_responsible = begun  # type: ignore[method-assign]
        names = [b"rooms", b'"a"', 1, 0, b"rooms", b'"b"', 1, 0]
        assert server.reply([1, 1] if command == "register" else [1, names])[0] == command
        others = [(B, True), (B, "lost")] if command == "register" else []
        assert server.calls == [(A, command == "register"), (A, "lost"), *others]

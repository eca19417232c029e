"""
Tests of the journal in Redis, with a real Redis: many nodes with one record, outages, and damage.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import cycle
from typing import Any

import hiredis
import pytest
import pytest_twisted
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client
from twisted.logger import LogEvent, formatEvent
from twisted.protocols import portforward

from tests.integration.clients import listen
from tests.journal.journals import Follower, Subject, acknowledged_before_a_kill, redis, silence, update
from tests.journal.redis_server import RedisServer
from tests.waiting import until
from txsse import EventSource, Hub, JournalFailed, ServerSentEvent, Update
from txsse.hub.subscriber import REPLAYING
from txsse.journal.page import Entry
from txsse.journal.position import OLDEST
from txsse.journal.redis import RedisJournal
from txsse.journal.redis import cluster as cluster_module
from txsse.journal.redis import follower as follower_module
from txsse.journal.redis import reader as reader_module
from txsse.journal.redis import script as script_module
from txsse.journal.redis import session as redis_session
from txsse.journal.redis.codec import to_arguments
from txsse.journal.redis.stream_ids import to_number, to_text


class CuttingProxy(portforward.ProxyFactory):
    """
    A proxy that closes each connection after it has forwarded a number of bytes of replies.

    :param budget: returns this number for a new connection.
    """

    noisy = False

    def __init__(self, port: int, budget: Callable[[], int]) -> None:
        super().__init__("127.0.0.1", port)
        self.budget = budget

    def buildProtocol(self, addr: object) -> CuttingServer:
        server = CuttingServer()
        server.factory = self
        server.left = self.budget()
        return server


class CuttingServer(portforward.ProxyServer):
    left = 0

    def connectionMade(self) -> None:
        transport = self.transport
        write = transport.write

        def cutting(data: bytes) -> None:
            write(data[: self.left])
            self.left -= len(data)
            if self.left <= 0:
                transport.loseConnection()

        transport.write = cutting  # type: ignore[method-assign]
        super().connectionMade()


async def problem_of(work: Awaitable[object]) -> JournalFailed:
    """
    Wait for a failure, and return it.
    """
    with pytest.raises(JournalFailed) as raised:
        await work
    return raised.value


def works(*subjects: Subject) -> Callable[[], bool]:
    return lambda: all(subject.journal.problem is None for subject in subjects)


def fails(*subjects: Subject) -> Callable[[], bool]:
    return lambda: all(subject.journal.problem is not None for subject in subjects)


def ids_of(follower: Follower) -> list[str]:
    return [update.id for _, update in follower.given]


class ClusterTests:
    @pytest_twisted.ensureDeferred
    async def test_one_order(self, new: Callable[..., Subject]) -> None:
        """
        Three nodes that publish at once give their followers the same updates in the same order.
        """
        subjects = [new(), new(), new()]
        followers = [await subject.start() for subject in subjects]
        recorded = [
            subject.journal.append(update(f"{node} {number}"))
            for number in range(100)
            for node, subject in enumerate(subjects)
        ]
        for each in recorded:
            await each
        await until(lambda: all(len(follower.given) == 300 for follower in followers))
        assert followers[0].given == followers[1].given == followers[2].given
        assert len(set(ids_of(followers[0]))) == 300

    @pytest_twisted.ensureDeferred
    async def test_id_of_a_dropped_update(self, new: Callable[..., Subject]) -> None:
        """
        An id whose update was dropped may be published again at any node, and all nodes are given the update.
        """
        one, other = new(max_age=60.0, max_count=5), new(max_age=60.0, max_count=5)
        followers = [await one.start(), await other.start()]
        await one.append("daily")
        await until(lambda: len(followers[1].given) == 1)
        # The other node's clock stands still, so it does not know that the update was dropped.
        one.advance(61)
        await one.append("daily", *map(str, range(10)))
        await until(lambda: len(followers[1].given) == 12)
        assert [each.id for _, each in followers[1].given] == [each.id for _, each in followers[0].given]
        assert other.journal.problem is None

    @pytest_twisted.ensureDeferred
    async def test_id_that_only_this_node_holds(self, new: Callable[..., Subject]) -> None:
        """
        An update is recorded again if Redis has dropped its id, although this node still holds it in memory.
        """
        one, other = new(max_bytes=10_000), new(max_bytes=10_000)
        await one.start()
        follower = await other.start()
        await one.append("status", *map(str, range(10)), data="x" * 2000)
        await until(lambda: len(follower.given) == 11)
        assert await other.journal._reader.find("status") is None
        await other.append("status")
        assert ids_of(follower)[-1] == "status"

    @pytest_twisted.ensureDeferred
    async def test_resumed_at_another_node(self, new: Callable[..., Subject]) -> None:
        """
        A client can resume at another node, even at one that started later.
        """
        first = new()
        await first.start()
        await first.append("1", "2", "3")
        second = new()
        await second.start()
        position = await second.find("2")
        assert position is not None
        assert await second.ids_after(position) == ["3"]
        assert await second.journal.at(second.journal.head) == update("3")
        assert second.journal.head == first.journal.head

    @pytest_twisted.ensureDeferred
    async def test_resumed_at_another_node_from_an_empty_journal(self, new: Callable[..., Subject]) -> None:
        """
        The resume ID of an empty journal is valid at another node, and yields a gap once updates are dropped.
        """
        first, second = new(), new(max_count=3)
        await first.start()
        await second.start()
        resume_id = first.journal.resume_id(first.journal.head)
        await first.append("1", "2")
        # The other node receives updates a moment after they are recorded.
        await until(lambda: second.journal.head == first.journal.head)
        position = await second.find(resume_id)
        assert position is not None
        assert await second.ids_after(position) == ["1", "2"]
        await second.append("3", "4")
        page = await second.journal.read(await second.find(resume_id))
        assert page.missed
        assert [found.id for _, found in page.entries] == ["2", "3", "4"]

    @pytest.mark.parametrize("id", ["#99999999999999999999-0", "#0-", "#-1-0", "#1", "#0-0-0", "#٣-0"])
    @pytest_twisted.ensureDeferred
    async def test_malformed_resume_id(self, new: Callable[..., Subject], id: str) -> None:
        """
        A Redis journal does not find a malformed resume ID.
        """
        subject = new()
        await subject.start()
        await subject.append("1")
        assert await subject.find(id) is None

    @pytest.mark.parametrize(("count", "recent_bytes"), [(600, 10**9), (512, 10**9), (600, 100_000)])
    @pytest_twisted.ensureDeferred
    async def test_memory_at_the_start(
        self, new: Callable[..., Subject], count: int, recent_bytes: int
    ) -> None:
        """
        A node that starts reads as many of the newest updates into memory as its limits allow, so that many
        resuming clients do not load Redis.
        """
        first, second = new(max_count=550), new(max_count=550, recent_bytes=recent_bytes)
        await first.start()
        ids = [str(number) for number in range(count)]
        for each in [first.journal.append(update(id)) for id in ids]:
            await each
        await second.start()
        here = [each.id for _, each in second.journal._following.recent.entries()]
        assert here == ids[-len(here) :]
        assert len(here) == (min(count, 550) if recent_bytes == 10**9 else len(here)) > 50
        assert await second.ids_after(OLDEST) == ids[-550:]

    @pytest_twisted.ensureDeferred
    async def test_same_update_at_two_nodes(self, new: Callable[..., Subject]) -> None:
        """
        An equal update that is published at two nodes is recorded once.
        """
        first, second = new(), new()
        followers = [await first.start(), await second.start()]
        one, two = first.journal.append(update("1")), second.journal.append(update("1"))
        assert await one == await two
        await until(lambda: all(follower.given for follower in followers))
        assert [ids_of(follower) for follower in followers] == [["1"], ["1"]]

    @pytest_twisted.ensureDeferred
    async def test_id_of_several_updates(self, new: Callable[..., Subject]) -> None:
        """
        Every node finds the earliest update with an id: a publisher, a follower, a node that started later,
        and one with only the newest in memory.
        """
        first, second = new(), new()
        follower = await first.start()
        await second.start()
        (earliest,) = await first.append("state", data="1")
        await second.append("other")
        await second.append("state", data="2")
        await first.append("state", data="1")
        await until(lambda: len(follower.given) == 4)
        for subject in (first, second, new(), new(recent_bytes=1500)):
            if subject not in (first, second):
                await subject.start()
                assert await subject.ids_after(OLDEST) == ["state", "other", "state", "state"]
            assert await subject.find("state") == earliest

    @pytest_twisted.ensureDeferred
    async def test_id_of_several_that_are_too_old(
        self, server: RedisServer, new: Callable[..., Subject]
    ) -> None:
        """
        An id is not found at updates that are too old, dropped or not; once all are, Redis holds nothing of
        the id.
        """
        subject = new(max_age=60.0, recent_bytes=1)
        await subject.start()
        await subject.append("state", data="1")
        await subject.append("state", data="2")
        subject.advance(50)
        (third,) = await subject.append("state", data="3")
        (fourth,) = await subject.append("state", data="4")
        subject.advance(20)
        assert await subject.find("state") == third
        await subject.append("other")
        assert await subject.find("state") == third
        subject.advance(50)
        assert await subject.find("state") is None
        await subject.append("last")
        assert (server.ask("HLEN", "{txsse}:ids") or "").strip() == ":2"
        (fifth,) = await subject.append("state", data="4")
        assert fifth > fourth

    @pytest_twisted.ensureDeferred
    async def test_other_keys(self, new: Callable[..., Subject]) -> None:
        """
        Journals with different key prefixes share no updates.
        """
        first, second = new(key="a"), new(key="b")
        await first.start()
        await second.start()
        await first.append("1")
        assert await second.find("1") is None
        assert await second.ids_after(OLDEST) == []

    @pytest_twisted.ensureDeferred
    async def test_faster_than_the_bounds(self, new: Callable[..., Subject]) -> None:
        """
        Updates that are dropped at once are still given to the followers of the publishing node and of
        others.
        """
        first, second = new(max_count=5), new(max_count=5)
        followers = [await first.start(), await second.start()]
        ids = [str(number) for number in range(600)]
        for each in [first.journal.append(update(id)) for id in ids]:
            await each
        await until(lambda: len(followers[1].given) == 600)
        assert [ids_of(follower) for follower in followers] == [ids, ids]
        assert not followers[0].missed and not followers[1].missed
        assert await first.ids_after(OLDEST) == ids[-5:]

    @pytest_twisted.ensureDeferred
    async def test_clocks_that_differ(self, new: Callable[..., Subject]) -> None:
        """
        All nodes use the clock of Redis, so a node whose own clock is wrong drops no updates too early.
        """
        right, wrong = new(max_age=60.0), new(max_age=60.0)
        wrong.advance(7200)
        await right.start()
        await right.append("1")
        follower = await wrong.start()
        await wrong.append("2")
        assert ids_of(follower) == ["2"]
        assert await right.ids_after(OLDEST) == await wrong.ids_after(OLDEST) == ["1", "2"]


class Turns(Follower):
    """
    Records the updates that it is given in each turn of the reactor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[list[str]] = []
        self._same_turn = False

    def update_appended(self, entry: Entry) -> None:
        super().update_appended(entry)
        if not self._same_turn:
            self._same_turn = True
            self.turns.append([])
            reactor.callLater(0, self._next_turn)
        self.turns[-1].append(entry[1].id)

    def _next_turn(self) -> None:
        self._same_turn = False


class BatchTests:
    @pytest_twisted.ensureDeferred
    async def test_each_node(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Each node is given a batch in one turn, even if it reads the batch in parts, and all in the same
        order.
        """
        monkeypatch.setattr(follower_module, "_FOLLOW_COUNT", 3)
        subjects = [new(), new()]
        followers = [Turns(), Turns()]
        for subject, follower in zip(subjects, followers, strict=True):
            await subject.journal.start(follower)
        recorded: list[Deferred[Any]] = []
        for number in range(10):
            for name, subject in zip("ab", subjects, strict=True):
                ids = [f"{name}{number}.{each}" for each in range(10)]
                recorded += [
                    subject.journal.append(update(f"{name}{number}")),
                    subject.journal.append_many([update(id) for id in ids]),
                ]
            await deferLater(reactor, 0)
        for each in recorded:
            await each
        await until(lambda: all(len(follower.given) == 220 for follower in followers))
        assert followers[0].given == followers[1].given
        for follower in followers:
            for name in "ab":
                for number in range(10):
                    first, last = f"{name}{number}.0", f"{name}{number}.9"
                    (turn,) = [ids for ids in follower.turns if first in ids or last in ids]
                    begin = turn.index(first)
                    assert turn[begin : begin + 10] == [f"{name}{number}.{each}" for each in range(10)]
            assert follower.missed == []

    @pytest_twisted.ensureDeferred
    async def test_lost_between_its_parts(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A node that loses Redis after it has read a part of a batch is given the whole batch afterwards.
        """
        monkeypatch.setattr(follower_module, "_FOLLOW_COUNT", 3)
        one, other = new(), new()
        await one.start()
        follower = Turns()
        await other.journal.start(follower)
        reads = 0
        wait_for_entries = redis_session.Session.wait_for_entries

        async def losing(session: redis_session.Session, *arguments: Any) -> Any:
            nonlocal reads
            found = await wait_for_entries(session, *arguments)
            if session is other.journal._script.session and found[0]:
                reads += 1
                if reads == 2:
                    session.cut()
                    raise JournalFailed("x", "is lost")
            return found

        monkeypatch.setattr(redis_session.Session, "wait_for_entries", losing)
        ids = [str(number) for number in range(8)]
        await one.journal.append_many([update(id) for id in ids])
        await until(lambda: len(follower.given) == 8)
        assert follower.turns == [ids]
        assert reads > 3
        assert follower.missed == []

    @pytest_twisted.ensureDeferred
    async def test_without_its_end(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A batch whose end is missing from the stream is reported as missed, and the follower is given no part
        of it.
        """
        subject = new(timeout=1.0)
        follower = await subject.start()
        await subject.append("1")
        (last,) = [id for id, _ in entries(server)]
        fields = fields_of(update("2"))
        server.ask("XADD", "{txsse}:updates", "*", "after", last.decode(), *fields, "more", "1")
        await until(lambda: bool(follower.missed))
        assert follower.missed == [to_number(entries(server)[-1][0])]
        assert ids_of(follower) == ["1"]
        await subject.append("3")
        assert ids_of(follower) == ["1", "3"]

    @pytest_twisted.ensureDeferred
    async def test_endless_batch(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A node does not hold back more entries than the largest batch, even if all are marked as unfinished.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1")
        (last,) = [id for id, _ in entries(server)]
        script = """
            local last = ARGV[1]
            for i = 1, 1500 do
                last = redis.call('XADD', KEYS[1], '*', 'after', last, unpack(ARGV, 2))
            end
        """
        server.ask(
            "EVAL", script, "1", "{txsse}:updates", last.decode(), *fields_of(update("2")), "more", "1"
        )
        await until(lambda: len(follower.given) > 1000)


class NodesTests:
    @pytest_twisted.ensureDeferred
    async def test_summed(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Each node returns the sum of the other nodes' subscriber counts, soon after these change.
        """
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.01)
        subjects = [new(), new(), new()]
        followers = [await subject.start() for subject in subjects]

        async def counts(topic: str) -> list[int]:
            return [await subject.journal.cluster.count_subscribers(topic) for subject in subjects]

        async def until_counted(topic: str, *expected: int) -> None:
            await until(lambda: counts(topic), lambda found: found == list(expected))

        await until_counted("*", 0, 0, 0)
        followers[0].counts = {"*": 5, "news": 3}
        followers[1].counts = {"*": 7, "news": 2, "other": 1}
        await until_counted("*", 7, 5, 12)
        await until_counted("news", 2, 3, 5)
        followers[1].counts = {"*": 1}
        await until_counted("news", 0, 3, 3)
        await until_counted("other", 0, 0, 0)
        await subjects[0].journal.stop()
        await until(lambda: subjects[2].journal.cluster.count_subscribers("*"), (1).__eq__)

    @pytest_twisted.ensureDeferred
    async def test_node_that_died(self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The subscribers of a node whose heartbeats have stopped are no longer counted.
        """
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.02)
        dead, alive = new(), new()
        follower = await dead.start()
        await alive.start()
        follower.counts = {"*": 5}
        await until(lambda: alive.journal.cluster.count_subscribers("*"), lambda found: found == 5)
        silence(dead)
        await until(lambda: alive.journal.cluster.count_subscribers("*"), lambda found: found == 0)

    @pytest_twisted.ensureDeferred
    async def test_counts_after_an_outage(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Nodes send all counts anew to a Redis that has lost them; counting fails while Redis is unavailable.
        """
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.2)
        one, other = new(), new()
        follower = await one.start()
        await other.start()
        follower.counts = {f"topic {number}": 1 for number in range(2500)}
        await until(lambda: other.journal.cluster.count_subscribers("topic 2499"), lambda found: found == 1)
        server.kill()
        await until(fails(one, other))
        await problem_of(other.journal.cluster.count_subscribers("*"))
        for file in (server.directory / "appendonlydir").iterdir():
            file.unlink()
        server.start()
        await until(works(one, other))
        await until(lambda: other.journal.cluster.count_subscribers("topic 2499"), lambda found: found == 1)

    @pytest_twisted.ensureDeferred
    async def test_metadata(self, new: Callable[..., Subject]) -> None:
        """
        A node that is given an update finds the metadata put before it, by its name and by the prefix of its
        name.
        """
        one, other, third = new(), new(), new()
        follower = await other.start()
        found: list[Deferred[list[str]]] = []
        update_appended = follower.update_appended

        def look(entry: Entry) -> None:
            update_appended(entry)
            found.append(other.journal.cluster.metadata("a"))

        follower.update_appended = look  # type: ignore[method-assign]
        one.journal.cluster.put_metadata("early", "0")
        await one.start()
        await third.start()
        third.journal.cluster.put_metadata("a/3", "third")
        await third.append("0")
        await until(lambda: len(found) == 1)
        assert await found[0] == ["third"]
        one.journal.cluster.put_metadata("a/1", "first ¹")
        one.journal.cluster.put_metadata("ab", "no")
        await one.append("1")
        await until(lambda: len(found) == 2)
        assert sorted(await found[1]) == ["first ¹", "third"]
        one.journal.cluster.put_metadata("a/2", "second")
        one.journal.cluster.put_metadata("a/1", None)
        await one.append("2")
        await until(lambda: len(found) == 3)
        assert sorted(await found[2]) == ["second", "third"]
        assert await other.journal.cluster.metadata("early") == ["0"]
        assert await other.journal.cluster.metadata("a/2") == ["second"]
        assert await one.journal.cluster.metadata("a") == ["third"]
        assert await other.journal.cluster.metadata("a/1") == []
        for name in ("x*", "x*/1", "x?/1", "x[a]/1", "x\\/1", "xa/1", "é/1"):
            one.journal.cluster.put_metadata(name, name)
        await one.append("3")
        for name, expected in {
            "x*": ["x*", "x*/1"],
            "x?": ["x?/1"],
            "x[a]": ["x[a]/1"],
            "x\\": ["x\\/1"],
            "x": [],
            "é": ["é/1"],
        }.items():
            assert sorted(await other.journal.cluster.metadata(name)) == expected
        await third.journal.stop()
        assert await one.journal.cluster.metadata("a") == []

    @pytest_twisted.ensureDeferred
    async def test_metadata_goes_first(self, new: Callable[..., Subject]) -> None:
        """
        Metadata that is put in the same turn as an update is sent before it.
        """
        subject = new()
        await subject.start()
        await subject.append("1")
        asked: list[Any] = []
        run = subject.journal._script._run

        def noting(session: object, *arguments: Any) -> Deferred[Any]:
            asked.append(arguments[0])
            return run(session, *arguments)

        subject.journal._script._run = noting
        recorded = subject.journal.append(update("2"))
        subject.journal.cluster.put_metadata("a", "b")
        await recorded
        assert [each for each in asked if each in ("put_metadata", "append")] == ["put_metadata", "append"]

    @pytest_twisted.ensureDeferred
    async def test_metadata_after_an_outage(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Nodes send all metadata anew to a Redis that has lost it; the metadata of a dead node expires.
        """
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.02)
        one, other = new(), new()
        await one.start()
        await other.start()
        for number in range(2500):
            one.journal.cluster.put_metadata(f"a/{number}", "the same")
        await one.append("1")
        # A node whose heartbeat is late counts as dead for a moment.
        await until(lambda: other.journal.cluster.metadata("a"), (["the same"] * 2500).__eq__)
        server.kill()
        await until(fails(one, other))
        await problem_of(other.journal.cluster.metadata("a"))
        one.journal.cluster.put_metadata("a/0", None)
        for file in (server.directory / "appendonlydir").iterdir():
            file.unlink()
        server.start()
        await until(works(one, other))
        await until(lambda: other.journal.cluster.metadata("a"), lambda found: len(found) == 2499)
        silence(one)
        await until(lambda: other.journal.cluster.metadata("a"), lambda found: not found)

    @pytest_twisted.ensureDeferred
    async def test_topic_that_no_update_has(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A subscribed topic with a lone surrogate, which no update can have, does not keep the counts from
        being sent.
        """
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.01)
        one, other = new(), new()
        follower = await one.start()
        await other.start()
        follower.counts = {"*": 2, "\ud800": 1, "news": 1}
        for topic in ("news", "\ud800"):
            await until(partial(other.journal.cluster.count_subscribers, topic), (1).__eq__)

    @pytest_twisted.ensureDeferred
    async def test_hubs(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The count of a hub is that of its own subscribers plus those of the other hubs.
        """
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.01)
        hubs = [Hub(journal=RedisJournal(server.url)) for _ in range(2)]
        ports = [await listen(hub.resource("news")) for hub in hubs]
        sources = [
            EventSource(f"http://127.0.0.1:{port.getHost().port}/", event_received=print)
            for port in [ports[0], ports[0], ports[1]]
        ]
        for source in sources:
            source.start()
            await source.when_open()
        for topic, count in ((None, 3), ("news", 3), ("other", 0)):
            for hub in hubs:
                await until(partial(hub.count_subscribers, topic), count.__eq__)
        for source in sources:
            source.close()
        for hub, port in zip(hubs, ports, strict=True):
            await hub.stop()
            await port.stopListening()


class OutageTests:
    @pytest_twisted.ensureDeferred
    async def test_restarted(
        self, server: RedisServer, new: Callable[..., Subject], logged: list[LogEvent]
    ) -> None:
        """
        While Redis is unavailable, publishing fails at once, and updates in memory can be read. When it is
        back, the journal continues without a gap. The beginning and the end of the outage are logged once.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1")
        server.kill()
        await until(fails(subject))
        failing = subject.journal.append(update("2"))
        assert failing.called
        assert not (await problem_of(failing)).uncertain
        assert await subject.ids_after(0) == ["1"]
        await deferLater(reactor, 0.2)
        server.start()
        await until(works(subject))
        await subject.append("2")
        assert ids_of(follower) == ["1", "2"]
        assert not follower.missed
        texts = [formatEvent(event) or "" for event in logged]
        assert len([text for text in texts if "connection is lost" in text]) == 1
        assert len([text for text in texts if "works again" in text]) == 1

    @pytest_twisted.ensureDeferred
    async def test_published_during_an_outage(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A node that lost its connection and is started again reads the updates that others published
        meanwhile.
        """
        lost, other = new(), new()
        followers = [await lost.start(), await other.start()]
        await other.append("1")
        await until(lambda: len(followers[0].given) == 1)
        session = lost.journal._script.session
        reconnect = lost.journal._connect
        lost.journal._connect = lambda: Deferred()
        session.following.cut()
        await until(lambda: lost.journal._script.session is None)
        await other.append("2", "3")
        lost.journal._connect = reconnect
        # The journal waits for a connection that is never established.
        lost.journal._staying.cancel()
        await lost.journal.stop()
        again = await lost.start()
        await other.append("4")
        await until(lambda: len(again.given) == 1)
        assert await lost.ids_after(OLDEST) == ["1", "2", "3", "4"]

    @pytest_twisted.ensureDeferred
    async def test_connections_cut(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If either of its connections is lost, a node reconnects, and its follower is given each update once.
        """
        subject, other = new(), new()
        follower = await subject.start()
        await other.start()
        for number in range(20):
            session = subject.journal._script.session
            (session.following if number % 2 else session.commands).cut()
            await other.append(str(number))
            await until(lambda session=session: subject.journal._script.session not in (None, session))  # type: ignore[misc]
        await until(lambda: len(follower.given) == 20)
        assert ids_of(follower) == [str(number) for number in range(20)]
        assert not follower.missed

    @pytest_twisted.ensureDeferred
    async def test_killed_in_mid_burst(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If Redis is killed during a burst, each acknowledged update is recorded once, and failed ones can be
        published again, and are then recorded once.
        """
        subject = new()
        follower = await subject.start()
        outcomes: dict[str, object] = {}
        for number in range(3000):
            id = str(number)
            subject.journal.append(update(id)).addBoth(lambda result, id=id: outcomes.__setitem__(id, result))
            if number % 100 == 99:
                await deferLater(reactor, 0)
            if number == 1500:
                server.kill()
        await until(lambda: len(outcomes) == 3000)
        acknowledged = [id for id, outcome in outcomes.items() if isinstance(outcome, int)]
        failed = [id for id, outcome in outcomes.items() if not isinstance(outcome, int)]
        assert acknowledged and failed
        server.start()
        await until(works(subject))
        assert [await subject.find(id) is not None for id in acknowledged] == [True] * len(acknowledged)
        for id in failed:
            await subject.append(id)
        assert len(ids_of(follower)) == len(set(ids_of(follower))) == 3000
        assert sorted(await subject.ids_after(OLDEST)) == sorted(map(str, range(3000)))
        assert not follower.missed

    @pytest.mark.process
    @pytest_twisted.ensureDeferred
    async def test_publisher_killed(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        Updates that were acknowledged to a publisher which is then killed are recorded.
        """
        subject = new(max_count=10**9)
        follower = await subject.start()
        acknowledged = acknowledged_before_a_kill(server.url)
        await subject.append("next")
        assert ids_of(follower)[: len(acknowledged)] == acknowledged
        assert await subject.ids_after(OLDEST) == ids_of(follower)

    @pytest_twisted.ensureDeferred
    async def test_cut_in_mid_reply(self, server: RedisServer) -> None:
        """
        If connections are lost within replies or between them, each update is given to the follower once.
        """
        budgets = cycle([3000, 3001, 3017, 3100, 3500, 4000, 5000, 9000])
        proxy = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            CuttingProxy(server.port, lambda: next(budgets))
        )
        subject = redis(f"redis://127.0.0.1:{proxy.getHost().port}", timeout=2.0)
        follower = await subject.start()
        failed = 0
        for number in range(300):
            for _ in range(100):
                try:
                    await subject.append(str(number), data="x" * (number % 50))
                    break
                except JournalFailed:
                    failed += 1
                    await until(works(subject))
        assert failed
        # While the session is lost, publishers do not wait for the follower.
        await until(lambda: len(follower.given) == 300)
        assert ids_of(follower) == [str(number) for number in range(300)]
        assert not follower.missed
        await subject.journal.stop()
        await proxy.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_hangs(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A Redis that hangs for longer than the timeout counts as lost, and an update on its way fails as
        uncertain.
        """
        subject = new(timeout=0.2)
        follower = await subject.start()
        await subject.append("1")
        server.pause()
        error = await problem_of(subject.journal.append(update("2")))
        assert error.uncertain
        assert "no reply for 0.2 s" in error.problem
        await until(lambda: subject.journal._script.session is None)
        assert subject.journal.append(update("3")).addErrback(lambda _: None).called
        await deferLater(reactor, 0.5)
        server.resume()
        await until(works(subject))
        await subject.append("2", "3")
        assert ids_of(follower) == ["1", "2", "3"]

    @pytest_twisted.ensureDeferred
    async def test_restarted_empty(
        self, server: RedisServer, new: Callable[..., Subject], logged: list[LogEvent]
    ) -> None:
        """
        If Redis restarts without its data, this is logged, followers are notified, and new updates are given.
        """
        first, second = new(), new()
        followers = [await first.start(), await second.start()]
        await first.append("1", "2", "3")
        await until(lambda: len(followers[1].given) == 3)
        head = second.journal.head
        server.kill()
        await until(fails(first, second))
        for file in (server.directory / "appendonlydir").iterdir():
            file.unlink()
        server.start()
        await until(works(first, second))
        assert [follower.missed != [] for follower in followers] == [True, True]
        page = await second.read(head)
        assert page.missed
        (position,) = await first.append("4")
        assert position > head
        await until(lambda: len(followers[1].given) == 4)
        assert await second.find("3") is None
        page = await second.read(head)
        assert page.missed
        assert [each.id for _, each in page.entries] == ["4"]
        assert any(
            "has lost updates that it had acknowledged" in (formatEvent(each) or "") for each in logged
        )

    @pytest_twisted.ensureDeferred
    async def test_restarted_empty_with_another_clock(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        New updates are given after Redis lost its data, even if their times are before those of the lost
        entries.
        """
        for number in range(3):
            writer = new()
            await writer.start()
            await writer.append(str(number))
            await writer.journal.stop()
        subject = new(max_count=3)
        follower = await subject.start()
        clock = redis_session.Session.clock

        async def slow_clock(session: redis_session.Session) -> float:
            return await clock(session) - 30

        monkeypatch.setattr(redis_session.Session, "clock", slow_clock)
        server.ask("DEL", "{txsse}:updates", "{txsse}:meta", "{txsse}:ids")
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        await until(fails(subject))
        await until(works(subject))
        await subject.append("new", "newer")
        assert ids_of(follower) == ["new", "newer"]
        assert follower.missed

    @pytest_twisted.ensureDeferred
    async def test_rolled_back(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If the record is set back, as by a failover to a late replica, followers are given the new updates in
        order, and a reader of lost updates gets a gap.
        """
        first, second = new(), new()
        followers = [await first.start(), await second.start()]
        await first.append("1", "2")
        await until(lambda: len(followers[1].given) == 2)
        kept = {file.name: file.read_bytes() for file in (server.directory / "appendonlydir").iterdir()}
        (position,) = await first.append("lost")
        await until(lambda: len(followers[1].given) == 3)
        server.kill()
        await until(fails(first, second))
        await second.journal.stop()
        for name, content in kept.items():
            (server.directory / "appendonlydir" / name).write_bytes(content)
        server.start()
        await until(works(first))
        assert followers[0].missed
        (new_position,) = await first.append("4")
        assert new_position > position
        assert ids_of(followers[0]) == ["1", "2", "lost", "4"]
        assert await first.find("lost") is None
        page = await first.read(position)
        assert page.missed
        assert [each.id for _, each in page.entries] == ["4"]
        two = await first.find("2")
        assert two is not None
        page = await first.read(two)
        assert not page.missed
        assert [each.id for _, each in page.entries] == ["4"]

    @pytest_twisted.ensureDeferred
    async def test_rolled_back_and_longer_again(
        self, server: RedisServer, new: Callable[..., Subject]
    ) -> None:
        """
        A node that reconnects to a record that was set back, and then grew longer than before, gives the new
        updates.
        """
        first, second = new(), new()
        followers = [await first.start(), await second.start()]
        await first.append("1", "2")
        await until(lambda: len(followers[1].given) == 2)
        kept = {file.name: file.read_bytes() for file in (server.directory / "appendonlydir").iterdir()}
        await first.append("lost")
        await until(lambda: len(followers[1].given) == 3)
        connect = second.journal._connect
        second.journal._connect = lambda: _fail()
        server.kill()
        await until(fails(first, second))
        for name, content in kept.items():
            (server.directory / "appendonlydir" / name).write_bytes(content)
        server.start()
        await until(works(first))
        await first.append(*map(str, range(4, 24)))
        second.journal._connect = connect
        await until(works(second))
        await until(lambda: len(followers[1].given) == 23)
        assert ids_of(followers[1]) == ["1", "2", "lost", *map(str, range(4, 24))]
        assert len(followers[1].missed) == 1
        positions = [position for position, _ in followers[1].given]
        assert positions == sorted(positions)

    @pytest_twisted.ensureDeferred
    async def test_positions_after_new_epochs(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        Positions after several new epochs remain below the one that marks a replaying subscriber.
        """
        subject = new()
        await subject.start()
        for _ in range(5):
            await subject.append("1")
            server.ask("FLUSHALL")
            subject.journal._script.session.commands.cut()
            await until(lambda: subject.journal._script.session is None)
            await until(works(subject))
        (position,) = await subject.append("2")
        assert 5 << 128 < position < REPLAYING

    @pytest_twisted.ensureDeferred
    async def test_trimmed_below(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A node that was disconnected until its next updates were dropped notifies its follower, and continues.
        """
        away, other = new(max_count=5), new(max_count=5)
        followers = [await away.start(), await other.start()]
        await other.append("1")
        await until(lambda: len(followers[0].given) == 1)
        head = away.journal.head
        connect = away.journal._connect
        away.journal._connect = lambda: _fail()
        away.journal._script.session.commands.cut()
        await until(fails(away))
        await other.append(*map(str, range(2, 2000)))
        away.journal._connect = connect
        await until(works(away))
        assert followers[0].missed
        assert (await away.read(head)).missed
        await other.append("end")
        await until(lambda: ids_of(followers[0])[-1] == "end")
        assert await away.ids_after(OLDEST) == ["1996", "1997", "1998", "1999", "end"]

    @pytest.mark.parametrize("left", [0, 2])
    @pytest_twisted.ensureDeferred
    async def test_trimmed_by_hand(self, server: RedisServer, new: Callable[..., Subject], left: int) -> None:
        """
        Updates that an operator removes by XTRIM are a gap for readers, and the limits apply to the remaining
        ones.
        """
        subject = new(recent_bytes=1, max_count=10)
        follower = await subject.start()
        positions = await subject.append("1", "2", "3", "4")
        server.ask("XTRIM", "{txsse}:updates", "MAXLEN", str(left))
        assert await subject.ids_after(OLDEST) == ["3", "4"][2 - left :]
        assert await subject.find("1") is None
        assert (await subject.read(positions[0])).missed
        assert not (await subject.read(positions[3])).missed
        await subject.append(*map(str, range(5, 25)))
        assert await subject.ids_after(OLDEST) == [str(number) for number in range(15, 25)]
        assert len(follower.given) == 24
        assert "10" in (server.ask("HLEN", "{txsse}:ids") or "")

    @pytest_twisted.ensureDeferred
    async def test_keys_deleted_by_hand(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A journal whose keys an operator deletes continues, and still holds the updates that remain.
        """
        subject = new(recent_bytes=1)
        follower = await subject.start()
        await subject.append("1", "2")
        server.ask("DEL", "{txsse}:meta", "{txsse}:ids")
        await subject.append("3")
        assert await subject.find("1") is not None
        server.ask("FLUSHALL")
        await subject.append("4")
        assert ids_of(follower) == ["1", "2", "3", "4"]
        assert await subject.ids_after(OLDEST) == ["4"]

    @pytest_twisted.ensureDeferred
    async def test_out_of_memory(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If Redis has no memory left, publishing fails with advice, and reading works; later publishing works
        again.
        """
        subject = new(recent_bytes=1)
        follower = await subject.start()
        await subject.append("1")
        server.ask("CONFIG", "SET", "maxmemory", "1")
        error = await problem_of(subject.append("2"))
        assert "the server has no memory left; raise its maxmemory" in error.problem
        assert not error.uncertain
        assert subject.journal.problem is error or fails(subject)()
        assert await subject.ids_after(OLDEST) == ["1"]
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await subject.append("2")
        assert works(subject)()
        assert ids_of(follower) == ["1", "2"]

    @pytest_twisted.ensureDeferred
    async def test_out_of_memory_without_publishers(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If no client publishes after Redis ran out of memory, the journal tests whether updates are accepted
        again.
        """
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.02)
        monkeypatch.setattr(script_module, "_TRIAL_INTERVAL", 0.02)
        subject = new()
        await subject.start()
        server.ask("CONFIG", "SET", "maxmemory", "1")
        await problem_of(subject.append("1"))
        probes: list[str] = []
        run = subject.journal._script._run

        def counting(session: object, *arguments: Any) -> Deferred[Any]:
            probes.extend(each for each in arguments[:1] if each == "probe")
            return run(session, *arguments)

        subject.journal._script._run = counting
        await until(lambda: len(probes) > 3)
        # A successful read must not end the problem.
        await subject.journal._reader.read(OLDEST)
        assert subject.journal.problem is not None
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await until(works(subject))

    @pytest_twisted.ensureDeferred
    async def test_became_a_replica(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If the Redis master becomes a replica, publishing fails; once it is a master again, publishing works.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1")
        server.ask("REPLICAOF", "127.0.0.1", "1")
        await problem_of(subject.append("2"))
        await until(fails(subject))
        await until(
            lambda: "slave" in str(subject.journal.problem) or "replica" in str(subject.journal.problem)
        )
        server.ask("REPLICAOF", "NO", "ONE")
        await until(works(subject))
        await subject.append("2")
        assert ids_of(follower) == ["1", "2"]

    @pytest_twisted.ensureDeferred
    async def test_script_lost(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If Redis has lost the journal's script, the journal reconnects, loads it again, and publishing works.
        """
        subject = new()
        await subject.start()
        server.ask("SCRIPT", "FLUSH")
        await problem_of(subject.append("1"))
        await until(works(subject))
        await subject.append("1")

    @pytest_twisted.ensureDeferred
    async def test_unavailable_at_the_start(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A journal whose Redis is unavailable fails to start, names the address, and can be started later.
        """
        server.kill()
        subject = new()
        error = await problem_of(subject.start())
        assert f"cannot connect to 127.0.0.1:{server.port}" in error.problem
        assert "check that the server runs there" in error.problem
        server.start()
        await subject.start()
        await subject.append("1")

    @pytest_twisted.ensureDeferred
    async def test_stopped_during_an_outage(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A journal can be stopped at any moment of an outage of Redis.
        """
        for delay in (0.0, 0.01, 0.05):
            server.kill()
            server.start()
            subject = new()
            await subject.start()
            server.kill()
            await until(fails(subject))
            await deferLater(reactor, delay)
            await subject.journal.stop()
            assert subject.journal._staying is None

    @pytest_twisted.ensureDeferred
    async def test_stop(self, new: Callable[..., Subject]) -> None:
        """
        A journal that is stopped first records the appended updates and gives them to its follower.
        """
        subject = new()
        follower = await subject.start()
        recorded = [subject.journal.append(update(str(number))) for number in range(2000)]
        await subject.journal.stop()
        assert all(each.called for each in recorded)
        assert len(follower.given) == 2000
        assert (await problem_of(subject.journal.append(update("late")))).journal.startswith("redis://")

    @pytest_twisted.ensureDeferred
    async def test_hub(self, server: RedisServer) -> None:
        """
        A hub whose Redis is unavailable at the start fails to publish, and works once Redis is available.
        """
        server.kill()
        hub = Hub(journal=RedisJournal(server.url, timeout=10.0))
        assert "cannot connect" in str(await problem_of(hub.publish("news", "x")))
        server.start()
        await hub.publish("news", "x")
        await hub.stop()


def fields_of(update: Update) -> list[str]:
    """
    Return the fields of an entry, after those that the script adds.
    """
    id, topics, _, _, _, data, _, crc = (each.decode() for each in to_arguments(update))
    return ["id", id, "topics", topics, "data", data, "crc", crc]


class StrangeTests:
    """
    Redis holds data that no hub has stored.
    """

    @pytest_twisted.ensureDeferred
    async def test_deeply_nested_entry(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        An entry whose JSON is nested too deeply is skipped.
        """
        subject = new()
        follower = await subject.start()
        entry = ("after", "0-0", "id", "x", "topics", "[" * 50_000, "data", "x")
        server.ask("XADD", "{txsse}:updates", "*", *entry)
        await subject.append("1")
        assert ids_of(follower) == ["1"]
        assert subject.journal.problem is None

    @pytest_twisted.ensureDeferred
    async def test_entries(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        Entries of other programs in the stream are skipped by followers and readers, also by a new node.
        """
        subject = new(recent_bytes=1)
        follower = await subject.start()
        await subject.append("1")
        server.ask("XADD", "{txsse}:updates", "*", "a", "b")
        server.ask("XADD", "{txsse}:updates", "*", "after", "x", "id", "y", "topics", "z", "data", "")
        await deferLater(reactor, 0.05)
        assert subject.journal._script.session is not None
        assert await subject.ids_after(OLDEST) == ["1"]
        other = new()
        await other.start()
        assert await other.ids_after(OLDEST) == ["1"]
        await subject.append("2", "3")
        assert ids_of(follower) == ["1", "2", "3"]
        assert await subject.ids_after(OLDEST) == ["1", "2", "3"]

    @pytest_twisted.ensureDeferred
    async def test_entry_from_the_future(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        After an entry of another program with a time in the future, updates are recorded and given in order.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1")
        server.ask("XADD", "{txsse}:updates", "9999999999999-0", "a", "b")
        await subject.append("2", "3")
        assert ids_of(follower) == ["1", "2", "3"]
        assert await subject.ids_after(OLDEST) == ["1", "2", "3"]

    @pytest_twisted.ensureDeferred
    async def test_entry_that_does_not_fit(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        An update whose entry names another previous entry than the last one is given after a notification of
        a gap.
        """
        subject = new()
        follower = await subject.start()
        (position,) = await subject.append("1")
        server.ask("XADD", "{txsse}:updates", "*", "after", "5-5", *fields_of(update("2")))
        await until(lambda: len(follower.given) == 2)
        assert follower.missed == [position]

    @pytest_twisted.ensureDeferred
    async def test_other_record_with_the_same_number(
        self, server: RedisServer, new: Callable[..., Subject]
    ) -> None:
        """
        A node detects that its newest entry was replaced by another update with the same entry id.
        """
        subject = new()
        follower = await subject.start()
        (position,) = await subject.append("1")
        number = to_text(position)
        server.ask("DEL", "{txsse}:updates", "{txsse}:meta", "{txsse}:ids")
        server.ask("XADD", "{txsse}:updates", number, "after", "0-0", *fields_of(update("other")))
        subject.journal._script.session.commands.cut()
        await until(lambda: len(follower.given) == 2)
        assert ids_of(follower) == ["1", "other"]
        assert len(follower.missed) == 1

    @pytest_twisted.ensureDeferred
    async def test_keys_of_another_type(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A journal whose Redis key has the wrong type fails to start or reconnect until the key is removed.
        """
        server.ask("SET", "{txsse}:meta", "x")
        subject = new()
        assert "WRONGTYPE" in (await problem_of(subject.start())).problem
        server.ask("DEL", "{txsse}:meta")
        follower = await subject.start()
        await subject.append("1")
        server.ask("RENAME", "{txsse}:meta", "kept")
        server.ask("SET", "{txsse}:meta", "x")
        subject.journal._script.session.commands.cut()
        await until(lambda: "WRONGTYPE" in str(subject.journal.problem))
        server.ask("DEL", "{txsse}:meta")
        server.ask("RENAME", "kept", "{txsse}:meta")
        await until(works(subject))
        await subject.append("2")
        assert ids_of(follower) == ["1", "2"]

    @pytest_twisted.ensureDeferred
    async def test_follower_that_fails(self, new: Callable[..., Subject], failures: list[LogEvent]) -> None:
        """
        If a follower raises an exception for an update, it is logged, and the next update is given.
        """

        class Failing(Follower):
            def update_appended(self, entry: Entry) -> None:
                super().update_appended(entry)
                if entry[1].id == "1":
                    raise RuntimeError("no")

        subject = new()
        follower = Failing()
        await subject.journal.start(follower)
        await subject.append("1", "2")
        assert ids_of(follower) == ["1", "2"]
        assert len(failures) == 1

    @pytest_twisted.ensureDeferred
    async def test_follower_that_fails_after_an_outage(
        self, server: RedisServer, new: Callable[..., Subject], failures: list[LogEvent]
    ) -> None:
        """
        If a follower raises an exception for missed updates, it is logged, and the next update is given.
        """

        class Failing(Follower):
            def updates_missed(self, position: int) -> None:
                super().updates_missed(position)
                if len(self.missed) == 1:
                    raise RuntimeError("no")

        subject = new()
        follower = Failing()
        await subject.journal.start(follower)
        await subject.append("1")
        server.ask("FLUSHALL")
        subject.journal._script.session.commands.cut()
        await until(lambda: len(failures) == 1)
        await until(works(subject))
        await subject.append("2")
        assert ids_of(follower) == ["1", "2"]

    @pytest_twisted.ensureDeferred
    async def test_stopped_while_it_tidies(self, new: Callable[..., Subject]) -> None:
        """
        A journal that is stopped while it tidies does not tidy again.
        """
        subject = new()
        await subject.start()
        tidying = subject.journal._tidying
        tidying.cancel()
        subject.journal._tidy()
        await subject.journal.stop()
        assert subject.journal._tidying is None
        subject.journal._tidy_later()
        assert subject.journal._tidying is None

    @pytest_twisted.ensureDeferred
    async def test_second_connection_refused(
        self, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If the second connection of a session fails, the first one is closed.
        """
        links: list[Any] = []
        connect = redis_session.connect  # type: ignore[attr-defined]

        async def once(*arguments: Any, **options: Any) -> Any:
            if links:
                raise JournalFailed("redis", "too many")
            links.append(await connect(*arguments, **options))
            return links[0]

        monkeypatch.setattr(redis_session, "connect", once)
        assert "too many" in (await problem_of(new().start())).problem
        await links[0].when_lost


def entries(server: RedisServer) -> list[tuple[bytes, list[bytes]]]:
    """
    Return the ids and fields of all entries in the stream.
    """
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"XRANGE {txsse}:updates - +\r\n")
        reader = hiredis.Reader()
        while (found := reader.gets()) is False:
            reader.feed(connection.recv(65536))
    return [(number, flat) for number, flat in found]


def change(server: RedisServer, change: Callable[[int, list[bytes]], list[bytes]]) -> None:
    """
    Replace the fields of entries, which keep their ids, to simulate damage.
    """
    known = entries(server)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        reader = hiredis.Reader()
        commands: list[list[bytes]] = [[b"DEL", b"{txsse}:updates"]]
        for index, (number, flat) in enumerate(known):
            commands.append([b"XADD", b"{txsse}:updates", number, *change(index, flat)])
        for command in commands:
            parts = [b"$%d\r\n%b\r\n" % (len(each), each) for each in command]
            connection.sendall(b"*%d\r\n%b" % (len(command), b"".join(parts)))
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(65536))
            assert not isinstance(reply, Exception), reply


def damage(server: RedisServer, *indices: int) -> None:
    """
    Flip a bit in the data of entries.
    """

    def flip(index: int, flat: list[bytes]) -> list[bytes]:
        return [each.replace(b"secret", b"secreu") if index in indices else each for each in flat]

    change(server, flip)


class DamageTests:
    """
    Damaged entries in the stream.
    """

    async def read(self, subject: Subject, after: int) -> list[object]:
        """
        Read to the head, and return the ids, with ``None`` at each gap.
        """
        found: list[object] = []
        while True:
            page = await subject.read(after)
            await subject.check_gap(page)
            found += [*([None] if page.missed else []), *(each.id for _, each in page.entries)]
            after = page.end
            if after >= subject.journal.head:
                assert after == subject.journal.head
                return found

    @pytest.mark.parametrize("recent_bytes", [1, 10**6])
    @pytest.mark.parametrize(
        ("damaged", "expected"),
        [
            ([2], ["0", "1", None, "3", "4", "5"]),
            ([0], [None, "1", "2", "3", "4", "5"]),
            ([0, 1, 3, 4], [None, "2", None, "5"]),
            ([5], ["0", "1", "2", "3", "4", None]),
            ([4, 5], ["0", "1", "2", "3", None]),
            (range(6), [None]),
        ],
        ids=str,
    )
    @pytest_twisted.ensureDeferred
    async def test_read(
        self,
        server: RedisServer,
        new: Callable[..., Subject],
        logged: list[LogEvent],
        recent_bytes: int,
        damaged: list[int],
        expected: list[object],
    ) -> None:
        """
        Damaged entries are skipped, and each run of them is one gap. Each is counted and logged once, without
        its content. A node can start with them.
        """
        writer = new()
        await writer.start()
        await writer.append(*map(str, range(6)), data="secret")
        await writer.journal.stop()
        damage(server, *damaged)
        subject = new(recent_bytes=recent_bytes)
        follower = await subject.start()
        assert await self.read(subject, OLDEST) == expected
        assert await self.read(subject, OLDEST) == expected
        numbers = [number for number, _ in entries(server)]
        position = to_number(numbers[3])
        if "3" in expected:
            assert await self.read(subject, position) == expected[expected.index("3") + 1 :]
        assert subject.journal.damaged == len(damaged)
        lines = [text for text in map(formatEvent, logged) if text and "is damaged" in text]
        assert len(lines) == len(damaged)
        assert all(numbers[index].decode() in "".join(lines) for index in damaged)
        assert not any("secre" in str(each) for each in logged)
        assert subject.journal.problem is None
        newest = await subject.journal.at(subject.journal.head)
        assert newest is None if 5 in damaged else newest.id == "5"
        head = subject.journal.head
        await subject.append("6")
        assert ids_of(follower) == ["6"]
        assert await self.read(subject, head) == ["6"]

    @pytest_twisted.ensureDeferred
    async def test_whole_pages(
        self, server: RedisServer, new: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A run of damaged entries over several pages is a single gap.
        """
        for module in (follower_module, reader_module):
            monkeypatch.setattr(module, "PAGE_COUNT", 4)
        writer = new()
        await writer.start()
        await writer.append(*map(str, range(30)), data="secret")
        damage(server, *range(3, 25))
        subject = new()
        await subject.start()
        assert await self.read(subject, OLDEST) == ["0", "1", "2", None, *map(str, range(25, 30))]
        assert subject.journal.damaged == 22

    @pytest_twisted.ensureDeferred
    async def test_at(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        The id of a damaged entry is found, but there is no update at its position; a damaged id is not found.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        positions = await subject.append("1", "2", data="secret")
        damage(server, 0)
        assert await subject.find("1") == positions[0]
        assert await subject.journal.at(positions[0]) is None
        assert subject.journal.damaged == 1
        change(server, lambda index, flat: [b"3" if each == b"2" else each for each in flat])
        assert await subject.find("2") is None

    @pytest.mark.parametrize("name", [b"after", b"id", b"topics", b"data", b"crc"])
    @pytest_twisted.ensureDeferred
    async def test_counted_anew(self, server: RedisServer, new: Callable[..., Subject], name: bytes) -> None:
        """
        A new count of the entries keeps damaged ones, whichever of their fields is damaged.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        await subject.append("1", "2", "3")
        change(
            server,
            lambda index, flat: [b"x" if index == 1 and each == name else each for each in flat],
        )
        server.ask("HSET", "{txsse}:meta", "count", "junk")
        await subject.append("4")
        assert await self.read(subject, OLDEST) == ["1", None, "3", "4"]
        assert server.ask("HGET", "{txsse}:meta", "count") == "$1\r\n4\r\n"

    @pytest_twisted.ensureDeferred
    async def test_live(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A damaged entry that is read while following is skipped, the follower is notified, and readers get a
        gap there.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1")
        (position,) = await subject.append("2")
        for number in (1, 2):
            entry = f"{(position >> 64) + number}-0"
            server.ask("XADD", "{txsse}:updates", entry, "after", to_text(position))
        server.ask("HSET", "{txsse}:meta", "last", f"{(position >> 64) + 1}-0")
        await until(lambda: subject.journal.damaged == 2)
        await subject.append("3")
        assert ids_of(follower) == ["1", "2", "3"]
        assert len(follower.missed) >= 2
        assert await self.read(subject, position) == [None, "3"]
        assert await self.read(subject, OLDEST) == ["1", "2", None, "3"]

    @pytest_twisted.ensureDeferred
    async def test_damaged_after(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        An entry that names a later entry as the previous one does not keep the node from following the
        stream.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1")
        entry = ("after", "9999999999999-0", "id", "x", "topics", '["news"]', "data", "x")
        server.ask("XADD", "{txsse}:updates", "*", *entry)
        await until(lambda: subject.journal.damaged == 1)
        await subject.append("2")
        assert ids_of(follower) == ["1", "2"]

    @pytest_twisted.ensureDeferred
    async def test_hub(self, server: RedisServer) -> None:
        """
        Clients of a hub are sent one stream-reset at a damaged entry, also in a replay from the earliest
        update, and the metrics count it.
        """
        hub = Hub(journal=RedisJournal(server.url))
        for number in range(4):
            await hub.publish("news", "secret", id=str(number))
        await hub.stop()
        damage(server, 2)
        hub = Hub(journal=RedisJournal(server.url))
        port = await listen(hub.resource("news"))
        url = f"http://127.0.0.1:{port.getHost().port}/"

        async def resume(last_id: str, expected: list[str]) -> list[str]:
            before = hub.metrics().gaps
            got: list[ServerSentEvent] = []
            source = EventSource(url, last_event_id=last_id, event_received=got.append)
            source.start()
            await source.when_open()
            await hub.publish("news", "secret", id="4")
            await until(lambda: got and got[-1].id == "4")
            source.close()
            assert [each.id if each.event == "message" else each.event for each in got] == expected
            assert hub.metrics().gaps - before == expected.count("stream-reset")
            return [each.id or "" for each in got if each.event == "stream-reset"]

        resets = []
        for last_id, expected in {
            "earliest": ["0", "1", "stream-reset", "3", "4"],
            "unknown": ["stream-reset", "0", "1", "stream-reset", "3", "4"],
            "0": ["1", "stream-reset", "3", "4"],
            "1": ["stream-reset", "3", "4"],
            "2": ["3", "4"],
            "3": ["4"],
        }.items():
            resets += await resume(last_id, expected)
        begin = resets.pop(1)
        assert len(set(resets)) == 1
        await resume(resets[0], ["3", "4"])
        await resume(begin, ["0", "1", "stream-reset", "3", "4"])
        assert hub.metrics().damaged == 1
        assert hub.problem is None
        await hub.stop()
        await port.stopListening()


class HashTests:
    """
    Damaged values in the hashes of the journal.
    """

    # Ids and numbers are parsed by one function each, so one name has all values.
    @pytest.mark.parametrize(
        ("name", "junk"),
        [
            *(("last", junk) for junk in ("", "x", "5", "99999999999999999999-0")),
            *(("bytes", junk) for junk in ("", "x", "-1", "nan", "1e999", "5", "0x10")),
            *((name, junk) for name in ("count", "gone", "gone_bytes") for junk in ("x", "5")),
            *(("floor", junk) for junk in ("x", "99999999999999999999-0")),
            *(("secret", junk) for junk in ("", "x")),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_junk(
        self,
        server: RedisServer,
        new: Callable[..., Subject],
        failures: list[LogEvent],
        name: str,
        junk: str,
    ) -> None:
        """
        With a damaged value in the journal's hash, nodes start and continue, keep the limits, and lose no
        update.
        """
        one = new(max_count=10, recent_bytes=1)
        follower = await one.start()
        positions = await one.append(*map(str, range(15)))
        server.ask("HSET", "{txsse}:meta", name, junk)
        other = new(max_count=10, recent_bytes=1)
        await other.start()
        assert await other.ids_after(positions[9]) == [str(number) for number in range(10, 15)]
        await one.append(*map(str, range(15, 20)))
        assert ids_of(follower) == [str(number) for number in range(20)]
        await until(lambda: other.journal.head == one.journal.head)
        assert (await other.ids_after(OLDEST))[-10:] == [str(number) for number in range(10, 20)]
        await one.append(*map(str, range(20, 35)))
        assert await one.ids_after(OLDEST) == [str(number) for number in range(25, 35)]
        assert (await one.read(positions[0])).missed
        assert one.journal.problem is other.journal.problem is None
        assert failures == []

    @pytest_twisted.ensureDeferred
    async def test_hash_deleted(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        After the journal's hashes are deleted, a reader from before the oldest update still gets a gap.
        """
        subject = new(max_count=10, recent_bytes=1)
        await subject.start()
        positions = await subject.append(*map(str, range(1200)))
        server.ask("DEL", "{txsse}:meta", "{txsse}:ids")
        assert (await subject.read(positions[0])).missed
        server.ask("XTRIM", "{txsse}:updates", "MAXLEN", "0")
        server.ask("DEL", "{txsse}:meta")
        assert (await subject.read(positions[0])).entries == []

    @pytest.mark.parametrize("junk", ["", "x", "1-x", "0-0"])
    @pytest_twisted.ensureDeferred
    async def test_id(self, server: RedisServer, new: Callable[..., Subject], junk: str) -> None:
        """
        An id whose entry is damaged in the hash is not found, and can be published again.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        await subject.append("1", "2")
        server.ask("HSET", "{txsse}:ids", "1", junk)
        assert await subject.find("1") is None
        await subject.append("1")
        assert await subject.ids_after(OLDEST) == ["1", "2", "1"]

    @pytest_twisted.ensureDeferred
    async def test_id_of_another_entry(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        An id for which the hash has the entry of another update is not found.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        positions = await subject.append("1", "2")
        server.ask("HSET", "{txsse}:ids", "1", to_text(positions[1]))
        assert await subject.find("1") is None

    @pytest.mark.parametrize("junk", ["", "x", "1-1 x", "1-1 1-1", "x 1-1", "1-1  1-1"])
    @pytest_twisted.ensureDeferred
    async def test_id_of_several(self, server: RedisServer, new: Callable[..., Subject], junk: str) -> None:
        """
        An id of several updates whose value in the hash is damaged is not found, and can be published again.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        await subject.append("1", "2")
        await subject.append("1", data="y")
        server.ask("HSET", "{txsse}:ids", "1", junk)
        assert await subject.find("1") is None
        (again,) = await subject.append("1", data="y")
        assert await subject.find("1") == again

    @pytest.mark.parametrize("junk", [None, "", "x", "0-0"])
    @pytest_twisted.ensureDeferred
    async def test_next_of_several(
        self, server: RedisServer, new: Callable[..., Subject], junk: str | None
    ) -> None:
        """
        If the hash has no valid next entry for an id of several updates, the newest one is found.
        """
        subject = new(max_count=3, max_age=60.0, recent_bytes=1)
        await subject.start()
        first, *_, last = [(await subject.append("1", data=data))[0] for data in "abc"]
        key = "\0" + to_text(first)
        server.ask("HDEL", "{txsse}:ids", key)
        if junk is not None:
            server.ask("HSET", "{txsse}:ids", key, junk)
        await subject.append("2")
        assert await subject.find("1") == last
        await subject.append("3", "4")
        assert await subject.find("1") is None

    @pytest_twisted.ensureDeferred
    async def test_ids_lost(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A lost hash of ids is rebuilt from the stream, with the earliest and the newest entry of each id.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        first, _, last = [(await subject.append("1", data=data))[0] for data in "abc"]
        before = sorted((server.ask("HGETALL", "{txsse}:ids") or "").split("\n"))
        server.ask("DEL", "{txsse}:ids")
        server.ask("HSET", "{txsse}:meta", "count", "x")
        assert await subject.append("1", data="c") == [last]
        assert await subject.find("1") == first
        assert sorted((server.ask("HGETALL", "{txsse}:ids") or "").split("\n")) == before

    @pytest_twisted.ensureDeferred
    async def test_count_of_a_node(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A node's subscriber count that is not a number counts as 0.
        """
        subject = new()
        await subject.start()
        server.ask("ZADD", "{txsse}:nodes", "9999999999999", "other")
        server.ask("HSET", "{txsse}:nodes:other:counts", "news", "x", "*", "3")
        assert await subject.journal.cluster.count_subscribers("news") == 0
        assert await subject.journal.cluster.count_subscribers("*") == 3


class RefusalTests:
    """
    Redis refuses some commands and accepts others.
    """

    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster_module, "_INTERVAL", 0.01)
        monkeypatch.setattr(script_module, "_TRIAL_INTERVAL", 0.01)

    async def trials(self, subject: Subject, *commands: str) -> list[JournalFailed | None]:
        """
        Wait until each command was sent four times, and return the problems at these times.
        """
        problems: list[JournalFailed | None] = []
        asked: list[str] = []
        run = subject.journal._script._run

        def noting(session: object, *arguments: Any) -> Deferred[Any]:
            asked.append(arguments[0])
            problems.append(subject.journal.problem)
            return run(session, *arguments)

        subject.journal._script._run = noting
        await until(lambda: all(asked.count(each) > 3 for each in commands))
        subject.journal._script._run = run
        return problems

    @pytest_twisted.ensureDeferred
    async def test_no_permission_to_add(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If Redis refuses updates, the problem remains although other commands and a new session succeed, until
        updates are accepted. The trials leave no data.
        """
        subject = new()
        follower = await subject.start()
        await subject.append("1")
        server.ask("ACL", "SETUSER", "default", "-xadd")
        await problem_of(subject.append("2"))
        assert None not in await self.trials(subject, "probe", "heartbeat")
        subject.journal._script.session.commands.cut()
        await until(lambda: subject.journal._script.session is None)
        await until(lambda: subject.journal._script.session is not None)
        assert "has no permission for a command" in str(subject.journal.problem)
        assert None not in await self.trials(subject, "probe", "heartbeat")
        server.ask("ACL", "SETUSER", "default", "+xadd")
        await until(works(subject))
        await subject.append("2")
        assert ids_of(follower) == await subject.ids_after(OLDEST) == ["1", "2"]
        assert server.ask("XLEN", "{txsse}:updates") == ":2\r\n"
        assert server.ask("HLEN", "{txsse}:ids") == ":2\r\n"
        assert not follower.missed

    @pytest_twisted.ensureDeferred
    async def test_no_permission_to_read(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        If Redis refuses reads, the journal retries them until they work.
        """
        subject = new(recent_bytes=1)
        await subject.start()
        await subject.append("1")
        server.ask("ACL", "SETUSER", "default", "-xrange")
        await problem_of(subject.journal._reader.read(OLDEST))
        assert None not in await self.trials(subject, "read", "heartbeat")
        server.ask("ACL", "SETUSER", "default", "+xrange")
        await until(works(subject))


class StopTests:
    @pytest_twisted.ensureDeferred
    async def test_stopped_by_its_last_update(self, server: RedisServer) -> None:
        """
        A journal that is stopped by the callback of its last update keeps no connection.
        """

        def connections() -> int:
            return sum(isinstance(each, Client) for each in reactor.getReaders())

        before = connections()
        for number in range(3):
            journal = RedisJournal(server.url)
            await journal.start(Follower())
            await journal.append(update(str(number)))
            await journal.stop()
            for recorded in (journal.append(update("late")), journal.append_many([update("late")])):
                assert isinstance(await problem_of(recorded), JournalFailed)
        await until(lambda: connections() == before)


class BoundTests:
    @pytest_twisted.ensureDeferred
    async def test_pending(self, new: Callable[..., Subject]) -> None:
        """
        An update fails at once if it would exceed max_pending, unless no other one waits.
        """
        subject = new(max_pending=2000)
        await subject.start()
        first = subject.journal.append(update("1", data="x" * 5000))
        assert "wait to be recorded" in str(await problem_of(subject.journal.append(update("2"))))
        assert "wait to be recorded" in str(await problem_of(subject.journal.append_many([update("2")])))
        await first
        assert await subject.journal.append_many([]) == []
        await subject.append("2")

    @pytest_twisted.ensureDeferred
    async def test_tidied(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        Updates that are too old are dropped and removed from Redis, even if no client publishes.
        """
        subject = new(max_age=60.0)
        await subject.start()
        await subject.append(*map(str, range(2500)))
        subject.advance(61)
        subject.journal._tidying.reset(0)
        await until(lambda: server.ask("XLEN", "{txsse}:updates") == ":0\r\n")
        assert server.ask("HLEN", "{txsse}:ids") == ":0\r\n"
        await until(lambda: subject.journal._tidying is not None)
        assert await subject.ids_after(OLDEST) == []

    @pytest_twisted.ensureDeferred
    async def test_large_updates(self, new: Callable[..., Subject]) -> None:
        """
        Large updates are sent in several calls and read in several pages, in order.
        """
        subject = new(recent_bytes=1)
        follower = await subject.start()
        ids = [str(number) for number in range(40)]
        for each in [subject.journal.append(update(id, data="x" * 100_000)) for id in ids]:
            await each
        assert ids_of(follower) == ids
        assert await subject.ids_after(OLDEST) == ids

    @pytest.mark.parametrize("options", [{"max_count": 0}, {"timeout": 0.0}, {"timeout": float("inf")}])
    def test_invalid_options(self, options: dict[str, Any]) -> None:
        """
        An invalid option of a Redis journal raises ValueError with its name.
        """
        (name,) = options
        with pytest.raises(ValueError, match=name):
            RedisJournal("redis://localhost", **options)


async def _fail() -> Any:
    raise JournalFailed("redis", "not now")

"""
Streams that are cut off by their key, at hubs that share a Redis and publish meanwhile, on the real reactor.

In between, a node is killed, loses its connection to Redis, or fails, and Redis is killed.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent
from twisted.protocols.portforward import ProxyFactory

from tests.integration.clients import listen, listen_tls
from tests.integration.test_cluster import stream_of
from tests.integration.test_hub import Visitor
from tests.journal.redis_server import RedisServer, running
from tests.processes import Program, python, start
from tests.waiting import until, wait_until
from txsse import Access, Hub, JournalFailed, NotAcknowledged
from txsse.journal.redis import RedisJournal
from txsse.journal.redis import cluster as redis_cluster
from txsse.journal.redis.cluster import RedisCluster

pytestmark = [pytest.mark.redis, pytest.mark.process]

KEYS = ["ann", "bob"]
KINDS = ["plain", "HTTP/2"]
TOPICS = ["news", "secret"]

# How often nodes send heartbeats in these tests, in seconds: a node counts as alive for five intervals.
INTERVAL = 0.4

# How long a broadcast waits in these tests, in seconds.
DEADLINE = 4.0

# A node in a process of its own.
PROGRAM = f"""
import sys
from twisted.internet import reactor
from twisted.web.server import Site
from txsse import Access, Hub
from txsse.journal.redis import RedisJournal, cluster
cluster._INTERVAL = {INTERVAL}
hub = Hub(journal=RedisJournal(sys.argv[1]))
port = reactor.listenTCP(0, Site(hub.resource(Access({TOPICS!r}, key="ann"))), interface="127.0.0.1")
hub.start().addCallback(lambda _: print(f"port {{port.getHost().port}} of {{hub.cluster.node}}", flush=True))
reactor.run()
"""


class Node:
    """
    A hub, its ports, and two clients of each key.

    :param url: where it finds Redis.
    """

    def __init__(self, url: str) -> None:
        self.hub = Hub(journal=RedisJournal(url, timeout=20.0))
        self.visitors: dict[str, list[Visitor]] = {}
        self._ports: list[Any] = []

    @property
    def name(self) -> str:
        return name_of(self.hub)

    async def start(self, certificate: Path) -> None:
        """
        Serve the hub, and connect its clients.
        """
        await self.hub.start()
        for key in KEYS:
            resource = self.hub.resource(Access(TOPICS, key=key))
            plain, tls = await listen(resource), await listen_tls(resource, certificate)
            self._ports += [plain, tls]
            self.visitors[key] = [
                Visitor("plain", plain, certificate),
                Visitor("HTTP/2", tls, certificate),
            ]
            for visitor in self.visitors[key]:
                await visitor.connect()
                await until(lambda visitor=visitor: visitor.look() or visitor.last_id)  # type: ignore[misc]

    async def stop(self) -> None:
        for port in self._ports:
            await port.stopListening()
        for visitors in self.visitors.values():
            for visitor in visitors:
                visitor.stream.transport.abortConnection()
        await self.hub.stop(deadline=1.0)


class Publisher:
    """
    Publishes numbers at all nodes, all the time.

    :ivar number: the next number.
    :ivar waiting: how many updates are neither recorded nor have failed.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self.number = self.waiting = 0
        self._nodes = nodes
        self._loop = LoopingCall(self._publish)

    def start(self) -> None:
        self._loop.start(0.01).addErrback(lambda failure: failure.trap())

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def _publish(self) -> None:
        for node in self._nodes:
            self.waiting += 1
            node.hub.publish(TOPICS[self.number % 2], str(self.number)).addBoth(self._has_ended)
            self.number += 1

    def _has_ended(self, _: object) -> None:
        # While Redis cannot be reached, publishing fails.
        self.waiting -= 1

    async def wait(self) -> None:
        """
        Wait until each node has published further updates.
        """
        wanted = self.number + 30
        await until(lambda: self.number >= wanted)


class World:
    """
    Several nodes in this process.
    """

    def __init__(self, server: RedisServer, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.hub = nodes[0].hub
        self.publisher = Publisher(nodes)
        self._server = server

    def of(self, key: str, nodes: list[Node] | None = None) -> list[Visitor]:
        return [visitor for node in nodes or self.nodes for visitor in node.visitors[key]]

    async def check_the_others(self) -> None:
        """
        Check that the clients of the other key have received the whole record, once and in order.
        """
        self.publisher.stop()
        await until(lambda: not self.publisher.waiting)
        await self.hub.publish("news", "end")
        for visitor in self.of("bob"):
            await until(lambda visitor=visitor: "end" in texts_of(visitor))  # type: ignore[misc]
        record = [data for _, data in stream_of(self._server)]
        assert record[-1] == "end"
        for visitor in self.of("bob"):
            assert texts_of(visitor) == record
            assert not visitor.stream.ended


@asynccontextmanager
async def world_of(server: RedisServer, certificate: Path, *urls: str) -> AsyncIterator[World]:
    """
    Run a node for each URL, with their clients, while updates are published at all of them.
    """
    world = World(server, [Node(url) for url in urls])
    try:
        for node in world.nodes:
            await node.start(certificate)
        for node in world.nodes:
            # All nodes have announced themselves.
            await until(node.hub.count_subscribers, lambda count: count == 4 * len(urls))
        world.publisher.start()
        await world.publisher.wait()
        yield world
    finally:
        world.publisher.stop()
        for node in world.nodes:
            await node.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Shorten the heartbeats, and the deadline of broadcasts.
    """
    monkeypatch.setattr(redis_cluster, "_INTERVAL", INTERVAL)
    defaults: Any = RedisCluster.broadcast.__kwdefaults__
    monkeypatch.setitem(defaults, "deadline", DEADLINE)


class Forwarder:
    """
    The only way of a node to Redis.
    """

    def __init__(self, server: RedisServer) -> None:
        self._factory = cast(Any, ProxyFactory("127.0.0.1", server.port))
        self._factory.noisy = False
        self._connections: list[Any] = []
        build = self._factory.buildProtocol

        def building(address: object) -> Any:
            self._connections.append(build(address))
            return self._connections[-1]

        self._factory.buildProtocol = building
        self._port: Any = None
        self._number = 0

    def open(self) -> None:
        self._port = reactor.listenTCP(self._number, self._factory, interface="127.0.0.1")
        self._number = self._port.getHost().port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._number}"

    async def cut(self) -> None:
        """
        Cut all connections, and refuse further ones.
        """
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.transport.abortConnection()


def name_of(hub: Hub) -> str:
    cluster = hub.cluster
    assert isinstance(cluster, RedisCluster)
    return cluster.node


def texts_of(visitor: Visitor) -> list[str]:
    visitor.look()
    return [event.data for event in visitor.received]


async def have_ended(visitors: list[Visitor]) -> None:
    """
    Wait until the streams of clients have ended.
    """
    for visitor in visitors:
        await until(lambda visitor=visitor: visitor.stream.ended or visitor.stream.closed)  # type: ignore[misc]


async def outcome_of(deferred: Deferred[int]) -> int | Exception:
    """
    Return the result of a Deferred, or its error.
    """
    try:
        return await deferred
    except (JournalFailed, NotAcknowledged) as error:
        return error


async def check_cut_off(world: World, before: int, visitors: list[Visitor]) -> None:
    """
    Check that streams have ended, and that no update was sent to them that was published afterwards.

    :param before: the number of the next update, when they had been cut off.
    """
    await world.publisher.wait()
    await have_ended(visitors)
    for visitor in visitors:
        numbers = list(map(int, texts_of(visitor)))
        assert numbers
        assert max(numbers) < before


@pytest.mark.slow
class CutOffTests:
    @pytest_twisted.ensureDeferred
    async def test_disconnect(self, server: RedisServer, certificate: Path) -> None:
        """
        The streams of a key end at all nodes; nothing that is published afterwards is sent to them, and other
        keys lose nothing.
        """
        async with world_of(server, certificate, *[server.url] * 5) as world:
            assert await world.nodes[3].hub.disconnect(key="ann") == len(world.of("ann"))
            await check_cut_off(world, world.publisher.number, world.of("ann"))
            assert await world.hub.disconnect(key="ann") == 0
            await world.check_the_others()

    @pytest_twisted.ensureDeferred
    async def test_revoke(self, server: RedisServer, certificate: Path) -> None:
        """
        The streams of a key lose a topic at all nodes, and nothing of their other topic.
        """
        async with world_of(server, certificate, *[server.url] * 3) as world:
            assert await world.nodes[1].hub.revoke("ann", "secret") == len(world.of("ann"))
            before = world.publisher.number
            await world.publisher.wait()
            await world.check_the_others()
            for visitor in world.of("ann"):
                await until(lambda visitor=visitor: "end" in texts_of(visitor))  # type: ignore[misc]
                news = [text for text in texts_of(world.of("bob")[0]) if text == "end" or not int(text) % 2]
                assert [text for text in texts_of(visitor) if text == "end" or not int(text) % 2] == news
                secret = [int(text) for text in texts_of(visitor)[:-1] if int(text) % 2]
                assert secret
                assert max(secret) < before
            assert await world.hub.revoke("ann", "news") == len(world.of("ann"))
            await have_ended(world.of("ann"))

    @pytest_twisted.ensureDeferred
    async def test_killed_node(self, server: RedisServer, certificate: Path) -> None:
        """
        While a node hangs, the Deferred does not fire. Once the node has been killed and no longer counts as
        alive, it fires with the number of streams at the other nodes.
        """
        async with world_of(server, certificate, *[server.url] * 3) as world:
            with another_node(server) as (program, port, name):
                client = Visitor("plain", port, certificate)
                await client.connect()
                await until(lambda: client.look() or client.last_id)
                await until(world.hub.count_subscribers, lambda count: count == 13)
                program.process.send_signal(signal.SIGSTOP)
                disconnecting = world.hub.disconnect(key="ann")
                await have_ended(world.of("ann"))
                assert not disconnecting.called
                program.kill()
                outcome = await outcome_of(disconnecting)
                if isinstance(outcome, NotAcknowledged):
                    # The machine is slow.
                    assert outcome.nodes == [name]
                else:
                    assert outcome == len(world.of("ann"))
            await check_cut_off(world, world.publisher.number, world.of("ann"))
            assert await world.hub.disconnect(key="ann") == 0
            assert await world.nodes[1].hub.disconnect(key="eve") == 0
            await world.check_the_others()

    @pytest_twisted.ensureDeferred
    async def test_node_without_redis(self, server: RedisServer, certificate: Path) -> None:
        """
        The streams of the other nodes end while one node cannot reach Redis. When it can again, it closes all
        of its streams that have a key, since it has missed an order; their clients resume.
        """
        way = Forwarder(server)
        way.open()
        try:
            async with world_of(server, certificate, server.url, server.url, way.url) as world:
                *others, far = world.nodes
                await way.cut()
                outcome = await outcome_of(world.hub.disconnect(key="ann"))
                if isinstance(outcome, NotAcknowledged):
                    assert outcome.nodes == [far.name]
                else:
                    assert outcome == len(world.of("ann", others))
                await check_cut_off(world, world.publisher.number, world.of("ann", others))
                assert not any(visitor.stream.ended for visitor in far.visitors["ann"])

                async def is_without() -> bool:
                    return not isinstance(await outcome_of(world.hub.disconnect(key="ann")), NotAcknowledged)

                # An order that is sent while it no longer counts as alive does not reach its inbox.
                await until(is_without)
                way.open()
                await have_ended([*far.visitors["ann"], *far.visitors["bob"]])
                for visitor in far.visitors["bob"]:
                    visitor.look()
                    # The connection of HTTP/2 outlasts its stream.
                    visitor.stream.transport.abortConnection()
                    await visitor.connect()
                await world.check_the_others()
        finally:
            await way.cut()

    @pytest_twisted.ensureDeferred
    async def test_redis_killed(self, server: RedisServer, certificate: Path) -> None:
        """
        If Redis cannot be reached, the streams of this node end, and the error says that the other nodes were
        not reached. When Redis runs again, a further call ends their streams.
        """
        async with world_of(server, certificate, *[server.url] * 3) as world:
            here, *others = world.nodes
            server.kill()
            with pytest.raises(JournalFailed, match="redis"):
                await world.hub.disconnect(key="ann")
            await check_cut_off(world, world.publisher.number, here.visitors["ann"])
            assert [len(node.hub.subscribers.with_key("ann")) for node in others] == [2, 2]
            server.start()
            await until(lambda: all(node.hub.problem is None for node in world.nodes))
            assert await world.nodes[1].hub.disconnect(key="ann") == len(world.of("ann", others))
            await check_cut_off(world, world.publisher.number, world.of("ann"))
            await world.check_the_others()

    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("fault", ["does not answer", "fails"])
    async def test_faulty_node(
        self, server: RedisServer, certificate: Path, failures: list[LogEvent], fault: str
    ) -> None:
        """
        If one node does not answer, or fails, the error names it, and the streams of the others end.
        """
        async with world_of(server, certificate, *[server.url] * 3) as world:
            faulty = world.nodes[1]

            def answer(message: str) -> Deferred[str | None]:
                if fault == "fails":
                    raise ZeroDivisionError
                return Deferred()

            listener = listener_of(faulty.hub)
            handle: Callable[[str], Any] = listener.message_received
            listener.message_received = answer
            outcome = await outcome_of(world.hub.disconnect(key="ann"))
            assert isinstance(outcome, NotAcknowledged)
            assert outcome.nodes == [faulty.name]
            others = [node for node in world.nodes if node is not faulty]
            await check_cut_off(world, world.publisher.number, world.of("ann", others))
            assert not any(visitor.stream.ended for visitor in faulty.visitors["ann"])
            listener.message_received = handle
            assert await world.hub.disconnect(key="ann") == len(faulty.visitors["ann"])
            await check_cut_off(world, world.publisher.number, world.of("ann"))
            await world.check_the_others()
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError] * (fault == "fails")


def listener_of(hub: Hub) -> Any:
    cluster: Any = hub.cluster
    return cluster._listener


@contextmanager
def another_node(server: RedisServer) -> Iterator[tuple[Program, Any, str]]:
    """
    Run a node in a process of its own.

    :returns: the program, its port and the node's name.
    """
    with start(python("-c", PROGRAM, server.url), needs="redis") as program:
        ((number, name),) = wait_until(lambda: [line.split()[1::2] for line in program.out.splitlines()])
        # The clients of these tests take a listening port.
        port = SimpleNamespace(getHost=lambda: SimpleNamespace(port=int(number)))
        yield program, port, name

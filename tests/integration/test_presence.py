"""
Presence and demand at hubs that share a real Redis, on the real reactor; one of the nodes is killed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from tests.integration.clients import listen
from tests.integration.test_hub import Http1Stream
from tests.journal.redis_server import RedisServer, running
from tests.processes import python, start
from tests.waiting import until
from txsse import Access, Hub, JournalFailed
from txsse.journal.redis import RedisJournal
from txsse.journal.redis import cluster as redis_cluster

pytestmark = [pytest.mark.redis, pytest.mark.process]

# How often nodes send heartbeats in these tests, in seconds: a node counts as alive for five intervals.
INTERVAL = 0.2

GRACE = 1.5

# A node in a process of its own, whose clients have the key "ann". It prints what it is called with.
PROGRAM = f"""
import sys
from twisted.internet import reactor
from twisted.web.server import Site
from txsse import Access, Hub
from txsse.journal.redis import RedisJournal, cluster
cluster._INTERVAL = {INTERVAL}
hub = Hub(
    journal=RedisJournal(sys.argv[1]),
    on_presence=lambda *change: print("presence", change, flush=True),
    presence_grace={GRACE},
    on_topic_opened=lambda topic: print("opened", topic, flush=True),
    on_topic_closed=lambda topic: print("closed", topic, flush=True),
    topic_grace={GRACE},
)
port = reactor.listenTCP(0, Site(hub.resource(Access("news", key="ann"))), interface="127.0.0.1")
hub.start().addCallback(lambda _: print(f"port {{port.getHost().port}}", flush=True))
reactor.run()
"""


class Node:
    """
    A hub in this process, one port for each key, and what it called.
    """

    def __init__(self, url: str, cluster: Cluster) -> None:
        self.hub = Hub(
            journal=RedisJournal(url, timeout=20.0),
            on_presence=lambda topic, key, present: cluster.changes.append((topic, key, present)),
            presence_topic=lambda topic: f"{topic}/presence" if topic == "news" else None,
            presence_grace=GRACE,
            on_topic_opened=lambda topic: cluster.topics.append(("opened", topic, self)),
            on_topic_closed=lambda topic: cluster.topics.append(("closed", topic, self)),
            topic_grace=GRACE,
        )
        self._ports: list[Any] = []

    async def connect(self, key: Hashable, topic: str = "news") -> Http1Stream:
        """
        Connect a client with a key.
        """
        port = await listen(self.hub.resource(Access(topic, key=key)))
        self._ports.append(port)
        return await connect(port.getHost().port)

    async def stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            await port.stopListening()
        await self.hub.stop(deadline=1.0)


class Cluster:
    """
    Nodes in this process.

    :ivar changes: the presence changes that any of them was called with.
    :ivar topics: the topics that were opened and closed, each with the node that was called.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.streams: list[Http1Stream] = []
        self.changes: list[tuple[str, Hashable, bool]] = []
        self.topics: list[tuple[str, str, Node]] = []


async def connect(port: int) -> Http1Stream:
    stream = Http1Stream("")
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), stream)
    return stream


@asynccontextmanager
async def cluster_of(url: str, count: int) -> AsyncIterator[Cluster]:
    cluster = Cluster()
    cluster.nodes = [Node(url, cluster) for _ in range(count)]
    try:
        for node in cluster.nodes:
            await node.hub.start()
        yield cluster
    finally:
        for node in cluster.nodes:
            await node.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_cluster, "_INTERVAL", INTERVAL)


async def wait(seconds: float) -> None:
    await deferLater(reactor, seconds)  # type: ignore[arg-type]


def abort(*streams: Http1Stream) -> None:
    for stream in streams:
        stream.transport.abortConnection()  # type: ignore[union-attr]


@pytest.mark.slow
class ClusterTests:
    @pytest_twisted.ensureDeferred
    async def test_three_nodes(self, server: RedisServer) -> None:
        """
        A key is reported once for the cluster, though its streams are at three nodes, and move;
        every node counts all of its streams, and subscribers of the presence topic get the event at any.
        """
        async with cluster_of(server.url, 3) as cluster:
            one, two, three = cluster.nodes
            watching = await three.connect(None, "news/presence")
            first = await one.connect("ann")
            await until(lambda: ("news", "ann", True) in cluster.changes)
            others = [await two.connect("ann"), await two.connect(("b", 7)), await three.connect(None)]
            wanted = {"ann": 2, ("b", 7): 1, None: 1}
            for node in cluster.nodes:
                await until(lambda node=node: node.hub.presence("news"), wanted.__eq__)  # type: ignore[misc]
            await until(lambda: b'{"topic":"news","present":true}' in watching.body)
            # ann moves to another node, within the grace period.
            abort(first, others[0])
            await wait(GRACE / 2)
            moved = await three.connect("ann")
            await wait(GRACE * 1.5)
            assert cluster.changes.count(("news", "ann", True)) == 1
            assert ("news", "ann", False) not in cluster.changes
            abort(moved)
            await until(lambda: ("news", "ann", False) in cluster.changes)
            assert [change for change in cluster.changes if change[1] == "ann"] == [
                ("news", "ann", True),
                ("news", "ann", False),
            ]
            await until(lambda: one.hub.presence("news"), {("b", 7): 1, None: 1}.__eq__)
            abort(*others, watching)

    @pytest_twisted.ensureDeferred
    async def test_topics_follow_demand(self, server: RedisServer) -> None:
        """
        A topic is opened at one node, stays open there while any node has a subscriber, is opened at another
        node when that one stops, and is closed when no node has a subscriber.
        """
        async with cluster_of(server.url, 3) as cluster:
            one, two, three = cluster.nodes
            first = await one.connect("ann")
            await until(lambda: cluster.topics == [("opened", "news", one)])
            second = await two.connect("bob")
            abort(first)
            await wait(GRACE * 1.5)
            assert cluster.topics == [("opened", "news", one)]
            await one.stop()
            await until(lambda: len(cluster.topics) == 3)
            assert cluster.topics[1] == ("closed", "news", one)
            kind, topic, node = cluster.topics[2]
            assert (kind, topic) == ("opened", "news")
            assert node in (two, three)
            abort(second)
            await until(lambda: len(cluster.topics) == 4)
            assert cluster.topics[3] == ("closed", "news", node)

    @pytest_twisted.ensureDeferred
    async def test_killed_node(self, server: RedisServer) -> None:
        """
        After a node was killed, its topics are opened at another one; a key whose client does not reconnect
        disappears, once, and one that does stays.
        """
        async with cluster_of(server.url, 2) as cluster:
            one, two = cluster.nodes
            with start(python("-c", PROGRAM, server.url), needs="redis") as program:
                port = int(program.wait_for(r"port (\d+)")[0])
                stream = await connect(port)
                await until(lambda: one.hub.presence("news"), {"ann": 1}.__eq__)
                program.kill()
            await until(lambda: [topic[:2] for topic in cluster.topics] == [("opened", "news")])
            back = await two.connect("ann")
            await wait(GRACE * 2)
            assert ("news", "ann", False) not in cluster.changes
            assert await one.hub.presence("news") == {"ann": 1}
            abort(back, stream)
            await until(lambda: cluster.changes == [("news", "ann", False)])
            await until(lambda: len(cluster.topics) == 2)
            assert cluster.topics[1][::2] == ("closed", cluster.topics[0][2])

    @pytest_twisted.ensureDeferred
    async def test_first_use(self, server: RedisServer) -> None:
        """
        A hub that is used for the first time joins the cluster before it asks the other nodes.
        """
        async with cluster_of(server.url, 1) as cluster:
            stream = await cluster.nodes[0].connect("ann")
            await until(lambda: cluster.nodes[0].hub.presence("news"), {"ann": 1}.__eq__)
            for ask in (lambda hub: hub.presence("news"), lambda hub: hub.count_subscribers("other")):
                hub = Hub(journal=RedisJournal(server.url), presence_grace=1)
                assert await ask(hub) in ({"ann": 1}, 0)
                await hub.stop()
            abort(stream)

    @pytest_twisted.ensureDeferred
    async def test_redis_is_restarted(self, server: RedisServer) -> None:
        """
        While Redis is away, presence cannot be read; what changed meanwhile is reported when it is back.
        """
        async with cluster_of(server.url, 2) as cluster:
            one, two = cluster.nodes
            streams = [await one.connect("ann"), await two.connect("bob")]
            await until(lambda: len(cluster.changes) == 2)
            server.kill()
            await until(lambda: one.hub.problem is not None)
            with pytest.raises(JournalFailed):
                await one.hub.presence("news")
            abort(streams[0])
            streams.append(await one.connect("eve"))
            await wait(GRACE * 1.5)
            assert len(cluster.changes) == 2
            server.start()
            await until(lambda: ("news", "eve", True) in cluster.changes)
            await until(lambda: ("news", "ann", False) in cluster.changes)
            assert [change for change in cluster.changes if change[1] == "bob"] == [("news", "bob", True)]
            abort(*streams)

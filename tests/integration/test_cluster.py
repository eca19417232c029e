"""
Hubs that share a Redis, on the real reactor: clients move from node to node, and Redis is killed meanwhile.

``benchmarks/cluster.py`` does the same with processes, a thousand clients and many more updates.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from tests.integration.clients import listen
from tests.integration.test_hub import Http1Stream
from tests.journal.redis_server import RedisServer, running
from tests.waiting import PATIENCE, until
from txsse import EventStreamParser, Hub, JournalFailed
from txsse.journal.redis import RedisJournal

pytestmark = pytest.mark.redis

NODES = 3
CLIENTS = 30
UPDATES = 1000
KILLS = 2


class Publisher:
    """
    Publishes at all nodes, and records each update and its outcome.

    :ivar acknowledged: the id of each acknowledged update, by its data.
    :ivar failed: data of updates without an id that were certainly not recorded.
    """

    def __init__(self, hubs: list[Hub], chance: random.Random) -> None:
        self.acknowledged: dict[str, str] = {}
        self.failed: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.working: list[Deferred[None]] = []
        self._hubs = hubs
        self._chance = chance

    def publish(self, count: int) -> None:
        """
        Publish this many updates, every tenth without an id.
        """
        for _ in range(count):
            number = len(self.working)
            id = f"order {number}" if number % 10 else None
            self.working.append(Deferred.fromCoroutine(self._publish(f"data {number}", id)))

    async def _publish(self, data: str, id: str | None) -> None:
        # Published again, it has to be equal: otherwise it is another update with the same id.
        topic = self._chance.choice(["news", "sport"])
        while data not in self.acknowledged:
            try:
                hub = self._chance.choice(self._hubs)
                self.acknowledged[data] = await hub.publish(topic, data, id=id)
            except JournalFailed as error:
                self.counts["uncertain" if error.uncertain else "certain"] += 1
                if id is None:
                    if not error.uncertain:
                        self.failed.add(data)
                    return
                await deferLater(reactor, self._chance.uniform(0.01, 0.1))


class Wanderer:
    """
    A client that reconnects to another node each time.

    :ivar received: the types, ids and data of all events.
    """

    def __init__(self, ports: list[Any], first_id: str, chance: random.Random) -> None:
        self.received: list[tuple[str | None, str, str]] = []
        self.last_id = first_id
        self.visits = 0
        self._ports = ports
        self._chance = chance
        self._stream: Any = None

    async def wander(self) -> None:
        """
        Connect and disconnect until the last update has arrived.
        """
        while not self.has_end:
            await self.connect()
            deadline = reactor.seconds() + self._chance.expovariate(1 / 0.2)
            while reactor.seconds() < deadline and not self.has_end:
                await deferLater(reactor, 0.01)
                self.look()
            await self.disconnect()

    async def connect(self) -> None:
        """
        Connect to another node, and resume there.
        """
        self.visits += 1
        # Never the same node twice in a row.
        self._ports = self._chance.sample(self._ports[1:], NODES - 1) + self._ports[:1]
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._ports[0].getHost().port)
        self._stream = await connectProtocol(endpoint, Http1Stream(self.last_id))
        self._parser = EventStreamParser(last_event_id=self.last_id)
        self._fed = 0

    def look(self) -> str:
        """
        Parse the complete events that have arrived, and return the last event ID.
        """
        for block in bytes(self._stream.body[self._fed :]).split(b"\n\n")[:-1]:
            self._fed += len(block) + 2
            for event in self._parser.feed(block + b"\n\n"):
                self.received.append((event.event, self._parser.last_event_id, event.data))
        self.last_id = self._parser.last_event_id
        return self.last_id

    async def disconnect(self) -> None:
        """
        Abort or reset the connection; an event that has not arrived completely is lost.
        """
        if self._chance.random() < 0.5:
            handle = self._stream.transport.getHandle()
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.transport.abortConnection()
        await until(lambda: self._stream.closed)
        self.look()

    @property
    def has_end(self) -> bool:
        return self.last_id == "end"


def all_of(working: list[Deferred[None]]) -> Deferred[Any]:
    """
    Wait for all of them, for at most :data:`PATIENCE`.
    """
    return DeferredList(working, fireOnOneErrback=True).addTimeout(PATIENCE, reactor)


def stream_of(server: RedisServer) -> list[tuple[str, str]]:
    """
    Return the ids and data of the updates in Redis, read without txsse's code.
    """
    reader = hiredis.Reader(encoding="utf-8")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(hiredis.pack_command(("XRANGE", "{txsse}:updates", "-", "+")))  # type: ignore[arg-type]
        while (entries := reader.gets()) is False:
            reader.feed(connection.recv(65536))
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries]
    return [(each["id"], each["data"]) for each in fields]


async def publish_over_outages(publisher: Publisher, server: RedisServer, chance: random.Random) -> None:
    """
    Publish all updates, and kill Redis in between.
    """
    kills = [UPDATES * number // (KILLS + 1) for number in range(1, KILLS + 1)]
    while len(publisher.working) < UPDATES:
        publisher.publish(min(chance.choice([1, 2, 5, 20]), UPDATES - len(publisher.working)))
        await deferLater(reactor, 0.02)
        if kills and len(publisher.working) >= kills[0]:
            kills.pop(0)
            publisher.publish(50)
            # At this moment some updates are in transit, some are recorded, and some are neither.
            await deferLater(reactor, chance.uniform(0, 0.003))
            server.kill()
            publisher.publish(20)
            await deferLater(reactor, 0.3)
            server.start()


@asynccontextmanager
async def nodes_at(server: RedisServer) -> AsyncIterator[tuple[list[Hub], list[Any]]]:
    """
    Run hubs that share a Redis, and serve them. Their record begins with one update.
    """
    hubs = [Hub(journal=RedisJournal(server.url, timeout=2.0)) for _ in range(NODES)]
    await hubs[0].publish("news", "the first one", id="seed")
    for hub in hubs:
        await hub.start()
    ports = [await listen(hub.resource("*")) for hub in hubs]
    try:
        yield hubs, ports
    finally:
        for port in ports:
            await port.stopListening()
        for hub in hubs:
            await hub.stop(deadline=1.0)


class ClusterTests:
    @pytest_twisted.ensureDeferred
    async def test_clients_change_nodes_while_redis_is_killed(self, tmp_path: Path) -> None:
        """
        Clients that move between nodes while Redis is killed get the whole record of Redis, once and in
        order, with every acknowledged update.
        """
        chance = random.Random(17)
        with running(tmp_path) as server:
            async with nodes_at(server) as (hubs, ports):
                first_ids = ["earliest", "seed"] * (CLIENTS // 2)
                clients = [Wanderer(ports, first_id, chance) for first_id in first_ids]
                publisher = Publisher(hubs, chance)
                wandering = [Deferred.fromCoroutine(client.wander()) for client in clients]
                await publish_over_outages(publisher, server, chance)
                await all_of(publisher.working)
                await hubs[0].publish("news", "the last one", id="end")
                await all_of(wandering)
                record = stream_of(server)
                metrics = [hub.metrics() for hub in hubs]
        by_data = {data: id for id, data in record}
        assert len({id for id, _ in record}) == len(by_data) == len(record)
        assert publisher.acknowledged.items() <= by_data.items()
        assert {f"data {number}" for number in range(UPDATES) if number % 10} <= set(by_data)
        assert not publisher.failed & set(by_data)
        everything = [("message", id, data) for id, data in record]
        for number, client in enumerate(clients):
            assert client.received == everything[number % 2 :], f"client {number}"
        # Check that outages, moves and replays took place.
        assert publisher.counts
        assert sum(client.visits for client in clients) > 5 * CLIENTS
        assert [(each.gaps, each.failures) for each in metrics] == [(0, 0)] * NODES
        assert all(each.replayed for each in metrics)

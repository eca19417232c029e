"""
A log-out with hubs that share a real Redis, over real sockets: the page on authentication promises it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.web.http import Request

from tests.integration.clients import listen
from tests.journal.redis_server import RedisServer, running
from tests.waiting import until
from txsse import (
    Access,
    CloseReason,
    EventSource,
    Hub,
    JournalFailed,
    NotAcknowledged,
    ReadyState,
    StreamRefused,
    Upgrader,
    UpgradeRefused,
)
from txsse.journal.redis import RedisJournal

pytestmark = pytest.mark.redis

NODES = 3


class Nodes:
    """
    Hubs that share a Redis, the sessions that their rule accepts, and clients of all hubs.
    """

    def __init__(self, server: RedisServer) -> None:
        self.sessions = {b"a1": "ann", b"b2": "bob"}
        self.hubs = [
            Hub(journal=RedisJournal(server.url, timeout=2.0), upgrader=Upgrader(retry=0.1))
            for _ in range(NODES)
        ]
        self.ports: list[Any] = []
        self.sources: list[EventSource] = []
        self.received: list[list[str]] = []
        self.requests = 0

    def rule(self, request: Request) -> Access:
        self.requests += 1
        user = self.sessions.get(request.getCookie(b"session"))
        if user is None:
            raise UpgradeRefused("log in first", status=204)
        return Access(["news", "rooms/5"], private="rooms/5", key=("user", user))

    async def start(self) -> None:
        for hub in self.hubs:
            await hub.start()
            self.ports.append(await listen(hub.resource(self.rule)))

    async def stop(self) -> None:
        for source in self.sources:
            source.close()
        for port in self.ports:
            await port.stopListening()
        for hub in self.hubs:
            await hub.stop(deadline=1.0)

    async def join(self, cookie: str) -> list[EventSource]:
        """
        Connect a client to each hub.
        """
        joined = []
        for port in self.ports:
            texts: list[str] = []
            source = EventSource(
                f"http://127.0.0.1:{port.getHost().port}/",
                headers={"Cookie": f"session={cookie}"},
                event_received=lambda event, texts=texts: texts.append(event.data),  # type: ignore[misc]
            )
            source.start()
            await source.when_open()
            joined.append(source)
            self.received.append(texts)
        self.sources += joined
        return joined

    def streams(self, user: str) -> list[int]:
        """
        Return how many streams of a user each hub has.
        """
        return [len(hub.subscribers.with_key(("user", user))) for hub in self.hubs]


@asynccontextmanager
async def nodes_at(server: RedisServer) -> AsyncIterator[Nodes]:
    """
    Run hubs, and serve them.
    """
    nodes = Nodes(server)
    await nodes.start()
    try:
        yield nodes
    finally:
        await nodes.stop()


class LogOutTests:
    @pytest_twisted.ensureDeferred
    async def test_all_nodes(self, tmp_path: Path) -> None:
        """
        After a log-out at one node, the streams of the user at all nodes have ended when the Deferred fires;
        each client asks once more, is refused with 204 and stops. Another user's streams stay open.
        """
        with running(tmp_path) as server:
            async with nodes_at(server) as nodes:
                anns, bobs = await nodes.join("a1"), await nodes.join("b2")
                assert nodes.streams("ann") == nodes.streams("bob") == [1] * NODES
                before = nodes.requests
                del nodes.sessions[b"a1"]
                assert await nodes.hubs[1].disconnect(key=("user", "ann")) == NODES
                assert nodes.streams("ann") == [0] * NODES
                for source in anns:
                    error = await source.when_closed()
                    assert isinstance(error, StreamRefused) and error.status == 204
                await nodes.hubs[0].publish("news", "after")
                await until(lambda: nodes.received[NODES:] == [["after"]] * NODES)
                assert nodes.requests == before + NODES
                assert nodes.received[:NODES] == [[]] * NODES
                assert [source.ready_state for source in bobs] == [ReadyState.OPEN] * NODES
                assert [hub.metrics().closes[CloseReason.DISCONNECTED] for hub in nodes.hubs] == [1] * NODES
                assert await nodes.hubs[2].disconnect(key=("user", "ann")) == 0

    @pytest_twisted.ensureDeferred
    async def test_revoked(self, tmp_path: Path) -> None:
        """
        After a topic has been revoked at one node, no client of the user receives its updates, at any node;
        the other topics stay.
        """
        with running(tmp_path) as server:
            async with nodes_at(server) as nodes:
                await nodes.join("a1")
                await nodes.join("b2")
                assert await nodes.hubs[1].revoke(("user", "ann"), "rooms/5") == NODES
                await nodes.hubs[0].publish("rooms/5", "secret", private=True)
                await nodes.hubs[0].publish("news", "for all")
                await until(lambda: all("for all" in texts for texts in nodes.received))
                assert nodes.received == [["for all"]] * NODES + [["secret", "for all"]] * NODES

    @pytest_twisted.ensureDeferred
    async def test_redis_killed(self, tmp_path: Path) -> None:
        """
        While Redis is unavailable, a log-out ends the streams of its own node, and fails; repeated after
        Redis has returned, it ends those of the other nodes.
        """
        with running(tmp_path) as server:
            async with nodes_at(server) as nodes:
                await nodes.join("a1")
                server.kill()
                del nodes.sessions[b"a1"]
                with pytest.raises((JournalFailed, NotAcknowledged)):
                    await nodes.hubs[0].disconnect(key=("user", "ann"))
                assert nodes.streams("ann") == [0, 1, 1]
                server.start()

                async def repeat() -> bool:
                    try:
                        await nodes.hubs[0].disconnect(key=("user", "ann"))
                    except (JournalFailed, NotAcknowledged):
                        return False
                    return True

                await until(repeat)
                assert nodes.streams("ann") == [0, 0, 0]

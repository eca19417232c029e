"""
Hubs with persistent journals, over real sockets: a client resumes at the next process, or at another node.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import endpoints, reactor
from twisted.web.server import Site

from tests.integration.clients import listen
from tests.journal.redis_server import RedisServer
from tests.waiting import until
from txsse import EventSource, Hub, IJournal
from txsse.journal.redis import RedisJournal
from txsse.journal.sqlite import SQLiteJournal

_numbers = count()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def new_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], IJournal]:
    """
    Return a function that makes journals with the same record.
    """
    if request.param == "sqlite":
        return lambda: SQLiteJournal(tmp_path / "hub.sqlite")
    url = request.getfixturevalue("shared_redis").url
    key = f"integration {next(_numbers)}"
    return lambda: RedisJournal(url, key=key)


@pytest.mark.slow
class RestartTests:
    @pytest_twisted.ensureDeferred
    async def test_client_over_restarts(self, new_journal: Callable[[], IJournal]) -> None:
        """
        A client gets every update once while hubs restart on its port, including updates published while it
        was disconnected.
        """
        hub = Hub(journal=new_journal())
        port = await listen(hub.resource("news"))
        number = port.getHost().port
        got: list[str] = []
        source = EventSource(
            f"http://127.0.0.1:{number}/", retry=0.01, event_received=lambda event: got.append(event.data)
        )
        source.start()
        await source.when_open()
        numbers = count()
        for _ in range(5):
            for _ in range(20):
                await hub.publish("news", str(next(numbers)))
            await port.stopListening()
            await hub.stop(retry=(0.01, 0.02))
            hub = Hub(journal=new_journal())
            for _ in range(20):
                await hub.publish("news", str(next(numbers)))
            endpoint = endpoints.TCP4ServerEndpoint(reactor, number, interface="127.0.0.1")
            port = await endpoint.listen(Site(hub.resource("news")))
        await until(lambda: len(got) == 200)
        assert got == [str(number) for number in range(200)]
        source.close()
        await hub.stop()
        await port.stopListening()


class NodeTests:
    @pytest_twisted.ensureDeferred
    async def test_client_changes_nodes(self, shared_redis: RedisServer) -> None:
        """
        A client that moves from node to node gets the updates of all nodes, once and in one order.
        """
        hubs = [Hub(journal=RedisJournal(shared_redis.url, key="moved")) for _ in range(3)]
        ports = [await listen(hub.resource("news")) for hub in hubs]
        urls = [f"http://127.0.0.1:{port.getHost().port}/" for port in ports]
        seen: dict[int, list[str]] = {0: [], 1: [], 2: []}
        last = ["", "", ""]
        numbers = count()
        for turn in range(12):
            sources = []
            for client in range(3):
                source = EventSource(
                    urls[(client + turn) % 3],
                    last_event_id=last[client],
                    event_received=lambda event, client=client: seen[client].append(event.data),  # type: ignore[misc]
                )
                source.start()
                await source.when_open()
                sources.append(source)
            await until(lambda sources=sources: all(source.last_event_id for source in sources))  # type: ignore[misc]
            for hub in hubs:
                await hub.publish("news", str(next(numbers)))
            expected = (turn + 1) * 3
            await until(lambda expected=expected: all(len(seen[client]) == expected for client in seen))  # type: ignore[misc]
            last = [source.last_event_id for source in sources]
            for source in sources:
                source.close()
        assert seen[0] == seen[1] == seen[2] == [str(number) for number in range(36)]
        for hub, port in zip(hubs, ports, strict=True):
            await hub.stop()
            await port.stopListening()

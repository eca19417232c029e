"""
States at hubs on the real reactor, with each journal, and with two nodes on a real Redis: readers connect and
disconnect at both nodes, and their state at each ID is the state at that position.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.integration.clients import listen
from tests.waiting import until
from txsse import EventSource, Hub, MemoryJournal, NotRetained, ReadyState, ServerSentEvent, Upgrader
from txsse.journal.redis import RedisJournal
from txsse.journal.sqlite import SQLiteJournal

KINDS = ["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)]

KEYS = [f"device-{number}" for number in range(20)]


def fold(state: dict[str, str], event: ServerSentEvent) -> None:
    """
    Apply an event to a state.
    """
    if event.event == "unretain":
        state.pop(event.data, None)
    elif event.event == "stream-reset":
        state.clear()
    elif event.event == "message":
        key, _, _ = event.data.partition(" ")
        state[key] = event.data


class Reader:
    """
    A client that keeps a state, and the state that it had at each ID.
    """

    def __init__(self) -> None:
        self.state: dict[str, str] = {}
        self.known: list[tuple[str, dict[str, str]]] = []
        self.last_id = ""
        self.source: EventSource | None = None

    def connect(self, port: int) -> None:
        """
        Connect, or reconnect with the last ID.
        """
        if not self.last_id:
            self.state = {}
        source = EventSource(
            f"http://127.0.0.1:{port}/", last_event_id=self.last_id, event_received=self.received
        )
        self.source = source
        source.start()

    def received(self, event: ServerSentEvent) -> None:
        """
        Apply an event.
        """
        fold(self.state, event)
        # After the first block with an ID, each event has the ID of the last one.
        if event.id and event.event != "stream-reset":
            self.known.append((event.id, dict(self.state)))

    def leave(self) -> None:
        """
        Disconnect.
        """
        assert self.source is not None
        self.last_id = self.source.last_event_id
        self.source.close()


@asynccontextmanager
async def hubs(kind: str, path: Path, redis_url: Callable[[], str]) -> AsyncIterator[list[tuple[Hub, Any]]]:
    """
    Run a hub, or two nodes on one Redis, with their ports.
    """
    if kind == "memory":
        journals: list[Any] = [MemoryJournal(max_count=300)]
    elif kind == "sqlite":
        journals = [SQLiteJournal(path / "hub.sqlite", max_count=300)]
    else:
        journals = [RedisJournal(redis_url(), key=path.name, max_count=300) for _ in range(2)]
    made = [Hub(journal=each, upgrader=Upgrader(slow_policy="replay")) for each in journals]
    running = [(hub, await listen(hub.resource("devices"))) for hub in made]
    try:
        yield running
    finally:
        for hub, port in running:
            await hub.stop(deadline=2)
            await port.stopListening()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """
    Return a function that returns the URL of the shared Redis.
    """
    return lambda: str(request.getfixturevalue("shared_redis").url)


class StateTests:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    @pytest_twisted.ensureDeferred
    async def test_readers_reconnect(self, kind: str, tmp_path: Path, redis_url: Callable[[], str]) -> None:
        """
        While publishers at each node retain and remove keys, readers that connect, resume and change nodes
        know the state of every position whose ID they have.
        """
        random = Random(7)
        async with hubs(kind, tmp_path, redis_url) as running:
            record: list[ServerSentEvent] = []
            first, first_port = running[0]
            follower = EventSource(
                f"http://127.0.0.1:{first_port.getHost().port}/", event_received=record.append
            )
            follower.start()
            await first.start()
            await until(lambda: follower.ready_state is ReadyState.OPEN)
            readers = [Reader() for _ in range(6)]
            ports = [port.getHost().port for _, port in running]
            number = 0
            for _ in range(60):
                published: list[Deferred[Any]] = []
                for _ in range(random.randrange(1, 20)):
                    number += 1
                    hub, _ = random.choice(running)
                    key = random.choice(KEYS)
                    if random.random() < 0.2:
                        done: Deferred[Any] = hub.unretain("devices", key)
                        done.addErrback(lambda failure: failure.trap(NotRetained))
                    elif random.random() < 0.2:
                        done = hub.publish("devices", str(number), event="other")
                    else:
                        done = hub.publish("devices", f"{key} {number} {'x' * 500}", retain=key)
                    published.append(done)
                if random.random() < 0.5:
                    await gatherResults(published)
                for reader in readers:
                    if random.random() < 0.3:
                        if reader.source is not None:
                            reader.leave()
                        if random.random() < 0.3:
                            reader.last_id = ""
                        reader.connect(random.choice(ports))
                await deferLater(reactor, random.choice([0, 0, 0.01]))  # type: ignore[arg-type]
            for hub, _ in running:
                await hub.publish("devices", "end", event="other")
            await until(lambda: sum(event.data == "end" for event in record) == len(running))
            for reader in readers:
                if reader.source is None:
                    reader.connect(ports[0])
            await until(lambda: all(r.source and r.source.last_event_id == record[-1].id for r in readers))
            model: dict[str, dict[str, str]] = {}
            state: dict[str, str] = {}
            for event in record:
                fold(state, event)
                assert event.id and event.id not in model
                model[event.id] = dict(state)
            checked = 0
            for reader in readers:
                assert reader.state == state
                for id, known in reader.known:
                    assert known == model[id], id
                    checked += 1
                reader.leave()
            assert checked > 300
            follower.close()
            for hub, _ in running:
                retained = hub.retained
                assert retained is not None
                assert retained.count == len(state)

"""
A relay: handlers pass a stream of another server on to each client, over a connection per client.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted

from tests.integration.clients import connect, listen
from tests.waiting import until
from txsse import EventSource, SSEChannel, SSEResource

pytestmark = pytest.mark.slow

CLIENTS = 5


class ClientDisconnectTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("kind", ["send_from", "loop", "variable", "generator"])
    @pytest.mark.parametrize("is_busy", [False, True])
    async def test_upstream_is_closed(self, kind: str, is_busy: bool) -> None:
        """
        When a relay's clients disconnect, the connections to the upstream server are closed.
        """
        upstream: set[SSEChannel] = set()

        def opened(channel: SSEChannel) -> None:
            upstream.add(channel)
            channel.when_closed().addCallback(lambda _: upstream.discard(channel))
            channel.send("hello")

        def source() -> EventSource:
            return EventSource(f"http://127.0.0.1:{above.getHost().port}/")

        def send_from(channel: SSEChannel) -> Any:
            return channel.send_from(source())

        async def loop(channel: SSEChannel) -> None:
            async for event in source():
                channel.send_event(event)

        async def variable(channel: SSEChannel) -> None:
            events = source()
            async for event in events:
                channel.send_event(event)

        async def generator(channel: SSEChannel) -> AsyncIterator[Any]:
            async for event in source():
                yield event

        handlers: dict[str, Any] = {
            "send_from": send_from,
            "loop": loop,
            "variable": variable,
            "generator": generator,
        }
        above = await listen(SSEResource(opened))
        below = await listen(SSEResource(handlers[kind]))
        readers = [await connect(below) for _ in range(CLIENTS)]
        await until(lambda: all(b"hello" in reader.received for reader in readers))
        assert len(upstream) == CLIENTS
        for reader in readers:
            reader.transport.abortConnection()
        if is_busy:
            # An event may be the first use of the channel after its client disconnected.
            for channel in upstream.copy():
                channel.send("more")

        def all_closed() -> bool:
            gc.collect()
            return not upstream

        await until(all_closed)
        await above.stopListening()
        await below.stopListening()

"""
An event source in an asyncio task.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes import Wire
from txsse import EventSource, SSEResource
from txsse.testing import MemoryAgent


def test_iteration_in_an_asyncio_task(plain: Wire) -> None:
    """
    An asyncio task cannot iterate over a source; the error says how to convert the coroutine.
    """
    agent = MemoryAgent(SSEResource(lambda channel: iter(["a"])), plain.reactor)
    source = EventSource("http://localhost/", agent=agent, reactor=plain.reactor)

    async def read() -> None:
        async for _ in source:
            pass

    with pytest.raises(RuntimeError, match=r"write await Deferred\.fromCoroutine\(\.\.\.\)\.asFuture"):
        asyncio.run(read())
    source.close()
    plain.reactor.run_soon()

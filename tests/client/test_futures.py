"""
A source that is read in a task of asyncio.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes import Wire
from txsse import EventSource, SSEResource
from txsse.testing import MemoryAgent


def test_in_a_task(plain: Wire) -> None:
    """
    It cannot wait for a Deferred; the failure says what to write.
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

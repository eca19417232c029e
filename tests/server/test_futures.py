"""
Handlers of channels that wait for asyncio futures, on the asyncio reactor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.fakes import Wire
from txsse import CloseReason, SSEChannel, SSEResource


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


def turn(loop: asyncio.AbstractEventLoop, wire: Wire) -> None:
    """
    Run both the reactor and the event loop until nothing is scheduled.
    """
    for _ in range(5):
        wire.reactor.run_soon()
        loop.call_soon(loop.stop)
        loop.run_forever()


class Handlers:
    """
    Handlers that wait for one future, in each possible way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[str] = loop.create_future()

    def returns(self, channel: SSEChannel) -> Any:
        return self.future

    def returns_deferred(self, channel: SSEChannel) -> Any:
        return Deferred.fromFuture(self.future)

    async def awaits(self, channel: SSEChannel) -> None:
        await Deferred.fromFuture(self.future)

    async def yields(self, channel: SSEChannel) -> AsyncIterator[str]:
        yield "a"
        await Deferred.fromFuture(self.future)

    def sends(self, channel: SSEChannel) -> Any:
        return channel.send_from(self.future)

    async def awaits_future(self, channel: SSEChannel) -> None:
        await self.future

    async def yields_from_future(self, channel: SSEChannel) -> AsyncIterator[str]:
        yield await self.future


WAITING = ["returns", "returns_deferred", "awaits", "yields", "sends"]


def serve(wire: Wire, handler: Callable[[SSEChannel], Any]) -> tuple[Any, SSEChannel]:
    channels: list[SSEChannel] = []

    def opened(channel: SSEChannel) -> Any:
        channels.append(channel)
        return handler(channel)

    client = wire.connect(SSEResource(opened, upgrader=wire.upgrader())).request()
    return client, channels[0]


@pytest.mark.parametrize("name", WAITING)
def test_client_disconnects(
    plain: Wire, loop: asyncio.AbstractEventLoop, failures: list[LogEvent], name: str
) -> None:
    """
    When the client disconnects, the future that the handler waits for is cancelled, and nothing is logged.
    """
    handlers = Handlers(loop)
    client, channel = serve(plain, getattr(handlers, name))
    turn(loop, plain)
    assert channel.is_open
    client.disconnect(clean=False)
    turn(loop, plain)
    assert handlers.future.cancelled()
    assert channel.close_reason is CloseReason.CLIENT_GONE
    assert failures == []


@pytest.mark.parametrize("name", WAITING)
def test_done(plain: Wire, loop: asyncio.AbstractEventLoop, failures: list[LogEvent], name: str) -> None:
    """
    The stream ends when the future that the handler waits for is done.
    """
    handlers = Handlers(loop)
    client, channel = serve(plain, getattr(handlers, name))
    handlers.future.set_result("b")
    turn(loop, plain)
    client.pump()
    assert channel.close_reason is CloseReason.SERVER_CLOSED
    assert client.body == {"yields": b"data: a\n\n", "sends": b"data: b\n\n"}.get(name, b"")
    assert failures == []


@pytest.mark.parametrize("name", WAITING)
def test_future_cancelled_by_other_code(
    plain: Wire, loop: asyncio.AbstractEventLoop, failures: list[LogEvent], name: str
) -> None:
    """
    A future that other code cancels is logged as a failure of the handler.
    """
    handlers = Handlers(loop)
    _, channel = serve(plain, getattr(handlers, name))
    turn(loop, plain)
    handlers.future.cancel()
    turn(loop, plain)
    assert channel.close_reason is CloseReason.HANDLER_FAILED
    assert [event["log_failure"].type for event in failures] == [asyncio.CancelledError]


@pytest.mark.parametrize("name", ["awaits_future", "yields_from_future"])
def test_future_awaited_directly(
    plain: Wire, loop: asyncio.AbstractEventLoop, failures: list[LogEvent], name: str
) -> None:
    """
    A handler that awaits a future directly fails with an error that names Deferred.fromFuture.
    """
    handlers = Handlers(loop)
    _, channel = serve(plain, getattr(handlers, name))
    turn(loop, plain)
    assert channel.close_reason is CloseReason.HANDLER_FAILED
    (event,) = failures
    assert "write await Deferred.fromFuture(asyncio.ensure_future(...))" in str(event["log_failure"].value)

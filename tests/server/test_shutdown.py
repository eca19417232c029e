"""
Tests of handlers, sources and channels when the reactor stops.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import alsoProvides

from tests.fakes import Client, Wire
from txsse import CloseReason, Hub, SSEChannel, SSEResource, Upgrader, errors
from txsse.server.shutdown import shutdown_of


@pytest.fixture
def stopping(wire: Wire) -> Wire:
    """
    Return a wire of each kind, with a reactor that can stop.
    """
    alsoProvides(wire.reactor, IReactorCore)
    return wire


@pytest.fixture
def one(plain: Wire) -> Wire:
    """
    Return a wire with a reactor that can stop.
    """
    alsoProvides(plain.reactor, IReactorCore)
    return plain


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """
    Collect the warnings and failures that are logged during a test.
    """
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"].name in ("warn", "error", "critical"):
            events.append(event)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield events
    gc.collect()
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


class Served:
    """
    A resource with a handler and one client or several, in a reactor that is about to stop.
    """

    def __init__(
        self, wire: Wire, handler: Callable[[SSEChannel], Any], *, clients: int = 1, **options: Any
    ) -> None:
        self.wire = wire
        self.channels: list[SSEChannel] = []
        self.reasons: list[CloseReason] = []
        self.stopped: list[object] = []
        self.handler = handler
        self.resource = SSEResource(self.opened, upgrader=wire.upgrader(**options))
        self.clients: list[Client] = [wire.connect(self.resource).request() for _ in range(clients)]

    def opened(self, channel: SSEChannel) -> Any:
        self.channels.append(channel)
        channel.when_closed().addCallback(self.reasons.append)
        return self.handler(channel)

    def stop(self) -> None:
        self.wire.reactor.stop().addBoth(self.stopped.append)
        for client in self.clients:
            client.pump()

    def let_it_stop(self) -> None:
        """
        Advance the time in which the last data is sent; the reactor has stopped then.
        """
        assert self.stopped == []
        self.wire.reactor.advance(0.2)
        assert len(self.stopped) == 1

    @property
    def bodies(self) -> list[str]:
        for client in self.clients:
            client.pump()
        return [client.body.decode() for client in self.clients]


async def coroutine(channel: SSEChannel) -> None:
    try:
        await Deferred()
    finally:
        assert channel.close_reason is CloseReason.SHUTDOWN
        await deferLater(channel.reactor, 1.0)
        channel.send("bye")


async def asynchronous_generator(channel: SSEChannel) -> AsyncIterator[str]:
    try:
        await Deferred()
        yield "never"
    finally:
        assert channel.close_reason is CloseReason.SHUTDOWN
        await deferLater(channel.reactor, 1.0)
        channel.send("bye")


def deferred(channel: SSEChannel) -> Deferred[object]:
    def bye(result: object) -> object:
        assert channel.close_reason is CloseReason.SHUTDOWN
        later = deferLater(channel.reactor, 1.0, channel.send, "bye")
        return later.addCallback(lambda _: result)

    return Deferred().addBoth(bye)


def sending_from(channel: SSEChannel) -> Deferred[int]:
    return channel.send_from(asynchronous_generator(channel))


async def awaiting(channel: SSEChannel) -> None:
    await channel.send_from(asynchronous_generator(channel))
    channel.send("never: this was cancelled")


def beside(channel: SSEChannel) -> None:
    channel.send_from(asynchronous_generator(channel))


async def answering(channel: SSEChannel) -> None:
    try:
        await Deferred()
    except CancelledError:
        await deferLater(channel.reactor, 1.0)
        await channel.send_from(["bye"])


HANDLERS = [coroutine, asynchronous_generator, deferred, sending_from, awaiting, beside, answering]


class HandlerTests:
    @pytest.mark.parametrize("handler", HANDLERS)
    def test_handler_sends_a_last_event(
        self, stopping: Wire, handler: Callable[[SSEChannel], Any], logged: list[LogEvent]
    ) -> None:
        """
        A handler is cancelled once, can send until it has ended, and the reactor waits for that.
        """
        served = Served(stopping, handler)
        assert served.bodies == [""]
        served.stop()
        (channel,) = served.channels
        assert channel.is_open
        assert served.reasons == served.stopped == []
        stopping.reactor.advance(1.0)
        assert served.bodies == ["data: bye\n\n"]
        assert served.clients[0].ended
        assert served.reasons == [CloseReason.SHUTDOWN]
        served.let_it_stop()
        assert logged == []

    def test_handler_that_does_not_end(self, stopping: Wire, logged: list[LogEvent]) -> None:
        """
        If a handler ignores its cancellation, the reactor waits for shutdown_timeout, and then closes the
        stream cleanly.
        """

        async def stubborn(channel: SSEChannel) -> None:
            while True:
                try:
                    await deferLater(stopping.reactor, 60.0)
                except CancelledError:
                    channel.send("no")

        served = Served(stopping, stubborn, shutdown_timeout=3.0)
        served.stop()
        stopping.reactor.advance(2.9)
        assert served.reasons == []
        stopping.reactor.advance(0.2)
        assert served.bodies == ["data: no\n\n"]
        assert served.clients[0].ended
        assert served.reasons == [CloseReason.SHUTDOWN]
        served.let_it_stop()
        (event,) = logged
        assert event["timeout"] == 3.0
        stopping.reactor.advance(60.0)

    def test_handler_that_fails(self, one: Wire, logged: list[LogEvent]) -> None:
        """
        A handler that fails when it is cancelled is logged, and its channel closes with HANDLER_FAILED.
        """

        async def broken(channel: SSEChannel) -> None:
            try:
                await Deferred()
            finally:
                raise LookupError

        served = Served(one, broken)
        served.stop()
        assert served.reasons == [CloseReason.HANDLER_FAILED]
        served.let_it_stop()
        (event,) = logged
        assert event["log_failure"].check(LookupError)

    def test_handler_that_cannot_be_cancelled(self, one: Wire, logged: list[LogEvent]) -> None:
        """
        If the cancellation of one handler raises, the other handlers are still cancelled.
        """
        raised: list[None] = []

        def cancel(_: object) -> None:
            if not raised:
                raised.append(None)
                raise LookupError

        works: Iterator[Deferred[Any]] = iter([Deferred(cancel), Deferred()])
        served = Served(one, lambda channel: next(works), clients=2)
        served.stop()
        assert served.reasons == [CloseReason.SHUTDOWN]
        one.reactor.advance(5.0)
        assert served.reasons == [CloseReason.SHUTDOWN] * 2
        served.let_it_stop()
        assert logged[0]["log_failure"].check(LookupError)

    def test_client_that_does_not_read(self, one: Wire) -> None:
        """
        A client that does not read the last event delays the reactor no longer than shutdown_timeout.
        """
        served = Served(one, coroutine)
        served.clients[0].stop_reading()
        served.channels[0].send("x" * 200_000)
        served.stop()
        one.reactor.advance(1.0)
        one.reactor.advance(3.9)
        assert served.reasons == []
        one.reactor.advance(0.1)
        served.let_it_stop()
        served.clients[0].disconnect()
        assert served.reasons == [CloseReason.SHUTDOWN]

    def test_client_disconnects_meanwhile(self, stopping: Wire) -> None:
        """
        If the client disconnects while its handler ends, the handler is cancelled again, since its events
        have no receiver.
        """
        served = Served(stopping, coroutine)
        served.stop()
        served.clients[0].disconnect()
        assert served.reasons == [CloseReason.SHUTDOWN]
        served.let_it_stop()

    def test_client_connects_meanwhile(self, stopping: Wire) -> None:
        """
        If a client connects while the reactor stops, its handler begins, and is cancelled like the others.
        """
        served = Served(stopping, coroutine)
        served.stop()
        served.clients.append(stopping.connect(served.resource).request())
        stopping.reactor.advance(1.0)
        assert served.bodies == ["data: bye\n\n"] * 2
        assert served.reasons == [CloseReason.SHUTDOWN] * 2
        served.let_it_stop()

    @pytest.mark.parametrize("timeout", [-1.0, float("nan")])
    def test_invalid_timeout(self, timeout: float) -> None:
        """
        An invalid shutdown_timeout is refused.
        """
        with pytest.raises(ValueError, match="shutdown_timeout"):
            Upgrader(shutdown_timeout=timeout)


class SourceTests:
    def test_number_of_events(self, one: Wire) -> None:
        """
        When the reactor stops, a source without a handler ends normally: send_from fires with the number of
        events.
        """
        sent: list[object] = []

        async def source() -> AsyncIterator[str]:
            yield "1"
            await Deferred()

        def serve(channel: SSEChannel) -> None:
            channel.send_from(source()).addBoth(sent.append)

        served = Served(one, serve)
        served.stop()
        assert sent == [1]
        served.let_it_stop()
        assert served.reasons == [CloseReason.SHUTDOWN]

    def test_several_sources(self, one: Wire) -> None:
        """
        When the reactor stops, all sources of a channel end, and sources that ended before are not counted.
        """
        sent: list[object] = []

        def serve(channel: SSEChannel) -> None:
            source: Any
            for source in (["1"], Deferred(), Deferred()):
                channel.send_from(source).addBoth(sent.append)

        served = Served(one, serve)
        served.stop()
        assert sent == [1, 0, 0]
        served.let_it_stop()

    def test_cleans_up_when_its_client_disconnects(self, one: Wire) -> None:
        """
        A generator that is the handler is cancelled once when its client disconnects, and finishes its
        cleaning up.
        """
        done: list[str] = []

        async def handler(channel: SSEChannel) -> AsyncIterator[str]:
            try:
                await Deferred()
                yield "never"
            finally:
                await deferLater(one.reactor, 1.0)
                done.append("cleaned up")

        served = Served(one, handler)
        served.clients[0].disconnect()
        one.reactor.advance(1.0)
        assert done == ["cleaned up"]


class ChannelTests:
    def test_without_a_handler(self, stopping: Wire) -> None:
        """
        A channel without a handler stays open while the reactor stops; its close reason is then SHUTDOWN.
        """
        served = Served(stopping, lambda channel: None)
        served.stop()
        assert len(served.stopped) == 1
        (channel,) = served.channels
        channel.send("bye")
        assert served.bodies == ["data: bye\n\n"]
        served.clients[0].disconnect(clean=False)
        assert served.reasons == [CloseReason.SHUTDOWN]

    def test_channel_of_a_hub(self, one: Wire) -> None:
        """
        A channel of a hub that stops has the hub's close reason, even if the reactor stops too.
        """
        hub = Hub(upgrader=one.upgrader(), reactor=one.reactor)
        client = one.connect(hub.resource("news")).request()
        one.reactor.stop()
        hub.stop()
        client.pump()
        assert client.ended
        one.reactor.run_soon()
        assert hub.metrics().closes == {CloseReason.DRAINED: 1}

    def test_channel_of_a_slow_reader(self, one: Wire) -> None:
        """
        While the reactor stops, a specific close reason, such as SLOW_READER, is kept.
        """
        served = Served(one, lambda channel: None, slow_policy="close", max_buffer=10)
        served.stop()
        (channel,) = served.channels
        served.clients[0].stop_reading()
        channel.send("x" * 200_000)
        with pytest.raises(errors.ChannelClosed):
            channel.send("x" * 20)
        one.reactor.run_soon()
        assert served.reasons == [CloseReason.SLOW_READER]


class TriggerTests:
    def test_once_for_all_channels(self, stopping: Wire) -> None:
        """
        A reactor has one trigger for all channels of all upgraders, and none without channels.
        """
        first = Served(stopping, lambda channel: None, clients=2)
        second = Served(stopping, lambda channel: None)
        assert len(stopping.reactor.triggers) == 1
        for channel in [*first.channels, *second.channels]:
            assert len(stopping.reactor.triggers) == 1
            channel.close()
            stopping.reactor.run_soon()
        assert stopping.reactor.triggers == []
        again = Served(stopping, lambda channel: None)
        assert len(stopping.reactor.triggers) == 1
        again.channels[0].close()

    def test_reactor_without_system_events(self, plain: Wire) -> None:
        """
        A reactor without system events gets no trigger.
        """
        served = Served(plain, coroutine)
        assert plain.reactor.triggers == []
        served.clients[0].disconnect()
        assert served.reasons == [CloseReason.CLIENT_GONE]

    def test_nothing_is_kept_of_a_reactor(self, one: Wire) -> None:
        """
        The shutdown object of a reactor is freed with its last upgrader.
        """
        upgrader = one.upgrader()
        assert upgrader.reactor is one.reactor
        shutdown = weakref.ref(shutdown_of(one.reactor))
        assert shutdown() is not None
        del upgrader
        gc.collect()
        assert shutdown() is None


class ServiceTests:
    def test_reactor_stops_later(self, one: Wire) -> None:
        """
        A reactor that stops does not wait for channels that a service has ended before.
        """
        served = Served(one, lambda channel: Deferred())
        ended = Deferred.fromCoroutine(shutdown_of(one.reactor).end(served.channels))
        served.clients[0].pump()
        assert ended.called and served.reasons == [CloseReason.SHUTDOWN]
        later = Served(one, lambda channel: None)
        later.stop()
        assert len(later.stopped) == 1
        later.clients[0].disconnect()

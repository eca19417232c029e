"""
Tests of a hub as a service, on a fake network.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, capturedLogs
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import alsoProvides

from tests.fakes import Client, Wire
from tests.hub.fakes import ScriptedJournal, outcome_of, result_of, turn
from tests.web.listening_fakes import FakeEndpoint, FakePort
from txsse import (
    CloseReason,
    EventStreamParser,
    Hub,
    HubService,
    HubStopped,
    JournalFailed,
    ListenFailed,
    ServerSentEvent,
    SSEChannel,
    SSEResource,
    Upgrader,
)
from txsse.web import BoundedSite


class Served:
    """
    A service on a fake endpoint, with a hub and streams of handlers.

    :ivar ended: the close reasons of the channels without a subscriber.
    """

    def __init__(self, wire: Wire, *, upgrader: dict[str, Any] | None = None, **options: Any) -> None:
        self.wire = wire
        self.upgrader: Upgrader = wire.upgrader(**(upgrader or {}))
        self.hub = Hub(upgrader=self.upgrader, reactor=wire.reactor)
        self.ended: list[CloseReason] = []
        root = Resource()
        root.putChild(b"news", self.hub.resource("news"))
        for handler in (self.polite, self.stubborn, self.idle):
            root.putChild(handler.__name__.encode(), SSEResource(handler, upgrader=self.upgrader))
        self.site = BoundedSite(root, reactor=wire.reactor)
        self.site.timeOut = None
        self.site.log = lambda request: None  # type: ignore[method-assign]
        self.port = FakePort()
        self.service = HubService(self.hub, self.site, FakeEndpoint(self.port), **options)
        self.clients: list[Client] = []

    async def polite(self, channel: SSEChannel) -> None:
        self.idle(channel)
        try:
            await Deferred()
        finally:
            channel.send("bye")

    async def stubborn(self, channel: SSEChannel) -> None:
        self.idle(channel)
        try:
            await Deferred()
        finally:
            await deferLater(self.wire.reactor, 100)

    def idle(self, channel: SSEChannel) -> None:
        channel.when_closed().addCallback(self.ended.append)

    def open(self, path: str) -> Client:
        client = self.wire.connect_to(self.site).request(path)
        assert client.status == 200
        self.clients.append(client)
        return client

    def stop(self) -> Deferred[Any]:
        stopped: Deferred[Any] = self.service.stopService()
        self.port.stopped.callback(None)
        return stopped

    def pump(self) -> None:
        for client in self.clients:
            client.pump()

    def wait(self, seconds: float) -> None:
        self.wire.reactor.advance(seconds)
        self.pump()

    def end(self) -> None:
        for client in self.clients:
            if client.transport.connected:
                Client.disconnect(client, clean=False)
        if not self.port.stopped.called:
            self.stop()
        self.wire.reactor.advance(100)
        self.wire.reactor.run_soon()


Serve = Callable[..., Served]


@pytest.fixture
def serve(wire: Wire) -> Iterator[Serve]:
    """
    Start services over each transport in turn.
    """
    yield from _serve(wire)


@pytest.fixture
def serve_plain(plain: Wire) -> Iterator[Serve]:
    """
    Start services over plain TCP.
    """
    yield from _serve(plain)


def _serve(wire: Wire) -> Iterator[Serve]:
    made: list[Served] = []

    def serve(**options: Any) -> Served:
        made.append(Served(wire, **options))
        made[-1].service.startService()
        return made[-1]

    yield serve
    for each in made:
        each.end()


def events_of(client: Client) -> list[ServerSentEvent]:
    return EventStreamParser().feed(client.body)


class StopTests:
    def test_order(self, serve: Serve) -> None:
        """
        A service that stops first stops listening; then all streams end properly, subscribers after a
        farewell and with a reconnection delay, and handlers after their last event; then it closes the
        connections.
        """
        served = serve(farewell=ServerSentEvent("back soon", event="restart"))
        news, polite, idle = (served.open(f"/{name}") for name in ("news", "polite", "idle"))
        served.hub.publish("news", "one")
        stopped = served.service.stopService()
        served.pump()
        assert served.port.stopping and not any(client.ended for client in (news, polite, idle))
        served.port.stopped.callback(None)
        for _ in range(3):
            served.wait(0.2)
        assert all(client.ended and not client.reset for client in (news, polite, idle))
        assert not any(client.connected for client in (news, polite, idle))
        texts = [event.data for event in events_of(news) if event.event in ("message", "restart")]
        assert texts[-2:] == ["one", "back soon"]
        assert b"retry: " in news.body.partition(b"back soon")[2]
        assert [event.data for event in events_of(polite)] == ["bye"]
        assert served.ended == [CloseReason.SHUTDOWN] * 2
        assert result_of(stopped) is None
        assert served.wire.reactor.getDelayedCalls() == []

    def test_logs(self, serve_plain: Serve) -> None:
        """
        A service logs its URL, how many streams are open when it stops, and that it has stopped.
        """
        with capturedLogs() as logs:
            served = serve_plain()
            for name in ("news", "news", "polite"):
                served.open(f"/{name}")
            served.stop()
            served.wait(0)
        lines = [
            log["log_format"].format(**log) for log in logs if log["log_namespace"] == "txsse.hub.service"
        ]
        assert lines == [
            "Listening at http://127.0.0.1:8080/",
            "Stopping: 3 streams are open",
            "Stopped: all streams have ended, and all connections are closed",
        ]

    def test_client_that_does_not_read(self, serve_plain: Serve) -> None:
        """
        A subscriber that does not read is cut off after shutdown_timeout.
        """
        served = serve_plain(shutdown_timeout=3)
        client = served.open("/news")
        client.stop_reading()
        served.hub.publish("news", "x" * 100_000)
        served.wait(0)
        stopped = served.stop()
        served.wait(2.9)
        assert client.connected and not stopped.called
        served.wait(0.2)
        served.wait(0)
        assert not client.connected and stopped.called

    def test_handler_that_does_not_end(self, serve_plain: Serve) -> None:
        """
        A handler that does not end holds a service up for its upgrader's shutdown_timeout.
        """
        served = serve_plain(upgrader={"shutdown_timeout": 2.0})
        client = served.open("/stubborn")
        stopped = served.stop()
        served.wait(1.9)
        assert client.connected and not client.ended
        served.wait(0.2)
        assert client.ended and not client.connected
        assert stopped.called and served.ended == [CloseReason.SHUTDOWN]

    def test_handler_slower_than_the_service(self, serve_plain: Serve) -> None:
        """
        A handler does not hold a service up for longer than the service's own shutdown_timeout.
        """
        served = serve_plain(upgrader={"shutdown_timeout": 50.0}, shutdown_timeout=2)
        client = served.open("/stubborn")
        stopped = served.stop()
        served.wait(1.9)
        assert client.connected
        served.wait(0.2)
        assert not client.connected and stopped.called
        # Its handler still sleeps.
        served.wait(100)

    def test_reactor_stops_too(self, plain: Wire) -> None:
        """
        If the reactor stops at the same time, each handler is cancelled once, and its last event is sent.
        """
        alsoProvides(plain.reactor, IReactorCore)
        served = Served(plain)
        served.service.startService()
        client = served.open("/polite")
        [trigger] = [trigger for trigger in plain.reactor.triggers if trigger[1] == "shutdown"]
        stopped = served.stop()
        reactor_stopped = trigger[2]()
        for _ in range(3):
            served.wait(0.2)
        assert client.ended and events_of(client)[-1].data == "bye"
        assert stopped.called and reactor_stopped.called
        served.end()

    def test_subscriber_of_another_hub(self, serve_plain: Serve) -> None:
        """
        The stream of a channel that is subscribed to another hub ends properly too.
        """
        served = serve_plain()
        other = Hub(upgrader=served.upgrader, reactor=served.wire.reactor)
        served.site.resource.putChild(b"other", other.resource("x"))  # type: ignore[attr-defined]
        client = served.open("/other")
        assert served.stop() is not None
        served.wait(0)
        assert client.ended and not client.connected

    def test_handler_of_a_subscriber(self, plain: Wire) -> None:
        """
        The handler of a channel that is subscribed to the hub has ended when the service has stopped.
        """
        served = Served(plain)
        events: list[str] = []

        async def handler(channel: SSEChannel) -> None:
            served.hub.subscribe(channel, "news")
            try:
                await Deferred()
            finally:
                await deferLater(plain.reactor, 0)
                events.append("the handler has ended")

        served.site.resource.putChild(b"both", SSEResource(handler, upgrader=served.upgrader))  # type: ignore[attr-defined]
        served.service.startService()
        client = served.open("/both")
        served.service.stopService().addCallback(lambda _: events.append("the service has stopped"))
        served.port.stopped.callback(None)
        for _ in range(5):
            turn(plain.reactor)
            if client.transport in plain.reactor.writers:
                client.write_out()
        served.wait(0)
        assert client.ended
        assert events == ["the handler has ended", "the service has stopped"]

    @pytest.mark.parametrize("times", [1, 2])
    def test_again(self, serve_plain: Serve, times: int) -> None:
        """
        A service that is stopped again while it stops, or after that, only waits for the end.
        """
        served = serve_plain()
        client = served.open("/news")
        first = served.service.stopService()
        second = served.service.stopService()
        assert not first.called and not second.called
        served.port.stopped.callback(None)
        served.wait(0)
        assert client.ended and first.called and second.called
        with capturedLogs() as logs:
            for _ in range(times):
                assert served.service.stopService().called
        assert logs == []

    def test_never_started(self, plain: Wire) -> None:
        """
        To stop a service that has not started does nothing, and it can still start.
        """
        served = Served(plain)
        assert served.service.stopService().called
        assert not served.hub.is_stopping
        served.service.startService()
        assert served.open("/news").connected
        served.end()

    def test_only_listens(self, plain: Wire) -> None:
        """
        A service that was stopped between privilegedStartService and startService has stopped listening.
        """
        served = Served(plain)
        served.service.privilegedStartService()
        stopped = served.stop()
        served.wait(0)
        assert served.port.stopping and stopped.called

    def test_end_streams_fails(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        If a subclass fails to end its streams, that is logged, and the connections are closed all the same.
        """

        class Failing(HubService):
            async def end_streams(self) -> None:
                raise ZeroDivisionError

        served = Served(plain)
        served.service = Failing(served.hub, served.site, FakeEndpoint(served.port))
        served.service.startService()
        client = served.open("/idle")
        stopped = served.stop()
        served.wait(0)
        assert not client.connected and stopped.called
        assert [log["log_format"] for log in failures] == ["the streams of the service did not end properly"]
        served.hub.stop()
        served.end()


class StartTests:
    def test_journal_is_retried(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A service listens while it retries a journal that cannot be started, with growing delays.
        """
        served = Served(plain)
        attempts: list[float] = []
        real = served.hub.start

        def start() -> Deferred[None]:
            attempts.append(plain.reactor.seconds())
            return fail(JournalFailed("x", "is unavailable")) if len(attempts) < 6 else real()

        monkeypatch.setattr(served.hub, "start", start)
        served.service.startService()
        ready = served.service.when_ready()
        for _ in range(60):
            plain.reactor.advance(1)
        assert ready.called and served.service.when_ready().called
        waits = [after - before for before, after in pairwise(attempts)]
        assert len(waits) == 5 and waits[0] <= 2 and 2 * waits[0] < waits[-1] <= 11
        served.end()

    def test_stopped_while_the_journal_starts(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        A service that is stopped while its journal starts is never ready, and logs no failure.
        """
        served = Served(plain)
        journal = ScriptedJournal(reactor=plain.reactor)
        served.hub = Hub(journal=journal, upgrader=served.upgrader, reactor=plain.reactor)
        served.service = HubService(served.hub, served.site, FakeEndpoint(served.port))
        served.hub.start = lambda: fail(JournalFailed("x", "is unavailable"))  # type: ignore[method-assign]
        served.service.startService()
        outcomes = outcome_of(served.service.when_ready())
        dropped = served.service.when_ready()
        stopped = served.stop()
        served.wait(0)
        assert stopped.called
        [error] = outcomes
        assert isinstance(error, HubStopped)
        [error] = outcome_of(served.service.when_ready())
        assert isinstance(error, HubStopped)
        del dropped
        assert plain.reactor.getDelayedCalls() == []
        assert failures == []

    def test_journal_with_a_bug(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        A journal that fails with an unexpected exception is logged, and not retried.
        """
        served = Served(plain)
        served.hub.start = lambda: fail(ZeroDivisionError())  # type: ignore[method-assign]
        served.service.startService()
        assert [log["log_format"] for log in failures] == ["the service did not start"]
        assert plain.reactor.getDelayedCalls() == []
        served.end()

    def test_hub_is_stopped(self, serve_plain: Serve) -> None:
        """
        A service whose hub has been stopped refuses to start, and says what to do.
        """
        served = serve_plain()
        served.stop()
        served.wait(0)
        for start in (served.service.startService, served.service.privilegedStartService):
            with pytest.raises(RuntimeError, match="make a new Hub and a new HubService"):
                start()
        assert not served.service.running

    def test_hub_is_stopped_while_it_starts(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        If the application stops the hub itself while the service waits for its journal, nothing is logged.
        """
        served = Served(plain)
        served.hub.start = lambda: fail(HubStopped())  # type: ignore[method-assign]
        served.service.startService()
        assert failures == []
        served.end()

    def test_cannot_listen(self, plain: Wire) -> None:
        """
        If an endpoint cannot listen, the error names it, other endpoints stop listening, the error is logged,
        and the service can start later.
        """
        served = Served(plain)
        in_use = CannotListenError("", 80, OSError(errno.EADDRINUSE, "in use"))
        for start in ("privilegedStartService", "startService"):
            port = FakePort()
            endpoints = [FakeEndpoint(port), FakeEndpoint(fail(in_use))]
            service = HubService(served.hub, served.site, endpoints)
            with capturedLogs() as logs, pytest.raises(ListenFailed, match="it is in use; stop the process"):
                getattr(service, start)()
            assert port.stopping and not service.running
            [problem] = [log["problem"] for log in logs if "problem" in log]
            assert problem.startswith("cannot listen on 'FakeEndpoint': it is in use")
            assert service.stopService().called
        served.service.startService()
        served.end()

    def test_started_twice(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A service that is started twice listens once, and starts its journal once.
        """
        served = Served(plain)
        starts: list[None] = []
        real = served.hub.start
        monkeypatch.setattr(served.hub, "start", lambda: (starts.append(None), real())[1])  # type: ignore[func-returns-value]
        served.service.privilegedStartService()
        for _ in range(2):
            served.service.startService()
        assert len(starts) == 1
        served.end()

    def test_part_of_a_multi_service(self, plain: Wire) -> None:
        """
        A service that is added to a running MultiService starts, and stops when it is removed.
        """
        served = Served(plain)
        parent = MultiService()
        parent.startService()
        served.service.setServiceParent(parent)
        client = served.open("/news")
        assert served.service.running and repr(served.service) == "<HubService running>"
        served.port.stopped.callback(None)
        removed = served.service.disownServiceParent()
        served.wait(0)
        assert client.ended and removed.called
        assert repr(served.service) == "<HubService stopped>"

    def test_nothing_before_start(self) -> None:
        """
        A service that was made, but not started, has touched no part of its reactor.
        """
        reactor = MemoryReactorClock()
        hub = Hub(reactor=reactor)
        site = BoundedSite(Resource(), reactor=reactor)
        service = HubService(hub, site, ["tcp:8080", "haproxy:tcp:8081"])
        assert repr(service) == "<HubService not started>"
        assert not reactor.tcpServers and not reactor.getDelayedCalls() and not reactor.triggers
        service.privilegedStartService()
        service.startService()
        assert [server[0] for server in reactor.tcpServers] == [8080, 8081]
        service.stopService()
        for _ in range(5):
            reactor.advance(0)
        assert reactor.getDelayedCalls() == []

    def test_on_listening(self) -> None:
        """
        on_listening is called with each URL, and then nothing is logged.
        """
        reactor = MemoryReactorClock()
        urls: list[str] = []
        site = BoundedSite(Resource(), reactor=reactor)
        endpoints: list[Any] = ["tcp:81", TCP4ServerEndpoint(reactor, 82, interface="127.0.0.1")]
        service = HubService(Hub(reactor=reactor), site, endpoints, on_listening=urls.append)
        with capturedLogs() as logs:
            service.startService()
        assert urls == ["http://127.0.0.1:81/", "http://127.0.0.1:82/"]
        assert [log for log in logs if "url" in log] == []
        service.stopService()
        for _ in range(5):
            reactor.advance(0)


class ArgumentTests:
    @pytest.mark.parametrize(
        ("given", "error", "said"),
        [
            ({"hub": None}, TypeError, "hub must be a Hub, not NoneType"),
            (
                {"site": Site(Resource())},
                TypeError,
                r"write BoundedSite\(root, reactor=reactor\) instead of Site",
            ),
            ({"site": Resource()}, TypeError, r"write BoundedSite\(resource, reactor=reactor\)"),
            ({"site": None}, TypeError, "site must be a txsse.web.BoundedSite, .* not NoneType"),
            (
                {"endpoints": 8080},
                TypeError,
                "endpoints must be an endpoint string such as 'tcp:8080.*, not int",
            ),
            ({"endpoints": b"tcp:80"}, TypeError, "not bytes"),
            ({"endpoints": ["tcp:80", 81]}, TypeError, "or several, not int"),
            ({"endpoints": []}, ValueError, "endpoints must not be empty; give one, such as 'tcp:8080"),
            ({"endpoints": "8080"}, ValueError, "cannot listen on '8080': .*; write it like tcp:8080"),
            ({"shutdown_timeout": "1"}, TypeError, "shutdown_timeout must be a number of seconds, not str"),
            (
                {"shutdown_timeout": 0},
                ValueError,
                "shutdown_timeout must be a positive number of seconds, not 0",
            ),
            ({"shutdown_timeout": float("nan")}, ValueError, "not nan"),
            ({"farewell": "bye"}, TypeError, "farewell must be a ServerSentEvent or None, not str"),
            ({"on_listening": "x"}, TypeError, "on_listening must be callable with a URL, or None, not str"),
        ],
    )
    def test_invalid(self, given: dict[str, Any], error: type[Exception], said: str) -> None:
        """
        An invalid argument is refused when the service is made, with an error that says what to do.
        """
        reactor = MemoryReactorClock()
        site = BoundedSite(Resource(), reactor=reactor)
        arguments = {"hub": Hub(reactor=reactor), "site": site, "endpoints": "tcp:80", **given}
        with pytest.raises(error, match=said):
            HubService(**arguments)

"""
Tests of the access log: the dates of its lines, and a log that fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.server import Site

from tests.fakes import Client, Wire
from tests.hub.fakes import World, outcome_of
from tests.web.test_site import Page
from txsse import CloseReason, Limits, SSEChannel, SSEResource
from txsse._rate_limited_log import RateLimitedLog
from txsse.web import access_log
from txsse.web.site import ClosingSite


class AccessLogTests:
    def test_clock_that_is_set(self, plain: Wire, tmp_path: Path) -> None:
        """
        Each access-log line has the time of day at which it was written, even after the clock was set.
        """
        path = tmp_path / "access.log"
        site = ClosingSite(Page(), reactor=plain.reactor)
        site.logPath = str(path)
        site.doStart()
        client = Client(plain, site)
        for step in (1_000_000_000, 86400, -2 * 86400):
            plain.reactor.step(step)
            client.request()
            plain.reactor.run_soon()
        client.disconnect()
        site.doStop()
        dates = [line.partition("[")[2].partition("]")[0] for line in path.read_text().splitlines()]
        assert dates == [
            "09/Sep/2001:01:46:40 +0000",
            "10/Sep/2001:01:46:40 +0000",
            "08/Sep/2001:01:46:40 +0000",
        ]


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEvent]]:
    """
    Collect the failures that are logged during a test.
    """
    monkeypatch.setattr(access_log, "_failures", RateLimitedLog(access_log._failures._log))
    logged: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            logged.append(event)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield logged
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


def fail(*_: Any) -> None:
    """
    Raise the error of a full disk.
    """
    raise OSError(28, "No space left on device")


class FailingLogTests:
    @pytest.mark.parametrize("end", ["close", "abort", "leave", "vanish", "finish"])
    def test_stream_ends(self, wire: Wire, end: str, failures: list[LogEvent]) -> None:
        """
        If the access log fails, a stream still ends, its slot is free, and when_closed fires.
        """
        channels: list[SSEChannel] = []
        reasons: list[CloseReason] = []
        requests: list[Any] = []

        class Resource(SSEResource):
            def render(self, request: Any) -> int:
                requests.append(request)
                return super().render(request)

        upgrader = wire.upgrader(limits=Limits(channels=1))
        resource = Resource(channels.append, upgrader=upgrader)
        client = wire.connect(resource, log=fail).request()
        (channel,) = channels
        channel.when_closed().addCallback(reasons.append)
        if end == "close":
            channel.close()
        elif end == "abort":
            channel.abort()
        elif end == "finish":
            requests[0].unregisterProducer()
            requests[0].finish()
        else:
            client.disconnect(clean=end == "leave")
        client.pump()
        assert len(reasons) == 1
        assert len(failures) == 1
        assert failures[0]["log_failure"].check(OSError)
        assert wire.connect(resource).request().status == 200
        channels[1].close()

    def test_hub_stops(self, wire: Wire, failures: list[LogEvent]) -> None:
        """
        If the access log fails, a hub that stops still ends all of its streams.
        """
        world = World(wire)
        clients = [wire.connect(world.hub.resource("news"), log=fail).request() for _ in range(3)]
        outcome = outcome_of(world.hub.stop())
        for client in clients:
            client.pump()
            assert client.ended
        wire.reactor.run_soon()
        assert outcome == [None]
        assert world.hub.metrics().closes == {CloseReason.DRAINED: 3}
        assert len(failures) == 3

    def test_formatter_that_reads_missing_data(self, wire: Wire, tmp_path: Path) -> None:
        """
        If a log formatter reads data that was not kept, the stream still ends.
        """
        reasons: list[CloseReason] = []

        def format_line(timestamp: str, request: Any) -> str:
            return f"{request.getUser()}"

        site = Site(
            SSEResource(
                lambda channel: channel.when_closed().addCallback(reasons.append) and None,
                upgrader=wire.upgrader(),
            ),
            reactor=wire.reactor,
            logPath=str(tmp_path / "log"),
            logFormatter=format_line,
        )
        site.doStart()
        client = wire.connect(site.resource, log=site.log).request()
        client.disconnect(clean=False)
        site.doStop()
        assert reasons == [CloseReason.CLIENT_GONE]

    def test_nothing_is_wrapped_twice(self, plain: Wire) -> None:
        """
        The log method of a site is guarded once, however many streams it has.
        """
        client = plain.connect(SSEResource(upgrader=plain.upgrader()), log=fail)
        site = client.protocol.factory
        client.request()
        guard = site.log
        client.disconnect()
        access_log.guard_log(site)
        access_log.guard_log(None)
        assert site.log is guard


class ClosingTests:
    def stopped(self, wire: Wire, path: Path) -> ClosingSite:
        """
        Return a site whose last port was closed while a stream is open.
        """
        self.channels: list[SSEChannel] = []
        resource = SSEResource(self.channels.append, upgrader=wire.upgrader())
        site = ClosingSite(resource, reactor=wire.reactor)
        site.logPath = str(path)
        site.doStart()
        self.client = Client(wire, site).request("/stream")
        site.doStop()
        return site

    def test_streams_that_end_after_the_port(self, plain: Wire, tmp_path: Path) -> None:
        """
        A stream that ends after the last port was closed has its access-log line; then the log is closed.
        """
        path = tmp_path / "access.log"
        site = self.stopped(plain, path)
        self.channels[0].close()
        self.client.pump()
        assert "GET /stream" in path.read_text()
        closed = Deferred.fromCoroutine(site.close())
        self.client.disconnect()
        assert closed.called
        assert site._logFile is None

    def test_disk_is_full(self, plain: Wire, failures: list[LogEvent], tmp_path: Path) -> None:
        """
        A site closes even if its access log is on a full disk.
        """
        site = self.stopped(plain, tmp_path / "access.log")

        class Full:
            write = close = fail

        site._logFile.close()  # type: ignore[union-attr]
        site._logFile = Full()
        closed = Deferred.fromCoroutine(site.close())
        self.client.disconnect()
        assert closed.called
        assert [event["log_failure"].type for event in failures] == [OSError, OSError]

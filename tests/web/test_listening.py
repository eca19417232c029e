"""
Tests of the endpoints that a site listens on, on fake endpoints.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import fail, succeed
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, Logger, capturedLogs
from twisted.web.resource import Resource

from tests.web.listening_fakes import FakeEndpoint, FakePort
from txsse import ListenFailed
from txsse.web.listening import Listener, as_endpoints
from txsse.web.site import ClosingSite

_log = Logger()


def listener(endpoint: FakeEndpoint, description: str = "tcp:8080") -> Listener:
    site = ClosingSite(Resource(), reactor=Clock())  # type: ignore[arg-type]
    return Listener(description, endpoint, site, lambda url: _log.info("at {url}", url=url))  # type: ignore[arg-type]


class ListenerTests:
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (
                CannotListenError("", 80, OSError(errno.EADDRINUSE, "in use")),
                "it is in use; stop the process",
            ),
            (CannotListenError("", 80, OSError(errno.EACCES, "denied")), "choose a port above 1023"),
            (CannotListenError("", 80, OSError(errno.EPERM, "denied")), "choose a port above 1023"),
            (CannotListenError("", 80, OSError(errno.EADDRNOTAVAIL, "no")), "does not have that address"),
            (CannotListenError("", 80, socket.gaierror(-2, "unknown name")), "unknown name; choose another"),
            (CannotListenError(None, "/x", "Cannot acquire lock"), "Cannot acquire lock; choose another"),
            (OverflowError("bind(): port must be 0-65535."), "choose one up to 65535"),
            (FileNotFoundError(errno.ENOENT, "No such file", "1", None, "x"), "No such file; choose another"),
            (RuntimeError("two\nlines"), "two lines; choose another"),
        ],
    )
    def test_cannot_listen(self, error: Exception, said: str) -> None:
        """
        A listener that cannot listen raises an error of one line that says why, and what to do.
        """
        service = listener(FakeEndpoint(fail(error)))
        with pytest.raises(ListenFailed) as raised:
            service.startService()
        line = str(raised.value)
        assert line.isprintable() and raised.value.endpoint == "tcp:8080"
        assert line.startswith("cannot listen on 'tcp:8080': ") and said in line
        assert not service.running and service.stopService().called

    def test_listens_at_the_second_attempt(self) -> None:
        """
        A listener that could not listen listens when it is started again.
        """
        endpoint = FakeEndpoint(fail(RuntimeError("no")))
        service = listener(endpoint)
        with pytest.raises(ListenFailed):
            service.privilegedStartService()
        port = FakePort()
        endpoint.listening = succeed(port)  # type: ignore[arg-type]
        service.startService()
        service.stopService()
        assert port.stopping

    def test_announcement_fails(self, failures: list[LogEvent]) -> None:
        """
        If the URL cannot be announced, that is logged, and the port is closed at the end all the same.
        """

        def announce(url: str) -> None:
            raise ZeroDivisionError

        port = FakePort()
        site = ClosingSite(Resource(), reactor=Clock())
        service = Listener("tcp:8080", FakeEndpoint(port), site, announce)
        service.startService()
        assert [log["endpoint"] for log in failures] == ["tcp:8080"]
        service.stopService()
        assert port.stopping

    def test_fails_late(self) -> None:
        """
        An endpoint that fails while the process runs is logged in the words of the error at start.
        """
        endpoint = FakeEndpoint()
        service = listener(endpoint, "onion:80")
        service.startService()
        with capturedLogs() as logs:
            endpoint.listening.errback(RuntimeError("no Tor"))
        problem = "cannot listen on 'onion:80': no Tor; choose another endpoint"
        assert [log["problem"] for log in logs] == [problem]
        assert service.stopService().called

    def test_stops_before_it_listens(self) -> None:
        """
        A service that stops before its endpoint listens cancels the attempt, and logs no failure.
        """
        endpoint = FakeEndpoint()
        service = listener(endpoint)
        service.startService()
        with capturedLogs() as logs:
            assert service.stopService().called
        assert endpoint.cancelled
        assert logs == []

    def test_stops(self) -> None:
        """
        A listener has stopped when its port has stopped.
        """
        port = FakePort()
        service = listener(FakeEndpoint(port))
        service.startService()
        stopped: list[None] = []
        service.stopService().addCallback(stopped.append)
        assert port.stopping and not stopped
        port.stopped.callback(None)
        assert stopped == [None]

    def test_stops_unstarted(self) -> None:
        """
        A listener that never listened stops at once.
        """
        assert listener(FakeEndpoint()).stopService().called

    @pytest.mark.parametrize(
        ("description", "address", "url"),
        [
            ("tcp:0:interface=127.0.0.1", IPv4Address("TCP", "127.0.0.1", 81), "http://127.0.0.1:81/"),
            ("tcp:81", IPv4Address("TCP", "0.0.0.0", 81), "http://127.0.0.1:81/"),
            ("tcp:81", IPv4Address("TCP", "192.168.1.5", 81), "http://192.168.1.5:81/"),
            ("tcp6:81", IPv6Address("TCP", "::", 81), "http://[::1]:81/"),
            ("tcp6:81", IPv6Address("TCP", "fd00::1", 81), "http://[fd00::1]:81/"),
            ("ssl:81", IPv4Address("TCP", "0.0.0.0", 81), "https://127.0.0.1:81/"),
            ("SSL:81", IPv4Address("TCP", "0.0.0.0", 81), "https://127.0.0.1:81/"),
            ("haproxy:tcp:81", IPv4Address("TCP", "0.0.0.0", 81), "http://127.0.0.1:81/"),
            ("haproxy:ssl:81", IPv4Address("TCP", "0.0.0.0", 81), "https://127.0.0.1:81/"),
            ("unix:/run/x", UNIXAddress("/run/x"), "unix:/run/x"),
        ],
    )
    def test_logs_url(self, description: str, address: Any, url: str) -> None:
        """
        A listener logs a URL that a browser on this machine can open.
        """
        service = listener(FakeEndpoint(FakePort(address)), description)
        with capturedLogs() as logs:
            service.startService()
        assert [log["url"] for log in logs] == [url]


class EndpointTests:
    def test_names(self) -> None:
        """
        An endpoint string is its own name; an endpoint object is named by its class, and TLS is visible.
        """
        reactor = MemoryReactorClock()
        objects = [SSL4ServerEndpoint(reactor, 443, None), TCP4ServerEndpoint(reactor, 80)]
        assert [name for name, _ in as_endpoints(reactor, ["tcp:80", *objects])] == [
            "tcp:80",
            "ssl: SSL4ServerEndpoint",
            "TCP4ServerEndpoint",
        ]
        assert as_endpoints(reactor, objects[1]) == [("TCP4ServerEndpoint", objects[1])]

    @pytest.mark.parametrize(
        ("description", "said"),
        [
            ("tcp:x", "'x' is not a number; write it like tcp:8080"),
            ("tcp", "write it like tcp:8080"),
            ("ssl:443:privateKey=/nowhere/key.pem", "cannot read /nowhere/key.pem"),
            ("systemd:domain=INET:name=nothing", "cannot listen on 'systemd:domain=INET:name=nothing'"),
        ],
    )
    def test_invalid(self, description: str, said: str) -> None:
        """
        An invalid endpoint string is refused with its text and a reason.
        """
        with pytest.raises(ValueError, match="cannot listen on") as raised:
            as_endpoints(MemoryReactorClock(), description)
        assert said in str(raised.value)

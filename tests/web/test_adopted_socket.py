"""
Tests of listening UNIX sockets that another process has made, on the real reactor.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, TCP4ServerEndpoint
from twisted.logger import capturedLogs

from tests.web.listening_fakes import FakePort
from txsse import Hub, HubService
from txsse.web import BoundedSite
from txsse.web.adopted_socket import is_adopted, keep_socket, mode_of_file
from txsse.web.responses import Branch

reactor: Any = global_reactor


@pytest.fixture
def made(tmp_path: Path) -> Iterator[socket.socket]:
    """
    Make a listening UNIX socket, as systemd does, with a file that only its owner and group may use.
    """
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        made.listen()
        os.chmod(made.getsockname(), 0o660)
        yield made


def endpoint_of(made: socket.socket) -> AdoptedStreamServerEndpoint:
    return AdoptedStreamServerEndpoint(reactor, os.dup(made.fileno()), made.family)


class AdoptedTests:
    @pytest_twisted.ensureDeferred
    async def test_unix(self, made: socket.socket) -> None:
        """
        A service on another process's UNIX socket keeps its file, the mode of that, and the socket itself.
        """
        path = made.getsockname()
        for _ in range(2):
            site = BoundedSite(Branch(), reactor=reactor)
            service = HubService(Hub(reactor=reactor), site, endpoint_of(made))
            with capturedLogs() as logs:
                service.startService()
            assert [log["url"] for log in logs if "url" in log] == ["AdoptedStreamServerEndpoint"]
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            await service.stopService()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
            made.accept()[0].close()

    @pytest_twisted.ensureDeferred
    async def test_own_unix_socket(self, tmp_path: Path) -> None:
        """
        A service deletes the file of a UNIX socket of its own.
        """
        path = tmp_path / "own"
        site = BoundedSite(Branch(), reactor=reactor)
        service = HubService(Hub(reactor=reactor), site, f"unix:{path}")
        service.startService()
        assert path.exists()
        stopped: Deferred[None] = service.stopService()
        await stopped
        assert not path.exists()

    def test_mode(self, made: socket.socket) -> None:
        """
        Only a UNIX socket of another process has a mode to keep.
        """
        endpoint = endpoint_of(made)
        assert mode_of_file(endpoint) == (made.getsockname(), 0o660)
        os.unlink(made.getsockname())
        assert mode_of_file(endpoint) is None
        os.close(endpoint.fileno)
        assert mode_of_file(TCP4ServerEndpoint(reactor, 0)) is None

    @pytest.mark.parametrize(
        ("description", "expected"),
        [
            ("systemd:domain=UNIX:index=0", True),
            ("haproxy:systemd:domain=UNIX:index=0", True),
            ("unix:/run/systemd:x", False),
            ("tcp:80", False),
        ],
    )
    def test_by_description(self, description: str, expected: bool) -> None:
        """
        An endpoint string that begins with systemd, also behind haproxy, names another process's socket.
        """
        assert is_adopted(description, None) is expected

    def test_other_ports(self) -> None:
        """
        A port that is not Twisted's, and one that is not of a UNIX socket, stay as they are.
        """
        fake: Any = FakePort()
        port = reactor.listenTCP(0, BoundedSite(Branch(), reactor=reactor), interface="127.0.0.1")
        for each in (fake, port):
            keep_socket(each)
            assert "connectionLost" not in vars(each)
        port.stopListening()

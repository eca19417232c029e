"""
Tests of notifications to systemd.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from txsse.service.systemd_notify import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_notification(tmp_path: Path, abstract: bool) -> None:
    """
    The service notifies the socket in NOTIFY_SOCKET, and removes that variable from its environment.
    """
    name = f"@{tmp_path}/notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(10)
        environ = {"NOTIFY_SOCKET": name}
        notifier = Notifier(environ)
        assert environ == {}
        notifier.ready()
        notifier.stopping()
        assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_no_socket() -> None:
    """
    Without NOTIFY_SOCKET, no notification is sent; a socket that cannot be reached is logged.
    """
    Notifier({}).ready()
    with capturedLogs() as logs:
        Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready()
    assert [log["address"] for log in logs] == ["/nowhere/at/all"]

"""
Runs a real Redis server or sentinel for tests.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

# In seconds. Starting takes far less, so only a server that hangs exceeds this.
_PATIENCE = 30.0


def free_port() -> int:
    """
    Return an unused port.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, *command: str) -> str | None:
    """
    Send a command, and return the first part of its reply; ``None`` if no server replies, or it still loads.
    """
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        parts = [f"${len(each.encode())}\r\n{each}\r\n" for each in command]
        connection.sendall(f"*{len(parts)}\r\n{''.join(parts)}".encode())
        reply = connection.recv(65536).decode()
        return None if reply.startswith("-LOADING") else reply
    return None


class RedisServer:
    """
    A Redis server on an unused port, with its data in a directory.

    :param options: further lines of its configuration.
    :ivar port: its port, which remains the same after restarts.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self.program = shutil.which("redis-server")
        if self.program is None:
            pytest.skip("install Debian's package redis-server")
        self.port = free_port()
        self.directory = directory
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, **options: str) -> None:
        """
        Start the server, and wait until it replies.
        """
        assert self.program is not None
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "logfile": str(self.directory / "redis.log"),
            **self.options,
            **options,
        }
        arguments = [each for name, value in settings.items() for each in (f"--{name}", *value.split(" "))]
        self.process = subprocess.Popen([self.program, *arguments], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _PATIENCE
        while self.ask("PING") is None:
            assert self.process.poll() is None, (self.directory / "redis.log").read_text()
            assert time.monotonic() < deadline, "Redis does not reply"
            time.sleep(0.02)

    def ask(self, *command: str) -> str | None:
        """
        Send a command outside of any journal, and return its reply; ``None`` if the server does not run.
        """
        return ask(self.port, *command)

    def kill(self) -> None:
        """
        Kill the server with SIGKILL.
        """
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """
        Make the server hang, by SIGSTOP.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """
        End the effect of :meth:`pause`.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def running(directory: Path, **options: Any) -> Iterator[RedisServer]:
    """
    Run a server in the context.
    """
    server = RedisServer(directory, **options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def sentinel(directory: Path, master: int) -> Iterator[int]:
    """
    Run a sentinel for a master, whose service is named ``main``, in the context.

    :param master: the port of the master.
    :returns: the port of the sentinel.
    """
    program = shutil.which("redis-server")
    assert program is not None
    port = free_port()
    configuration = directory / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/sentinel.log\n"
        f"sentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    process = subprocess.Popen([program, str(configuration), "--sentinel"], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE
        while ask(port, "PING") is None:
            assert process.poll() is None and time.monotonic() < deadline, "the sentinel does not reply"
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()

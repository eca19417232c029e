"""
Runs a real Redis server or sentinel for tests.
"""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Program, free_port, start
from tests.waiting import wait_until


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
        self._program: Program | None = None
        self._exit = ExitStack()

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
        program = self._exit.enter_context(start([self.program, *arguments], needs="redis"))
        self._program = program

        def answers() -> bool:
            assert program.process.poll() is None, (self.directory / "redis.log").read_text()
            return self.ask("PING") is not None

        wait_until(answers, what="Redis answers")

    def ask(self, *command: str) -> str | None:
        """
        Send a command outside of any journal, and return its reply; ``None`` if the server does not run.
        """
        return ask(self.port, *command)

    def kill(self) -> None:
        """
        Kill the server with SIGKILL.
        """
        self._exit.close()
        self._program = None

    def pause(self) -> None:
        """
        Make the server hang, by SIGSTOP.
        """
        assert self._program is not None
        self._program.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """
        End the effect of :meth:`pause`.
        """
        assert self._program is not None
        self._program.process.send_signal(signal.SIGCONT)


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
    with start([program, configuration, "--sentinel"], needs="redis"):
        wait_until(lambda: ask(port, "PING"), what="the sentinel answers")
        yield port

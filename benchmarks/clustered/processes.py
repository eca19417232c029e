"""
The child processes of the soak test: nodes, crowds of subscribers, and Redis.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hiredis
from shared.running import free_port, redis_command
from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import ProcessProtocol

from clustered.agreed import KEY

__all__ = ["Broken", "Child", "RedisServer"]

reactor: Any = global_reactor

_PROGRAM = Path(__file__).parent.parent / "cluster.py"


class Broken(Exception):
    """
    Raised if the soak test itself cannot continue.
    """


class Child(ProcessProtocol):
    """
    The process of a node or a crowd.

    :param name: its name in messages.
    :param on_results: called with the results of publishing at the node.
    :ivar how: the state that it reported last.
    :ivar unanswered: how many requests for its state it has not answered yet.
    :ivar port: the port that it listens on; 0 until it does.
    :ivar code: its exit status.
    :ivar seconds: how much CPU it has used, once it has been closed.
    """

    transport: Any

    def __init__(self, name: str, on_results: Callable[[Child, list[Any]], None] | None = None) -> None:
        self.name = name
        self.how: dict[str, Any] = {}
        self.unanswered = 0
        self.port = 0
        self.code: int | None = None
        self.running = False
        self.pid = 0
        self.seconds = 0.0
        self._on_results = on_results
        self._buffer: list[bytes] = []

    def start(self, *arguments: object) -> None:
        """
        Start this program in a child process, with other arguments.
        """
        command = [sys.executable, str(_PROGRAM), *map(str, arguments)]
        reactor.spawnProcess(self, sys.executable, command, env=None, childFDs={0: "w", 1: "r", 2: 2})
        self.running = True
        self.pid = self.transport.pid

    def write(self, message: Any) -> None:
        """
        Write a message to its stdin.
        """
        if self.running:
            self.transport.write(json.dumps(message).encode() + b"\n")

    def ask(self, what: str = "how") -> None:
        """
        Ask it to report its state.

        :param what: the command that it executes first.
        """
        self.unanswered += 1
        self.write(what)

    @property
    def has_ended(self) -> bool:
        """
        Whether it has run and exited.
        """
        return self.pid != 0 and not self.running

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        self._buffer.append(data)
        if b"\n" not in data:
            return
        *lines, rest = b"".join(self._buffer).split(b"\n")
        self._buffer = [rest]
        for line in lines:
            message = json.loads(line)
            self.port = message.get("port", self.port)
            if "how" in message:
                self.how = message["how"]
                self.unanswered -= 1
            if self._on_results is not None and "results" in message:
                self._on_results(self, message["results"])

    def processEnded(self, reason: Any) -> None:  # noqa: N802
        self.running = False
        self.code = reason.value.exitCode if reason.value.signal is None else -reason.value.signal

    def close(self) -> None:
        """
        Close its stdin, so that it exits.
        """
        if self.running:
            self.seconds = cpu_of(self.pid)
            self.transport.closeStdin()

    def kill(self) -> None:
        """
        Kill it.
        """
        if self.running:
            os.kill(self.pid, signal.SIGKILL)


class RedisServer:
    """
    A real Redis server, which writes every update to its disk before it acknowledges it.

    :param directory: the directory for its data.
    :ivar seconds: how much CPU it has used, in all its runs.
    """

    def __init__(self, directory: Path) -> None:
        if shutil.which("redis-server") is None:
            raise Broken("install Debian's package redis-server")
        self.port = free_port()
        self.seconds = 0.0
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """
        The URL for a journal.
        """
        return f"redis://127.0.0.1:{self.port}"

    def spawn(self) -> None:
        """
        Start it. It does not respond before it has loaded its data.
        """
        command = redis_command(self.port, self._directory, "always")
        # In its own session, so that Ctrl-C does not reach it, and this program ends it.
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def answers(self) -> bool:
        """
        Return whether it responds.

        :raises Broken: if it has exited.
        """
        if self._process is not None and self._process.poll() is not None:
            raise Broken((self._directory / "redis.log").read_text()[-2000:])
        with suppress(OSError, hiredis.ReplyError):
            return self.ask("PING") == b"PONG"
        return False

    def ask(self, *command: str) -> Any:
        """
        Send a command, and wait for the reply.
        """
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(hiredis.pack_command(command))
            while (reply := reader.gets()) is False:
                data = connection.recv(1 << 20)
                if not data:
                    raise ConnectionResetError
                reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def entries(self) -> Iterator[dict[str, str]]:
        """
        Iterate over the entries of the stream, each with its id as ``entry``.
        """
        start = "-"
        while page := self.ask("XRANGE", f"{{{KEY}}}:updates", start, "+", "COUNT", "1000"):
            for entry, fields in page:
                texts = [text.decode() for text in fields]
                yield {"entry": entry.decode(), **dict(zip(texts[::2], texts[1::2], strict=True))}
            start = f"({page[-1][0].decode()}"

    def kill(self) -> None:
        """
        Kill it with SIGKILL.
        """
        if self._process is not None:
            self.seconds += cpu_of(self._process.pid)
            self._process.kill()
            self._process.wait()
            self._process = None


def cpu_of(pid: int) -> float:
    """
    Return how much CPU a process has used, in seconds.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

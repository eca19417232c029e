"""
The processes, as seen from the one that measures.
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
    The measurement itself cannot go on.
    """


class Child(ProcessProtocol):
    """
    A node or a crowd, as seen from here.

    :param name: what it is called.
    :param told: called with how publishing at it went.
    :ivar how: what it last told about itself.
    :ivar unanswered: how often it was asked, and has not answered yet.
    :ivar port: where it listens; 0 until it does.
    :ivar code: its exit status.
    :ivar seconds: how much CPU it has taken, once it has been closed.
    """

    transport: Any

    def __init__(self, name: str, told: Callable[[Child, list[Any]], None] | None = None) -> None:
        self.name = name
        self.how: dict[str, Any] = {}
        self.unanswered = 0
        self.port = 0
        self.code: int | None = None
        self.running = False
        self.pid = 0
        self.seconds = 0.0
        self._told = told
        self._buffer: list[bytes] = []

    def start(self, *arguments: object) -> None:
        """
        Start this program once more, as something else.
        """
        command = [sys.executable, str(_PROGRAM), *map(str, arguments)]
        reactor.spawnProcess(self, sys.executable, command, env=None, childFDs={0: "w", 1: "r", 2: 2})
        self.running = True
        self.pid = self.transport.pid

    def tell(self, what: Any) -> None:
        """
        Write to its input.
        """
        if self.running:
            self.transport.write(json.dumps(what).encode() + b"\n")

    def ask(self, what: str = "how") -> None:
        """
        Have it tell how it is.

        :param what: what it does before.
        """
        self.unanswered += 1
        self.tell(what)

    @property
    def has_ended(self) -> bool:
        """
        Whether it ran, and does not any more.
        """
        return self.pid != 0 and not self.running

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        self._buffer.append(data)
        if b"\n" not in data:
            return
        *lines, rest = b"".join(self._buffer).split(b"\n")
        self._buffer = [rest]
        for line in lines:
            told = json.loads(line)
            self.port = told.get("port", self.port)
            if "how" in told:
                self.how = told["how"]
                self.unanswered -= 1
            if self._told is not None and "results" in told:
                self._told(self, told["results"])

    def processEnded(self, reason: Any) -> None:  # noqa: N802
        self.running = False
        self.code = reason.value.exitCode if reason.value.signal is None else -reason.value.signal

    def close(self) -> None:
        """
        Have it end by itself.
        """
        if self.running:
            self.seconds = cpu_of(self.pid)
            self.transport.closeStdin()

    def kill(self) -> None:
        """
        End it.
        """
        if self.running:
            os.kill(self.pid, signal.SIGKILL)


class RedisServer:
    """
    A real one, with all that it acknowledges on its disk.

    :param directory: where its data are.
    :ivar seconds: how much CPU it has taken, until it was killed.
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
        Start it. It does not answer before it has read its data.
        """
        command = redis_command(self.port, self._directory, "always")
        # Of a session of its own, so that Ctrl-C leaves its end to this program.
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def answers(self) -> bool:
        """
        Tell whether it does.
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
        Go through the stream, each entry with its ``entry``.
        """
        start = "-"
        while page := self.ask("XRANGE", f"{{{KEY}}}:updates", start, "+", "COUNT", "1000"):
            for entry, fields in page:
                texts = [text.decode() for text in fields]
                yield {"entry": entry.decode(), **dict(zip(texts[::2], texts[1::2], strict=True))}
            start = f"({page[-1][0].decode()}"

    def kill(self) -> None:
        """
        End it, as by ``kill -9``.
        """
        if self._process is not None:
            self.seconds += cpu_of(self._process.pid)
            self._process.kill()
            self._process.wait()
            self._process = None


def cpu_of(pid: int) -> float:
    """
    Return how many seconds of CPU a process has taken.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

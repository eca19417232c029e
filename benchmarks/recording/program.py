"""
A program of the benchmark, or a Redis, in a process of its own.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanout import peers
from fanout.processes import Failed, Process

__all__ = ["Program", "free_port", "redis_server"]

# The longest that a server may take to start, in seconds.
_PATIENCE = 20


class Program(Process):
    """
    A program that answers with lines of JSON.

    :param name: its module in ``programs``.
    :param core: its core.
    :param folder: for what it complains about.
    """

    def __init__(self, name: str, *arguments: object, core: int, folder: Path) -> None:
        super().__init__(
            [sys.executable, "-m", f"recording.programs.{name}", *map(str, arguments)],
            core=core,
            folder=peers.CACHE.parent,
            environment={"PYTHONPATH": str(peers.ROOT)},
            errors=folder / f"{name}-{time.monotonic_ns()}.log",
        )
        self._name = name
        self._answers: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, *words: object) -> None:
        """
        Send a command.
        """
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        except OSError:
            raise Failed(f"the {self._name} has ended: {self.complaint()}") from None

    def answer(self, seconds: float) -> Any:
        """
        Wait for the next line.

        :raises Failed: where none comes in time, or it says so.
        """
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise Failed(f"the {self._name} does not answer for {seconds:g} s") from None
        if not line:
            raise Failed(f"the {self._name} has ended: {self.complaint()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def asked(self, *words: object, seconds: float) -> Any:
        """
        Send a command, and wait for its answer.
        """
        self.ask(*words)
        return self.answer(seconds)

    def forget_peak(self) -> None:
        """
        Count the peak of the memory from now on.

        Source: proc(5), ``clear_refs``
        """
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """
        Tell how many bytes of memory the process had at most.
        """
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise Failed(f"the {self._name} has ended: {self.complaint()}")

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with os.fdopen(os.dup(self.popen.stdout.fileno()), "rb") as pipe:
            for line in pipe:
                self._answers.put(line)
        self._answers.put(b"")


@contextmanager
def redis_server(sync: str, *, core: int, folder: Path) -> Iterator[tuple[Process, int]]:
    """
    Run a Redis.

    :param sync: its ``appendfsync``.
    :returns: its process and its port.
    """
    port = free_port()
    settings = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
        "appendonly": "yes",
        "appendfsync": sync,
        # It would fork in the middle of some rounds, and not of others.
        "auto-aof-rewrite-percentage": 0,
        "logfile": folder / "redis.log",
    }
    arguments = [str(each) for name, value in settings.items() for each in (f"--{name}", value)]
    process = Process(
        ["redis-server", *arguments], core=core, folder=folder, errors=folder / "redis-errors.log"
    )
    try:
        _wait_for(port, process)
        yield process, port
    finally:
        process.end()


def _wait_for(port: int, process: Process) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.popen.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise Failed("the Redis does not start")


def free_port() -> int:
    """
    Find a port that is free.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port

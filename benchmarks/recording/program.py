"""
Run a program of the benchmark, or a Redis, as a child process.
"""

from __future__ import annotations

import queue
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.answering import Answering
from shared.peers import BENCHMARKS, ROOT
from shared.processes import Failed, Process, ending
from shared.running import free_port, redis_command

__all__ = ["Program", "redis_server"]

# The longest that a server may take to start, in seconds.
_PATIENCE = 20


class Program(Answering):
    """
    A running program of the benchmark.

    :param name: its module in ``programs``.
    :param core: its core.
    :param folder: the folder for its stderr.
    """

    def __init__(self, name: str, *arguments: object, core: int, folder: Path) -> None:
        super().__init__(
            name,
            [sys.executable, "-m", f"recording.programs.{name}", *map(str, arguments)],
            core=core,
            folder=BENCHMARKS,
            environment={"PYTHONPATH": str(ROOT)},
            errors=folder / f"{name}-{time.monotonic_ns()}.log",
        )

    def answer(self, seconds: float) -> Any:
        """
        Wait for the next line of the program, and return its value.

        :raises Failed: if no line arrives in time, or if the line reports a failure.
        """
        try:
            answer = self.receive(seconds)
        except queue.Empty:
            raise Failed(f"the {self._name} has not answered for {seconds:g} s") from None
        if isinstance(answer, dict) and "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def asked(self, *words: object, seconds: float) -> Any:
        """
        Send a command, and return the program's answer.
        """
        self.send(*words)
        return self.answer(seconds)


@contextmanager
def redis_server(sync: str, *, core: int, folder: Path) -> Iterator[tuple[Process, int]]:
    """
    Run a Redis server, and stop it at the end.

    :param sync: its ``appendfsync``.
    :returns: its process and its port.
    """
    port = free_port()
    # Otherwise it would fork during some rounds, but not during others.
    command = [*redis_command(port, folder, sync), "--auto-aof-rewrite-percentage", "0"]
    process = Process(command, core=core, folder=folder, errors=folder / "redis-errors.log")
    with ending(process):
        _wait_for(port, process)
        yield process, port


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

"""
One server on its core, the load generator on another, and what is measured between them.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanout import peers
from fanout.processes import Cpu, Failed, Load, Process
from recording.place import ending
from recording.program import free_port

from serving.contestants import Contestant
from serving.sizes import Sizes

__all__ = ["Bench", "Found", "benched", "compile_load"]

_SOURCE = Path(__file__).with_name("load.c")
_LOAD = peers.CACHE / "serving-load"

# The longest that anything may take, in seconds.
_PATIENCE = 120


@dataclass(frozen=True)
class Found:
    """
    What came of publishing.

    :ivar answered: seconds until everything was acknowledged.
    :ivar seconds: seconds until everybody had everything.
    :ivar load: the CPU of the load generator, in seconds.
    """

    cpu: Cpu
    answered: float
    seconds: float
    load: float
    p50: float
    p99: float
    longest: float


class Bench:
    """
    A server with its clients.
    """

    def __init__(self, server: Process, load: Load) -> None:
        self._server = server
        self._load = load
        self._connected = 0

    def connect(self, count: int) -> None:
        """
        Open subscribers.
        """
        self._load.ask("connect", count, seconds=_PATIENCE)
        self._connected = self._load.answer()["connected"]
        if self._connected < count:
            raise Failed(f"{self._connected} of {count} have a stream after {_PATIENCE} s")

    def publish(self, count: int, *, connections: int, rate: float = 0) -> Found:
        """
        Publish until everything is acknowledged, and everybody has it, once.

        :param rate: how many updates a second; 0 for as many as are answered.
        """
        before = self._server.cpu()
        self._load.ask("publish", count, connections, rate, seconds=_PATIENCE)
        answer = self._load.answer()
        cpu = self._server.cpu() - before
        self._check(answer, count)
        return Found(
            cpu, **{name: answer[name] for name in ("answered", "seconds", "load", "p50", "p99", "longest")}
        )

    def check_silent(self) -> None:
        """
        Check that nothing comes any more.
        """
        self._load.ask("watch", seconds=0.3)
        if self._load.answer()["events"]:
            raise Failed("there are more events than were published")

    def _check(self, answer: dict[str, Any], count: int) -> None:
        if answer["unanswered"]:
            raise Failed(f"{answer['unanswered']} of {count} were not acknowledged in {_PATIENCE} s")
        if answer["arrived"] < self._connected:
            raise Failed(f"{answer['arrived']} of {self._connected} have every event after {_PATIENCE} s")
        if answer["events"] != count * self._connected:
            raise Failed(f"{answer['events']} deliveries of {count * self._connected}")


@contextmanager
def benched(contestant: Contestant, sizes: Sizes, cores: tuple[int, int]) -> Iterator[Bench]:
    """
    Start a server and the load generator, and end both.

    :raises Failed: where one does not start, or dies, or an event comes twice at the end.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=peers.CACHE)))
        port = free_port()
        started = contestant.start(port, folder, sizes)
        server = Process(
            started.command,
            core=cores[0],
            folder=folder,
            environment=started.environment,
            errors=folder / "server.log",
            child=contestant.child,
        )
        stack.callback(server.end)
        try:
            _wait_for(port, server)
            for name in ("subscribe", "publish"):
                (folder / name).write_text(getattr(started, name), encoding="ascii", newline="")
            command = [str(_LOAD), str(port), "subscribe", "publish"]
            load = Load(command, core=cores[1], folder=folder, errors=folder / "load.log")
            stack.enter_context(ending(load))
            # The server first: one that saw thousands of clients leave would work on that for long.
            stack.callback(server.end)
            bench = Bench(server, load)
            yield bench
            bench.check_silent()
        except (OSError, Failed) as error:
            said = server.complaint()
            ended = "" if server.popen.poll() is None else f"; it ended with {server.popen.returncode}"
            raise Failed(f"{error}{ended}{f'; it said: {said}' if said else ''}") from error


def compile_load() -> None:
    """
    Compile the load generator, unless that is done.

    :raises Failed: where that cannot be.
    """
    if _LOAD.exists() and _LOAD.stat().st_mtime > _SOURCE.stat().st_mtime:
        return
    try:
        subprocess.run(["gcc", "-O2", "-o", str(_LOAD), str(_SOURCE)], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"needs gcc: {error}") from None


def _wait_for(port: int, server: Process) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and server.popen.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            # nginx listens before it has its worker.
            time.sleep(0.3)
            return
    raise Failed("it does not start")

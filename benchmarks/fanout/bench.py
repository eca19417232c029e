"""
One server on its core, one load generator on another, and what is measured between them.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanout import peers
from fanout.contestants import PATIENCE, Asked, Contestant
from fanout.processes import Cpu, Failed, Load, Process


@dataclass(frozen=True)
class Found:
    """
    What came of publishing.
    """

    cpu: Cpu
    load_cpu: float
    events: int
    reads: int
    seconds: float
    p50: float
    p99: float
    longest: float
    answer: dict[str, Any]


class Bench:
    """
    A server with subscribers.
    """

    def __init__(self, contestant: Contestant, server: Process, load: Load, port: int) -> None:
        self._contestant = contestant
        self._server = server
        self._load = load
        self._port = port
        self._connected = 0

    def connect(self, count: int) -> tuple[Cpu, float]:
        """
        Open more subscribers.

        :returns: what that cost the server, and how many seconds it took.
        """
        before = self._server.cpu()
        self._load.ask("connect", count, seconds=60)
        answer = self._load.answer()
        cpu = self._server.cpu() - before
        if answer["connected"] < self._connected + count:
            raise Failed(f"{answer['connected']} of {self._connected + count} have a stream after 60 s")
        self._connected = answer["connected"]
        return cpu, answer["seconds"]

    def publish(self, asked: Asked) -> Found:
        """
        Have the server publish, and every subscriber get all of it, once, in order.
        """
        seconds = min(PATIENCE, 60 + 2 * asked.turns * asked.interval)
        answers: list[dict[str, Any]] = []
        problems: list[Exception] = []

        def publish() -> None:
            try:
                answers.append(self._contestant.publish(self._port, asked))
            except (OSError, ValueError, Failed) as error:
                problems.append(error)

        self._load.ask("expect", asked.turns * asked.burst, seconds=seconds)
        before = self._server.cpu()
        began = time.monotonic()
        publishing = threading.Thread(target=publish, daemon=True)
        publishing.start()
        answer = self._load.answer()
        took = time.monotonic() - began
        cpu = self._server.cpu() - before
        if answer["arrived"] != answer["connected"]:
            raise Failed(f"after {took:.0f} s {answer['arrived']} of {answer['connected']} have every event")
        publishing.join(seconds)
        if problems or not answers:
            raise Failed(f"publishing failed: {problems[0] if problems else 'no answer'}")
        return Found(
            cpu=cpu,
            load_cpu=answer["user"] + answer["system"],
            events=answer["events"],
            reads=answer["reads"],
            seconds=took,
            p50=answer["p50"],
            p99=answer["p99"],
            longest=answer["longest"],
            answer=answers[0],
        )

    def watch(self, seconds: float) -> tuple[Cpu, int]:
        """
        Watch for some time.

        :returns: what it cost the server, and how many comments came.
        """
        before = self._server.cpu()
        self._load.ask("watch", seconds=seconds)
        answer = self._load.answer()
        cpu = self._server.cpu() - before
        if answer["events"]:
            raise Failed(f"{answer['events']} events that nobody published")
        return cpu, answer["comments"]

    def settled_resident(self) -> int:
        """
        Tell how much memory the server has, once it is at rest.
        """
        self.watch(0.5)
        return self._server.resident()


@contextmanager
def benched(contestant: Contestant, *, cores: tuple[int, int], keepalive: float) -> Iterator[Bench]:
    """
    Start a server and a load generator, and end both.

    :raises Failed: where one does not start, or dies, or an event comes twice at the end.
    """
    with tempfile.TemporaryDirectory(prefix="run-", dir=peers.CACHE) as name:
        folder = Path(name)
        port = _free_port()
        server = Process(
            contestant.command(port, keepalive, folder),
            core=cores[0],
            folder=contestant.folder,
            environment={"PYTHONPATH": str(peers.ROOT), "NODE_ENV": "production"},
            errors=folder / "server.log",
            child=contestant.child,
        )
        load = None
        try:
            _wait_for(port, server)
            load = Load(
                [str(peers.LOAD), str(port), "/events"],
                core=cores[1],
                folder=folder,
                errors=folder / "load.log",
            )
            bench = Bench(contestant, server, load, port)
            yield bench
            bench.watch(0.2)
        except (OSError, Failed) as error:
            said = server.complaint()
            ended = "" if server.popen.poll() is None else f"; it ended with {server.popen.returncode}"
            raise Failed(f"{error}{ended}{f'; it said: {said}' if said else ''}") from error
        finally:
            # The server first: one that saw thousands of clients leave would work on that for long.
            server.end()
            if load is not None:
                load.end()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _wait_for(port: int, server: Process) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if server.popen.poll() is not None:
            raise Failed("it does not start")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            # nginx listens before it has its worker.
            time.sleep(0.3)
            return
    raise Failed("it does not listen")


def choose_cores() -> tuple[int, int]:
    """
    Choose a core for the server and one for the load, and keep ourselves off the first.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failed("two cores are needed: one for the server, one for the load")
    os.sched_setaffinity(0, cores[1:])
    return cores[0], cores[1]

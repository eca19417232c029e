"""
A server on one core, a load generator on another, and the measurements of one run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shared.answering import Load
from shared.peers import ROOT
from shared.processes import Cpu, Failed, Process
from shared.running import free_port, loaded, run_folder

from fanout import peers
from fanout.contestants import PATIENCE, Asked, Contestant


@dataclass(frozen=True)
class Found:
    """
    The results of publishing: CPU, counts, and latencies in seconds.
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
    A running server with its subscribers.
    """

    def __init__(self, contestant: Contestant, server: Process, load: Load, port: int) -> None:
        self._contestant = contestant
        self._server = server
        self._load = load
        self._port = port

    def connect(self, count: int) -> tuple[Cpu, float]:
        """
        Open more subscribers.

        :returns: the server's CPU for that, and how many seconds it took.
        """
        before = self._server.cpu()
        seconds = self._load.connect(count, seconds=60)
        return self._server.cpu() - before, seconds

    def publish(self, asked: Asked) -> Found:
        """
        Make the server publish, and check that every subscriber receives all events once, in order.
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
        Wait while the streams are idle.

        :returns: the server's CPU in this time, and how many comments the subscribers received.
        """
        before = self._server.cpu()
        self._load.ask("watch", seconds=seconds)
        answer = self._load.answer()
        cpu = self._server.cpu() - before
        if answer["events"]:
            raise Failed(f"{answer['events']} events arrived that were not published")
        return cpu, answer["comments"]

    def settled_resident(self) -> int:
        """
        Return the server's resident memory in bytes, once it is idle.
        """
        self.watch(0.5)
        return self._server.resident()


@contextmanager
def benched(contestant: Contestant, *, cores: tuple[int, int], keepalive: float) -> Iterator[Bench]:
    """
    Start a server and a load generator, and stop both at the end.

    :raises Failed: if one does not start, or exits, or if events arrive after the last one.
    """
    with run_folder() as folder:
        port = free_port()
        server = Process(
            contestant.command(port, keepalive, folder),
            core=cores[0],
            folder=contestant.folder,
            environment={"PYTHONPATH": str(ROOT), "NODE_ENV": "production"},
            errors=folder / "server.log",
            child=contestant.child,
        )
        command = [str(peers.LOAD.binary), str(port), "/events"]
        with loaded(server, port, command, core=cores[1], folder=folder) as load:
            bench = Bench(contestant, server, load, port)
            yield bench
            bench.watch(0.2)

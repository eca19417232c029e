"""
A server on one core, the load generator on another, and the measurements of one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.answering import Load
from shared.peers import CACHE, Compiled
from shared.processes import Cpu, Failed, Process
from shared.running import free_port, loaded, run_folder

from serving.contestants import Contestant
from serving.sizes import Sizes

__all__ = ["LOAD", "Bench", "Found", "benched"]

LOAD = Compiled(CACHE / "serving-load", Path(__file__).with_name("load.c"))

# The time limit of each step, in seconds.
_PATIENCE = 120


@dataclass(frozen=True)
class Found:
    """
    The results of publishing.

    :ivar cpu: the server's CPU.
    :ivar answered: seconds until all updates were acknowledged.
    :ivar seconds: seconds until all subscribers had received all updates.
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
    A running server with its clients.
    """

    def __init__(self, server: Process, load: Load) -> None:
        self._server = server
        self._load = load

    def connect(self, count: int) -> None:
        """
        Open subscribers.
        """
        self._load.connect(count, seconds=_PATIENCE)

    def publish(self, count: int, *, connections: int, rate: float = 0) -> Found:
        """
        Publish until all updates are acknowledged and all subscribers have received each of them once.

        :param rate: updates a second; 0 for the next update as soon as one is acknowledged.
        """
        before = self._server.cpu()
        self._load.ask("publish", count, connections, rate, seconds=_PATIENCE)
        answer = self._load.answer()
        cpu = self._server.cpu() - before
        self._check(answer, count)
        return Found(
            cpu,
            load=answer["user"] + answer["system"],
            **{name: answer[name] for name in ("answered", "seconds", "p50", "p99", "longest")},
        )

    def _check(self, answer: dict[str, Any], count: int) -> None:
        if answer["unanswered"]:
            raise Failed(f"{answer['unanswered']} of {count} were not acknowledged in {_PATIENCE} s")
        connected = self._load.connected
        if answer["arrived"] < connected:
            raise Failed(f"{answer['arrived']} of {connected} have every event after {_PATIENCE} s")
        if answer["events"] != count * connected:
            raise Failed(f"{answer['events']} deliveries of {count * connected}")


@contextmanager
def benched(contestant: Contestant, sizes: Sizes, cores: tuple[int, int]) -> Iterator[Bench]:
    """
    Start a server and the load generator, and stop both at the end.

    :raises Failed: if one does not start, or exits, or if events arrive after the last one.
    """
    with run_folder() as folder:
        port = free_port()
        started = contestant.start(port, folder, sizes)
        for name in ("subscribe", "publish"):
            (folder / name).write_text(getattr(started, name), encoding="ascii", newline="")
        server = Process(
            started.command,
            core=cores[0],
            folder=folder,
            environment=started.environment,
            errors=folder / "server.log",
            child=contestant.child,
        )
        command = [str(LOAD.binary), str(port), "subscribe", "publish"]
        with loaded(server, port, command, core=cores[1], folder=folder) as load:
            yield Bench(server, load)
            load.check_silent(0.3)

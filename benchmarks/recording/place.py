"""
The places of a run: the cores of its processes, and the file or the Redis of its journal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.processes import Cpu, Failed, Process
from shared.running import run_folder

from recording.contestants import REDIS, Contestant
from recording.program import redis_server

__all__ = ["PATIENCE", "Cores", "Place", "choose_cores", "placed"]

# The time limit for starting a program, filling a journal, and stopping, in seconds.
PATIENCE = 120


@dataclass(frozen=True)
class Cores:
    """
    The core of each process. On two cores, both nodes share one, and Redis and the clients the other.
    """

    node: int
    other_node: int
    clients: int
    redis: int


def choose_cores() -> Cores:
    """
    Choose the cores, and move this process off the node's core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failed("two cores are needed: one for the nodes, one for the clients")
    os.sched_setaffinity(0, cores[1:2])
    return Cores(
        node=cores[0],
        other_node=cores[2] if len(cores) > 2 else cores[0],
        clients=cores[1],
        redis=cores[3] if len(cores) > 3 else cores[1],
    )


class Place:
    """
    The file or the Redis that a journal records into.

    :ivar folder: the folder of the run.
    :ivar name: the path of the file, or the port of the Redis.
    """

    def __init__(self, folder: Path, name: str, redis: Process | None) -> None:
        self.folder = folder
        self.name = name
        self._redis = redis

    def redis_cpu(self) -> Cpu:
        """
        Return the CPU that the Redis has used; zero without one.
        """
        return Cpu(0, 0, 0) if self._redis is None else self._redis.cpu()


@contextmanager
def placed(contestant: Contestant, cores: Cores) -> Iterator[Place]:
    with run_folder() as folder:
        if contestant.kind == REDIS:
            with redis_server(contestant.sync, core=cores.redis, folder=folder) as (redis, port):
                yield Place(folder, str(port), redis)
        else:
            yield Place(folder, str(folder / "journal.db"), None)

"""
Two nodes that share a Redis, each with subscribers on real sockets, which check every event against the
expected sequence. Journals that cannot be shared run with one node, for comparison.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from fanout import peers
from shared.answering import Load
from shared.processes import Failed, ending
from shared.results import Figures

from recording.contestants import REDIS, Contestant
from recording.place import PATIENCE, Cores, Place, placed
from recording.program import Program
from recording.sizes import Sizes

__all__ = ["fast", "steady"]


def steady(contestant: Contestant, sizes: Sizes, cores: Cores) -> Figures:
    """
    Measure updates at a steady rate.
    """
    return _run(contestant, sizes, cores, "steady", sizes.steady, sizes.steady_rate)


def fast(contestant: Contestant, sizes: Sizes, cores: Cores) -> Figures:
    """
    Measure updates as fast as possible.
    """
    return _run(contestant, sizes, cores, "fast", sizes.fast, sizes.fast_in_flight)


def _run(contestant: Contestant, sizes: Sizes, cores: Cores, way: str, updates: int, pace: int) -> Figures:
    with ExitStack() as stack:
        place = stack.enter_context(placed(contestant, cores))
        pair = _Nodes(stack, contestant, sizes, cores, place)
        # Warm up: code is compiled at run time, and socket buffers grow.
        pair.deliver(way, updates // 10, pace)
        figures = pair.measure(way, updates, pace)
        pair.check_silent()
        return figures


class _Nodes:
    """
    The nodes and their load generators.
    """

    def __init__(
        self, stack: ExitStack, contestant: Contestant, sizes: Sizes, cores: Cores, place: Place
    ) -> None:
        self._place = place
        self._subscribers = sizes.subscribers
        self._is_shared = contestant.kind == REDIS
        wanted = (cores.node, cores.other_node) if self._is_shared else (cores.node,)
        arguments = (contestant.name, place.name, sizes.held)
        nodes = [Program("node", *arguments, core=core, folder=place.folder) for core in wanted]
        loads = []
        for node in nodes:
            stack.callback(node.end)
        for node in nodes:
            load = stack.enter_context(ending(self._load(node.answer(PATIENCE), cores.clients)))
            # Stop each node before its clients: otherwise it would spend time on their disconnects.
            stack.callback(node.end)
            load.connect(self._subscribers, seconds=60)
            loads.append(load)
        self._nodes, self._loads = nodes, loads

    def _load(self, port: int, core: int) -> Load:
        folder = self._place.folder
        errors = folder / f"load-{port}.log"
        return Load([str(peers.LOAD.binary), str(port), "/events"], core=core, folder=folder, errors=errors)

    def measure(self, way: str, updates: int, pace: int) -> Figures:
        """
        Publish at the first node, and return the figures.
        """
        redis, before = self._place.redis_cpu(), [node.cpu() for node in self._nodes]
        took, answers = self.deliver(way, updates, pace)
        figures = {
            "rate": updates / took,
            "deliveries": updates * self._subscribers * len(self._nodes) / took,
        }
        if self._is_shared:
            figures["redis"] = (self._place.redis_cpu() - redis).total / updates
        for name, node, used, answer in zip("ab", self._nodes, before, answers, strict=False):
            figures |= {f"{name}_{key}": answer[key] for key in ("p50", "p99", "longest")}
            figures[f"{name}_cpu"] = (node.cpu() - used).total / updates
            figures[f"{name}_slow_replays"] = self._slow_replays(node)
        return figures

    def deliver(self, way: str, updates: int, pace: int) -> tuple[float, list[dict[str, Any]]]:
        """
        Publish at the first node, until all subscribers have all updates.

        :returns: how many seconds it took, and the answers of the load generators.
        :raises Failed: if a subscriber missed an update, or received it twice.
        """
        for load in self._loads:
            load.ask("expect", updates, seconds=PATIENCE)
        began = time.monotonic()
        self._nodes[0].send(way, updates, pace)
        answers = [load.answer() for load in self._loads]
        took = time.monotonic() - began
        for answer in answers:
            if answer["arrived"] < self._subscribers or answer["events"] != updates * self._subscribers:
                raise Failed(
                    f"{answer['arrived']} of {self._subscribers} have every event after {took:.0f} s"
                )
        self._nodes[0].answer(PATIENCE)
        return took, answers

    def check_silent(self) -> None:
        """
        Check that no more events arrive.
        """
        for load in self._loads:
            load.check_silent(0.2)

    @staticmethod
    def _slow_replays(node: Program) -> float:
        reported: dict[str, float] = node.asked("report", seconds=PATIENCE)
        if reported["gaps"]:
            raise Failed(f"subscribers were notified of {reported['gaps']:g} gaps")
        return reported["slow_replays"]

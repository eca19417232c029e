"""
The scenarios that journals are measured in. Each gets new processes and an empty journal, and returns its
figures: times in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.processes import ending
from shared.results import Figures

from recording.contestants import ALL as CONTESTANTS
from recording.contestants import REDIS, SQLITE, Contestant
from recording.place import PATIENCE, Cores, placed
from recording.program import Program
from recording.sizes import Sizes
from recording.storm import storm
from recording.two_nodes import fast, steady

__all__ = ["ALL", "IN_FLIGHT", "Scenario"]

IN_FLIGHT = (1, 10, 1000)


def publish(contestant: Contestant, sizes: Sizes, cores: Cores, in_flight: int) -> Figures:
    """
    Measure publishing with a fixed number of unacknowledged updates, without subscribers.
    """
    with placed(contestant, cores) as place:
        arguments = (contestant.name, place.name, in_flight, sizes.seconds, sizes.held)
        with ending(Program("publisher", *arguments, core=cores.node, folder=place.folder)) as publisher:
            publisher.answer(PATIENCE)
            before = place.redis_cpu()
            figures: dict[str, float] = publisher.answer(sizes.seconds + PATIENCE)
            used = place.redis_cpu() - before
            if contestant.kind == REDIS:
                figures["redis"] = used.total / figures["updates"]
            return figures


@dataclass(frozen=True)
class Scenario:
    """
    A scenario.

    :ivar run: runs it.
    :ivar contestants: the journals that take part.
    :ivar needs_load: whether it needs the load generator in C.
    """

    name: str
    run: Callable[[Contestant, Sizes, Cores], Figures]
    contestants: tuple[Contestant, ...]
    needs_load: bool = False


def _publish(in_flight: int) -> Scenario:
    def run(contestant: Contestant, sizes: Sizes, cores: Cores) -> Figures:
        return publish(contestant, sizes, cores, in_flight)

    return Scenario(f"publish-{in_flight}", run, _HELD)


_HELD = tuple(each for each in CONTESTANTS if each.held)
_NODES = tuple(each for each in _HELD if each.kind != SQLITE and not each.alone)
_STORM = tuple(each for each in CONTESTANTS if each.sync in ("", "NORMAL", "everysec") and not each.alone)

ALL = (
    *map(_publish, IN_FLIGHT),
    Scenario("steady", steady, _NODES, needs_load=True),
    Scenario("fast", fast, _NODES, needs_load=True),
    Scenario("storm", storm, _STORM),
)

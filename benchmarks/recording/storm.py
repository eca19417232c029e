"""
A storm: many clients that resume from an old id, all at once.
"""

from __future__ import annotations

from shared.processes import ending
from shared.results import Figures

from recording.contestants import REDIS, Contestant
from recording.place import PATIENCE, Cores, Place, placed
from recording.program import Program
from recording.sizes import Sizes

__all__ = ["storm"]

# The time limit of a storm, in seconds.
_LONGEST = 200


def storm(contestant: Contestant, sizes: Sizes, cores: Cores) -> Figures:
    """
    Run a storm, until all clients have received all updates.
    """
    count = sizes.clients if contestant.held else sizes.few_clients
    with placed(contestant, cores) as place:
        arguments = (contestant.name, place.name, 2 * sizes.replayed)
        with ending(Program("node", *arguments, core=cores.node, folder=place.folder)) as node:
            port = node.answer(PATIENCE)
            first, _ = node.asked("fill", sizes.replayed + 1, seconds=PATIENCE)
            with ending(_clients(port, count, first, sizes, cores, place)) as clients:
                figures = _measure(node, clients, place, count * sizes.replayed)
                # Stop the node first: otherwise it would spend time on the clients' disconnects.
                node.end()
    if contestant.kind != REDIS:
        del figures["redis"]
    return figures | {"clients": count}


def _clients(port: int, count: int, last_event_id: str, sizes: Sizes, cores: Cores, place: Place) -> Program:
    arguments = (port, count, last_event_id, sizes.replayed)
    return Program("returning", *arguments, core=cores.clients, folder=place.folder)


def _measure(node: Program, clients: Program, place: Place, updates: int) -> dict[str, float]:
    node.asked("watch", seconds=PATIENCE)
    node.forget_peak()
    resident, cpu, redis = node.resident(), node.cpu(), place.redis_cpu()
    clients.send("begin")
    found: dict[str, float] = clients.answer(_LONGEST)
    used = node.cpu() - cpu
    reported = node.asked("report", seconds=PATIENCE)
    return {
        "seconds": found["seconds"],
        "half": found["half"],
        "rate": updates / found["seconds"],
        "cpu": used.total,
        "cpu_each": used.total / updates,
        "system": used.system,
        "redis": (place.redis_cpu() - redis).total,
        "pause": reported["pause"],
        "busy": reported["busy"],
        "publish": reported["publish"],
        "resident": resident,
        "peak": node.peak(),
        "clients_cpu": found["clients_cpu"],
    }

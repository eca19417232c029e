"""
What all clients in Python have in common: what is done with an event, and what is told in the end.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable

Take = Callable[[str], bool]
Tell = Callable[[str, str, str], None]


def tally(events: int) -> tuple[Take, Tell]:
    """
    Count events, and the CPU of this process, all threads, from the first to the last of them.

    :param events: how many there are.
    :returns: what is called with the data of each event, and returns whether it is the last; and what is then
        called with the data, the type and the id of that one, and writes everything down.
    """
    left = events
    size = 0
    began = ended = (0.0, 0.0)

    # It counts in every client's figure, so it is as little as can be: no object, no method.
    def take(data: str) -> bool:
        nonlocal left, size, began, ended
        if not size:
            began = _cpu()
        left -= 1
        size += len(data)
        if left:
            return False
        ended = _cpu()
        return True

    def tell(data: str, type: str, id: str) -> None:
        user, system = (now - before for now, before in zip(ended, began, strict=True))
        seen = {"size": size, "last": [data, type, id]}
        json.dump({"user": user, "system": system, "seen": seen}, sys.stdout)
        sys.stdout.flush()

    return take, tell


def _cpu() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime

"""
Scenarios only for txsse, in one process: more subscribers, or topics, than possible connections.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from shared.peers import ROOT
from shared.processes import Failed
from shared.results import Figures

from fanout.contestants import PATIENCE, SERVERS
from fanout.peers import PYTHON
from fanout.scenarios import Sizes

Arguments = tuple[str | int, ...]


@dataclass(frozen=True)
class Harness:
    """
    A measurement with few and with many subscribers or topics.

    :ivar few: returns the program's arguments for few, given the sizes and the core of the readers.
    :ivar many: the same for many.
    """

    name: str
    few: Callable[[Sizes, int], Arguments]
    many: Callable[[Sizes, int], Arguments]
    most_rounds: int = 3


def _channels(count: int, sizes: Sizes, core: int) -> Arguments:
    return "channels", count, sizes.sockets, max(5, sizes.channel_deliveries // count), core


ALL = (
    Harness(
        "hundred-thousand",
        lambda sizes, core: _channels(sizes.subscribers, sizes, core),
        lambda sizes, core: _channels(sizes.channels, sizes, core),
    ),
    Harness(
        "topics",
        lambda sizes, core: ("topics", 10, 10, sizes.topic_turns, core),
        lambda sizes, core: (
            "topics",
            sizes.topics,
            max(10, sizes.topics // 100),
            sizes.topic_turns,
            core,
        ),
    ),
)


def run(harness: Harness, sizes: Sizes, cores: tuple[int, int]) -> Figures:
    """
    Measure with few and with many.

    :raises Failed: if the program fails or takes too long.
    """
    few = _measure(harness.few(sizes, cores[1]), cores[0])
    many = _measure(harness.many(sizes, cores[1]), cores[0])
    figures = {"few": few["cpu"], "many": many["cpu"], "ratio": many["cpu"] / few["cpu"]}
    return figures | {key: value for key, value in many.items() if key != "cpu"}


def _measure(arguments: Arguments, core: int) -> dict[str, float]:
    try:
        ended = subprocess.run(
            [str(PYTHON.python), str(SERVERS / "in_process.py"), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise Failed("it takes too long") from None
    except subprocess.CalledProcessError as error:
        raise Failed((error.stderr.strip().splitlines() or ["it failed without a message"])[-1]) from error
    figures: dict[str, float] = json.loads(ended.stdout)
    return figures

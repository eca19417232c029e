"""
Randomness and threads come from the reactor.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from twisted.python.threadpool import ThreadPool

import txsse
from tests.fakes import FakeReactor
from tests.hub.fakes import result_of
from txsse import Hub, MemoryJournal
from txsse._randomness import (
    SeededRandomness,
    SystemRandomness,
    make_thread_pool,
    new_uuid,
    randomness_of,
    system_randomness,
)

PACKAGE = Path(txsse.__file__).parent

# What may ask the system: the two modules that stand for it; commands, which end with their answer; the
# making of tokens and of a demo's secret; the contract of journals, which makes its own input.
SYSTEM = {
    "_clock.py",
    "_randomness.py",
    # How often a line is logged is no part of what a hub does.
    "_rate_limited_log.py",
    "cli/token.py",
    # Other processes hold its locks.
    "journal/sqlite/files.py",
    "mercure/auth/mint.py",
    "service/demo.py",
    "service/signals.py",
    "testing/journal_contract/recording.py",
}

FORBIDDEN = {
    "random": None,
    "secrets": None,
    "uuid": {"uuid1", "uuid4"},
    "time": {"time", "monotonic", "sleep", "perf_counter", "clock_gettime"},
    "os": {"urandom"},
    "twisted.python.threadpool": {"ThreadPool"},
    "twisted.internet.threads": {"deferToThread"},
}


def system_calls(path: Path) -> set[str]:
    """
    Return what a module imports, or looks up in a module, that asks the system for randomness or the time.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN:
            names = FORBIDDEN[node.module]
            found |= {
                f"{node.module}.{each.name}" for each in node.names if names is None or each.name in names
            }
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names if FORBIDDEN.get(each.name, ()) is None}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in (FORBIDDEN.get(node.value.id) or ()):
                found.add(f"{node.value.id}.{node.attr}")
    return found


class SourceTests:
    def test_nothing_else_asks_the_system(self) -> None:
        """
        A whole hub can run by one seed on one simulated reactor: nothing takes randomness, the time or a
        thread past the reactor.
        """
        paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
        found = {name: system_calls(path) for name, path in paths.items()}
        assert {name: calls for name, calls in found.items() if calls and name not in SYSTEM} == {}
        assert {name for name in SYSTEM if not found[name]} == set()

    @pytest.mark.parametrize(
        "source",
        ["import random", "from time import monotonic", "import time\ntime.time()", "from uuid import uuid4"],
    )
    def test_search(self, tmp_path: Path, source: str) -> None:
        """
        The search finds what it looks for.
        """
        path = tmp_path / "module.py"
        path.write_text(source, encoding="utf-8")
        assert len(system_calls(path)) == 1


class RandomnessTests:
    def test_of_the_system(self) -> None:
        """
        A reactor without randomness of its own has the system's, whose tokens differ.
        """
        randomness = randomness_of(FakeReactor())
        assert randomness is randomness_of(FakeReactor()) is system_randomness()
        assert isinstance(randomness, SystemRandomness)
        assert len({randomness.token(16) for _ in range(100)}) == 100
        assert 1.0 <= randomness.uniform(1.0, 2.0) <= 2.0

    def test_of_a_reactor(self) -> None:
        """
        A seed repeats all of it.
        """

        def made(seed: int) -> list[object]:
            reactor: Any = FakeReactor()
            reactor.randomness = SeededRandomness(seed)
            randomness = randomness_of(reactor)
            return [randomness.token(4), randomness.uniform(0, 1), new_uuid(randomness)]

        assert made(1) == made(1) != made(2)

    def test_uuid(self) -> None:
        """
        A UUID is a random one of version 4, as a URN.
        """
        made = UUID(new_uuid(SystemRandomness()))
        assert (made.version, made.urn) == (4, f"urn:uuid:{made}")

    def test_hub(self) -> None:
        """
        A hub's ids and resume IDs, and those of its journal, come from the reactor.
        """

        def ids(seed: int) -> list[str]:
            reactor: Any = FakeReactor()
            reactor.randomness = SeededRandomness(seed)
            hub = Hub(journal=MemoryJournal(reactor=reactor), reactor=reactor)
            made = [result_of(hub.resume_id()), result_of(hub.publish("news", "a"))]
            reactor.run_soon()
            return made

        assert ids(1) == ids(1)
        assert set(ids(1)).isdisjoint(ids(2))


class ThreadPoolTests:
    def test_own(self) -> None:
        """
        A reactor may have pools of its own.
        """

        class Simulated(FakeReactor):
            def make_thread_pool(self, name: str) -> Any:
                return f"pool {name}"

        assert make_thread_pool(Simulated(), "x") == "pool x"
        pool = make_thread_pool(FakeReactor(), "x")
        assert isinstance(pool, ThreadPool)
        assert (pool.min, pool.max, pool.name) == (1, 1, "x")

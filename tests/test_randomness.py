"""
Randomness, time and threads come from the reactor, so that a simulated reactor with a seed repeats a whole
run.
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

# Modules that may ask the system: the two that wrap it, commands, which end with their output, the making of
# tokens and of a demo's secret, and the journals' contract, which generates its own input.
SYSTEM = {
    "_clock.py",
    "_randomness.py",
    # The rate of log lines has no influence on the behaviour of a hub.
    "_rate_limited_log.py",
    "cli/token.py",
    # It waits for locks that other processes hold, so it needs real time.
    "journal/sqlite/files.py",
    "mercure/auth/mint.py",
    "service/demo.py",
    "service/signals.py",
    "testing/journal_contract/recording.py",
    "testing/journal_contract/retaining.py",
    "testing/journal_contract/revoking.py",
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
    Return the names that a module imports or uses to ask the system for randomness, the time or a thread.
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
    @pytest.mark.slow
    def test_nothing_else_asks_the_system(self) -> None:
        """
        No module, except for a known few, asks the system for randomness, the time or a thread: it asks the
        reactor.
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
        The search for system calls finds each kind of import and use.
        """
        path = tmp_path / "module.py"
        path.write_text(source, encoding="utf-8")
        assert len(system_calls(path)) == 1


class RandomnessTests:
    def test_of_the_system(self) -> None:
        """
        A reactor without its own source of randomness uses the system's, whose tokens are unique.
        """
        randomness = randomness_of(FakeReactor())
        assert randomness is randomness_of(FakeReactor()) is system_randomness()
        assert isinstance(randomness, SystemRandomness)
        assert len({randomness.token(16) for _ in range(100)}) == 100
        assert 1.0 <= randomness.uniform(1.0, 2.0) <= 2.0

    def test_of_a_reactor(self) -> None:
        """
        The same seed repeats all random values of a reactor, and another seed differs.
        """

        def made(seed: int) -> list[object]:
            reactor: Any = FakeReactor()
            reactor.randomness = SeededRandomness(seed)
            randomness = randomness_of(reactor)
            return [randomness.token(4), randomness.uniform(0, 1), new_uuid(randomness)]

        assert made(1) == made(1) != made(2)

    def test_uuid(self) -> None:
        """
        A new UUID is a random one (version 4), written as a URN.
        """
        made = UUID(new_uuid(SystemRandomness()))
        assert (made.version, made.urn) == (4, f"urn:uuid:{made}")

    def test_hub(self) -> None:
        """
        A hub's update ids and resume IDs, and its journal's, come from the reactor's randomness.
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
    def test_pool_of_the_reactor(self) -> None:
        """
        A reactor that makes thread pools is asked for one; for others the pool is Twisted's, with one thread.
        """

        class Simulated(FakeReactor):
            def make_thread_pool(self, name: str) -> Any:
                return f"pool {name}"

        assert make_thread_pool(Simulated(), "x") == "pool x"
        pool = make_thread_pool(FakeReactor(), "x")
        assert isinstance(pool, ThreadPool)
        assert (pool.min, pool.max, pool.name) == (1, 1, "x")

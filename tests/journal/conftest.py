"""
Fixtures for the tests of all journals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.journal.journals import ContractFactory, Maker, Subject

_KINDS = [
    *("memory", "sqlite", "sqlite without memory"),
    *(pytest.param(kind, marks=pytest.mark.redis) for kind in ("redis", "redis without memory")),
]
_numbers = count()


@pytest.fixture(params=_KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    """
    Make journals of each kind, and stop them after the test.
    """
    # Imported here, so that only the tests with this fixture are skipped if an optional package is missing.
    import pytest_twisted

    from tests.journal.journals import memory, redis, sqlite

    made: list[Subject] = []

    def make(*, max_count: int = 1000, max_bytes: int = 10**9, max_age: float | None = None) -> Subject:
        bounds: dict[str, Any] = {"max_count": max_count, "max_bytes": max_bytes, "max_age": max_age}
        recent_bytes = 1 if "without" in request.param else 10**6
        if request.param == "memory":
            subject = memory(**bounds)
        elif request.param.startswith("sqlite"):
            subject = sqlite(tmp_path / f"{len(made)}.sqlite", recent_bytes=recent_bytes, **bounds)
        else:
            url = request.getfixturevalue("shared_redis").url
            subject = redis(url, key=str(next(_numbers)), recent_bytes=recent_bytes, **bounds)
        made.append(subject)
        return subject

    yield make
    for subject in made:
        pytest_twisted.blockon(subject.journal.stop())


@pytest.fixture(params=_KINDS)
def contract_factory(request: pytest.FixtureRequest, tmp_path: Path) -> ContractFactory:
    """
    Make journals of each kind for the contract.
    """
    from tests.journal.journals import ContractFactory, memory, redis, sqlite

    recent_bytes = 1 if "without" in request.param else 10**6

    def new() -> Callable[..., Subject]:
        number = str(next(_numbers))
        if request.param == "memory":
            return memory
        if request.param.startswith("sqlite"):
            return partial(sqlite, tmp_path / f"{number}.sqlite", recent_bytes=recent_bytes)
        url = request.getfixturevalue("shared_redis").url
        return partial(redis, url, key=number, recent_bytes=recent_bytes)

    return ContractFactory(new, persists=request.param != "memory")

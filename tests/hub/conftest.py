"""
What the tests of the hub share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import Wire
from tests.hub.fakes import World

if TYPE_CHECKING:
    from tests.hub.journals import Maker, Subject


@pytest.fixture
def new_world(plain: Wire) -> Iterator[Callable[..., World]]:
    """
    Makes hubs over plain TCP; at the end all clients go, and nothing may be left in the reactor.
    """
    worlds: list[World] = []

    def make(**options: Any) -> World:
        worlds.append(World(plain, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.end()


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    """
    A hub with the usual options, over plain TCP.
    """
    return new_world()


@pytest.fixture
def any_world(wire: Wire) -> Iterator[World]:
    """
    The same over each way from a channel to its client.
    """
    world = World(wire)
    yield world
    world.end()


_KINDS = ["memory", "sqlite", "sqlite without memory", "redis", "redis without memory"]
_numbers = count()


@pytest.fixture(params=_KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    """
    Makes journals of each kind, and stops them.
    """
    # Not above: without an extra, the tests that ask for this are skipped, and no others.
    import pytest_twisted

    from tests.hub.journals import memory, redis, sqlite

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

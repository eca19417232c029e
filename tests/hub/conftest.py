"""
What the tests of the hub share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes import Wire
from tests.hub.fakes import World


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

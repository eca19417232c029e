"""
Fixtures of the hub's tests: hubs over one transport, or over each of them.
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
    Return a function that makes hubs over plain TCP.

    At the end, all of their clients disconnect.
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
    Return a hub with default options, over plain TCP.
    """
    return new_world()


@pytest.fixture
def any_world(wire: Wire) -> Iterator[World]:
    """
    Return a hub with default options, over each transport in turn.
    """
    world = World(wire)
    yield world
    world.end()

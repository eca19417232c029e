"""
What the tests of Mercure share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import Wire

if TYPE_CHECKING:
    from tests.mercure.world import MercureWorld


@pytest.fixture
def new(plain: Wire) -> Iterator[Callable[..., MercureWorld]]:
    """
    Makes hubs; at the end all clients go, and nothing may be left in the reactor.
    """
    # Not above: without an extra, the tests that ask for this are skipped, and no others.
    from tests.mercure.world import MercureWorld

    worlds: list[MercureWorld] = []

    def make(**options: Any) -> MercureWorld:
        worlds.append(MercureWorld(plain, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.end()
    assert plain.reactor.getDelayedCalls() == []


@pytest.fixture
def world(new: Callable[..., MercureWorld]) -> MercureWorld:
    """
    A hub that lets subscribers without a token in.
    """
    return new(anonymous=True)

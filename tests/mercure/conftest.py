"""
Fixtures of the Mercure tests: hubs on a fake network (:class:`tests.mercure.world.MercureWorld`).
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
    Return a function that makes a hub with the given options. At teardown every client disconnects, and no
    delayed call may remain in the reactor.
    """
    # Imported here: where an extra is missing, only the tests that use this fixture are skipped.
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
    Return a hub that admits subscribers without a token.
    """
    return new(anonymous=True)

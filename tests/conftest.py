"""
What all tests share.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes import WIRES, Wire


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """
    Each way from a channel to its client, one after the other; none leaves anything in the reactor.
    """
    wire = Wire(request.param, monkeypatch)
    yield wire
    wire.reactor.run_soon()
    assert wire.reactor.getDelayedCalls() == []


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """
    HTTP/1.1 over plain TCP, for what does not depend on the way.
    """
    wire = Wire("direct", monkeypatch)
    yield wire
    wire.reactor.run_soon()
    assert wire.reactor.getDelayedCalls() == []

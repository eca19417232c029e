"""
What all tests share.
"""

from __future__ import annotations

import os
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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """
    Let nothing be skipped where CI says that everything is installed.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("Tests were skipped, and CI is true: that counts as a failure.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""
The marks of tests: what each test needs besides Python and the packages of the ``test`` extra.

``nox -s fast`` runs the tests without any mark, by :data:`FAST`. A test that starts a program without the
mark of that program fails, as the modules that start programs call :func:`require`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

__all__ = ["FAST", "MARKS", "mark_by_fixtures", "needs", "require", "set_running"]

_Fixture = TypeVar("_Fixture", bound=Callable[..., Any])

MARKS = {
    "process": "runs programs of this project, or small ones of the system",
    "redis": "runs redis-server",
    "browser": "runs Chromium",
    "node": "runs Node or PHP",
    "proxy": "runs nginx, HAProxy or Caddy",
    "fuzz": "tries many generated inputs",
    "slow": "takes more than a fifth of a second",
}

# The expression that selects the tests without marks.
FAST = f"not ({' or '.join(MARKS)})"

_running: pytest.Item | None = None


def needs(*marks: str) -> Callable[[_Fixture], _Fixture]:
    """
    Decorate the function of a fixture: each test that uses it, even indirectly, gets these marks.
    """

    def decorate(fixture: _Fixture) -> _Fixture:
        fixture.needs = marks  # type: ignore[attr-defined]
        return fixture

    return decorate


def mark_by_fixtures(item: pytest.Item) -> None:
    """
    Mark a test by its fixtures, and as ``fuzz`` if Hypothesis generates its arguments.
    """
    info = getattr(item, "_fixtureinfo", None)
    if info is not None:
        for definitions in info.name2fixturedefs.values():
            for mark in getattr(definitions[-1].func, "needs", ()):
                item.add_marker(mark)
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        item.add_marker("fuzz")


def set_running(item: pytest.Item | None) -> None:
    """
    Note the test that runs now, with its fixtures.
    """
    global _running
    _running = item


def require(mark: str) -> None:
    """
    Check that the running test has a mark.

    :raises AssertionError: it has not, so that ``nox -s fast`` would run it.
    """
    if _running is not None:
        assert _running.get_closest_marker(mark) is not None, (
            f"{_running.nodeid} {MARKS[mark]}: it needs @pytest.mark.{mark}"
        )

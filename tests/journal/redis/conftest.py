"""
What the tests of the journal in Redis share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.needs import needs

if TYPE_CHECKING:
    from tests.journal.journals import Subject
    from tests.journal.redis_server import RedisServer


@pytest.fixture
@needs("redis")
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """
    A Redis of its own, for a test that does it harm. What it has acknowledged is on its disk.
    """
    # Not above: without an extra, the tests that ask for this are skipped, and no others.
    from tests.journal.redis_server import running

    with running(tmp_path) as server:
        yield server


@pytest.fixture
def new(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Subject]]:
    """
    Makes journals, each as another process has it, and stops them. They reconnect without much delay.
    """
    import pytest_twisted

    from tests.journal.journals import redis
    from txsse.journal.redis import journal as redis_module

    monkeypatch.setattr(redis_module, "_RETRY", 0.02)
    monkeypatch.setattr(redis_module, "_MAX_RETRY", 0.1)
    made: list[Subject] = []

    def make(**options: Any) -> Subject:
        options.setdefault("timeout", 10.0)
        made.append(redis(server.url, **options))
        return made[-1]

    yield make
    for subject in made:
        pytest_twisted.blockon(subject.journal.stop())

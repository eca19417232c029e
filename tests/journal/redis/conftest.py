"""
Fixtures for the tests of the journal in Redis.
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
    Run a Redis for one test, which may stop or damage it. It syncs each write to the disk.
    """
    # Imported here, so that only the tests with this fixture are skipped if an optional package is missing.
    from tests.journal.redis_server import running

    with running(tmp_path) as server:
        yield server


@pytest.fixture
def new(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Subject]]:
    """
    Make journals that share one record, as different processes do, and stop them after the test.

    They reconnect after a short delay.
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

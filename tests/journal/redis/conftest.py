"""
Fixtures for the tests of the journal in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.needs import needs

_numbers = count()

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
@needs("redis")
def new(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Subject]]:
    """
    Make journals that share one record, as different processes do, and stop them after the test.

    They are in the test's own Redis if it has one, and otherwise in the shared one, with a key of their own.
    They reconnect after a short delay.
    """
    import pytest_twisted

    from tests.journal.journals import redis
    from txsse.journal.redis import journal as redis_module

    monkeypatch.setattr(redis_module, "_RETRY", 0.02)
    monkeypatch.setattr(redis_module, "_MAX_RETRY", 0.1)
    made: list[Subject] = []
    own = "server" in request.fixturenames
    server: RedisServer = request.getfixturevalue("server" if own else "shared_redis")
    record = {} if own else {"key": f"record {next(_numbers)}"}

    def make(**options: Any) -> Subject:
        made.append(redis(server.url, **{"timeout": 10.0, **record, **options}))
        return made[-1]

    yield make
    for subject in made:
        pytest_twisted.blockon(subject.journal.stop())

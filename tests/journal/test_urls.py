"""
Tests of making journals from their names.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from txsse import MemoryJournal
from txsse.journal.redis import RedisJournal
from txsse.journal.sqlite import SQLiteJournal
from txsse.journal.urls import journal_named


class NameTests:
    def test_memory(self) -> None:
        """
        The name memory: makes a memory journal.
        """
        assert isinstance(journal_named("memory:", max_count=5), MemoryJournal)

    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("sqlite:hub.sqlite", "hub.sqlite"),
            ("sqlite:/var/lib/hub", "/var/lib/hub"),
            ("sqlite:///var/lib/hub", "/var/lib/hub"),
            ("sqlite://hub", "hub"),
        ],
    )
    def test_sqlite(self, name: str, path: str) -> None:
        """
        The name of a SQLite journal has a relative or absolute path, with or without slashes before it.
        """
        journal = journal_named(name, max_age=60.0)
        assert isinstance(journal, SQLiteJournal)
        assert journal._path == Path(path)

    @pytest.mark.parametrize(
        "name",
        [
            "redis://localhost",
            "rediss://localhost:6380/1",
            "unix:///run/redis.sock",
            "redis+sentinel://a,b/c",
        ],
    )
    def test_redis(self, name: str) -> None:
        """
        Each kind of URL of a Redis makes a Redis journal.
        """
        assert isinstance(journal_named(name), RedisJournal)

    @pytest.mark.parametrize("name", ["", "memory", "sqlite", "sqlite:", "postgres://localhost", "redis"])
    def test_unknown_name(self, name: str) -> None:
        """
        An unknown name of a journal raises an error that lists the possible names.
        """
        with pytest.raises(ValueError, match="not a journal; use memory:, sqlite:PATH, or a Redis as redis:"):
            journal_named(name)

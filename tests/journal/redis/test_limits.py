"""
Tests of the limits of a journal in Redis.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.journal.journals import update
from txsse.journal.redis import RedisJournal
from txsse.journal.redis.limits import Limits


def limits(max_age: float | None = None, max_count: int = 5) -> Limits:
    return Limits(max_count, 6, max_age, 7, 8, 10_000)


class LimitsTests:
    def test_arguments(self) -> None:
        """
        The script is given the time and the time of the oldest updates in milliseconds, and the limits.
        """
        for endless in (None, math.inf):
            assert limits(endless).arguments(1.5) == (1500, -1, 5, 6, 7, 8)
        assert limits(0.25).arguments(1.5) == (1500, 1250, 5, 6, 7, 8)

    def test_window(self) -> None:
        """
        The window in memory has the limits of the journal, and at most 10,000 updates.
        """
        window = limits(10.0).new_window(3)
        assert window.head == 3
        for number in range(4, 14):
            window.add(number, update(str(number)), 100.0)
        assert len(window.entries()) == 5
        window.trim(111.0)
        assert window.entries() == []
        window = limits().new_window(0)
        window.add(1, update("1"), 0.0)
        window.trim(1e9)
        assert len(window.entries()) == 1
        assert limits(max_count=10**9).recent_count == 10_000

    @pytest.mark.parametrize(
        "options", [{"max_count": 0}, {"max_age": 0}, {"max_retained": 0}, {"max_retained_bytes": -1}]
    )
    def test_invalid(self, options: dict[str, Any]) -> None:
        """
        A limit of a Redis journal that is not greater than 0 raises ValueError with its name.
        """
        (name,) = options
        with pytest.raises(ValueError, match=f"{name} must be more than 0"):
            RedisJournal("redis://localhost", **options)

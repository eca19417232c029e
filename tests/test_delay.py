"""
How long to wait before the next attempt.
"""

from __future__ import annotations

import random

import pytest

from txsse._delay import Delay


class DelayTests:
    def test_first_one(self) -> None:
        """
        A stream that ended is asked for again after just the time that it named.
        """
        assert Delay(3.0, 60.0).next() == 3.0

    def test_doubles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Each failure in a row doubles it, up to the ceiling.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        delay = Delay(3.0, 20.0)
        assert [delay.next() for _ in range(5)] == [3.0, 6.0, 12.0, 20.0, 20.0]
        delay.reset()
        assert delay.next() == 3.0

    def test_none_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A server that asks for none gets its client back at once, and not again and again.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        delay = Delay(0.0, 60.0)
        assert [delay.next() for _ in range(4)] == [0.0, 0.02, 0.04, 0.08]
        assert [delay.next() for _ in range(20)][-1] == 60.0
        delay.reset()
        assert delay.next() == 0.0

    def test_jitter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Up to half of it is taken off, but from the first one.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: low)
        delay = Delay(4.0, 100.0)
        assert [delay.next() for _ in range(3)] == [4.0, 4.0, 8.0]

    def test_ceiling_below_the_base(self) -> None:
        """
        What the stream itself asks for is never shortened.
        """
        delay = Delay(100.0, 60.0)
        assert delay.next() == 100.0
        assert 50.0 <= delay.next() <= 100.0

    def test_retry_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        What a server asks for is the least, also past the ceiling.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        delay = Delay(3.0, 10.0)
        assert delay.next(120.0) == 120.0
        assert delay.next(1.0) == 6.0

    def test_failures_without_end(self) -> None:
        """
        No number of them is too large.
        """
        delay = Delay(3.0, 60.0, failures=10**6)
        assert 30.0 <= delay.next() <= 60.0

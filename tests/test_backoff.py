"""
Reconnection delays: exponential backoff with jitter, a floor and a ceiling.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse._backoff import Backoff


class DelayTests:
    def test_first_attempt(self) -> None:
        """
        The first reconnection delay is exactly the retry time that the server gave.
        """
        assert Backoff(3.0, 60.0).next() == 3.0

    def test_doubles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Each failure in a row doubles the reconnection delay, up to the ceiling; a success resets it.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        delay = Backoff(3.0, 20.0)
        assert [delay.next() for _ in range(5)] == [3.0, 6.0, 12.0, 20.0, 20.0]
        delay.reset()
        assert delay.next() == 3.0

    def test_retry_time_of_zero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the server's retry time is zero, the delay is the floor, increased at random by up to a half, after
        each success.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        delay = Backoff(0.0, 60.0, floor=0.5)
        for _ in range(3):
            assert delay.next() == 0.75
            delay.reset()
        assert [delay.next() for _ in range(4)] == [0.75, 1.0, 2.0, 4.0]
        assert [delay.next() for _ in range(20)][-1] == 60.0

    @given(
        base=st.floats(0, 1e13),
        ceiling=st.floats(0, 1e6),
        floor=st.floats(0.01, 1),
        outcomes=st.lists(st.one_of(st.just("delivered"), st.none(), st.floats(0, 1e12)), max_size=80),
    )
    def test_bounds(
        self, base: float, ceiling: float, floor: float, outcomes: list[str | float | None]
    ) -> None:
        """
        Whatever retry time a server sends, the delay is between floor and ceiling; ``Retry-After`` has a
        bound of its own.
        """
        delay = Backoff(base, ceiling, floor=floor)
        for outcome in outcomes:
            if isinstance(outcome, str):
                delay.reset()
            else:
                seconds = delay.next(outcome)
                assert min(floor, ceiling) <= seconds
                if outcome is None:
                    assert seconds <= ceiling
                else:
                    assert seconds <= max(ceiling, 21600.0)
                    assert seconds >= min(outcome, 21600.0)

    def test_jitter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Jitter takes up to half off each reconnection delay except the first.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: low)
        delay = Backoff(4.0, 100.0)
        assert [delay.next() for _ in range(3)] == [4.0, 4.0, 8.0]

    def test_ceiling_below_the_base(self) -> None:
        """
        A retry time above the ceiling is reduced to the ceiling.
        """
        delay = Backoff(86_400_000.0, 60.0)
        assert delay.next() == 60.0
        assert 30.0 <= delay.next() <= 60.0

    def test_ceiling_below_the_floor(self) -> None:
        """
        A ceiling below the floor takes precedence, since the program sets it.
        """
        assert Backoff(0.0, 0.01, floor=0.5).next() == 0.01

    def test_retry_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        ``Retry-After`` is the minimum delay, even above the ceiling, up to six hours or a larger ceiling.
        """
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        delay = Backoff(3.0, 10.0)
        assert delay.next(120.0) == 120.0
        assert delay.next(1.0) == 6.0
        assert delay.next(999_999_999.0) == 6 * 3600
        assert Backoff(3.0, 86400.0).next(999_999_999.0) == 86400

    def test_many_failures(self) -> None:
        """
        A million failures in a row do not overflow the delay.
        """
        delay = Backoff(3.0, 60.0, failures=10**6)
        assert 30.0 <= delay.next() <= 60.0

"""
Positions over a record that may be set back.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.journal.redis.stream_ids import Epochs, to_number, to_text

NUMBERS = st.integers(min_value=1, max_value=100)


class NumberTests:
    @pytest.mark.parametrize("id", ["0-0", "1-0", "1795358370342-7", f"1-{2**64 - 1}"])
    def test_round_trip(self, id: str) -> None:
        """
        An id, as text or bytes, is a number, and the number the id.
        """
        assert to_text(to_number(id)) == to_text(to_number(id.encode())) == id

    def test_order(self) -> None:
        """
        Numbers are in the order of ids.
        """
        ids = ["0-1", "0-2", "1-0", f"1-{2**64 - 1}", "2-0"]
        assert sorted(map(to_number, ids)) == [to_number(id) for id in ids]


class EpochsTests:
    @given(st.lists(NUMBERS, max_size=4), st.lists(NUMBERS, min_size=2, max_size=20))
    def test_order(self, forks: list[int], numbers: list[int]) -> None:
        """
        However often the record was set back, later entries have greater positions, and each its number.
        """
        epochs = Epochs()
        for fork in forks:
            epochs.begin(fork)
        positions = [epochs.position_of(number) for number in sorted(numbers)]
        assert positions == sorted(positions)
        assert [epochs.number_of(position) for position in positions] == sorted(numbers)

    @given(st.lists(NUMBERS, max_size=3), NUMBERS, NUMBERS)
    def test_new_behind_lost(self, forks: list[int], fork: int, number: int) -> None:
        """
        What is new behind a fork is greater than whatever was there before, lost or not.
        """
        epochs = Epochs()
        for each in forks:
            epochs.begin(each)
        before = [epochs.position_of(each) for each in range(1, 101)]
        epochs.begin(fork)
        behind = epochs.position_of(fork, begin=True)
        assert behind > max(before)
        assert epochs.position_of(fork + number) > behind
        assert epochs.position_of(fork) <= max(before)

    def test_resume(self) -> None:
        """
        Whoever had what was lost goes on at the fork, and learns of it; others do not.
        """
        epochs = Epochs()
        early, late = epochs.position_of(5), epochs.position_of(9)
        assert epochs.resume(late) == (9, False)
        epochs.begin(7)
        assert epochs.resume(early) == (5, False)
        assert epochs.resume(epochs.position_of(7)) == (7, False)
        assert epochs.resume(late) == (7, True)
        new = epochs.position_of(8)
        assert epochs.resume(new) == (8, False)
        epochs.begin(3)
        assert epochs.resume(new) == (3, True)
        assert epochs.resume(late) == (3, True)
        assert epochs.resume(early) == (3, True)
        assert epochs.resume(epochs.position_of(4)) == (4, False)

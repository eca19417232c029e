"""
Tests of ids of stream entries, and of positions over epochs.
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
        An entry's id, as text or bytes, becomes a number, which becomes the same id.
        """
        assert to_text(to_number(id)) == to_text(to_number(id.encode())) == id

    def test_order(self) -> None:
        """
        The numbers of entries have the order of their ids.
        """
        ids = ["0-1", "0-2", "1-0", f"1-{2**64 - 1}", "2-0"]
        assert sorted(map(to_number, ids)) == [to_number(id) for id in ids]


class EpochsTests:
    @given(st.lists(NUMBERS, max_size=4), st.lists(NUMBERS, min_size=2, max_size=20))
    def test_order(self, begins: list[int], numbers: list[int]) -> None:
        """
        However often the record was set back, later entries have greater positions, which yield their
        numbers.
        """
        epochs = Epochs()
        for begin in begins:
            epochs.begin(begin)
        positions = [epochs.position_of(number) for number in sorted(numbers)]
        assert positions == sorted(positions)
        assert [epochs.number_of(position) for position in positions] == sorted(numbers)

    @given(st.lists(NUMBERS, max_size=3), NUMBERS, NUMBERS)
    def test_new_after_lost(self, begins: list[int], begin: int, number: int) -> None:
        """
        Entries of a new epoch have greater positions than all entries before it, whether these are lost or
        not.
        """
        epochs = Epochs()
        for each in begins:
            epochs.begin(each)
        before = [epochs.position_of(each) for each in range(1, 101)]
        epochs.begin(begin)
        first = epochs.position_of(begin, begin=True)
        assert first > max(before)
        assert epochs.position_of(begin + number) > first
        assert epochs.position_of(begin) <= max(before)

    def test_resume(self) -> None:
        """
        A reader that read lost entries resumes where the epoch began, and is notified; other readers are not.
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

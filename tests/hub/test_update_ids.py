"""
The ids that the hub makes for updates.
"""

from __future__ import annotations

import re

from txsse._randomness import SystemRandomness
from txsse.hub.update_ids import IdMaker


class Times:
    """
    A clock that returns given times.
    """

    def __init__(self, *times: float) -> None:
        self._times = list(times)

    def __call__(self) -> float:
        return self._times.pop(0) if len(self._times) > 1 else self._times[0]


class IdMakerTests:
    def test_form(self) -> None:
        """
        An update id is the time in microseconds, in 14 hexadecimal digits, and the mark of its maker.
        """
        made = IdMaker(Times(1.5), SystemRandomness()).next()
        assert re.fullmatch("[0-9a-f]{14}-[0-9a-f]{8}", made)
        assert int(made[:14], 16) == 1_500_000

    def test_last_year_that_sorts(self) -> None:
        """
        The width of an update id is sufficient until the year 4250.
        """
        year_4250 = (4250 - 1970) * 365.2425 * 86400
        assert len(IdMaker(Times(year_4250), SystemRandomness()).next()) == 14 + 1 + 8

    def test_clock_advances(self) -> None:
        """
        Later update ids are greater as text.
        """
        maker = IdMaker(Times(1.0, 1.000001, 16.0, 1e9), SystemRandomness())
        made = [maker.next() for _ in range(4)]
        assert made == sorted(set(made))
        assert [int(each[:14], 16) for each in made] == [1_000_000, 1_000_001, 16_000_000, 10**15]

    def test_clock_stands_still(self) -> None:
        """
        While the clock stands still, each update id is one microsecond later than the one before.
        """
        maker = IdMaker(Times(1.0), SystemRandomness())
        assert [int(maker.next()[:14], 16) for _ in range(3)] == [1_000_000, 1_000_001, 1_000_002]

    def test_clock_is_set_back(self) -> None:
        """
        While the clock is set back, each update id is one microsecond later than the one before.
        """
        maker = IdMaker(Times(100.0, 1.0, 2.0, 200.0), SystemRandomness())
        made = [int(maker.next()[:14], 16) for _ in range(4)]
        assert made == [100_000_000, 100_000_001, 100_000_002, 200_000_000]

    def test_several_makers(self) -> None:
        """
        Each maker has a random mark, so that ids are unique after a restart, whatever the clock says.
        """
        clock = Times(1.0)
        one, other = IdMaker(clock, SystemRandomness()), IdMaker(clock, SystemRandomness())
        assert one.next()[15:] == one.next()[15:]
        assert one.next()[15:] != other.next()[15:]

"""
Tests of revocations: their checks, the merging of two, and the list in memory.
"""

from __future__ import annotations

import math
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.hub.fakes import result_of
from txsse import TooManyRevocations
from txsse.errors import InvalidField
from txsse.journal.revocations import MAX_VALUE_BYTES, MemoryRevocations, Revocation, merge

NOW = 1_700_000_000.0
ONE = Revocation("jti", "1", NOW, NOW + 10)

NAME = attrgetter("claim", "value")

times = st.floats(0, 100)


class RevocationTests:
    @pytest.mark.parametrize("name", ["claim", "value"])
    @pytest.mark.parametrize(
        ("text", "error", "said"),
        [
            ("", ValueError, "must have 1 to 1024 bytes"),
            ("x" * 1_000_000, ValueError, "must have 1 to 1024 bytes"),
            ("ü" * 513, ValueError, "must have 1 to 1024 bytes"),
            ("a\ud800", InvalidField, "surrogate"),
            (b"x", TypeError, "must be str, not bytes"),
            (None, TypeError, "must be str, not NoneType"),
            (["x"], TypeError, "must be str, not list"),
        ],
    )
    def test_text(self, name: str, text: Any, error: type[Exception], said: str) -> None:
        """
        A revocation's claim or value that is empty, too long, not UTF-8 or not a text is refused.
        """
        with pytest.raises(error, match=said) as raised:
            replace(ONE, **{name: text})
        assert name in str(raised.value)
        assert len(str(raised.value)) < 200

    @pytest.mark.parametrize("name", ["at", "expires"])
    @pytest.mark.parametrize(
        ("time", "error"),
        [
            (math.nan, ValueError),
            (10**400, ValueError),
            (True, TypeError),
            ("1", TypeError),
            (None, TypeError),
        ],
    )
    def test_time(self, name: str, time: Any, error: type[Exception]) -> None:
        """
        A revocation's time that is not a number of seconds is refused, and the error names it.
        """
        with pytest.raises(error, match=f"{name} must be a number of seconds since 1970"):
            replace(ONE, **{name: time})

    def test_valid(self) -> None:
        """
        The longest texts, times before 1970, and an infinite expiry are accepted; an int becomes a float.
        """
        longest = Revocation("x" * MAX_VALUE_BYTES, "ü" * (MAX_VALUE_BYTES // 2), -5, math.inf)
        assert (longest.at, longest.expires) == (-5.0, math.inf)
        assert isinstance(longest.at, float)

    def test_not_in_logs(self) -> None:
        """
        The repr of a revocation does not have its value, which may be the ID of a session.
        """
        assert "secret" not in repr(replace(ONE, value="secret"))


class MergeTests:
    def test_first(self) -> None:
        """
        A revocation whose claim and value are not in the list is recorded as it is.
        """
        assert merge(ONE, None, NOW) is ONE

    def test_later_times(self) -> None:
        """
        Of two revocations with one claim and value, the later of each time counts.
        """
        other = replace(ONE, at=NOW - 5, expires=NOW + 20)
        for one, two in ((ONE, other), (other, ONE)):
            assert merge(one, two, NOW) == replace(ONE, at=NOW, expires=NOW + 20)

    def test_expired(self) -> None:
        """
        A recorded revocation that has expired does not change a new one.
        """
        new = replace(ONE, at=NOW - 5, expires=NOW + 5)
        assert merge(new, ONE, NOW + 9.9) == replace(ONE, at=NOW)
        assert merge(new, ONE, NOW + 10) == new


class MemoryTests:
    def test_full(self) -> None:
        """
        A full list refuses a new revocation until one expires, and still records later times of known ones.
        """
        clock = Clock()
        revocations = MemoryRevocations(clock.seconds, max_count=2)
        result_of(revocations.add(Revocation("jti", "1", 0, 10)))
        result_of(revocations.add(Revocation("jti", "2", 0, 20)))
        with pytest.raises(TooManyRevocations, match="2 have not expired") as raised:
            result_of(revocations.add(Revocation("jti", "3", 0, 30)))
        assert raised.value.limit == 2
        result_of(revocations.add(Revocation("jti", "2", 5, 15)))
        clock.advance(10)
        result_of(revocations.add(Revocation("jti", "3", 0, 30)))
        assert result_of(revocations.load()) == [
            Revocation("jti", "2", 5, 20),
            Revocation("jti", "3", 0, 30),
        ]

    def test_expired_are_dropped(self) -> None:
        """
        Revocations are dropped from memory when the list is loaded after they have expired.
        """
        clock = Clock()
        revocations = MemoryRevocations(clock.seconds)
        for number in range(100):
            result_of(revocations.add(Revocation("jti", str(number), 0, number)))
        clock.advance(97)
        assert {each.value for each in result_of(revocations.load())} == {"98", "99"}
        assert len(revocations._recorded) == 2

    @given(
        st.lists(st.one_of(times, st.tuples(st.sampled_from("ab"), st.sampled_from("12"), times, times))),
    )
    def test_any_calls(self, calls: list[Any]) -> None:
        """
        After any calls, and any time, the list has exactly the revocations that have not expired.
        """
        clock = Clock()
        revocations = MemoryRevocations(clock.seconds)
        expected: dict[tuple[str, str], Revocation] = {}
        for call in calls:
            if isinstance(call, float):
                clock.advance(call)
            else:
                added = Revocation(*call)
                name = added.claim, added.value
                expected[name] = merge(added, expected.get(name), clock.seconds())
                result_of(revocations.add(added))
            expected = {name: each for name, each in expected.items() if each.expires > clock.seconds()}
            found = result_of(revocations.load())
            assert sorted(found, key=NAME) == sorted(expected.values(), key=NAME)

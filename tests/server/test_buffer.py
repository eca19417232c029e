"""
What is held back, and the policies.
"""

from __future__ import annotations

import pytest

from txsse.server.buffer import POLICIES, Backlog, Budget, DropNewest, KeepLatest, KeepOrClose


def budget(each: int, total: int = 1000) -> Budget:
    return Budget(each, total)


def take_all(backlog: Backlog) -> list[bytes]:
    taken = []
    while (frame := backlog.take()) is not None:
        taken.append(frame)
    return taken


class AllPoliciesTests:
    @pytest.mark.parametrize("name", POLICIES)
    def test_empty(self, name: str) -> None:
        """
        Nothing comes out, and nothing is counted.
        """
        backlog = POLICIES[name](budget(10))
        assert backlog.take() is None
        assert (backlog.size, backlog.dropped) == (0, 0)

    @pytest.mark.parametrize("name", POLICIES)
    def test_first_in_first_out(self, name: str) -> None:
        """
        Frames about different things come out in the order in which they went in.
        """
        backlog = POLICIES[name](budget(10))
        for number, frame in enumerate([b"aaa", b"bb", b"c"]):
            assert backlog.put(str(number), frame)
        assert backlog.size == 6
        assert take_all(backlog) == [b"aaa", b"bb", b"c"]
        assert backlog.size == 0

    @pytest.mark.parametrize("name", POLICIES)
    def test_clear(self, name: str) -> None:
        """
        Everything is given up, and there is room again.
        """
        backlog = POLICIES[name](budget(3))
        backlog.put("x", b"aaa")
        backlog.clear()
        assert backlog.size == 0
        assert backlog.take() is None
        assert backlog.put("x", b"bbb")
        assert take_all(backlog) == [b"bbb"]

    @pytest.mark.parametrize("name", POLICIES)
    def test_withdraw(self, name: str) -> None:
        """
        Chosen frames go, in order, without counting as dropped; those without a mark stay.
        """
        own = budget(10)
        backlog = POLICIES[name](own)
        backlog.withdraw(lambda mark: True)
        for number, frame in enumerate([b"a", b"bb", b"ccc", b"d"]):
            backlog.put(str(number), frame, None if number == 3 else number)
        asked: list[object] = []

        def chosen(mark: object) -> bool:
            asked.append(mark)
            return mark != 1

        backlog.withdraw(chosen)
        assert asked == [0, 1, 2]
        assert (backlog.size, own.held, backlog.dropped) == (3, 3, 0)
        assert take_all(backlog) == [b"bb", b"d"]
        assert own.held == 0


class KeepOrCloseTests:
    def test_limit(self) -> None:
        """
        The limit is filled to the last byte; one more is refused and changes nothing.
        """
        backlog = KeepOrClose(budget(5))
        assert backlog.put("x", b"123")
        assert backlog.put("x", b"45")
        assert not backlog.put("x", b"6")
        assert take_all(backlog) == [b"123", b"45"]
        assert backlog.dropped == 0


class DropNewestTests:
    def test_limit(self) -> None:
        """
        What finds no room is dropped and counted; what is smaller may still find some.
        """
        backlog = DropNewest(budget(5))
        assert all(backlog.put("x", frame) for frame in [b"123", b"456", b"78", b"9"])
        assert backlog.dropped == 2
        assert take_all(backlog) == [b"123", b"78"]


class KeepLatestTests:
    def test_same_key(self) -> None:
        """
        The newer frame takes the place of the older one, behind all others.
        """
        backlog = KeepLatest(budget(100))
        for key, frame in [("a", b"a1"), ("b", b"b1"), ("a", b"a2 longer"), (None, b"c1")]:
            assert backlog.put(key, frame)
        assert (backlog.size, backlog.dropped) == (13, 1)
        assert take_all(backlog) == [b"b1", b"a2 longer", b"c1"]

    def test_limit(self) -> None:
        """
        Where the newest of all keys are too much, those without news for the longest go.
        """
        backlog = KeepLatest(budget(5))
        for key, frame in [("a", b"11"), ("b", b"22"), ("c", b"333")]:
            assert backlog.put(key, frame)
        assert (backlog.size, backlog.dropped) == (5, 1)
        assert take_all(backlog) == [b"22", b"333"]

    def test_single_frame_beyond_the_limit(self) -> None:
        """
        It is dropped, and with it everything that is older.
        """
        backlog = KeepLatest(budget(5))
        backlog.put("a", b"1")
        assert backlog.put("b", b"123456")
        assert (backlog.size, backlog.dropped) == (0, 2)


class BudgetTests:
    @pytest.mark.parametrize("name", POLICIES)
    def test_account(self, name: str) -> None:
        """
        What all of them hold is known at every moment, whichever way it goes.
        """
        shared = budget(10)
        one, other = POLICIES[name](shared), POLICIES[name](shared)
        one.put("a", b"aaa")
        one.put("b", b"bb")
        other.put("a", b"aaaa")
        assert shared.held == 9
        one.take()
        assert shared.held == one.size + other.size == 6
        one.put("b", b"b")
        assert shared.held == one.size + other.size
        other.clear()
        assert shared.held == one.size
        one.clear()
        one.clear()
        assert shared.held == 0

    @pytest.mark.parametrize("name", ["close", "rewind"])
    def test_total_of_those_that_close(self, name: str) -> None:
        """
        Where others hold all that may be held, one is closed for its first frame.
        """
        shared = budget(10, 12)
        one, other = POLICIES[name](shared), POLICIES[name](shared)
        assert one.put(None, b"x" * 10)
        assert other.put(None, b"xx")
        assert not other.put(None, b"x")
        assert (other.size, shared.held) == (2, 12)

    def test_total_of_those_that_drop(self) -> None:
        """
        There it is dropped, and counted for both.
        """
        shared = budget(10, 12)
        one, other = DropNewest(shared), DropNewest(shared)
        assert one.put(None, b"x" * 10)
        assert other.put(None, b"xxx")
        assert (other.size, other.dropped, shared.dropped, shared.held) == (0, 1, 1, 10)

    def test_total_of_those_that_keep_the_latest(self) -> None:
        """
        There one's own oldest go, down to nothing, and never another's.
        """
        shared = budget(10, 12)
        one, other = KeepLatest(shared), KeepLatest(shared)
        one.put("a", b"x" * 9)
        other.put("b", b"yy")
        other.put("c", b"zz")
        assert take_all(other) == [b"zz"]
        assert (other.dropped, shared.dropped) == (1, 1)
        other.put("d", b"wwww")
        assert (other.size, shared.held, one.size) == (0, 9, 9)
        assert (other.dropped, shared.dropped) == (2, 2)

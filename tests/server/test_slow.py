"""
Overflow policies, and what they buffer.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import Wire
from txsse import SSEChannel, SSEResource
from txsse.server.buffer import Budget, FrameBuffer
from txsse.server.slow import (
    POLICIES,
    ClosePolicy,
    DropPolicy,
    LatestPolicy,
    OverflowPolicy,
    ReplayPolicy,
    to_policy,
)


def budget(each: int, total: int = 1000) -> Budget:
    return Budget(each, total)


def take_all(buffer: FrameBuffer) -> list[bytes]:
    taken = []
    while (frame := buffer.take()) is not None:
        taken.append(frame)
    return taken


class AllPoliciesTests:
    @pytest.mark.parametrize("name", POLICIES)
    def test_empty(self, name: str) -> None:
        """
        Nothing comes out, and nothing is counted.
        """
        buffer = POLICIES[name].new_buffer(budget(10))
        assert buffer.take() is None
        assert (buffer.size, buffer.dropped) == (0, 0)

    @pytest.mark.parametrize("name", POLICIES)
    def test_first_in_first_out(self, name: str) -> None:
        """
        Frames about different things come out in the order in which they went in.
        """
        buffer = POLICIES[name].new_buffer(budget(10))
        for number, frame in enumerate([b"aaa", b"bb", b"c"]):
            assert buffer.put(str(number), frame)
        assert buffer.size == 6
        assert take_all(buffer) == [b"aaa", b"bb", b"c"]
        assert buffer.size == 0

    @pytest.mark.parametrize("name", POLICIES)
    def test_clear(self, name: str) -> None:
        """
        Everything is given up, and there is room again.
        """
        buffer = POLICIES[name].new_buffer(budget(3))
        buffer.put("x", b"aaa")
        buffer.clear()
        assert buffer.size == 0
        assert buffer.take() is None
        assert buffer.put("x", b"bbb")
        assert take_all(buffer) == [b"bbb"]

    @pytest.mark.parametrize("name", POLICIES)
    def test_withdraw(self, name: str) -> None:
        """
        Chosen frames go, in order, without counting as dropped; those without a mark stay.
        """
        own = budget(10)
        buffer = POLICIES[name].new_buffer(own)
        buffer.withdraw(lambda mark: True)
        for number, frame in enumerate([b"a", b"bb", b"ccc", b"d"]):
            buffer.put(str(number), frame, None if number == 3 else number)
        asked: list[object] = []

        def chosen(mark: object) -> bool:
            asked.append(mark)
            return mark != 1

        buffer.withdraw(chosen)
        assert asked == [0, 1, 2]
        assert (buffer.size, own.held, buffer.dropped) == (3, 3, 0)
        assert take_all(buffer) == [b"bb", b"d"]
        assert own.held == 0


class ClosePolicyTests:
    def test_limit(self) -> None:
        """
        The limit is filled to the last byte; one more is refused and changes nothing.
        """
        buffer = ClosePolicy().new_buffer(budget(5))
        assert buffer.put("x", b"123")
        assert buffer.put("x", b"45")
        assert not buffer.put("x", b"6")
        assert take_all(buffer) == [b"123", b"45"]
        assert buffer.dropped == 0


class DropPolicyTests:
    def test_limit(self) -> None:
        """
        What finds no room is dropped and counted; what is smaller may still find some.
        """
        buffer = DropPolicy().new_buffer(budget(5))
        assert all(buffer.put("x", frame) for frame in [b"123", b"456", b"78", b"9"])
        assert buffer.dropped == 2
        assert take_all(buffer) == [b"123", b"78"]


class LatestPolicyTests:
    def test_same_key(self) -> None:
        """
        The newer frame takes the place of the older one, behind all others.
        """
        buffer = LatestPolicy().new_buffer(budget(100))
        for key, frame in [("a", b"a1"), ("b", b"b1"), ("a", b"a2 longer"), (None, b"c1")]:
            assert buffer.put(key, frame)
        assert (buffer.size, buffer.dropped) == (13, 1)
        assert take_all(buffer) == [b"b1", b"a2 longer", b"c1"]

    def test_limit(self) -> None:
        """
        Where the newest of all keys are too much, those without news for the longest go.
        """
        buffer = LatestPolicy().new_buffer(budget(5))
        for key, frame in [("a", b"11"), ("b", b"22"), ("c", b"333")]:
            assert buffer.put(key, frame)
        assert (buffer.size, buffer.dropped) == (5, 1)
        assert take_all(buffer) == [b"22", b"333"]

    def test_single_frame_beyond_the_limit(self) -> None:
        """
        It is dropped, and with it everything that is older.
        """
        buffer = LatestPolicy().new_buffer(budget(5))
        buffer.put("a", b"1")
        assert buffer.put("b", b"123456")
        assert (buffer.size, buffer.dropped) == (0, 2)

    def test_many_keys(self) -> None:
        """
        Frames that are replaced or taken leave nothing in the buffer that the next ones would have to pass.
        """
        buffer = LatestPolicy().new_buffer(budget(1000))
        for key in range(500):
            buffer.put(key, b"x")
            buffer.put(key, b"y")
        assert len(buffer) == 500
        assert take_all(buffer) == [b"y"] * 500
        assert (len(buffer), buffer.size, buffer.dropped) == (0, 0, 500)


class ChoiceTests:
    def test_by_name(self) -> None:
        """
        Each name stands for its policy.
        """
        assert {name: type(to_policy(name)) for name in POLICIES} == {
            "close": ClosePolicy,
            "drop": DropPolicy,
            "latest": LatestPolicy,
            "replay": ReplayPolicy,
        }

    def test_instance(self) -> None:
        """
        A policy is taken as it is.
        """
        policy = DropPolicy()
        assert to_policy(policy) is policy

    @pytest.mark.parametrize("given", [DropPolicy, 1, b"drop"])
    def test_no_policy(self, given: object) -> None:
        """
        Anything else is refused by type.
        """
        with pytest.raises(TypeError, match="slow_policy must be a name"):
            to_policy(given)  # type: ignore[arg-type]

    def test_unknown_name(self) -> None:
        """
        The error lists the names.
        """
        with pytest.raises(ValueError, match="must be one of close, drop, latest, replay, not 'wait'"):
            to_policy("wait")

    def test_policy_without_a_rule(self) -> None:
        """
        A subclass has to say what happens when a buffer is full.
        """

        class NoRule(OverflowPolicy):
            name = "no-rule"

        policy = NoRule()
        buffer = policy.new_buffer(budget(1))
        assert repr(policy) == "<NoRule no-rule>"
        with pytest.raises(NotImplementedError):
            buffer.put(None, b"xx")


class ChannelTests:
    @pytest.mark.parametrize("name", [None, *POLICIES])
    def test_name(self, plain: Wire, name: Any) -> None:
        """
        A channel shows the name of its policy; ``None`` for the default.
        """
        channels: list[SSEChannel] = []
        upgrader = plain.upgrader(slow_policy=name)
        client = plain.connect(SSEResource(channels.append, upgrader=upgrader)).request()
        assert channels[0].slow_policy == name
        client.disconnect()


class BudgetTests:
    @pytest.mark.parametrize("name", POLICIES)
    def test_account(self, name: str) -> None:
        """
        What all of them hold is known at every moment, whichever way it goes.
        """
        shared = budget(10)
        one, other = POLICIES[name].new_buffer(shared), POLICIES[name].new_buffer(shared)
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

    @pytest.mark.parametrize("name", ["close", "replay"])
    def test_total_of_those_that_close(self, name: str) -> None:
        """
        Where others hold all that may be held, one is closed for its first frame.
        """
        shared = budget(10, 12)
        one, other = POLICIES[name].new_buffer(shared), POLICIES[name].new_buffer(shared)
        assert one.put(None, b"x" * 10)
        assert other.put(None, b"xx")
        assert not other.put(None, b"x")
        assert (other.size, shared.held) == (2, 12)

    def test_total_of_those_that_drop(self) -> None:
        """
        There it is dropped, and counted for both.
        """
        shared = budget(10, 12)
        one, other = DropPolicy().new_buffer(shared), DropPolicy().new_buffer(shared)
        assert one.put(None, b"x" * 10)
        assert other.put(None, b"xxx")
        assert (other.size, other.dropped, shared.dropped, shared.held) == (0, 1, 1, 10)

    def test_total_of_those_that_keep_the_latest(self) -> None:
        """
        There one's own oldest go, down to nothing, and never another's.
        """
        shared = budget(10, 12)
        one, other = LatestPolicy().new_buffer(shared), LatestPolicy().new_buffer(shared)
        one.put("a", b"x" * 9)
        other.put("b", b"yy")
        other.put("c", b"zz")
        assert take_all(other) == [b"zz"]
        assert (other.dropped, shared.dropped) == (1, 1)
        other.put("d", b"wwww")
        assert (other.size, shared.held, one.size) == (0, 9, 9)
        assert (other.dropped, shared.dropped) == (2, 2)

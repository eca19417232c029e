"""
Tests of the overflow policies and their buffers.
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
        An empty buffer returns no frame, and counts nothing.
        """
        buffer = POLICIES[name].new_buffer(budget(10))
        assert buffer.take() is None
        assert (buffer.size, buffer.dropped) == (0, 0)

    @pytest.mark.parametrize("name", POLICIES)
    def test_first_in_first_out(self, name: str) -> None:
        """
        Frames with different keys leave the buffer in the order in which they were added.
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
        clear() removes all frames, and makes room for new ones.
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
        withdraw() removes chosen frames without counting them as dropped; frames without a mark stay.
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
        With the policy close, a buffer is filled to its last byte; one byte more closes the channel.
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
        With the policy drop, a frame that does not fit is dropped and counted; a smaller one may still fit.
        """
        buffer = DropPolicy().new_buffer(budget(5))
        assert all(buffer.put("x", frame) for frame in [b"123", b"456", b"78", b"9"])
        assert buffer.dropped == 2
        assert take_all(buffer) == [b"123", b"78"]


class LatestPolicyTests:
    def test_same_key(self) -> None:
        """
        With the policy latest, a newer frame replaces the older one of its key, and moves to the end.
        """
        buffer = LatestPolicy().new_buffer(budget(100))
        for key, frame in [("a", b"a1"), ("b", b"b1"), ("a", b"a2 longer"), (None, b"c1")]:
            assert buffer.put(key, frame)
        assert (buffer.size, buffer.dropped) == (13, 1)
        assert take_all(buffer) == [b"b1", b"a2 longer", b"c1"]

    def test_limit(self) -> None:
        """
        With the policy latest, the keys that changed least recently are dropped if the newest frames do not
        fit.
        """
        buffer = LatestPolicy().new_buffer(budget(5))
        for key, frame in [("a", b"11"), ("b", b"22"), ("c", b"333")]:
            assert buffer.put(key, frame)
        assert (buffer.size, buffer.dropped) == (5, 1)
        assert take_all(buffer) == [b"22", b"333"]

    def test_single_frame_beyond_the_limit(self) -> None:
        """
        With the policy latest, a frame above the limit is dropped together with all older ones.
        """
        buffer = LatestPolicy().new_buffer(budget(5))
        buffer.put("a", b"1")
        assert buffer.put("b", b"123456")
        assert (buffer.size, buffer.dropped) == (0, 2)

    def test_many_keys(self) -> None:
        """
        With the policy latest, replaced and removed frames leave no entries in the buffer.
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
        Each name returns its policy.
        """
        assert {name: type(to_policy(name)) for name in POLICIES} == {
            "close": ClosePolicy,
            "drop": DropPolicy,
            "latest": LatestPolicy,
            "replay": ReplayPolicy,
        }

    def test_instance(self) -> None:
        """
        An instance of a policy is returned unchanged.
        """
        policy = DropPolicy()
        assert to_policy(policy) is policy

    @pytest.mark.parametrize("given", [DropPolicy, 1, b"drop"])
    def test_argument_that_is_not_a_policy(self, given: object) -> None:
        """
        An argument that is neither a name nor a policy raises TypeError.
        """
        with pytest.raises(TypeError, match="slow_policy must be a name"):
            to_policy(given)  # type: ignore[arg-type]

    def test_unknown_name(self) -> None:
        """
        The error for an unknown name lists the names.
        """
        with pytest.raises(ValueError, match="must be one of close, drop, latest, replay, not 'wait'"):
            to_policy("wait")

    def test_policy_without_a_rule(self) -> None:
        """
        A subclass must define make_room.
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
        A channel has the name of its policy; ``None`` for the default.
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
        The budget knows the total size of all buffers after every change.
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
    def test_total_limit_with_a_closing_policy(self, name: str) -> None:
        """
        With a policy that closes, a channel is closed by its first frame beyond the total limit.
        """
        shared = budget(10, 12)
        one, other = POLICIES[name].new_buffer(shared), POLICIES[name].new_buffer(shared)
        assert one.put(None, b"x" * 10)
        assert other.put(None, b"xx")
        assert not other.put(None, b"x")
        assert (other.size, shared.held) == (2, 12)

    def test_total_limit_with_the_drop_policy(self) -> None:
        """
        With the policy drop, a frame beyond the total limit is dropped, and counted for the channel and in
        total.
        """
        shared = budget(10, 12)
        one, other = DropPolicy().new_buffer(shared), DropPolicy().new_buffer(shared)
        assert one.put(None, b"x" * 10)
        assert other.put(None, b"xxx")
        assert (other.size, other.dropped, shared.dropped, shared.held) == (0, 1, 1, 10)

    def test_total_limit_with_the_latest_policy(self) -> None:
        """
        With the policy latest, a channel beyond the total limit drops its own oldest frames, never those of
        another channel.
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

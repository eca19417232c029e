"""
Broadcasts to many channels: which events each one receives, slow and closed channels, failures, and mistakes
of the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, Logger

from tests.fakes import WIRES, Wire
from tests.server.test_channel import Opened
from txsse import (
    ChannelClosed,
    CloseReason,
    EventStreamParser,
    InvalidField,
    OverflowPolicy,
    ServerSentEvent,
    SSEChannel,
    broadcast,
)
from txsse._rate_limited_log import RateLimitedLog
from txsse.protocol import encoder
from txsse.server import broadcast as module


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Start each test with a log that has not reached its rate limit.
    """
    monkeypatch.setattr(module, "_failures", RateLimitedLog(Logger()))


class Failing(Exception):
    pass


def fail(*_: object, **__: object) -> Any:
    raise Failing


def received(opened: Opened) -> list[str]:
    """
    Return the data of all events that a client has received.
    """
    opened.client.pump()
    return [event.data for event in EventStreamParser().feed(opened.client.body)]


class SendingTests:
    def test_all_receive_it(self, wire: Wire) -> None:
        """
        Each channel receives the events of a broadcast, between those that it is sent alone, in order.
        """
        crowd = [Opened(wire) for _ in range(3)]
        channels = {opened.channel for opened in crowd}
        crowd[0].channel.send("before")
        assert broadcast(channels, "one\ntwo") == 3
        crowd[0].channel.send("between")
        assert broadcast(channels, ServerSentEvent("x", "tick", "7", 1.5)) == 3
        common = "data: one\ndata: two\n\n", "retry: 1500\nid: 7\nevent: tick\ndata: x\n\n"
        for opened in crowd:
            opened.client.pump()
        assert crowd[0].client.body.decode() == "data: before\n\n" + "data: between\n\n".join(common)
        assert crowd[1].client.body == crowd[2].client.body == "".join(common).encode()
        for opened in crowd:
            opened.end()
            assert opened.client.ended

    @pytest.mark.parametrize("collection", [set, list, tuple, dict.fromkeys, iter, frozenset])
    def test_collections(self, plain: Wire, collection: Any) -> None:
        """
        The channels may be in any collection, or come from an iterator.
        """
        crowd = [Opened(plain), Opened(plain)]
        assert broadcast(collection([opened.channel for opened in crowd]), b"\xe2\x82\xac") == 2
        assert [opened.texts() for opened in crowd] == [["€"], ["€"]]
        for opened in crowd:
            opened.end()

    def test_encoded_once(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An event is encoded and framed once, and every socket is sent the same bytes, without a copy.
        """
        crowd = [Opened(plain) for _ in range(5)]
        encoded: list[ServerSentEvent] = []
        sent: list[int] = []

        def encode(event: ServerSentEvent) -> bytes:
            encoded.append(event)
            return encoder.encode_event(event)

        monkeypatch.setattr(module, "encode_event", encode)

        def recording(send: Callable[[bytes], int], data: bytes) -> int:
            sent.append(id(data))
            return send(data)

        for opened in crowd:
            opened.client.pump()
            socket = opened.client.socket
            monkeypatch.setattr(socket, "send", partial(recording, socket.send))
        assert broadcast([opened.channel for opened in crowd], "x" * 100) == 5
        assert encoded == [ServerSentEvent("x" * 100)]
        # At once, in the same turn of the reactor.
        assert len(sent) == 5
        assert len(set(sent)) == 1
        for opened in crowd:
            opened.end()

    def test_no_channels(self) -> None:
        """
        A broadcast to no channels accepts nothing.
        """
        assert broadcast(set(), "x") == 0

    def test_keepalive(self, wire: Wire) -> None:
        """
        A broadcast counts as traffic: it postpones the keep-alive comment.
        """
        opened = Opened(wire, keepalive=15.0)
        for _ in range(4):
            wire.reactor.advance(10)
            broadcast([opened.channel], "a")
        assert opened.texts() == ["a"] * 4
        assert b":\n" not in opened.client.body
        opened.end()


class SlowTests:
    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ("close", None),
            ("drop", ["0", "1"]),
            ("latest", ["3", "last"]),
        ],
    )
    def test_policies(self, wire: Wire, policy: Any, expected: list[str] | None) -> None:
        """
        Each slow channel gets a broadcast by its own overflow policy, whose key is the type of the event; the
        others get it at once.
        """
        slow, quick = Opened(wire, slow_policy=policy, max_buffer=2**16), Opened(wire)
        channels = {slow.channel, quick.channel}
        slow.fill()
        # Two of these fit, and then not even a short event does.
        frame = (2**16 - slow.channel.buffered) // 2
        data = "y" * (frame - len("event: state\ndata: 0\n\n"))
        accepted = [broadcast(channels, ServerSentEvent(f"{number}{data}", "state")) for number in range(4)]
        accepted.append(broadcast(channels, ServerSentEvent("last")))
        assert [text.rstrip("y") for text in received(quick)] == ["0", "1", "2", "3", "last"]
        slow.client.read_on()
        if expected is None:
            assert accepted == [2, 2, 1, 1, 1]
            assert slow.channel.close_reason is CloseReason.SLOW_READER
        else:
            assert accepted == [2] * 5
            assert [text.rstrip("y") for text in received(slow) if text[0] != "x"] == expected
        slow.end()
        quick.end()

    def test_slow_reader_of_one_event(self, wire: Wire) -> None:
        """
        A channel whose client reads again receives the broadcasts that it buffered, in order.
        """
        opened = Opened(wire)
        opened.fill()
        assert [broadcast([opened.channel], text) for text in "abc"] == [1, 1, 1]
        assert opened.buffered > 0
        opened.client.read_on()
        assert opened.texts() == ["a", "b", "c"]
        opened.end()


class ClosedTests:
    def test_closed_and_closing(self, wire: Wire) -> None:
        """
        Channels that are closed, or that are closing while they flush, are skipped and not counted.
        """
        closed, gone, flushing, opened = (Opened(wire) for _ in range(4))
        closed.channel.close()
        gone.client.disconnect(clean=False)
        flushing.fill()
        flushing.channel.close()
        channels = [each.channel for each in (closed, gone, flushing, opened)]
        assert broadcast(channels, "a") == 1
        assert opened.texts() == ["a"]
        flushing.client.read_on()
        assert flushing.texts() == []
        flushing.end()
        opened.end()

    def test_set_changes_meanwhile(self, wire: Wire) -> None:
        """
        Code that runs because a broadcast closes a slow channel may change the collection, and may close
        further channels; the remaining ones get the event once.
        """
        slow = Opened(wire, max_buffer=0)
        slow.fill()
        others = [Opened(wire) for _ in range(4)]
        channels = [slow.channel, *(each.channel for each in others)]

        def closed(_: object) -> None:
            channels.remove(slow.channel)
            others[0].channel.close()
            channels.pop(0)
            channels.append(others[1].channel)

        slow.channel.drain().addErrback(closed)
        assert broadcast(channels, "a") == 3
        assert [each.texts() for each in others] == [[], ["a"], ["a"], ["a"]]
        assert channels == [*(each.channel for each in others[1:]), others[1].channel]
        slow.client.read_on()
        for each in others:
            each.end()

    def test_handler_that_removes_its_channel(self, wire: Wire) -> None:
        """
        A set that ``when_closed`` removes channels from can be broadcast to, whatever closes them.
        """
        crowd = [Opened(wire, max_buffer=0) for _ in range(3)]
        channels = {each.channel for each in crowd}
        for each in crowd:
            each.channel.when_closed().addCallback(lambda _, own: channels.discard(own), each.channel)
        crowd[1].fill()
        assert broadcast(channels, "a") == 2
        wire.reactor.run_soon()
        assert channels == {crowd[0].channel, crowd[2].channel}
        assert broadcast(channels, "b") == 2
        for each in crowd:
            each.end()
        assert broadcast(channels, "c") == 0


class FailureTests:
    def test_one_channel_fails(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        An unexpected error of one channel is logged and aborts that channel; the others get the event.
        """
        crowd = [Opened(plain) for _ in range(3)]
        crowd[1].channel.sink.offer = fail  # type: ignore[method-assign]
        assert broadcast([each.channel for each in crowd], "a") == 2
        (failure,) = failures
        assert failure["log_failure"].check(Failing)
        assert failure["channel"] is crowd[1].channel
        assert crowd[1].channel.close_reason is CloseReason.SERVER_CLOSED
        plain.reactor.run_soon()
        assert crowd[1].client.reset
        assert [crowd[0].texts(), crowd[2].texts()] == [["a"], ["a"]]
        for each in crowd:
            each.end()

    def test_slow_channel_fails(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        An error of an overflow policy affects only its channel, also if the channel cannot be aborted.
        """

        class FailingPolicy(OverflowPolicy):
            name = "failing"
            make_room = fail

        slow, quick = Opened(plain, slow_policy=FailingPolicy(), max_buffer=0), Opened(plain)
        slow.fill()
        abort = slow.channel.sink.abort
        slow.channel.sink.abort = fail  # type: ignore[method-assign]
        assert broadcast([slow.channel, quick.channel], "a") == 1
        assert [failure["log_failure"].check(Failing) for failure in failures] == [Failing, Failing]
        assert quick.texts() == ["a"]
        abort()
        slow.end()
        quick.end()

    def test_many_failures(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        Many errors are logged as a few: a broken transport must not fill the disk.
        """
        crowd = [Opened(plain) for _ in range(20)]
        for each in crowd:
            each.channel.sink.offer = fail  # type: ignore[method-assign]
        assert broadcast([each.channel for each in crowd], "a") == 0
        assert len(failures) == 5
        plain.reactor.run_soon()


class MistakeTests:
    @pytest.mark.parametrize("event", [None, 7, {"a": 1}, ["a"], bytearray(b"a")])
    def test_event_of_another_type(self, plain: Wire, event: Any) -> None:
        """
        A value that is no event is refused with advice, and no channel gets anything.
        """
        opened = Opened(plain)
        with pytest.raises(
            TypeError, match=r"event must be str, bytes or a ServerSentEvent \(for JSON, pass"
        ):
            broadcast([opened.channel], event)
        opened.end()
        assert opened.client.body == b""

    @pytest.mark.parametrize("event", [b"\xff", "\ud800"])
    def test_event_that_cannot_be_encoded(self, event: Any) -> None:
        """
        A text that has no UTF-8 form is refused, even if there are no channels.
        """
        with pytest.raises(InvalidField):
            broadcast(set(), event)

    @pytest.mark.parametrize("other", [None, "name", 7])
    def test_members_that_are_no_channels(self, plain: Wire, other: Any) -> None:
        """
        A collection with something else than channels is refused with advice, and no channel gets the event.
        """
        opened = Opened(plain)
        message = r"channels must be a collection of SSEChannel objects .* pass values\(\)\), not "
        with pytest.raises(TypeError, match=message + type(other).__name__):
            broadcast([opened.channel, other], "a")
        opened.end()
        assert opened.client.body == b""

    def test_one_channel(self, plain: Wire) -> None:
        """
        A single channel instead of a collection is refused.
        """
        opened = Opened(plain)
        with pytest.raises(TypeError, match=r"channels must be a collection of .*, not SSEChannel"):
            broadcast(opened.channel, "a")  # type: ignore[arg-type]
        opened.end()

    def test_subclass_of_channels(self, plain: Wire) -> None:
        """
        Channels of a subclass of ``SSEChannel`` are accepted.
        """

        class Own(SSEChannel):
            __slots__ = ()

        opened = Opened(plain)
        opened.channel.__class__ = Own
        assert broadcast([opened.channel], "a") == 1
        opened.end()


class RandomTests:
    @settings(derandomize=True, deadline=None, max_examples=100)
    @given(
        st.sampled_from(WIRES),
        st.sampled_from(["close", "drop", "latest"]),
        st.lists(
            st.tuples(st.sampled_from(["send", "broadcast", "stop", "read", "turn"]), st.integers(0, 2)),
            max_size=30,
        ),
    )
    def test_nothing_is_lost_or_doubled(self, kind: str, policy: Any, steps: list[tuple[str, int]]) -> None:
        """
        Over random steps, the result is the number of channels that are open afterwards; each of these
        receives the broadcasts and its own events in order and once, except for as many as its policy
        dropped.
        """
        with pytest.MonkeyPatch.context() as patch:
            wire = Wire(kind, patch)
            crowd = [Opened(wire, slow_policy=policy, max_buffer=60_000) for _ in range(3)]
            channels = [each.channel for each in crowd]
            accepted: list[list[str]] = [[], [], []]
            for number, (step, which) in enumerate(steps):
                event = ServerSentEvent(f"{number} {'y' * 20_000}", f"type {number % 2}")
                if step == "broadcast":
                    assert broadcast(channels, event) == sum(channel.is_open for channel in channels)
                elif step == "send" and channels[which].is_open:
                    with suppress(ChannelClosed):
                        channels[which].send_event(event)
                elif step == "stop":
                    crowd[which].client.stop_reading()
                elif step == "read":
                    crowd[which].client.read_on()
                else:
                    crowd[which].client.pump()
                for at, channel in enumerate(channels):
                    if channel.is_open and (step == "broadcast" or (step == "send" and at == which)):
                        accepted[at].append(event.data)
            for each, wanted in zip(crowd, accepted, strict=True):
                if each.channel.is_open:
                    each.client.read_on()
                    found = received(each)
                    assert len(found) == len(set(found)) == len(wanted) - each.channel.dropped
                    rest = iter(wanted)
                    assert all(data in rest for data in found)
                each.client.disconnect(clean=False)

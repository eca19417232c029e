"""
Tests of the channel, on every transport that carries it.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any
from xml.etree import ElementTree

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent

from tests.fakes import Client, Wire
from txsse import ChannelClosed, CloseReason, InvalidField, ServerSentEvent, SSEChannel, SSEResource


class Opened:
    """
    A stream with its channel and its client.
    """

    def __init__(self, wire: Wire, client: Client | None = None, **options: Any) -> None:
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=wire.upgrader(**options))
        self.wire = wire
        self.client = client or wire.connect(resource)
        self.client.request()
        (self.channel,) = channels
        self.reasons: list[CloseReason] = []
        self.channel.when_closed().addCallback(self.reasons.append)

    def fill(self) -> None:
        """
        Let the client stop reading, and send until the channel is slow.
        """
        self.client.stop_reading()
        for _ in range(100):
            if self.channel.is_slow:
                # Over HTTP/2, a part of a frame is buffered that exceeded the window.
                self.cut_off = self.channel.buffered
                return
            self.channel.send("x" * 4096)
            self.wire.reactor.run_soon()
        raise AssertionError("the channel never noticed")

    @property
    def buffered(self) -> int:
        """
        How many bytes of whole frames the channel buffers.
        """
        return self.channel.buffered - self.cut_off

    def texts(self) -> list[str]:
        """
        Return the data of the received events, without the filling.
        """
        self.client.pump()
        found = [block.removeprefix(b"data: ").decode() for block in self.client.body.split(b"\n\n")]
        return [text for text in found if text and not text.startswith("x")]

    def end(self) -> None:
        """
        Close the stream, and release everything.
        """
        self.client.read_on()
        self.channel.close()
        self.client.pump()


class SendingTests:
    def test_each_send_method(self, wire: Wire) -> None:
        """
        Each send method of a channel writes its event at once, whole and in order.
        """
        opened = Opened(wire)
        channel = opened.channel
        channel.send("plain")
        channel.send(b"bytes \xe2\x82\xac", event="kind", id="7", retry=1.5)
        channel.send_event(ServerSentEvent("built"))
        channel.send_json({"a": [1, None]}, event="json")
        channel.comment("note")
        opened.client.pump()
        assert opened.client.body.decode() == (
            "data: plain\n\n"
            "retry: 1500\nid: 7\nevent: kind\ndata: bytes €\n\n"
            "data: built\n\n"
            'event: json\ndata: {"a":[1,null]}\n\n'
            ": note\n\n"
        )
        opened.end()
        assert opened.client.ended

    def test_bytes_that_are_not_utf8(self, plain: Wire) -> None:
        """
        A channel refuses bytes that are not UTF-8, names the first wrong byte, and sends nothing.
        """
        opened = Opened(plain)
        with pytest.raises(InvalidField, match="data: byte 0xFF is not UTF-8") as caught:
            opened.channel.send(b"ab\xff")
        assert caught.value.position == 2
        opened.end()
        assert opened.client.body == b""

    def test_sending_after_close(self, wire: Wire) -> None:
        """
        Every send method of a closed channel raises ChannelClosed with the close reason.
        """
        opened = Opened(wire)
        opened.channel.close()
        for send in (
            lambda: opened.channel.send("x"),
            lambda: opened.channel.send_event(ServerSentEvent("x")),
            lambda: opened.channel.send_json(1),
            lambda: opened.channel.comment("x"),
        ):
            with pytest.raises(ChannelClosed) as caught:
                send()
            assert caught.value.reason is CloseReason.SERVER_CLOSED
        opened.client.pump()
        assert opened.client.body == b""

    def test_options_of_json_and_xml(self, plain: Wire) -> None:
        """
        send_json and send_xml send the event type, the ID and the reconnection time, as send does.
        """
        opened = Opened(plain)
        opened.channel.send_json(1, event="e", id="7", retry=1.5)
        opened.channel.send_xml(ElementTree.Element("a"), event="e", id="8", retry=2.5)
        opened.client.pump()
        assert opened.client.body == (
            b"retry: 1500\nid: 7\nevent: e\ndata: 1\n\nretry: 2500\nid: 8\nevent: e\ndata: <a />\n\n"
        )
        opened.end()

    def test_repr(self, plain: Wire) -> None:
        """
        The repr of a channel names the path, the peer and the state.
        """
        opened = Opened(plain)
        assert "b'/'" in repr(opened.channel)
        assert "127.0.0.1" in repr(opened.channel)
        assert repr(opened.channel).endswith(" open>")
        opened.end()
        assert repr(opened.channel).endswith(" closed>")


class ClosingTests:
    def test_close_reason_of_an_open_channel(self, plain: Wire) -> None:
        """
        An open channel has no close reason.
        """
        opened = Opened(plain)
        assert opened.channel.close_reason is None
        opened.end()

    def test_close(self, wire: Wire) -> None:
        """
        close() ends the response after all frames that were sent, and when_closed fires once.
        """
        opened = Opened(wire)
        opened.channel.send("last")
        opened.channel.close()
        assert not opened.channel.is_open
        opened.client.pump()
        assert opened.texts() == ["last"]
        assert opened.client.ended
        assert opened.reasons == [CloseReason.SERVER_CLOSED]
        assert opened.channel.close_reason is CloseReason.SERVER_CLOSED

    def test_close_twice_and_after_a_disconnect(self, wire: Wire) -> None:
        """
        close() of a closed channel does nothing, and the close reason stays.
        """
        opened = Opened(wire)
        opened.channel.close()
        opened.channel.close()
        assert opened.reasons == [CloseReason.SERVER_CLOSED]
        other = Opened(wire)
        other.client.disconnect(clean=False)
        other.channel.close()
        assert other.reasons == [CloseReason.CLIENT_GONE]

    def test_when_closed_after_the_end(self, wire: Wire) -> None:
        """
        when_closed of a closed channel fires at once with the close reason.
        """
        opened = Opened(wire)
        opened.channel.close()
        late: list[CloseReason] = []
        opened.channel.when_closed().addCallback(late.append)
        assert late == [CloseReason.SERVER_CLOSED]

    def test_when_closed_that_is_cancelled(self, wire: Wire) -> None:
        """
        Cancelling one Deferred of when_closed leaves the other ones waiting for the end.
        """
        opened = Opened(wire)
        impatient = opened.channel.when_closed()
        impatient.cancel()
        impatient.addErrback(lambda failure: failure.trap(CancelledError))
        opened.channel.close()
        assert opened.reasons == [CloseReason.SERVER_CLOSED]

    @pytest.mark.parametrize("clean", [True, False])
    def test_client_disconnects(self, wire: Wire, clean: bool) -> None:
        """
        A channel is closed when its client disconnects, whether or not it closes the connection cleanly.
        """
        opened = Opened(wire)
        opened.client.disconnect(clean=clean)
        assert not opened.channel.is_open
        assert opened.reasons == [CloseReason.CLIENT_GONE]

    def test_client_disconnects_while_frames_are_buffered(self, wire: Wire) -> None:
        """
        A channel drops its buffered frames when the client disconnects.
        """
        opened = Opened(wire)
        opened.fill()
        opened.channel.send("buffered")
        assert opened.channel.buffered
        opened.client.disconnect(clean=False)
        assert opened.channel.buffered == 0

    def test_other_code_finishes_the_request(self, plain: Wire) -> None:
        """
        A channel is closed when other code finishes the request, and writes nothing into the next response.
        """
        opened = Opened(plain)
        request = opened.channel.request.original
        assert request is not None
        request.unregisterProducer()  # type: ignore[no-untyped-call]
        request.finish()
        assert opened.reasons == [CloseReason.SERVER_CLOSED]
        with pytest.raises(ChannelClosed):
            opened.channel.send("into the next response")

    def test_close_while_frames_are_buffered(self, wire: Wire) -> None:
        """
        close() returns at once, refuses new frames, and ends the stream when the client has read the buffered
        ones.
        """
        opened = Opened(wire)
        opened.fill()
        opened.channel.send("buffered")
        opened.channel.close()
        assert opened.reasons == []
        with pytest.raises(ChannelClosed):
            opened.channel.send("too late")
        opened.client.read_on()
        assert opened.texts() == ["buffered"]
        assert opened.client.ended
        assert opened.reasons == [CloseReason.SERVER_CLOSED]

    def test_close_while_many_frames_are_buffered(self, wire: Wire) -> None:
        """
        close() ends the stream after all buffered frames, even if the client reads them in several parts.
        """
        opened = Opened(wire)
        opened.fill()
        for number in range(100):
            opened.channel.send(f"{number} {'y' * 4096}")
        opened.channel.close()
        opened.client.read_some(100_000)
        assert opened.channel.buffered
        assert opened.reasons == []
        opened.client.read_on()
        assert [text.split()[0] for text in opened.texts()] == [str(number) for number in range(100)]
        assert opened.client.ended
        assert opened.reasons == [CloseReason.SERVER_CLOSED]

    def test_abort_empties_the_buffer(self, plain: Wire) -> None:
        """
        A channel that aborts its connection empties its buffer before, not when the transport reports the
        end.
        """
        opened = Opened(plain, flush_timeout=5.0)
        opened.fill()
        opened.channel.send("buffered")
        opened.channel.close()
        buffered: list[int] = []
        opened.client.transport.abortConnection = lambda: buffered.append(opened.channel.buffered)
        plain.reactor.advance(5)
        assert buffered == [0]
        opened.client.disconnect(clean=False)

    def test_close_and_a_client_that_never_reads(self, wire: Wire) -> None:
        """
        A closed channel whose client does not read is aborted after flush_timeout, and not before.
        """
        opened = Opened(wire, flush_timeout=5.0)
        opened.fill()
        opened.channel.send("buffered")
        opened.channel.close()
        wire.reactor.advance(4.9)
        assert opened.channel.buffered
        wire.reactor.advance(0.2)
        wire.reactor.run_soon()
        assert opened.reasons == [CloseReason.FLUSH_TIMEOUT]
        assert opened.channel.buffered == 0
        opened.client.read_on()
        assert opened.client.reset
        assert not opened.client.ended

    def test_connection_is_used_again(self, wire: Wire) -> None:
        """
        After a stream was closed, an HTTP/1.1 or HTTP/2 connection serves another request.
        """
        opened = Opened(wire)
        opened.channel.close()
        opened.client.pump()
        assert opened.client.ended
        assert opened.client.connected is (wire.kind != "http10")
        if opened.client.connected:
            opened.client.reset_response()
            opened.client.request(method="HEAD")
            assert opened.client.status == 200
            opened.client.disconnect(clean=False)

    def test_connection_is_used_for_another_stream(self, wire: Wire) -> None:
        """
        After a stream was closed, its connection serves another stream.
        """
        channels: list[SSEChannel] = []
        client = wire.connect(SSEResource(channels.append, upgrader=wire.upgrader())).request()
        channels[0].close()
        client.pump()
        if client.connected:
            client.reset_response()
            client.request()
            channels[1].send("x")
            client.pump()
            assert client.body == b"data: x\n\n"
            channels[1].close()
            client.pump()
            assert client.ended

    def test_closed_channel_is_freed(self, wire: Wire) -> None:
        """
        A closed channel and its sink are freed at once: no reference cycle keeps them until a garbage
        collection.
        """
        channels: list[SSEChannel] = []
        client = wire.connect(SSEResource(channels.append, upgrader=wire.upgrader())).request()
        # In production, only the transport refers to the protocol.
        client.protocol = None
        channels[0].close()
        client.pump()
        freed = [weakref.ref(channels[0]), weakref.ref(channels[0]._sink)]
        gc.disable()
        try:
            channels.clear()
            assert [reference() for reference in freed] == [None, None]  # type: ignore[operator]
        finally:
            gc.enable()


class SlowReaderTests:
    def test_frames_are_buffered_in_order(self, wire: Wire) -> None:
        """
        Buffered frames reach a slow client in order once it reads again.
        """
        opened = Opened(wire)
        opened.fill()
        for number in range(10):
            opened.channel.send(str(number))
        assert opened.buffered == 10 * len(b"data: 0\n\n")
        opened.client.read_on()
        assert opened.texts() == [str(number) for number in range(10)]
        assert opened.channel.buffered == 0
        opened.channel.send("live")
        assert opened.texts()[-1] == "live"
        opened.end()

    def test_reading_in_little_pieces(self, wire: Wire) -> None:
        """
        A client that reads a few bytes at a time gets every event in order.
        """
        opened = Opened(wire)
        opened.fill()
        sent = [f"{number}:{'y' * number}" for number in range(300)]
        for text in sent:
            opened.channel.send(text)
        for _ in range(2000):
            opened.client.read_some(97)
        opened.client.read_on()
        assert opened.texts() == sent
        opened.end()

    def test_policy_close(self, wire: Wire) -> None:
        """
        With the policy close, one byte more than max_buffer aborts the stream, and the sender gets
        ChannelClosed.
        """
        opened = Opened(wire, max_buffer=1000)
        opened.fill()
        opened.channel.send("y" * (1000 - len("data: \n\n")))
        assert opened.buffered == 1000
        with pytest.raises(ChannelClosed) as caught:
            opened.channel.send("")
        assert caught.value.reason is CloseReason.SLOW_READER
        assert opened.channel.buffered == 0
        wire.reactor.run_soon()
        assert opened.reasons == [CloseReason.SLOW_READER]
        opened.client.read_on()
        assert opened.client.reset
        assert not opened.client.ended

    def test_policy_drop(self, wire: Wire) -> None:
        """
        With the policy drop, new frames are dropped and counted, and buffered frames are sent.
        """
        opened = Opened(wire, max_buffer=30, slow_policy="drop")
        opened.fill()
        for text in ("one", "two", "three", "4"):
            opened.channel.send(text)
        assert opened.channel.dropped == 2
        opened.client.read_on()
        opened.channel.send("live")
        assert opened.texts() == ["one", "two", "live"]
        opened.end()

    def test_policy_latest(self, wire: Wire) -> None:
        """
        With the policy latest, the newest event of each type is buffered, in the order of the last changes.
        """
        opened = Opened(wire, slow_policy="latest")
        opened.fill()
        for number in range(5):
            opened.channel.send(f"a{number}", event="a")
            opened.channel.send(f"b{number}", event="b")
        opened.channel.send("a5", event="a")
        assert opened.channel.dropped == 9
        opened.client.read_on()
        opened.client.pump()
        assert opened.client.body.endswith(b"event: b\ndata: b4\n\nevent: a\ndata: a5\n\n")
        opened.end()

    def test_policy_latest_and_events_without_a_type(self, plain: Wire) -> None:
        """
        With the policy latest, events without a type count as ``message``, and a comment replaces no event.
        """
        opened = Opened(plain, slow_policy="latest")
        opened.fill()
        opened.channel.send("a", event="message")
        opened.channel.send("b")
        opened.channel.comment("c")
        assert opened.channel.dropped == 1
        opened.client.read_on()
        assert opened.client.body.endswith(b"xx\n\ndata: b\n\n: c\n\n")
        opened.end()

    def test_client_that_never_reads_is_bounded(self, wire: Wire) -> None:
        """
        For a client that never reads, no more than max_buffer and the transport's own buffer is kept.
        """
        opened = Opened(wire, max_buffer=10_000, slow_policy="drop")
        opened.client.stop_reading()
        for _ in range(3000):
            opened.channel.send("x" * 1000)
            assert opened.channel.buffered <= 10_000 + 1008
            wire.reactor.run_soon()
        assert opened.channel.dropped > 2000
        assert transport_holds(opened.client) < 200_000
        opened.end()

    def test_http2_client_with_a_huge_window_that_never_reads(self, plain: Wire) -> None:
        """
        An HTTP/2 window of 2 GiB does not make the connection keep more than usual.
        """
        plain.kind = "http2"
        opened = Opened(plain, max_buffer=10_000, slow_policy="drop")
        client: Any = opened.client
        client.open_window(2**31 - 1)
        client.stop_reading()
        for _ in range(3000):
            opened.channel.send("x" * 1000)
            plain.reactor.run_soon()
        assert opened.channel.dropped > 2000
        assert transport_holds(opened.client) < 300_000
        client.read_on()
        opened.channel.send("live")
        assert opened.texts()[-1] == "live"
        opened.end()

    def test_http2_window_and_queue_both_full(self, plain: Wire) -> None:
        """
        An HTTP/2 stream continues whichever opens first, the window or the connection's queue.
        """
        plain.kind = "http2"
        opened = Opened(plain)
        sent = [f"{number} {'y' * 3000}" for number in range(150)]
        for text in sent:
            opened.channel.send(text)
        assert opened.channel.buffered
        assert opened.texts() == sent
        opened.end()


def transport_holds(client: Client) -> int:
    """
    Return how many bytes the layers below the channel keep.
    """
    held = len(client.transport.dataBuffer) + client.transport._tempDataLen
    connection = client.protocol._channel
    for queue in getattr(connection, "_outboundStreamQueues", {}).values():
        held += sum(len(data) for data in queue if isinstance(data, bytes))
    return int(held)


class DrainTests:
    def test_client_that_keeps_up(self, wire: Wire) -> None:
        """
        drain() of a channel whose client keeps up fires in the reactor's next turn, not before.
        """
        opened = Opened(wire)
        fired: list[None] = []
        opened.channel.drain().addCallback(fired.append)
        opened.channel.drain().addCallback(fired.append)
        assert fired == []
        wire.reactor.advance(0)
        assert fired == [None, None]
        opened.end()

    def test_slow_client(self, wire: Wire) -> None:
        """
        drain() fires when a slow client has caught up.
        """
        opened = Opened(wire)
        opened.fill()
        fired: list[None] = []
        opened.channel.drain().addCallback(fired.append)
        wire.reactor.run_soon()
        assert fired == []
        opened.client.read_on()
        assert fired == [None]
        opened.end()

    def test_one_call_for_all(self, plain: Wire) -> None:
        """
        Several drain() calls share one delayed call in the reactor; a slow client needs none.
        """
        opened = Opened(plain)
        for _ in range(3):
            opened.channel.drain()
        assert len(plain.reactor.getDelayedCalls()) == 1
        plain.reactor.run_soon()
        opened.fill()
        opened.channel.drain().addErrback(lambda failure: failure.trap(ChannelClosed))
        assert plain.reactor.getDelayedCalls() == []
        opened.client.disconnect(clean=False)

    def test_client_that_catches_up_in_several_parts(self, wire: Wire) -> None:
        """
        drain() fires only when the last buffered frame has been sent.
        """
        opened = Opened(wire)
        opened.fill()
        for _ in range(100):
            opened.channel.send("x" * 4096)
        fired: list[None] = []
        opened.channel.drain().addCallback(fired.append)
        opened.client.read_some(100_000)
        assert opened.channel.is_slow
        assert fired == []
        opened.client.read_on()
        assert fired == [None]
        opened.end()

    def test_channel_closes_before_the_turn(self, plain: Wire) -> None:
        """
        A channel that closes before drain() has fired leaves no delayed call in the reactor.
        """
        opened = Opened(plain)
        opened.channel.drain().addErrback(lambda failure: failure.trap(ChannelClosed))
        opened.channel.close()
        assert plain.reactor.getDelayedCalls() == []

    def test_client_becomes_slow_before_the_turn(self, wire: Wire) -> None:
        """
        drain() waits on if the client becomes slow before the reactor's next turn.
        """
        opened = Opened(wire)
        fired: list[None] = []
        opened.channel.drain().addCallback(fired.append)
        opened.client.stop_reading()
        for _ in range(40):
            opened.channel.send("x" * 4096)
        assert opened.channel.is_slow
        wire.reactor.run_soon()
        assert fired == []
        opened.client.read_on()
        assert fired == [None]
        opened.end()

    @pytest.mark.parametrize("slow", [True, False])
    def test_channel_closes(self, wire: Wire, slow: bool) -> None:
        """
        drain() fails with ChannelClosed when the channel closes, so that a loop of sends ends.
        """
        opened = Opened(wire)
        if slow:
            opened.fill()
        failures: list[Any] = []
        opened.channel.drain().addErrback(failures.append)
        opened.client.disconnect(clean=False)
        opened.channel.drain().addErrback(failures.append)
        assert [failure.type for failure in failures] == [ChannelClosed, ChannelClosed]

    def test_cancelled(self, wire: Wire) -> None:
        """
        A cancelled drain() does not affect other waiters of the channel.
        """
        opened = Opened(wire)
        fired: list[str] = []
        first, second = opened.channel.drain(), opened.channel.drain()
        first.addErrback(lambda failure: fired.append(failure.type.__name__))  # type: ignore[call-overload]
        second.addCallback(lambda _: fired.append("second"))
        first.cancel()
        wire.reactor.run_soon()
        assert fired == ["CancelledError", "second"]
        opened.end()

    def test_waiter_that_cancels_another(self, wire: Wire) -> None:
        """
        A callback of drain() may cancel another drain(), which then does not fire twice.
        """
        opened = Opened(wire)
        fired: list[str] = []
        first, second = opened.channel.drain(), opened.channel.drain()
        first.addCallback(lambda _: second.cancel())
        second.addErrback(lambda failure: fired.append(failure.type.__name__))  # type: ignore[call-overload]
        third = opened.channel.drain()
        failing: Deferred[None] = opened.channel.drain()
        failing.addCallback(lambda _: fired.append("failing"))
        third.addCallback(lambda _: fired.append("third"))
        wire.reactor.run_soon()
        assert fired == ["CancelledError", "third", "failing"]
        opened.end()

    def test_waiter_that_blocks_the_channel_again(self, wire: Wire) -> None:
        """
        If the first callback of drain() makes the client slow again, the next waiters wait until it has
        caught up again.
        """
        opened = Opened(wire)
        opened.fill()
        fired: list[int] = []

        def produce(number: int) -> None:
            fired.append(number)
            opened.client.stop_reading()
            for _ in range(60):
                opened.channel.send("x" * 4096)

        for number in range(3):
            opened.channel.drain().addCallback(lambda _, number=number: produce(number))  # type: ignore[call-overload]
        for expected in ([0], [0, 1], [0, 1, 2]):
            opened.client.read_on()
            assert fired == expected
        opened.end()

    def test_endless_loop_of_send_and_drain(self, plain: Wire) -> None:
        """
        An endless loop of send and drain lets other calls run, and stops sending to a slow client.
        """
        opened = Opened(plain)
        others: list[int] = []
        sent = 0

        async def loop() -> None:
            nonlocal sent
            while True:
                opened.channel.send("x" * 1000)
                sent += 1
                await opened.channel.drain()

        looping = Deferred.fromCoroutine(loop())
        looping.addErrback(lambda failure: failure.trap(ChannelClosed))
        for number in range(5):
            plain.reactor.callLater(0, others.append, number)
            plain.reactor.advance(0)
        assert others == [0, 1, 2, 3, 4]
        opened.client.stop_reading()
        for _ in range(1000):
            plain.reactor.advance(0)
        assert 60 < sent < 100
        assert opened.channel.buffered <= 1010
        opened.client.disconnect(clean=False)


class LifetimeTests:
    def test_max_lifetime(self, wire: Wire) -> None:
        """
        A stream ends cleanly within the last fifth of max_lifetime.
        """
        opened = Opened(wire, max_lifetime=100.0)
        wire.reactor.advance(79.9)
        assert opened.channel.is_open
        opened.channel.send("still here")
        wire.reactor.advance(20.2)
        opened.client.pump()
        assert opened.reasons == [CloseReason.MAX_LIFETIME]
        assert opened.texts() == ["still here"]
        assert opened.client.ended

    def test_lifetimes_differ(self, plain: Wire) -> None:
        """
        Streams that began at the same time end at different times.
        """
        opened = [Opened(plain, max_lifetime=100.0) for _ in range(20)]
        ends = {call.getTime() for call in plain.reactor.getDelayedCalls()}
        assert len(ends) == 20
        assert all(80 <= end <= 100 for end in ends)
        for each in opened:
            each.end()


class KeepaliveTests:
    def test_silence(self, wire: Wire) -> None:
        """
        A channel sends a comment after each interval without frames.
        """
        opened = Opened(wire, keepalive=16.0)
        wire.reactor.pump([1.0] * 14)
        opened.client.pump()
        assert opened.client.body == b""
        wire.reactor.pump([1.0] * 2)
        opened.client.pump()
        assert opened.client.body == b":\n\n"
        wire.reactor.pump([1.0] * 16)
        opened.client.pump()
        assert opened.client.body == b":\n\n" * 2
        opened.end()

    def test_traffic_postpones(self, wire: Wire) -> None:
        """
        A channel that sends events sends no keep-alive comment until an interval after the last event.
        """
        opened = Opened(wire, keepalive=16.0)
        for _ in range(10):
            wire.reactor.pump([1.0] * 10)
            opened.channel.send("x")
        opened.client.pump()
        assert b":\n" not in opened.client.body
        wire.reactor.pump([1.0] * 14)
        opened.client.pump()
        assert b":\n" not in opened.client.body
        wire.reactor.pump([1.0] * 2)
        opened.client.pump()
        assert opened.client.body.endswith(b"data: x\n\n:\n\n")
        opened.end()

    def test_closed_channel(self, plain: Wire) -> None:
        """
        A closed channel sends no keep-alive comment: its connection may serve another response.
        """
        opened = Opened(plain, keepalive=16.0)
        opened.end()
        opened.channel.keepalive_due()
        opened.client.pump()
        assert opened.client.raw == b""
        assert opened.client.body == b""

    def test_slow_client(self, wire: Wire) -> None:
        """
        A channel sends no keep-alive comments to a client with unread data.
        """
        opened = Opened(wire, keepalive=16.0)
        opened.fill()
        wire.reactor.pump([1.0] * 40)
        assert opened.buffered == 0
        opened.client.read_on()
        assert b":\n" not in opened.client.body
        opened.end()


class WatcherTests:
    def test_watcher_fails(self, wire: Wire, failures: list[LogEvent]) -> None:
        """
        If a channel's watcher fails, when_closed still fires, and the failure is reported.
        """
        reported = []

        class Watcher:
            def channel_closed(self, channel: SSEChannel) -> None:
                raise LookupError

        opened = Opened(wire)
        opened.channel.watcher = Watcher()  # type: ignore[assignment]
        try:
            opened.client.disconnect()
        except LookupError as error:
            reported.append(type(error))
        assert opened.reasons == [CloseReason.CLIENT_GONE]
        # A failure in a Deferred of Twisted's is logged when the Deferred is collected.
        del opened
        gc.collect()
        reported += [event["log_failure"].type for event in failures]
        assert reported == [LookupError]

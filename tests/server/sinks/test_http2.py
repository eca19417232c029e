"""
Tests of HTTP/2 sinks: several streams on one connection, and hostile clients.
"""

from __future__ import annotations

from typing import Any

import pytest
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.fakes import Wire
from txsse import ChannelClosed, CloseReason, SSEChannel, SSEResource
from txsse.server.sinks.http2 import PlainHttp2Sink

HEADERS = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "x")]


class Connection:
    """
    A connection with several streams.
    """

    def __init__(self, wire: Wire, streams: int, **options: Any) -> None:
        wire.kind = "http2"
        self.reactor = wire.reactor
        self.channels: list[SSEChannel] = []
        self.greet = lambda channel: None
        resource = SSEResource(self.opened, upgrader=wire.upgrader(**options))
        self.client: Any = wire.connect(resource)
        self.h2: Any = self.client.h2  # type: ignore[attr-defined]
        for _ in range(streams):
            self.client.request()

    def opened(self, channel: SSEChannel) -> None:
        self.channels.append(channel)
        self.greet(channel)

    def ask(self) -> None:
        """
        Add a request for one more stream to the packet.
        """
        self.h2.send_headers(self.h2.get_next_available_stream_id(), HEADERS, end_stream=True)

    def flush(self) -> None:
        """
        Send the packet.
        """
        self.client.say(self.h2.data_to_send())

    def deaf(self) -> None:
        """
        Read, without opening the windows again.
        """
        self.h2.acknowledge_received_data = lambda *_: None

    def end(self) -> None:
        self.client.disconnect(clean=False)
        assert not any(channel.is_open for channel in self.channels)


class PacketTests:
    """
    Several frames in one packet: h2 has processed all of them when Twisted handles the first one.
    """

    def test_reset_and_request(self, plain: Wire) -> None:
        """
        A stream that sends when another one is reset sends once, and a new stream in the packet is served.
        """
        connection = Connection(plain, 2, retry=1.0)
        first, second = connection.channels
        first.when_closed().addCallback(lambda _: second.send("another stream ended"))
        connection.ask()
        connection.h2.reset_stream(1)
        connection.ask()
        connection.flush()
        assert len(connection.channels) == 4
        for channel in connection.channels[1:]:
            channel.send("still here")
        connection.client.pump()
        assert connection.client.body.count(b"another stream ended") == 1
        assert connection.client.body.count(b"still here") == 3
        assert connection.client.body.count(b"retry: 1000") == 4
        connection.end()

    def test_window_and_reset(self, plain: Wire) -> None:
        """
        A stream whose window opens in the packet that resets another stream continues.
        """
        connection = Connection(plain, 3)
        connection.deaf()
        _, second, _ = connection.channels
        second.send("y" * 70_000)
        connection.client.pump()
        connection.h2.increment_flow_control_window(70_000)
        connection.h2.increment_flow_control_window(70_000, 3)
        connection.h2.reset_stream(1)
        connection.ask()
        connection.flush()
        assert connection.client.body.count(b"y") == 70_000
        connection.end()

    def test_sending_to_a_stream_that_was_reset(self, plain: Wire) -> None:
        """
        Sending to a stream that a later frame of the same packet resets does not fail.
        """
        connection = Connection(plain, 1)
        (first,) = connection.channels
        open_then: list[bool] = []

        def greet(_: SSEChannel) -> None:
            open_then.append(first.is_open)
            if first.is_open:
                first.send("too late")

        connection.greet = greet
        connection.ask()
        connection.h2.reset_stream(1)
        connection.ask()
        connection.flush()
        assert open_then == [True, False]
        connection.end()


class AbortTests:
    def test_channel_that_ends_during_a_broadcast(self, plain: Wire) -> None:
        """
        A channel that ends inside ``send`` notifies later, so that a set of channels can be iterated over.
        """
        connection = Connection(plain, 3, max_buffer=0)
        subscribers = set(connection.channels)
        for channel in connection.channels:
            channel.when_closed().addCallback(lambda _, channel=channel: subscribers.discard(channel))  # type: ignore[call-overload]
        slow = connection.channels[0]
        slow.send("x" * 100_000)
        for channel in subscribers:
            if channel is slow:
                with pytest.raises(ChannelClosed):
                    channel.send("one too many")
            else:
                channel.send("fine")
        assert len(subscribers) == 3
        connection.client.pump()
        assert len(subscribers) == 2
        assert slow.close_reason is CloseReason.SLOW_READER
        assert connection.client.body.count(b"fine") == 2
        connection.end()

    def test_connection_is_lost_and_other_code_sends(self, plain: Wire) -> None:
        """
        If the connection is lost, every channel ends, even if the overflow policy is about to close one.
        """
        connection = Connection(plain, 4, max_buffer=0)
        first, second, *_ = connection.channels

        def bye(_: object) -> None:
            with pytest.raises(ChannelClosed):
                second.send("z")

        first.when_closed().addCallback(bye)
        second.send("x" * 100_000)
        connection.client.transport.connectionLost(Failure(ConnectionLost()))
        assert not any(channel.is_open for channel in connection.channels)

    @pytest.mark.parametrize("wake", ["window", "keep-alive", "transport"])
    def test_event_before_the_reset(self, plain: Wire, wake: str) -> None:
        """
        An aborted stream is reset even if its window opens before, or its transport resumes it.
        """
        connection = Connection(plain, 1)
        connection.deaf()
        (channel,) = connection.channels
        if wake == "transport":
            connection.client.stop_reading()
        channel.send("y" * 100_000)
        plain.reactor.run_soon()
        if wake != "transport":
            connection.client.pump()
        channel.abort(reason=CloseReason.SLOW_READER)
        if wake == "window":
            connection.h2.increment_flow_control_window(10)
            connection.h2.increment_flow_control_window(10, 1)
            connection.client.protocol.dataReceived(connection.h2.data_to_send())
        elif wake == "keep-alive":
            channel._sink.poke()
        else:
            connection.client.protocol._channel.resumeProducing()
        connection.client.read_on()
        plain.reactor.run_soon()
        closed: list[CloseReason] = []
        channel.when_closed().addCallback(closed.append)
        assert closed == [CloseReason.SLOW_READER]
        assert connection.client.reset

    def test_connection_after_goaway(self, plain: Wire) -> None:
        """
        If an aborted stream cannot be reset any more, its connection is aborted.
        """
        connection = Connection(plain, 1)
        (channel,) = connection.channels
        sink: Any = channel._sink

        def refuse() -> None:
            raise ProtocolError

        sink._request.channel.abortConnection = refuse
        channel.abort(reason=CloseReason.SLOW_READER)
        plain.reactor.run_soon()
        assert connection.client.socket.reset
        assert not connection.client.transport.connected


class WindowTests:
    def test_promised_window_of_a_stream_that_ends(self, plain: Wire) -> None:
        """
        The connection's window that a stream has reserved is available to other streams when it is reset.
        """
        connection = Connection(plain, 2)
        connection.deaf()
        first, second = connection.channels
        connection.client.stop_reading()
        first.send("a" * 60_000)
        second.send("b" * 20_000)
        plain.reactor.run_soon()
        connection.h2.reset_stream(1)
        connection.flush()
        connection.client.read_on()
        assert connection.client.body.count(b"b") == 20_000
        connection.end()

    @pytest.mark.parametrize("sizes", [(40_000, 30_000), (150_000,)])
    def test_window_that_is_enlarged_by_settings(self, plain: Wire, sizes: tuple[int, ...]) -> None:
        """
        The keep-alive detects a window that the client's settings enlarge, since Twisted does not notify.
        """
        connection = Connection(plain, 1, keepalive=16.0, max_buffer=0)
        connection.deaf()
        (channel,) = connection.channels
        for size in sizes:
            channel.send("y" * size)
            connection.client.pump()
        assert channel.is_slow is (len(sizes) == 1)
        connection.h2.increment_flow_control_window(1_000_000)
        connection.flush()
        connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        connection.flush()
        for _ in range(20):
            plain.reactor.advance(1)
        connection.client.pump()
        assert connection.client.body.count(b"y") == sum(sizes)
        assert not channel.is_slow
        connection.end()

    def test_poke_of_an_idle_stream(self, plain: Wire) -> None:
        """
        poke() of a stream without kept data does nothing.
        """
        connection = Connection(plain, 1)
        connection.channels[0]._sink.poke()
        assert plain.reactor.getDelayedCalls() == []
        connection.end()

    def test_queues_of_a_connection_that_is_blocked(self, plain: Wire) -> None:
        """
        On a blocked connection each stream queues one piece at most, so that no event costs more than the
        last.
        """
        connection = Connection(plain, 20)
        connection.client.open_window(2**31 - 1)
        connection.client.stop_reading()
        connection.channels[0].send("x" * 200_000)
        plain.reactor.run_soon()
        for _ in range(100):
            for channel in connection.channels:
                channel.send("tick")
            plain.reactor.run_soon()
        twisteds = connection.client.protocol._channel
        assert all(len(queue) <= 1 for queue in twisteds._outboundStreamQueues.values())
        # Each stream waits for the transport once, and Twisted itself once or twice.
        waiting = vars(twisteds._consumerBlocked)
        # The attribute got its underscore in 25.5.
        assert 20 <= len(waiting.get("_callbacks") or waiting["callbacks"]) <= 20 + 2
        assert plain.reactor.getDelayedCalls() == []
        connection.client.read_on()
        assert connection.client.body.count(b"tick") == 2000
        connection.end()

    def test_events_of_one_turn(self, plain: Wire) -> None:
        """
        Several events in one turn of the reactor do not count as a slow client, whatever the policy.
        """
        connection = Connection(plain, 1, slow_policy="latest")
        (channel,) = connection.channels
        for number in range(16):
            channel.send(str(number))
        connection.client.pump()
        assert connection.client.body == b"".join(b"data: %d\n\n" % number for number in range(16))
        connection.end()


class Http2SinkTests:
    def open_streams(self, wire: Wire, count: int) -> tuple[Any, list[SSEChannel]]:
        wire.kind = "http2"
        channels: list[SSEChannel] = []
        client: Any = wire.connect(SSEResource(channels.append, upgrader=wire.upgrader()))
        for _ in range(count):
            client.request()
        return client, channels

    def test_streams_share_the_window_of_the_connection(self, plain: Wire) -> None:
        """
        The streams of a connection together send no more than its window, so that Twisted's loop does not
        spin.
        """
        client, channels = self.open_streams(plain, 3)
        client.stop_reading()
        for _ in range(40):
            for channel in channels:
                channel.send("x" * 1000)
        # If more were queued than the window allows, the reactor would never be idle.
        plain.reactor.run_soon()
        assert client.body == b""
        client.read_on()
        assert client.body.count(b"data: ") == 120
        assert not any(channel.is_slow for channel in channels)
        client.disconnect(clean=False)

    def test_closed_window_does_not_spin(self, plain: Wire) -> None:
        """
        A client with a closed window causes no calls in the reactor.
        """
        client, (channel,) = self.open_streams(plain, 1)
        client.h2.acknowledge_received_data = lambda *_: None
        for _ in range(200):
            channel.send("x" * 1000)
        client.pump()
        assert channel.buffered
        assert plain.reactor.getDelayedCalls() == []
        client.disconnect(clean=False)

    def test_window_that_is_closed_from_the_start(self, plain: Wire) -> None:
        """
        With a closed window, the first frame waits, and is sent first when the window opens.
        """
        plain.kind = "http2"
        channels: list[SSEChannel] = []
        upgrader = plain.upgrader(retry=1.0)
        client: Any = plain.connect(SSEResource(channels.append, upgrader=upgrader))
        client.open_window(0)
        client.request()
        assert client.status == 200
        channels[0].send("x")
        plain.reactor.run_soon()
        assert client.body == b""
        client.h2.increment_flow_control_window(1000, client.stream)
        client.say(client.h2.data_to_send())
        assert client.body == b"retry: 1000\n\ndata: x\n\n"
        client.disconnect(clean=False)

    def test_one_stream_is_reset_by_policy(self, plain: Wire) -> None:
        """
        If the overflow policy resets a stream, the connection's other streams continue.
        """
        client, (slow, other) = self.open_streams(plain, 2)
        slow.abort(reason=CloseReason.SLOW_READER)
        other.send("still here")
        client.pump()
        assert client.body == b"data: still here\n\n"
        client.disconnect(clean=False)

    def test_frame_larger_than_every_buffer(self, plain: Wire) -> None:
        """
        A large frame is sent in pieces as the window opens, and close() waits for its end.
        """
        client, (channel,) = self.open_streams(plain, 1)
        text = "y" * 1_000_000
        channel.send(text)
        channel.close()
        assert channel.is_slow
        client.pump()
        assert client.body == f"data: {text}\n\n".encode()
        assert client.ended
        client.disconnect(clean=False)

    def test_write_while_blocked(self, plain: Wire) -> None:
        """
        A blocked sink accepts every frame, and sends them in order.
        """
        client, (channel,) = self.open_streams(plain, 1)
        sink = channel._sink
        for number in range(100):
            sink.write(b"%d" % number + b"z" * 3000)
        assert sink.blocked
        client.pump()
        assert client.body == b"".join(b"%d" % number + b"z" * 3000 for number in range(100))
        client.disconnect(clean=False)

    def test_queue_is_full_while_the_window_is_not(self, plain: Wire) -> None:
        """
        A client with a large window gets all data, 64 KiB at a time.
        """
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        for number in range(100):
            channel.send(f"{number} {'y' * 10_000}")
        assert channel.buffered > 900_000
        client.pump()
        assert client.body.count(b"data: ") == 100
        assert channel.buffered == 0
        client.disconnect(clean=False)

    def test_client_disconnects_while_the_queue_is_full(self, plain: Wire) -> None:
        """
        If the client disconnects while the queue is full, no call is left in the reactor.
        """
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        channel.send("y" * 1_000_000)
        assert channel.is_slow
        sink: Any = channel._sink
        assert self.looks(plain, sink) == 1
        client.transport.connectionLost(Failure(ConnectionLost()))
        assert self.looks(plain, sink) == 0
        assert not sink._writer.kept

    def test_window_opens_while_the_queue_is_full(self, plain: Wire) -> None:
        """
        If a window opens while the queue is full, one check stays scheduled.
        """
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        channel.send("y" * 200_000)
        sink: Any = channel._sink
        sink.resumeProducing()
        assert self.looks(plain, sink) == 1
        client.disconnect(clean=False)

    def test_window_opens_after_the_queue_was_full(self, plain: Wire) -> None:
        """
        If a window opens after the queue was full, the earlier check is not cancelled again.
        """
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        channel.send("y" * 200_000)
        client.pump()
        sink: Any = channel._sink
        sink.resumeProducing()
        assert not sink.blocked
        client.disconnect(clean=False)

    def test_owner_is_notified_once(self, plain: Wire) -> None:
        """
        The owner is notified once, when the last piece of a frame has been sent.
        """
        client, (channel,) = self.open_streams(plain, 1)
        sink: Any = channel._sink
        kept: list[int] = []
        channel.sink_ready = lambda: kept.append(sink._writer.kept)  # type: ignore[method-assign]
        channel.send("y" * 1_000_000)
        client.pump()
        assert kept == [0]
        client.disconnect(clean=False)

    def test_window_of_the_stream(self, plain: Wire) -> None:
        """
        A stream stays within its own window, whatever the connection's window allows.
        """
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(1000)
        channel.send("y" * 600)
        channel.send("y" * 600)
        # The client would end the connection if it got more than its window.
        client.pump()
        assert client.body.count(b"y") == 1200
        client.disconnect(clean=False)

    def looks(self, wire: Wire, sink: Any) -> int:
        return sum(call.func == sink._writer._look for call in wire.reactor.getDelayedCalls())  # type: ignore[attr-defined]

    @pytest.mark.parametrize("window", [-1, -50_000])
    def test_window_that_has_become_negative(self, plain: Wire, window: int) -> None:
        """
        After a client has made the window negative, nothing is sent until it is positive again.
        """
        client, (channel,) = self.open_streams(plain, 1)
        client.h2.acknowledge_received_data = lambda *_: None
        channel.send("y" * 60_000)
        client.pump()
        before = len(client.body)
        client.open_window(before + window)
        channel.send("after")
        client.pump()
        sink: Any = channel._sink
        assert sink._writer.kept == len(b"data: after\n\n")
        assert len(client.body) == before
        assert plain.reactor.getDelayedCalls() == []
        client.h2.increment_flow_control_window(10 - window, client.stream)
        client.say(client.h2.data_to_send())
        assert client.body[before:] == b"data: afte"
        client.disconnect(clean=False)

    def test_stream_is_reset_while_the_transport_is_blocked(self, plain: Wire) -> None:
        """
        If a stream is reset while the transport is blocked, the other stream continues when the client reads
        again.
        """
        client, (slow, other) = self.open_streams(plain, 2)
        client.open_window(2**31 - 1)
        client.stop_reading()
        for _ in range(50):
            slow.send("y" * 10_000)
            plain.reactor.run_soon()
        slow.abort(reason=CloseReason.SLOW_READER)
        client.read_on()
        other.send("still here")
        client.pump()
        assert client.body.endswith(b"data: still here\n\n")
        client.disconnect(clean=False)


class PlainHttp2SinkTests:
    """
    The sink for HTTP/2 objects that are not as expected.
    """

    @pytest.fixture
    def connection(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> Connection:
        monkeypatch.setattr("txsse.server.sinks.http2.stream_of", lambda request: None)
        monkeypatch.setattr("txsse.server.sinks.http2.global_reactor", lambda: plain.reactor)
        return Connection(plain, 2)

    def test_stream(self, connection: Connection) -> None:
        """
        PlainHttp2Sink writes through the request, and ends the stream.
        """
        first, other = connection.channels
        assert isinstance(first.sink, PlainHttp2Sink)
        first.send("x")
        first.close()
        other.send("y")
        connection.client.pump()
        assert connection.client.body == b"data: x\n\ndata: y\n\n"
        connection.end()

    def test_abort(self, connection: Connection) -> None:
        """
        PlainHttp2Sink resets an aborted stream once, in the next turn; other streams continue.
        """
        first, other = connection.channels
        first.sink.abort()
        first.sink.abort()
        assert first.is_open
        connection.client.pump()
        assert not first.is_open
        assert connection.client.reset
        other.send("y")
        connection.client.pump()
        assert connection.client.body == b"data: y\n\n"
        connection.end()

    def test_end_before_the_turn(self, connection: Connection) -> None:
        """
        An aborted stream that ends before the next turn is not reset.
        """
        connection.channels[0].sink.abort()
        connection.end()
        assert connection.reactor.getDelayedCalls() == []

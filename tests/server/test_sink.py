"""
Which sink a request gets. What they do is tested with the channel, over all of them.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Request as ServerRequest
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from tests.fakes import Client, Wire
from txsse import CloseReason, SSEChannel, SSEResource
from txsse.server.sink import DirectSink, Http2Sink, RequestSink


def sink_of(wire: Wire, site: Site | None = None, **options: Any) -> tuple[object, Client]:
    channels: list[SSEChannel] = []
    resource = SSEResource(channels.append, upgrader=wire.upgrader(**options))
    if site is not None:
        site.resource = resource
        client = Client(wire, site)
    else:
        client = wire.connect(resource)
    client.request()
    return channels[0]._sink, client


class ChoiceTests:
    def test_each_way(self, wire: Wire) -> None:
        """Plain HTTP/1.1 goes straight unless that is switched off; all else goes through the request."""
        sink, client = sink_of(wire)
        kinds = {"direct": DirectSink, "request": RequestSink, "http10": RequestSink, "http2": Http2Sink}
        assert type(sink) is kinds[wire.kind]
        client.disconnect(clean=False)

    def test_request_with_a_way_of_its_own(self, plain: Wire) -> None:
        """A subclass that overrides ``write`` gets to see every frame."""
        seen: list[bytes] = []

        class Watching(ServerRequest):
            def write(self, data: bytes) -> None:
                seen.append(data)
                super().write(data)

        site = Site(None, requestFactory=Watching, reactor=plain.reactor, timeout=None)
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        sink.write(b"data: x\n\n")
        assert seen == [b"", b"data: x\n\n"]
        client.disconnect()

    def test_request_instance_that_was_patched(self, plain: Wire) -> None:
        """So does an instance."""

        class Patched(ServerRequest):
            def process(self) -> None:
                self.write = super().write
                super().process()

        site = Site(None, requestFactory=Patched, reactor=plain.reactor, timeout=None)
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        client.disconnect()

    def test_channel_of_another_class(self, plain: Wire) -> None:
        """A subclass of ``HTTPChannel`` may write in a way of its own, and is not bypassed either."""

        class Own(HTTPChannel):
            pass

        site = Site(None, reactor=plain.reactor, timeout=None)
        site.protocol = Own
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        client.disconnect()

    def test_request_without_a_site(self, plain: Wire) -> None:
        """A request of ``twisted.web.http`` itself goes straight like one of ``twisted.web.server``."""
        channels: list[SSEChannel] = []

        class Bare(Request):
            def process(self) -> None:
                channels.append(plain.upgrader().upgrade(self))

        site = Site(None, requestFactory=Bare, reactor=plain.reactor, timeout=None)
        client = Client(plain, site).request()
        assert type(channels[0]._sink) is DirectSink
        channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        client.disconnect()

    def test_wrapped_transport(self, plain: Wire) -> None:
        """What stands between the protocol and the socket, as TLS does, is not bypassed."""
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        site = Site(resource, reactor=plain.reactor, timeout=None)
        client = Client(plain, WrappingFactory(site))  # type: ignore[arg-type]
        client.request()
        assert type(channels[0]._sink) is RequestSink
        channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        client.disconnect()


class RequestSinkTests:
    def test_is_a_producer(self, wire: Wire) -> None:
        """It says so, for transports that look."""
        sink, client = sink_of(wire)
        assert verifyObject(IPushProducer, sink)
        client.disconnect(clean=False)

    def test_resumed_after_the_end(self, plain: Wire) -> None:
        """A transport that resumes it late finds nobody to tell."""
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        client = plain.connect(resource).request()
        sink = channels[0]._sink
        client.disconnect()
        assert isinstance(sink, RequestSink)
        sink.resumeProducing()
        assert not sink.blocked


class DirectSinkTests:
    def test_access_log(self, plain: Wire) -> None:
        """The size of the response is what the client got, as it would be through the request."""
        sizes: dict[bool, int] = {}
        for direct in (True, False):
            channels: list[SSEChannel] = []
            resource = SSEResource(channels.append, upgrader=plain.upgrader(direct=direct))
            client = plain.connect(resource)
            logged: list[Request] = []
            client.protocol._channel.factory.log = logged.append
            client.request()
            channels[0].send("some text")
            channels[0].close()
            client.pump()
            sizes[direct] = logged[0].sentLength
            assert logged[0].sentLength == len(client.body)
        assert sizes[True] == sizes[False]

    def test_somebody_else_finished_the_response(self, plain: Wire) -> None:
        """The sink keeps away from the next response on the same connection."""
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        client = plain.connect(resource).request()
        sink = channels[0]._sink
        channels[0].request.unregisterProducer()
        channels[0].request.finish()
        client.pump()
        client.reset_response()
        with pytest.raises(RuntimeError, match="after Request"):
            sink.write(b"data: not for you\n\n")
        client.pump()
        assert client.raw == b""
        client.disconnect()


class Http2SinkTests:
    def open_streams(self, wire: Wire, count: int) -> tuple[Any, list[SSEChannel]]:
        wire.kind = "http2"
        channels: list[SSEChannel] = []
        client: Any = wire.connect(SSEResource(channels.append, upgrader=wire.upgrader()))
        for _ in range(count):
            client.request()
        return client, channels

    def test_streams_share_the_window_of_the_connection(self, plain: Wire) -> None:
        """All of them together write no more than it lets through, so that nothing spins."""
        client, channels = self.open_streams(plain, 3)
        client.stop_reading()
        for _ in range(40):
            for channel in channels:
                channel.send("x" * 1000)
        # Where more were queued than the window lets through, the reactor would not come to rest.
        plain.reactor.run_soon()
        assert client.body == b""
        client.read_on()
        assert client.body.count(b"data: ") == 120
        assert not any(channel.is_behind for channel in channels)
        client.disconnect(clean=False)

    def test_closed_window_does_not_spin(self, plain: Wire) -> None:
        """A client that gives no window costs nothing while it does not."""
        client, (channel,) = self.open_streams(plain, 1)
        client.h2.acknowledge_received_data = lambda *_: None
        for _ in range(200):
            channel.send("x" * 1000)
        client.pump()
        assert channel.buffered
        assert plain.reactor.getDelayedCalls() == []
        client.disconnect(clean=False)

    def test_window_that_is_closed_from_the_start(self, plain: Wire) -> None:
        """The opening waits like everything else, and then comes first."""
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
        """The others on the same connection go on."""
        client, (slow, other) = self.open_streams(plain, 2)
        slow._abort(CloseReason.SLOW_READER)
        other.send("still here")
        client.pump()
        assert client.body == b"data: still here\n\n"
        client.disconnect(clean=False)

    def test_frame_larger_than_every_buffer(self, plain: Wire) -> None:
        """It goes out in pieces as the client makes room, and closing waits for its end."""
        client, (channel,) = self.open_streams(plain, 1)
        text = "y" * 1_000_000
        channel.send(text)
        channel.close()
        assert channel.is_behind
        client.pump()
        assert client.body == f"data: {text}\n\n".encode()
        assert client.ended
        client.disconnect(clean=False)

    def test_write_while_blocked(self, plain: Wire) -> None:
        """The sink's own promise: it takes every frame, in order, blocked or not."""
        client, (channel,) = self.open_streams(plain, 1)
        sink = channel._sink
        for number in range(100):
            sink.write(b"%d" % number + b"z" * 3000)
        assert sink.blocked
        client.pump()
        assert client.body == b"".join(b"%d" % number + b"z" * 3000 for number in range(100))
        client.disconnect(clean=False)

    def test_queue_is_full_while_the_window_is_not(self, plain: Wire) -> None:
        """A healthy client with a large window gets everything, 64 KiB at a time."""
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        for number in range(100):
            channel.send(f"{number} {'y' * 10_000}")
        assert channel.buffered > 900_000
        client.pump()
        assert client.body.count(b"data: ") == 100
        assert channel.buffered == 0
        client.disconnect(clean=False)

    def test_client_goes_while_the_queue_is_full(self, plain: Wire) -> None:
        """Nothing is left in the reactor."""
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        channel.send("y" * 1_000_000)
        assert channel.is_behind
        sink: Any = channel._sink
        assert self.looks(plain, sink) == 1
        client.transport.connectionLost(Failure(ConnectionLost()))
        assert self.looks(plain, sink) == 0
        assert channel.buffered == 0

    def test_window_opens_while_the_queue_is_full(self, plain: Wire) -> None:
        """The sink looks once, and does not forget the look that it had planned."""
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        channel.send("y" * 200_000)
        sink: Any = channel._sink
        sink.resumeProducing()
        assert self.looks(plain, sink) == 1
        client.disconnect(clean=False)

    def test_window_opens_after_the_queue_was_full(self, plain: Wire) -> None:
        """The look that was planned has been taken, and is not taken back."""
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        channel.send("y" * 200_000)
        client.pump()
        sink: Any = channel._sink
        sink.resumeProducing()
        assert not sink.blocked
        client.disconnect(clean=False)

    def test_owner_is_told_once(self, plain: Wire) -> None:
        """Only when the last of a frame has gone, however many goes it took."""
        client, (channel,) = self.open_streams(plain, 1)
        sink: Any = channel._sink
        told: list[int] = []
        channel.sink_ready = lambda: told.append(len(sink._kept))  # type: ignore[method-assign]
        channel.send("y" * 1_000_000)
        client.pump()
        assert told == [0]
        client.disconnect(clean=False)

    def test_window_of_its_own(self, plain: Wire) -> None:
        """A stream stays within it, whatever the connection would let through."""
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(1000)
        channel.send("y" * 600)
        channel.send("y" * 600)
        # The client would end the connection if it got more than its window.
        client.pump()
        assert client.body.count(b"y") == 1200
        client.disconnect(clean=False)

    def looks(self, wire: Wire, sink: Any) -> int:
        return sum(call.func == sink._look for call in wire.reactor.getDelayedCalls())  # type: ignore[attr-defined]

    @pytest.mark.parametrize("window", [-1, -50_000])
    def test_window_that_has_become_negative(self, plain: Wire, window: int) -> None:
        """A client may take back what it gave; nothing is sent until it has given that much again."""
        client, (channel,) = self.open_streams(plain, 1)
        client.h2.acknowledge_received_data = lambda *_: None
        channel.send("y" * 60_000)
        client.pump()
        before = len(client.body)
        client.open_window(before + window)
        channel.send("behind")
        client.pump()
        sink: Any = channel._sink
        assert sink._kept_size == len(b"data: behind\n\n")
        assert len(client.body) == before
        assert plain.reactor.getDelayedCalls() == []
        client.h2.increment_flow_control_window(10 - window, client.stream)
        client.say(client.h2.data_to_send())
        assert client.body[before:] == b"data: behi"
        client.disconnect(clean=False)

    def test_stream_is_reset_while_the_transport_is_blocked(self, plain: Wire) -> None:
        """The connection goes on with its other stream when the client reads again."""
        client, (slow, other) = self.open_streams(plain, 2)
        client.open_window(2**31 - 1)
        client.stop_reading()
        for _ in range(50):
            slow.send("y" * 10_000)
            plain.reactor.run_soon()
        slow._abort(CloseReason.SLOW_READER)
        client.read_on()
        other.send("still here")
        client.pump()
        assert client.body.endswith(b"data: still here\n\n")
        client.disconnect(clean=False)

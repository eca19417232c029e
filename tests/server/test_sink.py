"""
Which sink a request gets. What they do is tested with the channel, over all of them.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.policies import WrappingFactory
from twisted.web.http import Request
from twisted.web.server import Request as ServerRequest
from twisted.web.server import Site

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
        assert all(channel.is_behind for channel in channels)
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
        assert channel.buffered > 900_000
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
        assert channel.buffered
        client.disconnect(clean=False)
        assert channel.buffered == 0

    def test_window_opens_while_the_queue_is_full(self, plain: Wire) -> None:
        """The sink looks once, and does not forget the look that it had planned."""
        client, (channel,) = self.open_streams(plain, 1)
        client.open_window(2**31 - 1)
        channel.send("y" * 200_000)
        sink: Any = channel._sink
        sink.resumeProducing()
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

"""
Which sink a request gets. What they do is tested with the channel, over all of them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, TCPTimedOutError
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Request as ServerRequest
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from tests.fakes import Client, Wire
from txsse import CloseReason, SSEChannel, SSEResource
from txsse.server.peer_timeout import PeerTimeout
from txsse.server.sinks.base import Framed
from txsse.server.sinks.detached import DetachedSink
from txsse.server.sinks.direct import DirectSink
from txsse.server.sinks.http2 import Http2Sink
from txsse.server.sinks.request import RequestSink


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
        """
        Plain HTTP/1.1 goes straight unless that is switched off; all else goes through the request.
        """
        sink, client = sink_of(wire)
        kinds = {
            "direct": DirectSink,
            "detached": DetachedSink,
            "request": RequestSink,
            "http10": RequestSink,
            "http2": Http2Sink,
        }
        assert type(sink) is kinds[wire.kind]
        client.disconnect(clean=False)

    def test_request_with_a_way_of_its_own(self, plain: Wire) -> None:
        """
        A subclass that overrides ``write`` gets to see every frame.
        """
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
        """
        So does an instance.
        """

        class Patched(ServerRequest):
            def process(self) -> None:
                self.write = super().write  # type: ignore[method-assign]
                super().process()

        site = Site(None, requestFactory=Patched, reactor=plain.reactor, timeout=None)
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        client.disconnect()

    def test_channel_of_another_class(self, plain: Wire) -> None:
        """
        A subclass of ``HTTPChannel`` may write in a way of its own, and is not bypassed either.
        """

        class Own(HTTPChannel):
            pass

        site = Site(None, reactor=plain.reactor, timeout=None)
        site.protocol = Own  # type: ignore[assignment, method-assign]
        sink, client = sink_of(plain, site)
        assert type(sink) is RequestSink
        client.disconnect()

    def test_request_without_a_site(self, plain: Wire) -> None:
        """
        A request of ``twisted.web.http`` itself goes straight like one of ``twisted.web.server``.
        """
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
        """
        What stands between the protocol and the socket, as TLS does, is not bypassed.
        """
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
    def test_poke(self, plain: Wire) -> None:
        """
        Nothing happens: the transport tells by itself.
        """
        sink, client = sink_of(plain)
        assert isinstance(sink, RequestSink)
        sink.poke()
        client.pump()
        assert client.body == b""
        client.disconnect()

    def test_is_a_producer(self, wire: Wire) -> None:
        """
        It says so, for transports that look.
        """
        sink, client = sink_of(wire)
        assert verifyObject(IPushProducer, sink)
        client.disconnect(clean=False)

    def test_resumed_after_the_end(self, plain: Wire) -> None:
        """
        A transport that resumes it late finds nobody to tell.
        """
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
        """
        The size of the response is what the client got, as it would be through the request.
        """
        sizes: dict[bool, int] = {}
        for direct in (True, False):
            channels: list[SSEChannel] = []
            resource = SSEResource(channels.append, upgrader=plain.upgrader(direct_writes=direct))
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
        """
        The sink keeps away from the next response on the same connection.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader())
        client = plain.connect(resource).request()
        sink = channels[0]._sink
        original: Any = channels[0].request.original
        original.unregisterProducer()
        original.finish()
        client.pump()
        client.reset_response()
        with pytest.raises(RuntimeError, match="after Request"):
            sink.write(b"data: not for you\n\n")
        client.pump()
        assert client.raw == b""
        client.disconnect()


class Offered:
    """
    A stream that is offered frames, with the socket below it.

    :ivar expected: all that was offered, one behind the other.
    """

    def __init__(self, wire: Wire, **options: Any) -> None:
        self.channels: list[SSEChannel] = []
        resource = SSEResource(self.channels.append, upgrader=wire.upgrader(**options))
        self.client = wire.connect(resource)
        self.requests: list[Any] = []
        self.client.protocol._channel.factory.log = self.requests.append
        self.client.request()
        self.channel = self.channels[0]
        self.socket = self.client.socket
        self.reactor = wire.reactor
        self.expected = b""

    def offer(self, text: str) -> bool:
        frames = Framed(f"data: {text}\n\n".encode())
        taken = self.channel.offer(frames)
        if taken:
            self.expected += frames.data
        return taken

    @property
    def waits(self) -> bool:
        """
        Whether the transport holds something, and has the reactor watch the socket for it.
        """
        return self.client.transport in self.reactor.writers

    @property
    def body(self) -> bytes:
        self.client.pump()
        return self.client.body

    def fail_once(self, error: OSError) -> None:
        """
        Have the next ``send`` fail.
        """
        send = self.socket.send

        def failing(data: bytes) -> int:
            self.socket.send = send  # type: ignore[method-assign]
            raise error

        self.socket.send = failing  # type: ignore[method-assign]


class Taking:
    """
    Keeps what the kernel was given, and passes it on.
    """

    def __init__(self, send: Callable[[bytes], int]) -> None:
        self.taken = b""
        self._send = send

    def __call__(self, data: bytes) -> int:
        count = self._send(data)
        self.taken += bytes(data[:count])
        return count


class OfferTests:
    @pytest.fixture(params=["direct", "detached"])
    def straight(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
        """
        The ways that go straight to the socket.
        """
        wire = Wire(request.param, monkeypatch)
        yield wire
        wire.reactor.run_soon()
        assert wire.reactor.getDelayedCalls() == []

    def test_all_is_taken(self, straight: Wire) -> None:
        """
        The chunk is on its way at once, in one piece, and the reactor has nothing to watch.
        """
        offered = Offered(straight)
        offered.client.pump()
        assert offered.offer("x")
        assert offered.socket.outgoing == b"9\r\ndata: x\n\n\r\n"
        assert not offered.waits
        assert not offered.channel.is_slow
        offered.client.disconnect()

    def test_headers_are_still_waiting(self, straight: Wire) -> None:
        """
        What came before leaves before.
        """
        taken: list[bool] = []

        def opened(channel: SSEChannel) -> None:
            channel.send("first")
            taken.append(channel.offer(Framed(b"data: second\n\n")))
            channel.send("third")

        resource = SSEResource(opened, upgrader=straight.upgrader())
        client = straight.connect(resource).request()
        assert taken == [True]
        assert client.status == 200
        assert client.body == b"data: first\n\ndata: second\n\ndata: third\n\n"
        client.disconnect()

    def test_buffer_was_not_empty(self, straight: Wire) -> None:
        """
        Behind bytes in the transport's buffer it goes the transport's way, and is taken.
        """
        offered = Offered(straight)
        offered.channel.send("first")
        assert offered.waits
        assert offered.offer("second")
        assert offered.socket.outgoing == b""
        offered.channel.send("third")
        assert offered.body == b"data: first\n\ndata: second\n\ndata: third\n\n"
        assert not offered.waits
        offered.client.disconnect()

    def test_buffer_was_written_in_part(self, straight: Wire) -> None:
        """
        So it does behind the rest of a write.
        """
        offered = Offered(straight)
        offered.channel.send("first")
        offered.client.read_some(5)
        assert offered.client.transport.dataBuffer
        offered.client.socket.room = None
        assert offered.offer("second")
        assert offered.socket.outgoing == b""
        assert offered.body == b"data: first\n\ndata: second\n\n"
        offered.client.disconnect()

    def test_nothing_is_taken(self, straight: Wire) -> None:
        """
        The chunk waits in the transport, and no other is accepted before it has gone.
        """
        offered = Offered(straight)
        offered.client.stop_reading()
        assert offered.offer("first")
        assert offered.waits
        assert offered.channel.is_slow
        assert not offered.offer("second")
        offered.client.read_on()
        assert offered.body == b"data: first\n\n"
        assert not offered.channel.is_slow
        assert offered.offer("third")
        assert offered.body == b"data: first\n\ndata: third\n\n"
        offered.client.disconnect()

    @pytest.mark.parametrize("room", range(1, 20))
    def test_a_part_is_taken(self, straight: Wire, room: int) -> None:
        """
        Wherever the kernel cuts a chunk, the rest follows, and the client reads one stream.
        """
        offered = Offered(straight)
        offered.socket.room = room
        assert offered.offer("a")
        whole = room >= len(b"9\r\ndata: a\n\n\r\n")
        assert offered.waits is not whole
        assert offered.channel.is_slow is not whole
        assert len(offered.socket.outgoing) == min(room, len(b"9\r\ndata: a\n\n\r\n"))
        ready: list[None] = []
        offered.channel.drain().addCallback(ready.append)
        offered.client.read_some(1)
        offered.client.read_on()
        assert ready == [None]
        assert not offered.channel.is_slow
        assert not offered.waits
        assert offered.offer("b")
        offered.channel.send("c")
        assert offered.body == b"data: a\n\ndata: b\n\ndata: c\n\n"
        offered.client.disconnect()

    def test_reading_in_little_pieces(self, straight: Wire) -> None:
        """
        A client that reads a little now and then gets everything that was accepted, in order.
        """
        offered = Offered(straight)
        refused = 0
        for number in range(300):
            refused += not offered.offer(f"{number} {'y' * (number % 50)}")
            offered.client.read_some(31)
        offered.client.read_on()
        assert offered.body == offered.expected
        assert 0 < refused < 300
        offered.client.disconnect()

    def test_large_rest(self, straight: Wire) -> None:
        """
        A rest that fills the transport's buffer pauses the channel once, and everything comes.
        """
        offered = Offered(straight)
        offered.socket.room = 10
        assert offered.offer("z" * 300_000)
        assert offered.channel.is_slow
        offered.client.read_on()
        assert not offered.channel.is_slow
        assert offered.body == offered.expected
        offered.client.disconnect()

    def test_frame_behind_a_part(self, straight: Wire) -> None:
        """
        What is sent meanwhile is held back, and comes behind the rest.
        """
        offered = Offered(straight)
        offered.socket.room = 4
        assert offered.offer("first")
        offered.channel.send("second")
        assert offered.channel.buffered == len(b"data: second\n\n")
        assert not offered.offer("refused")
        offered.client.read_on()
        assert offered.body == b"data: first\n\ndata: second\n\n"
        offered.client.disconnect()

    @pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), BrokenPipeError(32, "pipe")])
    def test_connection_dies_inside_the_send(self, straight: Wire, error: OSError) -> None:
        """
        Nothing is raised; the transport finds out, and the channel ends because its client has gone.
        """
        offered = Offered(straight)
        reasons: list[CloseReason] = []
        offered.channel.when_closed().addCallback(reasons.append)
        offered.fail_once(error)
        assert offered.offer("first")
        assert offered.channel.is_open
        offered.channel.send("second")
        assert reasons == []
        assert offered.waits
        offered.fail_once(error)
        offered.client.write_out()
        assert reasons == [CloseReason.CLIENT_GONE]
        assert not offered.channel.is_open
        assert not offered.offer("third")
        assert offered.channel.buffered == 0
        assert offered.socket.outgoing == b""

    def test_peer_is_given_up_inside_the_send(self, straight: Wire) -> None:
        """
        That is noted: the transport, which looks later, cannot find out any more.
        """
        offered = Offered(straight)
        offered.fail_once(TimeoutError(errno.ETIMEDOUT, "timed out"))
        assert offered.offer("first")
        socket: Any = offered.socket
        explained = PeerTimeout(1.0).explain(Failure(ConnectionDone()), socket)
        assert explained.check(TCPTimedOutError)
        offered.client.disconnect()

    def test_system_is_short_of_buffers(self, straight: Wire) -> None:
        """
        The chunk is tried again by the transport, whole, and what comes behind it waits for it.
        """
        offered = Offered(straight)
        offered.fail_once(OSError(errno.ENOBUFS, "no buffer space"))
        assert offered.offer("first")
        assert offered.waits
        offered.channel.send("second")
        assert offered.socket.outgoing == b""
        assert offered.body == b"data: first\n\ndata: second\n\n"
        assert offered.channel.is_open
        assert not offered.channel.is_slow
        assert offered.offer("third")
        assert offered.body.endswith(b"data: third\n\n")
        offered.client.disconnect()

    def test_closed_behind_a_part(self, straight: Wire) -> None:
        """
        The stream ends behind the rest.
        """
        offered = Offered(straight)
        offered.socket.room = 4
        assert offered.offer("first")
        offered.channel.close()
        assert not offered.offer("second")
        offered.client.read_on()
        assert offered.body == b"data: first\n\n"
        assert offered.client.ended
        assert offered.channel.close_reason is CloseReason.SERVER_CLOSED

    def test_connection_is_lost_behind_a_part(self, straight: Wire) -> None:
        """
        Nothing is left of the rest.
        """
        offered = Offered(straight)
        offered.socket.room = 4
        assert offered.offer("first")
        offered.client.disconnect(clean=False)
        assert offered.channel.close_reason is CloseReason.CLIENT_GONE
        assert not offered.offer("second")

    def test_access_log(self, straight: Wire) -> None:
        """
        The size of the response is that of the frames, without the framing, whichever way each took.
        """
        offered = Offered(straight)
        assert offered.offer("at once")
        offered.channel.send("by the transport")
        assert offered.offer("behind that")
        offered.client.pump()
        offered.socket.room = 3
        assert offered.offer("in part")
        assert not offered.offer("not at all")
        offered.client.read_on()
        offered.channel.close()
        body = offered.body
        assert body.count(b"data: ") == 4
        (logged,) = offered.requests
        assert logged.sentLength == len(body)

    def test_the_same_bytes_either_way(self, straight: Wire) -> None:
        """
        With the shortcut switched off, the client gets the same.
        """
        raws: list[bytes] = []
        for direct in (True, False):
            offered = Offered(straight, direct_writes=direct)
            taking = Taking(offered.socket.send)
            offered.socket.send = taking  # type: ignore[method-assign]
            for text in ("a", "b" * 1000, "ü"):
                assert offered.offer(text)
                offered.client.pump()
            offered.channel.close()
            assert offered.body == offered.expected
            raws.append(taking.taken)
        assert raws[0] == raws[1]
        assert raws[0].endswith(b"0\r\n\r\n")

    def test_framed_once(self, straight: Wire) -> None:
        """
        The chunk is made once for all who get it.
        """
        frames = Framed(b"data: x\n\n")
        assert frames.chunk is frames.chunk
        assert frames.chunk == b"9\r\ndata: x\n\n\r\n"

    def test_over_each_way(self, wire: Wire) -> None:
        """
        What was offered and taken arrives in order with what was sent, however the frames go.
        """
        channels: list[SSEChannel] = []
        client = wire.connect(SSEResource(channels.append, upgrader=wire.upgrader())).request()
        assert channels[0].offer(Framed(b"data: 1\n\n"))
        channels[0].send("2")
        assert channels[0].offer(Framed(b"data: 3\n\n"))
        client.pump()
        assert client.body == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
        client.disconnect(clean=False)

    def test_blocked(self, wire: Wire) -> None:
        """
        A client that is behind is offered frames in vain, until it has caught up.
        """
        channels: list[SSEChannel] = []
        client = wire.connect(SSEResource(channels.append, upgrader=wire.upgrader())).request()
        channel = channels[0]
        client.stop_reading()
        sent = 0
        while not channel.is_slow:
            channel.send("x" * 4096)
            sent += 1
            wire.reactor.run_soon()
        assert not channel.offer(Framed(b"data: refused\n\n"))
        client.read_on()
        assert channel.offer(Framed(b"data: taken\n\n"))
        client.pump()
        assert client.body.endswith(b"x\n\ndata: taken\n\n")
        assert client.body.count(b"data: ") == sent + 1
        client.disconnect(clean=False)

    def test_somebody_else_finished_the_response(self, plain: Wire) -> None:
        """
        The channel takes nothing any more, and its sink keeps away from the next response.
        """
        offered = Offered(plain)
        sink = offered.channel._sink
        request: Any = offered.channel.request.original
        request.unregisterProducer()
        request.finish()
        offered.client.pump()
        offered.client.reset_response()
        assert not offered.offer("not for you")
        assert not sink.offer(Framed(b"data: not for you\n\n"))
        offered.client.pump()
        assert offered.client.raw == b""
        offered.client.disconnect()

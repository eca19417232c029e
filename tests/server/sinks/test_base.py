"""
Tests of the choice of a sink, and of offers. The tests of the channel run with every sink, too.
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
    def test_each_transport(self, wire: Wire) -> None:
        """
        Each transport gets its sink; over plain HTTP/1.1, the option direct_writes selects it.
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

    def test_request_class_with_its_own_write(self, plain: Wire) -> None:
        """
        A request class that overrides ``write`` gets every frame.
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
        A request instance with its own ``write`` is not bypassed.
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
        A subclass of ``HTTPChannel`` may write differently, and is not bypassed.
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
        A request of ``twisted.web.http`` is bypassed like one of ``twisted.web.server``.
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
        A wrapper between the protocol and the socket, such as TLS, is not bypassed.
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
        poke() of a TCP sink does nothing, since the transport resumes it.
        """
        sink, client = sink_of(plain)
        assert isinstance(sink, RequestSink)
        sink.poke()
        client.pump()
        assert client.body == b""
        client.disconnect()

    def test_is_a_producer(self, wire: Wire) -> None:
        """
        Every sink provides IPushProducer.
        """
        sink, client = sink_of(wire)
        assert verifyObject(IPushProducer, sink)
        client.disconnect(clean=False)

    def test_resumed_after_the_end(self, plain: Wire) -> None:
        """
        A sink that the transport resumes after the end of its stream does nothing.
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
        The access log has the size of the body, with and without direct_writes.
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

    def test_other_code_finished_the_response(self, plain: Wire) -> None:
        """
        If other code finished the response, the sink does not write into the next one.
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
    A stream that frames are offered to, with its socket.

    :ivar expected: all accepted frames, concatenated.
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
        Return whether the transport has data to send, and the reactor watches its socket.
        """
        return self.client.transport in self.reactor.writers

    @property
    def body(self) -> bytes:
        self.client.pump()
        return self.client.body

    def fail_once(self, error: OSError) -> None:
        """
        Make the next ``send`` fail.
        """
        send = self.socket.send

        def failing(data: bytes) -> int:
            self.socket.send = send  # type: ignore[method-assign]
            raise error

        self.socket.send = failing  # type: ignore[method-assign]


class Taking:
    """
    Records the data that the kernel accepted, and passes it on.
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
        Return a wire of each kind whose frames go directly to the socket.
        """
        wire = Wire(request.param, monkeypatch)
        yield wire
        wire.reactor.run_soon()
        assert wire.reactor.getDelayedCalls() == []

    def test_all_is_taken(self, straight: Wire) -> None:
        """
        An offered chunk is sent at once, in one piece, and the reactor watches no socket for it.
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
        Offered frames are sent after the headers and frames that still wait in the transport.
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
        If the transport has data to send, an offered chunk is accepted and sent after it.
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
        If the transport has sent a part of its data, an offered chunk is sent after the rest.
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
        A chunk that the kernel does not accept waits in the transport, and further offers are refused
        meanwhile.
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
        If the kernel accepts any part of a chunk, the rest follows, and the client reads one stream.
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
        A client that reads a little now and then gets every accepted offer, in order.
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
        The rest of a chunk that fills the transport's buffer pauses the channel, and is sent completely.
        """
        offered = Offered(straight)
        offered.socket.room = 10
        assert offered.offer("z" * 300_000)
        assert offered.channel.is_slow
        offered.client.read_on()
        assert not offered.channel.is_slow
        assert offered.body == offered.expected
        offered.client.disconnect()

    def test_frame_after_a_part(self, straight: Wire) -> None:
        """
        A frame that is sent while the rest of a chunk waits is buffered, and sent after it.
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
        If the connection is lost in an offer, nothing is raised, and the channel ends with CLIENT_GONE.
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
        A time-out of the peer in an offer is recorded, since the transport cannot find it later.
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
        A chunk that fails for lack of system buffers is sent again by the transport, before later frames.
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

    def test_closed_after_a_part(self, straight: Wire) -> None:
        """
        A channel that closes while the rest of a chunk waits ends after it.
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

    def test_connection_is_lost_after_a_part(self, straight: Wire) -> None:
        """
        If the connection is lost while the rest of a chunk waits, the channel ends.
        """
        offered = Offered(straight)
        offered.socket.room = 4
        assert offered.offer("first")
        offered.client.disconnect(clean=False)
        assert offered.channel.close_reason is CloseReason.CLIENT_GONE
        assert not offered.offer("second")

    def test_access_log(self, straight: Wire) -> None:
        """
        The access log has the size of all offered and sent frames, without the chunked coding.
        """
        offered = Offered(straight)
        assert offered.offer("at once")
        offered.channel.send("by the transport")
        assert offered.offer("after that")
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
        With and without direct_writes, the client gets the same bytes.
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
        Framed encodes its chunk once for all sinks.
        """
        frames = Framed(b"data: x\n\n")
        assert frames.chunk is frames.chunk
        assert frames.chunk == b"9\r\ndata: x\n\n\r\n"

    def test_offers_and_frames_in_order(self, wire: Wire) -> None:
        """
        Accepted offers and sent frames reach the client in order, over every transport.
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
        Offers to a slow client are refused until it has caught up.
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

    def test_other_code_finished_the_response_of_an_offer(self, plain: Wire) -> None:
        """
        If other code finished the response, offers are refused, and the sink does not write into the next
        response.
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

"""
Tests of streams whose sink has replaced their request.
"""

from __future__ import annotations

import errno
import gc
import socket
import weakref
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.server import Request as ServerRequest

from tests.fakes import Client, Wire
from txsse import CloseReason, SSEChannel, SSEResource
from txsse.server.sinks.base import Framed
from txsse.server.sinks.detached import DetachedSink
from txsse.server.sinks.direct import DirectSink
from txsse.web.site import ClosingSite, Connection

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


class Tree:
    """
    A site with a stream at every path except ``/plain``.

    :ivar channels: the channels, in order.
    :ivar logged: the requests in the access log: the URI and how many bytes were sent.
    """

    def __init__(self, wire: Wire, **options: Any) -> None:
        self.wire = wire
        self.channels: list[SSEChannel] = []
        self.logged: list[tuple[bytes, int]] = []
        root = Resource()
        root.putChild(b"plain", Plain())
        stream = SSEResource(self.channels.append, upgrader=wire.upgrader(keep_request=False, **options))
        for name in (b"a", b"b"):
            root.putChild(name, stream)
        self.root = root
        self.site = Site(root, reactor=wire.reactor, timeout=60)
        self.site.log = self.log  # type: ignore[method-assign]

    def log(self, request: Request) -> None:
        self.logged.append((request.uri, request.sentLength))

    def connect(self) -> Client:
        return Client(self.wire, self.site)


class Plain(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"plain"


@pytest.fixture
def tree(plain: Wire) -> Tree:
    return Tree(plain)


class DetachTests:
    def test_request_is_freed(self, plain: Wire) -> None:
        """
        A detached stream keeps no object of Twisted's except the transport, without a garbage collection.
        """
        freed: list[weakref.ref[Any]] = []

        class Watching(SSEResource):
            def render(self, request: Request) -> int:
                freed.extend([weakref.ref(request), weakref.ref(request.channel)])
                return super().render(request)

        channels: list[SSEChannel] = []
        resource = Watching(channels.append, upgrader=plain.upgrader(keep_request=False))
        client = Client(plain, Site(resource, reactor=plain.reactor, timeout=None))
        # In production, only the transport refers to the protocol.
        client.protocol = None
        gc.disable()
        try:
            client.say(GET % b"a")
            assert [reference() for reference in freed] == [None, None]
        finally:
            gc.enable()
        channels[0].send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        client.disconnect()

    def test_other_code_waits_for_the_end(self, plain: Wire) -> None:
        """
        If other code waits for the end of a request, its stream is not detached.
        """
        ended: list[Deferred[None]] = []

        class Watching(SSEResource):
            def render(self, request: Request) -> int:
                ended.append(request.notifyFinish().addErrback(lambda _: None))
                return super().render(request)

        channels: list[SSEChannel] = []
        client = plain.connect(Watching(channels.append, upgrader=plain.upgrader(keep_request=False)))
        client.request()
        assert type(channels[0].sink) is DirectSink
        assert channels[0].request.original is None
        client.disconnect()
        assert ended[0].called

    @pytest.mark.parametrize("options", [{"direct_writes": False}, {"keep_request": True}])
    def test_switched_off(self, plain: Wire, options: dict[str, Any]) -> None:
        """
        direct_writes=False and keep_request=True both keep the request.
        """
        channels: list[SSEChannel] = []
        upgrader = plain.upgrader(**{"keep_request": False, **options})
        client = plain.connect(SSEResource(channels.append, upgrader=upgrader)).request()
        assert not isinstance(channels[0].sink, DetachedSink)
        assert isinstance(channels[0].request.original, Request) is bool(options.get("keep_request"))
        client.disconnect()

    def test_upgraders_own_option_counts(self, plain: Wire) -> None:
        """
        The upgrader's own keep_request overrides the argument of upgrade().
        """
        kinds: list[Any] = []

        class Rendering(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> int:
                upgrader = plain.upgrader(keep_request=[None, True, False][len(kinds)])
                channel = upgrader.upgrade(request, keep_request=len(kinds) == 2)
                kinds.append(isinstance(channel.sink, DetachedSink))
                return NOT_DONE_YET

        for _ in range(3):
            plain.connect(Rendering()).request().disconnect()
        assert kinds == [True, False, True]

    def test_a_protocol_of_another_kind(self, plain: Wire) -> None:
        """
        A protocol between the transport and HTTP is not replaced.
        """
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader(keep_request=False))
        client = Client(plain, Site(resource, reactor=plain.reactor, timeout=None))

        class Between:
            def dataReceived(self, data: bytes) -> None:
                client.protocol.dataReceived(data)

            def connectionLost(self, reason: Any) -> None:
                client.protocol.connectionLost(reason)

        client.transport.protocol = Between()
        client.request()
        assert type(channels[0].sink) is DirectSink
        client.disconnect()

    def test_request_that_other_code_finishes(self, plain: Wire) -> None:
        """
        Code that still has the request of a detached stream can write to it, and finish the stream.
        """
        requests: list[Request] = []
        channels: list[SSEChannel] = []

        class Keeping(SSEResource):
            def render(self, request: Request) -> int:
                requests.append(request)
                return super().render(request)

        resource = Keeping(channels.append, upgrader=plain.upgrader(keep_request=False))
        client = plain.connect(resource).request()
        requests[0].write(b": by hand\n\n")
        requests[0].finish()
        client.pump()
        assert (client.body, client.ended) == (b": by hand\n\n", True)
        assert channels[0].close_reason is CloseReason.SERVER_CLOSED
        client.disconnect()


class ReturnedConnectionTests:
    def test_next_request(self, tree: Tree) -> None:
        """
        After a detached stream, the connection serves other requests and streams.
        """
        client = tree.connect()
        client.say(GET % b"a")
        tree.channels[0].send("x")
        tree.channels[0].close()
        client.pump()
        assert (client.body, client.ended) == (b"data: x\n\n", True)
        client.reset_response()
        client.say(GET % b"plain")
        assert client.body == b"plain"
        client.reset_response()
        client.say(GET % b"b")
        tree.channels[1].send("y")
        client.pump()
        assert client.body == b"data: y\n\n"
        client.disconnect()
        assert tree.logged == [(b"/a", 9), (b"/plain", 5), (b"/b", 9)]
        assert [channel.close_reason for channel in tree.channels] == [
            CloseReason.SERVER_CLOSED,
            CloseReason.CLIENT_GONE,
        ]

    def test_idle_time_out_comes_back(self, tree: Tree) -> None:
        """
        The site's time-out for idle connections applies after a detached stream, not during it.
        """
        client = tree.connect()
        client.say(GET % b"a")
        tree.wire.reactor.advance(1000)
        assert client.connected
        tree.channels[0].close()
        client.pump()
        tree.wire.reactor.advance(59)
        assert client.transport.disconnecting == 0
        tree.wire.reactor.advance(2)
        client.pump()
        assert client.transport.disconnecting == 1
        client.disconnect()

    @pytest.mark.parametrize("together", [True, False])
    def test_pipelined(self, tree: Tree, together: bool) -> None:
        """
        A request that the client pipelines after that of a stream is served when the stream has ended.
        """
        client = tree.connect()
        if together:
            client.say(GET % b"a" + GET % b"b" + (GET % b"plain")[:10])
        else:
            client.say(GET % b"a")
            client.say(GET % b"b")
            client.say((GET % b"plain")[:10])
        assert len(tree.channels) == 1
        tree.channels[0].close()
        client.pump()
        assert len(tree.channels) == 2
        tree.channels[1].close()
        client.say((GET % b"plain")[10:])
        assert client.ended
        assert client.raw.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert client.raw.endswith(b"\r\n\r\nplain")
        client.disconnect()

    def test_closed_before_the_packet_is_read_to_its_end(self, plain: Wire) -> None:
        """
        If a handler closes its stream at once, pipelined requests in the same packet are still served.
        """
        resource = SSEResource(lambda channel: channel.close(), upgrader=plain.upgrader(keep_request=False))
        client = Client(plain, Site(resource, reactor=plain.reactor, timeout=None))
        client.say(GET % b"a" + GET % b"b" + GET % b"c")
        assert client.raw.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert client.raw.endswith(b"\r\n\r\n0\r\n\r\n")
        client.disconnect()

    def test_connection_that_is_not_kept(self, tree: Tree) -> None:
        """
        A connection with ``Connection: close`` is closed after the last byte of its stream.
        """
        client = tree.connect()
        client.say(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert type(tree.channels[0].sink) is DetachedSink
        tree.channels[0].send("x")
        tree.channels[0].close()
        client.pump()
        assert (client.body, client.ended, client.connected) == (b"data: x\n\n", True, False)
        assert tree.logged == [(b"/a", 9)]

    def test_no_peer_timeout(self, plain: Wire) -> None:
        """
        Without a peer time-out, the socket option is neither set nor restored.
        """
        tree = Tree(plain, peer_timeout=None)
        client = tree.connect()
        options: list[int] = []
        client.socket.setsockopt = lambda _, option, value: options.append(option)  # type: ignore[assignment, method-assign]
        client.say(GET % b"a")
        tree.channels[0].close()
        client.pump()
        client.disconnect()
        # Twisted may set other options.
        assert client.ended
        assert getattr(socket, "TCP_USER_TIMEOUT", None) not in options

    def test_transport_that_resumes_late(self, tree: Tree) -> None:
        """
        A sink that the transport resumes after the end of its stream does nothing.
        """
        client = tree.connect()
        client.say(GET % b"a")
        sink = tree.channels[0].sink
        tree.channels[0].close()
        client.pump()
        sink.resumeProducing()  # type: ignore[attr-defined]
        assert client.ended
        client.disconnect()

    def test_client_disconnects(self, tree: Tree) -> None:
        """
        When the client disconnects, the channel is notified once, and the access log has one line.
        """
        client = tree.connect()
        client.say(GET % b"a")
        reasons: list[object] = []
        tree.channels[0].when_closed().addCallback(reasons.append)
        client.disconnect(clean=False)
        assert reasons == [CloseReason.CLIENT_GONE]
        assert tree.logged == [(b"/a", 0)]

    def test_client_that_was_given_up(self, tree: Tree) -> None:
        """
        A peer time-out that an offer detects is the close reason of the channel.
        """
        client = tree.connect()
        client.say(GET % b"a")

        def fail(data: bytes) -> int:
            raise TimeoutError(errno.ETIMEDOUT, "timed out")

        client.socket.send = fail  # type: ignore[method-assign]
        assert tree.channels[0].offer(Framed(b":\n\n"))
        client.disconnect()
        assert tree.channels[0].close_reason is CloseReason.PEER_TIMEOUT


class ClosingSiteTests:
    def test_its_connections_stay_its_own(self, plain: Wire) -> None:
        """
        A ClosingSite closes a connection during a detached stream as well as after it.
        """
        tree = Tree(plain)
        site = ClosingSite(tree.root, reactor=plain.reactor)
        clients = [Client(plain, site) for _ in range(2)]
        for client in clients:
            client.say(GET % b"a")
            assert type(client.transport.protocol) is Connection
            assert type(client.transport.protocol.protocol) is DetachedSink
        tree.channels[0].close()
        clients[0].pump()
        clients[0].reset_response()
        clients[0].say(GET % b"plain")
        assert clients[0].body == b"plain"
        assert type(clients[0].transport.protocol) is Connection
        closed = Deferred.fromCoroutine(site.close())
        for client in clients:
            client.pump()
        assert closed.called
        assert not any(client.connected for client in clients)
        assert tree.channels[1].close_reason is CloseReason.CLIENT_GONE


class OwnEndTests:
    @pytest.mark.parametrize("name", ["finish", "connectionLost"])
    @pytest.mark.parametrize("where", ["class", "instance"])
    def test_request_with_its_own_end(self, plain: Wire, name: str, where: str) -> None:
        """
        A request with its own code for its end stays, and is notified, for example to count requests.
        """
        tree = Tree(plain)
        ended: list[str] = []

        class Counting(ServerRequest):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                if where == "instance":
                    setattr(self, name, self.count)

            def count(self, *arguments: Any) -> None:
                ended.append(name)
                getattr(ServerRequest, name)(self, *arguments)

        if where == "class":
            setattr(Counting, name, Counting.count)
        tree.site.requestFactory = Counting  # type: ignore[assignment]
        client = tree.connect().request("/a")
        (channel,) = tree.channels
        assert not isinstance(channel.sink, DetachedSink)
        if name == "finish":
            channel.close()
        else:
            client.disconnect()
        client.pump()
        assert ended == [name]
        if client.connected:
            client.disconnect()

    def test_request_class_without_its_own_end(self, plain: Wire) -> None:
        """
        A stream is detached from a request whose class has no code of its own for the end.
        """
        tree = Tree(plain)

        class Named(ServerRequest):
            name = "x"

        tree.site.requestFactory = Named
        tree.connect().request("/a").disconnect()
        assert isinstance(tree.channels[0].sink, DetachedSink)

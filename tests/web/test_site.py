"""
Tests of the end of a site: idle connections, and clients that do not read.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes import Client, Wire
from txsse.web.site import ClosingSite, Connection


class Page(Resource):
    """
    A resource that answers at once.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"a page"


class FakeTransport(StringTransport):
    """
    A transport that records the calls of its methods, in order.
    """

    def __init__(self, negotiated: bytes | None = None) -> None:
        super().__init__()
        self.negotiatedProtocol = negotiated
        self.asked: list[str] = []

    def unregisterProducer(self) -> None:  # noqa: N802
        self.asked.append("unregisterProducer")

    def loseConnection(self) -> None:  # noqa: N802
        self.asked.append("loseConnection")

    def abortConnection(self) -> None:
        self.asked.append("abortConnection")


class ConnectionTests:
    def make(self, negotiated: bytes | None = None) -> tuple[Clock, FakeTransport, Connection]:
        clock = Clock()
        transport = FakeTransport(negotiated)
        connection = Connection(Protocol(), set(), clock)
        connection.makeConnection(transport)
        return clock, transport, connection

    @pytest.mark.parametrize("negotiated", [None, b"http/1.1"])
    def test_closes_after_the_written_data(self, negotiated: bytes | None) -> None:
        """
        A connection unregisters its producer before it closes, which would otherwise keep the transport open.
        """
        clock, transport, connection = self.make(negotiated)
        lost = connection.when_lost()
        connection.close()
        assert transport.asked == ["unregisterProducer", "loseConnection"]
        connection.connectionLost(Failure(ConnectionDone()))
        assert lost.called
        assert clock.getDelayedCalls() == []

    def test_http2_has_turns_to_flush(self) -> None:
        """
        An HTTP/2 connection closes after 0.2 seconds, since it sends its data in the next turns.
        """
        clock, transport, connection = self.make(b"h2")
        connection.close()
        clock.advance(0.199)
        assert transport.asked == []
        clock.advance(0.001)
        assert transport.asked == ["unregisterProducer", "loseConnection"]
        connection.connectionLost(Failure(ConnectionDone()))
        assert clock.getDelayedCalls() == []

    def test_client_does_not_read(self) -> None:
        """
        A closing connection is aborted after 5 seconds if its client does not read.
        """
        clock, transport, connection = self.make()
        connection.close()
        clock.advance(4.999)
        assert "abortConnection" not in transport.asked
        clock.advance(0.001)
        assert transport.asked[-1] == "abortConnection"
        assert clock.getDelayedCalls() == []

    def test_client_disconnects_first(self) -> None:
        """
        A connection that the client closes first is not closed again.
        """
        clock, transport, connection = self.make(b"h2")
        connection.close()
        connection.connectionLost(Failure(ConnectionDone()))
        assert transport.asked == []
        assert clock.getDelayedCalls() == []


class ClosingSiteTests:
    def test_idle_connections(self, plain: Wire) -> None:
        """
        A site that closes also closes idle connections, with their time-outs.
        """
        site = ClosingSite(Page(), reactor=plain.reactor)
        disconnected, asked, silent = (Client(plain, site) for _ in range(3))
        disconnected.request("/").disconnect()
        asked.request("/")
        assert asked.body == b"a page"
        assert asked.connected
        closed = Deferred.fromCoroutine(site.close())
        assert not closed.called
        for client in (asked, silent):
            client.pump()
            assert not client.connected
        assert closed.called

    def test_reactor(self, plain: Wire) -> None:
        """
        A site uses the timers of the reactor that it was given.
        """
        site = ClosingSite(Page(), reactor=plain.reactor)
        client = Client(plain, site)
        client.request("/")
        client.stop_reading()
        client.transport.write(b"unread")
        Deferred.fromCoroutine(site.close())
        assert client.connected
        plain.reactor.advance(5)
        assert not client.connected

    def test_no_connections(self, plain: Wire) -> None:
        """
        A site without connections closes at once.
        """
        assert Deferred.fromCoroutine(ClosingSite(Resource(), reactor=plain.reactor).close()).called

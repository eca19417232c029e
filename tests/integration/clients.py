"""
Clients for tests on the real reactor, which read raw streams over TCP, TLS and HTTP/2; and servers for them.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.interfaces import IReactorSocket
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import IResource
from twisted.web.server import Site


def site_of(resource: IResource) -> Site:
    """
    Make a site that writes no access log.
    """
    site = Site(resource)
    site.log = lambda request: None  # type: ignore[method-assign]
    return site


async def listen(resource: IResource) -> Any:
    """
    Serve a resource on a free port.
    """
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1", backlog=1024)
    return await endpoint.listen(site_of(resource))


async def listen_tls(resource: IResource, certificate: Path) -> Any:
    """
    Serve a resource over TLS on a free port, with HTTP/2 and HTTP/1.1.
    """
    loaded = ssl.PrivateCertificate.loadPEM(certificate.read_bytes())
    endpoint = SSL4ServerEndpoint(reactor, 0, loaded.options(), interface="127.0.0.1")
    return await endpoint.listen(site_of(resource))


class Reader(Protocol):
    """
    A client that sends one request and keeps the bytes that it receives.

    :ivar ended: whether the response has ended; only HTTP/2 shows that here.
    :ivar closed: whether the connection is closed.
    """

    # Any: the reactor's transports have more methods than their interface.
    transport: Any
    ended = False

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.received = b""
        self.lost: Deferred[Any] = Deferred()
        self.closed = False

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.request)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.closed = True


class Http2Reader(Reader):
    """
    A client that sends one request over HTTP/2, and keeps the body.
    """

    def connectionMade(self) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        fields = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "x")]
        self.h2.send_headers(1, fields, end_stream=True)
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.received += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
        self.flush()

    def flush(self) -> None:
        assert self.transport is not None
        self.transport.write(self.h2.data_to_send())


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def connect(port: Any, request: bytes = GET, *, receive_buffer: int | None = None) -> Reader:
    """
    Connect over TCP.

    :param receive_buffer: the size of the kernel's receive buffer, for clients that soon read slowly.
    """
    if receive_buffer is None:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        return await connectProtocol(endpoint, Reader(request))
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.connect(("127.0.0.1", port.getHost().port))
    made.setblocking(False)
    reader = Reader(request)
    factory = Factory.forProtocol(lambda: reader)
    IReactorSocket(reactor).adoptStreamConnection(made.fileno(), socket.AF_INET, factory)  # type: ignore[arg-type]
    made.close()
    return reader


async def connect_tls(port: Any, certificate: Path, *, http2: bool) -> Reader:
    """
    Connect over TLS, and verify the certificate.
    """
    authority = ssl.Certificate.loadPEM(certificate.read_bytes())
    options = ssl.optionsForClientTLS(
        "127.0.0.1",
        trustRoot=authority,
        acceptableProtocols=[b"h2"] if http2 else [b"http/1.1"],
    )
    plain = HostnameEndpoint(reactor, b"127.0.0.1", port.getHost().port)
    reader = Http2Reader(b"") if http2 else Reader(GET)
    return await connectProtocol(wrapClientTLS(options, plain), reader)

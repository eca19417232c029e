"""
A site with limits on its connections, and on the file descriptors, memory and time that requests take.

``docs/limits.rst`` has a table of all limits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from txsse._arguments import check_number
from txsse._twisted.http import channel_of, negotiating_protocol, set_request_factory, waits_for_client
from txsse._typing import AnyReactor, AnyResource
from txsse.web.bounded_request import BoundedRequest
from txsse.web.framing import StrictChannel
from txsse.web.redacted_request import RedactedRequest
from txsse.web.request_bounds import (
    DEFAULT_MAX_BODIES,
    DEFAULT_MAX_BODY,
    DEFAULT_REQUEST_TIMEOUT,
    OwnedRequest,
)
from txsse.web.responses import Sentence
from txsse.web.site import ClosingSite, Connection

__all__ = ["BoundedConnection", "BoundedSite"]

_log = Logger()

# How many bytes of responses may be unsent when another request of a connection is answered: the size of a
# transport's buffer in Twisted, over TCP and TLS.
_MAX_UNSENT = 65536

# How many pipelined requests of a connection are answered per turn of the reactor, so that other connections
# are served, too.
_REQUESTS_PER_TURN = 4

# The shortest time between two log lines about refused connections, in seconds.
_LOG_INTERVAL = 10.0


def _make_protocol(site: HTTPFactory) -> IProtocol:
    # Twisted's own protocol, which switches to HTTP/2 if the client wants it, with a stricter HTTP/1.
    channel: IProtocol = StrictChannel()  # type: ignore[no-untyped-call]
    negotiating = negotiating_protocol()
    return channel if negotiating is None else negotiating(channel)


class BoundedSite(ClosingSite):
    """
    Limits the memory, the time and the connections that clients can take.

    It replaces ``twisted.web.server.Site``, for any web tree::

        from twisted.internet import endpoints, reactor
        from txsse.web import BoundedSite

        site = BoundedSite(root, reactor=reactor, max_connections=10_000)
        endpoints.serverFromString(reactor, "tcp:8080").listen(site)

    A request with a body that is too large gets 413 as soon as its size is known; resources need not check
    it. When the ports have stopped listening, ``await site.close()`` closes the open connections, after the
    data that was written to them.

    :param resource: the root of the web tree.
    :param reactor: the reactor.
    :param max_body: the most bytes of one request's body. It is kept in memory.
    :param max_bodies: the most bytes of the bodies of all requests together. Further requests with a body get
        503 until there is room.
    :param request_timeout: how long a client may take to send a whole request, and to read a part of a
        response, in seconds.
    :param max_connections: the most open connections; ``None`` for no limit. Further connections are closed
        at once.
    :param parse_forms: whether Twisted parses forms into ``request.args``, before a resource has checked the
        request.
    :param wants_body: called with a request before its body is received; returns whether the body is
        accepted. It may send a response.
    :param refuse: called with each complete request, whatever its path; returns the response to a request
        that is refused, or ``None``.
    """

    # Twisted declares a private class of its own.
    protocol = _make_protocol  # type: ignore[assignment]

    def __init__(
        self,
        resource: AnyResource,
        *,
        reactor: AnyReactor,
        max_body: int = DEFAULT_MAX_BODY,
        request_timeout: float = DEFAULT_REQUEST_TIMEOUT,
        max_bodies: int = DEFAULT_MAX_BODIES,
        max_connections: int | None = None,
        parse_forms: bool = False,
        wants_body: Callable[[Request], bool] = lambda request: True,
        refuse: Callable[[Request], Sentence | None] = lambda request: None,
    ) -> None:
        super().__init__(resource, reactor=reactor)
        for name, size in (("max_body", max_body), ("max_bodies", max_bodies)):
            check_number(name, size, "a number of bytes", whole=True)
        check_number("request_timeout", request_timeout, "a number of seconds")
        if max_connections is not None:
            check_number("max_connections", max_connections, "a number of connections or None", whole=True)
        self.max_body = max_body
        self.max_bodies = max_bodies
        self.request_timeout = request_timeout
        self.parse_forms = parse_forms
        self.wants_body = wants_body
        self.refuse = refuse
        # How many bytes of bodies are held now.
        self.bodies = 0
        self._max_connections = max_connections
        self._logged = -_LOG_INTERVAL

    def log(self, request: Request) -> None:
        """
        Write a line into the access log, without tokens.
        """
        super().log(RedactedRequest(request))  # type: ignore[arg-type]

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """
        Return the protocols that a client may choose over TLS; HTTP/2 only if its class in Twisted is known.
        """
        protocols: list[bytes] = super().acceptableProtocols()  # type: ignore[no-untyped-call]
        return protocols if negotiating_protocol() is not None else [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """
        Serve a connection, unless the limit of connections is reached.
        """
        if self._max_connections is not None and len(self._connections) >= self._max_connections:
            now = self.reactor.seconds()
            if now >= self._logged + _LOG_INTERVAL:
                self._logged = now
                _log.warn(
                    "Connections are refused: {count} are open, the maximum", count=len(self._connections)
                )
            return None
        return super().buildProtocol(addr)

    def make_connection(self, protocol: IProtocol) -> Connection:
        """
        Make a connection with limits.
        """
        return BoundedConnection(protocol, self._connections, self.reactor, self)


class BoundedConnection(Connection):
    """
    A connection with limits on the time of a request, and on the responses that its client has not read.

    :ivar site: the site of the connection.
    :ivar incoming: requests whose head has been received, and whose body has not.
    :ivar answering: HTTP/2 requests whose response is being sent.
    """

    __slots__ = ("_answered", "_deadline", "_held", "answering", "incoming", "site")

    def __init__(
        self,
        protocol: IProtocol,
        connections: set[Connection],
        reactor: IReactorTime,
        site: BoundedSite,
    ) -> None:
        super().__init__(protocol, connections, reactor)
        self.site = site
        self.incoming: list[OwnedRequest] = []
        self.answering: list[OwnedRequest] = []
        self._held: list[OwnedRequest] = []
        self._answered = 0
        self._deadline: IDelayedCall | None = None
        self._own(protocol)

    @property
    def linger(self) -> float:
        """
        How long the connection may take to close, in seconds.
        """
        return self.site.request_timeout

    def renew(self, successor: Connection) -> IProtocol:
        """
        Use another HTTP protocol from now on; its requests belong to this connection.
        """
        self._own(successor.protocol)
        return successor.protocol

    def _own(self, protocol: IProtocol) -> None:
        # Twisted sets the site of a request when it is complete, which is too late.
        set_request_factory(protocol, partial(BoundedRequest, self))

    def call_when_late(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Schedule a call for the time at which a request that begins now must be complete.
        """
        return self._reactor.callLater(self.site.request_timeout, call)

    def call_soon(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Schedule a call for the next turn of the reactor.
        """
        return self._reactor.callLater(0, call)

    def request_received(self) -> None:
        """
        Stop the deadline: a request is complete.
        """
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    def may_answer(self, request: OwnedRequest) -> bool:
        """
        Return whether a request may be answered now; otherwise, arrange for the request to try again.
        """
        if request.is_http2:
            if sum(each.unsent for each in self.answering) <= _MAX_UNSENT:
                return True
            self._held.append(request)
            return False
        # Twisted itself answers although its buffer is full.
        if waits_for_client(request.channel):
            request.wait_for_transport()
            return False
        self._answered += 1
        if self._answered <= _REQUESTS_PER_TURN:
            return True
        self._answered = 0
        request.wait_for_turn()
        return False

    def answered(self, request: OwnedRequest) -> None:
        """
        Forget a request that was answered, or whose client has disconnected.
        """
        for requests in (self.answering, self._held):
            if request in requests:
                requests.remove(request)
        if self in self._connections:
            self.limit_closing_time()
            if self._held:
                self.call_soon(self._answer_held)

    def _answer_held(self) -> None:
        held, self._held = self._held, []
        for request in held:
            request.try_to_answer()

    def connectionMade(self) -> None:
        """
        Begin to wait for the first request.
        """
        self._deadline = self.call_when_late(self._cut)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Pass data on, and begin to wait for the next request if the previous one has been answered.
        """
        self._answered = 0
        super().dataReceived(data)
        for request in self.incoming.copy():
            request.look_ahead()
        if self._deadline is None and self in self._connections and self._is_idle():
            self._deadline = self.call_when_late(self._cut)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Clean up: the connection is lost.
        """
        self.request_received()
        super().connectionLost(reason)

    def _is_idle(self) -> bool:
        """
        Return whether no request is being answered.

        It is ``False`` for HTTP/2, where streams begin and end in parallel, and for a connection whose
        protocol a stream has replaced.
        """
        channel = channel_of(self.protocol)
        return (
            isinstance(channel, HTTPChannel)
            and not getattr(channel.transport, "disconnecting", False)
            and not any(each.is_complete for each in channel.requests)
        )

    def _cut(self) -> None:
        self._deadline = None
        transport = self.transport
        transport.abortConnection()

"""
A site whose connections and requests take a bounded number of descriptors, and bounded memory and time.

``docs/limits.rst`` has the table of all bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from txsse._arguments import check_number
from txsse._twisted.http import channel_of, negotiating_protocol, waits_for_client
from txsse._typing import AnyReactor, AnyResource
from txsse.web.bounded_request import BoundedRequest
from txsse.web.framing import StrictChannel
from txsse.web.redacted_request import RedactedRequest
from txsse.web.request_bounds import DEFAULT_MAX_BODIES, DEFAULT_MAX_BODY, DEFAULT_REQUEST_TIMEOUT
from txsse.web.responses import Sentence
from txsse.web.site import ClosingSite, Connection

__all__ = ["BoundedConnection", "BoundedSite"]

_log = Logger()

# How many bytes of answers may be unsent when another request of a connection is answered: the size of a
# transport's buffer in Twisted, over TCP and TLS.
_MAX_UNSENT = 65536

# How many pipelined requests of a connection are answered in one turn of the reactor; others have their turn
# then.
_REQUESTS_PER_TURN = 4

# How often the log says that connections are refused, in seconds.
_LOG_INTERVAL = 10.0


def _make_protocol(site: HTTPFactory) -> Any:
    # Twisted's own protocol, which goes over to HTTP/2 where the client wants it, with a stricter HTTP/1.
    channel: IProtocol = StrictChannel()  # type: ignore[no-untyped-call]
    negotiating = negotiating_protocol()
    return channel if negotiating is None else negotiating(channel)


class BoundedSite(ClosingSite):
    """
    A site that limits the memory, the time and the connections that clients can take. It takes the place of
    ``twisted.web.server.Site``, for any web tree::

        from twisted.internet import endpoints, reactor
        from txsse.web import BoundedSite

        site = BoundedSite(root, reactor=reactor, max_connections=10_000)
        endpoints.serverFromString(reactor, "tcp:8080").listen(site)

    A request with a body that is too large is answered with 413, as soon as that is known; resources need not
    check. When the ports have stopped listening, ``await site.close()`` closes the connections that are open,
    after what was written to them.

    :param resource: the root of the web tree.
    :param reactor: the reactor.
    :param max_body: how many bytes a request's body may have. It is held in memory.
    :param max_bodies: how many bytes the bodies of all requests may have together. While there is no room for
        another one, it is answered with 503.
    :param request_timeout: how long a client may take to send a whole request, and to read a part of an
        answer, in seconds.
    :param max_connections: how many connections there may be; ``None`` for any number. More are closed at
        once.
    :param parse_forms: whether Twisted reads forms into ``request.args``, before a resource has looked at the
        request.
    :param wants_body: called with a request whose body has not come yet, to return whether it is wanted. It
        may answer the request.
    :param refuse: called with a complete request, to return the answer where it is refused, whatever the
        path.
    """

    protocol = _make_protocol

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
        # How many bytes of bodies are held.
        self.bodies = 0
        self._max_connections = max_connections
        self._logged = -_LOG_INTERVAL

    def log(self, request: Request) -> None:
        """
        Write a line into the access log.
        """
        super().log(RedactedRequest(request))  # type: ignore[arg-type]

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """
        Return what a client may choose over TLS: no HTTP/2 where Twisted's protocol for it is not known.
        """
        protocols: list[bytes] = super().acceptableProtocols()  # type: ignore[no-untyped-call]
        return protocols if negotiating_protocol() is not None else [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """
        Serve a connection, unless there are too many.
        """
        if self._max_connections is not None and len(self._connections) >= self._max_connections:
            now = self.reactor.seconds()
            if now >= self._logged + _LOG_INTERVAL:
                self._logged = now
                _log.warn("Connections are refused: there are {count}", count=len(self._connections))
            return None
        return super().buildProtocol(addr)

    def make_connection(self, protocol: IProtocol) -> Connection:
        """
        Make a connection with bounds.
        """
        return BoundedConnection(protocol, self._connections, self.reactor, self)


class BoundedConnection(Connection):
    """
    A connection that is aborted where a request takes too long to come, and that answers as much as is read.

    :ivar site: its site.
    :ivar incoming: requests whose head has come, and whose body has not.
    :ivar answering: requests of HTTP/2 whose answer is on its way.
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
        self.incoming: list[Any] = []
        self.answering: list[Any] = []
        self._held: list[Any] = []
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
        Return what speaks HTTP from now on; its requests are this connection's.
        """
        self._own(successor.protocol)
        return successor.protocol

    def _own(self, protocol: Any) -> None:
        # Twisted tells a request where it belongs when it has come, which is too late.
        protocol.requestFactory = partial(BoundedRequest, self)

    def call_when_late(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Call something when a request that begins now should have come.
        """
        return self._reactor.callLater(self.site.request_timeout, call)

    def call_soon(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Call something in the next turn of the reactor.
        """
        return self._reactor.callLater(0, call)

    def request_came(self) -> None:
        """
        A request is there as a whole.
        """
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    def may_answer(self, request: BoundedRequest) -> bool:
        """
        Tell whether a request may be answered now. Otherwise it is woken when it may be looked at again.
        """
        if request.is_http2:
            if sum(each.unsent for each in self.answering) <= _MAX_UNSENT:
                return True
            self._held.append(request)
            return False
        # Twisted answers while its buffer is full.
        if waits_for_client(request.channel):
            request.wait_for_transport()
            return False
        self._answered += 1
        if self._answered <= _REQUESTS_PER_TURN:
            return True
        self._answered = 0
        request.wait_for_turn()
        return False

    def answered(self, request: BoundedRequest) -> None:
        """
        A request has its answer, or its client has gone.
        """
        for requests in (self.answering, self._held):
            if request in requests:
                requests.remove(request)
        if self in self._connections:
            self.look_whether_closing()
            if self._held:
                self.call_soon(self._answer_held)

    def _answer_held(self) -> None:
        held, self._held = self._held, []
        for request in held:
            request.look_again()

    def connectionMade(self) -> None:
        """
        The connection is there, and says nothing yet.
        """
        self._deadline = self.call_when_late(self._cut)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Pass on what came. After a request that has been answered already, another one is waited for.
        """
        self._answered = 0
        super().dataReceived(data)
        for request in self.incoming.copy():
            request.look_ahead()
        if self._deadline is None and self in self._connections and self._is_idle():
            self._deadline = self.call_when_late(self._cut)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        self.request_came()
        super().connectionLost(reason)

    def _is_idle(self) -> bool:
        """
        Tell whether nothing is being answered. Streams of HTTP/2 come and go beside each other; and one that
        has taken the place of its protocol is being answered.
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

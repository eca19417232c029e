"""
Requests that take neither all of the memory nor for ever.

Twisted reads a request's body before anybody is asked whether it is welcome, and its time-out begins anew
with every byte.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request

from txsse.server.site import ClosingSite, Connection
from txsse.service.discreet import DiscreetRequest, without_token

__all__ = ["BoundedRequest", "BoundedSite"]

# How much of what is too much is read and thrown away, so that the client is there for the answer.
_OVERDRAFT = 8


# Twisted's has no types.
_Request: Any = Request


class BoundedRequest(_Request):  # type: ignore[misc]
    """
    A request whose body may have so many bytes; on a stream of HTTP/2, it may take so long, too.

    :param connection: the connection that it comes on.
    :param channel: what Twisted makes it with.
    """

    def __init__(self, connection: TimedConnection, channel: Any, *args: Any, **options: Any) -> None:
        super().__init__(channel, *args, **options)
        self._content_type: Any = None
        self._connection = connection
        self._size = 0
        self._deadline: IDelayedCall | None = None
        if not isinstance(channel, HTTPChannel):
            self._deadline = connection.call_when_late(self._cut)

    def __repr__(self) -> str:
        # It stands in the service's log where something fails.
        uri = without_token(self.uri).decode("latin-1")
        return f"<{type(self).__name__} {self.method.decode('latin-1')} {uri}>"

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        """
        Make room for the body, where there is to be some.
        """
        super().gotLength(None if length is None else min(length, self._connection.max_body))

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """
        Take in a part of the body.
        """
        self._size += len(data)
        if self._size <= self._connection.max_body:
            super().handleContentChunk(data)
        elif self._size > self._connection.max_body * _OVERDRAFT:
            self._cut()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """
        Take in the end of the request. A form is read by those who know how many fields there may be, and so
        Twisted, which would do that here, is not told that it is one.
        """
        self._content_type = self.requestHeaders.getRawHeaders(b"Content-Type")
        self.requestHeaders.removeHeader(b"Content-Type")
        super().requestReceived(command, path, version)

    def process(self) -> None:
        """
        Answer, unless there was too much.
        """
        if self._content_type is not None:
            self.requestHeaders.setRawHeaders(b"Content-Type", self._content_type)
        self._expect_nothing()
        self._connection.request_came()
        limit = self._connection.max_body
        if self._size <= limit:
            super().process()
            return
        body = b"a request may have %d bytes\n" % limit
        self.setResponseCode(413)
        self.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def connectionLost(self, reason: Failure) -> None:
        """
        The client has gone.
        """
        self._expect_nothing()
        super().connectionLost(reason)

    def _expect_nothing(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _cut(self) -> None:
        self._expect_nothing()
        # A stream of HTTP/2 has no transport of its own.
        channel: Any = self.channel
        (getattr(channel, "transport", None) or channel).abortConnection()


class BoundedSite(ClosingSite):
    """
    A site that bounds how much a request may have, and how long it may take.

    :param resource: the root of the web tree.
    :param reactor: the reactor.
    :param max_body: how many bytes a request's body may have.
    :param request_timeout: how long a connection may take to come up with a whole request, in seconds.
    """

    def __init__(
        self, resource: IResource, *, reactor: IReactorTime, max_body: int, request_timeout: float
    ) -> None:
        super().__init__(resource, reactor=reactor)
        self.max_body = max_body
        self.request_timeout = request_timeout

    def log(self, request: Any) -> None:
        """
        Write a line into the access log.
        """
        super().log(DiscreetRequest(request))  # type: ignore[arg-type]

    def make_connection(self, protocol: IProtocol) -> Connection:
        """
        Make a connection that does not wait for ever.
        """
        return TimedConnection(protocol, self._connections, self.reactor, self)


class TimedConnection(Connection):
    """
    A connection that is cut off where a request takes too long to come.
    """

    __slots__ = ("_deadline", "_site")

    def __init__(
        self,
        protocol: IProtocol,
        connections: set[Connection],
        reactor: IReactorTime,
        site: BoundedSite,
    ) -> None:
        super().__init__(protocol, connections, reactor)
        self._site = site
        self._deadline: IDelayedCall | None = None
        self._own(protocol)

    def renew(self, successor: Connection) -> IProtocol:
        """
        Return what speaks HTTP from now on; its requests are this connection's.
        """
        self._own(successor.protocol)
        return successor.protocol

    def _own(self, protocol: Any) -> None:
        # Twisted tells a request where it belongs when it has come, which is too late.
        protocol.requestFactory = partial(BoundedRequest, self)

    @property
    def max_body(self) -> int:
        """
        How many bytes a request's body may have.
        """
        return self._site.max_body

    def call_when_late(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Call something when a request that begins now should have come.
        """
        return self._reactor.callLater(self._site.request_timeout, call)

    def request_came(self) -> None:
        """
        A request is there as a whole.
        """
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    def connectionMade(self) -> None:
        """
        The connection is there, and says nothing yet.
        """
        self._deadline = self.call_when_late(self._cut)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """
        Pass on what came. Behind a request that has been answered already, another one is waited for.
        """
        super().dataReceived(data)
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
        channel = getattr(self.protocol, "_channel", self.protocol)
        return isinstance(channel, HTTPChannel) and not any(map(_has_come, channel.requests))

    def _cut(self) -> None:
        self._deadline = None
        transport: Any = self.transport
        transport.abortConnection()


def _has_come(request: Any) -> bool:
    return bool(request.method != Request.method)

"""
Readers of request and response bodies that stop at a limit.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from txsse._twisted.client import cut

__all__ = ["BodyReader", "BodyTooLarge", "read_content"]


class BodyTooLarge(Exception):
    """
    A body has more bytes than its reader accepts.

    :ivar limit: how many bytes its reader accepts.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"it has more than {limit} bytes")
        self.limit = limit


class Readable(Protocol):
    """
    A file, such as ``request.content``.
    """

    def read(self, size: int, /) -> bytes:
        """
        Return at most ``size`` bytes.
        """


def read_content(file: Readable, limit: int) -> bytes:
    """
    Read a file to its end.

    :param limit: the most bytes that the file may have. At most one more is read.
    :raises BodyTooLarge: if the file has more.
    """
    content = file.read(limit + 1)
    if len(content) > limit:
        raise BodyTooLarge(limit)
    return content


class BodyReader(TwistedProtocol):
    """
    Reads the body of one response. A server can send without end, so the connection is aborted at the limit.

    :param limit: how many bytes the body may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._received = bytearray()
        self._has_ended = False
        self._done: Deferred[bytes] = Deferred(lambda _: self.abort())

    @property
    def received(self) -> bytes:
        """
        The bytes received so far, up to the limit.
        """
        return bytes(self._received)

    def read(self, response: IResponse) -> Deferred[bytes]:
        """
        Read the body.

        :returns: a Deferred of the whole body. It fails with :exc:`BodyTooLarge`, or with the reason why the
            connection was lost. Cancelling it aborts the connection.
        """
        response.deliverBody(self)
        return self._done

    def dataReceived(self, data: bytes) -> None:
        """
        Keep a part of the body.
        """
        # After abort, Twisted still delivers what it has read from the socket.
        if self._has_ended:
            return
        self._received += data
        if len(self._received) > self._limit:
            del self._received[self._limit :]
            self.abort()
            self._done.errback(BodyTooLarge(self._limit))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End the body; a response without a length ends with its connection.
        """
        if self._has_ended:
            return
        self._has_ended = True
        if reason.check(ResponseDone, PotentialDataLoss):
            self._done.callback(self.received)
        else:
            # Another agent may report KeyboardInterrupt as the reason, which must not pass through
            # coroutines.
            self._done.errback(reason if isinstance(reason.value, Exception) else ConnectionDone())

    def abort(self) -> None:
        """
        Abort the connection, and drop the rest of the body.
        """
        self._has_ended = True
        if self.transport is not None:
            cut(self.transport)

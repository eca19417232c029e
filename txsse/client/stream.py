"""
The body of a reply, as it comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Protocol, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from txsse._redact import without_secrets
from txsse._twisted.client import cut, is_malformed
from txsse._twisted.tcp import StreamTransport
from txsse.client.tls import explain_tls
from txsse.errors import ConnectionFailed, InvalidResponse, SSEError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


__all__ = ["Body", "Reader", "Reading", "cause_of", "named"]

# How many of the bytes that are no HTTP are shown.
_SHOWN = 80

# What Twisted's parser stumbles over, where a reply is not what it should be.
_NO_HTTP = (ValueError, AttributeError, TypeError, LookupError)


class Reader(Protocol):
    """
    Who reads a stream.
    """

    def stream_brought(self, reading: Reading, data: bytes) -> None:
        """
        Take what came.
        """

    def stream_resumed(self, reading: Reading) -> None:
        """
        The sender no longer waits for the reader.
        """

    def stream_ended(self, reading: Reading, error: Exception | None) -> None:
        """
        The stream has ended; ``None`` for a proper end.
        """


class Reading(TwistedProtocol):
    """
    Reads the body of one reply, and pauses it where its reader does not keep up.

    :param reader: gets it, until its end or until the reading is given up.
    :ivar paused: whether the sender waits for the reader.
    """

    transport: StreamTransport | None

    def __init__(self, reader: Reader) -> None:
        self._reader: Reader | None = reader
        self.paused = False

    def dataReceived(self, data: bytes) -> None:
        """
        Pass on what came.
        """
        if self._reader is not None:
            self._reader.stream_brought(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell the end. A body without a length, and one whose last chunk is missing, end in their own ways; so
        may a stream, at any time.
        """
        reader, self._reader = self._reader, None
        if reader is not None:
            proper = reason.check(ResponseDone, PotentialDataLoss)
            reader.stream_ended(self, None if proper else cause_of(reason))

    def pause(self) -> None:
        """
        Have the sender wait.
        """
        transport = self.transport
        if not self.paused and self._reader is not None and transport is not None:
            self.paused = True
            transport.pauseProducing()

    def resume(self) -> None:
        """
        Go on.
        """
        transport = self.transport
        if self.paused and self._reader is not None and transport is not None:
            self.paused = False
            transport.resumeProducing()
            self._reader.stream_resumed(self)

    def read(self, response: IResponse) -> None:
        """
        Read the body of a reply.
        """
        response.deliverBody(self)
        transport = self.transport
        if self.paused and transport is not None:
            # What had come before was delivered just now, and then Twisted had the sender go on.
            transport.pauseProducing()

    def give_up(self) -> None:
        """
        Cut the connection, and tell nobody.
        """
        self._reader = None
        transport = self.transport
        if transport is not None:
            cut(transport)


def cause_of(failure: Failure) -> Exception:
    """
    Unwrap what :class:`twisted.web.client.Agent` wraps a failure into.
    """
    error = failure.value
    reasons = getattr(error, "reasons", None)
    while reasons:
        error = reasons[0].value
        reasons = getattr(error, "reasons", None)
    return cast(Exception, error)


def named(
    error: Exception, url: str, prefix: str = "", *, certificates: Sequence[Certificate] = ()
) -> SSEError:
    """
    Turn what Twisted, or another agent, raises into an error of ours.

    :param error: what it raises.
    :param url: what was asked for.
    :param prefix: what is said of a lost connection before the error's own words.
    :param certificates: the server's, where they are known.
    """
    if isinstance(error, SSEError):
        return error
    found: SSEError
    if is_malformed(error) or isinstance(error, _NO_HTTP):
        found = InvalidResponse(f"{without_secrets(url)}: the reply is no HTTP: {_words_of(error)}")
    else:
        words = explain_tls(error, certificates) or _words_of(error)
        if isinstance(error, ConnectionClosed):
            words = (
                "the connection was lost" if prefix else "the server closed the connection without a reply"
            )
            if not prefix and url.startswith("http:"):
                words += "; does it speak https there?"
        found = ConnectionFailed(url, prefix + words)
    found.__cause__ = error
    return found


def _words_of(error: Exception) -> str:
    if is_malformed(error) and len(error.args) > 1:
        # What is wrong, and the bytes where it is.
        reason, data = error.args[:2]
        return f"{reason} in {data[:_SHOWN]!r}" if isinstance(data, bytes) else str(reason)
    return str(error).strip() or type(error).__name__


@implementer(IBodyProducer)
class Body:
    """
    The body of a request.

    :param body: the bytes.
    """

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = BytesIO(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write it, all at once: it is in memory anyway.
        """
        consumer.write(self._body.read())
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        It has been written.
        """

    def resumeProducing(self) -> None:
        """
        It has been written.
        """

    def stopProducing(self) -> None:
        """
        It has been written.
        """

"""
The body of a reply while it is received, the body of a request, and errors in words that a user understands.
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
from txsse._twisted.types import StreamTransport
from txsse.client.tls import explain_tls
from txsse.errors import ConnectionFailed, InvalidResponse, SSEError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


__all__ = ["Body", "Reader", "Reading", "cause_of", "to_sse_error"]

# How many bytes of a malformed reply an error shows.
_SHOWN = 80

# The exceptions that Twisted's parser raises for a malformed reply.
_NO_HTTP = (ValueError, AttributeError, TypeError, LookupError)


class Reader(Protocol):
    """
    The receiver of a stream: it is called with the bytes of a reply's body.
    """

    def stream_brought(self, reading: Reading, data: bytes) -> None:
        """
        Process bytes of the body.
        """

    def stream_resumed(self, reading: Reading) -> None:
        """
        Process the end of a pause: the sender may send again.
        """

    def stream_ended(self, reading: Reading, error: Exception | None) -> None:
        """
        Process the end of the stream; ``error`` is ``None`` if it ended properly.
        """


class Reading(TwistedProtocol):
    """
    Read the body of one reply; its reader can pause it.

    :param reader: receives the body, until its end or until :meth:`give_up`.
    :ivar paused: whether the sender is paused.
    """

    transport: StreamTransport | None

    def __init__(self, reader: Reader) -> None:
        self._reader: Reader | None = reader
        self.paused = False

    def dataReceived(self, data: bytes) -> None:
        """
        Pass bytes on to the reader.
        """
        if self._reader is not None:
            self._reader.stream_brought(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Report the end to the reader.

        A body without a length ends with ``PotentialDataLoss``; a stream may end so at any time, and this
        counts as a proper end.
        """
        reader, self._reader = self._reader, None
        if reader is not None:
            proper = reason.check(ResponseDone, PotentialDataLoss)
            reader.stream_ended(self, None if proper else cause_of(reason))

    def pause(self) -> None:
        """
        Pause the sender.
        """
        transport = self.transport
        if not self.paused and self._reader is not None and transport is not None:
            self.paused = True
            transport.pauseProducing()

    def resume(self) -> None:
        """
        Resume the sender, if it is paused.
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
            # deliverBody passed on the bytes received before, and then resumed the sender.
            transport.pauseProducing()

    def give_up(self) -> None:
        """
        Abort the connection without a report to the reader.
        """
        self._reader = None
        transport = self.transport
        if transport is not None:
            cut(transport)


def cause_of(failure: Failure) -> Exception:
    """
    Unwrap the error that :class:`twisted.web.client.Agent` wraps.
    """
    error = failure.value
    reasons = getattr(error, "reasons", None)
    while reasons:
        error = reasons[0].value
        reasons = getattr(error, "reasons", None)
    return cast(Exception, error)


def to_sse_error(
    error: Exception, url: str, prefix: str = "", *, certificates: Sequence[Certificate] = ()
) -> SSEError:
    """
    Convert an exception of Twisted, or of another agent, to an error of txsse.

    :param error: the exception.
    :param url: the URL of the request.
    :param prefix: the text before the message if the connection was lost.
    :param certificates: the server's certificates, if they are known.
    """
    if isinstance(error, SSEError):
        return error
    found: SSEError
    if is_malformed(error) or isinstance(error, _NO_HTTP):
        found = InvalidResponse(f"{without_secrets(url)}: the reply is not HTTP: {_words_of(error)}")
    else:
        words = explain_tls(error, certificates) or _words_of(error)
        if isinstance(error, ConnectionClosed):
            words = (
                "the connection was lost" if prefix else "the server closed the connection without a reply"
            )
            if not prefix and url.startswith("http:"):
                words += "; does the server expect https?"
        found = ConnectionFailed(url, prefix + words)
    found.__cause__ = error
    return found


def _words_of(error: Exception) -> str:
    if is_malformed(error) and len(error.args) > 1:
        # The reason, and the bytes that are malformed.
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
        Write the whole body at once: it is in memory anyway.
        """
        consumer.write(self._body.read())
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Do nothing: the body has been written.
        """

    def resumeProducing(self) -> None:
        """
        Do nothing: the body has been written.
        """

    def stopProducing(self) -> None:
        """
        Do nothing: the body has been written.
        """

"""
Changes to Twisted's HTTP client: limits for the head of a response, faster chunk decoding, quick aborts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

__all__ = ["ChunkDecoder", "MakeDecoder", "Tuning", "cut", "is_malformed", "tune"]

# Twisted's class of decoders, which has no public name.
MakeDecoder: TypeAlias = Callable[[Callable[[bytes], None], Callable[[bytes], None]], Any]

# The errors that Twisted's parsers raise for a malformed response, with their modules.
_MALFORMED = (("twisted.web._newclient", "ParseError"), ("twisted.web.http", "_MalformedChunkedDataError"))


@dataclass(frozen=True)
class Tuning:
    """
    The changes to the connections of a pool.

    :ivar decode: makes the decoder of the chunked coding, from Twisted's decoder class and its two callbacks.
    :ivar end_head: called with the fields of a response that control the connection, such as
        ``Transfer-Encoding``, before Twisted interprets them; it may change them.
    :ivar max_head: how many bytes the head of a response may have, including interim responses.
    :ivar read_of_head: how many bytes one read of the socket returns at most, during the head.
    :ivar read: the same after the head.
    :ivar refuse: makes the exception for a head that is too large, from its message.
    """

    decode: Callable[[MakeDecoder, Callable[[bytes], None], Callable[[bytes], None]], object]
    end_head: Callable[[Headers], None]
    max_head: int
    read_of_head: int
    read: int
    refuse: Callable[[str], Exception]


def tune(pool: HTTPConnectionPool, tuning: Tuning) -> bool:
    """
    Change the connections of a pool. Call this before the pool makes its first connection.

    :returns: ``False`` if Twisted's pool is not as expected; it stays unchanged.
    """
    make: Any = getattr(pool, "_factory", None)
    if not callable(make):
        return False

    def tuned(*arguments: Any) -> Any:
        factory = make(*arguments)
        # Otherwise Twisted logs two lines for each connection, which is too much for a client that
        # reconnects.
        factory.noisy = False
        build = factory.buildProtocol

        def build_tuned(address: IAddress | None) -> Any:
            protocol = build(address)
            _Connection(protocol, tuning)
            return protocol

        factory.buildProtocol = build_tuned
        return factory

    pool._factory = tuned  # type: ignore[assignment]
    return True


class _Connection:
    """
    Replaces some methods of one client connection.

    The methods are set on the instance, because Twisted's class has no public name.
    """

    def __init__(self, protocol: Any, tuning: Tuning) -> None:
        self._protocol = protocol
        self._tuning = tuning
        # How many bytes of the head have arrived, including interim responses.
        self._head_size = 0
        self._in_head = True
        # Twisted's methods, which the replacements call.
        self._original_connection_made: Callable[[], None] = protocol.connectionMade
        self._original_request: Callable[[Any], Deferred[IResponse]] = protocol.request
        self._original_data_received: Callable[[bytes], None] = protocol.dataReceived
        self._original_give_up: Callable[[Failure], None] | None = getattr(protocol, "_giveUp", None)
        protocol.connectionMade = self.connection_made
        protocol.request = self.request
        protocol.dataReceived = self.data_received
        if self._original_give_up is not None:
            protocol._giveUp = self.give_up

    def connection_made(self) -> None:
        """
        Limit the reads while the head is expected: a head of 64 KiB in one read would block the reactor.
        """
        self._original_connection_made()
        self._read(self._tuning.read_of_head)

    def request(self, request: Any) -> Deferred[IResponse]:
        """
        Send a request, and change how its response is parsed.
        """
        replied = self._original_request(request)
        parser: Any = getattr(self._protocol, "_parser", None)
        if parser is not None:
            # Twisted's method closes the connection without naming the reason.
            parser.lineLengthExceeded = self._line_too_long
            decoders: Any = getattr(parser, "_transferDecoders", None)
            if isinstance(decoders, dict) and b"chunked" in decoders:
                # A new dict: the other one belongs to the class, which all clients of the process share.
                parser._transferDecoders = {b"chunked": partial(self._tuning.decode, decoders[b"chunked"])}
            end_head: Any = getattr(parser, "allHeadersReceived", None)
            if end_head is not None:
                parser.allHeadersReceived = partial(self._end_head, parser, end_head)
        return replied.addBoth(self._head_ended)

    def data_received(self, data: bytes) -> None:
        """
        Receive bytes, and refuse a head that is too large: Twisted limits only its lines.
        """
        self._original_data_received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self._tuning.max_head:
                self._refuse(f"the head of the reply has more than {self._tuning.max_head} bytes")

    def give_up(self, reason: Failure) -> None:
        """
        Close the connection, and the TCP connection below TLS with it.

        Over TLS, Twisted would wait without limit for the peer's close_notify. The connection would stay
        open, one more with each attempt, and further bytes would still be read.
        """
        assert self._original_give_up is not None
        self._original_give_up(reason)
        below = getattr(self._protocol.transport, "transport", None)
        if below is not None:
            below.loseConnection()

    def _read(self, size: int) -> None:
        transport: Any = self._protocol.transport
        # A TLS transport wraps the TCP transport, whose reads are limited.
        transport = getattr(transport, "transport", None) or transport
        transport.bufferSize = size

    def _head_ended(self, result: Any) -> Any:
        self._in_head = False
        self._read(self._tuning.read)
        return result

    def _line_too_long(self, line: bytes) -> None:
        self._refuse("the head of the reply has a line that is too long")

    def _refuse(self, problem: str) -> None:
        if self._original_give_up is not None:
            self.give_up(Failure(self._tuning.refuse(problem)))
        else:
            self._protocol.transport.abortConnection()

    def _end_head(self, parser: Any, end_head: Callable[[], None]) -> None:
        fields: Any = getattr(parser, "connHeaders", None)
        if isinstance(fields, Headers):
            self._tuning.end_head(fields)
        end_head()


class ChunkDecoder:
    """
    Twisted's decoder of the chunked coding, for a caller that decodes complete chunks itself, in bulk.

    :meth:`finish_chunk` completes the chunk that Twisted's decoder has begun, and leaves the chunks after it
    to the caller. :meth:`feed` passes on everything that the caller does not decode.

    :param make: Twisted's class.
    :param deliver: called with each piece of the body.
    :param finish: called with the bytes after the last chunk.
    """

    def __init__(
        self, make: MakeDecoder, deliver: Callable[[bytes], None], finish: Callable[[bytes], None]
    ) -> None:
        self._decoder = decoder = make(deliver, finish)
        self._is_as_expected = (
            getattr(decoder, "state", None) == "CHUNK_LENGTH"
            and isinstance(getattr(decoder, "_buffer", None), bytearray)
            and getattr(decoder, "_start", None) == 0
        )

    def feed(self, data: bytes) -> None:
        """
        Decode bytes with Twisted's decoder.
        """
        self._decoder.dataReceived(data)

    def end(self) -> None:
        """
        Check that the last chunk has arrived; raise Twisted's error if not.
        """
        self._decoder.noMoreData()

    def finish_chunk(self, data: bytes) -> bytes | None:
        """
        Decode the rest of a chunk that began in an earlier read.

        :returns: the bytes after that chunk, for the caller to decode. They begin with the part of the next
            chunk's head that Twisted has buffered. ``None`` if Twisted's decoder is not as expected: all of
            ``data`` has to be passed to :meth:`feed`.
        """
        decoder = self._decoder
        if not self._is_as_expected:
            return None
        if decoder.state in ("BODY", "CRLF"):
            # The chunk includes the line end after its data.
            length = getattr(decoder, "length", None)
            if not isinstance(length, int):
                return None
            end = length + 2 if decoder.state == "BODY" else 2 - len(decoder._buffer)
            decoder.dataReceived(data[:end])
            data = data[end:]
        if decoder.state != "CHUNK_LENGTH":
            # The chunk is still incomplete, or it was the last one: the decoder takes all the rest.
            decoder.dataReceived(data)
            return b""
        if decoder._buffer and data:
            data = bytes(decoder._buffer) + data
            decoder._buffer.clear()
            decoder._start = 0
        return data


def is_malformed(error: Exception) -> bool:
    """
    Return whether an error is one that Twisted raises for a malformed response.

    Its arguments may be a reason and the malformed bytes.
    """
    kind = type(error)
    return any((base.__module__, base.__name__) in _MALFORMED for base in kind.__mro__)


def cut(transport: Any) -> None:
    """
    Abort the connection of a response.

    :param transport: the transport of the protocol that reads the body. Twisted's is a proxy whose only way
        to end the connection is to close it, which over TLS waits for the peer's close_notify.
    """
    transport = getattr(transport, "_producer", None) or transport
    abort = getattr(transport, "abortConnection", None) or transport.loseConnection
    abort()

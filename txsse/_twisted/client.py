"""
Twisted's HTTP client: its connections, the heads that they read, the chunks that they decode, and their end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

__all__ = ["ChunkDecoder", "Tuning", "cut", "is_malformed", "tune"]

# What Twisted's parser raises where a reply is malformed, by module.
_MALFORMED = (("twisted.web._newclient", "ParseError"), ("twisted.web.http", "_MalformedChunkedDataError"))


@dataclass(frozen=True)
class Tuning:
    """
    What is changed in the connections of a pool.

    :ivar decode: makes a decoder of chunks, from Twisted's class for one, and the two callbacks of that.
    :ivar end_head: called with the connection control header fields of a reply, before Twisted reads them; it
        may change them.
    :ivar max_head: how many bytes the head of a reply may have, with interim replies.
    :ivar read_of_head: how many bytes of a head are read at once.
    :ivar read: how many bytes are read at once after the head.
    :ivar refuse: makes the exception for a head that is too large, from a sentence.
    """

    decode: Callable[[Any, Callable[[bytes], None], Callable[[bytes], None]], Any]
    end_head: Callable[[Headers], None]
    max_head: int
    read_of_head: int
    read: int
    refuse: Callable[[str], Exception]


def tune(pool: HTTPConnectionPool, tuning: Tuning) -> bool:
    """
    Change the connections of a pool, before it makes the first.

    :returns: ``False`` where Twisted's pool is not as expected: it is left alone.
    """
    make: Any = getattr(pool, "_factory", None)
    if not callable(make):
        return False

    def tuned(*arguments: Any) -> Any:
        factory = make(*arguments)
        # Two lines in the log for each connection are many, for a client that reconnects.
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
    Takes the place of some methods of a client's connection, on the instance: Twisted's class has no public
    name.
    """

    def __init__(self, protocol: Any, tuning: Tuning) -> None:
        self._protocol = protocol
        self._tuning = tuning
        # How many bytes of the head have come, interim replies and all.
        self._head_size = 0
        self._in_head = True
        self._connected: Callable[[], None] = protocol.connectionMade
        self._ask: Callable[[Any], Deferred[IResponse]] = protocol.request
        self._received: Callable[[bytes], None] = protocol.dataReceived
        self._give_up: Callable[[Failure], None] | None = getattr(protocol, "_giveUp", None)
        protocol.connectionMade = self.connection_made
        protocol.request = self.request
        protocol.dataReceived = self.data_received
        if self._give_up is not None:
            protocol._giveUp = self.give_up

    def connection_made(self) -> None:
        """
        Read little at once.
        """
        self._connected()
        self._read(self._tuning.read_of_head)

    def request(self, request: Any) -> Deferred[IResponse]:
        """
        Send a request, and change how its reply is read.
        """
        replied = self._ask(request)
        parser: Any = getattr(self._protocol, "_parser", None)
        if parser is not None:
            parser.lineLengthExceeded = self._line_too_long
            decoders: Any = getattr(parser, "_transferDecoders", None)
            if isinstance(decoders, dict) and b"chunked" in decoders:
                parser._transferDecoders = {b"chunked": partial(self._tuning.decode, decoders[b"chunked"])}
            end_head: Any = getattr(parser, "allHeadersReceived", None)
            if end_head is not None:
                parser.allHeadersReceived = partial(self._end_head, parser, end_head)
        return replied.addBoth(self._head_came)

    def data_received(self, data: bytes) -> None:
        """
        Take what came, unless the head is larger than any that makes sense: Twisted looks at its lines alone.
        """
        self._received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self._tuning.max_head:
                self._refuse(f"the head of the reply has more than {self._tuning.max_head} bytes")

    def give_up(self, reason: Failure) -> None:
        """
        Close the connection. Over TLS that waits for the peer's close_notify without end: what comes
        meanwhile is read, or the connection is just left open, one more with each attempt.
        """
        assert self._give_up is not None
        self._give_up(reason)
        below = getattr(self._protocol.transport, "transport", None)
        if below is not None:
            below.loseConnection()

    def _read(self, size: int) -> None:
        transport: Any = self._protocol.transport
        # TLS is around another one.
        transport = getattr(transport, "transport", None) or transport
        transport.bufferSize = size

    def _head_came(self, result: Any) -> Any:
        self._in_head = False
        self._read(self._tuning.read)
        return result

    def _line_too_long(self, line: bytes) -> None:
        self._refuse("the head of the reply has a line that is too long")

    def _refuse(self, problem: str) -> None:
        if self._give_up is not None:
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
    Twisted's decoder of chunks, where it stands between two chunks, and what it holds.

    :param make: Twisted's class.
    :param deliver: called with each piece of the body.
    :param finish: called with what follows the last chunk.
    """

    def __init__(self, make: Any, deliver: Callable[[bytes], None], finish: Callable[[bytes], None]) -> None:
        self._decoder = decoder = make(deliver, finish)
        self._is_known = (
            getattr(decoder, "state", None) == "CHUNK_LENGTH"
            and isinstance(getattr(decoder, "_buffer", None), bytearray)
            and getattr(decoder, "_start", None) == 0
        )

    def feed(self, data: bytes) -> None:
        """
        Decode bytes, as Twisted does.
        """
        self._decoder.dataReceived(data)

    def end(self) -> None:
        """
        Check that the last chunk has come.
        """
        self._decoder.noMoreData()

    def finish_chunk(self, data: bytes) -> bytes | None:
        """
        Decode the rest of a chunk that the last read cut.

        :returns: what follows that chunk, with what Twisted held of it; ``None`` where all of ``data`` has to
            go through :meth:`feed`, because Twisted is in the middle of something else, or not as expected.
        """
        decoder = self._decoder
        if not self._is_known:
            return None
        if decoder.state in ("BODY", "CRLF"):
            # Its line end belongs to it.
            length = getattr(decoder, "length", None)
            if not isinstance(length, int):
                return None
            end = length + 2 if decoder.state == "BODY" else 2 - len(decoder._buffer)
            decoder.dataReceived(data[:end])
            data = data[end:]
        if decoder.state != "CHUNK_LENGTH":
            # The caller feeds what is left.
            decoder.dataReceived(data)
            return b""
        if decoder._buffer and data:
            data = bytes(decoder._buffer) + data
            decoder._buffer.clear()
            decoder._start = 0
        return data


def is_malformed(error: Exception) -> bool:
    """
    Return whether an error is one that Twisted raises for a malformed reply, with a reason and the bytes.
    """
    kind = type(error)
    return any((base.__module__, base.__name__) in _MALFORMED for base in kind.__mro__)


def cut(transport: Any) -> None:
    """
    Abort the connection of a reply.

    :param transport: what Twisted gives the protocol that reads the body: a proxy that can only close it,
        which over TLS waits for the peer's close_notify.
    """
    transport = getattr(transport, "_producer", None) or transport
    abort = getattr(transport, "abortConnection", None) or transport.loseConnection
    abort()

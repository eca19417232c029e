"""
Chunks, as many at once as a read brought.

A server that broadcasts writes each event as a chunk, and one read brings hundreds of them. Twisted decodes
them one by one, and calls back for each, which costs more than all that is done with the events. Here, what
is plain is decoded at once, and everything else is left to Twisted: what is cut by the end of a read,
extensions, trailers, errors.

Names that Twisted keeps for itself are used, since there is no other way in. Where a version does not have
them any more, its own decoder does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure
from twisted.web import client, http
from twisted.web._newclient import HTTP11ClientProtocol
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from txsse.client.fields import is_chunked
from txsse.errors import InvalidResponse

__all__ = ["Decoder", "new_pool"]

# The sizes of chunks, as they are written: small ones, which come by the hundred.
_SIZES = {form % size: size for size in range(1, 4096) for form in (b"%x", b"%X")}
_LONGEST_SIZE = max(map(len, _SIZES))

# Twisted reads 64 KiB at once. As a head of tiny fields, or of interim replies, these take 60 to 80 ms, since
# each line copies the rest; as events or chunks, up to 50.
_READ_OF_HEAD = 2**13
_READ = 2**15

# What the head of a reply may take.
_MAX_HEAD = 256 * 1024


class Decoder(http._ChunkedTransferDecoder):
    """
    Decodes chunks, and calls back once for each read.
    """

    def __init__(
        self,
        dataCallback: Callable[[bytes], None],  # noqa: N803
        finishCallback: Callable[[bytes], None],  # noqa: N803
    ) -> None:
        self._pieces: list[bytes] = []
        self._rest: bytes | None = None
        self._deliver = dataCallback
        self._finish = finishCallback
        super().__init__(self._pieces.append, self._keep_rest)

    def dataReceived(self, data: bytes) -> None:
        """
        Decode what a read brought.
        """
        try:
            super().dataReceived(self._decode(data))
        finally:
            # What came before an error counts.
            if self._pieces:
                body = b"".join(self._pieces)
                self._pieces.clear()
                self._deliver(body)
        if self._rest is not None:
            self._finish(self._rest)

    def _keep_rest(self, rest: bytes) -> None:
        self._rest = rest

    def _decode(self, data: bytes) -> bytes:
        """
        Decode the chunks that are plain, and return what comes behind them.
        """
        if self.state in ("BODY", "CRLF"):
            # The last read ended in the middle of a chunk, as most do. Its line end belongs to it.
            end = self.length + 2 if self.state == "BODY" else 2 - len(self._buffer)
            super().dataReceived(data[:end])
            data = data[end:]
        if self.state != "CHUNK_LENGTH" or not data:
            return data
        if self._buffer:
            data = bytes(self._buffer) + data
            self._buffer.clear()
            self._start = 0
        rest = _take_lines(data, self._pieces)
        return _take_chunks(data, self._pieces) if rest is None else rest


def _take_lines(data: bytes, pieces: list[bytes]) -> bytes | None:
    """
    Take chunks that have no line end of HTTP's in them: then every other line is a size.

    :returns: the rest; ``None`` where this is not so.
    """
    lines = data.split(b"\r\n")
    count = (len(lines) - 1) & ~1
    bodies = lines[1:count:2]
    if not bodies or list(map(_SIZES.get, lines[0:count:2])) != list(map(len, bodies)):
        return None
    pieces += bodies
    return b"\r\n".join(lines[count:])


def _take_chunks(data: bytes, pieces: list[bytes]) -> bytes:
    """
    Take one after the other.
    """
    position = 0
    while True:
        end = data.find(b"\r\n", position, position + _LONGEST_SIZE + 2)
        size = _SIZES.get(data[position:end])
        if size is None:
            break
        stop = end + 2 + size
        if data[stop : stop + 2] != b"\r\n":
            break
        pieces.append(data[end + 2 : stop])
        position = stop + 2
    return data[position:]


class _Protocol(HTTP11ClientProtocol):
    """
    One connection.
    """

    # How many bytes of the head have come, interim replies and all.
    _head_size = 0

    def connectionMade(self) -> None:
        """
        Read little at once.
        """
        super().connectionMade()
        self._read(_READ_OF_HEAD)

    def request(self, request: Any) -> Deferred[IResponse]:
        """
        Send a request, and read its reply this way.
        """
        replied: Deferred[IResponse] = super().request(request)
        parser: Any = self._parser
        if parser is not None:
            parser._transferDecoders = {b"chunked": Decoder}
            parser.lineLengthExceeded = self._line_too_long
            parser.allHeadersReceived = partial(_end_head, parser, parser.allHeadersReceived)
        return replied

    def dataReceived(self, data: bytes) -> None:
        """
        Take what came, unless the head is larger than any that makes sense: Twisted looks at its lines alone.
        """
        HTTP11ClientProtocol.dataReceived(self, data)
        parser = self._parser
        if parser is None:
            return
        if parser.state not in ("STATUS", "HEADER"):
            self._read(_READ)
        else:
            self._head_size += len(data)
            if self._head_size > _MAX_HEAD:
                self._refuse(f"the head of the reply has more than {_MAX_HEAD} bytes")

    def _read(self, size: int) -> None:
        transport: Any = self.transport
        # TLS is around another one.
        transport = getattr(transport, "transport", None) or transport
        transport.bufferSize = size

    def _giveUp(self, reason: Failure) -> None:  # noqa: N802
        give_up: Any = super()._giveUp
        give_up(reason)
        # Over TLS that waits for the peer's farewell, for ever: what comes meanwhile is read, or the
        # connection is just left open, one more with each attempt.
        below = getattr(self.transport, "transport", None)
        if below is not None:
            below.loseConnection()

    def _line_too_long(self, line: bytes) -> None:
        self._refuse("the head of the reply has a line that is too long")

    def _refuse(self, problem: str) -> None:
        give_up: Any = self._giveUp
        give_up(Failure(InvalidResponse(problem)))


def _end_head(parser: Any, end_head: Callable[[], None]) -> None:
    """
    Read ``Transfer-Encoding`` as browsers do, before Twisted reads it, which looks at the first field alone
    and raises for all but ``chunked``.
    """
    fields: Headers = parser.connHeaders
    codings = fields.getRawHeaders("Transfer-Encoding")
    if codings is not None:
        if is_chunked(codings):
            fields.setRawHeaders("Transfer-Encoding", ["chunked"])
        else:
            fields.removeHeader("Transfer-Encoding")
    end_head()


class _Factory(client._HTTP11ClientFactory):
    # Two lines in the log for each connection are many, for a client that reconnects.
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> _Protocol:
        """
        Make a connection's protocol.
        """
        return _Protocol(self._quiescentCallback)  # type: ignore[no-untyped-call]


def new_pool(reactor: IReactorTime) -> HTTPConnectionPool:
    """
    Make a pool for an agent whose connections serve one request each.
    """
    pool = HTTPConnectionPool(reactor, persistent=False)
    pool._factory = _Factory
    return pool

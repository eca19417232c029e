"""
A faster decoder for the chunked coding, and the limits of a client's connection.

A server that broadcasts writes each event as a chunk, and one read brings hundreds of them. Twisted decodes
them one by one, with a callback for each, which costs more than everything that the client does with the
events. The decoder of this module decodes plain chunks in bulk, and leaves everything else to Twisted's: a
chunk that the end of a read cuts, extensions, trailers and errors.

If the installed version of Twisted is not as :mod:`txsse._twisted.client` expects it, Twisted's own decoder
does all the work.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers

from txsse._twisted.client import ChunkDecoder, MakeDecoder, Tuning, tune
from txsse.client.fields import is_chunked
from txsse.errors import InvalidResponse

__all__ = ["Decoder", "new_pool"]

# Small sizes of chunks, as they are written on the wire: small chunks arrive by the hundred.
_SIZES = {form % size: size for size in range(1, 4096) for form in (b"%x", b"%X")}
_LONGEST_SIZE = max(map(len, _SIZES))

# Twisted reads 64 KiB at once. If such a read is a head of tiny fields, or many interim replies, parsing
# it takes 60 to 80 ms, since Twisted copies the rest for each line; if it is events or chunks, up to 50.
_READ_OF_HEAD = 2**13
_READ = 2**15

# The largest head of a reply, in bytes.
_MAX_HEAD = 256 * 1024


class Decoder:
    """
    Decode chunks, and call back once for each read.

    :param make: Twisted's decoder class, which decodes everything that is not a plain chunk.
    :param deliver: called with the body bytes of one read.
    :param finish: called with the bytes after the last chunk.
    """

    def __init__(
        self, make: MakeDecoder, deliver: Callable[[bytes], None], finish: Callable[[bytes], None]
    ) -> None:
        self._pieces: list[bytes] = []
        self._rest: bytes | None = None
        self._deliver = deliver
        self._finish = finish
        self._twisted = ChunkDecoder(make, self._pieces.append, self._keep_rest)

    def dataReceived(self, data: bytes) -> None:
        """
        Decode the bytes of one read.
        """
        try:
            # The last read ended in the middle of a chunk, as most do.
            rest = self._twisted.finish_chunk(data)
            if rest:
                data = _take(rest, self._pieces)
            elif rest is not None:
                data = rest
            self._twisted.feed(data)
        finally:
            # The chunks before an error are delivered.
            if self._pieces:
                body = b"".join(self._pieces)
                self._pieces.clear()
                self._deliver(body)
        if self._rest is not None:
            self._finish(self._rest)

    def noMoreData(self) -> None:  # noqa: N802
        """
        Check that the last chunk has arrived.
        """
        self._twisted.end()

    def _keep_rest(self, rest: bytes) -> None:
        self._rest = rest


def _take(data: bytes, pieces: list[bytes]) -> bytes:
    """
    Append the bodies of plain chunks to ``pieces``, and return the bytes that follow them.
    """
    rest = _take_lines(data, pieces)
    return _take_chunks(data, pieces) if rest is None else rest


def _take_lines(data: bytes, pieces: list[bytes]) -> bytes | None:
    """
    Take chunks whose bodies contain no CRLF: every other line is then a size.

    :returns: the rest; ``None`` if a body contains a CRLF, or a chunk is not plain.
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
    Take plain chunks one after the other, until the first one that is not plain or not complete.
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


def _end_head(fields: Headers) -> None:
    """
    Normalise ``Transfer-Encoding`` as browsers read it, before Twisted reads it.

    Twisted looks only at the first field, and raises for every value but ``chunked``.
    """
    codings = fields.getRawHeaders("Transfer-Encoding")
    if codings is not None:
        if is_chunked(codings):
            fields.setRawHeaders("Transfer-Encoding", ["chunked"])
        else:
            fields.removeHeader("Transfer-Encoding")


_TUNING = Tuning(
    decode=Decoder,
    end_head=_end_head,
    max_head=_MAX_HEAD,
    read_of_head=_READ_OF_HEAD,
    read=_READ,
    refuse=InvalidResponse,
)


def new_pool(reactor: IReactorTime) -> HTTPConnectionPool:
    """
    Return a pool for an agent that uses a new connection for each request.
    """
    pool = HTTPConnectionPool(reactor, persistent=False)
    tune(pool, _TUNING)
    return pool

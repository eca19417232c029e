"""
Chunks, as many at once as a read brought.

A server that broadcasts writes each event as a chunk, and one read brings hundreds of them. Twisted decodes
them one by one, and calls back for each, which costs more than all that is done with the events. Here, what
is plain is decoded at once, and everything else is left to Twisted: what is cut by the end of a read,
extensions, trailers, errors.

Where a version of Twisted is not as :mod:`txsse._twisted.client` expects it, Twisted's own decoder does the
work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers

from txsse._twisted.client import ChunkDecoder, Tuning, tune
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


class Decoder:
    """
    Decodes chunks, and calls back once for each read.

    :param make: Twisted's class for a decoder, which decodes what is not plain.
    :param deliver: called with a part of the body.
    :param finish: called with what follows the last chunk.
    """

    def __init__(self, make: Any, deliver: Callable[[bytes], None], finish: Callable[[bytes], None]) -> None:
        self._pieces: list[bytes] = []
        self._rest: bytes | None = None
        self._deliver = deliver
        self._finish = finish
        self._twisted = ChunkDecoder(make, self._pieces.append, self._keep_rest)

    def dataReceived(self, data: bytes) -> None:
        """
        Decode what a read brought.
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
            # What came before an error counts.
            if self._pieces:
                body = b"".join(self._pieces)
                self._pieces.clear()
                self._deliver(body)
        if self._rest is not None:
            self._finish(self._rest)

    def noMoreData(self) -> None:  # noqa: N802
        """
        Check that the last chunk has come.
        """
        self._twisted.end()

    def _keep_rest(self, rest: bytes) -> None:
        self._rest = rest


def _take(data: bytes, pieces: list[bytes]) -> bytes:
    """
    Take the chunks that are plain, and return what follows them.
    """
    rest = _take_lines(data, pieces)
    return _take_chunks(data, pieces) if rest is None else rest


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


def _end_head(fields: Headers) -> None:
    """
    Read ``Transfer-Encoding`` as browsers do, before Twisted reads it, which looks at the first field alone
    and raises for all but ``chunked``.
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
    Make a pool for an agent whose connections serve one request each.
    """
    pool = HTTPConnectionPool(reactor, persistent=False)
    tune(pool, _TUNING)
    return pool

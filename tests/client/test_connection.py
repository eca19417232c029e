"""
The decoder of the chunked coding returns the same as Twisted's, in fewer steps; the pool limits a reply's
head.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import AccumulatingProtocol, StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web._newclient import Request, RequestNotSent
from twisted.web.http import _ChunkedTransferDecoder
from twisted.web.http_headers import Headers

from txsse.client.connection import Decoder, new_pool
from txsse.client.stream import cause_of
from txsse.errors import InvalidResponse


def decoded(make: Any, reads: list[bytes]) -> tuple[bytes, list[bytes], str | None, bool]:
    """
    Decode some reads; return the body, the bytes after it, the error, and whether the body has ended.
    """
    body: list[bytes] = []
    rest: list[bytes] = []
    decoder = make(body.append, rest.append)
    error = None
    for read in reads:
        try:
            decoder.dataReceived(read)
        except Exception as raised:
            error = repr(raised)
            break
        if rest:
            break
    try:
        decoder.noMoreData()
    except Exception:
        return b"".join(body), rest, error, False
    return b"".join(body), rest, error, True


def chunk(body: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(body), extension, body)


OURS = partial(Decoder, _ChunkedTransferDecoder)

BODIES = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.sampled_from([b"data: a\n\n", b"data: a\r\n\r\n", b"\r\n", b"\r", b"5\r\nabcde\r\n", b"x" * 5000]),
)
CHUNKS = st.builds(chunk, BODIES, st.sampled_from([b"", b"", b"", b";a=b"]))
NOISE = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"g\r\n", b"5\r\nabcdef\r\n", b"-1\r\n", b"\r\n"]
)
STREAMS = st.lists(st.one_of(CHUNKS, CHUNKS, CHUNKS, NOISE), max_size=12).map(b"".join)


class DecoderTests:
    @given(STREAMS, st.lists(st.integers(min_value=0, max_value=400), max_size=6))
    def test_same_result_as_twisted(self, stream: bytes, cuts: list[int]) -> None:
        """
        The chunk decoder returns the same as Twisted's decoder for any stream, however reads cut it.
        """
        places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        reads = [stream[a:b] for a, b in pairwise(places)]
        assert decoded(OURS, reads) == decoded(_ChunkedTransferDecoder, reads)

    @pytest.mark.parametrize("end", [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\nmore", b""])
    def test_cut_at_every_byte(self, end: bytes) -> None:
        """
        The chunk decoder decodes a stream that is cut at any byte, or at every byte, like Twisted's decoder.
        """
        stream = chunk(b"data: a\n\n") + chunk(b"data: b\r\n\r\n") + chunk(b"x" * 300, b";q=1") + end
        expected = decoded(_ChunkedTransferDecoder, [stream])
        for cut in range(len(stream)):
            assert decoded(OURS, [stream[:cut], stream[cut:]]) == decoded(
                _ChunkedTransferDecoder, [stream[:cut], stream[cut:]]
            )
        assert decoded(OURS, [bytes([byte]) for byte in stream])[0] == expected[0]

    @pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
    def test_one_call_per_read(self, end: bytes) -> None:
        """
        The chunk decoder delivers the body of each read in one call, apart from the chunk that the read cuts.
        """
        body: list[bytes] = []
        decoder = Decoder(_ChunkedTransferDecoder, body.append, body.append)
        stream = b"".join(chunk(b"data: %d%s" % (number, end)) for number in range(1000))
        decoder.dataReceived(stream[:5000])
        decoder.dataReceived(stream[5000:])
        assert len(body) == 2
        assert b"".join(body) == b"".join(b"data: %d%s" % (number, end) for number in range(1000))

    def test_chunks_before_an_error(self) -> None:
        """
        The chunk decoder delivers the chunks before a malformed one.
        """
        body: list[bytes] = []
        decoder = Decoder(_ChunkedTransferDecoder, body.append, body.append)
        with pytest.raises(Exception, match="Chunk-size"):
            decoder.dataReceived(chunk(b"a") + b"nonsense\r\n")
        assert body == [b"a"]


class PoolTests:
    def test_decoder_in_use(self) -> None:
        """
        Connections of the default agent's pool use the faster chunk decoder.
        """
        pool = new_pool(Clock())
        protocol: Any = pool._factory(lambda _: None, "").buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.request(Request(b"GET", b"/", Headers({b"host": [b"a"]}), None))
        assert protocol._parser._transferDecoders[b"chunked"].func is Decoder

    def test_no_log_lines(self) -> None:
        """
        A connection of the client writes nothing to the log when it is made and lost.
        """
        factory: Any = new_pool(Clock())._factory(lambda _: None, "")
        with capturedLogs() as logged:
            factory.doStart()
            factory.doStop()
        assert logged == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("reads", "problem"),
        [
            ([b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n" * 1000] * 60], "more than 262144 bytes"),
            ([b"HTTP/1.1 100 x\r\n\r\n" * 20_000], "more than 262144 bytes"),
            ([b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20_000], "a line that is too long"),
        ],
    )
    def test_head_too_large(self, reads: list[bytes], problem: str) -> None:
        """
        The client closes a connection whose reply has a head, or a line of it, that is too large; the error
        says so.
        """
        protocol: Any = new_pool(Clock())._factory(lambda _: None, "").buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        replied = protocol.request(Request(b"GET", b"/", Headers({b"host": [b"a"]}), None))
        for read in reads:
            if not transport.disconnecting:
                protocol.dataReceived(read)
        assert transport.disconnecting
        failures: list[Any] = []
        replied.addErrback(failures.append)
        protocol.connectionLost(Failure(ConnectionLost()))
        error = cause_of(failures[0])
        assert isinstance(error, InvalidResponse)
        assert problem in str(error)

    def test_large_body(self) -> None:
        """
        The size limit of a reply's head does not limit the body.
        """
        protocol: Any = new_pool(Clock())._factory(lambda _: None, "").buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.request(Request(b"GET", b"/", Headers({b"host": [b"a"]}), None))
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(10):
            protocol.dataReceived(b"x" * 65536)
        assert not transport.disconnecting

    @pytest.mark.parametrize(
        ("codings", "chunked"),
        [
            ([b"chunked"], True),
            ([b"identity, Chunked"], True),
            ([b"foo", b"chunked"], True),
            ([b"gzip, chunked"], True),
            ([b"identity"], False),
            ([b""], False),
            ([b"foo", b"identity"], False),
            ([b"chunked;x=y"], False),
        ],
    )
    @pytest.mark.parametrize("length", [b"", b"Content-Length: 9\r\n"])
    def test_transfer_encodings(self, codings: list[bytes], chunked: bool, length: bytes) -> None:
        """
        The client decodes a body as chunked if any Transfer-Encoding field contains that coding, also with a
        length.
        """
        protocol: Any = new_pool(Clock())._factory(lambda _: None, "").buildProtocol(None)
        protocol.makeConnection(StringTransport())
        responses: list[Any] = []
        protocol.request(Request(b"GET", b"/", Headers({b"host": [b"a"]}), None)).addCallback(
            responses.append
        )
        fields = length + b"".join(b"Transfer-Encoding: %s\r\n" % coding for coding in codings)
        event = b"data: a\n\n"
        protocol.dataReceived(b"HTTP/1.1 103 x\r\nTransfer-Encoding: x\r\n\r\n")
        protocol.dataReceived(
            b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + (chunk(event) if chunked else event)
        )
        body = AccumulatingProtocol()
        responses[0].deliverBody(body)
        assert body.data == event

    def test_lost_connection(self) -> None:
        """
        A lost connection refuses further requests.
        """
        protocol: Any = new_pool(Clock())._factory(lambda _: None, "").buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.connectionLost(Failure(ConnectionLost()))
        failures: list[Any] = []
        protocol.request(Request(b"GET", b"/", Headers(), None)).addErrback(failures.append)
        assert failures[0].check(RequestNotSent)

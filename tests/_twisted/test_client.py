"""
Tests of the changes to Twisted's HTTP client, with Twisted as expected and with private names missing.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web._newclient import BadResponseVersion, HTTPClientParser, ParseError, Request
from twisted.web.client import HTTPConnectionPool
from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError
from twisted.web.http_headers import Headers

from txsse._twisted.client import ChunkDecoder, cut, is_malformed, tune
from txsse.client import connection
from txsse.client.connection import Decoder

STREAM = b"3\r\nabc\r\n" * 5 + b"0\r\n\r\n"


def connect(pool: HTTPConnectionPool) -> tuple[Any, StringTransport]:
    factory: Any = pool._factory(lambda _: None, "")
    protocol = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def ask(protocol: Any) -> list[Any]:
    """
    Send a request, and return the list of its results.
    """
    outcome: list[Any] = []
    request = Request(b"GET", b"/", Headers({b"host": [b"a"]}), None)
    protocol.request(request).addBoth(outcome.append)
    return outcome


class TuneTests:
    def test_pool_without_a_factory(self) -> None:
        """
        A pool without the private name of its factory stays unchanged.
        """
        assert not tune(SimpleNamespace(), connection._TUNING)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["_transferDecoders", "allHeadersReceived"])
    def test_parser_without(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """
        If one private name of Twisted's parser is missing, tuning changes only the other names.
        """
        pool = HTTPConnectionPool(Clock(), persistent=False)
        assert tune(pool, connection._TUNING)
        protocol, _ = connect(pool)
        with monkeypatch.context() as context:
            # Otherwise Twisted's own attribute, inherited from the parent class, would be found.
            context.setattr(HTTPClientParser, name, None)
            ask(protocol)
        assert name not in vars(protocol._parser)

    def test_head_without_fields(self) -> None:
        """
        If the parser has no connection header fields, Twisted reads the head unchanged.
        """
        pool = HTTPConnectionPool(Clock(), persistent=False)
        tune(pool, connection._TUNING)
        protocol, _ = connect(pool)
        outcome = ask(protocol)
        protocol._parser.headers, protocol._parser.connHeaders = Headers(), {}
        protocol._parser.allHeadersReceived.func(
            protocol._parser, lambda: outcome.append("Twisted has read them")
        )
        assert outcome == ["Twisted has read them"]

    def test_large_head_without_give_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A head that is too large ends the connection even if the private name to give up a connection is
        missing.
        """
        pool = HTTPConnectionPool(Clock(), persistent=False)
        tune(pool, connection._TUNING)
        factory: Any = pool._factory(lambda _: None, "")

        class Renamed(type(connect(pool)[0])):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> Any:
                if name == "_giveUp":
                    raise AttributeError(name)
                return super().__getattribute__(name)

        monkeypatch.setattr("twisted.web.client.HTTP11ClientProtocol", Renamed)
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        outcome = ask(protocol)
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20_000)
        assert transport.disconnecting
        protocol.connectionLost(Failure(ConnectionLost()))
        assert isinstance(outcome[0], Failure)


class ChunkDecoderTests:
    @pytest.mark.parametrize("size", [1, 4, 7, 100])
    def test_not_as_expected(self, size: int) -> None:
        """
        If Twisted's chunk decoder is not as expected, it decodes all bytes itself.
        """
        body: list[bytes] = []
        rest: list[bytes] = []
        decoder = Decoder(_ChunkedTransferDecoder, body.append, rest.append)
        decoder._twisted._is_as_expected = False
        for start in range(0, len(STREAM), size):
            decoder.dataReceived(STREAM[start : start + size])
        assert b"".join(body) == b"abc" * 5
        assert rest == [b""]

    def test_unknown_length(self) -> None:
        """
        If the length of a chunk is unknown, Twisted's decoder finishes the chunk and the rest of the read.
        """
        body: list[bytes] = []
        decoder = Decoder(_ChunkedTransferDecoder, body.append, body.append)
        decoder.dataReceived(STREAM[:4])
        inner: Any = decoder._twisted._decoder
        whole = inner.dataReceived

        def feed(data: bytes) -> None:
            inner.length = 2
            whole(data)

        inner.length = None
        inner.dataReceived = feed
        decoder.dataReceived(STREAM[4:])
        assert b"".join(body) == b"abc" * 5

    @pytest.mark.parametrize("name", ["state", "_buffer", "_start"])
    def test_missing_name(self, name: str) -> None:
        """
        The chunk decoder checks each private name of Twisted's decoder.
        """

        class Odd:
            state = "CHUNK_LENGTH"
            _start = 0

            def __init__(self, *_: Any) -> None:
                self._buffer = bytearray()
                setattr(self, name, None)

        assert not ChunkDecoder(Odd, print, print)._is_as_expected
        assert ChunkDecoder(_ChunkedTransferDecoder, print, print)._is_as_expected


class ErrorTests:
    def test_malformed(self) -> None:
        """
        Errors of Twisted's parsers, and of subclasses of these errors, are recognized by their names.
        """
        for error in (ParseError("a", b"b"), BadResponseVersion("a", b"b"), _MalformedChunkedDataError()):
            assert is_malformed(error)
        assert not is_malformed(ValueError())


class CutTests:
    def test_transport_below_the_proxy_object(self) -> None:
        """
        Aborting a response aborts the transport below Twisted's proxy object; without that transport, the
        proxy closes it.
        """
        calls: list[str] = []
        below = SimpleNamespace(abortConnection=lambda: calls.append("abort"))
        cut(SimpleNamespace(_producer=below, loseConnection=lambda: calls.append("lose")))
        cut(SimpleNamespace(loseConnection=lambda: calls.append("lose")))
        cut(SimpleNamespace(_producer=None, loseConnection=lambda: calls.append("lose")))
        assert calls == ["abort", "lose", "lose"]

"""
Tests of the readers of bodies.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from txsse.web.body import BodyReader, BodyTooLarge, read_content

LIMIT = 10


class Response:
    """
    A response whose body a test delivers.
    """

    def __init__(self, early: bytes = b"") -> None:
        self.early = early
        self.aborted = 0

    def deliverBody(self, protocol: Any) -> None:  # noqa: N802
        self.protocol = protocol
        protocol.makeConnection(self)
        if self.early:
            protocol.dataReceived(self.early)

    def abortConnection(self) -> None:
        self.aborted += 1
        # Twisted does the same.
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def end(self, error: Exception) -> None:
        self.protocol.connectionLost(Failure(error))


def read(response: Response) -> tuple[BodyReader, list[Any]]:
    reader = BodyReader(LIMIT)
    results: list[Any] = []
    reading = reader.read(cast(Any, response))
    reading.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return reader, results


class ReaderTests:
    @pytest.mark.parametrize("end", [ResponseDone, PotentialDataLoss])
    def test_whole(self, end: type[Exception]) -> None:
        """
        A body may have as many bytes as the limit, with or without a length.
        """
        response = Response(b"12345")
        _, results = read(response)
        response.protocol.dataReceived(b"67890")
        assert results == []
        response.end(end())
        assert (results, response.aborted) == ([b"1234567890"], 0)

    @pytest.mark.parametrize("early", [b"", b"12345", b"12345678901"])
    def test_too_large(self, early: bytes) -> None:
        """
        One byte above the limit aborts the connection, even if it arrives with the head, and further bytes
        are dropped.
        """
        response = Response(early)
        reader, results = read(response)
        response.protocol.dataReceived(b"123456"[: 11 - len(early)] or b"x")
        response.protocol.dataReceived(b"1234567890")
        (error,) = results
        assert isinstance(error, BodyTooLarge) and error.limit == LIMIT
        assert (len(reader.received), response.aborted) == (LIMIT, 1)

    def test_lost(self) -> None:
        """
        If the connection is lost, the reading fails with that reason, and the received bytes are available.
        """
        response = Response(b"123")
        reader, results = read(response)
        response.end(ConnectionLost())
        assert isinstance(results[0], ConnectionLost)
        assert reader.received == b"123"

    def test_no_exception(self) -> None:
        """
        A reason that is not an Exception is reported as ConnectionDone.
        """
        response = Response()
        _, results = read(response)
        response.protocol.connectionLost(Failure(KeyboardInterrupt()))
        assert isinstance(results[0], ConnectionDone)

    def test_cancelled(self) -> None:
        """
        Cancelling the reading aborts the connection, and the loss that follows causes no second error.
        """
        response = Response()
        reader = BodyReader(LIMIT)
        reading: Deferred[Any] = reader.read(cast(Any, response))
        reading.cancel()
        assert response.aborted == 1
        reading.addErrback(lambda failure: failure.trap(CancelledError))


class AbortTests:
    def test_only_loses(self) -> None:
        """
        A transport without abortConnection is closed; without a transport, abort() does nothing.
        """
        closed: list[str] = []

        class Plain:
            def loseConnection(self) -> None:  # noqa: N802
                closed.append("closed")

        reader = BodyReader(LIMIT)
        reader.abort()
        assert closed == []
        reader.transport = Plain()  # type: ignore[assignment]
        reader.abort()
        assert closed == ["closed"]


class ContentTests:
    def test_limit(self) -> None:
        """
        read_content accepts as many bytes as the limit, and reads one byte more of a larger file.
        """
        assert read_content(BytesIO(b"1234567890"), LIMIT) == b"1234567890"
        larger = BytesIO(b"1234567890" * 100)
        with pytest.raises(BodyTooLarge, match="more than 10 bytes"):
            read_content(larger, LIMIT)
        assert larger.tell() == LIMIT + 1

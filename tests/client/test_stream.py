"""
The body of a reply, as the client reads it. Most of its behaviour is tested with the source.
"""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from txsse.client.stream import Reading


class Reader:
    """
    Record the calls.
    """

    def __init__(self) -> None:
        self.brought: list[bytes] = []
        self.ends: list[Exception | None] = []

    def stream_brought(self, reading: Reading, data: bytes) -> None:
        self.brought.append(data)

    def stream_ended(self, reading: Reading, error: Exception | None) -> None:
        self.ends.append(error)

    def stream_resumed(self, reading: Reading) -> None:
        raise AssertionError("nothing was paused")


class ReadingTests:
    def test_after_the_end(self) -> None:
        """
        Bytes that Twisted delivers after the end of a reply's body are dropped.
        """
        reader = Reader()
        reading = Reading(reader)
        reading.dataReceived(b"a")
        reading.connectionLost(Failure(ResponseDone()))
        reading.dataReceived(b"late")
        reading.connectionLost(Failure(ResponseDone()))
        assert (reader.brought, reader.ends) == ([b"a"], [None])

"""
What a client sends behind the request of a stream, while the stream is open.

It may be another request, to be answered on the same connection when the stream has ended. Twisted keeps up
to 80 KB of it for each connection, and reads no further then, so that a client that disconnects is noticed
only when something is sent to it. Here a few KB are kept. A connection with more is read on, its bytes are
dropped, and it closes after the stream.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MAX_DROPPED", "MAX_PIPELINED", "Pipelining"]

#: How many bytes of further requests are kept until the stream ends. No browser pipelines, and most heads are
#: shorter.
MAX_PIPELINED = 4096

#: How many more are dropped, before the connection is aborted.
MAX_DROPPED = 1024 * 1024


class Pipelining:
    """
    Bounds what an HTTP/1.1 connection of Twisted's keeps, from the beginning of a stream to :meth:`stop`.

    :param channel: Twisted's ``HTTPChannel``.
    """

    __slots__ = ("_channel", "_dropped")

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._dropped = 0
        channel.rawDataReceived = self._take
        early = channel._dataBuffer.copy()
        channel._dataBuffer.clear()
        for data in early:
            self._take(data)
        # Twisted may have stopped to read while the stream was about to open.
        channel.transport.resumeProducing()

    def stop(self) -> None:
        """
        Leave the connection to Twisted again.
        """
        del self._channel.rawDataReceived

    def _take(self, data: bytes) -> None:
        channel = self._channel
        kept = channel._dataBuffer
        if not self._dropped and sum(map(len, kept)) + len(data) <= MAX_PIPELINED:
            kept.append(data)
            return
        kept.clear()
        channel.persistent = False
        self._dropped += len(data)
        if self._dropped > MAX_DROPPED:
            channel.transport.abortConnection()

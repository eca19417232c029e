"""
What a client sends behind the request of a stream, while the stream is open.

It may be another request, to be answered on the same connection when the stream has ended. Twisted keeps up
to 80 KB of it for each connection, and reads no further then, so that a client that disconnects is noticed
only when something is sent to it. Here a few KB are kept. A connection with more is read on, its bytes are
dropped, and it closes after the stream.
"""

from __future__ import annotations

from typing import Any

from twisted.web.http import HTTPChannel, Request

from txsse._twisted.http import sent_ahead, set_reader

__all__ = ["MAX_DROPPED", "MAX_PIPELINED", "Pipelining", "bound_pipelining"]

#: How many bytes of further requests are kept until the stream ends. No browser pipelines, and most heads are
#: shorter.
MAX_PIPELINED = 4096

#: How many more are dropped, before the connection is aborted.
MAX_DROPPED = 1024 * 1024


def bound_pipelining(request: Request) -> Pipelining | None:
    """
    Bound what the client of a stream sends behind its request.

    :returns: what ends that; ``None`` over HTTP/2, and where Twisted's connection is not as expected: its own
        bounds hold then.
    """
    channel = request.channel
    if not isinstance(channel, HTTPChannel) or sent_ahead(channel) is None:
        return None
    return Pipelining(channel)


class Pipelining:
    """
    Bounds what an HTTP/1.1 connection of Twisted's keeps, from the beginning of a stream to :meth:`stop`.

    :param channel: Twisted's ``HTTPChannel``, for which :func:`~txsse._twisted.http.sent_ahead` returns a
        list.
    """

    __slots__ = ("_channel", "_dropped")

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._dropped = 0
        set_reader(channel, self._take)
        kept = self._kept
        early = kept.copy()
        kept.clear()
        for data in early:
            self._take(data)
        # Twisted may have stopped to read while the stream was about to open.
        channel.transport.resumeProducing()

    def stop(self) -> None:
        """
        Leave the connection to Twisted again.
        """
        set_reader(self._channel, None)

    @property
    def _kept(self) -> list[bytes]:
        # Twisted makes a new list with each request.
        kept = sent_ahead(self._channel)
        assert kept is not None
        return kept

    def _take(self, data: bytes) -> None:
        kept = self._kept
        if not self._dropped and sum(map(len, kept)) + len(data) <= MAX_PIPELINED:
            kept.append(data)
            return
        kept.clear()
        self._channel.persistent = False
        self._dropped += len(data)
        if self._dropped > MAX_DROPPED:
            self._channel.transport.abortConnection()

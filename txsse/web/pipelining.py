"""
Limits of the data that a client sends after the request of a stream, while the stream is open.

The data may be another request, to be answered on the same connection when the stream has ended. Twisted
keeps up to 80 KB of it per connection, and then stops reading, so that it detects a disconnected client only
when it sends. Here the limit is a few KB. If a client sends more, the connection is read on, the bytes are
dropped, and the connection closes after the stream.
"""

from __future__ import annotations

from twisted.web.http import HTTPChannel, Request

from txsse._twisted.http import sent_ahead, set_reader
from txsse._twisted.tcp import transport_of

__all__ = ["MAX_DROPPED", "MAX_PIPELINED", "Pipelining", "bound_pipelining"]

#: How many bytes of further requests are kept until the stream ends. Browsers do not pipeline, and most heads
#: are shorter.
MAX_PIPELINED = 4096

#: How many further bytes are dropped before the connection is aborted.
MAX_DROPPED = 1024 * 1024


def bound_pipelining(request: Request) -> Pipelining | None:
    """
    Limit the data that the client of a stream sends after its request.

    :returns: an object whose ``stop`` ends the limit; ``None`` over HTTP/2, and if Twisted's connection is
        not as expected: Twisted's own limits apply then.
    """
    channel = request.channel
    if not isinstance(channel, HTTPChannel) or sent_ahead(channel) is None:
        return None
    return Pipelining(channel)


class Pipelining:
    """
    Limits the data that Twisted's HTTP/1.1 connection keeps, from the start of a stream to :meth:`stop`.

    :param channel: Twisted's ``HTTPChannel``, for which :func:`~txsse._twisted.http.sent_ahead` returns a
        list.
    """

    __slots__ = ("_channel", "_dropped")

    def __init__(self, channel: HTTPChannel) -> None:
        self._channel = channel
        self._dropped = 0
        set_reader(channel, self._take)
        kept = self._kept
        early = kept.copy()
        kept.clear()
        for data in early:
            self._take(data)
        # Twisted may have paused reading before the stream opened.
        transport_of(channel).resumeProducing()

    def stop(self) -> None:
        """
        Return the connection to Twisted.
        """
        set_reader(self._channel, None)

    @property
    def _kept(self) -> list[bytes]:
        # Twisted creates a new list for each request.
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
            transport_of(self._channel).abortConnection()

"""
Straight to the socket, past ``Request`` and ``HTTPChannel``.
"""

from __future__ import annotations

from twisted.web.http import Request

from txsse._twisted.tcp import plain_transport, send_now
from txsse.server.peer_timeout import note_error
from txsse.server.sinks.base import Framed, as_chunk
from txsse.server.sinks.request import RequestSink

__all__ = ["DirectSink"]


class DirectSink(RequestSink):
    """
    Write a chunk to the transport, past ``Request`` and ``HTTPChannel``, which would do no more than that;
    and where many get the same and nothing waits to be sent before it, straight to the socket.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._transport = plain_transport(request.channel)

    def write(self, frame: bytes) -> None:
        """
        Send a frame as one chunk.
        """
        if self._request.finished:
            # By somebody else's doing; the request refuses it, while the transport may serve the next one.
            super().write(frame)
        else:
            # What the access log reports as the size of the response.
            self._request.sentLength += len(frame)
            self._transport.write(as_chunk(frame))

    def offer(self, frames: Framed) -> bool:
        """
        Send frames at once, where nothing waits to be sent before them, unless the sink is blocked or takes
        no offers.
        """
        if self.blocked or self._refuses:
            return False
        self.spoke = self._clock.now
        request = self._request
        if request.finished or not send_now(self._transport, frames.chunk, frames.chunk_size, note_error):
            self.write(frames.data)
        else:
            request.sentLength += frames.size
        return True

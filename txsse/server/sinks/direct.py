"""
A sink that bypasses ``Request`` and ``HTTPChannel``, and writes to the transport or the socket.
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
    Writes chunks to the transport, past ``Request`` and ``HTTPChannel``, which would only do the same.

    Frames that go to many clients are sent directly to the socket, if the transport has nothing else to send.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._transport = plain_transport(request.channel)

    def write(self, frame: bytes) -> None:
        """
        Send a frame as one chunk.
        """
        if self._request.finished:
            # Other code has finished it: the request raises an error, while the transport may serve the next
            # request.
            super().write(frame)
        else:
            # The access log reports this as the size of the response.
            self._request.sentLength += len(frame)
            self._transport.write(as_chunk(frame))

    def offer(self, frames: Framed) -> bool:
        """
        Send frames at once, directly to the socket if the transport has nothing else to send.
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

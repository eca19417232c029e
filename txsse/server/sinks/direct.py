"""
Straight to the socket, past ``Request`` and ``HTTPChannel``.
"""

from __future__ import annotations

from typing import Any

from twisted.web.http import Request

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
        channel: Any = request.channel
        self._transport = channel.transport

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

    def _send(self, frames: Framed) -> None:
        """
        Send frames in this very moment, where nothing waits to be sent before them.
        """
        transport = self._transport
        if transport.dataBuffer or transport._tempDataBuffer or self._request.finished:
            self.write(frames.data)
            return
        self._request.sentLength += frames.size
        try:
            sent = transport.socket.send(frames.chunk)
        except OSError as error:
            # The socket is full, or the connection dead, or the system short of buffers: the transport knows
            # what to do.
            note_error(transport.socket, error)
            sent = 0
        if sent < frames.chunk_size:
            transport.write(frames.chunk[sent:])
            # Though its buffer is far from full, it is to tell when it is empty.
            if transport.producer is not None and not transport.producerPaused:
                transport.producerPaused = True
                transport.producer.pauseProducing()

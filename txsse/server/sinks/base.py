"""
The interface between a channel and the connection to its client, and the frames that are sent through it.

Strategy: the upgrade chooses a sink by the transport. Every sink accepts each frame; its ``blocked`` advises
the channel to stop writing, and it calls its owner's ``sink_ready`` when the channel may continue. A frame
written while the sink is blocked is still sent.
"""

from __future__ import annotations

from typing import Protocol

from twisted.python.failure import Failure

__all__ = ["Framed", "Sink", "SinkOwner", "Ticks", "as_chunk"]


class Framed:
    """
    Frames that go to many sinks, encoded once for all of them.

    :ivar data: the frames, concatenated.
    :ivar size: the size of ``data``, in bytes.
    :ivar chunk: the frames as one chunk of HTTP/1.1.
    :ivar chunk_size: the size of ``chunk``, in bytes.
    """

    __slots__ = ("chunk", "chunk_size", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.chunk = as_chunk(data)
        self.chunk_size = len(self.chunk)


def as_chunk(data: bytes) -> bytes:
    """
    Return bytes in the chunked transfer coding.

    Source: https://www.rfc-editor.org/rfc/rfc9112#name-chunked-transfer-coding
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


class SinkOwner(Protocol):
    """
    The object that writes to a sink: a channel.
    """

    def sink_ready(self) -> None:
        """
        Write again: the sink is no longer blocked.
        """

    def request_ended(self, result: Failure | None) -> None:
        """
        Handle the end of the response.

        Only a sink that replaces its request calls this; for the other sinks, ``notifyFinish`` does.
        """


class Ticks(Protocol):
    """
    The part of the keep-alive clock that sinks use.
    """

    @property
    def now(self) -> int:
        """
        The number of the current turn.
        """


class Sink(Protocol):
    """
    The destination of a channel's frames.

    :ivar spoke: the turn of the keep-alive clock in which something was last sent.
    """

    spoke: int

    @property
    def blocked(self) -> bool:
        """
        Whether the client is slow, so that the channel should buffer frames.
        """

    def attach(self, owner: SinkOwner, clock: Ticks) -> None:
        """
        Set the owner to notify when the sink is ready, and the clock whose turn ``spoke`` records.
        """

    def write(self, frame: bytes) -> None:
        """
        Send a frame, even if the sink is blocked.
        """

    def offer(self, frames: Framed) -> bool:
        """
        Send frames that go to many sinks, at the least cost, unless the sink is blocked or refuses offers.

        :returns: whether all frames were accepted; otherwise none was.
        """

    def refuse_offers(self) -> None:
        """
        Refuse offers from now on: the channel is closing, and nothing may follow the frames that it accepted.
        """

    def finish(self) -> None:
        """
        End the response after the frames that were written.
        """

    def abort(self) -> None:
        """
        Abort the stream: frames not yet sent are dropped.
        """

    def detach(self) -> None:
        """
        Forget the owner: the request has ended.
        """

    def poke(self) -> None:
        """
        Check again whether the client accepts more; called when the channel has been silent for long.
        """

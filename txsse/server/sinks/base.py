"""
What a channel knows of the way to its client, whichever it is.

Strategy: a sink is chosen at the upgrade, by what the transport is. Every sink takes each frame, says in
``blocked`` whether it would rather have no more for now, and calls its owner's ``sink_ready`` when it would.
That is advice, not a promise to lose: a frame written while blocked is sent.
"""

from __future__ import annotations

from typing import Protocol

from twisted.python.failure import Failure

__all__ = ["Framed", "Sink", "SinkOwner", "Ticks", "as_chunk"]


class Framed:
    """
    Frames that go to many sinks: what is made of them is made once, for all.

    :ivar data: the frames, one behind the other.
    :ivar size: how many bytes they are.
    :ivar chunk: the frames as one chunk of HTTP/1.1.
    :ivar chunk_size: how many bytes that is.
    """

    __slots__ = ("chunk", "chunk_size", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.chunk = as_chunk(data)
        self.chunk_size = len(self.chunk)


def as_chunk(data: bytes) -> bytes:
    """
    Frame bytes as a chunk.

    Source: https://www.rfc-editor.org/rfc/rfc9112#name-chunked-transfer-coding
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


class SinkOwner(Protocol):
    """
    Who writes to a sink.
    """

    def sink_ready(self) -> None:
        """
        The sink takes frames again.
        """

    def request_ended(self, result: Failure | None) -> None:
        """
        The response has ended. Only a sink that stands for its request calls this; ``notifyFinish`` does
        otherwise.
        """


class Ticks(Protocol):
    """
    What counts time for the keep-alive.
    """

    @property
    def now(self) -> int:
        """
        The number of the turn.
        """


class Sink(Protocol):
    """
    Where a channel's frames go.

    :ivar spoke: the turn of the keep-alive's clock at which something was sent last.
    """

    spoke: int

    @property
    def blocked(self) -> bool:
        """
        Whether the client is behind, so that frames are better held back.
        """

    def attach(self, owner: SinkOwner, clock: Ticks) -> None:
        """
        Begin to tell an owner when the sink becomes ready.
        """

    def write(self, frame: bytes) -> None:
        """
        Send a frame.
        """

    def offer(self, frames: Framed) -> bool:
        """
        Send what many others are sent too, at the least cost, unless the sink is blocked or takes no offers.

        :returns: whether it was taken: all of it, or nothing.
        """

    def refuse_offers(self) -> None:
        """
        Take none any more: the channel is about to end, behind what it was sent before.
        """

    def finish(self) -> None:
        """
        End the response behind what was written.
        """

    def abort(self) -> None:
        """
        Cut the stream off, whatever waits to be sent.
        """

    def detach(self) -> None:
        """
        Forget the owner: the request has ended.
        """

    def poke(self) -> None:
        """
        Look again, where the sink was blocked for long.
        """

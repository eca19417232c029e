"""
A writer for HTTP/2 streams that sends no more than the client's flow-control windows allow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from txsse._twisted.http2 import Http2Stream

__all__ = ["Http2Writer"]

# How many bytes are kept for one stream before it counts as blocked: the same as a TCP transport's own buffer
# (``abstract.FileDescriptor.bufferSize``), so that a slow reader is detected at the same point.
_HTTP2_BUFFER = 65536

# How many bytes are handed over at once: the one frame that the connection sends per turn of the reactor.
# More would wait in Twisted's queue, where a client that changes its settings may close the window.
_HTTP2_PIECE = 16384


@implementer(IPushProducer)
class Http2Writer:
    """
    Writes to a stream of an HTTP/2 connection, one piece at a time.

    Twisted queues whatever is written to a stream. If the flow-control windows are closed, its sending loop
    spins until they open, and uses a whole processor; if a client sets windows of 2 GiB and then does not
    read, the queue grows to that size. So this writer keeps the data, hands over one piece that the windows
    allow, and the next one when that has been sent. It is blocked while it keeps more than a TCP transport
    would.

    Each event that may open a window only schedules a check in the next turn of the reactor, when Twisted has
    processed the whole packet: h2 knows of a reset in it before Twisted does.

    The writer is the request's producer, or its owner passes ``resumeProducing`` on to it.

    :param stream: the stream.
    :param hand_over: called with each piece, to write it to the request.
    :param emptied: called when no data is kept any more, in a turn of the reactor of its own.
    :ivar blocked: whether it keeps more than a TCP transport would.
    """

    def __init__(
        self, stream: Http2Stream, hand_over: Callable[[bytes], object], emptied: Callable[[], object]
    ) -> None:
        self.blocked = False
        self._stream = stream
        self._hand_over = hand_over
        self._emptied = emptied
        self._kept: deque[bytes | memoryview] = deque()
        self._kept_size = 0
        # The scheduled check, and whether one is scheduled or an event from the client is awaited.
        self._call: IDelayedCall | None = None
        self._waiting = False

    @property
    def kept(self) -> int:
        """
        How many bytes are kept until the client's windows allow them.
        """
        return self._kept_size

    def write(self, data: bytes) -> None:
        """
        Send bytes, or keep them until a window opens.
        """
        self._kept.append(data)
        self._kept_size += len(data)
        if self._kept_size > _HTTP2_BUFFER:
            self.blocked = True
        if not self._waiting:
            self._push()

    def stop(self) -> None:
        """
        Drop the kept data; the writer does nothing afterwards.
        """
        self._drop()
        # The callbacks refer to the owner: together they would be a cycle of references.
        self._hand_over = self._emptied = _do_nothing
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def stop_and_call_soon(self, call: Callable[[], object]) -> None:
        """
        Drop the kept data, and schedule a call in the next turn, unless :meth:`stop` is called before.
        """
        # With no data kept, no other event schedules a check, which would replace this call.
        self._drop()

        def run() -> None:
            self._call = None
            call()

        self._wake(run)

    def _drop(self) -> None:
        self._kept.clear()
        self._kept_size = 0

    def poke(self) -> None:
        """
        Schedule a check of the windows.

        Twisted sends no notification when the client's settings enlarge a window.
        """
        if self._kept:
            self._wake(self._look)

    def pauseProducing(self) -> None:
        """
        Do nothing: the writer knows that the window is used up.
        """

    def resumeProducing(self) -> None:
        """
        Schedule a check: a window has opened.
        """
        self.poke()

    def stopProducing(self) -> None:
        """
        Do nothing: ``notifyFinish`` reports the lost connection.
        """

    def _wake(self, then: Callable[[], object]) -> None:
        """
        Schedule a call in the next turn of the reactor, in place of any other.
        """
        if self._call is not None:
            self._call.cancel()
        self._waiting = True
        self._call = self._stream.call_soon(then)

    def _look(self) -> None:
        self._call = None
        self._waiting = False
        self._push()
        if not self._kept:
            self.blocked = False
            self._emptied()

    def _push(self) -> None:
        """
        Hand over the next piece, and schedule a check for the rest.
        """
        stream = self._stream
        if stream.call_when_transport_ready(self.poke):
            self._waiting = True
            return
        window = stream.window
        room = 0
        if window > 0 and not stream.has_queued:
            room = min(window, _HTTP2_PIECE, stream.shared_window)
        if room > 0:
            piece = self._take(room)
            stream.promise(len(piece))
            self._hand_over(piece)
        if not self._kept:
            return
        if window > 0:
            self._wake(self._look)
        else:
            # The connection calls resumeProducing when the client opens a window.
            self._waiting = True
            stream.wait_for_window()

    def _take(self, size: int) -> bytes:
        """
        Remove and return at most so many kept bytes.
        """
        taken: list[bytes | memoryview] = []
        while self._kept and size:
            frame = self._kept.popleft()
            if len(frame) > size:
                # A view: copying the rest of a large frame for each of its pieces would be quadratic work.
                self._kept.appendleft(memoryview(frame)[size:])
                frame = frame[:size]
            taken.append(frame)
            size -= len(frame)
            self._kept_size -= len(frame)
        return b"".join(taken)


def _do_nothing(*_: object) -> None:
    """
    Replace the callbacks of a writer that has stopped.
    """

"""
Writing to a stream of HTTP/2 as far as the client's windows let it through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from txsse._twisted.http2 import Http2Stream

__all__ = ["Http2Writer"]

# How many bytes are kept for one stream of HTTP/2 before it counts as blocked. The same as a TCP transport's
# own buffer (``abstract.FileDescriptor.bufferSize``), so that a slow reader is noticed at the same point.
_HTTP2_BUFFER = 65536

# How much is handed over at once: the one frame that the connection sends in a turn of the reactor. What
# waits longer may find its window closed, by a client that changes its settings.
_HTTP2_PIECE = 16384


@implementer(IPushProducer)
class Http2Writer:
    """
    Writes to a stream of an HTTP/2 connection, one piece at a time.

    Twisted queues whatever is written to a stream. Where the flow-control windows do not let it through, its
    sending loop spins until they do, at the cost of a processor; where they do, because the client asked for
    windows of 2 GiB and then does not read, the queue grows as large. So this keeps what is written, hands
    over a piece that the windows let through, and the next one when that has left. It is blocked when it
    keeps more than a TCP transport would.

    Whatever wakes it only makes it look in the next turn of the reactor, when Twisted has dealt with all that
    a packet brought: h2 knows of a reset in it before Twisted does.

    It, or what passes ``resumeProducing`` on to it, is the producer of the request.

    :param stream: the stream.
    :param hand_over: called with each piece, to write it to the request.
    :param emptied: called when nothing is kept any more, in a turn of its own.
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
        # What is to wake it: nothing, a turn of the reactor, or something that comes from the client.
        self._call: IDelayedCall | None = None
        self._waiting = False

    @property
    def kept(self) -> int:
        """
        How many bytes wait for the client to let them through.
        """
        return self._kept_size

    def write(self, data: bytes) -> None:
        """
        Send bytes, or keep them.
        """
        self._kept.append(data)
        self._kept_size += len(data)
        if self._kept_size > _HTTP2_BUFFER:
            self.blocked = True
        if not self._waiting:
            self._push()

    def stop(self) -> None:
        """
        Drop what is kept, and do nothing any more.
        """
        self._drop()
        # With them, it would be a cycle of references.
        self._hand_over = self._emptied = _do_nothing
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def stop_and_call_soon(self, call: Callable[[], object]) -> None:
        """
        Drop what is kept, and call something in the next turn, unless :meth:`stop` is called before.
        """
        # With nothing kept nothing else wakes it, which would take the place of this call.
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
        Look whether the client lets more through: Twisted does not notify when it enlarges a window by its
        settings.
        """
        if self._kept:
            self._wake(self._look)

    def pauseProducing(self) -> None:
        """
        The window is used up. What is kept shows that.
        """

    def resumeProducing(self) -> None:
        """
        A window is open again.
        """
        self.poke()

    def stopProducing(self) -> None:
        """
        The connection is gone; ``notifyFinish`` is what notifies.
        """

    def _wake(self, then: Callable[[], object]) -> None:
        """
        Do something in the next turn, in the place of whatever was to be done then.
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
        Hand over the next piece, and arrange for a look at the rest.
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
            # Has the connection call resumeProducing when the client opens a window.
            self._waiting = True
            stream.wait_for_window()

    def _take(self, size: int) -> bytes:
        """
        Take as much of what is kept.
        """
        taken: list[bytes | memoryview] = []
        while self._kept and size:
            frame = self._kept.popleft()
            if len(frame) > size:
                # A view, because copying the rest of a large frame for each of its pieces is quadratic work.
                self._kept.appendleft(memoryview(frame)[size:])
                frame = frame[:size]
            taken.append(frame)
            size -= len(frame)
            self._kept_size -= len(frame)
        return b"".join(taken)


def _do_nothing(*_: object) -> None:
    """
    Stand in for the callbacks of a writer that has stopped.
    """

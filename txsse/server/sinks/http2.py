"""
Where frames go over HTTP/2.

What no interface of Twisted's promises is used here more than anywhere else: its queues, its windows, and
whether its transport is full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakKeyDictionary

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.http import Request

from txsse.server.sinks.request import RequestSink

try:
    from h2.exceptions import ProtocolError
except ImportError:

    class ProtocolError(Exception):  # type: ignore[no-redef]
        """
        Never raised: without h2 there is no HTTP/2.
        """


__all__ = ["Http2Sink", "reset", "was_reset"]

# How many bytes are kept for one stream of HTTP/2 before it counts as blocked. The same as a TCP transport's
# own buffer (``abstract.FileDescriptor.bufferSize``), so that a slow reader is noticed at the same point.
_HTTP2_BUFFER = 65536

# How much is handed over at once: the one frame that the connection sends in a turn of the reactor. What
# waits longer may find its window closed, by a client that changes its settings.
_HTTP2_PIECE = 16384


class Http2Sink(RequestSink):
    """
    Write to a stream of an HTTP/2 connection, one piece at a time.

    Twisted queues whatever is written to a stream. Where the flow-control windows do not let it through, its
    sending loop spins until they do, at the cost of a processor; where they do, because the client asked for
    windows of 2 GiB and then does not read, the queue grows as large. So this sink keeps the frames, hands
    over a piece that the windows let through, and the next one when that has left. It is blocked when it
    keeps more than a TCP transport would.

    Whatever wakes it only makes it look in the next turn of the reactor, when Twisted has dealt with all that
    a packet brought: h2 knows of a reset in it before Twisted does.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._kept: deque[bytes | memoryview] = deque()
        self._kept_size = 0
        self._finishing = False
        # What is to wake it: nothing, a turn of the reactor, or something that comes from the client.
        self._call: IDelayedCall | None = None
        self._waiting = False
        self._stream = cast(Any, request.channel)
        self._id: int = self._stream.streamID
        self._connection: Any = self._stream._conn
        self._pieces = _pieces.setdefault(self._connection, {})

    @property
    def kept(self) -> int:
        """
        How many bytes wait for the client to let them through.
        """
        return self._kept_size

    def write(self, frame: bytes) -> None:
        """
        Send a frame, or keep it.
        """
        self._kept.append(frame)
        self._kept_size += len(frame)
        if self._kept_size > _HTTP2_BUFFER:
            self.blocked = True
        if not self._waiting:
            self._push()

    def finish(self) -> None:
        """
        End the response, once everything that is kept has gone.
        """
        if self._kept:
            self._finishing = True
        else:
            self._end()

    def _end(self) -> None:
        super().finish()

    def abort(self) -> None:
        """
        Reset the stream in the next turn; the connection and its other streams go on.
        """
        # With nothing kept there is nothing to be woken for, which would take the place of this.
        self._kept.clear()
        # As a TCP transport does it: whoever sends to many must not see one of them end in the middle.
        self._wake(self._abort)

    def _abort(self) -> None:
        self._call = None
        reset(self._request)

    def detach(self) -> None:
        """
        Forget the owner.
        """
        super().detach()
        self._kept.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def poke(self) -> None:
        """
        Look whether the client lets more through: Twisted does not tell when it enlarges a window by its
        settings.
        """
        if self._kept:
            self._wake(self._look)

    def pauseProducing(self) -> None:
        """
        The window is used up. What is kept tells enough.
        """

    def resumeProducing(self) -> None:
        """
        A window is open again.
        """
        if self._owner is not None and self._kept:
            self._wake(self._look)

    def _wake(self, then: Callable[[], None]) -> None:
        """
        Do something in the next turn, in the place of whatever was to be done then.
        """
        if self._call is not None:
            self._call.cancel()
        self._waiting = True
        self._call = self._connection._reactor.callLater(0, then)

    def _look(self) -> None:
        self._call = None
        self._waiting = False
        self._push()
        if self._kept:
            return
        if self._finishing:
            self._end()
        elif self.blocked:
            self.blocked = False
            self._ready()

    def _push(self) -> None:
        """
        Hand over the next piece, and arrange for a look at the rest.
        """
        connection = self._connection
        if connection._consumerBlocked is not None:
            self._waiting = True
            connection._consumerBlocked.addCallback(lambda _: self.resumeProducing())
            return
        window = self._window()
        room = 0
        if window > 0 and not connection._outboundStreamQueues.get(self._id):
            room = min(window, _HTTP2_PIECE, self._shared_window())
        if room > 0:
            piece = self._take(room)
            self._pieces[self._id] = len(piece)
            self._hand_over(piece)
        if not self._kept:
            return
        if window > 0:
            self._wake(self._look)
        else:
            # Has the connection call resumeProducing when the client opens a window.
            self._waiting = True
            self._stream.flowControlBlocked()

    def _hand_over(self, piece: bytes) -> None:
        self._request.write(piece)

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

    def _window(self) -> int:
        """
        How much the client lets through, on this stream and on the connection.
        """
        try:
            return int(self._connection.conn.local_flow_control_window(self._id))
        except ProtocolError:
            # The stream was reset, and Twisted is about to tell.
            return 0

    def _shared_window(self) -> int:
        """
        How much of the connection's window is not promised to pieces of other streams.
        """
        queues = self._connection._outboundStreamQueues
        for each in [each for each in self._pieces if not queues.get(each)]:
            del self._pieces[each]
        window = self._connection.conn.outbound_flow_control_window
        return int(window - sum(self._pieces.values()))


def reset(request: Request) -> None:
    """
    Reset the stream of a request; the connection and its other streams go on.
    """
    stream: Any = request.channel
    try:
        stream.abortConnection()
    except ProtocolError:
        # The connection is at its end already, with a client that does not read that either.
        stream._conn.transport.abortConnection()
    # Twisted notifies a request of a reset by the client alone.
    request.connectionLost(Failure(ConnectionAborted()))


def was_reset(request: Request) -> bool:
    """
    Tell whether the client has reset the stream of a request, and Twisted has not noticed yet: h2 reads all
    of a packet first, and to write to such a stream raises.
    """
    if request.clientproto != b"HTTP/2":
        return False
    stream: Any = request.channel
    try:
        stream._conn.conn.local_flow_control_window(stream.streamID)
    except ProtocolError:
        return True
    return False


# The pieces that stand in the queues of each connection, by stream.
_pieces: WeakKeyDictionary[Any, dict[int, int]] = WeakKeyDictionary()

"""
Access to the streams of Twisted's HTTP/2 connections: flow-control windows, send queues, resets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.http import Request

try:
    from h2.exceptions import ProtocolError
except ImportError:

    class ProtocolError(Exception):  # type: ignore[no-redef]
        """
        Never raised: without h2 there is no HTTP/2.
        """


__all__ = ["Http2Stream", "head_of", "reset", "stream_of", "was_reset"]

# The sizes of the pieces in the send queues of each connection, by the ID of the stream.
_pieces: WeakKeyDictionary[Any, dict[int, int]] = WeakKeyDictionary()


def stream_of(request: Request) -> Http2Stream | None:
    """
    Return the HTTP/2 stream of a request; ``None`` if Twisted's objects are not as expected.
    """
    stream: Any = request.channel
    connection: Any = getattr(stream, "_conn", None)
    h2: Any = getattr(connection, "conn", None)
    if (
        hasattr(stream, "streamID")
        and hasattr(stream, "flowControlBlocked")
        and hasattr(connection, "_consumerBlocked")
        and isinstance(getattr(connection, "_outboundStreamQueues", None), dict)
        and hasattr(getattr(connection, "_reactor", None), "callLater")
        and isinstance(getattr(h2, "streams", None), dict)
        and hasattr(h2, "local_flow_control_window")
        and hasattr(h2, "outbound_flow_control_window")
    ):
        return Http2Stream(stream)
    return None


class Http2Stream:
    """
    An HTTP/2 stream. Use :func:`stream_of` to make one: it checks that Twisted's objects are as expected.
    """

    __slots__ = ("_connection", "_id", "_pieces", "_stream")

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._id: int = stream.streamID
        self._connection: Any = stream._conn
        self._pieces = _pieces.setdefault(self._connection, {})

    def call_soon(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Call a function in the next turn of the connection's reactor.
        """
        made: IDelayedCall = self._connection._reactor.callLater(0, call)
        return made

    def call_when_transport_ready(self, call: Callable[[], object]) -> bool:
        """
        Call a function when the connection's transport accepts data again.

        :returns: ``False`` if the transport accepts data now; then the function is not called.
        """
        blocked = self._connection._consumerBlocked
        if blocked is None:
            return False
        blocked.addCallback(lambda _: call())
        return True

    @property
    def has_queued(self) -> bool:
        """
        Whether the stream's send queue has data.
        """
        return bool(self._connection._outboundStreamQueues.get(self._id))

    @property
    def window(self) -> int:
        """
        How many bytes the client's flow control allows, on this stream and on the connection.
        """
        try:
            return int(self._connection.conn.local_flow_control_window(self._id))
        except ProtocolError:
            # The stream was reset, and Twisted is about to notify.
            return 0

    @property
    def is_reset(self) -> bool:
        """
        Whether h2 has closed the stream. h2 forgets a closed stream only when the next one opens.
        """
        stream = self._connection.conn.streams.get(self._id)
        return stream is None or bool(stream.closed)

    @property
    def shared_window(self) -> int:
        """
        How many bytes of the connection's window are left, less the queued pieces of all streams.
        """
        queues = self._connection._outboundStreamQueues
        for each in [each for each in self._pieces if not queues.get(each)]:
            del self._pieces[each]
        window = self._connection.conn.outbound_flow_control_window
        return int(window - sum(self._pieces.values()))

    def promise(self, size: int) -> None:
        """
        Record that a piece of ``size`` bytes is about to be queued for the stream.
        """
        self._pieces[self._id] = size

    def wait_for_window(self) -> None:
        """
        Make Twisted resume the stream's producer when the client extends the window.
        """
        self._stream.flowControlBlocked()


def head_of(channel: Any) -> tuple[bytes, bytes, bytes] | None:
    """
    Return method, path and version of the request of a stream; ``None`` if Twisted lacks these attributes.
    """
    try:
        return channel.command, channel.path, b"HTTP/2"
    except AttributeError:
        return None


def reset(request: Request) -> None:
    """
    Reset the stream of a request; the connection and its other streams stay open.
    """
    stream: Any = request.channel
    try:
        stream.abortConnection()
    except ProtocolError:
        # The connection is closing already, and its client does not read the rest of it.
        connection: Any = getattr(stream, "_conn", None)
        if connection is not None:
            connection.transport.abortConnection()
    # Twisted notifies a request only of a reset by the client.
    request.connectionLost(Failure(ConnectionAborted()))


def was_reset(request: Request) -> bool:
    """
    Return whether the client has reset the stream of a request, and Twisted has not processed that yet.

    h2 parses a whole packet before Twisted processes it. Writing to a reset stream meanwhile raises.
    """
    if request.clientproto != b"HTTP/2":
        return False
    stream = stream_of(request)
    return stream is not None and stream.is_reset

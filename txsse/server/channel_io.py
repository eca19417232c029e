"""
The inside of a channel: what its sink, its clocks and a hub call.

Strategy: a frame goes to the sink while the sink takes it, and to the buffer while it does not; the overflow
policy decides when the buffer is full. A channel is *open* until its end is wanted; then *closing* while the
buffer is flushed; and *closed* once the request has ended, which ``notifyFinish`` reports, whatever
the cause. Only then the channel cleans up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import TCPTimedOutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._randomness import randomness_of
from txsse._threads import check_thread, get_ident, refuse, threadable
from txsse._waiters import Waiters
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.encoder import encode_comment
from txsse.server.channel_options import ChannelOptions
from txsse.server.keepalive import KeepaliveClock, NoKeepalive
from txsse.server.request import StreamRequest
from txsse.server.sinks.base import Framed, Sink
from txsse.server.slow import POLICIES

__all__ = ["ChannelIO", "ChannelState", "ChannelWatcher"]

_log = Logger()

_KEEPALIVE = Framed(encode_comment(""))

# A stream ends after 80 to 100 % of its max_lifetime, so that clients that came together do not all come
# back together.
_LIFETIME_JITTER = 0.8


class ChannelState(Enum):
    """
    The states of a channel, in their order.
    """

    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


# What says no more than that the stream has ended. When the reactor stops, that is the reason.
_PLAIN_REASONS = frozenset([CloseReason.CLIENT_GONE, CloseReason.SERVER_CLOSED])


def _reason_of(result: Failure | None) -> CloseReason:
    if not isinstance(result, Failure):
        return CloseReason.SERVER_CLOSED
    return CloseReason.PEER_TIMEOUT if result.check(TCPTimedOutError) else CloseReason.CLIENT_GONE


class ChannelWatcher(Protocol):
    """
    An object that is notified of the end of a channel: lighter than a Deferred of
    :meth:`txsse.SSEChannel.when_closed`, for as many channels as a hub has.
    """

    def channel_closed(self, channel: ChannelIO) -> None:
        """
        The channel has ended. The Deferreds of ``when_closed`` fire after this call.
        """


class ChannelIO:
    """
    The inside of an :class:`~txsse.SSEChannel`, which is the same object: there may be a hundred thousand
    channels, and a second object each would take memory.

    :ivar request: see :class:`~txsse.SSEChannel`.
    :ivar last_event_id: see :class:`~txsse.SSEChannel`.
    :ivar close_reason: see :class:`~txsse.SSEChannel`.
    :ivar slot: the keep-alive clock's slot.
    :ivar watcher: is notified of the end before all others; ``None`` for no watcher.
    """

    # There may be a hundred thousand, so no dictionary for each, unless somebody keeps things on a channel.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_buffer",
        "_flush",
        "_keepalive",
        "_leave",
        "_lifetime",
        "_options",
        "_sink",
        "_state",
        "_turn",
        "_when_closed",
        "_when_ready",
        "close_reason",
        "last_event_id",
        "request",
        "slot",
        "watcher",
    )

    def __init__(
        self,
        request: StreamRequest,
        sink: Sink,
        *,
        last_event_id: str,
        keepalive: KeepaliveClock | NoKeepalive,
        options: ChannelOptions,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self.request = request
        self.last_event_id = last_event_id
        self.close_reason: CloseReason | None = None
        self.slot = 0
        self._state = ChannelState.OPEN
        self._sink = sink
        self._buffer = (options.slow_policy or POLICIES["close"]).new_buffer(options.budget)
        self._keepalive = keepalive
        self._options = options
        self._when_closed: Waiters[CloseReason] | None = None
        self._when_ready: Waiters[None] | None = None
        self.watcher: ChannelWatcher | None = None
        self._leave = leave
        self._lifetime: IDelayedCall | None = None
        self._flush: IDelayedCall | None = None
        self._turn: IDelayedCall | None = None
        if options.max_lifetime is not None:
            self._lifetime = options.reactor.callLater(
                options.max_lifetime * randomness_of(options.reactor).uniform(_LIFETIME_JITTER, 1),
                self.close,
                reason=CloseReason.MAX_LIFETIME,
            )
        sink.attach(self, keepalive)
        keepalive.add(self)
        options.shutdown.channel_opened()

    def __repr__(self) -> str:
        peer = self.request.client
        return f"<SSEChannel {self.request.path!r} of {peer} {self._state.name.lower()}>"

    @property
    def reactor(self) -> IReactorTime:
        """
        The reactor that the channel lives in.
        """
        return self._options.reactor

    @property
    def sink(self) -> Sink:
        """
        Where its frames go.
        """
        return self._sink

    @property
    def spoke(self) -> int:
        """
        The turn of the keep-alive's clock at which something was sent last.
        """
        return self._sink.spoke

    @spoke.setter
    def spoke(self, turn: int) -> None:
        self._sink.spoke = turn

    @property
    def is_open(self) -> bool:
        """
        Whether frames can be sent.
        """
        return self._state is ChannelState.OPEN

    @property
    def _is_closed(self) -> bool:
        return self._state is ChannelState.CLOSED

    @property
    def is_slow(self) -> bool:
        """
        Whether the client is behind, so that frames are held back.
        """
        return self._sink.blocked or self._buffer.size > 0

    @property
    def replays_when_slow(self) -> bool:
        """
        Whether a hub buffers nothing for a slow client, and replays from its journal.
        """
        policy = self._options.slow_policy
        return policy is None or policy.replays

    def sink_ready(self) -> None:
        """
        Send what was held back. The sink calls this when the client has caught up.
        """
        while not self._sink.blocked:
            frame = self._buffer.take()
            if frame is None:
                break
            self._write(frame)
        if self.is_slow:
            return
        if self._state is ChannelState.CLOSING:
            self._sink.finish()
        else:
            self._tell_ready()

    def keepalive_due(self) -> None:
        """
        Send a comment. The clock calls this after an interval of silence.
        """
        self._sink.poke()
        # A client that is behind has bytes on their way to it, which serve the purpose.
        self._sink.offer(_KEEPALIVE)

    def offer(self, frames: Framed) -> bool:
        """
        Send frames that many channels are sent, unless the client is behind.

        :param frames: the frames.
        :returns: whether they were taken, all of them or none.
        """
        # With frames held back, the sink is blocked.
        return self._sink.offer(frames)

    def send_frame(self, frame: bytes, key: Hashable, mark: object = None) -> None:
        """
        Send a frame.

        :param frame: the frame.
        :param key: what it is about: where the policy for slow readers is ``latest``, a newer frame of the
            same key stands for this one.
        :param mark: what :meth:`withdraw` is to know the frame by; ``None`` for a frame that stays.
        :raises ChannelClosed: as :meth:`send` does.
        """
        if get_ident() != threadable.ioThread:
            refuse(self.reactor, "channel.send")
        if self._state is not ChannelState.OPEN:
            raise self._closed_error()
        if not self.is_slow:
            self._write(frame)
        elif not self._buffer.put(key, frame, mark):
            _log.info(
                "{channel} closes: the client reads too slowly, {buffered} bytes were held back",
                channel=repr(self),
                buffered=self._buffer.size,
            )
            self.abort(reason=CloseReason.SLOW_READER)
            raise self._closed_error()

    def withdraw(self, chosen: Callable[[Any], bool]) -> None:
        """
        Take back frames that the channel holds back. What has left it for the transport is out of reach.

        :param chosen: called with the mark of each frame that has one, oldest frame first; returns whether
            the frame is taken back.
        """
        self._buffer.withdraw(chosen)

    def _write(self, frame: bytes) -> None:
        self._sink.spoke = self._keepalive.now
        self._sink.write(frame)

    def _turn_over(self) -> None:
        self._turn = None
        self._tell_ready()

    def _tell_ready(self) -> None:
        # One who is told may send so much that the others have to go on waiting.
        if self._when_ready is not None:
            self._when_ready.fire(None, unless=lambda: self.is_slow)

    def _reason(self, reason: CloseReason) -> CloseReason:
        if self._options.shutdown.stopping and reason in _PLAIN_REASONS:
            return CloseReason.SHUTDOWN
        return reason

    def _closed_error(self) -> ChannelClosed:
        return ChannelClosed(self.close_reason or CloseReason.CLIENT_GONE)

    def _begin_to_close(self, reason: CloseReason) -> None:
        self._state = ChannelState.CLOSING
        self.close_reason = self._reason(reason)
        self._sink.refuse_offers()
        self._keepalive.remove(self)
        for call in (self._lifetime, self._turn):
            if call is not None and call.active():
                call.cancel()
        self._lifetime = self._turn = None
        if self._when_ready is not None:
            self._when_ready.fail(self._closed_error())

    def close(self, *, reason: CloseReason = CloseReason.SERVER_CLOSED) -> None:
        """
        End the stream behind what was accepted. It returns at once, and does nothing on a channel that
        closes already; :meth:`when_closed` tells when the end is there.

        A browser reconnects after a stream that ended. To stop it for good, answer that request with 204.

        :param reason: what :attr:`close_reason` is to say.
        """
        check_thread(self.reactor, "channel.close")
        if self._state is not ChannelState.OPEN:
            return
        self._begin_to_close(reason)
        if not self.is_slow:
            self._sink.finish()
        if not self._is_closed:
            self._flush = self.reactor.callLater(self._options.flush_timeout, self._give_up_flushing)

    def when_closed(self) -> Deferred[CloseReason]:
        """
        Wait for the end of the stream, whoever brings it about.

        :returns: a Deferred that fires with the :class:`txsse.errors.CloseReason`, at once where the
            channel is closed already, and never fails.
        """
        check_thread(self.reactor, "channel.when_closed")
        if self._state is ChannelState.CLOSED:
            return succeed(self._closed_error().reason)
        if self._when_closed is None:
            self._when_closed = Waiters()
        return self._when_closed.wait()

    def abort(self, *, reason: CloseReason = CloseReason.SERVER_CLOSED) -> bool:
        """
        Cut the stream off, whatever waits to be sent.

        :param reason: what :attr:`close_reason` is to say.
        :returns: whether there was something to cut off: not where the channel has ended.
        """
        check_thread(self.reactor, "channel.abort")
        if self._state is ChannelState.CLOSED:
            return False
        if self._state is ChannelState.OPEN:
            self._begin_to_close(reason)
        self.close_reason = self._reason(reason)
        self._buffer.clear()
        self._sink.abort()
        return True

    def _give_up_flushing(self) -> None:
        self._flush = None
        _log.info(
            "{channel} is cut off: the client left {buffered} bytes unread",
            channel=repr(self),
            buffered=self._buffer.size,
        )
        self.abort(reason=CloseReason.FLUSH_TIMEOUT)

    def request_ended(self, result: Failure | None) -> None:
        """
        Clean up. The upgrader has ``notifyFinish`` call this, once.

        :param result: why the connection was lost; ``None`` where the response was finished.
        """
        if self._state is ChannelState.OPEN:
            # Nobody here asked for the end: the client went, or other code finished the request.
            self._begin_to_close(_reason_of(result))
        self._state = ChannelState.CLOSED
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._buffer.clear()
        self._sink.detach()
        self._options.shutdown.channel_closed()
        if self._leave is not None:
            self._leave()
        watcher, self.watcher = self.watcher, None
        try:
            if watcher is not None:
                watcher.channel_closed(self)
        finally:
            # Whatever fails there, the others learn of the end.
            if self._when_closed is not None:
                self._when_closed.fire(self._closed_error().reason)

"""
The internal side of a channel: the methods that its sink, its timers and a hub call.

Strategy: the channel writes a frame to its sink, or to its buffer while the sink is blocked; when the buffer
is full, the overflow policy decides. A channel is *open* until the server or the client ends it, then
*closing* while the buffer is flushed, and *closed* once the request has ended. ``notifyFinish`` reports that
end, whatever its cause, and only then the channel cleans up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._randomness import randomness_of
from txsse._threads import check_thread, get_ident, refuse, threadable
from txsse._waiters import Waiters
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.encoder import encode_comment
from txsse.server.buffer import Mark
from txsse.server.channel_options import ChannelOptions
from txsse.server.channel_state import PLAIN_REASONS, ChannelState, reason_of
from txsse.server.keepalive import KeepaliveClock, NoKeepalive
from txsse.server.request import StreamRequest
from txsse.server.sinks.base import Framed, Sink
from txsse.server.slow import POLICIES

__all__ = ["ChannelIO", "ChannelWatcher"]

_log = Logger()

_KEEPALIVE = Framed(encode_comment(""))

# A stream ends after 80 to 100 % of its max_lifetime, so that clients that connected at the same time do not
# all reconnect at the same time.
_LIFETIME_JITTER = 0.8


class ChannelWatcher(Protocol):
    """
    An object that is notified when a channel ends.

    It costs less memory than a Deferred of :meth:`txsse.SSEChannel.when_closed`: a hub has one per channel.
    """

    def channel_closed(self, channel: ChannelIO) -> None:
        """
        Handle the end of a channel, before the Deferreds of ``when_closed`` fire.
        """

    def access_ended(self, channel: ChannelIO) -> None:
        """
        Withdraw private frames that the channel holds back: its access has ended, and it is closing.
        """


class ChannelIO:
    """
    The internal base class of :class:`~txsse.SSEChannel`, which documents the public attributes.

    It is not a second object, which would take memory for each of up to a hundred thousand channels.

    :ivar keys: all keys that the stream can be disconnected by; the first is the channel's ``key``.
    :ivar slot: the channel's slot in the keep-alive clock.
    :ivar watcher: notified of the end before all others; ``None`` for no watcher.
    """

    # Slots, because there may be a hundred thousand channels. The dictionary takes memory only if an
    # application sets attributes of its own on a channel.
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
        "context",
        "keys",
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
        self.context: object = None
        self.slot = 0
        self.keys: tuple[Hashable, ...] = ()
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
        The reactor that the channel runs in.
        """
        return self._options.reactor

    @property
    def sink(self) -> Sink:
        """
        The sink that the channel's frames are written to.
        """
        return self._sink

    @property
    def spoke(self) -> int:
        """
        The turn of the keep-alive clock in which something was last sent.
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
        Whether the client is slow, so that frames are buffered.
        """
        return self._sink.blocked or self._buffer.size > 0

    @property
    def replays_when_slow(self) -> bool:
        """
        Whether a hub stops buffering for a slow client, and replays from its journal later.
        """
        policy = self._options.slow_policy
        return policy is None or policy.replays

    def sink_ready(self) -> None:
        """
        Send buffered frames; the sink calls this when it accepts more.
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
            self._notify_ready()

    def keepalive_due(self) -> None:
        """
        Send a comment; the clock calls this after an interval without frames.
        """
        self._sink.poke()
        # A slow client has unread bytes, which keep the connection alive without a comment.
        self._sink.offer(_KEEPALIVE)

    def offer(self, frames: Framed) -> bool:
        """
        Send frames that go to many channels, unless the client is slow.

        :returns: whether all frames were accepted; otherwise none was: while frames are buffered, the sink is
            blocked.
        """
        return self._sink.offer(frames)

    def send_frame(self, frame: bytes, key: Hashable, mark: object = None) -> None:
        """
        Send a frame.

        :param frame: the frame.
        :param key: the subject of the frame; with the policy ``latest``, a newer frame of the same key
            replaces it.
        :param mark: the object that :meth:`withdraw` identifies the frame by; ``None`` for a frame that is
            never withdrawn.
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
                "{channel} is closed: the client reads too slowly, {buffered} bytes are buffered",
                channel=repr(self),
                buffered=self._buffer.size,
            )
            self.abort(reason=CloseReason.SLOW_READER)
            raise self._closed_error()

    def withdraw(self, chosen: Callable[[Mark], bool]) -> None:
        """
        Remove chosen frames from the buffer; frames already written to the transport are still sent.

        :param chosen: called with the mark of each frame that has one, oldest frame first; returns whether
            the frame is removed.
        """
        self._buffer.withdraw(chosen)

    def _write(self, frame: bytes) -> None:
        self._sink.spoke = self._keepalive.now
        self._sink.write(frame)

    def _turn_over(self) -> None:
        self._turn = None
        self._notify_ready()

    def _notify_ready(self) -> None:
        # The first callbacks may send so much that the client is slow again; the other waiters then keep
        # waiting.
        if self._when_ready is not None:
            self._when_ready.fire(None, unless=lambda: self.is_slow)

    def _reason(self, reason: CloseReason) -> CloseReason:
        # An open channel has this reason if its handler was cancelled because the reactor or a service stops.
        ending = self._options.shutdown.stopping or self.close_reason is CloseReason.SHUTDOWN
        return CloseReason.SHUTDOWN if ending and reason in PLAIN_REASONS else reason

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
        End the stream after the frames that were accepted.

        It returns at once, and does nothing if the channel is closing or closed; :meth:`when_closed` reports
        the end.

        A browser reconnects when a stream has ended. To stop it permanently, answer its next request with
        204.

        :param reason: the value of :attr:`close_reason`.
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
        Wait for the end of the stream, whether the client or the server ends it.

        :returns: a Deferred that fires with the :class:`txsse.errors.CloseReason`, at once if the channel is
            closed already, and never fails.
        """
        check_thread(self.reactor, "channel.when_closed")
        if self._state is ChannelState.CLOSED:
            return succeed(self._closed_error().reason)
        if self._when_closed is None:
            self._when_closed = Waiters()
        return self._when_closed.wait()

    def abort(self, *, reason: CloseReason = CloseReason.SERVER_CLOSED) -> bool:
        """
        Abort the stream: frames not yet sent are dropped.

        :param reason: the value of :attr:`close_reason`.
        :returns: whether the channel had not ended yet.
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

    def end_access(self, reason: CloseReason) -> None:
        """
        Close the channel because its access has ended.

        It still sends the frames that it holds back, except private ones.

        :param reason: the value of :attr:`close_reason`.
        """
        self.close(reason=reason)
        if self.watcher:
            self.watcher.access_ended(self)

    def identify(self, keys: tuple[Hashable, ...], context: object) -> None:
        """
        Record whose stream this is, and what the program needs later.

        :param keys: see :attr:`Access.keys <txsse.server.access.Access.keys>`.
        """
        self.keys, self.context = keys, context

    def _give_up_flushing(self) -> None:
        self._flush = None
        _log.info(
            "{channel} is aborted: the client left {buffered} bytes unread",
            channel=repr(self),
            buffered=self._buffer.size,
        )
        self.abort(reason=CloseReason.FLUSH_TIMEOUT)

    def request_ended(self, result: Failure | None) -> None:
        """
        Clean up after the end of the request; called once.

        :param result: why the connection was lost; ``None`` if the response was finished.
        """
        if self._state is ChannelState.OPEN:
            # Neither close() nor abort() was called: the client disconnected, or other code finished the
            # request.
            self._begin_to_close(reason_of(result))
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
            # If the watcher fails, the other waiters are still notified.
            if self._when_closed is not None:
                self._when_closed.fire(self._closed_error().reason)

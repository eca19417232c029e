"""
One open stream to one client.

Strategy: a frame goes to the sink while the sink takes it, and to the backlog while it does not, where the
policy for slow readers rules. A channel is *open* until somebody wants its end; then *closing* while the
backlog still goes out; and *closed* once the request has ended, which ``notifyFinish`` tells, whatever
the cause. Only there is cleaned up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import TCPTimedOutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request

from txsse._serialize import to_text, to_xml
from txsse._threads import check_thread, get_ident, refuse, threadable
from txsse._unhandled import Unhandled
from txsse._waiters import Waiters
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.encoder import encode_comment, encode_event
from txsse.protocol.event import ServerSentEvent
from txsse.server.buffer import Backlog
from txsse.server.keepalive import KeepaliveClock, NoKeepalive
from txsse.server.pump import Source, send_all
from txsse.server.shutdown import Shutdown
from txsse.server.sinks.base import Framed, Sink
from txsse.server.sinks.detached import AskedRequest

__all__ = ["ChannelOptions", "ChannelWatcher", "SSEChannel"]

_log = Logger()

# A channel closes when its client leaves, which is nothing to log.
_UNHANDLED = Unhandled(None, ChannelClosed)

_KEEPALIVE = Framed(encode_comment(""))

# A stream ends after 80 to 100 % of its max_lifetime, so that clients that came together do not all come
# back together.
_LIFETIME_JITTER = 0.8


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


@dataclass(frozen=True)
class ChannelOptions:
    """
    What :class:`txsse.Upgrader` passes on to its channels.
    """

    reactor: IReactorTime
    dumps: Callable[[object], str | bytes]
    flush_timeout: float
    max_lifetime: float | None
    slow_policy: str | None
    shutdown: Shutdown
    shutdown_timeout: float


# What says no more than that the stream has ended. When the reactor stops, that is the reason.
_PLAIN_REASONS = frozenset([CloseReason.CLIENT_GONE, CloseReason.SERVER_CLOSED])


def _reason_of(result: Failure | None) -> CloseReason:
    if not isinstance(result, Failure):
        return CloseReason.SERVER_CLOSED
    return CloseReason.PEER_TIMEOUT if result.check(TCPTimedOutError) else CloseReason.CLIENT_GONE


class ChannelWatcher(Protocol):
    """
    Who watches over a channel: lighter than a Deferred of :meth:`SSEChannel.when_closed`, where there are
    many.
    """

    def channel_closed(self, channel: SSEChannel) -> None:
        """
        The channel has ended. Whoever waits for that is told later.
        """


class SSEChannel:
    """
    One open stream to one client. :meth:`txsse.Upgrader.upgrade` makes it.

    All of its methods are to be called in the reactor's thread; from another one, use
    ``reactor.callFromThread(channel.send, ...)``. Where the reactor runs, they raise :exc:`RuntimeError` in
    another thread.

    :ivar request: the request that became the stream; an
        :class:`~txsse.server.sinks.detached.AskedRequest` where the upgrader let it go.
    :ivar last_event_id: where the client wants to resume, ``""`` where it did not say.
    :ivar close_reason: what ended the channel, a :class:`txsse.errors.CloseReason`; ``None`` while it is
        open. It is ``SHUTDOWN`` as soon as the channel's handler is cancelled because the reactor stops; the
        channel is open until the handler has ended.
    :ivar watcher: who is told of its end before anybody else; ``None`` for nobody.
    """

    # There may be a hundred thousand, so no dictionary for each, unless somebody keeps things on a channel.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_backlog",
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
        request: Request | AskedRequest,
        sink: Sink,
        *,
        last_event_id: str,
        backlog: Backlog,
        keepalive: KeepaliveClock | NoKeepalive,
        options: ChannelOptions,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self.request = request
        self.last_event_id = last_event_id
        self.close_reason: CloseReason | None = None
        self.slot = 0
        self._state = _State.OPEN
        self._sink = sink
        self._backlog = backlog
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
                options.max_lifetime * random.uniform(_LIFETIME_JITTER, 1),
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
        return self._state is _State.OPEN

    @property
    def _is_closed(self) -> bool:
        return self._state is _State.CLOSED

    @property
    def buffered(self) -> int:
        """
        How many bytes of frames the channel holds back for a client that is behind. The transport below
        holds up to 64 KiB more, and the frame that went beyond that, and so does the system's socket.
        """
        return self._backlog.size

    @property
    def dropped(self) -> int:
        """
        How many frames were given up by the policies ``latest`` and ``drop``.
        """
        return self._backlog.dropped

    @property
    def slow_policy(self) -> str | None:
        """
        What happens to a client that is behind, as the upgrader was told; ``None`` where it was not: that is
        ``rewind`` in a hub, and ``close`` on its own.
        """
        return self._options.slow_policy

    def send(
        self,
        data: str | bytes,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
    ) -> None:
        """
        Send an event.

        :param data: the text, or its UTF-8 form.
        :param event: the type; ``None`` for ``message``.
        :param id: what the client is to resume from.
        :param retry: how long the client is to wait before it reconnects, in seconds.
        :raises ChannelClosed: where the channel is closed, or closes because of this event by the policy
            ``close``.
        :raises InvalidField: as :class:`txsse.ServerSentEvent` does, and for bytes that are not UTF-8.
        """
        self.send_event(ServerSentEvent(to_text(data), event, id, retry))

    def send_event(self, event: ServerSentEvent) -> None:
        """
        Send an event that has been built.

        :param event: the event.
        :raises ChannelClosed: as :meth:`send` does.
        """
        self.send_frame(encode_event(event), event.event or "message")

    def send_json(
        self,
        value: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
    ) -> None:
        """
        Send a value as JSON.

        :param value: anything that :mod:`json` takes, and instances of dataclasses and attrs classes; or
            what the upgrader's ``dumps`` takes.
        :param event: the type; ``None`` for ``message``.
        :param id: what the client is to resume from.
        :param retry: how long the client is to wait before it reconnects, in seconds.
        :raises ChannelClosed: as :meth:`send` does.
        :raises TypeError: for a value that has no JSON form.
        :raises ValueError: for NaN and the infinities, which no browser would read.
        """
        self.send(self._options.dumps(value), event=event, id=id, retry=retry)

    def send_xml(
        self,
        value: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
    ) -> None:
        """
        Send a value as XML.

        :param value: an :mod:`~xml.etree.ElementTree` element or tree, or an instance of a dataclass or
            attrs class, which becomes ``<Person><Name>Ernst</Name><Age>23</Age></Person>``.
        :param event: the type; ``None`` for ``message``.
        :param id: what the client is to resume from.
        :param retry: how long the client is to wait before it reconnects, in seconds.
        :raises ChannelClosed: as :meth:`send` does.
        :raises TypeError: for a value that has no XML form.
        :raises ValueError: for a character that XML cannot hold.
        """
        self.send(to_xml(value), event=event, id=id, retry=retry)

    def comment(self, text: str = "") -> None:
        """
        Send a comment, which the client ignores.

        :param text: the comment.
        :raises ChannelClosed: as :meth:`send` does.
        """
        self.send_frame(encode_comment(text), None)

    def send_from(self, source: Source) -> Deferred[int]:
        """
        Send whatever a source brings, as fast as the client takes it, and no faster: a source is asked for
        its next item when the one before is on its way.

        :param source: an iterable or asynchronous iterable of ``str``, ``bytes`` or
            :class:`txsse.ServerSentEvent`, or a Deferred or another awaitable of one of these.
        :returns: a Deferred that fires with the number of events sent, once the source has ended or the
            channel is closed, and fails with what the source raised. When the channel is closed, the reactor
            stops, or the Deferred is cancelled, the source ends: a Deferred is cancelled; a generator, an
            :class:`txsse.EventSource` or another asynchronous iterator is closed, by ``aclose`` or ``close``.
        """
        check_thread(self.reactor, "channel.send_from")
        return send_all(self, source)

    def drain(self) -> Deferred[None]:
        """
        Wait until the client keeps up: until nothing is held back and the transport takes more.

        :returns: a Deferred that fires then, but never before the reactor had its turn, so that a loop of
            ``send`` and ``await drain()`` starves nobody; it fails with :exc:`ChannelClosed` when the
            channel closes.
        """
        check_thread(self.reactor, "channel.drain")
        if self._state is not _State.OPEN:
            return _UNHANDLED.watch(fail(self._closed_error()), "channel.drain")
        if not self.is_behind and self._turn is None:
            self._turn = self.reactor.callLater(0, self._turn_over)
        if self._when_ready is None:
            self._when_ready = Waiters()
        return _UNHANDLED.watch(self._when_ready.wait(), "channel.drain")

    def _turn_over(self) -> None:
        self._turn = None
        self._tell_ready()

    def _tell_ready(self) -> None:
        # One who is told may send so much that the others have to go on waiting.
        if self._when_ready is not None:
            self._when_ready.fire(None, unless=lambda: self.is_behind)

    @property
    def is_behind(self) -> bool:
        """
        Whether the client is behind, so that frames are held back.
        """
        return self._sink.blocked or self._backlog.size > 0

    def close(self, *, reason: CloseReason = CloseReason.SERVER_CLOSED) -> None:
        """
        End the stream behind what was accepted. It returns at once, and does nothing on a channel that
        closes already; :meth:`when_closed` tells when the end is there.

        A browser reconnects after a stream that ended. To stop it for good, answer that request with 204.

        :param reason: what :attr:`close_reason` is to say.
        """
        check_thread(self.reactor, "channel.close")
        if self._state is not _State.OPEN:
            return
        self._begin_to_close(reason)
        if not self.is_behind:
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
        if self._state is _State.CLOSED:
            return succeed(self._closed_error().reason)
        if self._when_closed is None:
            self._when_closed = Waiters()
        return self._when_closed.wait()

    @property
    def shutdown_timeout(self) -> float:
        """
        How long the handler may take to end when the reactor stops, in seconds.
        """
        return self._options.shutdown_timeout

    def hold(self, work: Deferred[Any], *, is_handler: bool) -> bool:
        """
        Have work cancelled when the reactor stops.

        :returns: whether it was not held before.
        """
        return self._options.shutdown.hold(self, work, is_handler=is_handler)

    def release(self, work: Deferred[Any]) -> None:
        """
        Forget work that is done.
        """
        self._options.shutdown.release(self, work)

    def begin_shutdown(self) -> bool:
        """
        Say that the reactor stops; frames can still be sent.

        :returns: whether this is new, and the channel is open.
        """
        if self._state is not _State.OPEN or self.close_reason is not None:
            return False
        self.close_reason = CloseReason.SHUTDOWN
        return True

    @property
    def ends_sources(self) -> bool:
        """
        Whether a source that is cancelled ends as one that has come to its end: not while a handler is at
        work, which may wait for the source, and has to learn that it was cancelled.
        """
        if self._state is not _State.OPEN:
            return True
        return self.close_reason is not None and not self._options.shutdown.has_handler(self)

    def sink_ready(self) -> None:
        """
        Send what was held back. The sink calls this when the client has caught up.
        """
        while not self._sink.blocked:
            frame = self._backlog.take()
            if frame is None:
                break
            self._write(frame)
        if self.is_behind:
            return
        if self._state is _State.CLOSING:
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
        if self._state is not _State.OPEN:
            raise self._closed_error()
        if not self.is_behind:
            self._write(frame)
        elif not self._backlog.put(key, frame, mark):
            _log.info(
                "{channel} closes: the client reads too slowly, {buffered} bytes were held back",
                channel=repr(self),
                buffered=self.buffered,
            )
            self.abort(reason=CloseReason.SLOW_READER)
            raise self._closed_error()

    def withdraw(self, chosen: Callable[[Any], bool]) -> None:
        """
        Take back frames that the channel holds back. What has left it for the transport is out of reach.

        :param chosen: called with the mark of each frame that has one, oldest frame first; returns whether
            the frame is taken back.
        """
        self._backlog.withdraw(chosen)

    def _write(self, frame: bytes) -> None:
        self._sink.spoke = self._keepalive.now
        self._sink.write(frame)

    def _reason(self, reason: CloseReason) -> CloseReason:
        if self._options.shutdown.stopping and reason in _PLAIN_REASONS:
            return CloseReason.SHUTDOWN
        return reason

    def _closed_error(self) -> ChannelClosed:
        return ChannelClosed(self.close_reason or CloseReason.CLIENT_GONE)

    def _begin_to_close(self, reason: CloseReason) -> None:
        self._state = _State.CLOSING
        self.close_reason = self._reason(reason)
        self._sink.refuse_offers()
        self._keepalive.remove(self)
        for call in (self._lifetime, self._turn):
            if call is not None and call.active():
                call.cancel()
        self._lifetime = self._turn = None
        if self._when_ready is not None:
            self._when_ready.fail(self._closed_error())

    def abort(self, *, reason: CloseReason = CloseReason.SERVER_CLOSED) -> bool:
        """
        Cut the stream off, whatever waits to be sent.

        :param reason: what :attr:`close_reason` is to say.
        :returns: whether there was something to cut off: not where the channel has ended.
        """
        check_thread(self.reactor, "channel.abort")
        if self._state is _State.CLOSED:
            return False
        if self._state is _State.OPEN:
            self._begin_to_close(reason)
        self.close_reason = self._reason(reason)
        self._backlog.clear()
        self._sink.abort()
        return True

    def _give_up_flushing(self) -> None:
        self._flush = None
        _log.info(
            "{channel} is cut off: the client left {buffered} bytes unread",
            channel=repr(self),
            buffered=self.buffered,
        )
        self.abort(reason=CloseReason.FLUSH_TIMEOUT)

    def request_ended(self, result: Failure | None) -> None:
        """
        Clean up. The upgrader has ``notifyFinish`` call this, once.

        :param result: why the connection was lost; ``None`` where the response was finished.
        """
        if self._state is _State.OPEN:
            # Nobody here asked for the end: the client went, or other code finished the request.
            self._begin_to_close(_reason_of(result))
        self._state = _State.CLOSED
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._backlog.clear()
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

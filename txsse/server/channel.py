"""
One open stream to one client: what users call.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail

from txsse._serialize import to_text, to_xml
from txsse._threads import check_thread
from txsse._unhandled import Unhandled
from txsse._waiters import Waiters
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.encoder import encode_comment, encode_event
from txsse.protocol.event import ServerSentEvent
from txsse.server.channel_io import ChannelIO, ChannelState
from txsse.server.pump import Source, send_all

__all__ = ["SSEChannel"]

# A channel closes when its client leaves, which is nothing to log.
_UNHANDLED = Unhandled(None, ChannelClosed)


class SSEChannel(ChannelIO):
    """
    One open stream to one client. :meth:`txsse.Upgrader.upgrade` makes it.

    All of its methods are to be called in the reactor's thread; from another one, use
    ``reactor.callFromThread(channel.send, ...)``. Where the reactor runs, they raise :exc:`RuntimeError` in
    another thread.

    :ivar request: what is kept of the request, a :class:`~txsse.StreamRequest`.
    :ivar last_event_id: where the client wants to resume, ``""`` where it did not say.
    :ivar close_reason: what ended the channel, a :class:`txsse.errors.CloseReason`; ``None`` while it is
        open. It is ``SHUTDOWN`` as soon as the channel's handler is cancelled because the reactor stops; the
        channel is open until the handler has ended.
    """

    __slots__ = ()

    @property
    def buffered(self) -> int:
        """
        How many bytes of frames the channel holds back for a client that is behind. The transport below
        holds up to 64 KiB more, and the frame that went beyond that, and so does the system's socket.
        """
        return self._buffer.size

    @property
    def dropped(self) -> int:
        """
        How many frames were given up by the policies ``latest`` and ``drop``.
        """
        return self._buffer.dropped

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
        if self._state is not ChannelState.OPEN:
            return _UNHANDLED.watch(fail(self._closed_error()), "channel.drain")
        if not self.is_slow and self._turn is None:
            self._turn = self.reactor.callLater(0, self._turn_over)
        if self._when_ready is None:
            self._when_ready = Waiters()
        return _UNHANDLED.watch(self._when_ready.wait(), "channel.drain")

    @property
    def slow_policy(self) -> str | None:
        """
        The name of the overflow policy; ``None`` for the default: ``replay`` in a hub, ``close`` elsewhere.
        """
        policy = self._options.slow_policy
        return None if policy is None else policy.name

    # What the pump and the shutdown of the reactor call.

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
        if self._state is not ChannelState.OPEN or self.close_reason is not None:
            return False
        self.close_reason = CloseReason.SHUTDOWN
        return True

    @property
    def ends_sources(self) -> bool:
        """
        Whether a source that is cancelled ends as one that has come to its end: not while a handler is at
        work, which may wait for the source, and has to learn that it was cancelled.
        """
        if self._state is not ChannelState.OPEN:
            return True
        return self.close_reason is not None and not self._options.shutdown.has_handler(self)

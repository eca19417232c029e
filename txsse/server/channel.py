"""
The public side of a channel: the methods that an application calls on one open stream to one client.
"""

from __future__ import annotations

from collections.abc import Hashable

from twisted.internet.defer import Deferred, fail

from txsse._serialize import to_text, to_xml
from txsse._threads import check_thread
from txsse._twisted.types import AnyDeferred
from txsse._unhandled import Unhandled
from txsse._waiters import Waiters
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.encoder import encode_comment, encode_event
from txsse.protocol.event import ServerSentEvent
from txsse.server.channel_io import ChannelIO
from txsse.server.channel_state import ChannelState
from txsse.server.pump import Source, send_all

__all__ = ["SSEChannel"]

# A channel also closes when its client disconnects, which is not worth a log line.
_UNHANDLED = Unhandled(None, ChannelClosed)


class SSEChannel(ChannelIO):
    """
    One open stream to one client, made by :meth:`txsse.Upgrader.upgrade`.

    Call all methods in the reactor's thread; from another thread, use
    ``reactor.callFromThread(channel.send, ...)``. While the reactor runs, a call in another thread raises
    :exc:`RuntimeError`.

    :ivar request: the data kept of the request, a :class:`~txsse.StreamRequest`.
    :ivar last_event_id: the ID that the client resumes from; ``""`` if it did not send one.
    :ivar context: the object that :class:`txsse.Access` gave, or that the program sets; ``None`` at first.
    :ivar close_reason: why the channel ended, a :class:`txsse.errors.CloseReason`; ``None`` while it is open.
        When the reactor or a :class:`~txsse.HubService` stops, it becomes ``SHUTDOWN`` as soon as the
        channel's handler is cancelled, although the channel stays open until the handler has ended.
    """

    __slots__ = ()

    @property
    def key(self) -> Hashable:
        """
        Whose stream it is, from :class:`txsse.Access` or :meth:`txsse.Hub.subscribe`; ``None`` for no key.
        """
        return self.keys[0] if self.keys else None

    @property
    def buffered(self) -> int:
        """
        How many bytes of frames the channel buffers because the client is slow.

        Not included are up to 64 KiB in the transport, plus the frame that exceeded these, and the buffer of
        the socket.
        """
        return self._buffer.size

    @property
    def dropped(self) -> int:
        """
        How many frames the overflow policies ``latest`` and ``drop`` have dropped.
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
        :param id: the ID that the client resumes from after this event.
        :param retry: how long the client waits before it reconnects, in seconds.
        :raises ChannelClosed: if the channel is closed, or if the policy ``close`` closes it because of this
            event.
        :raises InvalidField: as :class:`txsse.ServerSentEvent` does, and for bytes that are not UTF-8.
        """
        self.send_event(ServerSentEvent(to_text(data), event, id, retry))

    def send_event(self, event: ServerSentEvent) -> None:
        """
        Send a :class:`txsse.ServerSentEvent`.

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

        :param value: any value that :mod:`json` or the upgrader's ``dumps`` can encode; without ``dumps``,
            also instances of dataclasses and attrs classes.
        :param event: the type; ``None`` for ``message``.
        :param id: the ID that the client resumes from after this event.
        :param retry: how long the client waits before it reconnects, in seconds.
        :raises ChannelClosed: as :meth:`send` does.
        :raises TypeError: for a value that has no JSON form.
        :raises ValueError: for NaN and the infinities, which browsers do not parse.
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
        :param id: the ID that the client resumes from after this event.
        :param retry: how long the client waits before it reconnects, in seconds.
        :raises ChannelClosed: as :meth:`send` does.
        :raises TypeError: for a value that has no XML form.
        :raises ValueError: for a character that XML cannot represent.
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
        Send the events of a source, no faster than the client reads them.

        The next item is requested from the source only when the transport has accepted the previous one.

        :param source: an iterable or asynchronous iterable of ``str``, ``bytes`` or
            :class:`txsse.ServerSentEvent`, or a Deferred or another awaitable of one of these.
        :returns: a Deferred that fires with the number of events sent when the source has ended or the
            channel is closed, and fails with the exception that the source raised. When the channel is
            closed, the reactor stops, or the Deferred is cancelled, the source is ended: a Deferred is
            cancelled; a generator, an :class:`txsse.EventSource` or another asynchronous iterator is closed,
            by ``aclose`` or ``close``.
        """
        check_thread(self.reactor, "channel.send_from")
        return send_all(self, source)

    def drain(self) -> Deferred[None]:
        """
        Wait until the client keeps up: nothing is buffered and the transport accepts more.

        :returns: a Deferred that fires at the earliest in the next turn of the reactor, so that a loop of
            ``send`` and ``await drain()`` does not block it; it fails with :exc:`ChannelClosed` when the
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

    # Called by the pump and by the shutdown of the reactor or a service.

    @property
    def shutdown_timeout(self) -> float:
        """
        How long the handler may take to end when the reactor or its service stops, in seconds.
        """
        return self._options.shutdown_timeout

    def hold(self, work: AnyDeferred, *, is_handler: bool) -> bool:
        """
        Register work that is cancelled when the reactor stops.

        :returns: whether the work was not registered before.
        """
        return self._options.shutdown.hold(self, work, is_handler=is_handler)

    def release(self, work: AnyDeferred) -> None:
        """
        Unregister work that is done.
        """
        self._options.shutdown.release(self, work)

    def begin_shutdown(self) -> bool:
        """
        Record that the reactor or a service stops; frames can still be sent.

        :returns: whether the channel is open and this is the first call.
        """
        if self._state is not ChannelState.OPEN or self.close_reason is not None:
            return False
        self.close_reason = CloseReason.SHUTDOWN
        return True

    @property
    def ends_sources(self) -> bool:
        """
        Whether the cancellation of a source counts as its normal end.

        It does not while a handler runs: the handler may wait for the source, and must see the cancellation.
        """
        if self._state is not ChannelState.OPEN:
            return True
        return self.close_reason is not None and not self._options.shutdown.has_handler(self)

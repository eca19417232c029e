"""
Delivery of events to the program: an iteration pulls them, or callbacks receive them, one at a time.

Events that the program has not taken stay in memory, and the connection is paused until it takes them; so the
memory in use is never more than the events of one read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txsse.client.stream import Reading
from txsse.protocol.event import ServerSentEvent

__all__ = ["Delivery", "EventCallback"]

_log = Logger()

EventCallback = Callable[[ServerSentEvent], object]

# Events are pushed for so many seconds before the reactor gets its turn; the clock is read every so many
# events.
_SLICE_SECONDS = 0.01
_LOOK = 8


class Delivery:
    """
    A queue of received events, with one consumer: an iteration, or callbacks.

    :param event_received: called with each event; ``None`` if the program iterates.
    :param last_event_id: the id of the last event that the program has processed.
    :param reactor: returns the reactor.
    :ivar delivered_id: the id of the last event that was delivered.
    :ivar pending: the events that were not delivered yet.
    :ivar pushes: whether events are pushed to callbacks.
    """

    def __init__(
        self,
        event_received: EventCallback | None,
        last_event_id: str,
        reactor: Callable[[], IReactorTime],
    ) -> None:
        self.delivered_id = last_event_id
        self.pending: deque[ServerSentEvent] = deque()
        self.pushes = event_received is not None
        self._for_all = [] if event_received is None else [event_received]
        self._listeners: dict[str, list[EventCallback]] = {}
        self._reactor = reactor
        self._reading: Reading | None = None
        self._wanted: Deferred[None] | None = None
        self._then: Callable[[], object] | None = None
        # The end of the iteration's time slice in this turn of the reactor, and the number of events taken.
        self._slice_end = 0.0
        self._taken = 0
        # Whether an asynchronous callback is running, or the next slice of callbacks is scheduled.
        self._busy = False

    def listen(self, type: str, callback: EventCallback) -> None:
        """
        Push the events of one type to a callback.
        """
        self.pushes = True
        self._listeners.setdefault(type, []).append(callback)

    def read_from(self, reading: Reading | None) -> None:
        """
        Pause and resume this stream from now on; ``None`` for no stream.
        """
        self._reading = reading

    def add(self, events: Iterable[ServerSentEvent]) -> None:
        """
        Deliver events after those that are pending.
        """
        self.pending.extend(events)
        if self.pushes:
            self._push()
        elif self.pending:
            self._slice_end = self._reactor().seconds() + _SLICE_SECONDS
            self.wake()
        if self.pending and self._reading is not None:
            self._reading.pause()

    def when_empty(self, then: Callable[[], object]) -> None:
        """
        Call ``then`` once all events are delivered.

        The client requests the next stream only then: each stream may bring one more read of events, and a
        server may end as many streams as it likes.
        """
        self._then = then
        self._read_on()

    def wake(self) -> None:
        """
        Wake the consumer that waits for an event, if any.
        """
        if self._wanted is not None and not self._wanted.called:
            self._wanted.callback(None)

    async def wait(self) -> None:
        """
        Wait for :meth:`wake`.

        :raises RuntimeError: if another consumer already waits.
        """
        if self._wanted is not None:
            raise RuntimeError("an EventSource has one consumer, and another one already waits for an event")
        self._wanted = Deferred()
        try:
            await self._wanted
        finally:
            self._wanted = None

    @property
    def is_slice_over(self) -> bool:
        """
        Whether the iteration has used up its time slice and must yield to the reactor.
        """
        return self._taken % _LOOK == 0 and self._reactor().seconds() >= self._slice_end

    async def yield_to_reactor(self) -> None:
        """
        Yield to the reactor for one turn, and begin a new time slice.
        """
        reactor = self._reactor()
        turn: Deferred[None] = Deferred()
        call = reactor.callLater(0, turn.callback, None)
        try:
            await turn
        finally:
            if call.active():
                call.cancel()
        self._slice_end = reactor.seconds() + _SLICE_SECONDS

    def take(self) -> ServerSentEvent:
        """
        Remove the next event from the queue, and return it.
        """
        event = self.pending.popleft()
        self.delivered_id = event.id or ""
        self._taken += 1
        if not self.pending:
            self._read_on()
        return event

    def _read_on(self) -> None:
        if self.pending or self._busy:
            return
        then, self._then = self._then, None
        if then is not None:
            then()
        elif self._reading is not None:
            self._reading.resume()

    def _push(self) -> None:
        if self._busy:
            return
        reactor = self._reactor()
        slice_end = reactor.seconds() + _SLICE_SECONDS
        pending, callbacks = self.pending, self._for_all
        count = 0
        while pending:
            event = pending.popleft()
            self.delivered_id = event.id or ""
            if self._listeners:
                callbacks = self._for_all + self._listeners.get(event.event or "message", [])
            waiting: list[Awaitable[object]] | None = None
            for callback in callbacks:
                try:
                    result = callback(event)
                except Exception:
                    # The other callbacks and the next events do not depend on this callback.
                    _log.failure("{callback} failed", callback=callback)
                else:
                    if result is not None and isawaitable(result):
                        waiting = [*(waiting or ()), result]
            count += 1
            if waiting is None and (count % _LOOK or reactor.seconds() < slice_end):
                continue
            self._busy = True
            if self._reading is not None:
                self._reading.pause()
            if waiting is not None:
                Deferred.fromCoroutine(_await_all(waiting)).addBoth(self._go_on)
            else:
                reactor.callLater(0, self._go_on, None)
            return
        self._read_on()

    def _go_on(self, _: object) -> None:
        self._busy = False
        self._push()
        self._read_on()


async def _await_all(waiting: Iterable[Awaitable[object]]) -> None:
    for each in waiting:
        try:
            await each
        except Exception:
            _log.failure("An asynchronous callback failed")

"""
The streams of the demo, at ``/streams/NAME``.

``clock`` and ``events`` send the same events to all clients. ``progress`` and ``reconnect`` run for each
client, and resume from its ``Last-Event-ID``. The fifth stream, ``hub``, is in :mod:`txsse.demo.hub`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import count
from typing import TypeAlias

from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.web.http import Request

from txsse._clock import wall
from txsse._serialize import to_json
from txsse.errors import ChannelClosed
from txsse.protocol.event import ServerSentEvent
from txsse.server.channel import SSEChannel
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader
from txsse.web.responses import send_response

__all__ = ["Broadcast", "DemoStream", "JobStream", "demo_streams"]

_log = Logger()

# How long a client may take to read the rest of its stream when the service stops, in seconds.
_FLUSH_TIMEOUT = 5.0

# The seconds between two events: slow enough to read each, fast enough not to bore.
_TICK = 1.0
_STEP = 0.4

_STEP_PERCENT = 5
_LAST_PERCENT = 100
_EVENTS_PER_CONNECTION = 5

# No stream here sends a longer ID; int() of a very long one would be expensive.
_MAX_DIGITS = 15

_POEM = """\
Roses are red,
violets are blue;
each line of it
travels alone."""

# An event, or a comment as a str.
Item: TypeAlias = "ServerSentEvent | str"


class DemoStream(SSEResource):
    """
    A stream that keeps a set of its open channels, and begins each with an event ``connected``.

    That event has the ``Last-Event-ID`` that the server received, which the page shows.

    :param handler: serves a channel, as in :class:`txsse.SSEResource`.
    :param upgrader: makes the channels.
    """

    def __init__(self, handler: Callable[[SSEChannel], object], *, upgrader: Upgrader) -> None:
        super().__init__(handler, upgrader=upgrader)
        self._channels: set[SSEChannel] = set()
        self._stopping = False

    def render(self, request: Request) -> int:
        """
        Open a channel, or answer 503 while the service stops: :meth:`stop` would not close a new channel.
        """
        if not self._stopping:
            return super().render(request)
        return send_response(request, 503)

    def channel_opened(self, channel: SSEChannel) -> object:
        """
        Keep the channel until it is closed, send ``connected``, and serve it.
        """
        self._channels.add(channel)
        channel.when_closed().addCallback(lambda _: self._channels.discard(channel))
        channel.send_json({"last_event_id": channel.last_event_id}, event="connected")
        return super().channel_opened(channel)

    def close_all(self) -> int:
        """
        Close all channels.

        :returns: how many were open.
        """
        channels = [channel for channel in self._channels if channel.is_open]
        for channel in channels:
            channel.close()
        return len(channels)

    async def stop(self) -> None:
        """
        Close all channels; return when they are closed.
        """
        # While a slow reader reads its rest, another client may send a request on an open connection.
        self._stopping = True
        self.close_all()
        await gatherResults([channel.when_closed() for channel in self._channels])


class JobStream(DemoStream):
    """
    A stream that has a last event.

    A client that has received it gets 204, the only success after which a browser does not reconnect.
    """

    def render(self, request: Request) -> int:
        """
        Open a channel, or answer 204 if the client's ``Last-Event-ID`` is that of the last event.
        """
        if request.method != b"GET" or _number(_last_event_id(request)) < _LAST_PERCENT:
            return super().render(request)
        return send_response(request, 204)


def _last_event_id(request: Request) -> str:
    by_polyfills = (request.args or {}).get(b"lastEventId", [b""])
    return request.getHeader("Last-Event-ID") or by_polyfills[0].decode("utf-8", "replace")


class Broadcast:
    """
    One source of events for all clients, which runs while at least one is connected.

    :param reactor: the reactor.
    :param interval: the time between two events, in seconds.
    :param source: an endless iterator of events and comments.
    """

    def __init__(self, reactor: IReactorTime, interval: float, source: Iterator[Item]) -> None:
        self._channels: set[SSEChannel] = set()
        self._interval = interval
        self._source = source
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor

    def join(self, channel: SSEChannel) -> None:
        """
        Send a channel all events from now on.
        """
        self._channels.add(channel)
        channel.when_closed().addCallback(lambda _: self._leave(channel))
        if not self._ticking.running:
            # The first event is sent after an interval, so that clients that connect together get the same
            # events.
            ticking = self._ticking.start(self._interval, now=False)
            ticking.addErrback(lambda failure: _log.failure("the broadcast failed", failure))

    def _leave(self, channel: SSEChannel) -> None:
        self._channels.discard(channel)
        if not self._channels and self._ticking.running:
            self._ticking.stop()

    def _tick(self) -> None:
        item = next(self._source)
        for channel in self._channels.copy():
            try:
                _send(channel, item)
            except ChannelClosed:
                # Its when_closed() is about to fire, and removes it.
                pass
            except Exception:
                # One failing channel must not keep the event from the others.
                _log.failure("{channel} did not get {item}", channel=channel, item=item)


def _send(channel: SSEChannel, item: Item) -> None:
    if isinstance(item, ServerSentEvent):
        channel.send_event(item)
    else:
        channel.comment(item)


def demo_streams(reactor: IReactorTime) -> Mapping[str, DemoStream]:
    """
    Make all streams but ``hub``.

    :param reactor: the reactor.
    :returns: the streams by name.
    """

    async def job(start: int) -> AsyncIterator[ServerSentEvent]:
        for percent in range(start + _STEP_PERCENT, _LAST_PERCENT + 1, _STEP_PERCENT):
            await deferLater(reactor, _STEP)
            yield ServerSentEvent(f"{percent} %", "progress", str(percent))

    async def reconnect(channel: SSEChannel) -> None:
        start = _number(channel.last_event_id)
        for number in range(start + 1, start + 1 + _EVENTS_PER_CONNECTION):
            await deferLater(reactor, _TICK)
            channel.send(f"event {number}", id=str(number))

    upgrader = Upgrader(reactor=reactor, flush_timeout=_FLUSH_TIMEOUT)
    quick = Upgrader(reactor=reactor, flush_timeout=_FLUSH_TIMEOUT, retry=1.0)
    clock = Broadcast(reactor, _TICK, _clock(reactor))
    events = Broadcast(reactor, _TICK, _events())
    return {
        "clock": DemoStream(clock.join, upgrader=upgrader),
        "events": DemoStream(events.join, upgrader=upgrader),
        "progress": JobStream(
            lambda channel: channel.send_from(job(_number(channel.last_event_id))), upgrader=upgrader
        ),
        "reconnect": DemoStream(reconnect, upgrader=quick),
    }


def _clock(reactor: IReactorTime) -> Iterator[Item]:
    for number in count(1):
        now = time.localtime(wall(reactor))
        yield ServerSentEvent(time.strftime("%H:%M:%S", now), id=str(number))


def _events() -> Iterator[Item]:
    numbers = (str(number) for number in count(1))
    while True:
        yield ServerSentEvent("An event without a type is a message.", None, next(numbers))
        yield ServerSentEvent(_POEM, "poem", next(numbers))
        yield "A comment is on the wire, but is not an event."
        yield ServerSentEvent("Grüß Gott · Привет · こんにちは · 🦆", "greeting", next(numbers))
        yield ServerSentEvent(to_json({"city": "Zürich", "celsius": 21.5}), "json", next(numbers))
        # An event with an empty data field is dispatched.
        yield ServerSentEvent("", "empty", next(numbers))


def _number(last_event_id: str) -> int:
    """
    Return the number of the last event that a client received; 0 for an ID that no stream here sends.
    """
    digits = last_event_id.isascii() and last_event_id.isdigit()
    return int(last_event_id) if digits and len(last_event_id) <= _MAX_DIGITS else 0

"""
The hub of the demo: what one page publishes all pages see, and those that come late get it too.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txsse._serialize import to_json
from txsse.errors import ChannelClosed, InvalidField
from txsse.hub.hub import Hub
from txsse.hub.subscriber import Subscriber
from txsse.journal.urls import journal_named
from txsse.server.upgrade import Upgrader
from txsse.web.responses import refuse_method, refuse_strangers, send_response

__all__ = ["DemoHub"]

_TOPIC = "demo"

# How many messages one who comes late gets: what can be read at a glance. With the limit below they take
# some 200 KB at most.
_REPLAYED = 50

# How many bytes a message may have: it is a line that somebody typed.
_MAX_MESSAGE = 4096

# How long clients wait before they come back, in seconds: not long, since somebody is watching.
_RETRY = 1.0

# The same when the service stops, which takes a moment to start again; and how long it waits for slow ones.
_RETRY_STOPPED = (1.0, 3.0)
_FLUSH_TIMEOUT = 5.0


class DemoHub:
    """
    A hub with one topic. Its stream begins with an event ``connected``, as all streams of the demo do, and
    tells in events ``presence`` how many pages watch.

    A page has two streams open, one for each of its panes. Both say in the query parameter ``page`` which
    one it is, so that it counts once; a client that does not say counts by itself.

    :param reactor: the reactor.
    :param journal: the name of its journal, as on the command line.
    :ivar hub: the hub.
    :ivar stream: the resource that subscribes.
    :ivar publish: the resource that publishes.
    """

    def __init__(self, reactor: IReactorTime, journal: str = "memory:") -> None:
        self._reactor = reactor
        # Each with its page.
        self._subscribers: dict[Subscriber, Hashable] = {}
        self._newcomers: set[Subscriber] = set()
        self._told = 0
        self._telling: IDelayedCall | None = None
        self.hub = Hub(
            journal=journal_named(journal, max_count=_REPLAYED, reactor=reactor),
            upgrader=Upgrader(reactor=reactor, flush_timeout=_FLUSH_TIMEOUT, retry=_RETRY),
            reactor=reactor,
            presence=self._changed,
        )
        self.stream = self.hub.resource(_TOPIC)
        self.publish = Publish(self.hub)

    def start(self) -> Deferred[None]:
        """
        Start the journal, so that whoever starts the service learns of what is wrong with it.
        """
        return self.hub.start()

    def close_all(self) -> int:
        """
        Close all channels.

        :returns: how many were open.
        """
        channels = [subscriber.channel for subscriber in self._subscribers if subscriber.channel.is_open]
        for channel in channels:
            channel.close()
        return len(channels)

    def stop(self) -> Deferred[None]:
        """
        Stop the hub.

        :returns: a Deferred that fires when all channels are closed.
        """
        return self.hub.stop(retry=_RETRY_STOPPED, deadline=_FLUSH_TIMEOUT)

    def _changed(self, subscriber: Subscriber, present: bool) -> None:
        if present:
            self._subscribers[subscriber] = _page(subscriber)
            self._newcomers.add(subscriber)
            channel = subscriber.channel
            channel.send_json({"last_event_id": channel.last_event_id}, event="connected")
        else:
            self._subscribers.pop(subscriber, None)
            self._newcomers.discard(subscriber)
        if self._telling is None and self._subscribers:
            # Both streams of a page come, and go, in about the same turn.
            self._telling = self._reactor.callLater(0, self._tell)

    def _tell(self) -> None:
        """
        Tell how many pages there are, past the journal: in there, comings and goings would push the messages
        out, and nobody needs to know how many there were.
        """
        self._telling = None
        pages = len(set(self._subscribers.values()))
        audience = self._newcomers if pages == self._told else self._subscribers
        self._told = pages
        for subscriber in list(audience):
            with suppress(ChannelClosed):
                subscriber.channel.send_json({"pages": pages}, event="presence")
        self._newcomers.clear()


class Publish(Resource):
    """
    Publishes the form field ``data``.

    :param hub: where.
    """

    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        Resource.__init__(self)
        self._hub = hub

    def render(self, request: Request) -> int:
        """
        Publish, and answer with the id.
        """
        if request.method != b"POST":
            return refuse_method(request, "POST")
        refused = refuse_strangers(request)
        if refused is not None:
            return refused.render(request)
        data = (request.args or {}).get(b"data")
        if not data:
            return send_response(request, 400, "The form field data must hold the message.")
        if len(data[0]) > _MAX_MESSAGE:
            return send_response(request, 413, f"A message may have {_MAX_MESSAGE} bytes.")
        try:
            published = self._hub.publish(_TOPIC, data[0])
        except InvalidField:
            return send_response(request, 400, "The message must be UTF-8.")
        published.addCallbacks(_tell_id, _tell_end, callbackArgs=(request,), errbackArgs=(request,))
        return NOT_DONE_YET


def _tell_id(id: str, request: Request) -> None:
    send_response(request, 200, to_json({"id": id}).encode(), content_type=b"application/json")


def _tell_end(failure: Failure, request: Request) -> None:
    send_response(request, 503, "The demo is stopping.")


def _page(subscriber: Subscriber) -> Hashable:
    """
    Return the page that a stream belongs to, or what stands for one.
    """
    named: list[bytes] = subscriber.channel.request.args.get(b"page", [])
    return named[0] if named and named[0] else subscriber

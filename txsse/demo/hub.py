"""
The hub of the demo: it sends a message published by one page to all pages, and replays it to later ones.
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
from txsse.journal.urls import journal_named
from txsse.server.channel import SSEChannel
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader
from txsse.web.responses import refuse_method, refuse_strangers, send_response

__all__ = ["DemoHub"]

_TOPIC = "demo"

# How many messages are replayed to a new page: as many as a visitor reads at a glance. With the limit below,
# they take some 200 KB at most.
_REPLAYED = 50

# How many bytes a message may have: a visitor types it in one line.
_MAX_MESSAGE = 4096

# How long clients wait before they reconnect, in seconds: not long, because a visitor is watching.
_RETRY = 1.0

# The range of that delay when the service stops, since a restart takes a moment; and how long the service
# waits for slow readers.
_RETRY_STOPPED = (1.0, 3.0)
_FLUSH_TIMEOUT = 5.0

# How long a page counts after its streams have ended, in seconds: while it is loaded again.
_PRESENCE_GRACE = 1.0


class DemoHub:
    """
    A hub with one topic, whose stream also reports how many pages are connected.

    The stream begins with an event ``connected``, as all streams of the demo do; each event ``presence`` has
    the number of pages. A page opens two streams, one for each of its panes. Both have the page's ID in the
    query parameter ``page``, so that the page counts once; a stream without an ID counts as a page.

    :param reactor: the reactor.
    :param journal: the name of its journal, as on the command line.
    :ivar hub: the hub.
    :ivar stream: the resource that subscribes.
    :ivar publish: the resource that publishes.
    """

    def __init__(self, reactor: IReactorTime, journal: str = "memory:") -> None:
        self._reactor = reactor
        self._pages: set[Hashable] = set()
        self._newcomers: list[SSEChannel] = []
        self._sent_pages = 0
        self._sending: IDelayedCall | None = None
        upgrader = Upgrader(reactor=reactor, flush_timeout=_FLUSH_TIMEOUT, retry=_RETRY, slow_policy="replay")
        self.hub = Hub(
            journal=journal_named(journal, max_count=_REPLAYED, reactor=reactor),
            upgrader=upgrader,
            reactor=reactor,
            on_presence=self._changed,
            presence_grace=_PRESENCE_GRACE,
        )
        self.stream = SSEResource(self._greet, upgrader=upgrader)
        self.publish = Publish(self.hub)

    def close_all(self) -> int:
        """
        Close all channels.

        :returns: how many were open.
        """
        channels = [each.channel for each in self.hub.subscribers if each.channel.is_open]
        for channel in channels:
            channel.close()
        return len(channels)

    def stop(self) -> Deferred[None]:
        """
        Stop the hub.

        :returns: a Deferred that fires when all channels are closed.
        """
        return self.hub.stop(retry=_RETRY_STOPPED, deadline=_FLUSH_TIMEOUT)

    def _greet(self, channel: SSEChannel) -> None:
        named: list[bytes] = channel.request.args.get(b"page", [])
        channel.send_json({"last_event_id": channel.last_event_id}, event="connected")
        self.hub.subscribe(channel, _TOPIC, key=named[0].hex() if named and named[0] else None)
        self._newcomers.append(channel)
        self._send_pages_soon()

    def _changed(self, topic: str, key: Hashable, present: bool) -> None:
        if key is not None:
            (self._pages.add if present else self._pages.discard)(key)
        self._send_pages_soon()

    def _send_pages_soon(self) -> None:
        if self._sending is None and not self.hub.is_stopping:
            # Both streams of a page connect in about the same turn of the reactor.
            self._sending = self._reactor.callLater(0, self._send_pages)

    def _send_pages(self) -> None:
        """
        Send the number of pages, without recording it.

        In the journal, these events would displace the messages, and past numbers are of no use to a client.
        """
        self._sending = None
        subscribers = list(self.hub.subscribers)
        pages = len(self._pages) + sum(each.key is None for each in subscribers)
        changed = pages != self._sent_pages
        audience = [each.channel for each in subscribers] if changed else self._newcomers
        self._sent_pages, self._newcomers = pages, []
        for channel in audience:
            with suppress(ChannelClosed):
                channel.send_json({"pages": pages}, event="presence")


class Publish(Resource):
    """
    Publishes the form field ``data`` of a POST.

    :param hub: the hub to publish to.
    """

    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        Resource.__init__(self)
        self._hub = hub

    def render(self, request: Request) -> int:
        """
        Publish the message; the response is JSON with its ID, or an error.
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
            return send_response(request, 413, f"A message may have at most {_MAX_MESSAGE} bytes.")
        try:
            published = self._hub.publish(_TOPIC, data[0])
        except InvalidField:
            return send_response(request, 400, "The message must be UTF-8.")
        published.addCallbacks(_send_id, _send_stopping, callbackArgs=(request,), errbackArgs=(request,))
        return NOT_DONE_YET


def _send_id(id: str, request: Request) -> None:
    send_response(request, 200, to_json({"id": id}).encode(), content_type=b"application/json")


def _send_stopping(failure: Failure, request: Request) -> None:
    send_response(request, 503, "The demo is stopping.")

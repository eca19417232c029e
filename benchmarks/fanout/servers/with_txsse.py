"""
A txsse hub.

``python with_txsse.py PORT KEEPALIVE``
"""

from __future__ import annotations

import sys
from functools import partial

from control import Publish, serve
from twisted.internet import reactor, task
from twisted.web.resource import Resource

from txsse import Hub, Upgrader

TOPIC = "bench"


class Deliveries:
    """
    Waits until all subscribers of a hub have received what was published. With many subscribers, the fan-out
    takes slices in several turns of the reactor.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._expected = 0

    async def settled(self, burst: int) -> None:
        """
        Wait until all events are delivered.

        :param burst: how many events were published.
        """
        self._expected += burst * self._hub.subscribers[TOPIC]
        # The public hub.metrics() has the same counter, but iterates over all channels.
        while self._hub._counters.delivered < self._expected:
            await task.deferLater(reactor, 0)


if __name__ == "__main__":
    hub = Hub(upgrader=Upgrader(keepalive=float(sys.argv[2])))
    root = Resource()
    root.putChild(b"events", hub.resource(TOPIC))
    root.putChild(b"publish", Publish(partial(hub.publish, TOPIC), Deliveries(hub).settled))
    serve(root)

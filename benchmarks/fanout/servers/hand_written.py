"""
A server written by hand with Twisted: a list of requests, and ``request.write`` for each of them.

``python hand_written.py PORT KEEPALIVE``
"""

from __future__ import annotations

import sys

from control import Publish, serve
from twisted.internet import defer, task
from twisted.internet.interfaces import IPushProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

KEEPALIVE = float(sys.argv[2])


class Events(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.subscribers: dict[Request, task.LoopingCall] = {}
        self.paused: set[Gate] = set()
        self.waiting: list[defer.Deferred[None]] = []

    def render_GET(self, request: Request) -> int:
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"cache-control", b"no-store")
        request.write(b"")
        request.registerProducer(Gate(self), True)
        keepalive = task.LoopingCall(request.write, b":\n\n")
        keepalive.start(KEEPALIVE, now=False)
        self.subscribers[request] = keepalive
        request.notifyFinish().addErrback(lambda _: self.subscribers.pop(request).stop())
        return NOT_DONE_YET

    def publish(self, data: str) -> None:
        frame = f"data: {data}\n\n".encode()
        for request in self.subscribers:
            request.write(frame)

    async def settled(self, burst: int) -> None:
        """
        Wait until no transport has a full buffer.
        """
        if self.paused:
            self.waiting.append(defer.Deferred())
            await self.waiting[-1]


@implementer(IPushProducer)
class Gate:
    """
    Makes the publisher wait while one subscriber's buffer is full.
    """

    def __init__(self, events: Events) -> None:
        self._events = events

    def pauseProducing(self) -> None:
        self._events.paused.add(self)

    def resumeProducing(self) -> None:
        self._events.paused.discard(self)
        if not self._events.paused:
            waiting, self._events.waiting = self._events.waiting, []
            for one in waiting:
                one.callback(None)

    stopProducing = resumeProducing


if __name__ == "__main__":
    events = Events()
    root = Resource()
    root.putChild(b"events", events)
    root.putChild(b"publish", Publish(events.publish, events.settled))
    serve(root)

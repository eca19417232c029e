"""
The resource that makes the two servers on Twisted publish.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable

from event import Numbers
from pauses import Pauses
from twisted.internet import defer, reactor, task
from twisted.logger import globalLogPublisher, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site


class Publish(Resource):
    """
    ``POST /publish?turns=N&burst=B&interval=S``: publish B events in each of N turns of the reactor. With
    ``&watch=1``, the response contains the reactor's longest pause meanwhile.

    :param publish: publishes an event's data.
    :param settled: called with the number of events that a turn has published. The next turn begins when its
        result fires, which means that all events have been sent.
    """

    isLeaf = True

    def __init__(self, publish: Callable[[str], object], settled: Callable[[int], Awaitable[None]]) -> None:
        super().__init__()
        self._publish = publish
        self._settled = settled
        self._numbers = Numbers()

    def render_POST(self, request: Request) -> int:
        published = defer.Deferred.fromCoroutine(self._answer(request))
        published.addErrback(lambda failure: request.processingFailed(failure))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        turns, burst, interval = (request.args[name][0] for name in (b"turns", b"burst", b"interval"))
        pauses = Pauses(reactor) if b"watch" in request.args else None
        await self._run(int(turns), int(burst), float(interval))
        request.write(json.dumps(pauses.stop() if pauses else {}).encode())
        request.finish()

    async def _run(self, turns: int, burst: int, interval: float) -> None:
        began = reactor.seconds()
        for turn in range(1, turns + 1):
            for data in self._numbers.turn(burst):
                self._publish(data)
            rest = began + turn * interval - reactor.seconds()
            await task.deferLater(reactor, max(0, rest))
            await self._settled(burst)


def serve(root: Resource) -> None:
    """
    Serve until the process is terminated.
    """
    globalLogPublisher.addObserver(textFileLogObserver(sys.stderr))
    # The load generator opens more connections at a time than the default backlog of 50.
    reactor.listenTCP(int(sys.argv[1]), Site(root), backlog=1024, interface="127.0.0.1")
    reactor.run()

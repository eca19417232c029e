"""
A hub that is controlled by stdin.

    python -m recording.programs.node CONTESTANT PLACE COUNT

It prints its port. Then it reads commands from stdin, one per line, and answers each with a line of JSON:

    fill N          publish N updates with numbered ids; the answer has the first id and the last
    steady N RATE   publish N updates at a steady rate, for the subscribers of ``fanout/load.c``
    fast N FLIGHT   publish N updates for these subscribers, always FLIGHT of them unacknowledged
    watch           start measuring the reactor's pauses, and the latency of publishing to another topic
    report          the answer has the maxima of both, and counters of the hub

It exits when stdin is closed.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

from fanout.servers.event import FIRST, Numbers
from fanout.servers.pauses import Pauses
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import globalLogPublisher, textFileLogObserver
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site

from recording.contestants import named
from recording.programs.load import Load
from recording.programs.making import TOPIC, make_journal, report
from txsse import Hub, Upgrader

reactor: Any = global_reactor

# The interval of publishing to the other topic, in seconds.
_ASIDE_INTERVAL = 0.05


class Aside:
    """
    Publishes periodically to a topic without subscribers, and records the longest wait for an
    acknowledgement: publishers should not have to wait for clients that resume.

    :param hub: the hub.
    """

    def __init__(self, hub: Hub) -> None:
        self._publish = partial(hub.publish, "aside", "x" * 100)
        self._longest = 0.0
        self._call = LoopingCall(self._go)
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        """
        Start publishing.
        """
        self._call.start(_ASIDE_INTERVAL)

    async def end(self) -> float:
        """
        Stop, and return the longest wait in seconds.

        :raises Exception: if an update could not be published.
        """
        self._call.stop()
        await gatherResults(self._waiting, consumeErrors=True)
        return self._longest

    def _go(self) -> None:
        self._waiting.append(self._publish().addCallback(self._acknowledged, reactor.seconds()))

    def _acknowledged(self, _: str, began: float) -> None:
        self._longest = max(self._longest, reactor.seconds() - began)


class Node(LineReceiver):
    """
    Executes the commands on the hub.

    :param hub: the hub.
    """

    delimiter = b"\n"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._numbers = Numbers()
        self._ids = count(FIRST)
        self._pauses: Pauses | None = None
        self._aside = Aside(hub)
        self._commands: dict[bytes, Callable[..., Awaitable[Any]]] = {
            b"fill": self._fill,
            b"steady": self._steady,
            b"fast": self._fast,
            b"watch": self._watch,
            b"report": self._report,
        }

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        name, *values = line.split()
        work: Any = self._commands[name](*map(float, values))
        Deferred.fromCoroutine(work).addCallbacks(report, self._failed)

    def connectionLost(self, reason: object = None) -> None:
        # The benchmark is done. Do not stop the hub: waiting for its clients would take long.
        reactor.stop()

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, FirstError):
            failure = failure.value.subFailure
        report({"failed": failure.getErrorMessage()})

    async def _fill(self, updates: float) -> list[str]:
        first = str(next(self._ids))
        await self._hub.publish(TOPIC, self._data(), id=first)

        def publish() -> Deferred[str]:
            return self._hub.publish(TOPIC, self._data(), id=str(next(self._ids)))

        load = Load(publish, reactor, in_flight=1000, count=updates - 1)
        load.begin()
        await load.when_finished()
        return [first, str(next(self._ids) - 1)]

    async def _steady(self, updates: float, rate: float) -> None:
        began, done = reactor.seconds(), 0
        published = []
        while done < updates:
            due = min(int(updates), int((reactor.seconds() - began) * rate) + 1)
            published += [self._hub.publish(TOPIC, data) for data in self._numbers.turn(due - done)]
            done = due
            await deferLater(reactor, max(0, began + done / rate - reactor.seconds()))
        await gatherResults(published, consumeErrors=True)

    async def _fast(self, updates: float, in_flight: float) -> None:
        def publish() -> Deferred[str]:
            return self._hub.publish(TOPIC, self._data())

        load = Load(publish, reactor, in_flight=int(in_flight), count=updates)
        load.begin()
        await load.when_finished()

    async def _watch(self) -> None:
        self._pauses = Pauses(reactor)
        self._aside.begin()

    async def _report(self) -> dict[str, float]:
        metrics = self._hub.metrics()
        reported: dict[str, float] = {"slow_replays": metrics.slow_replays, "gaps": metrics.gaps}
        if self._pauses is not None:
            reported |= self._pauses.stop()
            reported["publish"] = await self._aside.end()
        return reported

    def _data(self) -> str:
        (data,) = self._numbers.turn(1)
        return data


async def serve(name: str, place: str, updates: int) -> None:
    """
    Start the hub, and serve it.
    """
    hub = Hub(journal=make_journal(named(name), place, updates), upgrader=Upgrader(keepalive=None))
    await hub.start()
    root = Resource()
    root.putChild(b"events", hub.resource(TOPIC))
    # All clients of a storm connect at once.
    port = reactor.listenTCP(0, Site(root), backlog=4096, interface="127.0.0.1")
    report(port.getHost().port)
    StandardIO(Node(hub))


def main() -> None:
    name, place, updates = sys.argv[1:]
    globalLogPublisher.addObserver(textFileLogObserver(sys.stderr))

    def failed(failure: Failure) -> None:
        sys.stderr.write(failure.getTraceback())
        reactor.stop()

    def begin() -> None:
        Deferred.fromCoroutine(serve(name, place, int(updates))).addErrback(failed)

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main()

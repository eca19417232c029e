"""
Measure a hub with more channels than there can be open files.

``python in_process.py channels COUNT SOCKETS TURNS CORE``: COUNT channels share SOCKETS real connections,
which a child process on another core reads. Each turn publishes one event to all channels.

``python in_process.py topics COUNT CHANNELS TURNS CORE``: each of CHANNELS channels subscribes to its share
of COUNT topics. Each turn publishes one event to one of ten topics.

Except for shared sockets, everything is as usual: requests are parsed, upgraded, subscribed and sent to. The
program prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from event import Numbers
from pauses import Pauses
from twisted.internet import defer, reactor, task, tcp
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from txsse import Hub, Upgrader

REQUEST = b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


class SharedSocket:
    """
    A socket that several channels share; each takes it for its own.

    :ivar send: the method of the real socket, so that sending has its usual cost.
    """

    def __init__(self, shared: socket.socket) -> None:
        self.send = shared.send
        self._shared = shared

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared, name)


class Unwatched:
    """
    A reactor for channels that waits for no socket.

    :ivar writers: the transports that have unsent data.
    """

    def __init__(self) -> None:
        self.writers: set[tcp.Server] = set()
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard
        # No further requests arrive on these connections.
        self.addReader = self.removeReader = lambda reader: None

    def write(self) -> None:
        """
        Send the unsent data of all transports.
        """
        for transport in list(self.writers):
            transport.doWrite()


class Everything(Resource):
    """
    Serves one resource at every path.
    """

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        self._resource = resource

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._resource


def open_channels(site: Site, count: int, sockets: list[socket.socket]) -> Unwatched:
    """
    Open channels, and distribute them over the sockets.
    """
    unwatched = Unwatched()
    for number in range(count):
        protocol = site.buildProtocol(None)
        shared: Any = SharedSocket(sockets[number % len(sockets)])
        peer = (f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 1024)
        transport = tcp.Server(shared, protocol, peer, None, number, unwatched)
        protocol.makeConnection(transport)
        protocol.dataReceived(REQUEST)
        unwatched.write()
    return unwatched


def open_sockets(count: int, core: int) -> list[socket.socket]:
    """
    Open connections to a child process that reads everything.
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    parent = os.getpid()
    if not os.fork():
        os.sched_setaffinity(0, {core})
        try:
            read_all(listening.getsockname(), count, parent)
        finally:
            os._exit(0)
    accepted = []
    listening.settimeout(20)
    for _ in range(count):
        connection, _ = listening.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.append(connection)
    listening.close()
    return accepted


def read_all(address: tuple[str, int], count: int, parent: int) -> None:
    waiting = selectors.EpollSelector()
    for _ in range(count):
        connection = socket.create_connection(address)
        connection.setblocking(False)
        waiting.register(connection, selectors.EVENT_READ)
    while os.getppid() == parent:
        for key, _ in waiting.select(1):
            if not key.fileobj.recv(1 << 20):
                return


async def publish(
    hub: Hub, topics: list[str], turns: int, settled: Callable[[], Awaitable[None]]
) -> tuple[float, float]:
    """
    Publish one event in each turn.

    :returns: the CPU of a turn on average, and the duration of the longest turn, both in seconds.
    """
    numbers = Numbers()
    began = time.process_time()
    longest = 0.0
    for turn in range(turns):
        at = time.monotonic()
        (data,) = numbers.turn(1)
        hub.publish(topics[turn % len(topics)], data)
        await task.deferLater(reactor, 0)
        await settled()
        longest = max(longest, time.monotonic() - at)
    return (time.process_time() - began) / turns, longest


async def measure_channels(count: int, sockets: int, turns: int, core: int) -> dict[str, float]:
    shared = open_sockets(min(count, sockets), core)
    hub = Hub(upgrader=Upgrader(keepalive=None))
    unwatched = open_channels(Site(Everything(hub.resource("bench"))), count, shared)
    delivered = 0

    async def settled() -> None:
        nonlocal delivered
        delivered += count
        while hub._counters.delivered < delivered:
            await task.deferLater(reactor, 0)
        # Give the reader time to read everything, so that the sockets' buffers do not fill.
        await task.deferLater(reactor, count * 2e-6)

    await hub.start()
    assert hub.subscribers["bench"] == count, hub.subscribers
    await publish(hub, ["bench"], 2, settled)
    # Collect the garbage of opening the channels now, so that it does not count as publishing.
    gc.collect()
    cpu, _ = await publish(hub, ["bench"], turns, settled)
    pauses = Pauses(reactor)
    _, longest = await publish(hub, ["bench"], 5, settled)
    longest_pauses = pauses.stop()
    # If a shared socket was full, a channel took a slower path, and the figures are wrong.
    assert not unwatched.writers, f"{len(unwatched.writers)} channels found their socket full"
    return {"cpu": cpu / count, "longest": longest, **longest_pauses}


async def measure_topics(count: int, channels: int, turns: int, core: int) -> dict[str, float]:
    (shared,) = open_sockets(1, core)
    channels = min(count, channels)
    each = count // channels
    hub = Hub(upgrader=Upgrader(keepalive=None), max_topics=each)
    given = 0

    def topics(request: Request) -> list[str]:
        nonlocal given
        given += each
        return [f"topic/{number}" for number in range(given - each, given)]

    open_channels(Site(Everything(hub.resource(topics))), channels, [shared])
    delivered = 0

    async def settled() -> None:
        nonlocal delivered
        delivered += 1
        while hub._counters.delivered < delivered:
            await task.deferLater(reactor, 0)

    await hub.start()
    assert len(hub.subscribers.by_topic) == count, hub.subscribers
    some = [f"topic/{number * (count // 10)}" for number in range(10)]
    await publish(hub, some, turns // 10, settled)
    gc.collect()
    cpu, _ = await publish(hub, some, turns, settled)
    return {"cpu": cpu}


if __name__ == "__main__":
    measure = {"channels": measure_channels, "topics": measure_topics}[sys.argv[1]]

    def main(_: object) -> defer.Deferred[None]:
        return defer.Deferred.fromCoroutine(measure(*map(int, sys.argv[2:]))).addCallback(
            lambda figures: print(json.dumps(figures))
        )

    task.react(main)

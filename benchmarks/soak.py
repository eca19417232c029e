"""
Soak test of a hub: ``python benchmarks/soak.py [--minutes 10] [--subscribers 2000]`` (Linux).

Thousands of subscribers connect to a server in another process, disconnect, reset their connections, stop
reading, and resume. Each of them checks the events against the expected sequence: none may be missing without
a notification of a gap, and none may arrive twice. At the end, when all have disconnected, the server's
memory, objects and open files are compared with those after a warm-up of the same kind.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
from collections import Counter
from typing import Any, cast

from shared.machine import allow_files
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.tcp import Server
from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Site

from txsse import EventStreamParser, Hub, MemoryJournal, SSEChannel, Upgrader
from txsse.hub.subscriber import Subscriber

reactor: Any = global_reactor

TOPICS = 20
# How many times a second the server publishes.
RATE = 5
# How long the journal holds an update, in seconds: less than the longest absence of clients.
MAX_AGE = 20.0
# By how much the memory may grow between the two measurements: a twentieth, and some MiB.
MEMORY_FACTOR = 1.05
MEMORY_SLACK = 4 * 1024 * 1024
# The metrics of the hub that the server reports.
METRICS = (
    "channels",
    "topics",
    "replaying",
    "buffered",
    "published",
    "delivered",
    "replayed",
    "gaps",
    "slow_replays",
    "failures",
)
# How long the server may take to answer, in seconds.
PATIENCE = 60.0


# The server.


class Serving(LineReceiver):
    """
    The server: it publishes all the time, and answers each line on stdin with its state.
    """

    delimiter = b"\n"

    def __init__(self) -> None:
        self.chance = random.Random(1)
        self.numbers: Counter[str] = Counter()
        self.errors: list[str] = []
        # Until logging begins, Twisted keeps every log event, and with it the channel that it is about.
        globalLogBeginner.beginLoggingTo(
            [cast(ILogObserver, self._logged)], discardBuffer=True, redirectStandardIO=False
        )
        journal = MemoryJournal(max_count=5000, max_age=MAX_AGE)
        upgrader = Upgrader(keepalive=5.0, max_lifetime=90.0, peer_timeout=60.0, flush_timeout=10.0)
        self.hub = Hub(journal=journal, upgrader=upgrader)
        self.publishing = LoopingCall(self.publish)

    def _logged(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self.errors.append(str(event["log_failure"]))

    def connectionMade(self) -> None:
        site = Site(self.hub.resource(lambda request: [t.decode() for t in request.args[b"t"]]))
        site.log = lambda request: None  # type: ignore[method-assign]
        port: Any = reactor.listenTCP(0, site, backlog=4096, interface="127.0.0.1")
        # Small, so that a client that does not read soon counts as slow.
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        self.publishing.start(1 / RATE)
        self._answer({"port": port.getHost().port})

    def publish(self) -> None:
        for _ in range(self.chance.choice([1, 2, 2, 5])):
            topic = str(self.chance.randrange(TOPICS))
            for _ in range(self.chance.choice([1, 1, 3])):
                self.numbers[topic] += 1
                size = self.chance.choice([50, 500, 2000, 8000])
                self.hub.publish(topic, f"{topic} {self.numbers[topic]} {'x' * size}")

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        gc.collect()
        metrics = self.hub.metrics()
        kinds = (SSEChannel, Subscriber, Request, HTTPChannel, Server)
        alive = Counter(type(one) for one in gc.get_objects())
        state = {
            "rss": int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize(),
            "files": len(os.listdir("/proc/self/fd")),
            "alive": {
                kind.__name__: sum(n for t, n in alive.items() if issubclass(t, kind)) for kind in kinds
            },
            "calls": len(reactor.getDelayedCalls()),
            "errors": self.errors[:3],
            "metrics": {name: getattr(metrics, name) for name in METRICS},
            "closes": {str(reason.name): count for reason, count in metrics.closes.items()},
        }
        self._answer(state)

    def _answer(self, state: dict[str, Any]) -> None:
        self.sendLine(json.dumps(state).encode())  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: object = None) -> None:
        # The parent process has exited, or asks this one to exit.
        self.publishing.stop()
        self.hub.stop(deadline=2).addBoth(lambda _: reactor.callFromThread(reactor.stop))


class ServerProcess(ProcessProtocol):
    """
    The child process of the server.
    """

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[int | None] = Deferred()
        self.running = True
        self._buffer = b""
        self._waiting: list[Deferred[dict[str, Any]]] = []

    def start(self) -> Deferred[dict[str, Any]]:
        arguments = [sys.executable, os.path.abspath(__file__), "--serve"]
        reactor.spawnProcess(self, sys.executable, arguments, env=None, childFDs={0: "w", 1: "r", 2: 2})
        return self._answer()

    def ask(self) -> Deferred[dict[str, Any]]:
        """
        Ask the server for its state.
        """
        if not self.running:
            raise RuntimeError("the server has exited")
        self.transport.write(b"?\n")
        return self._answer()

    def _answer(self) -> Deferred[dict[str, Any]]:
        answer: Deferred[dict[str, Any]] = Deferred()
        self._waiting.append(answer)
        return answer.addTimeout(PATIENCE, reactor)

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._waiting.pop(0).callback(json.loads(line))

    def processEnded(self, reason: Any) -> None:  # noqa: N802
        self.running = False
        self.ended.callback(reason.value.exitCode)

    async def end(self) -> None:
        """
        Make the server exit; kill it if it has not exited after 10 s.
        """
        if self.running:
            self.transport.closeStdin()
            killing = reactor.callLater(10, self._kill)
            await self.ended
            if killing.active():
                killing.cancel()

    def _kill(self) -> None:
        try:
            self.transport.signalProcess(signal.Signals.SIGKILL.name.removeprefix("SIG"))
        except ProcessExitedAlready:
            pass


# The clients.


class Stream(Protocol):
    """
    One connection of a subscriber.
    """

    transport: Any

    def __init__(self, subscriber: SoakSubscriber) -> None:
        self.subscriber = subscriber
        self.parser = EventStreamParser(last_event_id=subscriber.last_id)
        self.lost: Deferred[None] = Deferred()
        self.ended = False
        self._raw = b""
        self._in_body = False

    def connectionMade(self) -> None:
        wanted = "&".join(f"t={topic}" for topic in self.subscriber.topics)
        last = self.subscriber.last_id
        resume = f"Last-Event-ID: {last}\r\n" if last else ""
        request = f"GET /?{wanted} HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n"
        self.transport.write(request.encode())

    def dataReceived(self, data: bytes) -> None:
        self._raw += data
        if not self._in_body:
            head, found, rest = self._raw.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                self.subscriber.wrong(f"got the response {head[:60]!r}")
            self._in_body = True
            self._raw = rest
        body = []
        while True:
            size, found, rest = self._raw.partition(b"\r\n")
            if not found or len(rest) < int(size, 16) + 2:
                break
            self.ended = not int(size, 16)
            body.append(rest[: int(size, 16)])
            self._raw = rest[int(size, 16) + 2 :]
        for event in self.parser.feed(b"".join(body)):
            if event.event == "stream-reset":
                self.subscriber.notified_of_gap()
            else:
                self.subscriber.received(event.data)
        self.subscriber.last_id = self.parser.last_event_id
        if self.ended:
            self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)
        if self.subscriber.stream is self:
            self.subscriber.wake()


class Figures:
    """
    The counters and violations of all subscribers together.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []


class SoakSubscriber:
    """
    A client that connects and disconnects repeatedly, and checks its events.
    """

    def __init__(self, number: int, port: int, figures: Figures) -> None:
        self.chance = random.Random(number)
        self.topics = self.chance.sample(range(TOPICS), 2)
        self.last_id = ""
        self.going = True
        self.stream: Stream | None = None
        self._name = f"subscriber {number}"
        self._figures = figures
        self._seen: dict[str, int] = {}
        self._gap: set[str] = set()
        self._sleeping: Deferred[Any] | None = None
        address = f"127.{number // 62500 % 250}.{number // 250 % 250}.{number % 250 + 1}"
        self._endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=30, bindAddress=(address, 0))

    def wrong(self, what: str) -> None:
        self._figures.wrong.append(f"{self._name} {what}")

    def notified_of_gap(self) -> None:
        self._figures.counts["gaps"] += 1
        self._gap.update(self._seen)

    def received(self, data: str) -> None:
        """
        Check an event against the sequence of its topic.
        """
        self._figures.counts["received"] += 1
        topic, number, _ = data.split(" ", 2)
        last = self._seen.get(topic)
        now = int(number)
        if last is not None and now != last + 1:
            if now <= last:
                self.wrong(f"got {now} of topic {topic} after {last}")
            elif topic not in self._gap:
                self.wrong(f"got {now} of topic {topic} after {last}, without a notification of a gap")
        self._gap.discard(topic)
        self._seen[topic] = now

    async def live(self) -> None:
        """
        Connect and disconnect repeatedly, until :meth:`stop` is called.
        """
        try:
            # Spread the first connections.
            await self._sleep(self.chance.uniform(0, 5))
            while self.going:
                await self._visit()
                long = self.chance.random() < 0.05
                await self._sleep(self.chance.uniform(MAX_AGE, 2 * MAX_AGE) if long else self._about(1))
        except CancelledError:
            pass

    def stop(self) -> None:
        """
        Disconnect, and do not reconnect.
        """
        self.going = False
        self.wake()

    def wake(self) -> None:
        """
        Continue at once, because the stream has ended or the test is over.
        """
        if self._sleeping is not None:
            self._sleeping.cancel()

    async def _visit(self) -> None:
        stream = Stream(self)
        try:
            await connectProtocol(self._endpoint, stream)
        except ConnectError as error:
            self._figures.counts[f"not connected: {type(error).__name__}"] += 1
            return
        self.stream = stream
        self._figures.counts["visits"] += 1
        behaviour = self.chance.random()
        try:
            if behaviour < 0.15:
                await self._read_slowly(stream)
            else:
                await self._sleep(self._about(20))
        finally:
            self.stream = None
            if not stream.lost.called:
                if behaviour > 0.7:
                    self._figures.counts["resets"] += 1
                    linger = struct.pack("ii", 1, 0)
                    handle = stream.transport.getHandle()
                    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                # Discard unread data, as a closed tab does.
                stream.transport.abortConnection()
                await stream.lost

    async def _read_slowly(self, stream: Stream) -> None:
        self._figures.counts["slow visits"] += 1
        stream.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(self.chance.randint(1, 3)):
            if stream.lost.called:
                return
            stream.transport.pauseProducing()
            await self._sleep(self.chance.uniform(5, 40))
            if stream.lost.called:
                return
            stream.transport.resumeProducing()
            await self._sleep(self._about(5))

    def _about(self, seconds: float) -> float:
        return self.chance.expovariate(1 / seconds)

    async def _sleep(self, seconds: float) -> None:
        if not self.going:
            raise CancelledError
        self._sleeping = deferLater(reactor, seconds)
        try:
            await self._sleeping
        except CancelledError:
            if not self.going:
                raise
        finally:
            self._sleeping = None


# The measurement.


async def run_subscribers(subscribers: list[SoakSubscriber], seconds: float, progress: LoopingCall) -> None:
    """
    Run subscribers for some time, and wait until all have disconnected.
    """
    lives = [Deferred.fromCoroutine(subscriber.live()) for subscriber in subscribers]
    progress.start(10, now=False)
    await deferLater(reactor, seconds)
    progress.stop()
    for subscriber in subscribers:
        subscriber.stop()
    for succeeded, result in await DeferredList(lives, consumeErrors=True):
        if not succeeded:
            subscribers[0].wrong(f"or another one failed: {result}")


async def rest(server: ServerProcess) -> dict[str, Any]:
    """
    Wait until the server has noticed all disconnects, and return its state.
    """
    for _ in range(60):
        await deferLater(reactor, 0.5)
        state = await server.ask()
        if not state["metrics"]["channels"]:
            break
    # Wait, so that the journal holds the same number of updates in both measurements.
    await deferLater(reactor, MAX_AGE / 4)
    return await server.ask()


async def soak(options: argparse.Namespace) -> int:
    server = ServerProcess()
    figures = Figures()
    began = reactor.seconds()

    async def report() -> None:
        state = await server.ask()
        metrics = state["metrics"]
        print(
            f"{reactor.seconds() - began:5.0f} s  {state['rss'] / 2**20:6.1f} MiB  {state['files']:5} files  "
            f"{metrics['channels']:5} channels  {metrics['replaying']:4} replaying  "
            f"{metrics['slow_replays']:6} moves to replay  "
            f"{metrics['delivered']:9} delivered  {figures.counts['visits']:7} visits  "
            f"{figures.counts['gaps']:6} gaps  {len(figures.wrong)} wrong",
            flush=True,
        )

    try:
        port = (await server.start())["port"]
        progress = LoopingCall(lambda: Deferred.fromCoroutine(report()))
        seconds = options.minutes * 60
        # The longest visits of slow readers take two minutes.
        warming_up = max(20.0, min(120.0, seconds / 5))
        print(f"warming up for {warming_up:.0f} s", flush=True)
        crowd = [SoakSubscriber(number, port, figures) for number in range(options.subscribers)]
        await run_subscribers(crowd, warming_up, progress)
        before = await rest(server)
        print(f"before: {shown(before)}", flush=True)
        crowd = [SoakSubscriber(number, port, figures) for number in range(options.subscribers)]
        await run_subscribers(crowd, seconds, progress)
        after = await rest(server)
        print(f"after:  {shown(after)}", flush=True)
    finally:
        await server.end()
    exit_code = await server.ended if not server.ended.called else server.ended.result
    problems = figures.wrong[:10] + compare(before, after)
    if exit_code != 0:
        problems.append(f"the server exited with {exit_code}")
    if not figures.counts["received"]:
        problems.append("no subscriber received an event")
    print(f"server: {after['metrics']}, closes {after['closes']}")
    print(f"subscribers: {dict(figures.counts)}")
    for problem in problems:
        print(f"WRONG: {problem}")
    print(
        "failed" if problems else "no event lost without notification, none duplicated, no resources leaked"
    )
    return 1 if problems else 0


def shown(state: dict[str, Any]) -> str:
    return (
        f"{state['rss'] / 2**20:.1f} MiB, {state['files']} files, {state['calls']} delayed calls, "
        + ", ".join(f"{count} {kind}" for kind, count in state["alive"].items())
    )


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """
    Return the resources that leaked, and other problems, as sentences.
    """
    problems = [
        f"{count} {kind} are left" for kind, count in after["alive"].items() if count > before["alive"][kind]
    ]
    problems += [f"an error was logged: {error}" for error in after["errors"]]
    for what in ("channels", "topics", "replaying", "buffered", "failures"):
        if after["metrics"][what]:
            problems.append(f"{what}: {after['metrics'][what]}")
    if after["files"] > before["files"]:
        problems.append(f"{after['files']} files are open; before, {before['files']} were")
    if after["calls"] > before["calls"]:
        problems.append(f"{after['calls']} delayed calls are left; before, {before['calls']} were")
    if after["rss"] > before["rss"] * MEMORY_FACTOR + MEMORY_SLACK:
        problems.append(f"the server takes {after['rss']} bytes; before, it took {before['rss']}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--subscribers", type=int, default=2000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    most = allow_files()
    if options.serve:
        StandardIO(Serving())
        reactor.run()
        return
    if options.subscribers + 100 > most:
        raise SystemExit(
            f"{options.subscribers} subscribers need more open files than the {most} allowed here"
        )
    code: list[int] = []
    failed: list[Any] = []
    running = Deferred.fromCoroutine(soak(options))
    running.addCallbacks(code.append, failed.append)
    running.addBoth(lambda _: reactor.callLater(0, reactor.stop))
    reactor.run()
    for failure in failed:
        failure.printTraceback()
    raise SystemExit(code[0] if code else 1)


if __name__ == "__main__":
    main()

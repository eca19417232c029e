"""
Soak test of a cluster that shares a Redis: ``python benchmarks/cluster.py [--nodes 2] [--kills 2]`` (Linux).

Each node is a process with a hub and a ``RedisJournal``. Subscribers, in two further processes, move between
the nodes: each reads for some seconds, is cut off in mid-stream, and resumes at another node with its
``Last-Event-ID``. This process publishes through all nodes and records which updates it published and which
of them were acknowledged. Meanwhile it kills and restarts Redis. If publishing an update with an id fails,
it publishes the update again, with the same id, at any node. Updates without an id are not repeated.

At the end it compares everything with the stream in Redis. Each acknowledged update must be in the stream
once. Updates that certainly failed must not be in it. The events that each subscriber received, over all its
visits, must be the stream from its first position to the end, byte for byte, in order.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clustered import table, verdict
from clustered.agreed import END, SEED, TOPICS
from clustered.crowd import Crowd
from clustered.node import Node
from clustered.processes import Broken, Child, RedisServer
from clustered.publishing import Outage, Published, Publishing
from shared.machine import allow_files
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

reactor: Any = global_reactor

# How many processes share the subscribers.
CROWDS = 2
# How long Redis stays down, in seconds.
DOWN = (0.5, 3.0)
# How many updates each node gets just before Redis is killed, and how many seconds later the kill follows.
LAST_BURST, MOMENT = 200, (0.0, 0.1)
# How long to wait for progress, in seconds. It is not a measure of speed.
PATIENCE = 120.0
# How long to wait at the end for events that should not arrive, in seconds.
SILENCE = 2.0


class Cluster:
    """
    All processes of the soak test.

    :ivar problems: the failures that were found, as sentences.
    """

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.options = options
        self.directory = directory
        self.redis = RedisServer(directory)
        self.nodes = [Child(f"node {number}", self._results) for number in range(options.nodes)]
        self.crowds = [Child(f"crowd {number}") for number in range(CROWDS)]
        self.children = self.nodes + self.crowds
        self.publishing = Publishing(self.nodes, options.updates, options.seconds, options.seed)
        self.entries: list[verdict.Entry] = []
        self.problems: list[str] = []
        self.took = 0.0
        self._chance = random.Random(f"kills {options.seed}")
        self._redis_is = "up"
        self._began = reactor.seconds()

    def _results(self, node: Child, results: list[Any]) -> None:
        self.publishing.results(node, results)

    async def run(self) -> None:
        """
        Run the whole test.

        :raises Broken: if it cannot continue.
        """
        await self._start()
        progress = LoopingCall(self._report)
        progress.start(5.0, now=False)
        failed = self.publishing.start()
        failed.addErrback(lambda failure: self.problems.append(f"publishing failed: {failure}"))
        for number in range(self.options.kills):
            share = (number + 1) / (self.options.kills + 1)
            await self._until(lambda share=share: self.publishing.progress >= share, "nothing is published")
            await self._outage()
        await self._until(lambda: self.publishing.is_over, "some updates with an id were not acknowledged")
        await self._publish_one(END)
        self.publishing.stop()
        await self._wait_for_subscribers()
        progress.stop()
        self.took = reactor.seconds() - self._began
        self._judge()
        await self._end()

    async def _start(self) -> None:
        self.redis.spawn()
        await self._until(self.redis.answers, "Redis does not answer")
        for node in self.nodes:
            node.start("--node", self.redis.url, 2 * self.options.updates + 10)
        await self._until(lambda: all(node.port for node in self.nodes), "a node does not start")
        await self._publish_one(SEED)
        share = -(-self.options.subscribers // CROWDS)
        for number, crowd in enumerate(self.crowds):
            options = {
                "crowd": number,
                "ports": [node.port for node in self.nodes],
                "seed": self.options.seed,
                "seconds": self.options.seconds,
                "first": share * number,
                "end": min(share * (number + 1), self.options.subscribers),
                "directory": str(self.directory),
            }
            crowd.start("--crowd")
            crowd.write(options)

    async def _publish_one(self, id: str) -> None:
        records = self.publishing.records
        record = Published(len(records), id, TOPICS, f"{len(records)} {id}")
        self.publishing.publish(record)
        await self._until(lambda: record.acknowledged, f"{id!r} is not acknowledged")

    async def _outage(self) -> None:
        """
        Kill Redis while updates are in flight, and restart it later.
        """
        for number in range(len(self.nodes)):
            self.publishing.burst(number, LAST_BURST)
        await deferLater(reactor, self._chance.uniform(*MOMENT))
        outage = Outage(reactor.seconds())
        self.redis.kill()
        self.publishing.outages.append(outage)
        self._redis_is = "DOWN"
        self._report()
        await deferLater(reactor, self._chance.uniform(*DOWN))
        self.redis.spawn()
        await self._until(self.redis.answers, "Redis does not answer", step=0.02)
        outage.started = reactor.seconds() - outage.killed
        self._redis_is = "up"
        await self._until(lambda: len(outage.back) == len(self.nodes), "a node no longer publishes")

    async def _wait_for_subscribers(self) -> None:
        await self._ask("finish")
        delivered, deadline = -1, 0.0
        while self.sum("done") < self.options.subscribers and not self.sum("violations"):
            if self.sum("delivered") > delivered:
                delivered, deadline = self.sum("delivered"), reactor.seconds() + PATIENCE
            if reactor.seconds() > deadline:
                break
            await self._ask()
        # Wait for duplicates that may still arrive.
        await deferLater(reactor, SILENCE)
        await self._ask("write")

    async def _ask(self, of_crowds: str = "how") -> None:
        """
        Ask all processes for their state, and wait for the responses.
        """
        for child in self.children:
            child.ask(of_crowds if child in self.crowds else "how")
        await self._until(lambda: not any(each.unanswered for each in self.children), "a process is silent")
        await deferLater(reactor, 0.2)

    async def _until(self, condition: Callable[[], object], problem: str, step: float = 0.01) -> None:
        seen, deadline = -1, 0.0
        while not condition():
            if self.sum("delivered") > seen:
                seen, deadline = self.sum("delivered"), reactor.seconds() + PATIENCE
            if self.problems or reactor.seconds() > deadline:
                raise Broken(problem)
            for child in self.children:
                if child.has_ended:
                    raise Broken(f"{child.name} has exited with {child.code}")
            await deferLater(reactor, step)

    def _report(self) -> None:
        for child in self.children:
            child.ask()
        counts = self.publishing.counts
        print(
            f"{reactor.seconds() - self._began:5.0f} s  Redis {self._redis_is:4}  "
            f"{len(self.publishing.records):6} published  {counts['acknowledgements']:6} acknowledged "
            f"after {self.publishing.percentiles(0.95, newest=1000)[0]:4.0f} ms  "
            f"{counts['failed, certain'] + counts['failed, uncertain']:6} failed  "
            f"{self.sum('connected'):5} connected  {self.sum('replaying'):4} replaying  "
            f"{self.sum('delivered'):9} delivered  {self.seen()['visits']:6} visits  "
            f"{self.sum('violations')} wrong",
            flush=True,
        )

    def sum(self, name: str) -> int:
        """
        Return the sum of a counter over all processes.
        """
        return sum(child.how.get(name, 0) for child in self.children)

    def seen(self) -> Counter[str]:
        """
        Return the sums of the subscribers' counters.
        """
        return sum((Counter(crowd.how.get("counts")) for crowd in self.crowds), Counter())

    def _judge(self) -> None:
        self.entries = entries = list(self.redis.entries())
        self.problems += verdict.compare_stream(entries)
        self.problems += verdict.compare_records(self.publishing.records, entries)
        self.problems += verdict.compare_order(self.publishing.records, entries)
        for number, crowd in enumerate(self.crowds):
            self.problems += crowd.how["wrong"]
            self.problems += [f"{where}, not to the end" for where in crowd.how["undone"]]
            for topic in (None, *TOPICS):
                received = (self.directory / f"{topic}.{number}").read_bytes()
                self.problems += verdict.compare_track(received, entries, topic)
        # While Redis is down, subscribers must stay connected, and none may miss an update.
        for what, times in {
            "gaps were reported": self.sum("gaps"),
            "subscribers were dropped": self.sum("failures"),
            "streams ended": self.seen()["streams ended"],
        }.items():
            if times:
                self.problems.append(f"{times} {what}")

    async def _end(self) -> None:
        """
        Ask all processes to exit, and check that they do.
        """
        for child in self.children:
            child.close()
        deadline = reactor.seconds() + 20
        while any(child.running for child in self.children) and reactor.seconds() < deadline:
            await deferLater(reactor, 0.05)
        for child in self.children:
            if child.code != 0:
                self.problems.append(f"{child.name} exited with {child.code}")
        self.redis.kill()

    def kill(self) -> None:
        """
        Kill all processes at once.
        """
        self.publishing.stop()
        for child in self.children:
            child.kill()
        self.redis.kill()


async def soak(cluster: Cluster) -> int:
    try:
        await cluster.run()
    except Broken as error:
        cluster.problems.insert(0, str(error))
    finally:
        cluster.kill()
    if cluster.took:
        for name, value in table.rows(cluster):
            print(f"{name:34}{value}")
    for node in cluster.nodes:
        for text, times in node.how.get("logged", {}).items():
            print(f"{node.name} logged {times} times: {text}")
    for problem in cluster.problems[:10]:
        print(f"WRONG: {problem}")
    if cluster.problems:
        print(f"failed with {len(cluster.problems)} problems; the data are in {cluster.directory}")
        return 1
    print("no update lost or duplicated, the same order everywhere")
    return 0


def measure(options: argparse.Namespace) -> int:
    """
    Run the soak test in the reactor.

    :returns: the exit status.
    """
    directory = Path(tempfile.mkdtemp(prefix="txsse-cluster-soak-"))
    try:
        cluster = Cluster(options, directory)
    except Broken as error:
        print(error)
        return 1
    codes: list[int] = []
    failures: list[Failure] = []
    # Also after Ctrl-C.
    reactor.addSystemEventTrigger("before", "shutdown", cluster.kill)
    running = Deferred.fromCoroutine(soak(cluster))
    running.addCallbacks(codes.append, failures.append)
    running.addBoth(lambda _: reactor.callLater(0, reactor.stop))
    reactor.run()
    for failure in failures:
        failure.printTraceback()
    if not codes and not failures:
        print("interrupted")
    if not failures and not cluster.problems:
        shutil.rmtree(directory)
    return codes[0] if codes else 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=2, help="how often Redis is killed")
    parser.add_argument("--seconds", type=float, default=150.0, help="the duration of publishing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--node", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--crowd", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    allow_files()
    if not options.node and not options.crowd:
        raise SystemExit(measure(options))
    # The parent process ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if options.crowd:
        Crowd(json.loads(sys.stdin.buffer.raw.readline())).run()
    else:
        StandardIO(Node(options.node[0], int(options.node[1])))
        reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()

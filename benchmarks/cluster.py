"""
Hubs that share a Redis, for some minutes: ``python benchmarks/cluster.py [--nodes 2] [--kills 2]`` (Linux).

Each node is a process of its own with a hub and a ``RedisJournal``; subscribers, in two further processes,
wander between them: each reads for a while, is cut off in mid-stream, and comes back to another node with its
``Last-Event-ID``. This process publishes through all nodes, and is the only one who knows what it published
and what of that was acknowledged; Redis is killed meanwhile, and comes back. A publisher whose update failed
publishes it again, with the same id, at any node; an update without an id is not published again.

In the end all are held against the stream in Redis: what was acknowledged is in it, once; what certainly
failed is not; and what each subscriber received, over all of its visits, is the stream from where it began to
the end, byte for byte, in that order.
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
# For how long Redis is away, in seconds.
DOWN = (0.5, 3.0)
# How much is published at each node in the moment in which Redis is killed, and when within it, in seconds.
LAST_BURST, MOMENT = 200, (0.0, 0.1)
# How long nothing may happen where something has to, in seconds. It is no measure of speed.
PATIENCE = 120.0
# How long is listened at the end for what should not come any more, in seconds.
SILENCE = 2.0


class Cluster:
    """
    All processes, from the beginning to the end.

    :ivar problems: what is wrong.
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
        Do all of it.

        :raises Broken: where it cannot go on.
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
        await self._until(lambda: self.publishing.is_over, "not all that has an id was acknowledged")
        await self._publish_one(END)
        self.publishing.stop()
        await self._see_the_end()
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
            told = {
                "crowd": number,
                "ports": [node.port for node in self.nodes],
                "seed": self.options.seed,
                "seconds": self.options.seconds,
                "first": share * number,
                "end": min(share * (number + 1), self.options.subscribers),
                "directory": str(self.directory),
            }
            crowd.start("--crowd")
            crowd.tell(told)

    async def _publish_one(self, id: str) -> None:
        records = self.publishing.records
        record = Published(len(records), id, TOPICS, f"{len(records)} {id}")
        self.publishing.publish(record)
        await self._until(lambda: record.acknowledged, f"{id!r} is not acknowledged")

    async def _outage(self) -> None:
        """
        Kill Redis in the middle of the work, and start it again after a while.
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
        await self._until(lambda: len(outage.back) == len(self.nodes), "a node does not publish any more")

    async def _see_the_end(self) -> None:
        await self._ask("finish")
        delivered, deadline = -1, 0.0
        while self.sum("done") < self.options.subscribers and not self.sum("violations"):
            if self.sum("delivered") > delivered:
                delivered, deadline = self.sum("delivered"), reactor.seconds() + PATIENCE
            if reactor.seconds() > deadline:
                break
            await self._ask()
        # What would come twice may come now.
        await deferLater(reactor, SILENCE)
        await self._ask("write")

    async def _ask(self, of_crowds: str = "how") -> None:
        """
        Have all tell how they are.
        """
        for child in self.children:
            child.ask(of_crowds if child in self.crowds else "how")
        await self._until(lambda: not any(child.unanswered for child in self.children), "somebody is silent")
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
                    raise Broken(f"{child.name} has ended with {child.code}")
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
        Add up what the processes tell about themselves.
        """
        return sum(child.how.get(name, 0) for child in self.children)

    def seen(self) -> Counter[str]:
        """
        Add up what subscribers have counted.
        """
        return sum((Counter(crowd.how.get("counts")) for crowd in self.crowds), Counter())

    def _judge(self) -> None:
        self.entries = entries = list(self.redis.entries())
        self.problems += verdict.compare_stream(entries)
        self.problems += verdict.compare_records(self.publishing.records, entries)
        self.problems += verdict.compare_order(self.publishing.records, entries)
        for number, crowd in enumerate(self.crowds):
            self.problems += crowd.how["wrong"]
            self.problems += [f"{where}, and not to the end" for where in crowd.how["undone"]]
            for topic in (None, *TOPICS):
                received = (self.directory / f"{topic}.{number}").read_bytes()
                self.problems += verdict.compare_track(received, entries, topic)
        # While Redis is away, subscribers stay, and none of them misses anything.
        for what, times in {
            "gaps were told": self.sum("gaps"),
            "subscribers were dropped": self.sum("failures"),
            "streams ended": self.seen()["streams ended"],
        }.items():
            if times:
                self.problems.append(f"{times} {what}")

    async def _end(self) -> None:
        """
        Have all end by themselves, and see that they do.
        """
        for child in self.children:
            child.close()
        deadline = reactor.seconds() + 20
        while any(child.running for child in self.children) and reactor.seconds() < deadline:
            await deferLater(reactor, 0.05)
        for child in self.children:
            if child.code != 0:
                self.problems.append(f"{child.name} ended with {child.code}")
        self.redis.kill()

    def kill(self) -> None:
        """
        End everything at once, in whatever state it is.
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
        print(f"failed, with {len(cluster.problems)} problems; the data are in {cluster.directory}")
        return 1
    print("nothing lost, nothing twice, one order everywhere")
    return 0


def measure(options: argparse.Namespace) -> int:
    """
    Do the measurement.

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
    # Ctrl-C, too, comes to this.
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
    parser.add_argument("--seconds", type=float, default=150.0, help="how long publishing is to take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--node", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--crowd", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    allow_files()
    if not options.node and not options.crowd:
        raise SystemExit(measure(options))
    # Whoever started this process ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if options.crowd:
        Crowd(json.loads(sys.stdin.buffer.raw.readline())).run()
    else:
        StandardIO(Node(options.node[0], int(options.node[1])))
        reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()

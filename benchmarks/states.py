"""
Measure a hub whose readers get a state first, next to one without, and check that they get everything once.

``python benchmarks/states.py`` runs a hub with 200 devices and 2,000 updates a second, and 30 readers that
connect anew every few seconds. With ``--mode retained``, each newcomer first gets the newest update of each
device, about 90 KB. Each reader checks that its state is complete, and that every later number of a device is
one more than the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time

DEVICES = 200
PER_TICK = 20
TICK = 0.01
READERS = 30
SIZE = 450


def serve(mode: str, seconds: float) -> None:
    """
    Run the hub, and print its port, and at the end its figures.
    """
    from twisted.internet import reactor
    from twisted.internet.task import LoopingCall
    from twisted.web.server import Site

    from txsse import Hub

    hub = Hub()
    numbers = [0] * DEVICES
    begun = time.monotonic()
    published = 0

    def publish(device: int) -> None:
        nonlocal published
        numbers[device] += 1
        published += 1
        data = f"{device} {numbers[device]} ".ljust(SIZE, "x")
        hub.publish("devices", data, retain=str(device) if mode == "retained" else None)

    def tick() -> None:
        for _ in range(PER_TICK):
            publish(published % DEVICES)

    def report() -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        metrics = hub.metrics()
        figures = {
            "cpu": used.ru_utime + used.ru_stime - cpu,
            "delivered": metrics.delivered,
            "retained": metrics.retained_delivered,
            "replayed": metrics.replayed,
            "published": published,
            "seconds": time.monotonic() - begun,
        }
        print(json.dumps(figures), flush=True)
        reactor.stop()

    for device in range(DEVICES):
        publish(device)
    port = reactor.listenTCP(0, Site(hub.resource("devices")), interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    cpu = before.ru_utime + before.ru_stime
    LoopingCall(tick).start(TICK, now=False)
    reactor.callLater(seconds, report)
    reactor.run()


class Reader:
    """
    A reader that connects, checks each event that it gets, and disconnects after some seconds.
    """

    def __init__(self, port: int, mode: str, choose: random.Random) -> None:
        self.port = port
        self.mode = mode
        self.choose = choose
        self.last_id = ""
        self.numbers: dict[int, int] = {}
        self.states = self.events = 0
        self.connect()

    def connect(self) -> None:
        """
        Connect: as a newcomer, or with the last ID.
        """
        from txsse import EventStreamParser

        if not self.last_id or self.choose.random() < 0.5:
            self.last_id, self.numbers = "", {}
        self.is_new = not self.last_id
        self.parser = EventStreamParser(last_event_id=self.last_id)
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        fields = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        # HTTP/1.0: the body has no chunks.
        self.socket.sendall(f"GET / HTTP/1.0\r\nHost: localhost\r\n{fields}\r\n".encode())
        self.socket.setblocking(False)
        self.head = b""
        self.until = time.monotonic() + self.choose.uniform(0.5, 4)

    def read(self) -> None:
        """
        Read and check what has arrived.
        """
        data = self.socket.recv(1 << 18)
        if self.head is not None:
            self.head += data
            head, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 200") or head.startswith(b"HTTP/1.0 200"), head
            self.head = None
        for event in self.parser.feed(data):
            assert event.event != "stream-reset", "the journal is too short for this test"
            device, number = map(int, event.data.split(" ", 2)[:2])
            before = self.numbers.get(device)
            assert before is None or number == before + 1, f"device {device}: {number} after {before}"
            self.numbers[device] = number
            self.events += 1
        if self.is_new and self.parser.last_event_id:
            self.is_new = False
            self.states += 1
            assert self.mode != "retained" or len(self.numbers) == DEVICES, f"{len(self.numbers)} devices"
        self.last_id = self.parser.last_event_id


def read(port: int, mode: str) -> None:
    """
    Run the readers until the hub ends, and print how many states and events they have checked.
    """
    readers = [Reader(port, mode, random.Random(number)) for number in range(READERS)]
    selector = selectors.DefaultSelector()
    for each in readers:
        selector.register(each.socket, selectors.EVENT_READ, each)
    try:
        while True:
            for key, _ in selector.select(0.05):
                key.data.read()
            for each in readers:
                if each.until < time.monotonic():
                    selector.unregister(each.socket)
                    each.socket.close()
                    each.connect()
                    selector.register(each.socket, selectors.EVENT_READ, each)
    except (ConnectionError, BlockingIOError, AssertionError) as error:
        if isinstance(error, AssertionError):
            raise
    print(json.dumps({"states": sum(r.states for r in readers), "events": sum(r.events for r in readers)}))


def run(mode: str, seconds: float) -> dict[str, float]:
    """
    Run a hub and its readers, each on its own core, and return the figures of both.
    """
    cores = sorted(os.sched_getaffinity(0))
    me = [sys.executable, __file__, "--mode", mode, "--seconds", str(seconds)]
    with subprocess.Popen(
        ["taskset", "-c", str(cores[0]), *me, "--serve"], stdout=subprocess.PIPE, text=True
    ) as hub:
        assert hub.stdout is not None
        port = hub.stdout.readline().strip()
        with subprocess.Popen(
            ["taskset", "-c", str(cores[-1]), *me, "--read", port], stdout=subprocess.PIPE, text=True
        ) as readers:
            figures = json.loads(hub.stdout.readline())
            hub.wait()
            assert readers.stdout is not None
            checked = readers.stdout.readline()
            assert readers.wait() == 0, "the readers have failed"
            return {**figures, **json.loads(checked)}


def main() -> None:
    """
    Run both modes in turns, and print the medians.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--mode", choices=["retained", "plain"])
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each run lasts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--read", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.mode, options.seconds)
        return
    if options.read is not None:
        read(options.read, options.mode)
        return
    found: dict[str, list[dict[str, float]]] = {"plain": [], "retained": []}
    for _ in range(options.rounds):
        for mode, runs in found.items():
            if options.mode in (None, mode):
                runs.append(run(mode, options.seconds))
                print(mode, runs[-1], file=sys.stderr)
    print(
        f"{'':10}{'µs of CPU per delivery':>36}{'updates/s':>12}{'states':>9}{'retained':>10}{'checked':>10}"
    )
    for mode, runs in found.items():
        if runs:
            costs = sorted(1e6 * each["cpu"] / each["delivered"] for each in runs)
            spread = f"{statistics.median(costs):.2f} ({costs[0]:.2f} to {costs[-1]:.2f})"
            rate = statistics.median(each["published"] / each["seconds"] for each in runs)
            sums = [sum(each[name] for each in runs) for name in ("states", "retained", "events")]
            print(f"{mode:10}{spread:>36}{rate:12.0f}{sums[0]:9}{sums[1]:10}{sums[2]:10}")


if __name__ == "__main__":
    main()

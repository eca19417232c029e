"""
Measure for how long a hostile server can block a client's reactor: ``python benchmarks/hostile.py`` (Linux).

A server process sends each stream, as fast as the client reads it, to an ``EventSource`` in a fresh process,
whose callback only counts events. The result for each stream is the longest turn of the client's reactor, in
CPU and wall-clock time, the growth of its memory, and the error that the program receives. The aim is at most
50 ms of CPU for any turn.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count, repeat
from pathlib import Path
from typing import Any, cast

from shared.machine import describe_machine
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, globalLogBeginner

from txsse import EventSource, ServerSentEvent

reactor: Any = global_reactor

# The aim for the longest turn of the reactor, in milliseconds of CPU.
AIM = 50.0
# The longest time that one stream may take, in seconds.
PATIENCE = 120.0

BLOCK = 2**16
LIMIT = 4 * 2**20

OK = b"HTTP/1.1 200 OK\r\n"
HEAD = OK + b"Content-Type: text/event-stream\r\n"
PLAIN = HEAD + b"\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Scenario:
    """
    The behaviour of a server, and of the program that follows it.

    :ivar name: the name in the table.
    :ivar first: the bytes that the server sends first.
    :ivar again: the bytes that it then repeats, up to the size given on the command line.
    :ivar pause: the time between two repetitions, in seconds; ``None`` for a stream at full speed.
    :ivar program: ``push`` for a callback, ``pull`` for a loop, ``slow`` for a callback that never finishes.
    :ivar options: the options of the source.
    :ivar reconnects: whether the source stays open after its first error.
    """

    name: str
    first: bytes
    again: bytes = b""
    pause: float | None = None
    program: str = "push"
    options: dict[str, Any] = field(default_factory=dict)
    reconnects: bool = False


def _short_stream() -> bytes:
    body = b"retry: 0\n" + b"data\n\n" * 2000
    return HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


SCENARIOS = (
    Scenario("for comparison: events of 100 bytes", PLAIN, b"data: " + b"x" * 92 + b"\n\n"),
    Scenario("a line without an end", PLAIN + b"data: ", b"x"),
    Scenario("an event without an end", PLAIN, b"data: " + b"x" * 93 + b"\n"),
    Scenario("the same, in lines without data", PLAIN, b"data\n"),
    Scenario("the same, in lines of two characters", PLAIN, b"data:xy\n"),
    Scenario("an event of 4 MB in such lines", PLAIN, b"data:xy\n" * ((LIMIT - BLOCK) // 8) + b"\n"),
    Scenario("unknown fields", PLAIN, b"a\n"),
    Scenario("ids", PLAIN, b"id\n"),
    Scenario("retry times", PLAIN, b"retry:1\n"),
    Scenario("a retry time without an end", PLAIN + b"retry:", b"9"),
    Scenario("tiny events", PLAIN, b"data\n\n"),
    Scenario("tiny events, pulled", PLAIN, b"data\n\n", program="pull"),
    Scenario("tiny events of different shapes", PLAIN, b"data\n\ndata:\n\nid\ndata\n\n", program="pull"),
    Scenario("tiny events to a slow program", PLAIN, b"data\n\n", program="slow"),
    Scenario("empty lines", PLAIN, b"\n"),
    Scenario("tiny comments", PLAIN, b":\n"),
    Scenario("large comments", PLAIN, b":" + b"x" * 10_000 + b"\n"),
    Scenario("tiny comments within an event of 4 MB", PLAIN + b"data:" + b"x" * (LIMIT - 99) + b"\n", b":\n"),
    Scenario("tiny comments, max_event_size=1000", PLAIN, b":\n", options={"max_event_size": 1000}),
    Scenario("empty lines, max_event_size=1000", PLAIN, b"\n", options={"max_event_size": 1000}),
    Scenario("invalid UTF-8", PLAIN, b"data:\xff\xfe\xc3\n\n"),
    Scenario("NULs", PLAIN, b"data:\0\nid:\0\n\n"),
    Scenario("chunks of one byte", CHUNKED, b"1\r\n:\r\n"),
    Scenario("the same, with a read_timeout", CHUNKED, b"1\r\n:\r\n", options={"read_timeout": 30.0}),
    Scenario("a tiny event in each chunk", CHUNKED, b"6\r\ndata\n\n\r\n"),
    Scenario("the same, pulled", CHUNKED, b"6\r\ndata\n\n\r\n", program="pull"),
    Scenario("a chunk of 2^4000 bytes", CHUNKED + b"F" * 1000 + b"\r\n", b"data\n\n"),
    Scenario("a chunk of no size", CHUNKED + b"-1\r\n", b"data\n\n"),
    Scenario("a chunk size without an end", CHUNKED, b"0"),
    Scenario("trailers without an end", CHUNKED + b"0\r\n", b"a:b\r\n"),
    Scenario("less than Content-Length", HEAD + b"Content-Length: 100\r\n\r\ndata: a\n\n"),
    Scenario("more than Content-Length", HEAD + b"Content-Length: 9\r\n\r\ndata: a\n\n", b"data: b\n\n"),
    Scenario(
        "gzip that the client did not request", HEAD + b"Content-Encoding: gzip\r\n\r\n", b"\x1f\x8b\x08"
    ),
    Scenario("gzip that is not declared", PLAIN, b"\x1f\x8b\x08\0\n\xff\xff"),
    Scenario("a redirect to itself", b"HTTP/1.1 302 Found\r\nLocation: ?\r\n\r\n", b"x", reconnects=True),
    Scenario("a refusal without an end", b"HTTP/1.1 404 Not Found\r\n\r\n", b"x"),
    Scenario("a head of tiny fields", OK, b"a:\n"),
    Scenario("a head of fields", OK, b"X-Field: " + b"x" * 90 + b"\r\n"),
    Scenario("a head of continuation lines", OK + b"a: b\r\n", b" \n"),
    Scenario("a field without an end", OK + b"a: ", b"x"),
    Scenario("a status line without an end", b"HTTP/1.1 200 ", b"x"),
    Scenario("interim replies", b"", b"HTTP/1.1 100\n\n"),
    Scenario("single bytes, with a read_timeout", PLAIN, b"x", pause=0.05, options={"read_timeout": 1.0}),
    Scenario("short streams to a slow program", _short_stream(), program="slow", reconnects=True),
)


# The server.


def serve(megabytes: int) -> None:
    """
    Serve each scenario at the path ``/NUMBER``.
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    print(listening.getsockname()[1], flush=True)
    # Each client has its own server process, so each count is that of one client.
    sent = {number: count() for number in range(len(SCENARIOS))}
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_play, args=(connection, megabytes, sent), daemon=True).start()


def _play(connection: socket.socket, megabytes: int, visits: dict[int, Iterator[int]]) -> None:
    with connection:
        try:
            request = b""
            while b"\r\n\r\n" not in request:
                more = connection.recv(BLOCK)
                if not more:
                    return
                request += more
            number = int(request.split(b" ", 2)[1].strip(b"/?"))
            scenario = SCENARIOS[number]
            size = megabytes * 2**20
            if next(visits[number]) * len(scenario.first) > size:
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                return
            connection.sendall(scenario.first)
            for piece in _pieces(scenario, size):
                connection.sendall(piece)
                if scenario.pause is not None:
                    time.sleep(scenario.pause)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(BLOCK):
                """
                Wait for the client to close: closing here would reset the connection, and lose the bytes in
                transit.
                """
        except (OSError, ValueError, IndexError):
            """
            The client has closed the connection, or is not ours.
            """


def _pieces(scenario: Scenario, size: int) -> Iterator[bytes]:
    if scenario.pause is not None:
        yield from repeat(scenario.again, int(3 / scenario.pause))
    elif scenario.again:
        piece = scenario.again * max(1, BLOCK // len(scenario.again))
        yield from repeat(piece, max(2, size // len(piece)))


# The client.


class Turns:
    """
    Replace the reactor's poll object, and measure the time between two polls.

    :ivar cpu: the longest turn, in seconds of CPU.
    :ivar work: the longest turn, without the time of the garbage collector.
    :ivar wall: the longest turn, in seconds of wall-clock time.
    """

    def __init__(self, poller: Any) -> None:
        self.cpu = self.work = self.wall = 0.0
        self._poller = poller
        self._garbage = self._collecting = 0.0
        gc.callbacks.append(self._collected)
        self._began()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)

    def poll(self, *args: Any) -> Any:
        self.ended()
        found = self._poller.poll(*args)
        self._began()
        return found

    def _began(self) -> None:
        self._garbage = 0.0
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    def _collected(self, phase: str, info: object) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._garbage += time.thread_time() - self._collecting

    def ended(self) -> None:
        cpu = time.thread_time() - self._cpu
        self.cpu = max(self.cpu, cpu)
        self.work = max(self.work, cpu - self._garbage)
        self.wall = max(self.wall, time.perf_counter() - self._wall)


class Client:
    """
    Follow one stream, until it has an error or ends.
    """

    def __init__(self, url: str, scenario: Scenario) -> None:
        self.scenario = scenario
        self.error = "no error"
        self.events = 0
        options: dict[str, Any] = {
            "on_error": self._on_error,
            "connect_timeout": PATIENCE,
            **scenario.options,
        }
        if scenario.program != "pull":
            options["event_received"] = self._received
        self.source = EventSource(url, **options)

    def start(self) -> None:
        reactor.callLater(PATIENCE, self._stop)
        if self.scenario.program == "pull":
            Deferred.fromCoroutine(self._pull())
        self.source.start()
        self.source.when_closed().addCallback(lambda _: reactor.callLater(0, self._stop))

    def _received(self, event: ServerSentEvent) -> Deferred[None] | None:
        self.events += 1
        if self.scenario.program != "slow":
            return None
        # Long enough for the server to fill all buffers.
        reactor.callLater(2.0, self.source.close)
        return Deferred()

    async def _pull(self) -> None:
        try:
            async for _ in self.source:
                self.events += 1
        except Exception as error:
            self.error = f"{_described(error)} (raised)"

    def _on_error(self, error: Exception) -> None:
        self.error = _described(error)
        if not self.scenario.reconnects:
            # The next attempt would receive the same stream.
            self.source.close()

    def _stop(self) -> None:
        if reactor.running:
            reactor.stop()


def _described(error: Exception) -> str:
    # Without the URL, whose port differs in each run.
    text = re.sub(r"^http://\S+: ", "", str(error))
    return f"{type(error).__name__}: {text if len(text) < 100 else text[:97] + '...'}"


def follow(url: str, number: int) -> None:
    """
    Follow a stream, and print the measurements as JSON.
    """
    observers = [cast(ILogObserver, lambda event: None)]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
    scenario = SCENARIOS[number]
    client = Client(url, scenario)
    # Reset the peak, so that it is that of this stream.
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    turns = reactor._poller = Turns(reactor._poller)
    reactor.callWhenRunning(client.start)
    began = time.perf_counter()
    reactor.run()
    turns.ended()
    result = {
        "cpu": turns.cpu * 1e3,
        "work": turns.work * 1e3,
        "wall": turns.wall * 1e3,
        "memory": (_memory("VmHWM") - before) / 1024,
        "seconds": time.perf_counter() - began,
        "events": client.events,
        "error": client.error,
    }
    print(json.dumps(result))


def _memory(name: str) -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0])


# The table.


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=8, help="the size of an endless stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="measure only the streams whose names contain this text"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table, in reStructuredText")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--follow", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.megabytes)
    elif options.follow:
        follow(options.follow[0], int(options.follow[1]))
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    rows = []
    for number, scenario in enumerate(SCENARIOS):
        if options.only not in scenario.name:
            continue
        results = [_measured(number, options.megabytes) for _ in range(options.rounds)]
        rows.append(_row(scenario, results))
        print("  ".join(cell.ljust(width) for cell, width in zip(rows[-1], _WIDTHS, strict=True)).rstrip())
    if options.write:
        options.write.write_text(_written(rows, options), encoding="utf-8")


def _measured(number: int, megabytes: int) -> dict[str, Any]:
    program = [sys.executable, __file__]
    serving = subprocess.Popen(
        [*program, "--serve", "--megabytes", str(megabytes)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        url = f"http://127.0.0.1:{int(serving.stdout.readline())}/{number}"
        done = subprocess.run([*program, "--follow", url, str(number)], stdout=subprocess.PIPE, check=True)
    finally:
        serving.kill()
        serving.wait()
    result: dict[str, Any] = json.loads(done.stdout)
    return result


_HEADINGS = (
    "stream",
    "CPU, ms",
    "without gc",
    "clock, ms",
    "memory, MB",
    "events",
    "error that the program receives",
)
_WIDTHS = (42, 8, 10, 9, 10, 9, 80)


def _row(scenario: Scenario, results: list[dict[str, Any]]) -> tuple[str, ...]:
    cpu = statistics.median(result["cpu"] for result in results)
    return (
        scenario.name,
        f"{cpu:.1f}" + (" !" if cpu > AIM else ""),
        f"{statistics.median(result['work'] for result in results):.1f}",
        f"{statistics.median(result['wall'] for result in results):.1f}",
        f"{max(result['memory'] for result in results):.1f}",
        f"{results[-1]['events']:,}",
        results[-1]["error"],
    )


def _written(rows: list[tuple[str, ...]], options: argparse.Namespace) -> str:
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)

    def line(cells: tuple[str, ...]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    over = [row[0] for row in rows if row[1].endswith("!")]
    text = _TEXT.format(
        aim=AIM,
        megabytes=options.megabytes,
        rounds=options.rounds,
        date=time.strftime("%Y-%m-%d"),
        machine=describe_machine(),
        python=platform.python_version(),
        twisted=version("Twisted"),
        over="; ".join(over) or "none",
    )
    return text + "\n".join(["", rule, line(_HEADINGS), rule, *map(line, rows), rule, ""])


_TEXT = """\
.. Written by benchmarks/hostile.py; not to be edited.

How a hostile server affects a client
=====================================

Each stream, of {megabytes} MB if it has no end, is sent to an ``EventSource`` in a fresh process, whose
callback only counts events. *CPU* and *clock* are the longest turn of its reactor, from one poll to the next,
medians of {rounds} rounds; *without gc* excludes Python's garbage collector, which takes 20 to 50 ms after
many events to traverse all objects of a small program with its imports. *Memory* is the largest growth of the
process. A slow program is one whose callback never finishes with its first event.

The aim is at most {aim:.0f} ms of CPU. Streams that miss it are marked: {over}.

Measured on {date}: {machine}; Python {python}, Twisted {twisted}. To repeat the measurement:

.. code-block:: console

   $ python benchmarks/hostile.py --rounds {rounds} --megabytes {megabytes} --write docs/client-hostile.rst

"""


if __name__ == "__main__":
    main()

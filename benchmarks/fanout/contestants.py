"""
The servers that are compared: how to start each of them, and how to make it publish.
"""

from __future__ import annotations

import getpass
import http.client
import json
import resource
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import rounds
from shared.peers import CACHE
from shared.processes import Failed

from fanout import peers

SERVERS = Path(__file__).parent / "servers"

# The longest that publishing may take, in seconds.
PATIENCE = 300


@dataclass(frozen=True)
class Asked:
    """
    The events that a server is asked to publish.

    :ivar turns: the number of turns.
    :ivar burst: the number of events in each turn.
    :ivar interval: the shortest duration of a turn, in seconds; 0 to begin the next as soon as all is sent.
    :ivar watch: whether to measure the reactor's pauses meanwhile, if the server can.
    """

    turns: int
    burst: int = 1
    interval: float = 0
    watch: bool = False


@dataclass(frozen=True)
class Contestant(rounds.Contestant):
    """
    A server.

    :ivar command: returns its command line, given a port, the seconds of keep-alive, and a folder for files.
    :ivar needs: the part of the set-up that it needs.
    :ivar publish: makes the server at a port publish.
    :ivar child: whether its only child process does the work.
    """

    command: Callable[[int, float, Path], Sequence[str]]
    needs: str
    publish: Callable[[int, Asked], dict[str, Any]]
    child: bool = False
    folder: Path = CACHE


def ask_to_publish(port: int, asked: Asked) -> dict[str, Any]:
    """
    Make a server publish its own events.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    query = f"turns={asked.turns}&burst={asked.burst}&interval={asked.interval}"
    try:
        connection.request("POST", f"/publish?{query}{'&watch=1' if asked.watch else ''}")
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise Failed(f"publishing got the status {response.status}")
    answer: dict[str, Any] = json.loads(body or b"{}")
    return answer


class NchanPublisher:
    """
    Publish to nchan, which cannot publish by itself: the events of a turn are pipelined requests on one
    connection.
    """

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def __call__(self, port: int, asked: Asked) -> dict[str, Any]:
        """
        Publish. Each turn begins when all responses of the previous one have arrived.
        """
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            for turn in range(1, asked.turns + 1):
                connection.sendall(self._requests(port, asked.burst))
                self._take_answers(connection, asked.burst)
                time.sleep(max(0, began + turn * asked.interval - time.monotonic()))
        return {}

    def _requests(self, port: int, burst: int) -> bytes:
        first = self._next.get(port, 1_000_000_000)
        self._next[port] = first + burst
        rest = f" {time.monotonic_ns():019} {'x' * 69}"
        head = "POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
        return "".join(f"{head}{number}{rest}" for number in range(first, first + burst)).encode()

    @staticmethod
    def _take_answers(connection: socket.socket, count: int) -> None:
        kept = b""
        while count:
            received = connection.recv(65536)
            if not received:
                raise Failed("nginx closed the publisher's connection")
            kept += received
            if b"HTTP/1.1 4" in kept or b"HTTP/1.1 5" in kept:
                raise Failed(f"publishing got the status {kept[9:12].decode()}")
            found = kept.count(b"HTTP/1.1 20")
            count -= found
            # The rest may be the beginning of the next response.
            kept = kept[-10:] if found else kept


def _python(name: str) -> Callable[[int, float, Path], Sequence[str]]:
    return lambda port, keepalive, _: [
        str(peers.PYTHON.python),
        str(SERVERS / f"{name}.py"),
        str(port),
        str(keepalive),
    ]


def _nginx(port: int, keepalive: float, folder: Path) -> Sequence[str]:
    text = (SERVERS / "nchan.conf").read_text(encoding="utf-8")
    for name, value in {
        "module": peers.NCHAN,
        "user": getpass.getuser(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "folder": folder,
        "port": port,
        "keepalive": max(1, round(keepalive)),
    }.items():
        text = text.replace(f"@{name}@", str(value))
    configuration = folder / "nginx.conf"
    configuration.write_text(text, encoding="utf-8")
    return ["/usr/sbin/nginx", "-p", str(folder), "-e", "stderr", "-c", str(configuration)]


ALL = (
    Contestant("txsse", "txsse", _python("with_txsse"), "python", ask_to_publish),
    Contestant("twisted", "Twisted, by hand", _python("hand_written"), "python", ask_to_publish),
    Contestant("sse-starlette", "sse-starlette", _python("with_sse_starlette"), "python", ask_to_publish),
    Contestant("aiohttp-sse", "aiohttp-sse", _python("with_aiohttp_sse"), "python", ask_to_publish),
    Contestant(
        "better-sse",
        "better-sse",
        lambda port, keepalive, _: [
            "node",
            str(SERVERS / "with_better_sse.mjs"),
            str(port),
            str(keepalive),
        ],
        "node",
        ask_to_publish,
        folder=peers.NODE.folder,
    ),
    Contestant("nchan", "nginx, nchan", _nginx, "nchan", NchanPublisher(), child=True),
    Contestant("python", "floor in Python", _python("floor"), "python", ask_to_publish),
    Contestant(
        "c",
        "floor in C",
        lambda port, keepalive, _: [str(peers.FLOOR.binary), str(port), str(keepalive)],
        "c",
        ask_to_publish,
    ),
)

NAMES = {contestant.name: contestant.title for contestant in ALL}

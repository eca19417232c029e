"""
S17: attacks with bytes that a client sends after the request of an open stream.
"""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial

from abusing.bench import Attack, Bench
from abusing.wire import HUB, KIB, read_answer, request, reset

__all__ = ["ATTACKS"]

_STREAMS = 200
_GET = request("GET", f"{HUB}?match=https%3A%2F%2Fexample.com%2F")

# How many KiB of these bytes the service may keep for each stream, and for how many seconds it may keep the
# slot of a stream whose client has reset the connection. Both bounds are this script's choice.
_KEPT = 8.0
_SECONDS = 1.0

_KEEPALIVE = 4


def _kept(bench: Bench, *, transport: str, later: bool) -> None:
    more = request("GET", "/nothing") * (60_000 // len(request("GET", "/nothing")))
    with bench.attacked() as connections:
        sizes = []
        # First without further bytes, to measure what the streams themselves take.
        for rest in (b"", more):
            before = bench.process.resident()
            for _ in range(_STREAMS):
                connection = connections.enter_context(closing(bench.connect(transport)))
                connection.sendall(_GET if later else _GET + rest)
                read_answer(connection)
                if later:
                    connection.sendall(rest)
            bench.settle()
            sizes.append(bench.process.resident() - before)
    bench.notes.append(f"a stream alone takes {sizes[0] / _STREAMS / KIB:.1f} KiB")
    bench.check("kept for each", (sizes[1] - sizes[0]) / _STREAMS / KIB, _KEPT, "KiB")


def _slot(bench: Bench, *, transport: str, size: int) -> None:
    with bench.attacked():
        connection = bench.connect(transport)
        connection.sendall(_GET)
        read_answer(connection)
        connection.sendall(b"x" * size)
        time.sleep(0.3)
        reset(connection)
        began = time.monotonic()
        while bench.ask(_GET, transport).status != 200:
            if time.monotonic() > began + 2 * _KEEPALIVE:
                bench.notes.append("the slot was never free")
                break
            time.sleep(0.05)
        seconds = time.monotonic() - began
    bench.check("slot kept", seconds, _SECONDS, "s")


_LIMITED = ("--anonymous", "--max-streams=1", f"--keepalive={_KEEPALIVE}")

ATTACKS = (
    *(
        Attack(
            "S17",
            f"{transport.upper()}: 60 KB {'later' if later else 'at once'}, 200 streams",
            partial(_kept, transport=transport, later=later),
            ("--anonymous",),
        )
        for transport, later in (("tcp", False), ("tcp", True), ("tls", False), ("unix", False))
    ),
    *(
        Attack(
            "S17",
            f"{transport.upper()}: {'20 KB, then ' if size else ''}reset",
            partial(_slot, transport=transport, size=size),
            _LIMITED,
        )
        for transport, size in (("tcp", 0), ("tcp", 20_000), ("tls", 20_000), ("unix", 20_000))
    ),
)

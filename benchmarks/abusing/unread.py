"""
S3: attacks with pipelined requests whose responses the client does not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

from abusing.bench import Attack, Bench
from abusing.wire import FORM, HUB, KIB, MIB, Http2, bearer, flood, read_answer, request

__all__ = ["ATTACKS"]

# How many unsent bytes a connection may hold in addition to one response, and an allowance for the allocator
# and the bytes that were read.
_UNSENT = 64 * KIB
_ALLOWANCE = 4 * MIB

# The memory of an HTTP/2 request without its response, and the CPU in a second in which nothing can be sent.
_STREAM = 8 * KIB
_IDLE = 0.15

# Returns the bytes of a request.
_Asking = Callable[[Bench], bytes]

_PAGE = ("--debugger|--page",)
_LIST = ("--subscriptions",)


def _page(bench: Bench) -> bytes:
    return request("GET", "/")


def _refusal(bench: Bench) -> bytes:
    return request("GET", HUB)


def _list(bench: Bench) -> bytes:
    """
    Open streams until the list of subscriptions has some 1.5 MB, and return the request for this list.
    """
    fields = bearer(bench.token("subscribe"))
    for number in range(20):
        topics = [f"https://example.com/{number}/{matcher}/".ljust(260, "x") for matcher in range(100)]
        connection = bench.connect()
        connection.sendall(
            request("QUERY", HUB, fields | FORM, urlencode([("match", topic) for topic in topics]).encode())
        )
        if read_answer(connection).status != 200:
            bench.notes.append("a stream was refused")
        _STREAMS.append(connection)
    return request("GET", f"{HUB}/subscriptions", fields)


# Connections that stay open until the program ends.
_STREAMS: list[object] = []


def _pipelined(bench: Bench, asking: _Asking, *, connections: int, size: int) -> None:
    data = asking(bench)
    answer = len(bench.ask(data).body)
    block = data * max(1, 65536 // len(data))
    with bench.attacked() as context:
        for _ in range(connections):
            connection = context.enter_context(bench.connect(receive=4096))
            flood(connection, block, size - size % len(data), seconds=3)
    bench.notes.append(f"a response has {answer:,} bytes")
    bench.check("memory", bench.figures.peak / MIB, _most(connections, answer), "MiB")


def _streams(bench: Bench, asking: _Asking, *, connections: int) -> None:
    """
    Send requests concurrently over HTTP/2, from a client whose flow-control window stays 0.
    """
    data = asking(bench)
    answer = len(bench.ask(data).body)
    head, *lines = data.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines if line and not line.startswith("host"))
    with bench.attacked(most=1.0) as context:
        for _ in range(connections):
            http2 = Http2(context.enter_context(bench.connect("tls", http2=True)), window=0)
            streams = range(1, 200, 2)
            heads = [http2.headers(stream, "GET", head.split(" ")[1], fields) for stream in streams]
            http2.connection.sendall(b"".join(heads))
        bench.settle(3.0)
        before = bench.cpu()
        time.sleep(1)
        idle = bench.cpu() - before
    bench.notes.append(f"a response has {answer:,} bytes")
    most = _most(connections, answer) + connections * 100 * _STREAM / MIB
    bench.check("memory", bench.figures.peak / MIB, most, "MiB")
    bench.check("CPU per idle second", idle, _IDLE, "s")


def _most(connections: int, answer: int) -> float:
    return (connections * (answer + _UNSENT) + _ALLOWANCE) / MIB


ATTACKS = (
    Attack(
        "S3",
        "8 × 64 KiB of GET / (page)",
        partial(_pipelined, asking=_page, connections=8, size=64 * KIB),
        _PAGE,
    ),
    Attack(
        "S3",
        "8 × 128 KiB of requests, 401",
        partial(_pipelined, asking=_refusal, connections=8, size=128 * KIB),
    ),
    Attack(
        "S3",
        "1 × 128 KiB of GET list",
        partial(_pipelined, asking=_list, connections=1, size=128 * KIB),
        _LIST,
    ),
    Attack("S3", "HTTP/2: 8 × 100 × page", partial(_streams, asking=_page, connections=8), _PAGE),
    Attack("S3", "HTTP/2: 1 × 100 × list", partial(_streams, asking=_list, connections=1), _LIST),
)

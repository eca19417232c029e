"""
S2: attacks in which the service has ended a connection and the client continues to send.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from abusing.bench import Attack, Bench
from abusing.wire import BAD_FRAME, MIB, Http2, flood, read_answer, request

__all__ = ["ATTACKS"]

# How many bytes the client sends, and by how many MiB the service's memory may grow.
_SIZE = 150 * MIB
_MOST = 1.0

_REQUEST_TIMEOUT = 1.5
_BLOCK = b"x" * 65536

# Makes the service end a connection, and returns the connection.
_End = Callable[[Bench], Any]


def _after_bad_frame(bench: Bench, *, good: int = 0) -> Any:
    http2 = Http2(bench.connect("tls", http2=True))
    if good:
        http2.connection.sendall(http2.headers(1, "GET", "/nothing"))
        http2.read_statuses(1, seconds=5)
    http2.connection.sendall(BAD_FRAME)
    return http2.connection


def _after_400(bench: Bench, transport: str) -> Any:
    connection = bench.connect(transport)
    connection.sendall(b"this is not HTTP\r\n\r\n")
    return connection


def _after_close(bench: Bench, transport: str) -> Any:
    connection = bench.connect(transport)
    connection.sendall(request("GET", "/nothing", {"connection": "close"}))
    read_answer(connection)
    return connection


def _after_close_unread(bench: Bench, transport: str) -> Any:
    connection = bench.connect(transport, receive=4096)
    # Each response has 49 KB, and the last one ends the connection; the client reads none of them.
    pipelined = request("GET", "/") * 100 + request("GET", "/", {"connection": "close"})
    connection.sendall(pipelined)
    return connection


def _after_time_out(bench: Bench, transport: str, *, http2: bool = False) -> Any:
    connection = bench.connect(transport, http2=http2)
    if http2:
        Http2(connection)
    else:
        connection.sendall(b"GET / HTTP/1.1\r\n")
    time.sleep(_REQUEST_TIMEOUT + 0.2)
    return connection


def _flooded(bench: Bench, end: _End) -> None:
    with closing(end(bench)) as connection:
        flood(connection, _BLOCK, MIB)
    with closing(end(bench)) as connection:
        # Do not count objects that the service created before. By now it has also ended the connection.
        bench.settle()
        with bench.attacked():
            sent = flood(connection, _BLOCK, _SIZE, seconds=4)
    bench.notes.append(f"{sent / MIB:,.0f} MiB were taken")
    bench.check("memory", bench.figures.peak / MIB, _MOST, "MiB")


def _dripped(bench: Bench, end: _End) -> None:
    with bench.attacked() as connections:
        connection = connections.enter_context(closing(end(bench)))
        began = time.monotonic()
        try:
            while time.monotonic() < began + 3 * _REQUEST_TIMEOUT:
                time.sleep(0.1)
                connection.sendall(_BLOCK[:1024])
        except OSError:
            pass
        seconds = time.monotonic() - began
    bench.check("connection kept", seconds, _REQUEST_TIMEOUT + 1, "s")


def _attack(name: str, end: _End, run: Any = _flooded, options: tuple[str, ...] = ()) -> Attack:
    return Attack("S2", name, partial(run, end=end), options)


_TIMED = (f"--request-timeout={_REQUEST_TIMEOUT}",)
_PAGE = ("--debugger|--page",)

ATTACKS = (
    _attack("HTTP/2: bad frame first, 150 MiB", _after_bad_frame),
    _attack("HTTP/2: a request, bad frame, 150 MiB", partial(_after_bad_frame, good=1)),
    _attack("HTTP/2: a request, bad frame, a drip", partial(_after_bad_frame, good=1), _dripped, _TIMED),
    _attack(
        "HTTP/2: time-out, 150 MiB", partial(_after_time_out, transport="tls", http2=True), options=_TIMED
    ),
    *(
        _attack(f"{transport.upper()}: {name}, 150 MiB", partial(end, transport=transport), options=options)
        for name, end, transports, options in (
            ("400", _after_400, ("tcp", "tls", "unix"), ()),
            ("Connection: close", _after_close, ("tcp", "tls", "unix"), ()),
            ("close, answers unread", _after_close_unread, ("tcp", "tls"), _PAGE),
            ("time-out", _after_time_out, ("tls",), _TIMED),
        )
        for transport in transports
    ),
)

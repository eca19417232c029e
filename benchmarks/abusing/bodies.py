"""
S4 and S6: attacks with request bodies that do not end, and with bodies of rejected requests.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

from abusing.bench import Attack, Bench
from abusing.wire import FORM, HUB, MIB, Http2, bearer, request

__all__ = ["ATTACKS"]

# How many descriptors the service may need besides one for each connection: the other client uses some.
_DESCRIPTORS = 8

# The memory that all bodies together may take with a valid token, in MiB: the service's --max-bodies, and
# half of it again for Python and the allocator.
_BUDGET = 48.0
# The same without a token: the service has to respond before it reads the body.
_NOTHING = 4.0

_BODY = b"topic=https%3A%2F%2Fexample.com%2F&data=" + b"x" * (MIB - 100)


def _credential(bench: Bench, good: bool) -> dict[str, str]:
    return bearer(bench.token("publish")) if good else {}


def _http2_heads(bench: Bench, *, good: bool, connections: int) -> None:
    fields = FORM | _credential(bench, good)
    statuses = []
    with bench.attacked() as context:
        opened = []
        for _ in range(connections):
            # A service without free descriptors closes new connections.
            with suppress(OSError):
                http2 = Http2(context.enter_context(bench.connect("tls", http2=True)))
                opened.append(http2)
                streams = range(1, 200, 2)
                heads = [http2.headers(stream, "POST", HUB, fields, end=False) for stream in streams]
                http2.connection.sendall(b"".join(heads))
        bench.settle()
        for http2 in opened:
            statuses += http2.read_statuses(100, seconds=0.1)
    if len(opened) < connections:
        bench.notes.append(f"{connections - len(opened)} connections were refused")
    _judge_descriptors(bench, connections, statuses, 100 * connections)


def _http1_heads(bench: Bench, *, good: bool, fields: dict[str, str], rest: bytes, connections: int) -> None:
    data = request("POST", HUB, FORM | _credential(bench, good) | fields) + rest
    with bench.attacked() as context:
        opened = [context.enter_context(bench.connect()) for _ in range(connections)]
        for connection in opened:
            with suppress(OSError):
                connection.sendall(data)
        bench.settle()
        statuses = _statuses(opened)
        time.sleep(0.1)
    _judge_descriptors(bench, connections, statuses, connections)
    if len(rest) > MIB // 2:
        held = (bench.figures.peak + bench.figures.files) / MIB
        bench.check("bodies", held, _BUDGET if good else _NOTHING, "MiB")


def _statuses(connections: list) -> list[int]:  # type: ignore[type-arg]
    statuses = []
    for connection in connections:
        connection.settimeout(0)
        with suppress(OSError):
            answer = connection.recv(1024)
            if answer:
                statuses.append(int(answer.split(b" ", 2)[1]))
    return statuses


def _judge_descriptors(bench: Bench, connections: int, statuses: list[int], requests: int) -> None:
    bench.notes.append(f"{statuses.count(401)} of {requests} got 401")
    bench.check("descriptors", bench.figures.descriptors, connections + _DESCRIPTORS)


_CHUNKED = {"transfer-encoding": "chunked"}
_WHOLE_CHUNK = b"%x\r\n%s\r\n" % (len(_BODY), _BODY)


def _refused(bench: Bench, *, method: str, token: str) -> None:
    """
    Send requests with long bodies that are rejected, and compare their cost with that of a 404.
    """
    times = 10
    body = b"match=" + b"%41" * (MIB // 3 - 10)
    fields = FORM | bearer(token)
    before = bench.cpu()
    for _ in range(times):
        bench.ask(request("POST", "/nothing", fields, body))
    reference = (bench.cpu() - before) / times * 1000
    with bench.attacked():
        before = bench.cpu()
        statuses = [bench.ask(request(method, HUB, fields, body)).status for _ in range(times)]
        each = (bench.cpu() - before) / times * 1000
    bench.notes.append(f"status {statuses[0]}; a 404 with that body: {reference:.1f} ms")
    bench.check("CPU for each", each, max(2 * reference, 5.0), "ms")


ATTACKS = (
    Attack("S4", "HTTP/2: 11 × 100 POSTs begun", partial(_http2_heads, good=False, connections=11)),
    Attack("S4", "HTTP/2: 4 × 100, with a token", partial(_http2_heads, good=True, connections=4)),
    *(
        Attack(
            "S4",
            f"{name}{', with a token' if good else ''}",
            partial(_http1_heads, good=good, fields=fields, rest=rest, connections=50),
        )
        for name, fields, rest in (
            ("50 chunked POSTs begun", _CHUNKED, b"5\r\ntopic\r\n"),
            ("50 with Content-Length, no body", {"content-length": str(MIB)}, b""),
            ("50 × 1 MiB, chunked, no end", _CHUNKED, _WHOLE_CHUNK),
        )
        for good in (False, True)
    ),
    *(
        Attack("S6", f"{method}, 1 MiB of %41, {name}", partial(_refused, method=method, token=token))
        for name, token in (("no token", ""), ("a bad token", "a.b.c"))
        for method in ("QUERY", "POST")
    ),
)

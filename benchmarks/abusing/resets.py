"""
S5: attacks with requests that the client resets in the same packet.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from abusing.bench import Attack, Bench
from abusing.wire import FORM, HUB, KIB, Http2, bearer, request, reset

__all__ = ["ATTACKS"]

_COUNT = 1000

# The cost of a request may exceed that of a 404 only by this factor, which allows for noise.
_NOISE = 1.5

_STREAM = f"{HUB}?match=https%3A%2F%2Fexample.com%2F"

_Begun = Callable[[Http2, Bench, int], bytes]


def _get(target: str, token: str = "") -> _Begun:
    """
    Return a function that returns the bytes of a GET.

    :param token: the action that the request's token grants; ``bad`` for an invalid token.
    """

    def begun(http2: Http2, bench: Bench, stream: int) -> bytes:
        return http2.headers(stream, "GET", target, bearer(_made(bench, token)))

    return begun


def _post(http2: Http2, bench: Bench, stream: int) -> bytes:
    head = http2.headers(stream, "POST", HUB, FORM | bearer(_made(bench, "publish")), end=False)
    return head + http2.data(stream, b"topic=https%3A%2F%2Fexample.com%2F&data=x")


# One token for all requests of an attack.
_tokens: dict[tuple[str, str], str] = {}


def _made(bench: Bench, token: str) -> str:
    if token in ("", "bad"):
        return token and "a.b.c"
    if (bench.key, token) not in _tokens:
        _tokens[bench.key, token] = bench.token(token)
    return _tokens[bench.key, token]


def _over_http2(bench: Bench, begun: _Begun) -> None:
    reference = _cost_of_404(bench)
    with bench.attacked() as connections:
        http2 = Http2(connections.enter_context(bench.connect("tls", http2=True)))
        before = bench.cpu()
        streams = range(1, 2 * _COUNT, 2)
        http2.connection.sendall(
            b"".join(begun(http2, bench, stream) + http2.rst(stream) for stream in streams)
        )
        bench.settle()
        cost = (bench.cpu() - before) / _COUNT * 1000
        if not _is_answered(http2, 2 * _COUNT + 1):
            bench.notes.append("the service ended the connection, and lost the requests that followed")
    _judge(bench, cost, reference)


def _is_answered(http2: Http2, stream: int) -> bool:
    """
    Check whether the service still responds on a connection.
    """
    with suppress(OSError):
        http2.connection.sendall(http2.headers(stream, "GET", "/nothing"))
        while statuses := http2.read_statuses(1, seconds=2):
            if 404 in statuses:
                return True
    return False


def _cost_of_404(bench: Bench) -> float:
    """
    Return the CPU that a 404 costs, in milliseconds.
    """
    bursts, size = 4, 90
    with bench.connect("tls", http2=True) as connection:
        http2 = Http2(connection)
        before = bench.cpu()
        for burst in range(bursts):
            streams = range(2 * burst * size + 1, 2 * (burst + 1) * size, 2)
            connection.sendall(b"".join(http2.headers(stream, "GET", "/nothing") for stream in streams))
            http2.read_statuses(size, seconds=5)
        return (bench.cpu() - before) / (bursts * size) * 1000


def _over_tcp(bench: Bench, data: Callable[[Bench], bytes]) -> None:
    count = 200
    sent = data(bench)
    before = bench.cpu()
    for _ in range(count):
        bench.ask(request("GET", "/nothing"))
    reference = (bench.cpu() - before) / count * 1000
    with bench.attacked():
        before = bench.cpu()
        for _ in range(count):
            connection = bench.connect()
            connection.sendall(sent)
            reset(connection)
        bench.settle()
        cost = (bench.cpu() - before) / count * 1000
    _judge(bench, cost, reference)


def _judge(bench: Bench, cost: float, reference: float) -> None:
    bench.notes.append(f"a 404 costs {reference:.2f} ms")
    bench.check("log", bench.figures.log / KIB, 0, "KiB")
    bench.check("CPU for each", cost, _NOISE * reference, "ms")


def _publication(bench: Bench) -> bytes:
    fields = FORM | bearer(bench.token("publish"))
    return request("POST", HUB, fields, b"topic=https%3A%2F%2Fexample.com%2F&data=x")


_OPTIONS = ("--anonymous", "--subscriptions", "--debugger|--page")

ATTACKS = (
    *(
        Attack("S5", f"HTTP/2: {name}, reset, 1,000 times", partial(_over_http2, begun=begun), _OPTIONS)
        for name, begun in (
            ("stream", _get(_STREAM)),
            ("refusal", _get(_STREAM, "bad")),
            ("publication", _post),
            ("list", _get(f"{HUB}/subscriptions", "subscribe")),
            ("page", _get("/")),
            ("404", _get("/nothing")),
        )
    ),
    *(
        Attack("S5", f"TCP: {name}, reset, 200 times", partial(_over_tcp, data=data), _OPTIONS)
        for name, data in (("stream", lambda bench: request("GET", _STREAM)), ("publication", _publication))
    ),
)

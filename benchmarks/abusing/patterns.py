"""
S7 and S8: attacks with URL patterns, in tokens and in anonymous subscriptions.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from urllib.parse import urlencode

from abusing.bench import Attack, Bench
from abusing.wire import FORM, HUB, MIB, bearer, read_answer, request

__all__ = ["ATTACKS"]

# The memory that cached tokens may take, in MiB: 16 by the service's count, and half of it for the allocator.
_BUDGET = 24.0

# How long one turn of the reactor may be, in milliseconds of CPU.
_TURN = 50.0


def _tokens(bench: Bench) -> None:
    with bench.attacked() as connections:
        connection = connections.enter_context(bench.connect())
        for number in range(400):
            patterns = [f"https://example.com/{number}/{index}/:a/:b/:c/:d/:e" for index in range(5)]
            token = bench.token(
                "subscribe", *({"match": each, "match_type": "urlpattern"} for each in patterns)
            )
            connection.sendall(request("GET", HUB, bearer(token)))
            read_answer(connection)
    bench.check("memory after", bench.figures.after / MIB, _BUDGET, "MiB")


def _strangers(bench: Bench) -> None:
    before = bench.process.resident()
    with ExitStack() as streams:
        statuses: Counter[int] = Counter()
        for number in range(300):
            patterns = [f"https://example.com/{number}-{index}/:a" for index in range(7)]
            connection = streams.enter_context(bench.connect())
            query = urlencode([("match_urlpattern", each) for each in patterns])
            connection.sendall(request("GET", f"{HUB}?{query}"))
            statuses[read_answer(connection).status] += 1
        bench.notes.append(f"{statuses[200]} of 300 accepted")
        bench.notes.append(f"their patterns: {(bench.process.resident() - before) / MIB:,.0f} MiB")
        topics = [("topic", f"https://example.com/{number}-0/new") for number in range(1000, 1100)]
        body = urlencode([*topics, ("data", "x")]).encode()
        with bench.attacked():
            answer = bench.ask(request("POST", HUB, FORM | bearer(bench.token("publish")), body))
        bench.notes.append(f"published: {answer.status}")
    bench.check("reactor held", bench.figures.held * 1000, _TURN, "ms CPU")


ATTACKS = (
    Attack("S7", "400 tokens of 5 URL patterns", _tokens),
    Attack("S8", "300 × 7 patterns, 100 new topics", _strangers, ("--anonymous",)),
)

"""
Compare the parsers' speed: ``python benchmarks/parser.py`` (needs txsse[test]).

All parsers read the same 100,000 events of 100 bytes, in chunks of 64 KiB. They take turns in several rounds.
The figures are medians of the CPU time of this process.
"""

from __future__ import annotations

import argparse
import codecs
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import sseclient
from httpx_sse._decoders import SSEDecoder, SSELineDecoder

from txsse import EventStreamParser

EVENTS = 100_000
CHUNK = 64 * 1024


def data_only(number: int) -> str:
    return f"data: {'x' * 92}\n\n"


def id_type_and_data(number: int) -> str:
    head = f"id: {number:06}\nevent: price\n"
    return f"{head}data: {'x' * (92 - len(head))}\n\n"


def mixed_shapes(number: int) -> str:
    if number % 10:
        return data_only(number)
    return f"data: {'x' * 42}\ndata: {'x' * 43}\n\n"


def crlf(number: int) -> str:
    return id_type_and_data(number).replace("\n", "\r\n")


def with_txsse(chunks: list[bytes]) -> int:
    parser = EventStreamParser()
    return sum(len(parser.feed(chunk)) for chunk in chunks)


def with_httpx_sse(chunks: list[bytes]) -> int:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    lines, decoder = SSELineDecoder(), SSEDecoder()
    return sum(decoder.decode(line) is not None for chunk in chunks for line in lines.decode(decode(chunk)))


def with_sseclient(chunks: list[bytes]) -> int:
    class Source:
        def __iter__(self) -> Iterator[bytes]:
            return iter(chunks)

        def close(self) -> None:
            """
            Do nothing: sseclient-py requires this method.
            """

    return sum(1 for _ in sseclient.SSEClient(Source()).events())


PARSERS: dict[str, Callable[[list[bytes]], int]] = {
    "txsse": with_txsse,
    "httpx-sse": with_httpx_sse,
    "sseclient-py": with_sseclient,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    rounds = options.parse_args().rounds
    print(
        f"Python {platform.python_version()}, httpx-sse {version('httpx-sse')}, "
        f"sseclient-py {version('sseclient-py')}; microseconds of CPU for each event\n"
    )
    print(f"{'stream':18}" + "".join(f"{name:>14}" for name in PARSERS) + "   ratios to txsse")
    for make in (data_only, id_type_and_data, mixed_shapes, crlf):
        stream = "".join(make(number) for number in range(EVENTS)).encode()
        chunks = [stream[begin : begin + CHUNK] for begin in range(0, len(stream), CHUNK)]
        times: dict[str, list[float]] = {name: [] for name in PARSERS}
        for _ in range(rounds):
            for name, parse in PARSERS.items():
                began = time.process_time()
                found = parse(chunks)
                times[name].append((time.process_time() - began) / EVENTS * 1e6)
                if found != EVENTS:
                    raise SystemExit(f"{name} found {found} events of {EVENTS}")
        ours = times["txsse"]
        ratios = [
            statistics.median(other / own for other, own in zip(times[name], ours, strict=True))
            for name in PARSERS
            if name != "txsse"
        ]
        print(
            f"{make.__name__:18}"
            + "".join(f"{statistics.median(times[name]):14.2f}" for name in PARSERS)
            + "   "
            + "  ".join(f"{ratio:.1f}" for ratio in ratios)
        )


if __name__ == "__main__":
    main()

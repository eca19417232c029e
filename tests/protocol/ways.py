"""
Feed a parser with a stream that is cut in every possible way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser, EventTooLarge

BOM = b"\xef\xbb\xbf"


class Outcome(NamedTuple):
    """
    The observable state of a parser after a stream.
    """

    events: list[ServerSentEvent]
    last_event_id: str
    retry: float | None
    too_large: bool


def feed(chunks: Iterable[bytes], **options: Any) -> Outcome:
    """
    Feed chunks to a new parser, until it refuses one.
    """
    parser = EventStreamParser(**options)
    events: list[ServerSentEvent] = []
    too_large = False
    for chunk in chunks:
        try:
            events += parser.feed(chunk)
        except EventTooLarge as error:
            events += error.events
            too_large = True
            break
    return Outcome(events, parser.last_event_id, parser.retry, too_large)


def in_bytes(stream: bytes, size: int = 1) -> Iterator[bytes]:
    """
    Cut a stream into single bytes, or a few at once.
    """
    return (stream[at : at + size] for at in range(0, len(stream), size))


def feed_all_ways(stream: bytes, **options: Any) -> Outcome:
    """
    Feed a stream whole, byte by byte (with and without empty chunks), and with every cut in two.

    :returns: the outcome, which is the same for all of them.
    """
    whole = feed([stream], **options)
    assert feed(in_bytes(stream), **options) == whole
    assert feed((part for byte in in_bytes(stream) for part in (b"", byte)), **options) == whole
    for cut in range(len(stream) + 1):
        assert feed([stream[:cut], stream[cut:]], **options) == whole, f"cut at {cut}"
    assert all(type(event) is ServerSentEvent for event in whole.events)
    return whole


def data_of(stream: bytes) -> list[str]:
    """
    Feed a stream in all ways, and return the data of its events.
    """
    return [event.data for event in feed_all_ways(stream).events]


def message(data: str, id: str = "") -> ServerSentEvent:
    """
    Return the event that the parser returns for a block without a type.
    """
    return ServerSentEvent(data, "message", id)


def kept(value: Any) -> int:
    """
    Count the bytes, characters and list entries in all attributes of a parser.
    """
    if isinstance(value, EventStreamParser):
        return sum(map(kept, vars(value).values()))
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, list | tuple | dict | set):
        return len(value) + sum(map(kept, value))
    return 0

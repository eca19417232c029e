"""
Compare the records of publishers and subscribers with the stream in Redis.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from clustered.publishing import Published
from txsse import EventStreamParser

__all__ = ["Entry", "compare_order", "compare_records", "compare_stream", "compare_track", "number_of"]

# The fields of an entry in the stream, by name; the entry's own id is ``entry``.
Entry = dict[str, str]


def number_of(entry: Entry) -> int:
    """
    Return the number of an entry's update.
    """
    return int(entry["data"].split()[0])


def compare_stream(entries: list[Entry]) -> Iterator[str]:
    """
    Check that the stream itself is consistent.
    """
    before = "0-0"
    for entry in entries:
        if entry["after"] != before:
            yield f"the entry {entry['entry']} names {entry['after']} before it, but that is {before}"
        before = entry["entry"]
    for id, times in Counter(entry["id"] for entry in entries).items():
        if times > 1:
            yield f"the id {id!r} is {times} times in the stream"
    for number, times in Counter(map(number_of, entries)).items():
        if times > 1:
            yield f"update {number} is {times} times in the stream"


def compare_records(records: list[Published], entries: list[Entry]) -> Iterator[str]:
    """
    Compare the publishers' records with the stream.
    """
    found = {number_of(entry): entry for entry in entries}
    for record in records:
        entry = found.get(record.number)
        name = f"update {record.number}"
        if record.acknowledged is None and record.id is not None:
            yield f"{name} was never acknowledged"
        elif record.acknowledged is not None and entry is None:
            yield f"{name} was acknowledged as {record.acknowledged!r}, and is not in the stream"
        elif record.acknowledged is None and not record.uncertain and entry is not None:
            yield f"{name} certainly failed, and is in the stream as {entry['id']!r}"
        if entry is None:
            continue
        if (entry["data"], json.loads(entry["topics"])) != (record.data, record.topics):
            yield f"{name} is not in the stream as it was published: {entry}"
        if {entry["id"]} != {record.id or entry["id"], record.acknowledged or entry["id"]}:
            ids = record.id, record.acknowledged, entry["id"]
            yield f"{name} has other ids as published, as acknowledged and in the stream: {ids}"


def compare_order(records: list[Published], entries: list[Entry]) -> Iterator[str]:
    """
    Check that updates which a node acknowledged at the first attempt are in the order of their publication.
    """
    places = {number_of(entry): place for place, entry in enumerate(entries)}
    last: dict[int, int] = {}
    for record in records:
        if record.tries == 1 and record.acknowledged is not None and record.number in places:
            before = last.get(record.first, record.number)
            if places[before] > places[record.number]:
                yield f"update {record.number} is before {before}, published earlier at the same node"
            last[record.first] = record.number


def compare_track(received: bytes, entries: list[Entry], topic: str | None) -> Iterator[str]:
    """
    Compare the events that subscribers of a topic, or of all topics, received with the stream after the first
    update.
    """
    parsed = _parse(received)
    wanted = [
        (entry["id"], entry["data"])
        for entry in entries[1:]
        if topic is None or topic in json.loads(entry["topics"])
    ]
    if parsed == wanted:
        return
    places = range(max(len(parsed), len(wanted)))
    at = next(at for at in places if parsed[at : at + 1] != wanted[at : at + 1])
    yield (
        f"subscribers of {topic or 'all topics'} received {len(parsed)} updates, the stream has "
        f"{len(wanted)}; the first that differs is {parsed[at : at + 1]}, instead of {wanted[at : at + 1]}"
    )


def _parse(received: bytes) -> list[tuple[str, str]]:
    """
    Read a stream as a client does: the id and the data of each event.
    """
    parser = EventStreamParser()
    events = []
    # One by one, to get the id of each.
    for block in received.split(b"\n\n")[:-1]:
        events += [(parser.last_event_id, event.data) for event in parser.feed(block + b"\n\n")]
    return events

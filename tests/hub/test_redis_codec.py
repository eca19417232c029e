"""
Updates as entries of a stream, and back.
"""

from __future__ import annotations

from typing import Any

import pytest

from txsse import ServerSentEvent, Update
from txsse.hub.redis_codec import NOT_OURS, to_arguments, to_update

UPDATES = [
    Update("news", ServerSentEvent("hello", id="1")),
    Update(
        ["news", "späte Züge", "\N{PILE OF POO}"], ServerSentEvent("a\nb\n", "typ", "ü", 2.5), private=True
    ),
    Update("", ServerSentEvent("", id="a b")),
    Update("news", ServerSentEvent("x", "", "2")),
    Update("news", ServerSentEvent("x", id="3", retry=0.0)),
]


def stored(update: Update, *, after: bytes = b"1-0", number: bytes = b"1-1") -> list[Any]:
    """
    Return an entry as the script makes it.
    """
    id, topics, event, retry, private, data, given = to_arguments(update)
    flat = [b"after", after, b"id", id, b"topics", topics, b"data", data]
    optional = {b"event": event, b"retry": retry, b"private": private}
    for here, (name, value) in zip(given.decode(), optional.items(), strict=True):
        if here == "1":
            flat += [name, value]
    return [number, flat]


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
def test_there_and_back(update: Update) -> None:
    """
    An update that was recorded is read as it was.
    """
    number, after, read = to_update(stored(update, after=b"17-3", number=b"18446744073709551616-5"))
    assert read == update
    assert read.frame == update.frame
    assert (number, after) == ((1 << 128) + 5, (17 << 64) + 3)


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
def test_own(update: Update) -> None:
    """
    This process's own update is not made again.
    """
    assert to_update(stored(update), {update.id.encode(): update})[2] is update


@pytest.mark.parametrize(
    "other",
    [
        Update("news", ServerSentEvent("other", id="1")),
        Update("sport", ServerSentEvent("hello", id="1")),
        Update("news", ServerSentEvent("hello", id="1"), private=True),
        Update("news", ServerSentEvent("hello", "type", "1")),
        Update("news", ServerSentEvent("hello", id="1", retry=1.0)),
    ],
    ids=str,
)
def test_somebody_elses_with_the_same_id(other: Update) -> None:
    """
    What the stream holds counts, not what this process would have it hold.
    """
    assert to_update(stored(other), {b"1": UPDATES[0]})[2] == other


@pytest.mark.parametrize(
    "flat",
    [
        [],
        [b"after"],
        [b"after", b"1-0", b"id"],
        [b"after", b"1-0", b"id", b"1"],
        [b"after", b"here", b"id", b"1", b"topics", b'["news"]', b"data", b"x"],
        [b"after", b"1-0", b"id", b"1", b"topics", b"news", b"data", b"x"],
        [b"after", b"1-0", b"id", b"1", b"topics", b"5", b"data", b"x"],
        [b"after", b"1-0", b"id", b"1", b"topics", b"[]", b"data", b"x"],
        [b"after", b"1-0", b"id", b"1", b"topics", b'["news"]', b"data", b"\xff"],
        [b"after", b"1-0", b"id", b"1", b"topics", b'["news"]', b"data", b"x", b"retry", b"soon"],
        [b"field", b"value"],
    ],
    ids=str,
)
def test_nothing_of_ours(flat: list[bytes]) -> None:
    """
    What somebody else has put into the stream is none, own updates or not.
    """
    for own in ({}, {b"1": UPDATES[0]}):
        with pytest.raises(NOT_OURS):
            to_update([b"1-1", flat], own)

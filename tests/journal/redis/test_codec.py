"""
Tests of encoding updates as stream entries, and decoding them.
"""

from __future__ import annotations

from typing import Any

import pytest

from txsse import JournalFailed, ServerSentEvent, Update
from txsse.journal.redis.codec import (
    DamagedEntry,
    ForeignEntry,
    Own,
    _checksum,
    to_arguments,
    to_update,
    to_updates,
)
from txsse.journal.redis.replies import StreamEntry
from txsse.journal.retention import Retention

UPDATES = [
    Update("news", ServerSentEvent("hello", id="1")),
    Update(
        ["news", "späte Züge", "\N{PILE OF POO}"], ServerSentEvent("a\nb\n", "typ", "ü", 2.5), private=True
    ),
    Update("", ServerSentEvent("", id="a b")),
    Update("news", ServerSentEvent("x", "", "2")),
    Update("news", ServerSentEvent("x", id="3", retry=0.0)),
    Update("news", ServerSentEvent("x", id="4"), retention=Retention("key")),
    Update(
        ["a", "b"], ServerSentEvent("x", "t", "5", 1.0), private=True, retention=Retention("ü", 0.1, "\0 me")
    ),
    Update("news", ServerSentEvent("x", "unretain", "6"), retention=Retention("x", owner="")),
    Update("news", ServerSentEvent("x", id="7"), retention=Retention("x", owner="ß")),
]


def stored(update: Update, *, after: bytes = b"1-0", number: bytes = b"1-1") -> StreamEntry:
    """
    Return an entry as the script stores it.
    """
    id, topics, event, retry, private, data, given, crc, *retention = to_arguments(update)
    flat = [b"after", after, b"id", id, b"topics", topics, b"data", data, b"crc", crc]
    optional = {b"event": event, b"retry": retry, b"private": private}
    if retention:
        optional[b"retain"], _ = retention
    for here, (name, value) in zip(given.decode(), optional.items(), strict=True):
        if here == "1":
            flat += [name, value]
    return number, flat


def own(update: Update) -> Own:
    """
    Return an update as one that this process has sent.
    """
    return {update.id.encode(): (update, to_arguments(update))}


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
def test_round_trip(update: Update) -> None:
    """
    An entry of the stream is decoded to the update that was encoded.
    """
    number, after, read = to_update(stored(update, after=b"17-3", number=b"18446744073709551616-5"))
    assert read == update
    assert read.frame == update.frame
    assert (number, after) == ((1 << 128) + 5, (17 << 64) + 3)


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
def test_own(update: Update) -> None:
    """
    For an entry with this process's update, the decoder returns the same object.
    """
    assert to_update(stored(update), own(update))[2] is update


@pytest.mark.parametrize(
    "other",
    [
        Update("news", ServerSentEvent("other", id="1")),
        Update("sport", ServerSentEvent("hello", id="1")),
        Update("news", ServerSentEvent("hello", id="1"), private=True),
        Update("news", ServerSentEvent("hello", "type", "1")),
        Update("news", ServerSentEvent("hello", id="1", retry=1.0)),
        Update("news", ServerSentEvent("hello", id="1"), retention=Retention("key")),
    ],
    ids=str,
)
def test_other_update_with_the_same_id(other: Update) -> None:
    """
    An entry with another update than this process's one with the same id is decoded to the other update.
    """
    assert to_update(stored(other), own(UPDATES[0]))[2] == other
    assert to_update(stored(UPDATES[0]), own(other))[2] == UPDATES[0]


@pytest.mark.parametrize(
    "flat", [[], [b"field", b"value"], [b"id", b"1", b"topics", b'["news"]', b"data", b"x"]], ids=str
)
def test_foreign(flat: list[bytes]) -> None:
    """
    An entry that another program has added to the stream is rejected as foreign, and skipped.
    """
    for known in ({}, own(UPDATES[0])):
        with pytest.raises(ForeignEntry):
            to_update((b"1-1", flat), known)
    assert list(to_updates([(b"1-1", flat)])) == []


def checked(*flat: bytes) -> list[bytes]:
    """
    Return fields with the checksum that they should have.
    """
    given = b"%d%d%d" % tuple(name in flat for name in (b"event", b"retry", b"private"))
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    values = [fields.get(name, b"") for name in (b"id", b"topics", b"event", b"retry", b"data")]
    if b"retain" in fields:
        given, values = given + b"1", [*values, fields[b"retain"]]
    return [b"after", b"1-0", *flat, b"crc", _checksum(given, *values)]


@pytest.mark.parametrize(
    "flat",
    [
        [b"after", b"1-0"],
        [b"crc", b"1"],
        [b"after"],
        [b"after", b"1-0", b"id", b"1", b"topics", b'["news"]', b"data", b"x"],
        checked(b"id", b"1", b"topics", b"news", b"data", b"x"),
        checked(b"id", b"1", b"topics", b"5", b"data", b"x"),
        checked(b"id", b"1", b"topics", b"[5]", b"data", b"x"),
        checked(b"id", b"1", b"topics", b"[]", b"data", b"x"),
        checked(b"id", b"1", b"topics", b"[" * 50_000, b"data", b"x"),
        checked(b"id", b"1", b"topics", b'["news"]', b"data", b"\xff"),
        checked(b"id", b"\xff", b"topics", b'["news"]', b"data", b"x"),
        checked(b"id", b"1", b"topics", b'["news"]', b"data", b"x", b"retry", b"soon"),
        checked(b"id", b"1", b"topics", b'["news"]', b"data", b"x", b"retain", b""),
        checked(b"id", b"1", b"topics", b'["news"]', b"data", b"x", b"retain", b"\xff\xff"),
        checked(b"id", b"1", b"topics", b'["news"]', b"data", b"x", b"retain", b"key\xffsoon\xff"),
        checked(b"id", b"1", b"topics", b'["news"]', b"data", b"x", b"retain", b"key\xff\xff\xff"),
        stored(UPDATES[0], after=b"here")[1],
        stored(UPDATES[0], after=b"1-1")[1],
        stored(UPDATES[0], after=b"9" * 5000 + b"-0")[1],
    ],
    ids=lambda flat: str(flat[:4])[:80],
)
def test_damaged(flat: list[bytes]) -> None:
    """
    An entry with a field of a hub is damaged if it cannot be decoded, or names itself as the previous entry.
    """
    for known in ({}, own(UPDATES[0])):
        with pytest.raises(DamagedEntry):
            to_update((b"1-1", flat), known)
    assert list(to_updates([(b"1-1", flat)])) == [((1 << 64) + 1, None)]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        5,
        b"entry",
        [],
        [b"1-1"],
        [b"1-1", []] * 2,
        [None, []],
        [b"id", []],
        [b"1-1", None],
        [b"1-1", b"flat"],
        [b"1-1", [b"a", None]],
        [b"1-1", [[b"after", b"1-0"]]],
        [b"1-1", [b"after", None]],
        [b"1-1", [b"after", b"1-0", [b"id"], b"1"]],
    ],
    ids=str,
)
def test_no_entry(entry: Any) -> None:
    """
    If the server has sent anything but an entry, the error says that it is no Redis.
    """
    for known in ({}, own(UPDATES[0])):
        with pytest.raises(JournalFailed, match="check that the URL is that of a Redis server"):
            to_update(entry, known)


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
def test_every_bit(update: Update) -> None:
    """
    A flip of any single bit in an entry's update, in the value or name of a field, is detected.
    """
    number, flat = stored(update)
    for place, text in enumerate(flat):
        for bit in range(8 * len(text)):
            flipped = bytearray(text)
            flipped[bit // 8] ^= 1 << bit % 8
            entry = number, [*flat[:place], bytes(flipped), *flat[place + 1 :]]
            for known in ({}, own(update)):
                try:
                    read = to_update(entry, known)[2]
                except DamagedEntry:
                    continue
                # This field names the previous entry. It is not part of the update.
                assert place == 1 and read == update

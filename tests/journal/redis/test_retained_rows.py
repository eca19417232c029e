"""
Tests of the rows of retained updates in Redis.
"""

from __future__ import annotations

import hashlib
import math

import pytest

from txsse import ServerSentEvent, Update
from txsse.journal.redis.retained_rows import Row, from_retain, to_retain, to_row
from txsse.journal.redis.stream_ids import Epochs
from txsse.journal.retained import Retained, size_under_one_topic
from txsse.journal.retention import Retention


def signed(field: bytes, rest: bytes) -> tuple[bytes, bytes]:
    """
    Return a field of the hash, and its value with a valid checksum.
    """
    return field, hashlib.sha1(field + b"\xff" + rest).hexdigest()[:16].encode() + b"\xff" + rest


def stored_row(update: Update, entry: str = "0-5", place: int = 0, expires: str = "") -> tuple[bytes, bytes]:
    """
    Return a field and its value, as the script stores them for a retained update under one of its topics.
    """
    retention, event = update.retention, update.event
    assert retention is not None
    topic = update.topics[place].encode()
    size = size_under_one_topic(retention.key, len(update.frame_without_id)) + len(topic)
    parts = [
        entry,
        expires,
        str(size),
        "1" if update.private else "",
        str(place),
        "" if retention.owner is None else f"={retention.owner}",
        event.event or "",
        "" if event.retry is None else repr(float(event.retry)),
        event.data,
    ]
    rest = b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)
    return signed(topic + b"\xff" + retention.key.encode(), rest)


UPDATES = [
    Update("news", ServerSentEvent("hello", id="1"), retention=Retention("a")),
    Update(
        ["news", "späte Züge \n \0"],
        ServerSentEvent("a\nb\n", "typ", "ü", 2.5),
        private=True,
        retention=Retention("ü \t", 60, "me ß \n"),
    ),
    Update("", ServerSentEvent("", "", "3"), retention=Retention(" ", None, "")),
]


class RetainTests:
    @pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
    def test_round_trip(self, update: Update) -> None:
        """
        The retention of an update is decoded as it was encoded.
        """
        assert update.retention is not None
        assert from_retain(to_retain(update.retention)) == update.retention

    def test_equal_times(self) -> None:
        """
        An int and an equal float are encoded alike, as the updates are equal.
        """
        assert to_retain(Retention("a", 60)) == to_retain(Retention("a", 60.0))

    @pytest.mark.parametrize(
        "retain",
        [b"", b"a", b"a\xff", b"a\xff\xff\xff", b"\xff\xff", b"a\xffx\xff", b"a\xffnan\xff", b"\xc3\xff\xff"],
    )
    def test_invalid(self, retain: bytes) -> None:
        """
        Anything else raises ValueError.
        """
        with pytest.raises(ValueError):
            from_retain(retain)


class RowTests:
    @pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
    def test_round_trip(self, update: Update) -> None:
        """
        A row that the script has stored is decoded, with the frame as it is sent, without its id.
        """
        assert update.retention is not None
        for place, topic in enumerate(update.topics):
            for expires, seconds in (("", math.inf), ("1700000000.125", 1700000000.125)):
                row = to_row(*stored_row(update, "7-5", place, expires), Epochs())
                position = (7 << 64) + 5
                retained = Retained(
                    position,
                    (topic,),
                    update.private,
                    update.retention.key,
                    update.retention.owner,
                    seconds,
                    update.frame_without_id,
                )
                assert row == Row(position, place, topic, retained)

    def test_epoch(self) -> None:
        """
        The position of a row is that of its entry in its epoch.
        """
        epochs = Epochs()
        epochs.begin(5)
        for entry, position in (("0-5", 5), ("0-6", 1 << 128 | 6)):
            row = to_row(*stored_row(UPDATES[0], entry), epochs)
            assert row is not None
            assert row.position == row.retained.position == position

    @pytest.mark.parametrize("update", UPDATES[:2], ids=lambda update: update.id)
    def test_every_bit(self, update: Update) -> None:
        """
        A flip of any single bit in a field or its value is detected.
        """
        both = stored_row(update)
        for index, text in enumerate(both):
            for bit in range(8 * len(text)):
                flipped = bytearray(text)
                flipped[bit // 8] ^= 1 << bit % 8
                field, value = (bytes(flipped) if each == index else both[each] for each in (0, 1))
                assert to_row(field, value, Epochs()) is None

    @pytest.mark.parametrize(
        ("field", "rest"),
        [
            (b"", b""),
            (b"a\xffb", b""),
            (b"a\xffb", b"0-5\xff\xff5\xff\xff0\xff\xff\xff\xffx\xff"),
            (b"a", b"0-5\xff\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"a\xffb\xffc", b"0-5\xff\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"\xc3\xffb", b"0-5\xff\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"a\xffb", b"0-0\xff\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"a\xffb", b"x\xff\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"a\xffb", b"0--5\xff\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"a\xffb", b"0-5\xffnan\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"a\xffb", b"0-5\xffsoon\xff5\xff\xff0\xff\xff\xff\xffx"),
            (b"a\xffb", b"0-5\xff\xff5\xff\xffx\xff\xff\xff\xffx"),
            (b"a\xffb", b"0-5\xff\xff5\xff\xff0\xff=\xc3\xff\xff\xffx"),
            (b"a\xffb", b"0-5\xff\xff5\xff\xff0\xff\xffa\nb\xff\xffx"),
            (b"a\xffb", b"0-5\xff\xff5\xff\xff0\xff\xff\xff-1\xffx"),
            (b"a\xffb", b"0-5\xff\xff5\xff\xff0\xff\xff\xff\xff\xc3"),
        ],
        ids=str,
    )
    def test_signed_junk(self, field: bytes, rest: bytes) -> None:
        """
        A row with a valid checksum that is no retained update is damaged, too.
        """
        assert to_row(*signed(b"a\xffb", b"0-5\xff\xff5\xff\xff0\xff\xff\xff\xffx"), Epochs()) is not None
        assert to_row(*signed(field, rest), Epochs()) is None

"""
Tests of the rows of updates, which are retained or not.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from txsse import ServerSentEvent, Update
from txsse.journal.retention import Retention
from txsse.journal.sqlite.codec import COLUMNS, CREATE, SIZE, decode, encode, encode_all
from txsse.journal.sqlite.ids import insert

UPDATES = [
    Update("news", ServerSentEvent("x", id="1")),
    Update(["a", "b"], ServerSentEvent("ü\n", "kind", "2 ü", 2.5), private=True),
    Update("news", ServerSentEvent("x", id="3"), retention=Retention("key")),
    Update("news", ServerSentEvent("x", id="4"), retention=Retention("ü \t", 0.1, "me")),
    Update("news", ServerSentEvent("x", id="5"), retention=Retention("key", 1e300, "ß ü\n")),
    Update("news", ServerSentEvent("key", "unretain", "6"), retention=Retention("key", None, "")),
]


class RowTests:
    @pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.id)
    def test_unchanged(self, update: Update) -> None:
        """
        An update that is read from its row is equal, with its retention, and the row has the announced size.
        """
        row, size = encode(7, 1.5, update)
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(CREATE)
            assert insert(connection, row)
            stored = connection.execute(f"SELECT {COLUMNS} FROM updates").fetchone()
            assert connection.execute(f"SELECT {SIZE} FROM updates").fetchone() == (size,)
        assert stored == (row if update.retention else (*row, None))
        assert decode(stored) == ((7, update), 1.5)
        assert encode_all(7, [(update, 1.5)]) == ([row], size)

    @pytest.mark.parametrize(
        "retention", [None, b"", b"[]", b'["key", 1.0, "me"]', b'["key", null, null]', b"\xff", "x", 7, 0.5]
    )
    def test_damaged_retention(self, retention: object) -> None:
        """
        A row in which the retention is changed, missing or of another type is damaged.
        """
        *row, _ = encode(7, 1.5, UPDATES[3])[0]
        assert decode((*row, retention)) is None

    @pytest.mark.parametrize("retention", [b"", b"[]", b'["key", null, null]', "x", 7])
    def test_added_retention(self, retention: object) -> None:
        """
        A row of an update that is not retained is damaged if it has a retention.
        """
        row, _ = encode(7, 1.5, UPDATES[0])
        assert decode((*row, retention)) is None

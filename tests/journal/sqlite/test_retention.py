"""
Retention in a journal in SQLite: the oldest updates, whose rows may be damaged.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from txsse.journal.sqlite import retention as retention_module
from txsse.journal.sqlite.retention import Bounds, Retention


class OldestTests:
    def test_rows_out_of_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A row that a damaged index returns out of order does not set the floor back.
        """
        retention = Retention(Bounds(count=0, bytes=0, age=1000.0))
        retention.begin(0, 3, 30)

        def rows(*_: Any, **__: Any) -> list[tuple[int, float, int]]:
            return [(5, 1.0, 10), (4, 1.0, 10), (6, 1.0, 10)]

        monkeypatch.setattr(retention_module, "rows_after", rows)
        with sqlite3.connect(":memory:") as connection:
            assert list(retention._read_oldest(connection, 6, 2.0)) == [(5, 1.0, 10), (6, 1.0, 10)]
        connection.close()

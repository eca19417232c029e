"""
Tests of a retained update's size.
"""

from __future__ import annotations

import pytest

from txsse.journal import retained as module
from txsse.journal.retained import Retained, size_under_one_topic


class SizeTests:
    @pytest.mark.parametrize(("key", "size"), [("x", 1), ("ü", 2), ("x" * 1024, 1024)])
    def test_size(self, key: str, size: int) -> None:
        """
        The size of a retained update has its frame once, its key twice, in bytes, and an overhead.
        """
        row = Retained(7, ("a", "b"), False, key, None, 0.0, b"data: x\n\n")
        assert row.size == 9 + 2 * size + module._OVERHEAD
        assert row.size == size_under_one_topic(key, len(b"data: x\n\n"))

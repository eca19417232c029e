"""
The marks of tests: a test that starts a program without its mark fails.
"""

from __future__ import annotations

import pytest

from tests import needs
from tests.processes import finish, python


class RequireTests:
    def test_missing_mark(self) -> None:
        """
        A test without the mark ``process`` that runs a program fails with the mark to add.
        """
        with pytest.raises(
            AssertionError, match=r"test_missing_mark runs programs .*: it needs @pytest.mark.process"
        ):
            finish(python("-c", ""))

    @pytest.mark.redis
    def test_mark(self) -> None:
        """
        A test with the mark of its program runs.
        """
        needs.require("redis")
        with pytest.raises(AssertionError, match=r"it needs @pytest\.mark\.proxy"):
            needs.require("proxy")

    def test_fast(self) -> None:
        """
        The selection of fast tests excludes each mark.
        """
        assert all(mark in needs.FAST for mark in needs.MARKS)

"""
Where the last run ended.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from txsse.cli.state import read_state, write_state


class StateTests:
    @pytest.mark.parametrize("id", ["", "7", "ä b", " x "])
    def test_round_trip(self, tmp_path: Path, id: str) -> None:
        """
        What was written is read, and nothing else is left in the folder.
        """
        path = tmp_path / "state"
        assert read_state(path) == ""
        write_state(path, "before")
        write_state(path, id)
        assert read_state(path) == id
        assert os.listdir(tmp_path) == ["state"]

    def test_written_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A write that fails leaves the old id, and no half of the new one.
        """
        path = tmp_path / "state"
        write_state(path, "old")

        def fail(*_: object) -> None:
            raise OSError("no space")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError):
            write_state(path, "new")
        assert read_state(path) == "old"
        assert os.listdir(tmp_path) == ["state"]

    def test_something_else(self, tmp_path: Path) -> None:
        """
        A file that holds more than an id is not taken for one.
        """
        path = tmp_path / "state"
        path.write_text("a\nb\n")
        with pytest.raises(ValueError, match="more than an id"):
            read_state(path)

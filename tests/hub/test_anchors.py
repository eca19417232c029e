"""
Ids for places in a journal that no update names.
"""

from __future__ import annotations

import pytest

from txsse.hub.anchors import Anchors


def test_found() -> None:
    """
    A place up to the head is found by its id.
    """
    anchors = Anchors("x")
    assert [anchors.find(anchors.anchor(position), 5) for position in (0, 3, 5)] == [0, 3, 5]


@pytest.mark.parametrize("id", ["#x-6", "#y-3", "#x-", "#x-3x", "#x--3", "#x-٣", "#x-" + "9" * 19, "x-3", ""])
def test_none(id: str) -> None:
    """
    Another record's, one beyond the head, and what is no place at all, are not.
    """
    assert Anchors("x").find(id, 5) is None

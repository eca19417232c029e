"""
Tests of counting and logging records that cannot be read.
"""

from __future__ import annotations

from twisted.logger import LogEvent, formatEvent

from txsse.journal.damage import Damage


def test_found_again(logged: list[LogEvent]) -> None:
    """
    A damaged record is counted and logged once, however often it is found.
    """
    damage = Damage("the journal")
    for number in (1, 2, 1, 2):
        damage.found(number, f"entry {number}")
    assert damage.count == 2
    texts = [formatEvent(event) or "" for event in logged]
    assert [text.partition(" is damaged")[0] for text in texts] == [
        "the journal: the update at entry 1",
        "the journal: the update at entry 2",
    ]


def test_many(logged: list[LogEvent]) -> None:
    """
    Of 20,000 damaged records, each found twice in a row, 20 are logged and all are counted once.
    """
    damage = Damage("the journal")
    for number in range(20_000):
        damage.found(number, "x")
        damage.found(number, "x")
    assert damage.count == 20_000
    assert len(logged) == 21
    assert "further damaged updates are counted" in (formatEvent(logged[-1]) or "")

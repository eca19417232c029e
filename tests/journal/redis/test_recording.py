"""
Tests of the script's reply to a call that records updates.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.journal.journals import update
from tests.journal.redis.test_limits import limits
from txsse.errors import JournalFailed, NotRetained, RetainedFull
from txsse.journal.redis.codec import to_arguments
from txsse.journal.redis.recording import to_recorded
from txsse.journal.retention import Retention

UPDATES = [
    to_arguments(update("1")),
    to_arguments(update("2", retention=Retention("ü", 5))),
    to_arguments(update("3", topics="späte Züge", retention=Retention("ü"))),
]


def recorded(reply: Any) -> tuple[int, list[object]]:
    floor, results = to_recorded(reply, UPDATES, limits(), lambda number: -number)
    return floor, list(results)


class RecordedTests:
    def test_positions(self) -> None:
        """
        The reply has the entry up to which all are dropped, and the entry of each update.
        """
        assert recorded([b"0-1", [b"0-2", b"0-3", b"0-4"], []]) == (1, [-2, -3, -4])

    def test_refused(self) -> None:
        """
        A refused update has an error of its own, and the others have their positions.
        """
        floor, (first, second, third) = recorded([b"0-1", [b"0-2", b"0-0", b"0-0"], [1, 1, 2, 2]])
        assert (floor, first) == (1, -2)
        assert isinstance(second, RetainedFull)
        assert (second.max_count, second.max_bytes) == (7, 8)
        assert isinstance(third, NotRetained)
        assert (third.topics, third.key) == (("späte Züge",), "ü")

    @pytest.mark.parametrize(("index", "reason", "error"), [(1, 1, RetainedFull), (2, 2, NotRetained)])
    def test_refused_batch(self, index: int, reason: int, error: type[Exception]) -> None:
        """
        If one update of a batch is refused, all have its error.
        """
        floor, results = recorded([b"0-1", [], [index, reason]])
        assert floor == 1
        assert len(results) == 3 and len(set(map(id, results))) == 1
        assert isinstance(results[0], error)

    @pytest.mark.parametrize(
        "reply",
        [
            None,
            [],
            [b"0-1", [b"0-2", b"0-3", b"0-4"]],
            [b"x", [b"0-2", b"0-3", b"0-4"], []],
            [b"0-1", [b"0-2", b"0-3"], []],
            [b"0-1", None, []],
            [b"0-1", [b"0-2", b"0-3", b"0-4"], None],
            [b"0-1", [b"0-2", b"0-3", b"0-4"], [1]],
            [b"0-1", [b"0-2", b"0-3", b"0-4"], [b"1", 1]],
            [b"0-1", [b"0-2", b"0-3"], [1, 1]],
            # Not one that can be refused, no such reason, and no such update.
            [b"0-1", [b"0-2", b"0-3", b"0-4"], [0, 1]],
            [b"0-1", [b"0-2", b"0-3", b"0-4"], [1, 0]],
            [b"0-1", [b"0-2", b"0-3", b"0-4"], [3, 1]],
            [b"0-1", [b"0-2", b"0-3", b"0-4"], [-1, 1]],
            [b"0-1", [], [0, 1]],
            [b"0-1", [], [1]],
            [b"0-1", [], [1, 1, 2, 2]],
        ],
        ids=str,
    )
    def test_hostile(self, reply: Any) -> None:
        """
        If the server's reply has another form, the error says that it is no Redis.
        """
        with pytest.raises(JournalFailed, match="check that the URL is that of a Redis server"):
            recorded(reply)

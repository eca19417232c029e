"""
Tests of the updates that wait to be recorded.
"""

from __future__ import annotations

import pytest

from tests.journal.journals import update
from txsse import BatchTooLarge, JournalFailed
from txsse.journal.base import MAX_BATCH_BYTES, MAX_BATCH_COUNT
from txsse.journal.sqlite.waiting_updates import WaitingUpdates


class TransactionTests:
    def test_order(self) -> None:
        """
        A transaction takes the updates in the order in which they were added, with their times.
        """
        waiting = WaitingUpdates("journal", 10**9)
        assert not waiting
        recorded = [waiting.add(update("1"), 1.0), *waiting.add_many([update("2"), update("3")], 2.0)]
        assert waiting
        batch, size = waiting.take()
        assert not waiting
        assert [(each.update.id, each.time, each.more) for each in batch] == [
            ("1", 1.0, False),
            ("2", 2.0, True),
            ("3", 2.0, False),
        ]
        assert [each.recorded for each in batch] == recorded
        assert size == sum(len(each.update.frame) for each in batch)
        assert waiting.take() == ([], 0)

    def test_whole_batch(self) -> None:
        """
        A transaction has a limit, and takes a batch as a whole even if that exceeds the limit.
        """
        waiting = WaitingUpdates("journal", 10**9)
        for number in range(MAX_BATCH_COUNT - 1):
            waiting.add(update(str(number)), 0.0)
        waiting.add_many([update(f"batch {number}") for number in range(5)], 0.0)
        waiting.add(update("last"), 0.0)
        assert [len(waiting.take()[0]) for _ in range(3)] == [MAX_BATCH_COUNT + 4, 1, 0]

    def test_large_updates(self) -> None:
        """
        A transaction takes no further update after its limit in bytes.
        """
        waiting = WaitingUpdates("journal", 10**9)
        for number in range(3):
            waiting.add(update(str(number), "x" * (MAX_BATCH_BYTES // 2)), 0.0)
        assert [len(waiting.take()[0]) for _ in range(2)] == [2, 1]


class LimitTests:
    def test_too_much(self) -> None:
        """
        Further updates are refused until the transaction with the earlier ones has ended.
        """
        waiting = WaitingUpdates("the journal", 100)
        waiting.add(update("1", "x" * 200), 0.0)
        for _ in range(2):
            with pytest.raises(JournalFailed, match=r"the journal: 2\d\d bytes wait to be recorded"):
                waiting.add(update("2"), 0.0)
            with pytest.raises(JournalFailed, match="publish less, or wait"):
                waiting.add_many([update("2")], 0.0)
            _, size = waiting.take()
        assert not waiting
        waiting.release(size or len(update("1", "x" * 200).frame))
        waiting.add(update("2"), 0.0)

    def test_batch_too_large(self) -> None:
        """
        A batch over the limit of a transaction is refused, and takes no room.
        """
        waiting = WaitingUpdates("journal", 100)
        with pytest.raises(BatchTooLarge):
            waiting.add_many([update(str(number)) for number in range(MAX_BATCH_COUNT + 1)], 0.0)
        assert not waiting
        assert waiting.add_many([], 0.0) == []
        waiting.add(update("1"), 0.0)

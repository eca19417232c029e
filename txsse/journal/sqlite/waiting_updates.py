"""
The appended updates that wait to be recorded, in order, and what one transaction takes of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred

from txsse.journal.base import MAX_BATCH_BYTES, MAX_BATCH_COUNT, check_batch, too_much_pending
from txsse.journal.update import Update

__all__ = ["Waiting", "WaitingUpdates"]


class Waiting(NamedTuple):
    """
    An appended update.

    :ivar update: the update.
    :ivar time: the time of day at which it was appended, in seconds since 1970.
    :ivar recorded: fires with its position, after it was recorded.
    :ivar more: whether it is recorded only together with the next update, in one transaction.
    """

    update: Update
    time: float
    recorded: Deferred[int]
    more: bool = False


class WaitingUpdates:
    """
    Appended updates, limited by their size.

    :param name: the name of the journal, for errors.
    :param max_size: how many bytes of updates may wait. A single update may have more.
    """

    def __init__(self, name: str, max_size: int) -> None:
        self._name = name
        self._max_size = max_size
        self._waiting: deque[Waiting] = deque()
        # The size of the updates that wait, or are being recorded.
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, update: Update, time: float) -> Deferred[int]:
        """
        Add an update.

        :raises JournalFailed: if too many bytes wait.
        """
        self._reserve(len(update.frame))
        recorded: Deferred[int] = Deferred()
        self._waiting.append(Waiting(update, time, recorded))
        return recorded

    def add_many(self, updates: Sequence[Update], time: float) -> list[Deferred[int]]:
        """
        Add updates that are recorded in one transaction.

        :raises BatchTooLarge: if they exceed the limits of a transaction.
        :raises JournalFailed: if too many bytes wait.
        """
        self._reserve(check_batch(updates))
        batch = [Waiting(update, time, Deferred(), more=True) for update in updates]
        if batch:
            batch[-1] = batch[-1]._replace(more=False)
        self._waiting += batch
        return [each.recorded for each in batch]

    def take(self) -> tuple[list[Waiting], int]:
        """
        Return the updates for the next transaction, and their size in bytes. :meth:`release` it afterwards.
        """
        batch: list[Waiting] = []
        size = 0
        while self._waiting and ((len(batch) < MAX_BATCH_COUNT and size < MAX_BATCH_BYTES) or batch[-1].more):
            batch.append(self._waiting.popleft())
            size += len(batch[-1].update.frame)
        return batch, size

    def release(self, size: int) -> None:
        """
        Make room for other updates, after a transaction has ended.

        :param size: the size of its updates, in bytes.
        """
        self._size -= size

    def _reserve(self, size: int) -> None:
        if self._size and self._size + size > self._max_size:
            raise too_much_pending(self._name, self._size)
        self._size += size

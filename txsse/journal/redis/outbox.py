"""
Sends appended updates to the server in batches, and fires their Deferreds in order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._waiters import Waiters
from txsse.journal.redis.codec import Arguments, to_arguments
from txsse.journal.update import Update

__all__ = ["Outbox"]

_log = Logger()

# How many updates, and bytes of updates, one call of the script takes.
_BATCH_COUNT = 500
_BATCH_BYTES = 1024 * 1024


class _OnItsWay(NamedTuple):
    size: int
    arguments: Arguments
    recorded: Deferred[int]


class Outbox:
    """
    The updates of this process whose Deferreds have not fired.

    These are the updates that wait to be recorded, and those that are recorded but have not been given to the
    follower.

    :param record: records updates, given as arguments of the script; its second argument is whether they are
        one batch. It returns a Deferred of their positions.
    :param followed_up_to: returns the position up to which the follower was given updates; infinity while no
        update can be given to it.
    :ivar bytes: the size of the updates that wait to be recorded.
    :ivar own: these updates and their arguments, by id. When the stream returns an update of this process,
        the object is used again, instead of decoding the entry.
    """

    def __init__(
        self,
        record: Callable[[Sequence[Arguments], bool], Deferred[list[int]]],
        followed_up_to: Callable[[], float],
    ) -> None:
        self.bytes = 0
        self.own: dict[bytes, tuple[Update, Arguments]] = {}
        self._record = record
        self._followed_up_to = followed_up_to
        self._waiting: list[_OnItsWay] = []
        # The updates that wait before those, up to the last batch and with it: whether each list is a batch.
        self._earlier: list[tuple[bool, list[_OnItsWay]]] = []
        # The recorded updates that the follower was not given: a heap by position.
        self._unfollowed: list[tuple[int, int, _OnItsWay]] = []
        self._order = 0
        # The number of Deferreds that have not fired.
        self._outstanding = 0
        self._settled: Waiters[None] = Waiters()

    def add(self, update: Update) -> Deferred[int]:
        """
        Add an update, which the next :meth:`flush` sends.

        :returns: a Deferred that fires with its position, once it is recorded and given to the follower.
        """
        added = self._take(update)
        self._waiting.append(added)
        return added.recorded

    def add_many(self, updates: Sequence[Update]) -> list[Deferred[int]]:
        """
        Add a batch, which the next :meth:`flush` sends in one call.
        """
        batch = [self._take(update) for update in updates]
        self._earlier += [(False, self._waiting), (True, batch)]
        self._waiting = []
        return [each.recorded for each in batch]

    def _take(self, update: Update) -> _OnItsWay:
        recorded: Deferred[int] = Deferred()
        arguments = to_arguments(update)
        size = len(update.frame)
        self._outstanding += 1
        self.own[arguments[0]] = update, arguments
        self.bytes += size
        return _OnItsWay(size, arguments, recorded)

    def flush(self) -> None:
        """
        Send the updates that wait.
        """
        earlier, self._earlier = self._earlier, []
        waiting, self._waiting = self._waiting, []
        for together, run in earlier:
            if together:
                self._send(run, together=True)
            else:
                self._send_run(run)
        self._send_run(waiting)

    def _send_run(self, waiting: Sequence[_OnItsWay]) -> None:
        batch: list[_OnItsWay] = []
        size = 0
        for each in waiting:
            batch.append(each)
            size += each.size
            if len(batch) == _BATCH_COUNT or size >= _BATCH_BYTES:
                self._send(batch)
                batch, size = [], 0
        if batch:
            self._send(batch)

    def fire_followed(self) -> None:
        """
        Fire the Deferreds of the updates that the follower was given.
        """
        while self._unfollowed and self._unfollowed[0][0] <= self._followed_up_to():
            position, _, each = heapq.heappop(self._unfollowed)
            self._finish(each, position)

    def rename(self, rename: Callable[[int], int]) -> None:
        """
        Change the positions of the updates that the follower was not given, after a new epoch began.

        :param rename: returns the new position for an old one.
        """
        self._unfollowed = [(rename(position), order, each) for position, order, each in self._unfollowed]
        heapq.heapify(self._unfollowed)

    def lose(self, make_error: Callable[[], Exception]) -> None:
        """
        Fail the updates that wait to be sent, because the session is lost.

        Updates that are recorded succeed, although the follower will be given them only in the next session.
        """
        waiting = [each for _, run in self._earlier for each in run] + self._waiting
        self._earlier, self._waiting = [], []
        for each in waiting:
            self._release(each)
            self._finish(each, Failure(make_error()))
        # A failure would make the publishers publish these again.
        unfollowed, self._unfollowed = self._unfollowed, []
        for position, _, each in unfollowed:
            self._finish(each, position)

    async def settle(self) -> None:
        """
        Wait until every Deferred has fired.
        """
        while self._outstanding:
            await self._settled.wait()

    def _send(self, batch: list[_OnItsWay], *, together: bool = False) -> None:
        # An exception in the call, such as a MemoryError, must fail the publishers' Deferreds.
        recorded = maybeDeferred(self._record, [each.arguments for each in batch], together)
        recorded.addCallbacks(
            self._has_recorded, self._has_not_recorded, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        recorded.addErrback(lambda failure: _log.failure("the callback of a publisher failed", failure))

    def _has_recorded(self, positions: list[int], batch: list[_OnItsWay]) -> None:
        for position, each in zip(positions, batch, strict=True):
            self._release(each)
            if position <= self._followed_up_to():
                self._finish(each, position)
            else:
                self._order += 1
                heapq.heappush(self._unfollowed, (position, self._order, each))

    def _has_not_recorded(self, failure: Failure, batch: list[_OnItsWay]) -> None:
        for each in batch:
            self._release(each)
            self._finish(each, failure)

    def _release(self, each: _OnItsWay) -> None:
        self.bytes -= each.size

    def _finish(self, each: _OnItsWay, result: int | Failure) -> None:
        # Calling back with a Failure starts the errbacks.
        each.recorded.callback(result)
        self.own.pop(each.arguments[0], None)
        self._outstanding -= 1
        if not self._outstanding:
            self._settled.fire(None)

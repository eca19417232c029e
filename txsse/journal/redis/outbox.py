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
from txsse.journal.redis.recording import Recorded
from txsse.journal.update import Update

__all__ = ["Outbox"]

_log = Logger()

# How many updates, and bytes of updates, one call of the script takes. A batch is never split.
_CHUNK_COUNT = 500
_CHUNK_BYTES = 1024 * 1024


class _Pending(NamedTuple):
    size: int
    arguments: Arguments
    recorded: Deferred[int]


class Outbox:
    """
    The updates of this process whose Deferreds have not fired.

    These updates wait to be recorded, or are recorded and have not been given to the follower.

    :param record: records updates, each given as its arguments of the script; its second argument is whether
        they are one batch of :meth:`add_many`. It returns a Deferred of their results: the position of each,
        or the error with which the journal refuses it.
    :param followed_up_to: returns the position up to which the follower was given updates; infinity without a
        session: publishers do not wait until the next session gives them to the follower.
    :ivar bytes: the size of the updates that wait to be recorded, in bytes.
    :ivar own: the updates in this outbox and their arguments, by encoded id. When the stream returns one of
        them, the object is used again, instead of decoding the entry.
    """

    def __init__(
        self,
        record: Callable[[Sequence[Arguments], bool], Deferred[Sequence[Recorded]]],
        followed_up_to: Callable[[], float],
    ) -> None:
        self.bytes = 0
        self.own: dict[bytes, tuple[Update, Arguments]] = {}
        self._record = record
        self._followed_up_to = followed_up_to
        self._waiting: list[_Pending] = []
        # The updates added before those, in order: (False, updates of `add`) and (True, a batch), in turn.
        self._earlier: list[tuple[bool, list[_Pending]]] = []
        # The recorded updates that the follower was not given: a heap by position. Equal updates share one
        # position; the second item then decides, as a pending update has no order.
        self._unfollowed: list[tuple[int, int, _Pending]] = []
        self._pushes = 0
        # The number of Deferreds that have not fired.
        self._outstanding = 0
        self._settled: Waiters[None] = Waiters()

    def add(self, update: Update) -> Deferred[int]:
        """
        Add an update, which the next :meth:`flush` sends.

        :returns: a Deferred that fires with its position, once it is recorded and given to the follower.
        """
        added = self._register(update)
        self._waiting.append(added)
        return added.recorded

    def add_many(self, updates: Sequence[Update]) -> list[Deferred[int]]:
        """
        Add a batch, which the next :meth:`flush` sends in one call.
        """
        batch = [self._register(update) for update in updates]
        self._earlier += [(False, self._waiting), (True, batch)]
        self._waiting = []
        return [each.recorded for each in batch]

    def _register(self, update: Update) -> _Pending:
        recorded: Deferred[int] = Deferred()
        arguments = to_arguments(update)
        size = len(update.frame)
        self._outstanding += 1
        self.own[arguments[0]] = update, arguments
        self.bytes += size
        return _Pending(size, arguments, recorded)

    def flush(self) -> None:
        """
        Send the updates that wait.
        """
        earlier, self._earlier = self._earlier, []
        waiting, self._waiting = self._waiting, []
        for is_batch, updates in earlier:
            if is_batch:
                self._send(updates, is_batch=True)
            else:
                self._send_in_chunks(updates)
        self._send_in_chunks(waiting)

    def _send_in_chunks(self, updates: Sequence[_Pending]) -> None:
        chunk: list[_Pending] = []
        size = 0
        for each in updates:
            chunk.append(each)
            size += each.size
            if len(chunk) == _CHUNK_COUNT or size >= _CHUNK_BYTES:
                self._send(chunk)
                chunk, size = [], 0
        if chunk:
            self._send(chunk)

    def fire_followed(self) -> None:
        """
        Fire the Deferreds of the updates that the follower was given.
        """
        while self._unfollowed and self._unfollowed[0][0] <= self._followed_up_to():
            position, _, each = heapq.heappop(self._unfollowed)
            self._fire(each, position)

    def rename(self, rename: Callable[[int], int]) -> None:
        """
        Replace the positions of the recorded updates that the follower was not given: a new epoch began.

        :param rename: returns the new position for an old one.
        """
        self._unfollowed = [(rename(position), order, each) for position, order, each in self._unfollowed]
        heapq.heapify(self._unfollowed)

    def lose(self, make_error: Callable[[], Exception]) -> None:
        """
        Fail the updates that wait to be sent, because the session is lost.

        Recorded updates succeed, although the follower will be given them only in the next session: a failure
        would make their publishers publish them again.
        """
        waiting = [each for _, updates in self._earlier for each in updates] + self._waiting
        self._earlier, self._waiting = [], []
        for each in waiting:
            self.bytes -= each.size
            self._fire(each, Failure(make_error()))
        unfollowed, self._unfollowed = self._unfollowed, []
        for position, _, each in unfollowed:
            self._fire(each, position)

    async def settle(self) -> None:
        """
        Wait until every Deferred has fired.
        """
        while self._outstanding:
            await self._settled.wait()

    def _send(self, updates: list[_Pending], *, is_batch: bool = False) -> None:
        # An exception in the call, such as a MemoryError, must fail the publishers' Deferreds.
        recorded = maybeDeferred(self._record, [each.arguments for each in updates], is_batch)
        recorded.addCallbacks(
            self._has_recorded, self._has_not_recorded, callbackArgs=(updates,), errbackArgs=(updates,)
        )
        recorded.addErrback(lambda failure: _log.failure("the callback of a publisher failed", failure))

    def _has_recorded(self, results: Sequence[Recorded], updates: list[_Pending]) -> None:
        for position, each in zip(results, updates, strict=True):
            self.bytes -= each.size
            if not isinstance(position, int):
                self._fire(each, Failure(position))
            elif position <= self._followed_up_to():
                self._fire(each, position)
            else:
                self._pushes += 1
                heapq.heappush(self._unfollowed, (position, self._pushes, each))

    def _has_not_recorded(self, failure: Failure, updates: list[_Pending]) -> None:
        for each in updates:
            self.bytes -= each.size
            self._fire(each, failure)

    def _fire(self, each: _Pending, result: int | Failure) -> None:
        # Calling back with a Failure starts the errbacks.
        each.recorded.callback(result)
        self.own.pop(each.arguments[0], None)
        self._outstanding -= 1
        if not self._outstanding:
            self._settled.fire(None)

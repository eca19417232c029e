"""
Updates that were appended to a journal in Redis, until their Deferreds fire.
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

# How much goes into one call of the script.
_BATCH_COUNT = 500
_BATCH_BYTES = 1024 * 1024


class _OnItsWay(NamedTuple):
    size: int
    arguments: Arguments
    recorded: Deferred[int]


class Outbox:
    """
    Updates on their way to the server; and those that it has, and that the follower was not given yet.

    :param record: records updates, each as the script takes it, and whether they are one batch; returns a
        Deferred of their positions.
    :param followed_up_to: returns the position up to which the follower was given updates; infinity if it
        is given none for now.
    :ivar bytes: how many bytes of updates are on their way.
    :ivar own: these updates, by id, and what they were sent as: when the stream brings them back, they need
        not be made again.
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
        # What waits before that, up to a batch and with it: lists of updates, and whether it is a batch.
        self._earlier: list[tuple[bool, list[_OnItsWay]]] = []
        # Recorded, and not given to the follower yet: by position.
        self._unfollowed: list[tuple[int, int, _OnItsWay]] = []
        self._order = 0
        # How many have Deferreds that have not fired.
        self._outstanding = 0
        self._settled: Waiters[None] = Waiters()

    def add(self, update: Update) -> Deferred[int]:
        """
        Take an update, to be sent by the next :meth:`flush`.

        :returns: a Deferred that fires with its position, once it is recorded and the follower was given it.
        """
        added = self._take(update)
        self._waiting.append(added)
        return added.recorded

    def add_many(self, updates: Sequence[Update]) -> list[Deferred[int]]:
        """
        Take a batch, to be sent by the next :meth:`flush` in one call.
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
        Send what waits.
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

    def tell(self) -> None:
        """
        Fire the Deferreds of the updates that the follower was given.
        """
        while self._unfollowed and self._unfollowed[0][0] <= self._followed_up_to():
            position, _, each = heapq.heappop(self._unfollowed)
            self._finish(each, position)

    def rename(self, rename: Callable[[int], int]) -> None:
        """
        The updates that the follower was not given yet have other positions now.
        """
        self._unfollowed = [(rename(position), order, each) for position, order, each in self._unfollowed]
        heapq.heapify(self._unfollowed)

    def lose(self, make_error: Callable[[], Exception]) -> None:
        """
        Fail what waits: the server is lost.
        """
        waiting = [each for _, run in self._earlier for each in run] + self._waiting
        self._earlier, self._waiting = [], []
        for each in waiting:
            self._release(each)
            self._finish(each, Failure(make_error()))
        # These are recorded; that the follower is given them later is the lesser evil.
        untold, self._unfollowed = self._unfollowed, []
        for position, _, each in untold:
            self._finish(each, position)

    async def settle(self) -> None:
        """
        Wait until every Deferred has fired.
        """
        while self._outstanding:
            await self._settled.wait()

    def _send(self, batch: list[_OnItsWay], *, together: bool = False) -> None:
        # What fails here fails for the publishers: it may be that memory is gone.
        recorded = maybeDeferred(self._record, [each.arguments for each in batch], together)
        recorded.addCallbacks(
            self._has_recorded, self._has_not_recorded, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        recorded.addErrback(lambda failure: _log.failure("a publisher failed", failure))

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
        # A Deferred takes a failure as what it is.
        each.recorded.callback(result)
        self.own.pop(each.arguments[0], None)
        self._outstanding -= 1
        if not self._outstanding:
            self._settled.fire(None)

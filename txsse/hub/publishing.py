"""
The path of an update from its publisher to the journal.
"""

from __future__ import annotations

from contextlib import suppress

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from txsse._unhandled import Unhandled
from txsse._waiters import Waiters
from txsse.errors import HubStopped, RetainUnsupported, UpdateTooLarge
from txsse.hub.distribution import Distribution
from txsse.hub.lifecycle import Lifecycle
from txsse.journal.update import EphemeralUpdate, Update

__all__ = ["Publishing"]


class Publishing:
    """
    Appends updates to the journal, and counts those that it has not acknowledged.

    :param lifecycle: the hub's lifecycle.
    :param unhandled: logs failures of the Deferreds that publishers drop.
    :param max_update_size: the maximum size of an update on the wire, in bytes.
    """

    def __init__(self, lifecycle: Lifecycle, unhandled: Unhandled, max_update_size: int) -> None:
        self._lifecycle = lifecycle
        self._unhandled = unhandled
        self._max_update_size = max_update_size
        self._ended = False
        self._unanswered = 0
        self._settled: Waiters[None] = Waiters()

    def publish(
        self,
        update: Update,
        distribution: Distribution,
        *,
        while_draining: bool = False,
        called: str = "hub.publish",
    ) -> Deferred[str]:
        """
        Append an update to the journal.

        :param while_draining: whether to accept it also while the hub drains, and whatever its size.
        :param called: the method that was called, for the log.
        :returns: a Deferred that fires with the update's ID.
        """
        if update.retention is not None and distribution.retained is None:
            raise RetainUnsupported(distribution.journal)
        if not while_draining:
            if len(update.frame) > self._max_update_size:
                raise UpdateTooLarge(len(update.frame), self._max_update_size)
            if self._lifecycle.is_stopping:
                return self._unhandled.watch(fail(HubStopped()), called)
        elif self._ended:
            return fail(HubStopped())
        if distribution.started:
            try:
                recorded = distribution.journal.append(update)
            except Exception:
                # Such as a lack of memory: the next update may succeed.
                recorded = fail(Failure())
            if recorded.called and isinstance(recorded.result, int):
                # The same as the callback below, at a third of its cost.
                if distribution.problem.noted:
                    distribution.problem.recorded()
                return succeed(update.id)
        else:
            recorded = self._lifecycle.start().addCallback(lambda _: distribution.journal.append(update))
        self._unanswered += 1
        # One pair of callbacks: a second pair would cost as much as the checksum of a record.
        return recorded.addCallbacks(
            self._was_recorded,
            self._was_not_recorded,
            callbackArgs=(update.id, distribution),
            errbackArgs=(recorded, distribution, called),
        )

    def publish_ephemeral(self, update: EphemeralUpdate, distribution: Distribution) -> None:
        """
        Send an ephemeral event to the live subscribers of this node.
        """
        if len(update.frame) > self._max_update_size:
            raise UpdateTooLarge(len(update.frame), self._max_update_size)
        if self._lifecycle.is_stopping:
            raise HubStopped
        distribution.fanout.add_ephemeral(update)

    async def settle(self, deadline: float, reactor: IReactorTime) -> None:
        """
        Wait until the journal has acknowledged or refused all updates.

        :param deadline: how long to wait at most, in seconds.
        """
        if self._unanswered:
            with suppress(TimeoutError):
                await self._settled.wait().addTimeout(deadline, reactor)

    def end(self) -> None:
        """
        Refuse all further updates, also those that are published while the hub drains.
        """
        self._ended = True

    def _was_recorded(self, _: object, id: str, distribution: Distribution) -> str:
        self._was_answered()
        if distribution.problem.noted:
            distribution.problem.recorded()
        return id

    def _was_not_recorded(
        self, failure: Failure, recorded: Deferred[int], distribution: Distribution, called: str
    ) -> Failure:
        self._was_answered()
        self._unhandled.watch(recorded, called)
        return distribution.problem.failed(failure)

    def _was_answered(self) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self._settled.fire(None)

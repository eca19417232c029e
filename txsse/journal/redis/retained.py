"""
The retained updates of a journal in Redis: this node's copy, which agrees with what its hub was given.

Strategy: the copy is loaded when the journal starts (``retained_loading.py``), and then changed by each
update that the follower of the stream is given. If the follower skips updates, the copy is stale: it is
loaded again, and readers wait. After a reconnection without a gap, it remains valid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse._rate_limited_log import RateLimitedLog
from txsse._waiters import Waiters
from txsse.errors import JournalFailed
from txsse.journal.redis.limits import Limits
from txsse.journal.redis.replies import Run
from txsse.journal.redis.retained_loading import RetainedLoad
from txsse.journal.redis.script import Script
from txsse.journal.redis.stream_ids import Epochs
from txsse.journal.retained import IRetained, Retained, RetainedPage
from txsse.journal.retained_updates import RetainedUpdates
from txsse.journal.update import Update

__all__ = ["RedisRetained"]

_log = Logger()

# By how many seconds the time of an entry may be after this node's, as in the script.
_MAX_SKEW = 60.0

# The delay after which a load that has failed is repeated, in seconds.
_RETRY = 2.0


@implementer(IRetained)
class RedisRetained:
    """
    The retained updates on the server of a journal, as this node's follower has been given them.

    While they are stale, the methods that return no Deferred use what is known.

    :param journal: the journal, for the log.
    :param script: its script.
    :param now: returns the server's time, in seconds since 1970.
    :param place: returns the epochs, and the position of the newest update that the follower was given.
    :param limits: the limits of the journal.
    """

    def __init__(
        self,
        journal: object,
        script: Script,
        now: Callable[[], float],
        place: Callable[[], tuple[Epochs, int]],
        limits: Limits,
    ) -> None:
        self._journal = journal
        self._script = script
        self._now = now
        self._place = place
        self._limits = limits
        self._reactor: IReactorTime | None = None
        self._replica = self._new_replica()
        self._is_stale = True
        self._load: RetainedLoad | None = None
        self._loading: Deferred[None] | Deferred[RetainedUpdates] | None = None
        self._waiting_to_load: IDelayedCall | None = None
        # Readers that wait until the copy is no longer stale.
        self._readers: Waiters[None] = Waiters()
        self._failures = RateLimitedLog(_log)
        self._has_logged_damage = False

    @property
    def count(self) -> int:
        """
        How many there are.
        """
        return self._replica.count

    @property
    def size(self) -> int:
        """
        Their approximate size, in bytes.
        """
        return self._replica.size

    @property
    def is_empty(self) -> bool:
        """
        Whether it is certain that no update is retained: not while they are stale.
        """
        return not self._is_stale and self._replica.is_empty

    @property
    def changed_at(self) -> int:
        """
        The position of the newest update that has retained or removed one, or may have: skipped ones count.
        """
        return self._replica.changed_at

    def topics(self) -> Iterable[str]:
        """
        Return the topics under which updates are retained.
        """
        return self._replica.topics()

    def find(self, topic: str, key: str) -> Retained | None:
        """
        Return the retained update of a topic and a key.
        """
        return self._replica.find(topic, key)

    def owned(self, owner: str) -> int:
        """
        Return how many retained updates have an owner.
        """
        return self._replica.owned(owner)

    def read(self, topics: Collection[str] | None, after: int, up_to: int) -> Deferred[RetainedPage]:
        """
        Read a page, from memory. While they are stale, wait until they are not.

        The Deferred fails with :exc:`~txsse.errors.JournalFailed` if the journal is stopped meanwhile.
        """
        if not self._is_stale:
            return self._replica.read(topics, after, up_to)
        if self._reactor is None:
            return fail(self._script.unreachable())
        waiter = self._readers.wait()
        return waiter.addCallback(lambda _: self._replica.read_now(topics, after, up_to))

    # The session, and what is followed in it.

    def start(self, reactor: IReactorTime) -> None:
        """
        Start with no retained updates, which are stale until they are loaded.
        """
        self._reactor = reactor
        self._replica = self._new_replica()

    async def load(self, run: Run) -> None:
        """
        Load them before the stream is followed.

        If other nodes append updates during the load, it is completed when these are followed.

        :param run: runs a command of the script in the session that has just begun.
        :raises JournalFailed: if this fails, or if the journal was stopped meanwhile.
        """
        if self._reactor is None:
            raise self._script.unreachable()
        load = self._load = self._new_load(run)
        self._loading = scanning = Deferred.fromCoroutine(load.scan())
        await scanning
        if load.is_followed:
            self._loading = building = Deferred.fromCoroutine(load.build())
            self._has_loaded(await building)
        else:
            self._complete(load.build())

    def session_began(self) -> None:
        """
        Load them if they are stale.
        """
        if self._is_stale and self._load is None:
            self._load_now()

    def session_lost(self) -> None:
        """
        End a load, which the next session begins again.
        """
        self._end_load()

    def apply(self, position: int, update: Update, stored_at: float) -> None:
        """
        Retain or remove what an update retains or removes, directly before the follower is given it.

        :param stored_at: when it was stored, in seconds of the server's clock.
        """
        # All nodes use the time of the entry, unless that of another program is from the future.
        now = self._now()
        begin = stored_at if stored_at <= now + _MAX_SKEW else now
        self._replica.apply(position, update, begin)
        if self._load is not None:
            self._load.apply(position, update, begin)

    def followed(self, *, idle: bool) -> None:
        """
        Note that the follower was given updates.

        :param idle: whether the stream had no further ones.
        """
        if self._load is not None:
            self._load.followed(idle=idle)

    def missed(self) -> None:
        """
        Make them stale, because the follower has skipped updates.
        """
        self._is_stale = True
        # The skipped updates may have changed some. Pages that a hub has kept are no longer valid.
        _, self._replica.changed_at = self._place()
        self._end_load()
        if self._script.session is not None:
            # In the next turn, as several gaps may follow one another.
            self._load_later(0.0)

    def stop(self) -> None:
        """
        End a load, and fail all readers that wait.
        """
        self._end_load()
        self._is_stale = True
        self._reactor = None
        self._readers.fail(self._script.unreachable())

    # Loads.

    def _new_replica(self) -> RetainedUpdates:
        max_count, max_bytes = self._limits.max_retained, self._limits.max_retained_bytes
        return RetainedUpdates(self._now, max_count=max_count, max_bytes=max_bytes)

    def _new_load(self, run: Run) -> RetainedLoad:
        assert self._reactor is not None, "the journal has not been started"
        return RetainedLoad(run, self._reactor, self._place, self._new_replica(), self._found_damaged)

    def _load_later(self, seconds: float) -> None:
        assert self._reactor is not None, "the journal has not been started"
        self._waiting_to_load = self._reactor.callLater(seconds, self._load_now)

    def _load_now(self) -> None:
        self._waiting_to_load = None
        load = self._load = self._new_load(self._script.run)
        self._complete(_run(load))

    def _complete(self, work: Coroutine[Deferred[object], object, RetainedUpdates]) -> None:
        self._loading = loading = Deferred.fromCoroutine(work)
        loading.addCallbacks(self._has_loaded, self._has_failed)

    def _has_loaded(self, replica: RetainedUpdates) -> None:
        self._load = self._loading = None
        self._replica = replica
        self._is_stale = False
        self._readers.fire(None, unless=lambda: self._is_stale)

    def _has_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            # By `_end_load`.
            return
        self._load = self._loading = None
        if failure.check(JournalFailed):
            self._failures.error(
                "{journal} cannot load its retained updates yet: {problem}",
                journal=self._journal,
                problem=cast(JournalFailed, failure.value).problem,
            )
        else:
            self._failures.failure(
                "{journal} cannot load its retained updates", failure, journal=self._journal
            )
        if self._script.session is not None:
            self._load_later(_RETRY)

    def _end_load(self) -> None:
        self._load = None
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.cancel()
        waiting, self._waiting_to_load = self._waiting_to_load, None
        if waiting is not None:
            waiting.cancel()

    def _found_damaged(self) -> None:
        if not self._has_logged_damage:
            self._has_logged_damage = True
            _log.error(
                "{journal}: records of retained updates are damaged and are skipped; publish these updates "
                "again",
                journal=self._journal,
            )


async def _run(load: RetainedLoad) -> RetainedUpdates:
    await load.scan()
    return await load.build()

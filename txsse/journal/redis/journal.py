"""
The journal in Redis Streams, which many processes share.

Strategy: operations that must be atomic are commands of a Lua script, ``script.lua``. One connection sends
commands, a second one follows the stream; both together are a session. If either connection is lost, the
session ends. As soon as a server is available, a new session continues at the entry that was read last. Until
then, publishing fails, and the newest updates are read from memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from txsse._backoff import Backoff
from txsse._clock import make_steady
from txsse._randomness import randomness_of
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.errors import JournalFailed
from txsse.journal.base import (
    DEFAULT_AGE,
    DEFAULT_BYTES,
    DEFAULT_COUNT,
    MAX_PENDING,
    RECENT_BYTES,
    all_of,
    check_batch,
    too_much_pending,
)
from txsse.journal.interfaces import IFollower, IRetainingJournal
from txsse.journal.page import Page
from txsse.journal.redis.cluster import RedisCluster
from txsse.journal.redis.codec import Arguments
from txsse.journal.redis.follower import StreamFollower
from txsse.journal.redis.limits import Limits
from txsse.journal.redis.outbox import Outbox
from txsse.journal.redis.reader import StreamReader
from txsse.journal.redis.recording import Recorded, to_recorded
from txsse.journal.redis.replies import Reply, as_bytes
from txsse.journal.redis.retained import RedisRetained
from txsse.journal.redis.revocations import RedisRevocations
from txsse.journal.redis.script import Script
from txsse.journal.redis.session import Session, open_session
from txsse.journal.redis.stream_ids import Epochs
from txsse.journal.redis.url import parse_url
from txsse.journal.resume_ids import ResumeIds, new_secret
from txsse.journal.retained_updates import DEFAULT_MAX_RETAINED, DEFAULT_MAX_RETAINED_BYTES
from txsse.journal.update import Update

__all__ = ["RedisJournal"]

# The first and the longest delay before the next attempt to connect, in seconds.
_RETRY = 0.2
_MAX_RETRY = 10.0
# How often to drop old updates while no client publishes, in seconds.
_TIDY_INTERVAL = 60.0


@implementer(IRetainingJournal)
class RedisJournal:
    """
    A journal in Redis (6.2 or newer) or Valkey, shared by the hubs of many processes.

    Each hub sends each update to its subscribers once and in the same order; a client may resume at any hub.

    An update that was published is as durable as the server's persistence (see ``appendfsync``). A failover
    may lose the newest updates; the journal detects this, and hubs notify their subscribers.

    While the server is unavailable, the journal reconnects, publishing fails, and subscribers stay connected.

    :param url: ``redis://host:6379/0``, ``rediss://`` for TLS, ``unix:///path?db=0``, or
        ``redis+sentinel://host1,host2/service``; each with ``user:password@`` if needed.
    :param key: the prefix of the names of its keys. Hubs with the same prefix share a journal.
    :param max_count: the maximum number of updates.
    :param max_bytes: their maximum size on the server, in bytes, approximately.
    :param max_age: the maximum age of an update, in seconds; ``None`` for no such limit.
    :param max_retained: the maximum number of retained updates.
    :param max_retained_bytes: their maximum size, in bytes, approximately. Each node holds all in memory.
    :param recent_bytes: the memory for the newest updates, in bytes. Reads of these do not use the server.
    :param max_pending: how many bytes of updates may wait to be recorded. Appending more of them fails.
    :param timeout: how long the server may take to reply, in seconds, before the connection counts as lost.
    :param reactor: the reactor; ``None`` for the global one.
    :raises ValueError: if the URL is invalid, or a limit is not greater than 0.
    :ivar cluster: the nodes that share the journal, an :class:`~txsse.journal.cluster.ICluster`.
    :ivar retained: the retained updates, an :class:`~txsse.journal.retained.IRetained`.
    :ivar revocations: the list of revoked tokens, which the nodes share.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str = "txsse",
        max_count: int = DEFAULT_COUNT,
        max_bytes: int = DEFAULT_BYTES,
        max_age: float | None = DEFAULT_AGE,
        max_retained: int = DEFAULT_MAX_RETAINED,
        max_retained_bytes: int = DEFAULT_MAX_RETAINED_BYTES,
        recent_bytes: int = RECENT_BYTES,
        max_pending: int = MAX_PENDING,
        timeout: float = 5.0,
        reactor: AnyReactor | None = None,
    ) -> None:
        limits = Limits(max_count, max_bytes, max_age, max_retained, max_retained_bytes, recent_bytes)
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        self._server = parse_url(url)
        self._key = key
        self._limits = limits
        self._max_pending = max_pending
        self._timeout = timeout
        self._given_reactor = cast("IReactorTime | None", reactor)
        self._reactor: IReactorTime | None = None
        # The difference between the server's clock and this process's clock, in seconds.
        self._ahead = 0.0
        self._resume_ids = ResumeIds(new_secret(randomness_of(reactor)))
        self._script = Script(self, self._server.name, self._now)
        self._outbox = Outbox(self._record, self._followed_up_to)
        self.retained = RedisRetained(self, self._script, self._now, self._place, limits)
        self._following = StreamFollower(self, limits.new_window, self._outbox, self.retained)
        self._reader = StreamReader(self._script, self._following, lambda: limits.oldest(self._now()))
        self.revocations = RedisRevocations(self, self._script, self._now)
        self.cluster = RedisCluster(self._script.run, self._now, self._flush_soon, randomness_of(reactor))
        self._staying: Deferred[None] | None = None
        self._tidying: IDelayedCall | None = None
        self._flushing: IDelayedCall | None = None
        self._stopping = False

    def __repr__(self) -> str:
        return f"<RedisJournal {self._server.name}>"

    @property
    def head(self) -> int:
        """
        The position of the newest update that the follower was given.
        """
        return self._following.recent.head

    @property
    def problem(self) -> Exception | None:
        """
        The current problem; ``None`` while the journal works.
        """
        return self._script.problem

    @property
    def damaged(self) -> int:
        """
        The number of damaged entries that this process has found.
        """
        return self._following.damage.count

    def start(self, follower: IFollower) -> Deferred[None]:
        """
        Connect to the server, read the newest updates into memory, and follow the stream.
        """
        self._following.follower = follower
        self._reactor = reactor = make_steady(self._given_reactor or global_reactor())
        self._stopping = False
        self._script.start(reactor)
        self.retained.start(reactor)
        return Deferred.fromCoroutine(self._start())

    def append(self, update: Update) -> Deferred[int]:
        """
        Record an update, in a command that is sent at the end of this turn of the reactor.
        """
        # The script looks for an equal update. This process's memory may hold one that the server has
        # dropped.
        refusal = self._refusal(len(update.frame))
        if refusal is not None:
            return fail(refusal)
        recorded = self._outbox.add(update)
        self._flush_soon()
        return recorded

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        """
        Record several updates, in one command.
        """
        refusal = self._refusal(check_batch(updates))
        if refusal is not None:
            return fail(refusal)
        if not updates:
            return succeed([])
        recorded = self._outbox.add_many(updates)
        self._flush_soon()
        return all_of(recorded)

    def find(self, id: str) -> Deferred[int | None]:
        """
        Look up the id of an update, or a resume ID.
        """
        recent, epochs = self._following.recent, self._following.epochs
        position = recent.find(id, self._now())
        if position is not None and recent.begins(id):
            return succeed(position)
        number = self._resume_ids.find(id, epochs.number_of(recent.head))
        if number is not None:
            return succeed(epochs.position_of(number))
        return Deferred.fromCoroutine(self._reader.find(id))

    def at(self, position: int) -> Deferred[Update | None]:
        """
        Return the update at a position, from memory if it is one of the newest.
        """
        update = self._following.recent.at(position, self._now())
        if update is not None:
            return succeed(update)
        return Deferred.fromCoroutine(self._reader.at(position))

    def read(self, after: int) -> Deferred[Page]:
        """
        Read the updates after a position, from memory if they are among the newest.
        """
        now, recent = self._now(), self._following.recent
        recent.trim(now)
        if after >= recent.floor:
            return succeed(recent.read(after, now))
        return Deferred.fromCoroutine(self._reader.read(after))

    def resume_id(self, position: int) -> str:
        """
        Return an opaque resume ID for a position.
        """
        return self._resume_ids.resume_id(self._following.epochs.number_of(position))

    def stop(self) -> Deferred[None]:
        """
        Wait until the appended updates are recorded, leave the cluster, and disconnect.
        """
        return Deferred.fromCoroutine(self._stop())

    # The session.

    async def _start(self) -> None:
        try:
            session = await self._connect()
            try:
                await self._agree(session)
                await self._following.load(session, self._limits.recent_count, self._limits.recent_bytes)
                await self.retained.load(session.run)
            except BaseException:
                session.cut()
                raise
        except BaseException as error:
            if isinstance(error, JournalFailed):
                self._script.note(error)
            self.retained.stop()
            raise
        self._staying = Deferred.fromCoroutine(self._stay(session))
        self._staying.addErrback(lambda failure: failure.trap(CancelledError))
        self._tidy_later()

    async def _connect(self) -> Session:
        """
        Open a session.
        """
        node = self.cluster.node
        return await open_session(self._server, self._key, node, timeout=self._timeout, reactor=self._started)

    async def _agree(self, session: Session) -> None:
        """
        Read the server's clock, and the record's secret for resume IDs, which all nodes use.
        """
        secret = await session.run("secret", new_secret(randomness_of(self._reactor)))
        self._resume_ids = ResumeIds(as_bytes(secret))
        self._ahead = await session.clock() - self._started.seconds()

    async def _stay(self, session: Session) -> None:
        """
        Follow the stream. Open a new session whenever one is lost.
        """
        while True:
            self._script.session_began(session)
            self.retained.session_began()
            self.cluster.session_began(self._started)
            try:
                await self._following.follow(session, self.cluster)
            except CancelledError:
                raise
            except Exception as error:
                self._lose(self._script.to_failed(error))
            finally:
                session.cut()
            session = await self._reconnect()

    async def _reconnect(self) -> Session:
        delay = Backoff(_RETRY, _MAX_RETRY)
        while True:
            # All nodes lose the server at the same moment. A random delay keeps them from reconnecting at
            # once.
            await deferLater(self._started, delay.next() * randomness_of(self._reactor).uniform(0.5, 1.0))
            try:
                session = await self._connect()
                try:
                    await self._agree(session)
                    await self._following.find_place(session)
                except BaseException:
                    session.cut()
                    raise
            except Exception as error:
                if self._stopping:
                    raise CancelledError from None
                self._script.note(self._script.to_failed(error))
            else:
                return session

    def _lose(self, error: JournalFailed) -> None:
        self._script.session_lost(error)
        self._outbox.lose(self._script.unreachable)
        self.retained.session_lost()
        self.cluster.session_lost(self._script.unreachable)

    async def _stop(self) -> None:
        await self._outbox.settle()
        await self.revocations.settle()
        await self.cluster.stop()
        self._stopping = True
        tidying, self._tidying = self._tidying, None
        if tidying is not None:
            tidying.cancel()
        staying, self._staying = self._staying, None
        if staying is not None:
            # The coroutine cannot be cancelled while it is running, which it is if a callback for an update
            # calls this; its connections would then stay open.
            await deferLater(self._started, 0)
            staying.cancel()
        self._script.stop()
        self.retained.stop()

    # Publishing.

    def _refusal(self, size: int) -> JournalFailed | None:
        if self._script.session is None:
            return self._script.unreachable()
        pending = self._outbox.bytes
        is_full = pending and pending + size > self._max_pending
        return too_much_pending(self._server.name, pending) if is_full else None

    def _flush_soon(self) -> None:
        if self._script.session is not None and self._flushing is None:
            # In the next turn of the reactor, so that all updates published in this turn share one command.
            self._flushing = self._started.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self.cluster.send_metadata()
        self._outbox.flush()

    def _record(self, updates: Sequence[Arguments], together: bool) -> Deferred[Sequence[Recorded]]:
        arguments = [argument for update in updates for argument in update]
        command = "append_many" if together else "append"
        ran = self._script.run(command, *self._limits.arguments(self._now()), *arguments)
        return ran.addCallback(self._has_recorded, updates)

    def _has_recorded(self, reply: Reply, updates: Sequence[Arguments]) -> Sequence[Recorded]:
        position_of = self._following.epochs.position_of
        floor, recorded = to_recorded(reply, updates, self._limits, position_of)
        self._following.note_floor(floor)
        return recorded

    def _followed_up_to(self) -> float:
        # Without a session, the follower is given the updates later; publishers do not wait for that.
        return math.inf if self._script.session is None else self._following.recent.head

    def _place(self) -> tuple[Epochs, int]:
        return self._following.epochs, self._following.recent.head

    # Deletion of old updates, and the clock.

    def _tidy_later(self, seconds: float = _TIDY_INTERVAL) -> None:
        if self._staying is not None:
            self._tidying = self._started.callLater(seconds, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        self._tidy_now().addCallback(lambda more: self._tidy_later(0.0 if more else _TIDY_INTERVAL))

    def _tidy_now(self) -> Deferred[bool]:
        return self._script.run("tidy", *self._limits.arguments(self._now())).addCallbacks(
            bool, lambda _: False
        )

    def _now(self) -> float:
        assert self._reactor is not None, "the journal has not been started"
        return self._reactor.seconds() + self._ahead

    @property
    def _started(self) -> IReactorTime:
        assert self._reactor is not None, "the journal has not been started"
        return self._reactor

"""
A journal in Redis Streams, which many processes share.

Strategy: what has to happen in one step happens in a script, ``script.lua``. A connection sends commands;
another one follows the stream. Both together are a session: where either is lost, so is the session, and a
new one begins where the last one was, as soon as there is a server. Until then nothing can be published, and
the newest part is read from memory.

Entries are told to the follower as the stream brings them, this process's own among them, so that the order
is the same everywhere. Each names the entry before it, and what does not fit shows that this process was
overtaken by trimming; or that the record is another one than it was, as it is behind a failover that lost
something.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse._backoff import Backoff
from txsse._clock import make_steady
from txsse._rate_limited_log import RateLimitedLog
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.errors import JournalFailed
from txsse.journal.base import (
    DEFAULT_AGE,
    DEFAULT_BYTES,
    DEFAULT_COUNT,
    MAX_BATCH_COUNT,
    all_of,
    check_batch,
    check_bounds,
)
from txsse.journal.damage import Damage
from txsse.journal.interfaces import IFollower, IJournal
from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.redis.cluster import RedisCluster
from txsse.journal.redis.codec import (
    Arguments,
    DamagedEntry,
    ForeignEntry,
    is_repeated,
    is_unfinished,
    time_of,
    to_update,
    to_updates,
)
from txsse.journal.redis.failed_commands import Refusals
from txsse.journal.redis.link import Refused, parse_url
from txsse.journal.redis.outbox import Outbox
from txsse.journal.redis.session import Session, open_session
from txsse.journal.redis.stream_ids import Timeline, to_number, to_text
from txsse.journal.resume_ids import ResumeIds, new_secret
from txsse.journal.update import Update
from txsse.journal.window import PAGE_BYTES, PAGE_COUNT, Window, size_of

__all__ = ["RedisJournal"]

_log = Logger()

# How many pages are read at once. What is published has to wait for their replies, and so has its time-out.
_READ_COUNT = 2

# How many entries the follower takes at once.
_FOLLOW_COUNT = 256

# How many updates of the newest are kept in memory.
_RECENT_COUNT = 10_000

# The first and the longest wait before the next attempt to connect, in seconds.
_RETRY = 0.2
_MAX_RETRY = 10.0

# How often is tried what the Redis has refused, in seconds.
_TRIAL_INTERVAL = 2.0

# How often is looked for what is too old, where nothing is published, in seconds.
_TIDY_INTERVAL = 60.0


@implementer(IJournal)
class RedisJournal:
    """
    A journal in a Redis, from 6.2 on, or a Valkey. Hubs in many processes that share it act as one: each
    shows its subscribers every update once, in the same order, and a client may resume at any of them.

    An update that was published is as safe as the Redis is: see its ``appendfsync``, and mind that a failover
    may lose the newest. That is noticed, and subscribers are told.

    While the Redis is out, publishing fails at once, and subscribers stay; it is looked for again and again.

    :param url: ``redis://host:6379/0``, ``rediss://`` for TLS, ``unix:///path?db=0``, or
        ``redis+sentinel://host1,host2/service``; each with ``user:password@`` where needed.
    :param key: what the names of its keys begin with. Hubs with the same key share a journal.
    :param max_count: how many updates it holds.
    :param max_bytes: how many bytes they take, roughly.
    :param max_age: for how long it holds one, in seconds; ``None`` for as long as the others let it.
    :param recent_bytes: how many bytes of memory the newest part takes, which is read from there.
    :param max_pending: how many bytes of updates may be on their way; more of them fail.
    :param timeout: how long the Redis may take to answer, in seconds, until it counts as lost.
    :param reactor: the reactor; ``None`` for the global one.
    :raises ValueError: for a URL that is none, and for a bound that holds nothing.
    :ivar cluster: the nodes that share the journal, an :class:`~txsse.journal.cluster.ICluster`.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str = "txsse",
        max_count: int = DEFAULT_COUNT,
        max_bytes: int = DEFAULT_BYTES,
        max_age: float | None = DEFAULT_AGE,
        recent_bytes: int = 16 * 1024 * 1024,
        max_pending: int = 64 * 1024 * 1024,
        timeout: float = 5.0,
        reactor: AnyReactor | None = None,
    ) -> None:
        check_bounds(max_count, max_bytes, max_age)
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        self.problem: Exception | None = None
        self._server = parse_url(url)
        self._key = key
        self._max_count = max_count
        self._recent_count = min(max_count, _RECENT_COUNT)
        self._max_bytes = max_bytes
        self._max_age = math.inf if max_age is None else max_age
        self._recent_bytes = recent_bytes
        self._max_pending = max_pending
        self._timeout = timeout
        self._given_reactor = cast("IReactorTime | None", reactor)
        self._reactor: Any = None
        self._follower: IFollower | None = None
        self._timeline = Timeline()
        self._recent = self._new_recent(0)
        self._head_id: str | None = None
        self._damage = Damage(self)
        self._failures = RateLimitedLog(_log)
        # The entry up to which the stream has been read, and whether the next one may come behind any other.
        self._cursor = 0
        self._anew = False
        # The entry up to which the journal gave all up, as far as this process knows.
        self._floor = 0
        # By how much the clock of the Redis is ahead of this one, in seconds.
        self._ahead = 0.0
        self._session: Session | None = None
        self._staying: Deferred[None] | None = None
        self.cluster = RedisCluster(self._try, self._now, self._flush_soon)
        self._tidying: Any = None
        self._trying: Any = None
        self._resume_ids = ResumeIds(new_secret())
        self._outbox = Outbox(self._record, self._told_up_to)
        self._refusals = Refusals()
        self._flushing: Any = None
        self._reading = DeferredSemaphore(_READ_COUNT)
        self._stopping = False

    def __repr__(self) -> str:
        return f"<RedisJournal {self._server.name}>"

    @property
    def head(self) -> int:
        """
        The position of the newest update that the follower was told of.
        """
        return self._recent.head

    @property
    def damaged(self) -> int:
        """
        How many damaged entries this process has found.
        """
        return self._damage.count

    def start(self, follower: IFollower) -> Deferred[None]:
        """
        Connect, and follow.
        """
        self._follower = follower
        self._reactor = make_steady(self._given_reactor or global_reactor())
        self._stopping = False
        self._refusals = Refusals()
        return Deferred.fromCoroutine(self._start())

    def append(self, update: Update) -> Deferred[int]:
        """
        Record an update.
        """
        # Whether there is one with its id, the script decides: the memory may hold what Redis has given up.
        if self._session is None:
            return fail(self._unreachable())
        pending = self._outbox.bytes
        if pending and pending + len(update.frame) > self._max_pending:
            return fail(self._too_much_pending())
        recorded = self._outbox.add(update)
        self._flush_soon()
        return recorded

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        """
        Record several updates.
        """
        size = check_batch(updates)
        if self._session is None:
            return fail(self._unreachable())
        if self._outbox.bytes and self._outbox.bytes + size > self._max_pending:
            return fail(self._too_much_pending())
        if not updates:
            return succeed([])
        recorded = self._outbox.add_many(updates)
        self._flush_soon()
        return all_of(recorded)

    def _too_much_pending(self) -> JournalFailed:
        pending = self._outbox.bytes
        problem = f"{pending} bytes are on their way; publish less, or wait for what was published"
        return JournalFailed(self._server.name, problem)

    def find(self, id: str) -> Deferred[int | None]:
        """
        Look an id up.
        """
        position = self._recent.find(id, self._now())
        if position is not None and self._recent.begins(id):
            return succeed(position)
        number = self._resume_ids.find(id, self._timeline.number_of(self._recent.head))
        if number is not None:
            return succeed(self._timeline.position_of(number))
        return Deferred.fromCoroutine(self._find(id))

    def at(self, position: int) -> Deferred[Update | None]:
        """
        Return the update at a position: one of the newest part from memory.
        """
        update = self._recent.at(position, self._now())
        if update is not None:
            return succeed(update)
        return Deferred.fromCoroutine(self._at(position))

    def read(self, after: int) -> Deferred[Page]:
        """
        Read on behind a position: the newest part from memory.
        """
        now = self._now()
        self._recent.trim(now)
        if after >= self._recent.floor:
            return succeed(self._recent.read(after, now))
        return Deferred.fromCoroutine(self._read(after))

    def resume_id(self, position: int) -> str:
        """
        Return an opaque id for a position.
        """
        return self._resume_ids.resume_id(self._timeline.number_of(position))

    def stop(self) -> Deferred[None]:
        """
        Disconnect, behind what was appended.
        """
        return Deferred.fromCoroutine(self._stop())

    # The session.

    async def _start(self) -> None:
        try:
            session = await self._connect()
            try:
                await self._agree(session)
                last, floor, _ = await session.look(0)
                self._timeline = Timeline()
                await self._load_recent(session, last, floor)
            except BaseException:
                session.cut()
                raise
        except JournalFailed as error:
            self._note(error)
            raise
        self._staying = Deferred.fromCoroutine(self._stay(session))
        self._staying.addErrback(lambda failure: failure.trap(CancelledError))
        self._tidy_later()

    async def _connect(self) -> Session:
        """
        Begin a session.
        """
        node = self.cluster.node
        return await open_session(self._server, self._key, node, timeout=self._timeout, reactor=self._reactor)

    async def _agree(self, session: Session) -> None:
        """
        All go by the clock of the Redis, however their own are, and name places by the same secret.
        """
        self._resume_ids = ResumeIds(await session.run("secret", new_secret()))
        self._ahead = await session.clock() - float(self._reactor.seconds())

    async def _stay(self, session: Session) -> None:
        """
        Follow the stream, over lost sessions.
        """
        while True:
            self._session = session
            # What this Redis refused before, it may still refuse; that is tried at once.
            self._note(self._refusals.problem)
            self.cluster.session_began(self._reactor)
            try:
                await self._follow(session)
            except CancelledError:
                raise
            except Exception as error:
                self._lose(self._to_failed(error))
            finally:
                session.cut()
            session = await self._reconnect()

    async def _follow(self, session: Session) -> None:
        # The beginning of a batch whose end has not been read yet: the follower gets it together with that.
        begun: list[Any] = []
        while True:
            cursor = to_number(begun[-1][0]) if begun else self._cursor
            more, inbox = await session.wait_for_entries(cursor, self.cluster.inbox_cursor, _FOLLOW_COUNT)
            self.cluster.receive(inbox)
            if begun and not more:
                # Its end is not in the stream, which is damaged: a transaction is stored as a whole.
                self._skip_to(cursor)
            found = begun + more if more else []
            end = len(found)
            while end and is_unfinished(found[end - 1]):
                end -= 1
            if len(found) - end > MAX_BATCH_COUNT:
                # No batch is that long: the marks are damaged.
                end = len(found)
            found, begun = found[:end], found[end:]
            await self._tell(session, found)

    async def _reconnect(self) -> Session:
        delay = Backoff(_RETRY, _MAX_RETRY)
        while True:
            # All nodes lose it in the same moment, and need not come back in the same.
            await deferLater(self._reactor, delay.next() * random.uniform(0.5, 1.0))
            try:
                session = await self._connect()
                try:
                    await self._agree(session)
                    await self._find_place(session)
                except BaseException:
                    session.cut()
                    raise
            except Exception as error:
                if self._stopping:
                    raise CancelledError from None
                self._note(self._to_failed(error))
            else:
                return session

    def _lose(self, error: JournalFailed) -> None:
        self._session = None
        self._note(error)
        self._outbox.lose(self._unreachable)
        self.cluster.session_lost(self._unreachable)

    async def _stop(self) -> None:
        await self._outbox.settle()
        await self.cluster.stop()
        self._stopping = True
        calls, self._tidying, self._trying = (self._tidying, self._trying), None, None
        for call in calls:
            if call is not None:
                call.cancel()
        staying, self._staying = self._staying, None
        if staying is not None:
            staying.cancel()
        self._session = None

    def _to_failed(self, error: Exception) -> JournalFailed:
        if isinstance(error, JournalFailed):
            return error
        # Such as a follower that fails.
        self._failures.failure("{journal} cannot be followed", journal=self)
        return JournalFailed(
            self._server.name, f"cannot be followed, by a {type(error).__name__}; see the log"
        )

    # Where it goes on.

    async def _find_place(self, session: Session) -> None:
        """
        See whether the record goes on from where this process was.
        """
        number = self._timeline.number_of(self._recent.head)
        last, floor, there = await session.look(number)
        if number and (last < number or (there is None and floor < number) or not self._is_head(there)):
            await self._find_fork(session, last)
        elif floor > number:
            self._skip_to(floor)

    def _is_head(self, there: str | None) -> bool:
        return there is None or self._head_id is None or there == self._head_id

    async def _find_fork(self, session: Session, last: int) -> None:
        """
        The record is another one. Find where it departed from what this process has seen.

        :param last: the newest entry there.
        """
        # No further than that: what comes next is behind it, whatever the clock there says.
        fork = min(self._timeline.number_of(self._recent.floor), last)
        known = self._recent.entries()
        # What is the same is a beginning of what is known.
        while known:
            middle = len(known) // 2
            position, update = known[middle]
            number = self._timeline.number_of(position)
            _, _, there = await session.look(number)
            if there == update.id:
                fork, known = number, known[middle + 1 :]
            else:
                known = known[:middle]
        _log.error(
            "{journal} has lost updates that it had acknowledged; those who had them are told", journal=self
        )
        self._timeline.fork(fork)
        self._begin_anew(self._timeline.position_of(fork, behind_fork=True))

    def _skip_to(self, number: int) -> None:
        """
        Trimming has overtaken this process.
        """
        _log.error("{journal} held less than was missed; those who missed it are told", journal=self)
        self._begin_anew(self._timeline.position_of(number))

    def _begin_anew(self, position: int) -> None:
        self._recent = self._new_recent(position)
        self._cursor = self._timeline.number_of(position)
        self._anew = True
        self._head_id = None
        assert self._follower is not None
        self._follower.updates_missed(position)
        # What was passed over will not be told; behind a fork, what is new has other positions.
        timeline = self._timeline
        self._outbox.rename(lambda each: timeline.position_of(timeline.number_of(each)))
        self._outbox.tell()

    async def _load_recent(self, session: Session, last: int, floor: int) -> None:
        """
        Fill the memory with the newest part, down to a damaged entry: who comes from before that has to be
        told.
        """
        newest: list[tuple[int, Update]] = []
        repeated: set[int] = set()
        size, before, below = 0, last, None
        while below is None and len(newest) < self._recent_count and size < self._recent_bytes:
            found = await session.entries_before(before, PAGE_COUNT)
            repeated.update(to_number(entry[0]) for entry in found if is_repeated(entry))
            for number, update in to_updates(found):
                if number <= floor:
                    continue
                if update is None:
                    self._found_damaged(number)
                    below = number
                    break
                newest.append((number, update))
                size += size_of(update)
            if len(found) < PAGE_COUNT:
                break
            before = to_number(found[-1][0]) - 1
        if below is None:
            below = newest[-1][0] - 1 if newest else last
        self._recent = self._new_recent(below)
        for number, update in reversed(newest):
            self._recent.add(number, update, time_of(number), repeated=number in repeated)
        self._recent.head = self._cursor = last
        self._head_id = newest[0][1].id if newest else None

    # Updates.

    async def _tell(self, session: Session, found: Sequence[Any]) -> None:
        """
        Tell the follower what the stream brought.
        """
        assert self._follower is not None
        for each in found:
            try:
                number, after, update = to_update(each, self._outbox.own)
            except ForeignEntry:
                # No update is missing: there was none.
                self._failures.error(
                    "{journal} holds an entry that no hub has published: {entry}",
                    journal=self,
                    entry=each[0].decode(),
                )
                self._cursor = to_number(each[0])
                continue
            except DamagedEntry:
                self._skip_damaged(to_number(each[0]))
                continue
            head = self._recent.head
            here = self._timeline.number_of(head)
            if after != here and not self._anew:
                # Somebody who publishes faster than this process reads; or another record.
                await self._find_place(session)
                if self._recent.head != head:
                    # To be read from there.
                    return
                self._skip_to(max(after, here))
            self._anew = False
            self._cursor = number
            position = self._timeline.position_of(number)
            self._head_id = update.id
            entry = self._recent.add(position, update, time_of(number), repeated=is_repeated(each))
            try:
                self._follower.update_appended(entry)
            except Exception:
                # The next one does not depend on it.
                self._failures.failure("{journal} cannot tell of {update}", journal=self, update=update)
        self._forget_given_up()
        self._outbox.tell()

    def _skip_damaged(self, number: int) -> None:
        """
        Have those who are live read from where they were, and learn there that something is missing.
        """
        self._found_damaged(number)
        self._begin_anew(self._timeline.position_of(number))
        # What follows names this entry, as usual.
        self._anew = False

    def _found_damaged(self, number: int) -> None:
        self._damage.found(number, f"entry {to_text(number)}")

    def _forget_given_up(self) -> None:
        # What is given up and was not told yet has to be told first.
        if self._floor <= self._timeline.number_of(self._recent.head):
            self._recent.forget(self._timeline.position_of(self._floor))

    def _flush_soon(self) -> None:
        if self._session is not None and self._flushing is None:
            # At the end of the turn: what is published in it goes in one call.
            self._flushing = self._reactor.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self.cluster.send_metadata()
        self._outbox.flush()

    def _record(self, updates: Sequence[Arguments], together: bool) -> Deferred[list[int]]:
        arguments = [argument for update in updates for argument in update]
        command = "append_many" if together else "append"
        return self._try(command, *self._bounds(), *arguments).addCallback(self._has_recorded)

    def _has_recorded(self, answer: tuple[bytes, list[bytes]]) -> list[int]:
        floor, numbers = answer
        self._floor = to_number(floor)
        self._forget_given_up()
        return [self._timeline.position_of(to_number(number)) for number in numbers]

    def _told_up_to(self) -> float:
        # Without a session, the follower is told when there is one again; publishers do not wait for that.
        return math.inf if self._session is None else self._recent.head

    # The script.

    async def _find(self, id: str) -> int | None:
        found = await self._try("find", self._oldest(), id)
        return None if found is None else self._timeline.position_of(to_number(found))

    async def _at(self, position: int) -> Update | None:
        entry = await self._try("at", self._oldest(), to_text(self._timeline.number_of(position)))
        for number, update in to_updates([] if entry is None else [entry]):
            if update is None:
                self._found_damaged(number)
            return update
        return None

    async def _read(self, after: int) -> Page:
        await self._reading.acquire()
        try:
            return await self._read_now(after)
        finally:
            self._reading.release()

    async def _read_now(self, after: int) -> Page:
        head = self._recent.head
        start, forked = self._timeline.resume(after) if after > OLDEST else (0, False)
        missed, damaged, more = forked, False, True
        entries: list[Entry] = []
        end = max(head, after)
        while more and not entries:
            gone, more, found = await self._try(
                "read",
                self._oldest(),
                to_text(start),
                to_text(self._timeline.number_of(head)),
                PAGE_BYTES,
                PAGE_COUNT,
            )
            missed = missed or bool(gone)
            for number, update in to_updates(found):
                if update is not None:
                    entries.append((self._timeline.position_of(number), update))
                    continue
                self._found_damaged(number)
                if entries:
                    # To be told in front of what follows it, by the page that begins here.
                    return Page(entries, entries[-1][0], damaged or (after > OLDEST and missed))
                damaged = True
            if more:
                start = to_number(found[-1][0])
                end = self._timeline.position_of(start)
            else:
                end = max(head, after)
        return Page(entries, end, damaged or (after > OLDEST and missed))

    def _try(self, *arguments: str | bytes | int) -> Deferred[Any]:
        if self._session is None:
            return fail(self._unreachable())
        return self._run(self._session, *arguments)

    def _try_again_later(self) -> None:
        if self._trying is None:
            self._trying = self._reactor.callLater(_TRIAL_INTERVAL, self._try_again)

    def _try_again(self) -> None:
        """
        Try what was refused: if nobody asks for it, this alone shows that it works again.
        """
        self._trying = None
        for refused in self._refusals.trials(int(self._now() * 1000)):
            self._try(*refused).addErrback(lambda _: None)
        if self._refusals:
            self._try_again_later()

    def _run(self, session: Session, *arguments: str | bytes | int) -> Deferred[Any]:
        ran = session.run(*arguments)
        return ran.addCallbacks(
            self._worked,
            self._failed,
            callbackArgs=(arguments,),
            errbackArgs=(session, arguments),
        )

    def _worked(self, result: Any, arguments: Sequence[str | bytes | int]) -> Any:
        if self._refusals and self._refusals.worked(arguments):
            self._note(self._refusals.problem)
        return result

    def _failed(self, failure: Failure, session: Session, arguments: Sequence[str | bytes | int]) -> Failure:
        error = failure.value
        if isinstance(error, JournalFailed) and session is self._session:
            self._note(error)
            if "READONLY" in error.problem or "NOSCRIPT" in error.problem:
                # Another one is the master now; or this one has forgotten what it was told.
                session.cut()
            elif isinstance(error, Refused):
                self._refusals.refused(arguments, error)
                self._try_again_later()
        return failure

    def _bounds(self) -> tuple[int, int, int, int]:
        return int(self._now() * 1000), self._oldest(), self._max_count, self._max_bytes

    def _oldest(self) -> int:
        """
        Return the time up to which everything is too old, in milliseconds.
        """
        return -1 if self._max_age == math.inf else int((self._now() - self._max_age) * 1000)

    # Time.

    def _tidy_later(self, seconds: float = _TIDY_INTERVAL) -> None:
        if self._staying is not None:
            self._tidying = self._reactor.callLater(seconds, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        self._tidy_now().addCallback(lambda more: self._tidy_later(0.0 if more else _TIDY_INTERVAL))

    def _tidy_now(self) -> Deferred[bool]:
        tidied = self._try("tidy", *self._bounds())
        return tidied.addCallbacks(bool, lambda _: False)

    # How it is.

    def _note(self, problem: JournalFailed | None) -> None:
        """
        Take note of how it is, and log where that has changed.
        """
        if problem is None and self.problem is not None:
            _log.info("{journal} works again", journal=self)
        elif problem is not None and self.problem is None:
            _log.error("{problem}", problem=str(problem))
        self.problem = problem

    def _unreachable(self) -> JournalFailed:
        problem = "not started"
        if isinstance(self.problem, JournalFailed):
            problem = self.problem.problem
        return JournalFailed(self._server.name, problem)

    def _new_recent(self, head: int) -> Window:
        return Window(
            max_count=self._recent_count,
            max_bytes=self._recent_bytes,
            max_age=self._max_age,
            head=head,
        )

    def _now(self) -> float:
        assert self._reactor is not None, "the journal has not been started"
        return float(self._reactor.seconds()) + self._ahead

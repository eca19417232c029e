"""
Snapshots: state that lives in the program, which a client is sent before the changes.

Strategy: the position of a subscriber is fixed, and the program is called in the same turn of the reactor.
The updates that are recorded afterwards are sent after the snapshot, so that none is lost. While the program
makes a part of a snapshot, it has one of a few slots, and its time is limited. While the client reads, it has
no slot, and the time stands still.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import isawaitable
from math import inf
from typing import TypeAlias

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._arguments import check_number, wrong_type
from txsse._futures import future_to_deferred
from txsse._serialize import to_text
from txsse.errors import InvalidField
from txsse.journal.position import ResumePoint
from txsse.journal.window import PAGE_BYTES
from txsse.protocol.encoder import encode_event
from txsse.protocol.event import ServerSentEvent
from txsse.server.pump import Item, close_items
from txsse.server.request import StreamRequest
from txsse.topics.topic_set import TopicSet

__all__ = [
    "DEFAULT_MAX_SNAPSHOTS",
    "DEFAULT_SNAPSHOT_TIMEOUT",
    "MakeSnapshot",
    "SnapshotRequest",
    "SnapshotRun",
    "SnapshotTimedOut",
    "Snapshots",
    "StreamSnapshot",
]

_log = Logger()

DEFAULT_MAX_SNAPSHOTS = 64
DEFAULT_SNAPSHOT_TIMEOUT = 30.0

# How long the program may make a snapshot's events before the reactor has its turn, in seconds.
_SLICE_SECONDS = 0.01


@dataclass(frozen=True)
class SnapshotRequest:
    """
    The subscriber that a snapshot is made for.

    :ivar topics: the topics that it wants.
    :ivar private: the topics whose private updates it may receive.
    :ivar key: whose stream it is, see :class:`~txsse.Access`; ``None`` for a stream without a key.
    :ivar context: the context that the access gave, or that the program has set on its channel.
    :ivar request: the data kept of its request.
    :ivar resume_id: an opaque ID for its position in the journal: the updates after it are sent after the
        snapshot.
    """

    topics: TopicSet
    private: TopicSet
    # Neither appears in logs: a key may be a session's secret.
    key: Hashable = field(repr=False)
    context: object = field(repr=False)
    request: StreamRequest
    resume_id: str


Events: TypeAlias = "Iterable[Item] | AsyncIterable[Item]"

MakeSnapshot: TypeAlias = "Callable[[SnapshotRequest], Events | Awaitable[Events] | Deferred[list[Item]]]"


class SnapshotTimedOut(Exception):
    """
    The program took too long to make a snapshot, or too many were made already.
    """


class Snapshots:
    """
    Makes the snapshots of a resource.

    :param make: the program's callable.
    :param get_reactor: returns the reactor.
    :param max_snapshots: how many snapshots are made at the same time.
    :param timeout: how long the program may take for one, in seconds, without the time that its client takes
        to read it; also how long a client waits for its turn.
    :raises TypeError: for arguments of another type.
    :raises ValueError: for a number that is not positive.
    """

    def __init__(
        self,
        make: MakeSnapshot,
        get_reactor: Callable[[], IReactorTime],
        *,
        max_snapshots: int = DEFAULT_MAX_SNAPSHOTS,
        timeout: float = DEFAULT_SNAPSHOT_TIMEOUT,
    ) -> None:
        if not callable(make):
            raise wrong_type("snapshot", make, "callable with a subscriber")
        check_number("max_snapshots", max_snapshots, "a whole number", whole=True)
        if max_snapshots < 1:
            raise ValueError(f"max_snapshots must be at least 1, not {max_snapshots}")
        check_number("snapshot_timeout", timeout, "a number of seconds")
        if not 0 < timeout < inf:
            raise ValueError(f"snapshot_timeout must be a positive number of seconds, not {timeout!r}")
        self.make = make
        self.timeout = timeout
        self.slots = DeferredSemaphore(max_snapshots)
        self._get_reactor = get_reactor

    async def begin(
        self, fix: Callable[[], ResumePoint], describe: Callable[[str], SnapshotRequest]
    ) -> SnapshotRun:
        """
        Call the program, as soon as a slot is free, and wait for the first part of the snapshot.

        :param fix: fixes the position of the subscriber.
        :param describe: returns the subscriber, for the program, with the resume ID of its position.
        :raises SnapshotTimedOut: if that takes too long; otherwise whatever the program raises.
        """
        reactor = self._get_reactor()
        await self.slots.acquire().addTimeout(self.timeout, reactor, _no_slot)
        try:
            point = fix()
            assert point.resume_id is not None
            run = SnapshotRun(self, self.make(describe(point.resume_id)), point, reactor)
            await run.fetch()
        finally:
            self.slots.release()
        return run


class SnapshotRun:
    """
    A snapshot that is being sent.

    :param snapshots: the snapshots of the resource.
    :param events: the program's events.
    :param point: where the stream continues after it.
    :param reactor: the reactor.
    :ivar point: the same point.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        events: Events | Awaitable[Events] | Deferred[list[Item]],
        point: ResumePoint,
        reactor: IReactorTime,
    ) -> None:
        self.point = point
        self._snapshots = snapshots
        self._reactor = reactor
        self._left = snapshots.timeout
        self._items = _iterate(events)
        self._fetched: list[bytes] = []
        self._has_ended = self._is_closed = False
        self._fetching: Deferred[None] | None = None

    async def next(self) -> list[bytes]:
        """
        Return the next frames; an empty list after the last.
        """
        if not self._fetched and not self._has_ended:
            self._fetching = self._snapshots.slots.run(lambda: Deferred.fromCoroutine(self.fetch()))
            try:
                await self._fetching
            finally:
                self._fetching = None
        frames, self._fetched = self._fetched, []
        return frames

    async def fetch(self) -> None:
        """
        Fetch the next events from the program. Its caller has a slot.
        """
        began = self._reactor.seconds()
        try:
            await _limit(Deferred.fromCoroutine(self._fetch()), self._left, self._reactor)
            self._left -= self._reactor.seconds() - began
            if self._left <= 0 and not self._has_ended:
                raise SnapshotTimedOut(_TOO_LONG)
        except BaseException:
            self.close()
            raise

    async def _fetch(self) -> None:
        try:
            await self._fetch_page()
        finally:
            if self._is_closed:
                # It could not be closed while it was running.
                await _close(self._items)

    async def _fetch_page(self) -> None:
        frames: list[bytes] = []
        size, over = 0, self._reactor.seconds() + _SLICE_SECONDS
        while size < PAGE_BYTES and not self._is_closed:
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                self._has_ended = True
                break
            frames.append(_encode(item))
            size += len(frames[-1])
            if self._reactor.seconds() >= over:
                break
        self._fetched = frames

    def cancel(self) -> None:
        """
        Stop the program's work at the next events: the client has left, and others wait for the slot.

        :meth:`next` then fails with a ``CancelledError``.
        """
        if self._fetching is not None:
            self._fetching.cancel()

    def close(self) -> None:
        """
        Close the program's iterator.

        Nothing waits until it has cleaned up: that may take as long as the program wants.
        """
        self._has_ended, self._is_closed, self._fetched = True, True, []
        closing = Deferred.fromCoroutine(_close(self._items))
        closing.addErrback(lambda failure: _log.failure("a snapshot could not be closed", failure))


class StreamSnapshot:
    """
    The snapshots of one stream: at its beginning, and after each gap.

    :param snapshots: the snapshots of the resource.
    :param run: the first one, if it has begun.
    """

    __slots__ = ("_beginning", "_run", "_sending", "_snapshots")

    def __init__(self, snapshots: Snapshots, run: SnapshotRun | None = None) -> None:
        self._snapshots = snapshots
        self._run = run
        self._sending: SnapshotRun | None = None
        self._beginning: Deferred[SnapshotRun] | None = None

    async def take(
        self, fix: Callable[[], ResumePoint], describe: Callable[[str], SnapshotRequest]
    ) -> SnapshotRun:
        """
        Return the snapshot that has begun, or begin another one.
        """
        run, self._run = self._run, None
        if run is None:
            self._beginning = Deferred.fromCoroutine(self._snapshots.begin(fix, describe))
            try:
                run = await self._beginning
            finally:
                self._beginning = None
        self._sending = run
        return run

    def close(self) -> None:
        """
        Close the snapshot that has begun, if any, and cancel what the program does for one that is sent.
        """
        run, self._run = self._run, None
        if run is not None:
            run.close()
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
        if self._beginning is not None:
            self._beginning.cancel()


async def _iterate(events: Events | Awaitable[Events] | Deferred[list[Item]]) -> AsyncGenerator[Item, None]:
    found: object = await future_to_deferred(events) if isawaitable(events) else events
    try:
        if isinstance(found, str | bytes | ServerSentEvent):
            yield found
        elif isinstance(found, AsyncIterable):
            async for item in found:
                yield item
        elif isinstance(found, Iterable) and not isinstance(found, Mapping):
            for item in found:
                yield item
        else:
            raise wrong_type("the result of snapshot", found, "an iterable of events, or an awaitable of one")
    finally:
        await close_items(found)


def _encode(item: object) -> bytes:
    event = item
    if isinstance(item, str | bytes):
        event = ServerSentEvent(to_text(item))
    if not isinstance(event, ServerSentEvent):
        raise wrong_type("an event of a snapshot", item, "str, bytes or ServerSentEvent")
    if event.id is not None:
        raise InvalidField("id", "an event of a snapshot has no id: no client can resume after it")
    return encode_event(event)


_TOO_LONG = "the program took longer than snapshot_timeout to make it"


def _limit(work: Deferred[None], seconds: float, reactor: IReactorTime) -> Deferred[None]:
    """
    Return a Deferred that fires when work is done, or fails after some seconds.

    The work is cancelled then, and may ignore that.
    """
    if work.called:
        return work
    limited: Deferred[None] = Deferred(lambda _: work.cancel())

    def has_ended(result: object) -> None:
        if timer.active():
            timer.cancel()
        if not limited.called:
            limited.callback(result)  # type: ignore[arg-type]
        elif isinstance(result, Failure) and not result.check(CancelledError):
            _log.failure("a snapshot that took too long has failed", result)

    def expire() -> None:
        # It may have been cancelled already, by a client that has disconnected.
        if not limited.called:
            limited.errback(SnapshotTimedOut(_TOO_LONG))
            work.cancel()

    timer = reactor.callLater(max(0.0, seconds), expire)
    work.addBoth(has_ended)
    return limited


async def _close(items: AsyncGenerator[Item, None]) -> None:
    # It may still be running, if the program has ignored the cancellation.
    with suppress(RuntimeError):
        await items.aclose()


def _no_slot(_: object, seconds: float) -> Failure:
    return Failure(SnapshotTimedOut(f"max_snapshots others were being made for {seconds:g} seconds"))

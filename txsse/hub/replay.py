"""
Replay: subscribers catch up from the journal, after they resumed or because they read slowly.

Strategy: updates that are published meanwhile are not queued. A subscriber that replays is sent no live
updates. It reads page after page, each when its client has taken the one before. When it has reached the
journal's head, it becomes live in the same step, so that no update is lost or sent twice in between. At most
one page per subscriber is held in memory. Subscribers that replay at the same time share pages, which are
read and framed once, and take turns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_json
from txsse._timeslice import TimeSlices
from txsse._waiters import SharedCall, Waiters
from txsse.errors import ChannelClosed, JournalFailed
from txsse.hub.metrics import Counters
from txsse.hub.page_cache import PageKey, SharedFrames, SharedPage, SharedPages
from txsse.hub.retained_pages import RetainedPages
from txsse.hub.state import State
from txsse.hub.subscriber import REPLAYING, Subscriber
from txsse.journal.interfaces import IJournal
from txsse.journal.page import Page
from txsse.journal.position import OLDEST, Progress, ResumePoint
from txsse.journal.update import EARLIEST
from txsse.protocol.encoder import encode_event, encode_id
from txsse.protocol.event import ServerSentEvent
from txsse.server.sinks.base import Framed

__all__ = ["RESET_TYPE", "Replay", "stream_reset"]

#: The type of the event that notifies a client of a gap.
RESET_TYPE = "stream-reset"

T = TypeVar("T")

_NOTHING = Framed(b"")

_log = Logger()

# How long to wait before a journal that failed is read again, in seconds.
_RETRY_JOURNAL = 1.0


class Replay:
    """
    Brings subscribers up to date from the journal.

    :param journal: the journal.
    :param reactor: the reactor.
    :param counters: the hub's counters.
    :param retained: the retained updates; ``None`` for a journal that retains none.
    :param max_retained_bytes: how many bytes of them one subscriber is sent; ``None`` for no limit.
    :ivar replaying: how many subscribers replay.
    :ivar turns: the time that all replays share in each turn of the reactor.
    :ivar state: sends the states.
    """

    def __init__(
        self,
        journal: IJournal,
        reactor: IReactorTime,
        counters: Counters,
        retained: RetainedPages | None = None,
        *,
        max_retained_bytes: int | None = None,
    ) -> None:
        self.replaying = 0
        self._journal = journal
        self._reactor = reactor
        self._counters = counters
        self._failures = RateLimitedLog(_log)
        self._paused: Waiters[None] | None = None
        self.turns = TimeSlices(reactor)
        self._shared: SharedPages[PageKey, SharedPage] = SharedPages(reactor)
        pages = retained or RetainedPages(None, reactor)
        self.state = State(journal, pages, self, counters, max_bytes=max_retained_bytes)
        # The reads that are under way.
        self._reading: dict[PageKey, SharedCall[SharedPage]] = {}

    def move_to_replay(self, subscriber: Subscriber, position: int) -> None:
        """
        Move a slow reader to replay: the hub stops buffering for it, and it catches up from the journal.

        :param position: the position up to which it was sent its updates.
        """
        self._counters.slow_replays += 1
        self.begin(subscriber, ResumePoint(position))

    def move_all_to_replay(self, subscribers: Iterable[tuple[Subscriber, int]]) -> None:
        """
        Move many subscribers to replay, in slices.

        :param subscribers: each with the position up to which it was sent its updates.
        """
        moved = list(subscribers)
        for subscriber, position in moved:
            # From this moment on, none of them is sent live updates.
            subscriber.since = REPLAYING
            subscriber.reached = Progress(ResumePoint(position))
        Deferred.fromCoroutine(self._move_by_turns(moved))

    async def _move_by_turns(self, moved: Iterable[tuple[Subscriber, int]]) -> None:
        for subscriber, position in moved:
            if self.turns.is_over:
                await self.turns.wait()
            if subscriber.is_subscribed:
                self.move_to_replay(subscriber, position)

    def forget_pages(self) -> None:
        """
        Drop all cached pages: the journal's record has changed.
        """
        self._shared.clear()

    def begin(self, subscriber: Subscriber, point: ResumePoint) -> None:
        """
        Have a subscriber replay from a resume point.
        """
        reached = Progress(point)
        self._spawn(subscriber, reached, self._catch_up(subscriber, reached, point))

    def begin_where(
        self, subscriber: Subscriber, reached: Progress, locate: Callable[[], Awaitable[ResumePoint]]
    ) -> None:
        """
        Have a subscriber replay from a resume point that has to be found first.

        :param reached: how far the subscriber's channel has come.
        :param locate: finds the resume point, and sets it in ``reached``.
        """
        self._spawn(subscriber, reached, self._find_and_catch_up(subscriber, reached, locate))

    def _spawn(
        self, subscriber: Subscriber, reached: Progress, work: Coroutine[Deferred[object], object, None]
    ) -> None:
        subscriber.since = REPLAYING
        subscriber.reached = reached
        self.replaying += 1
        catching_up = Deferred.fromCoroutine(work)
        catching_up.addErrback(self._failed, subscriber)
        catching_up.addBoth(self._done)

    async def _find_and_catch_up(
        self, subscriber: Subscriber, reached: Progress, locate: Callable[[], Awaitable[ResumePoint]]
    ) -> None:
        point = await self.persist(subscriber, locate)
        if point is not None:
            await self._catch_up(subscriber, reached, point)

    async def _catch_up(self, subscriber: Subscriber, reached: Progress, point: ResumePoint) -> None:
        while subscriber.is_subscribed:
            await subscriber.channel.drain()
            if point.with_state and point.missed:
                if self._send_reset(subscriber):
                    reached.place = point = replace(point, missed=False)
                continue
            if point.with_state:
                stated = await self.state.send(subscriber, point)
                if stated is None:
                    return
                reached.place = point = stated
                continue
            shared = await self.persist(subscriber, partial(self._read, point.position))
            if shared is None:
                return
            subscriber.forget_earlier(point.position)
            page = shared.page
            has_gap = point.missed or page.missed
            if has_gap and self.state.is_needed(subscriber, page.begin):
                if self._send_reset(subscriber):
                    resume_id = self._journal.resume_id(page.begin)
                    reached.place = point = ResumePoint(page.begin, resume_id=resume_id, with_state=True)
                continue
            is_complete = point.position >= point.complete_from
            end = page.end if is_complete else min(page.end, point.complete_from)
            framed, count = await self.frame(subscriber, shared if is_complete else shared.without_ids(end))
            if not subscriber.is_subscribed:
                return
            # From here on, this code does not wait. Only sending may have side effects: it may unsubscribe
            # the channel.
            before, reached.place = reached.place, (following := self._after(point, end))
            # A gap before the first page and one at its beginning are reported as one.
            first = stream_reset(self._journal.resume_id(page.begin)) if has_gap else _first_frame(point)
            if not self._send(subscriber, first, framed, count):
                reached.place = before
                continue
            self._counters.replayed += count
            self._counters.gaps += has_gap
            point = following
            if point.position >= self._journal.head and point.resume_id is None:
                subscriber.since = point.position
                subscriber.reached = None
                subscriber.earlier = ()
                return

    def _after(self, point: ResumePoint, end: int) -> ResumePoint:
        """
        Return the point after a page.

        :param point: the point before it.
        :param end: the position up to which the page is sent.
        """
        if end < point.complete_from:
            return ResumePoint(end, complete_from=point.complete_from)
        if point.position < point.complete_from:
            return ResumePoint(end, resume_id=self._journal.resume_id(end))
        return ResumePoint(end)

    async def frame(self, subscriber: Subscriber, shared: SharedFrames) -> tuple[Framed, int]:
        """
        Return the frames of a page that a subscriber may receive, and their number.
        """
        while True:
            topics, private = subscriber.topics, subscriber.private
            framed = await self.turns.finish(shared.frames_for(subscriber))
            if self.turns.is_over:
                await self.turns.wait()
            # The subscriber's topics may have changed meanwhile.
            if subscriber.topics is topics and subscriber.private is private:
                return framed

    def _read(self, position: int) -> Deferred[SharedPage]:
        """
        Read a page, once for all subscribers that need it at about the same time.
        """
        # Each publication may drop the oldest update. A client that has missed updates may have received
        # those of an older page.
        key = position, (self._journal.head if position == OLDEST else None)
        known = self._shared.find(key)
        if known is not None:
            return succeed(known)
        reading = self._reading.get(key)
        if reading is None:
            self._reading[key] = reading = SharedCall()
        return reading.join(partial(self._read_now, position, key))

    async def _read_now(self, position: int, key: PageKey) -> SharedPage:
        try:
            page = await self._journal.read(position)
        finally:
            del self._reading[key]
        return self._share(page, position, key)

    def _share(self, page: Page, position: int, key: PageKey) -> SharedPage:
        shared = SharedPage(page)
        # Do not keep a page without progress, which a subscriber would read again and again, nor one at the
        # head, which may grow.
        if position < page.end < self._journal.head and not page.missed:
            self._shared.add(key, shared)
        return shared

    def _send_reset(self, subscriber: Subscriber) -> bool:
        """
        Notify a client of a gap, before it gets its state; return whether the event was sent.

        It has no ID: a client that is cut off before its state is complete is notified again.
        """
        if not self._send(subscriber, stream_reset(None), _NOTHING, 0):
            return False
        self._counters.gaps += 1
        return True

    def _send(self, subscriber: Subscriber, first: bytes, framed: Framed, count: int) -> bool:
        """
        Send a subscriber the updates of a page that it may receive.

        :param first: a frame to send before them, or ``b""``.
        :param framed: the frames of these updates.
        :param count: how many they are.
        :returns: whether they were sent. If not, the client is a slow reader again, and the page has to wait.
        """
        if first:
            framed = Framed(first + framed.data)
        if framed.data and not subscriber.channel.offer(framed):
            return False
        self._counters.delivered += count
        self._counters.bytes += framed.size
        return True

    def next_turn(self) -> Deferred[None] | None:
        """
        Return a Deferred for the next turn of the reactor, if the time for this one is over.
        """
        return self.turns.wait() if self.turns.is_over else None

    async def persist(self, subscriber: Subscriber, ask: Callable[[], Awaitable[T]]) -> T | None:
        """
        Call the journal until it answers: while its server is unavailable, streams stay open.

        :returns: the answer; ``None`` if the subscriber has unsubscribed meanwhile.
        """
        while subscriber.is_subscribed:
            try:
                answer = await ask()
            except JournalFailed:
                # The journal has logged it.
                pass
            except Exception:
                if self._paused is None:
                    self._failures.failure("the journal cannot be read; the hub retries every second")
            else:
                return answer if subscriber.is_subscribed else None
            await self._pause()
            # Many subscribers wait, and all continue in the same turn.
            if self.turns.is_over:
                await self.turns.wait()
        return None

    def _pause(self) -> Deferred[None]:
        """
        Wait until the journal is tried again, with one timer for all.
        """
        if self._paused is None:
            self._paused = Waiters()
            self._reactor.callLater(_RETRY_JOURNAL, self._try_again, self._paused)
        return self._paused.wait()

    def _try_again(self, paused: Waiters[None]) -> None:
        self._paused = None
        paused.fire(None)

    def _failed(self, failure: Failure, subscriber: Subscriber) -> None:
        if not failure.check(ChannelClosed):
            self.drop(subscriber, failure)

    def drop(self, subscriber: Subscriber, failure: Failure) -> None:
        """
        Abort the channel of a subscriber after an unexpected error, which must not affect the others.
        """
        self._counters.failures += 1
        self._failures.failure("{subscriber} is dropped", failure, subscriber=subscriber)
        try:
            subscriber.channel.abort()
        except Exception:
            self._failures.failure("the channel of {subscriber} cannot be aborted", subscriber=subscriber)
            subscriber.unsubscribe()

    def _done(self, _: object) -> None:
        self.replaying -= 1
        if not self.replaying:
            self.forget_pages()


def _first_frame(point: ResumePoint) -> bytes:
    """
    Return the frame that is sent before the updates after a point: its ID, unless updates have none yet.
    """
    if point.resume_id is None or point.position < point.complete_from:
        return b""
    return encode_id(point.resume_id)


def stream_reset(id: str | None) -> bytes:
    """
    Encode the event that notifies a client of a gap.

    The updates that follow begin with the oldest one that the journal still holds.

    :param id: the ID that the client resumes from if it receives nothing after this event. With its former
        ID, it would be notified of the same gap again. ``None`` for no ID.
    """
    data = to_json({"replayed_from": EARLIEST})
    return encode_event(ServerSentEvent(data, event=RESET_TYPE, id=id))

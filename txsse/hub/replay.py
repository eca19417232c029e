"""
Subscribers that are behind, on their way through the journal.

Strategy: there is no queue for what comes live meanwhile. A subscriber that is behind is sent nothing live;
it reads page after page, each when its client has taken the one before, until it has reached the journal's
head, and is live from that very moment on. Since reaching the head and becoming live are one step, nothing is
lost between them, nothing comes twice, and a page is all that is ever held. Those who come back at once
read the same pages, which are read and framed once, and take turns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
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
from txsse.hub.page_cache import SharedPage, SharedPages
from txsse.hub.subscriber import REPLAYING, Subscriber
from txsse.journal.interfaces import IJournal
from txsse.journal.page import Page
from txsse.journal.position import Progress, ResumePoint
from txsse.journal.update import EARLIEST
from txsse.protocol.encoder import encode_event, encode_id
from txsse.protocol.event import ServerSentEvent
from txsse.server.sinks.base import Framed

__all__ = ["RESET_TYPE", "Replay", "stream_reset"]

#: The type of the event that tells a client that it missed something.
RESET_TYPE = "stream-reset"

T = TypeVar("T")

_log = Logger()

# How long to wait before a journal that failed is read again, in seconds.
_RETRY_JOURNAL = 1.0


class Replay:
    """
    Brings subscribers up to date.

    :param journal: what they read.
    :param reactor: the reactor.
    :param counters: where is counted.
    :ivar replaying: how many subscribers are on their way.
    :ivar turns: how much time is left in this turn of the reactor.
    """

    def __init__(self, journal: IJournal, reactor: IReactorTime, counters: Counters) -> None:
        self.replaying = 0
        self._journal = journal
        self._reactor = reactor
        self._counters = counters
        self._failures = RateLimitedLog(_log)
        self._paused: Waiters[None] | None = None
        self.turns = TimeSlices(reactor)
        self._shared = SharedPages(reactor)
        # What is being read, by the position behind which it is.
        self._reading: dict[int, SharedCall[SharedPage]] = {}

    def move_to_replay(self, subscriber: Subscriber, position: int) -> None:
        """
        Leave a subscriber whose client is behind to the journal.

        :param position: the position up to which it was sent everything.
        """
        self._counters.slow_replays += 1
        self.begin(subscriber, ResumePoint(position))

    def move_all_to_replay(self, subscribers: Iterable[tuple[Subscriber, int]]) -> None:
        """
        Leave many to the journal, by turns.

        :param subscribers: each with the position up to which it was sent everything.
        """
        leaving = list(subscribers)
        for subscriber, position in leaving:
            # Nothing live from this very moment on.
            subscriber.since = REPLAYING
            subscriber.reached = Progress(ResumePoint(position))
        Deferred.fromCoroutine(self._move_by_turns(leaving))

    async def _move_by_turns(self, leaving: Iterable[tuple[Subscriber, int]]) -> None:
        for subscriber, position in leaving:
            if self.turns.is_over:
                await self.turns.wait()
            if subscriber.is_subscribed:
                self.move_to_replay(subscriber, position)

    def forget_pages(self) -> None:
        """
        Read all anew: the record is another one.
        """
        self._shared.clear()

    def begin(self, subscriber: Subscriber, place: ResumePoint) -> None:
        """
        Have a subscriber read on from a place.
        """
        reached = Progress(place)
        self._spawn(subscriber, reached, self._catch_up(subscriber, reached, place))

    def begin_where(
        self, subscriber: Subscriber, reached: Progress, locate: Callable[[], Awaitable[ResumePoint]]
    ) -> None:
        """
        Have a subscriber read on from a place that has to be found first.

        :param reached: how far its channel has come.
        :param locate: finds the place, and notes it there.
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
        place = await self._persist(subscriber, locate)
        if place is not None:
            await self._catch_up(subscriber, reached, place)

    async def _catch_up(self, subscriber: Subscriber, reached: Progress, place: ResumePoint) -> None:
        position, missed = place.position, place.missed
        first = b"" if place.resume_id is None else encode_id(place.resume_id)
        while subscriber.is_subscribed:
            await subscriber.channel.drain()
            shared = await self._persist(subscriber, partial(self._read, position))
            if shared is None:
                return
            allowed = await self.turns.finish(shared.allowed_for(subscriber))
            if self.turns.is_over:
                await self.turns.wait()
            if not subscriber.is_subscribed:
                return
            # From here to the end of the step nothing else happens, but that it may unsubscribe meanwhile.
            before, reached.place = reached.place, ResumePoint(shared.page.end)
            # What is missing before the first page, and what is missing at its beginning, is one gap.
            if not self._send(subscriber, first, shared, allowed, missed or shared.page.missed):
                reached.place = before
                continue
            first, missed = b"", False
            position = shared.page.end
            if position >= self._journal.head:
                subscriber.since = position
                subscriber.reached = None
                return

    def _read(self, position: int) -> Deferred[SharedPage]:
        """
        Read a page, once for all who want the same at about the same time.
        """
        known = self._shared.find(position)
        if known is not None:
            return succeed(known)
        reading = self._reading.get(position)
        if reading is None:
            self._reading[position] = reading = SharedCall()
        return reading.join(partial(self._read_now, position))

    async def _read_now(self, position: int) -> SharedPage:
        try:
            page = await self._journal.read(position)
        finally:
            del self._reading[position]
        return self._share(page, position)

    def _share(self, page: Page, position: int) -> SharedPage:
        shared = SharedPage(page)
        # One that is as old as its question may be empty, and whoever reads it again gets no further.
        if position < page.end < self._journal.head and not page.missed:
            self._shared.add(position, shared)
        return shared

    def _send(
        self,
        subscriber: Subscriber,
        first: bytes,
        shared: SharedPage,
        allowed: tuple[bool, ...],
        missed: bool,
    ) -> bool:
        """
        Send what a subscriber may have of a page.

        :param first: what is sent before.
        :param allowed: the kinds of updates that it may have.
        :param missed: whether the client is notified, instead, that it missed something.
        :returns: whether it was taken; where not, the client is behind again and the page has to wait.
        """
        framed, count = shared.frames_of(allowed)
        if missed:
            first = stream_reset(self._journal.resume_id(shared.page.begin))
        if first:
            framed = Framed(first + framed.data)
        if framed.data and not subscriber.channel.offer(framed):
            return False
        self._counters.delivered += count
        self._counters.replayed += count
        self._counters.bytes += framed.size
        self._counters.gaps += missed
        return True

    async def _persist(self, subscriber: Subscriber, ask: Callable[[], Awaitable[T]]) -> T | None:
        """
        Ask the journal until it answers: a journal that has lost its server costs nobody the stream.

        :returns: the answer; ``None`` where the subscriber has gone meanwhile.
        """
        while subscriber.is_subscribed:
            try:
                answer = await ask()
            except JournalFailed:
                # It says so itself.
                pass
            except Exception:
                if self._paused is None:
                    self._failures.failure("the journal cannot be read; it is tried again")
            else:
                return answer if subscriber.is_subscribed else None
            await self._pause()
            # Those who wait are many, and go on in the same turn.
            if self.turns.is_over:
                await self.turns.wait()
        return None

    def _pause(self) -> Deferred[None]:
        """
        Wait for the time to try again, all together.
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
        Give a subscriber up, for an error that nobody expected. The others do not depend on it.
        """
        self._counters.failures += 1
        self._failures.failure("{subscriber} is dropped", failure, subscriber=subscriber)
        try:
            subscriber.channel.abort()
        except Exception:
            self._failures.failure("{subscriber} cannot be cut off", subscriber=subscriber)
            subscriber.unsubscribe()

    def _done(self, _: object) -> None:
        self.replaying -= 1
        if not self.replaying:
            self.forget_pages()


def stream_reset(id: str) -> bytes:
    """
    Encode the event that tells a client that it missed something: what follows begins with the oldest update
    that the journal still holds.

    :param id: what the client resumes from if it gets nothing after this: with the one that it had, it would
        be told again of what is missing.
    """
    told = to_json({"replayed_from": EARLIEST})
    return encode_event(ServerSentEvent(told, event=RESET_TYPE, id=id))

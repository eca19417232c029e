"""
Fan-out: send each update to its many subscribers.

Strategy: updates that are published within one turn of the reactor are fanned out together at its end. Each
subscriber receives its part in one write. An update is encoded once, and a batch is framed once for all
subscribers that receive the same updates. A fan-out runs in slices, also while it matches patterns with its
topics; the reactor gets its turn between them. Updates that are published meanwhile wait for the next
fan-out, so that all subscribers receive them in the same order. Subscribers that join or leave during a
fan-out are distinguished by their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._waiters import Waiters
from txsse.errors import ChannelClosed
from txsse.hub.metrics import Counters
from txsse.hub.replay import Replay
from txsse.hub.subscriber import REPLAYING, Subscriber
from txsse.hub.topic_index import TopicIndex
from txsse.hub.withdrawal import Held
from txsse.journal.update import EphemeralUpdate, Update
from txsse.server.sinks.base import Framed

__all__ = ["Fanout"]

_log = Logger()

_Item = tuple[int, Update | EphemeralUpdate]

# The positions of ephemeral events: after every recorded update, and before :data:`REPLAYING`, so that
# subscribers that replay are not sent them.
_UNRECORDED = REPLAYING - 2**64

# How long a slice may take, in seconds, and after how many subscribers it looks at the clock.
_SLICE_SECONDS = 0.01
_LOOK = 64

# The most bytes in one write to a subscriber, unless a single update is larger. The transport buffers what
# the client does not read.
_MAX_BATCH = 65536

# How many bytes of updates and topics may wait for their fan-out. Beyond that, publishing sends them on the
# spot, without slices: a loop that publishes without end must not exhaust the memory.
_MAX_PENDING = 1024 * 1024


class Fanout:
    """
    Sends updates to live subscribers.

    :param reactor: the reactor.
    :param index: the subscribers by the topics that they want.
    :param private: the subscribers by the topics whose private updates they may receive.
    :param replay: takes over subscribers whose clients are slow readers.
    :param counters: the hub's counters.
    :ivar sent_up_to: the position up to which all live subscribers have been sent their updates, once the
        fan-out that is under way is complete.
    :ivar busy: whether a step of a fan-out is running at this moment.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        index: TopicIndex[Subscriber],
        private: TopicIndex[Subscriber],
        replay: Replay,
        counters: Counters,
    ) -> None:
        self._reactor = reactor
        self._index = index
        self._private = private
        self._replay = replay
        self._counters = counters
        self._pending: list[_Item] = []
        self._ephemeral = 0
        self._pending_size = 0
        # The size of each pending item, computed once.
        self._sizes: list[int] = []
        # How many items were taken from ``_pending`` so far; and the calls that are due when that number is
        # reached.
        self._taken = 0
        self._barriers: list[tuple[int, Callable[[], None]]] = []
        self._room: Waiters[None] = Waiters()
        self.sent_up_to = 0
        self._sent_before = 0
        self._work: Iterator[None] | None = None
        # The subscribers whose topics have changed since the audience of the batch was determined.
        self._changed: set[Subscriber] = set()
        self._seconds = 0.0
        self._call: IDelayedCall | None = None
        self.busy = False

    def add(self, entry: _Item) -> None:
        """
        Send an update at the end of the turn, after all that were added before.
        """
        update = entry[1]
        topics = update.topics
        # The same as _size_of(update), inline: it saves a call for each publication.
        size = len(update.frame) + (len(topics[0]) if len(topics) == 1 else sum(map(len, topics)))
        self._pending.append(entry)
        self._sizes.append(size)
        self._pending_size += size
        # Sending may cause further updates to be published; the loop that is running sends them too.
        if self.busy:
            return
        if self._pending_size > _MAX_PENDING and len(self._pending) > 1:
            self.flush()
        elif self._call is None:
            self._call = self._reactor.callLater(0, self._slice)

    async def wait_for_room(self, update: Update) -> None:
        """
        Wait until an update can be added without exceeding the limit of pending bytes.

        A publisher that waits is slowed down to the rate at which patterns are matched, and the reactor is
        never blocked by a fan-out of all pending updates at once.
        """
        size = _size_of(update)
        while self._pending and self._pending_size + size > _MAX_PENDING:
            await self._room.wait()

    def _make_room(self) -> None:
        self._room.fire(None, unless=lambda: self._pending_size >= _MAX_PENDING)

    def add_ephemeral(self, update: EphemeralUpdate) -> None:
        """
        Send an event that the journal does not record to the live subscribers, at the end of the turn.
        """
        self._ephemeral += 1
        self.add((_UNRECORDED + self._ephemeral, update))

    def when_sent(self, call: Callable[[], None]) -> None:
        """
        Call a function when all updates added so far have been sent, and before any that is added later.
        """
        if self.busy or self._pending or self._work is not None:
            self._barriers.append((self._taken + len(self._pending), call))
        else:
            call()

    def flush(self) -> None:
        """
        Send all pending updates now, without slices.
        """
        if self.busy:
            return
        self.busy = True
        while self._step():
            pass
        self.busy = False
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._make_room()

    def position_of(self, subscriber: Subscriber) -> int:
        """
        Return the position up to which a live subscriber has been sent all of its updates.

        Updates that its channel holds back count as sent. The position is correct in the middle of a fan-out,
        too.
        """
        if subscriber.since >= self.sent_up_to:
            return subscriber.since
        return max(subscriber.since, self._sent_before)

    @property
    def is_sending(self) -> bool:
        """
        Whether a batch is being sent, whose audience may be determined already.
        """
        return self._work is not None

    def leave_out(self, subscriber: Subscriber) -> None:
        """
        Send a subscriber no more of the batch that is being sent: its topics have changed.

        It may have caught up from the journal before the batch is complete, and would then be sent ephemeral
        events of its former topics.
        """
        if self._work is not None:
            self._changed.add(subscriber)

    def _slice(self) -> None:
        self._call = None
        self.busy = True
        over = self._reactor.seconds() + _SLICE_SECONDS
        while self._step():
            if self._reactor.seconds() >= over:
                self._call = self._reactor.callLater(0, self._slice)
                break
        self.busy = False
        self._make_room()

    def _step(self) -> bool:
        """
        Do a little work.

        :returns: whether there was something to do.
        """
        if self._work is None:
            if self._barriers and self._barriers[0][0] == self._taken:
                _, call = self._barriers.pop(0)
                try:
                    call()
                except Exception:
                    # This failure must not stop the next fan-outs.
                    _log.failure("a call between two fan-outs failed")
                return True
            if not self._pending:
                return False
            self._work = self._fan_out(self._next_batch())
        began = self._reactor.seconds()
        try:
            over = next(self._work, _OVER) is _OVER
        except Exception:
            # The failure of one batch must not stop the next.
            _log.failure("a fan-out failed")
            over = True
        self._seconds += self._reactor.seconds() - began
        if over:
            self._work = None
            self._changed.clear()
            self._sent_before = self.sent_up_to
            self._counters.fanout_took(self._seconds)
            self._seconds = 0.0
        return True

    def _next_batch(self) -> list[_Item]:
        """
        Take the pending updates that are sent together.
        """
        size = count = 0
        most = self._barriers[0][0] - self._taken if self._barriers else len(self._pending)
        recorded = self._pending[0][0] < _UNRECORDED
        for position, update in self._pending:
            if count == most or (count and size + len(update.frame) > _MAX_BATCH):
                break
            if (position < _UNRECORDED) is not recorded:
                break
            size += len(update.frame)
            count += 1
        batch = self._pending[:count]
        del self._pending[:count]
        self._taken += count
        self._pending_size -= sum(self._sizes[:count])
        del self._sizes[:count]
        return batch

    def _fan_out(self, entries: list[_Item]) -> Iterator[None]:
        self._sent_before = before = self.sent_up_to
        if entries[-1][0] < _UNRECORDED:
            self.sent_up_to = entries[-1][0]
        up_to = self.sent_up_to
        kinds: dict[tuple[tuple[str, ...], bool], list[_Item]] = {}
        for entry in entries:
            kinds.setdefault((entry[1].topics, entry[1].private), []).append(entry)
        if len(kinds) == 1:
            audience = yield from self._audience(entries[0][1])
            if audience:
                yield from self._send(_Batch(entries, before, up_to), audience)
            return
        # There are several audiences: find the kinds of updates that each subscriber receives, then group the
        # subscribers that receive the same kinds.
        wanted: dict[Subscriber, list[int]] = {}
        for number, (_, update) in enumerate(some[0] for some in kinds.values()):
            audience = yield from self._audience(update)
            for count, subscriber in enumerate(audience):
                wanted.setdefault(subscriber, []).append(number)
                if not count % _LOOK:
                    yield
        groups: dict[tuple[int, ...], list[Subscriber]] = {}
        for count, (subscriber, numbers) in enumerate(wanted.items()):
            groups.setdefault(tuple(numbers), []).append(subscriber)
            if not count % _LOOK:
                yield
        of_kind = list(kinds.values())
        for key, group in groups.items():
            own = [entry for number in key for entry in of_kind[number]]
            if len(key) > 1:
                own.sort(key=_position)
            yield from self._send(_Batch(own, before, up_to), group)

    def _audience(self, update: Update | EphemeralUpdate) -> Generator[None, None, list[Subscriber]]:
        audience = yield from self._index.find_audience(update.topics)
        if update.private and audience:
            allowed = set((yield from self._private.find_audience(update.topics)))
            return [subscriber for subscriber in audience if subscriber in allowed]
        return audience

    def _send(self, batch: _Batch, audience: list[Subscriber]) -> Iterator[None]:
        for start in range(0, len(audience), _LOOK):
            some = audience[start : start + _LOOK]
            if self._changed:
                some = [subscriber for subscriber in some if subscriber not in self._changed]
            self._send_some(batch, some)
            yield

    def _send_some(self, batch: _Batch, subscribers: list[Subscriber]) -> None:
        # The hub spends most of its time in this loop: at 100,000 deliveries a second, a microsecond here is
        # a tenth of a processor.
        first = batch.first
        up_to = batch.up_to
        framed = batch.framed
        # Count the subscribers that were not sent the batch: they are few.
        left_out = 0
        for subscriber in subscribers:
            try:
                since = subscriber.since
                if since < first:
                    # Set it first: sending may call code that subscribes the channel to other topics.
                    if since < up_to:
                        subscriber.since = up_to
                    if not subscriber.sink.offer(framed):
                        self._apply_policy(batch, subscriber, since)
                        left_out += 1
                else:
                    if since < batch.last:
                        self._send_rest(batch, subscriber)
                    left_out += 1
            except Exception:
                self._replay.drop(subscriber, Failure())
                left_out += 1
        sent = len(subscribers) - left_out
        self._counters.delivered += sent * len(batch.entries)
        self._counters.bytes += sent * len(framed.data)

    def _send_rest(self, batch: _Batch, subscriber: Subscriber) -> None:
        """
        Send a subscriber that joined in the middle of a batch the updates that were published after that.
        """
        entries = [entry for entry in batch.entries if entry[0] > subscriber.since]
        self._send_some(_Batch(entries, subscriber.since, batch.up_to), [subscriber])

    def _apply_policy(self, batch: _Batch, subscriber: Subscriber, since: int) -> None:
        """
        Apply the overflow policy of a slow reader to a batch that its sink did not take.

        :param since: the position up to which the subscriber was sent its updates when this batch began.
        """
        channel = subscriber.channel
        if not channel.is_open:
            return
        if subscriber.replays_when_slow:
            self._replay.move_to_replay(subscriber, max(since, batch.before))
            return
        before = max(since, batch.before)
        try:
            for position, update in batch.entries:
                # An event that is not recorded has no position to resume from.
                recorded = position < _UNRECORDED
                held = Held(before if recorded else None, update)
                channel.send_frame(update.frame, update.subject, held)
                if recorded:
                    before = position
        except ChannelClosed:
            # The channel's policy closed it, and has logged that.
            return
        self._counters.delivered += len(batch.entries)
        self._counters.bytes += len(batch.framed.data)


_OVER = object()


def _size_of(update: Update | EphemeralUpdate) -> int:
    # Topics are not sent to clients, but may be most of an update. Most updates have one.
    topics = update.topics
    return len(update.frame) + (len(topics[0]) if len(topics) == 1 else sum(map(len, topics)))


def _position(entry: _Item) -> int:
    return entry[0]


class _Batch:
    """
    Updates that are sent together.

    :param entries: the updates, in order; at least one.
    :param before: the position up to which subscribers have been sent their updates before this batch.
    :param up_to: the position up to which a subscriber that was sent this batch has been sent its updates.
    """

    def __init__(self, entries: list[_Item], before: int, up_to: int) -> None:
        self.entries = entries
        self.before = before
        self.up_to = up_to
        self.first = entries[0][0]
        self.last = entries[-1][0]
        self.framed = Framed(b"".join([update.frame for _, update in entries]))

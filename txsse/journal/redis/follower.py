"""
Reads new entries of the stream, passes their updates to the hub, and keeps the newest in memory.

Strategy: all updates are given in the order of the stream, including those that this process appended, so
that the order is the same at every node. Each entry names the entry before it. If this is not the previous
entry that was read, either the stream was trimmed faster than this process read; or the record was set back,
for example by a failover that lost updates. In the latter case a new epoch begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from txsse._rate_limited_log import RateLimitedLog
from txsse.journal.base import MAX_BATCH_COUNT
from txsse.journal.damage import Damage
from txsse.journal.interfaces import IFollower
from txsse.journal.redis.cluster import RedisCluster
from txsse.journal.redis.codec import (
    DamagedEntry,
    ForeignEntry,
    is_repeated,
    is_unfinished,
    time_of,
    to_update,
    to_updates,
)
from txsse.journal.redis.outbox import Outbox
from txsse.journal.redis.replies import StreamEntry
from txsse.journal.redis.retained import RedisRetained
from txsse.journal.redis.session import Session
from txsse.journal.redis.stream_ids import Epochs, to_number, to_text
from txsse.journal.update import Update
from txsse.journal.window import PAGE_COUNT, Window, size_of

__all__ = ["StreamFollower"]

_log = Logger()

# How many entries one command reads at most.
_FOLLOW_COUNT = 256


class StreamFollower:
    """
    Follows the stream of a journal.

    :param journal: the journal, for the log.
    :param new_window: makes an empty window that begins after a position.
    :param outbox: the updates that this process has appended.
    :param retained: the retained updates, which agree with what the follower was given.
    :ivar recent: the window of the newest updates.
    :ivar epochs: converts between positions and numbers of entries.
    :ivar damage: the damaged entries.
    """

    def __init__(
        self,
        journal: object,
        new_window: Callable[[int], Window],
        outbox: Outbox,
        retained: RedisRetained,
    ) -> None:
        self.epochs = Epochs()
        self.recent = new_window(0)
        self.damage = Damage(journal)
        self.follower: IFollower | None = None
        self._journal = journal
        self._new_window = new_window
        self._outbox = outbox
        self._retained = retained
        self._failures = RateLimitedLog(_log)
        self._head_id: str | None = None
        # The entry up to which the stream has been read.
        self._cursor = 0
        # Whether to accept the next entry without comparing the entry that it names as the previous one.
        self._anew = False
        # The entry up to which the journal has dropped all entries, as far as this process knows.
        self._floor = 0

    async def load(self, session: Session, count: int, size: int) -> None:
        """
        Fill the window with the newest updates.

        The window begins after the newest damaged entry, so that a reader which begins before that entry
        reads from the stream, and is notified of the gap.

        :param count: the maximum number of updates.
        :param size: their maximum size in memory, in bytes.
        """
        last, floor, _ = await session.look(0)
        self.epochs = Epochs()
        newest: list[tuple[int, Update]] = []
        repeated: set[int] = set()
        taken, before, below = 0, last, None
        while below is None and len(newest) < count and taken < size:
            found = await session.entries_before(before, PAGE_COUNT)
            repeated.update(to_number(entry[0]) for entry in found if is_repeated(entry))
            for number, update in to_updates(found):
                if number <= floor:
                    continue
                if update is None:
                    self.found_damaged(number)
                    below = number
                    break
                newest.append((number, update))
                taken += size_of(update)
            if len(found) < PAGE_COUNT:
                break
            before = to_number(found[-1][0]) - 1
        if below is None:
            below = newest[-1][0] - 1 if newest else last
        self.recent = self._new_window(below)
        for number, update in reversed(newest):
            self.recent.add(number, update, time_of(number), repeated=number in repeated)
        self.recent.head = self._cursor = last
        self._head_id = newest[0][1].id if newest else None

    async def follow(self, session: Session, cluster: RedisCluster) -> None:
        """
        Follow the stream, and read the inbox of this node, until the session is lost.
        """
        # The beginning of a batch whose end has not been read. It is given to the follower together with the
        # end.
        begun: list[StreamEntry] = []
        while True:
            cursor = to_number(begun[-1][0]) if begun else self._cursor
            more, inbox = await session.wait_for_entries(cursor, cluster.inbox_cursor, _FOLLOW_COUNT)
            cluster.receive(inbox)
            if begun and not more:
                # The end of the batch is missing. The stream is damaged, because a batch is stored as a
                # whole.
                self._skip_to(cursor)
            found = [*begun, *more] if more else []
            end = len(found)
            while end and is_unfinished(found[end - 1]):
                end -= 1
            if len(found) - end > MAX_BATCH_COUNT:
                # No batch is so long, so the marks of unfinished batches are damaged.
                end = len(found)
            found, begun = found[:end], found[end:]
            await self._give(session, found)
            self._retained.followed(idle=not more)
            if found and self._cursor != to_number(found[-1][0]):
                # _give has moved the cursor to another entry, from which to continue.
                begun = []

    async def find_place(self, session: Session) -> None:
        """
        Check after a reconnection whether the record continues from the entry that this process read last.

        If the record was set back, begin a new epoch. If the next entries have been dropped, skip them.
        """
        number = self.epochs.number_of(self.recent.head)
        last, floor, there = await session.look(number)
        if number and (last < number or (there is None and floor < number) or not self._is_head(there)):
            await self._find_epoch(session, last)
        elif floor > number:
            self._skip_to(floor)

    def _is_head(self, there: str | None) -> bool:
        return there is None or self._head_id is None or there == self._head_id

    async def _find_epoch(self, session: Session, last: int) -> None:
        """
        Begin a new epoch after the last entry that the record has in common with this process's window.

        :param last: the newest entry of the record.
        """
        # At most the newest entry of the record. New entries come after that one, whatever the server's clock
        # says.
        common = min(self.epochs.number_of(self.recent.floor), last)
        known = self.recent.entries()
        # The common entries are the first ones in the window, so a binary search finds the last of them.
        while known:
            middle = len(known) // 2
            position, update = known[middle]
            number = self.epochs.number_of(position)
            _, _, there = await session.look(number)
            if there == update.id:
                common, known = number, known[middle + 1 :]
            else:
                known = known[:middle]
        _log.error(
            "{journal} has lost updates that it had acknowledged; clients that received them are sent "
            "stream-reset",
            journal=self._journal,
        )
        self.epochs.begin(common)
        self._begin_anew(self.epochs.position_of(common, begin=True))

    def _skip_to(self, number: int) -> None:
        """
        Skip entries up to one, because they were dropped before this process has read them.
        """
        _log.error(
            "{journal} dropped updates before this node read them; clients that missed them are sent "
            "stream-reset",
            journal=self._journal,
        )
        self._begin_anew(self.epochs.position_of(number))

    def _begin_anew(self, position: int) -> None:
        self.recent = self._new_window(position)
        self._cursor = self.epochs.number_of(position)
        self._anew = True
        self._head_id = None
        # The skipped updates may have retained or removed some.
        self._retained.missed()
        assert self.follower is not None
        self.follower.updates_missed(position)
        # The skipped updates will not be given to the follower. In a new epoch, the others have new
        # positions.
        epochs = self.epochs
        self._outbox.rename(lambda each: epochs.position_of(epochs.number_of(each)))
        self._outbox.fire_followed()

    async def _give(self, session: Session, found: Sequence[StreamEntry]) -> None:
        """
        Give the updates of entries to the follower.

        This stops early if it moves the cursor, after the record was set back or entries were dropped.
        """
        assert self.follower is not None
        for each in found:
            try:
                number, after, update = to_update(each, self._outbox.own)
            except ForeignEntry:
                # A foreign entry is not an update, so no update is missing.
                self._failures.error(
                    "{journal} holds an entry that no hub has published: {entry}",
                    journal=self._journal,
                    entry=each[0].decode(),
                )
                self._cursor = to_number(each[0])
                continue
            except DamagedEntry:
                self._skip_damaged(to_number(each[0]))
                continue
            head = self.recent.head
            here = self.epochs.number_of(head)
            if after != here and not self._anew:
                # Either the stream was trimmed faster than this process reads, or the record was set back.
                await self.find_place(session)
                if self.recent.head != head:
                    # The cursor has moved; the caller reads from there.
                    return
                self._skip_to(max(after, here))
            self._anew = False
            self._cursor = number
            position = self.epochs.position_of(number)
            self._head_id = update.id
            entry = self.recent.add(position, update, time_of(number), repeated=is_repeated(each))
            if update.retention is not None:
                self._retained.apply(position, update, time_of(number))
            try:
                self.follower.update_appended(entry)
            except Exception:
                # The next updates do not depend on this one.
                self._failures.failure(
                    "{journal}: the follower failed on {update}", journal=self._journal, update=update
                )
        self._forget_dropped()
        self._outbox.fire_followed()

    def _skip_damaged(self, number: int) -> None:
        """
        Move all live subscribers to replay, which reports the gap.
        """
        self.found_damaged(number)
        self._begin_anew(self.epochs.position_of(number))
        # The next entry names the damaged one as its previous entry.
        self._anew = False

    def found_damaged(self, number: int) -> None:
        """
        Count and log a damaged entry.
        """
        self.damage.found(number, f"entry {to_text(number)}")

    def _forget_dropped(self) -> None:
        # The follower must be given an update before the window forgets it.
        if self._floor <= self.epochs.number_of(self.recent.head):
            self.recent.forget(self.epochs.position_of(self._floor))

    def note_floor(self, number: int) -> None:
        """
        Record the entry up to which the journal has dropped all entries.
        """
        self._floor = number
        self._forget_dropped()

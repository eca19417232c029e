"""
The follower of a stream: it gives the journal's follower what the stream brings, in order, and keeps the
newest part in memory.

Strategy: updates are given as the stream brings them, this process's own among them, so that the order is the
same at every node. Each entry names the one before it. One that does not fit shows that trimming overtook
this process; or that the record was set back, as by a failover that lost updates: then another epoch begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
from txsse.journal.redis.session import Session
from txsse.journal.redis.stream_ids import Epochs, to_number, to_text
from txsse.journal.update import Update
from txsse.journal.window import PAGE_COUNT, Window, size_of

__all__ = ["StreamFollower"]

_log = Logger()

# How many entries the follower takes at once.
_FOLLOW_COUNT = 256


class StreamFollower:
    """
    Follows the stream of a journal.

    :param journal: the journal, for the log.
    :param new_window: makes the memory for the newest part, after a position.
    :param outbox: what this process has appended.
    :ivar recent: the newest part.
    :ivar epochs: the positions of entries.
    :ivar damage: the entries that are damaged.
    """

    def __init__(self, journal: object, new_window: Callable[[int], Window], outbox: Outbox) -> None:
        self.epochs = Epochs()
        self.recent = new_window(0)
        self.damage = Damage(journal)
        self.follower: IFollower | None = None
        self._journal = journal
        self._new_window = new_window
        self._outbox = outbox
        self._failures = RateLimitedLog(_log)
        self._head_id: str | None = None
        # The entry up to which the stream has been read, and whether the next one may come after any other.
        self._cursor = 0
        self._anew = False
        # The entry up to which the journal gave all up, as far as this process knows.
        self._floor = 0

    async def load(self, session: Session, count: int, size: int) -> None:
        """
        Fill the memory with the newest part, down to a damaged entry: a reader from before that is to be
        notified of a gap.

        :param count: how many updates it takes.
        :param size: how many bytes.
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
        # The beginning of a batch whose end has not been read yet: the follower gets it together with that.
        begun: list[Any] = []
        while True:
            cursor = to_number(begun[-1][0]) if begun else self._cursor
            more, inbox = await session.wait_for_entries(cursor, cluster.inbox_cursor, _FOLLOW_COUNT)
            cluster.receive(inbox)
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
            if found and self._cursor != to_number(found[-1][0]):
                # It went back, or on, to another entry, and reads from there.
                begun = []

    async def find_place(self, session: Session) -> None:
        """
        See whether the record goes on from where this process was.
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
        The record is another one. Find the last entry that it has in common with what this process has read.

        :param last: the newest entry there.
        """
        # No later than its newest entry: what comes next is after that, whatever the clock there says.
        common = min(self.epochs.number_of(self.recent.floor), last)
        known = self.recent.entries()
        # What is the same is a beginning of what is known.
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
            "{journal} has lost updates that it had acknowledged; clients that received them are notified",
            journal=self._journal,
        )
        self.epochs.begin(common)
        self._begin_anew(self.epochs.position_of(common, begin=True))

    def _skip_to(self, number: int) -> None:
        """
        Trimming has overtaken this process.
        """
        _log.error(
            "{journal} held less than was missed; clients that missed it are notified", journal=self._journal
        )
        self._begin_anew(self.epochs.position_of(number))

    def _begin_anew(self, position: int) -> None:
        self.recent = self._new_window(position)
        self._cursor = self.epochs.number_of(position)
        self._anew = True
        self._head_id = None
        assert self.follower is not None
        self.follower.updates_missed(position)
        # What was passed over will not be told; behind a common, what is new has other positions.
        epochs = self.epochs
        self._outbox.rename(lambda each: epochs.position_of(epochs.number_of(each)))
        self._outbox.tell()

    async def _tell(self, session: Session, found: Sequence[Any]) -> None:
        """
        Tell the follower what the stream brought.
        """
        assert self.follower is not None
        for each in found:
            try:
                number, after, update = to_update(each, self._outbox.own)
            except ForeignEntry:
                # No update is missing: there was none.
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
                # Somebody who publishes faster than this process reads; or another record.
                await self.find_place(session)
                if self.recent.head != head:
                    # To be read from there.
                    return
                self._skip_to(max(after, here))
            self._anew = False
            self._cursor = number
            position = self.epochs.position_of(number)
            self._head_id = update.id
            entry = self.recent.add(position, update, time_of(number), repeated=is_repeated(each))
            try:
                self.follower.update_appended(entry)
            except Exception:
                # The next one does not depend on it.
                self._failures.failure(
                    "{journal}: the follower failed on {update}", journal=self._journal, update=update
                )
        self._forget_given_up()
        self._outbox.tell()

    def _skip_damaged(self, number: int) -> None:
        """
        Have those who are live read from where they were, and learn there that something is missing.
        """
        self.found_damaged(number)
        self._begin_anew(self.epochs.position_of(number))
        # What follows names this entry, as usual.
        self._anew = False

    def found_damaged(self, number: int) -> None:
        self.damage.found(number, f"entry {to_text(number)}")

    def _forget_given_up(self) -> None:
        # What is given up and was not told yet has to be told first.
        if self._floor <= self.epochs.number_of(self.recent.head):
            self.recent.forget(self.epochs.position_of(self._floor))

    def note_floor(self, number: int) -> None:
        """
        Record up to which entry the journal gave all up.
        """
        self._floor = number
        self._forget_given_up()

"""
Loads the retained updates from the hash in Redis, while the stream is followed.

Strategy: a scan of the hash takes many commands. Meanwhile, any node may change the hash, and this node
follows the changes a moment later. The last page names the newest entry of the stream, so the scanned rows
have the changes of no later entry. Once this node has been given that entry, it knows all changes since the
beginning of the scan. A row that none of them has changed is as the scan has found it; of the others, only
the changes count.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from operator import itemgetter

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from txsse.journal.redis.replies import Run, as_entry_number, as_list, as_scanned, malformed
from txsse.journal.redis.retained_rows import Row, to_row
from txsse.journal.redis.stream_ids import Epochs
from txsse.journal.retained import Retained
from txsse.journal.retained_updates import RetainedUpdates
from txsse.journal.update import Update

__all__ = ["RetainedLoad"]

# About how many rows one command scans, so that no command blocks the server for long; and how many rows are
# processed in one turn of the reactor, which takes a few milliseconds.
_PAGE_COUNT = 1000
_SLICE = 1000

# The maximum number of scanned rows, if the journal's own limit is not higher: another node may have a higher
# one, but a server that is no Redis must not take all memory.
_MAX_ROWS = 1_000_000

# A followed change: the position, the update, and when it was stored.
_Change = tuple[int, Update, float]

_ORDER = itemgetter(0, 1)


class RetainedLoad:
    """
    One load of the retained updates. It is given all changes that are followed meanwhile.

    :param run: runs a command of the script.
    :param reactor: the reactor, for pauses between the slices of work.
    :param place: returns the epochs, and the position of the newest update that the follower was given.
    :param replica: the retained updates, empty, which are filled.
    :param found_damaged: called for a damaged row.
    """

    def __init__(
        self,
        run: Run,
        reactor: IReactorTime,
        place: Callable[[], tuple[Epochs, int]],
        replica: RetainedUpdates,
        found_damaged: Callable[[], None],
    ) -> None:
        self._run = run
        self._reactor = reactor
        self._place = place
        self._replica = replica
        self._found_damaged = found_damaged
        # The rows of each page in the order of their positions, and the position of each topic and key.
        self._pages: list[list[Row]] = []
        self._newest: dict[tuple[str, str], int] = {}
        # The followed changes, in order. One with the same topics and key takes the place of an earlier one.
        self._changes: dict[tuple[tuple[str, ...], str], _Change] = {}
        self._first_change: int | None = None
        # The newest entry at the end of the scan, and a Deferred that fires when the follower was given it.
        self._last = 0
        self._reached: Deferred[None] | None = None
        self._idle = 0

    def apply(self, position: int, update: Update, stored_at: float) -> None:
        """
        Note a followed change.
        """
        assert update.retention is not None
        name = update.topics, update.retention.key
        # A changed value of a dict would keep its place.
        self._changes.pop(name, None)
        self._changes[name] = position, update, stored_at
        if self._first_change is None:
            self._first_change = position

    def followed(self, *, idle: bool) -> None:
        """
        Note that the follower was given updates, or that the stream had no further ones.
        """
        if self._reached is None:
            return
        self._idle = self._idle + 1 if idle else 0
        # The newest entry may have been removed by another program. The first read may have begun before that
        # entry was added, but not the second one.
        if self.is_followed or self._idle > 1:
            reached, self._reached = self._reached, None
            reached.callback(None)

    @property
    def is_followed(self) -> bool:
        """
        Whether the follower was given all updates whose changes the scanned rows may have.
        """
        epochs, head = self._place()
        return epochs.number_of(head) >= self._last

    async def scan(self) -> None:
        """
        Read the hash, page by page.

        :raises JournalFailed: if the server cannot be used.
        """
        most = max(_MAX_ROWS, 2 * self._replica.max_count)
        cursor, count = b"0", 0
        # All pages are of one session: the next one is asked for as soon as a reply arrives. Another server
        # would not know the cursor.
        while True:
            reply = await self._run("retained", cursor, _PAGE_COUNT)
            last, *scanned = as_list(reply, 3)
            cursor, page = as_scanned(scanned)
            count += max(1, len(page))
            if count > most:
                raise malformed(f"at most {most} retained updates", reply)
            self._add_page(page)
            if cursor == b"0":
                self._last = as_entry_number(last)
                return

    def _add_page(self, page: Iterable[tuple[bytes, bytes]]) -> None:
        epochs, _ = self._place()
        rows: list[Row] = []
        for field, value in page:
            row = to_row(field, value, epochs)
            if row is None:
                self._found_damaged()
                continue
            # A row that changes during the scan may be returned twice.
            self._newest[row.topic, row.retained.key] = row.position
            rows.append(row)
        rows.sort(key=_ORDER)
        self._pages.append(rows)

    async def build(self) -> RetainedUpdates:
        """
        Wait until the follower was given the newest update of the scan. Then fill the retained updates.

        :returns: the retained updates, which agree with all that the follower was given.
        """
        if not self.is_followed:
            self._reached = Deferred()
            await self._reached
        changes, self._changes = self._changes, {}
        for topics, key in changes:
            for topic in topics:
                self._newest.pop((topic, key), None)
        _, head = self._place()
        # Only if another program has removed entries, rows may be newer than the first change and not be
        # changed.
        until = head if self._first_change is None else self._first_change - 1
        rows = self._rows(until)
        while some := list(islice(rows, _SLICE)):
            self._replica.restore_more(some)
            await deferLater(self._reactor, 0)
        await self._apply(changes.values())
        while self._changes:
            changes, self._changes = self._changes, {}
            await self._apply(changes.values())
        # Without any, a hub that retains nothing need not send states.
        _, head = self._place()
        self._replica.changed_at = 0 if self._replica.is_empty else head
        return self._replica

    async def _apply(self, changes: Iterable[_Change]) -> None:
        rest = iter(changes)
        while some := list(islice(rest, _SLICE)):
            for change in some:
                self._replica.apply(*change)
            if len(some) == _SLICE:
                await deferLater(self._reactor, 0)

    def _rows(self, until: int) -> Iterator[Retained]:
        """
        Return the scanned rows that have not changed, in the order of positions. Those of an update are one.
        """
        known: Retained | None = None
        for position, _, topic, row in heapq.merge(*self._pages, key=_ORDER):
            if position > until or self._newest.get((topic, row.key)) != position:
                continue
            if known is None or known.position != position:
                if known is not None:
                    yield known
                known = row
            elif known.key == row.key and topic not in known.topics:
                known = replace(known, topics=(*known.topics, topic))
        if known is not None:
            yield known

"""
The retained updates of a journal in memory, with indexes by topic and by position, and the journal's limits.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from txsse.errors import NotRetained, RetainedFull
from txsse.journal.retained import IRetained, Retained, RetainedPage, size_under_one_topic
from txsse.journal.update import Update
from txsse.journal.window import PAGE_BYTES, PAGE_COUNT

__all__ = ["DEFAULT_MAX_RETAINED", "DEFAULT_MAX_RETAINED_BYTES", "RetainedUpdates"]

# The default limits. Each node holds all retained updates in memory.
DEFAULT_MAX_RETAINED = 100_000
DEFAULT_MAX_RETAINED_BYTES = 64 * 1024 * 1024

# A list of positions is not compacted before more than this number of them are no longer used.
_GONE = 64


class _Topic:
    """
    The retained updates of a topic.

    :ivar positions: their positions in ascending order, among others that are no longer used.
    :ivar keys: the position of each key.
    """

    __slots__ = ("keys", "positions")

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.keys: dict[str, int] = {}


@implementer(IRetained)
class RetainedUpdates:
    """
    Retained updates in memory.

    :param now: returns the time, in seconds.
    :param max_count: the maximum number of retained updates.
    :param max_bytes: their maximum size, in bytes, approximately.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        max_count: int = DEFAULT_MAX_RETAINED,
        max_bytes: int = DEFAULT_MAX_RETAINED_BYTES,
    ) -> None:
        self.count = self.size = 0
        self.changed_at = 0
        self.max_count = max_count
        self.max_bytes = max_bytes
        self._now = now
        self._rows: dict[int, Retained] = {}
        # The keys of `_rows` in ascending order, among others that are no longer used.
        self._positions: list[int] = []
        self._topics: dict[str, _Topic] = {}
        self._owned: Counter[str] = Counter()
        # When updates expire, with their positions: a heap.
        self._expiries: list[tuple[float, int]] = []

    @property
    def is_empty(self) -> bool:
        """
        Whether no update is retained.
        """
        return not self._rows

    def topics(self) -> Iterable[str]:
        """
        Return the topics under which updates are retained.
        """
        self._drop_expired()
        return self._topics.keys()

    def find(self, topic: str, key: str) -> Retained | None:
        """
        Return the retained update of a topic and a key.
        """
        self._drop_expired()
        of_topic = self._topics.get(topic)
        position = None if of_topic is None else of_topic.keys.get(key)
        return None if position is None else self._rows[position]

    def owned(self, owner: str) -> int:
        """
        Return how many retained updates have an owner.
        """
        self._drop_expired()
        return self._owned[owner]

    def read(self, topics: Collection[str] | None, after: int, up_to: int) -> Deferred[RetainedPage]:
        """
        Read a page: about 64 KiB, or at most 256 updates.
        """
        return succeed(self.read_now(topics, after, up_to))

    def read_now(self, topics: Collection[str] | None, after: int, up_to: int) -> RetainedPage:
        """
        Return the result of :meth:`read`.
        """
        self._drop_expired()
        entries: list[tuple[int, Retained]] = []
        size = 0
        for position in self._positions_after(topics, after):
            if position > up_to:
                break
            if size >= PAGE_BYTES or len(entries) == PAGE_COUNT:
                return RetainedPage(entries, entries[-1][0])
            row = self._rows[position]
            entries.append((position, row))
            size += len(row.frame)
        return RetainedPage(entries, up_to)

    def refusal(self, updates: Sequence[Update]) -> RetainedFull | NotRetained | None:
        """
        Return why updates cannot be appended one after the other; ``None`` if they can.
        """
        self._drop_expired()
        count, size = self.count, self.size
        changed: dict[tuple[str, str], int] = {}
        for update in updates:
            if update.retention is None:
                continue
            key, has_removed, is_new, grows = update.retention.key, False, False, False
            cost = 0 if update.unretains else size_under_one_topic(key, update.frame_without_id)
            for topic in update.topics:
                before = changed[topic, key] if (topic, key) in changed else self._size_at(topic, key)
                after = 0 if update.unretains else cost + len(topic.encode())
                has_removed, is_new = has_removed or before > 0, is_new or before == 0
                grows = grows or after > before
                count += (after > 0) - (before > 0)
                size += after - before
                changed[topic, key] = after
            if update.unretains:
                if not has_removed:
                    return NotRetained(update.topics, key)
            elif (is_new and count > self.max_count) or (grows and size > self.max_bytes):
                return RetainedFull(self.max_count, self.max_bytes)
        return None

    def _size_at(self, topic: str, key: str) -> int:
        found = self.find(topic, key)
        return 0 if found is None else found.size + len(topic.encode())

    def apply(self, position: int, update: Update) -> None:
        """
        Retain or remove what an appended update retains or removes.

        :param position: its position. Positions must grow from call to call.
        """
        retention = update.retention
        if retention is None:
            return
        self.changed_at = position
        for topic in update.topics:
            self._remove(topic, retention.key)
        if not update.unretains:
            expires = math.inf if retention.seconds is None else self._now() + retention.seconds
            self._add(
                Retained(
                    position,
                    update.topics,
                    update.private,
                    retention.key,
                    retention.owner,
                    expires,
                    update.frame_without_id,
                )
            )

    def restore(self, rows: Iterable[Retained], changed_at: int) -> None:
        """
        Replace all by the retained updates that a journal has recorded.

        :param rows: the updates, in any order. Those with one position are one update under several topics.
        :param changed_at: a position that is not before the newest change.
        """
        together: dict[int, Retained] = {}
        for row in rows:
            known = together.get(row.position)
            together[row.position] = (
                row if known is None else replace(row, topics=(*known.topics, *row.topics))
            )
        self.count = self.size = 0
        self._rows, self._positions, self._topics, self._expiries = {}, [], {}, []
        self._owned.clear()
        self.changed_at = changed_at
        for _, row in sorted(together.items()):
            self._add(row)

    def adopt(self, loaded: RetainedUpdates) -> None:
        """
        Replace all by those of another object, at once: a journal may restore many of them in a thread.

        :param loaded: the object, which must not be used afterwards.
        """
        self.count, self.size, self.changed_at = loaded.count, loaded.size, loaded.changed_at
        self._rows, self._positions, self._topics = loaded._rows, loaded._positions, loaded._topics
        self._owned, self._expiries = loaded._owned, loaded._expiries

    def _add(self, row: Retained) -> None:
        position, key, size = row.position, row.key, row.size
        self._rows[position] = row
        self._positions.append(position)
        for topic in row.topics:
            of_topic = self._topics.get(topic)
            if of_topic is None:
                of_topic = self._topics[topic] = _Topic()
            of_topic.keys[key] = position
            of_topic.positions.append(position)
            self.size += size + len(topic.encode())
        self.count += len(row.topics)
        if row.owner is not None:
            self._owned[row.owner] += len(row.topics)
        if row.expires < math.inf:
            heapq.heappush(self._expiries, (row.expires, position))

    def _remove(self, topic: str, key: str) -> None:
        of_topic = self._topics.get(topic)
        position = None if of_topic is None else of_topic.keys.pop(key, None)
        if of_topic is None or position is None:
            return
        row = self._rows.pop(position)
        self.count -= 1
        self.size -= row.size + len(topic.encode())
        if row.owner is not None:
            self._owned[row.owner] -= 1
            if not self._owned[row.owner]:
                del self._owned[row.owner]
        if len(row.topics) > 1:
            self._rows[position] = replace(row, topics=tuple(each for each in row.topics if each != topic))
        elif len(self._positions) > 2 * len(self._rows) + _GONE:
            self._positions = sorted(self._rows)
        if not of_topic.keys:
            del self._topics[topic]
        elif len(of_topic.positions) > 2 * len(of_topic.keys) + _GONE:
            of_topic.positions = sorted(of_topic.keys.values())
        if len(self._expiries) > 2 * len(self._rows) + _GONE:
            self._expiries = [each for each in self._expiries if each[1] in self._rows]
            heapq.heapify(self._expiries)

    def _drop_expired(self) -> None:
        if not self._expiries:
            return
        now = self._now()
        while self._expiries and self._expiries[0][0] <= now:
            _, position = heapq.heappop(self._expiries)
            row = self._rows.get(position)
            for topic in () if row is None else row.topics:
                assert row is not None
                self._remove(topic, row.key)

    def _positions_after(self, topics: Collection[str] | None, after: int) -> Iterator[int]:
        """
        Return the positions of retained updates after a position, in order and once each.
        """
        if topics is None:
            yield from (each for each in _after(self._positions, after) if each in self._rows)
            return
        wanted = set(topics)
        of_topics = [self._topics[topic] for topic in wanted if topic in self._topics]
        last = -1
        for position in heapq.merge(*(_after(of_topic.positions, after) for of_topic in of_topics)):
            row = self._rows.get(position)
            if position != last and row is not None and not wanted.isdisjoint(row.topics):
                last = position
                yield position


def _after(positions: list[int], after: int) -> Iterator[int]:
    return (positions[index] for index in range(bisect_right(positions, after), len(positions)))

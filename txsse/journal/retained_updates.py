"""
The retained updates of a journal in memory, with indexes by topic and by position, and the journal's limits.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from txsse.errors import NotRetained, RetainedFull
from txsse.journal.retained import IRetained, Retained, RetainedPage
from txsse.journal.retained_index import GONE, KeysOfTopic, length_of, positions_after, size_of
from txsse.journal.update import Update
from txsse.journal.window import PAGE_BYTES, PAGE_COUNT

__all__ = ["DEFAULT_MAX_RETAINED", "DEFAULT_MAX_RETAINED_BYTES", "RetainedUpdates"]

# The default limits. Each node holds all retained updates in memory.
DEFAULT_MAX_RETAINED = 100_000
DEFAULT_MAX_RETAINED_BYTES = 64 * 1024 * 1024

# How many expired updates are dropped at once: it takes about 5 ms, and the others wait for the next call.
_STEP = 256


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
        self._count = self._size = 0
        self.changed_at = 0
        self.max_count = max_count
        self.max_bytes = max_bytes
        self._now = now
        # In ascending order of the positions.
        self._rows: dict[int, Retained] = {}
        # The keys of `_rows` in ascending order, among others that are no longer used.
        self._positions: list[int] = []
        self._topics: dict[str, KeysOfTopic] = {}
        self._owned: Counter[str] = Counter()
        # When updates expire, with their positions: a heap.
        self._expiries: list[tuple[float, int]] = []

    @property
    def is_empty(self) -> bool:
        """
        Whether no update is retained.
        """
        return not self._rows

    @property
    def count(self) -> int:
        """
        How many there are: an update that is retained under two topics counts twice.

        Expired updates are dropped in steps, at the calls of this object, and count until then.
        """
        self._drop_expired()
        return self._count

    @property
    def size(self) -> int:
        """
        Their approximate size, in bytes, as :attr:`count` counts them.
        """
        self._drop_expired()
        return self._size

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
        return self._find(topic, key)

    def _find(self, topic: str, key: str) -> Retained | None:
        of_topic = self._topics.get(topic)
        position = None if of_topic is None else of_topic.keys.get(key)
        row = None if position is None else self._rows[position]
        return None if row is None or self._is_expired(row) else row

    def _is_expired(self, row: Retained) -> bool:
        return row.expires < math.inf and row.expires <= self._now()

    def owned(self, owner: str) -> int:
        """
        Return how many retained updates have an owner, as :attr:`count` counts them.
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
            if self._is_expired(row):
                continue
            entries.append((position, row))
            size += len(row.frame)
        return RetainedPage(entries, up_to)

    def refusal(self, updates: Sequence[Update]) -> RetainedFull | NotRetained | None:
        """
        Return why updates cannot be appended one after the other; ``None`` if they can.
        """
        while True:
            self._drop_expired()
            refused = self._refusal(updates)
            # Expired updates make room.
            if not isinstance(refused, RetainedFull) or not self._has_expired():
                return refused

    def _refusal(self, updates: Sequence[Update]) -> RetainedFull | NotRetained | None:
        count, size = self._count, self._size
        changed: dict[tuple[str, str], int] = {}
        for update in updates:
            if update.retention is None:
                continue
            key, has_removed, is_new, grows = update.retention.key, False, False, False
            cost = size_of(update, key)
            for topic in update.topics:
                before = changed[topic, key] if (topic, key) in changed else self._size_at(topic, key)
                after = cost and cost + length_of(topic)
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
        found = self._find(topic, key)
        return 0 if found is None else found.size + length_of(topic)

    def append(self, position: int, update: Update) -> RetainedFull | NotRetained | None:
        """
        Retain or remove what an update retains or removes, or return why it cannot be appended.

        :param position: its position. Positions must grow from call to call.
        """
        if self._replace(position, update, self.max_bytes):
            return None
        refused = self.refusal((update,))
        if refused is None:
            self.apply(position, update)
        return refused

    def apply(self, position: int, update: Update, now: float | None = None) -> None:
        """
        Retain or remove what an appended update retains or removes.

        :param position: its position. Positions must grow from call to call.
        :param now: when it was appended, in seconds; ``None`` for the present.
        """
        retention = update.retention
        if retention is None or self._replace(position, update, math.inf):
            return
        self.changed_at = position
        self._remove(update.topics, retention.key)
        if not update.unretains:
            expires = math.inf
            if retention.seconds is not None:
                expires = (self._now() if now is None else now) + retention.seconds
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

    def _replace(self, position: int, update: Update, max_bytes: float) -> bool:
        """
        Replace a retained update, in the usual case: the same one topic, no owner, and nothing expires.

        :returns: whether it was replaced. This takes a third of the time of the general case.
        """
        retention, topics = update.retention, update.topics
        of_topic = self._topics.get(topics[0])
        if retention is None or of_topic is None or self._expiries or len(topics) > 1:
            return False
        key = retention.key
        before = of_topic.keys.get(key)
        if before is None or retention.owner is not None or retention.seconds is not None:
            return False
        row = self._rows[before]
        if row.owner is not None or len(row.topics) > 1 or update.unretains:
            return False
        frame = update.frame_without_id
        new = Retained(position, topics, update.private, key, None, math.inf, frame)
        growth = new.size - row.size
        if growth > 0 and self._size + growth > max_bytes:
            return False
        self._size += growth
        self.changed_at = position
        # At the end, in the order of the positions.
        del self._rows[before], of_topic.keys[key]
        self._rows[position] = new
        of_topic.keys[key] = position
        self._positions.append(position)
        of_topic.positions.append(position)
        of_topic.compact()
        self._compact()
        return True

    def _compact(self) -> None:
        if len(self._positions) > 2 * len(self._rows) + GONE:
            self._positions = list(self._rows)

    def restore_more(self, rows: Iterable[Retained]) -> None:
        """
        Add retained updates that a journal has recorded.

        :param rows: the updates, each once and with all of its topics, in the order of their positions. These
            are after those of the updates that are here already.
        """
        for row in rows:
            self._add(row)

    def restore(self, rows: Iterable[Retained], changed_at: int) -> None:
        """
        Replace all by the retained updates that a journal has recorded.

        :param rows: the updates, in any order. Those with one position are one update under several topics.
        :param changed_at: a position that is not before the newest change.
        """
        together: dict[int, tuple[Retained, list[str]]] = {}
        for row in rows:
            together.setdefault(row.position, (row, []))[1].extend(row.topics)
        self._count = self._size = 0
        self._rows, self._positions, self._topics, self._expiries = {}, [], {}, []
        self._owned.clear()
        self.changed_at = changed_at
        for position in sorted(together):
            row, topics = together[position]
            self._add(row if len(topics) == 1 else replace(row, topics=tuple(topics)))

    def adopt(self, loaded: RetainedUpdates) -> None:
        """
        Replace all by those of another object, at once: a journal may restore many of them in a thread.

        :param loaded: the object, which must not be used afterwards.
        """
        self._count, self._size, self.changed_at = loaded._count, loaded._size, loaded.changed_at
        self._rows, self._positions, self._topics = loaded._rows, loaded._positions, loaded._topics
        self._owned, self._expiries = loaded._owned, loaded._expiries

    def _add(self, row: Retained) -> None:
        position, key, size = row.position, row.key, row.size
        self._rows[position] = row
        self._positions.append(position)
        for topic in row.topics:
            of_topic = self._topics.get(topic)
            if of_topic is None:
                of_topic = self._topics[topic] = KeysOfTopic(length_of(topic))
            of_topic.keys[key] = position
            of_topic.positions.append(position)
            self._size += size + of_topic.length
        self._count += len(row.topics)
        if row.owner is not None:
            self._owned[row.owner] += len(row.topics)
        if row.expires < math.inf:
            heapq.heappush(self._expiries, (row.expires, position))

    def _remove(self, topics: tuple[str, ...], key: str) -> None:
        """
        Remove what is retained under topics with a key.
        """
        if len(topics) == 1:
            only = self._forget(topics[0], key)
            if only is not None:
                self._remove_from_row(only, topics)
            return
        # Together by position: one by one, an update with 10,000 topics would take seconds.
        removed: dict[int, set[str]] = {}
        for topic in topics:
            position = self._forget(topic, key)
            if position is not None:
                removed.setdefault(position, set()).add(topic)
        for position, of_row in removed.items():
            self._remove_from_row(position, of_row)

    def _forget(self, topic: str, key: str) -> int | None:
        """
        Remove a key from a topic's index, and return the position of its update.
        """
        of_topic = self._topics.get(topic)
        position = None if of_topic is None else of_topic.keys.pop(key, None)
        if of_topic is None or position is None:
            return None
        if not of_topic.keys:
            del self._topics[topic]
        else:
            of_topic.compact()
        return position

    def _remove_from_row(self, position: int, topics: Collection[str]) -> None:
        row = self._rows[position]
        self._count -= len(topics)
        self._size -= len(topics) * row.size + sum(map(length_of, topics))
        if row.owner is not None:
            self._owned[row.owner] -= len(topics)
            if not self._owned[row.owner]:
                del self._owned[row.owner]
        if len(row.topics) > len(topics):
            # It keeps its place, in the order of the positions.
            left = tuple(topic for topic in row.topics if topic not in topics)
            self._rows[position] = replace(row, topics=left)
        else:
            del self._rows[position]
            self._compact()
        if len(self._expiries) > 2 * len(self._rows) + GONE:
            self._expiries = [each for each in self._expiries if each[1] in self._rows]
            heapq.heapify(self._expiries)

    def _has_expired(self) -> bool:
        return bool(self._expiries) and self._expiries[0][0] <= self._now()

    def _drop_expired(self) -> None:
        """
        Drop expired updates, but at most some at once, to not block the reactor.
        """
        if not self._expiries:
            return
        now, dropped = self._now(), 0
        while dropped < _STEP and self._expiries and self._expiries[0][0] <= now:
            _, position = heapq.heappop(self._expiries)
            row = self._rows.get(position)
            if row is not None:
                self._remove(row.topics, row.key)
                dropped += len(row.topics)

    def _positions_after(self, topics: Collection[str] | None, after: int) -> Iterator[int]:
        """
        Return the positions of retained updates after a position, in order and once each.
        """
        if topics is None:
            found = positions_after(self._positions, after, self._rows)
            yield from (each for each in found if each in self._rows)
            return
        wanted = set(topics)
        of_topics = [self._topics[topic].after(after) for topic in wanted if topic in self._topics]
        last = -1
        # Most readers have one topic, and merging takes longer than the rest.
        for position in of_topics[0] if len(of_topics) == 1 else heapq.merge(*of_topics):
            row = self._rows.get(position)
            if position != last and row is not None and not wanted.isdisjoint(row.topics):
                last = position
                yield position

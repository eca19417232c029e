"""
Tests of loading retained updates from Redis, with a fake server and a fake follower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from tests.hub.fakes import outcome_of
from tests.journal.journals import update
from tests.journal.redis.test_retained_rows import stored_row
from txsse import JournalFailed, ServerSentEvent, Update
from txsse.journal.redis import retained_loading
from txsse.journal.redis.replies import Argument, Reply
from txsse.journal.redis.retained_loading import RetainedLoad
from txsse.journal.redis.stream_ids import Epochs, to_text
from txsse.journal.retained_updates import RetainedUpdates
from txsse.journal.retention import Retention


class Turns(Clock):
    """
    A clock on which each turn of the reactor takes a second.
    """

    def callLater(  # noqa: N802
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        return super().callLater(max(1, delay), callable, *args, **kw)


class Loading:
    """
    A load, with a fake server and a fake follower.

    :ivar head: the position of the newest update that the follower was given.
    :ivar outcome: the outcome of the load.
    """

    def __init__(self, head: int = 100) -> None:
        self.head = head
        self.epochs = Epochs()
        self.clock = Turns()
        self.asked: list[tuple[Argument, ...]] = []
        self.waiting: Deferred[Reply] = Deferred()
        self.damaged = 0
        self.replica = RetainedUpdates(self.clock.seconds, max_count=10)
        self.load = RetainedLoad(self.run, self.clock, self.place, self.replica, self.found_damaged)
        self.work = Deferred.fromCoroutine(self.run_load())
        self.outcome = outcome_of(self.work)

    async def run_load(self) -> RetainedUpdates:
        await self.load.scan()
        return await self.load.build()

    def run(self, *arguments: Argument) -> Deferred[Reply]:
        self.asked.append(arguments)
        self.waiting = Deferred()
        return self.waiting

    def place(self) -> tuple[Epochs, int]:
        return self.epochs, self.head

    def found_damaged(self) -> None:
        self.damaged += 1

    def page(self, *rows: tuple[bytes, bytes], last: int = 100, cursor: bytes = b"0") -> None:
        """
        Reply with a page.
        """
        flat = [each for row in rows for each in row]
        self.waiting.callback([to_text(last).encode(), cursor, flat])

    def follow(
        self, number: int, key: str | None = None, topics: Any = "news", *, remove: bool = False
    ) -> None:
        """
        Follow an update.
        """
        self.head = number
        if key is not None:
            self.load.apply(number, retained(key, topics, remove=remove), 0.0)
        self.load.followed(idle=False)

    @property
    def found(self) -> list[tuple[int, str, tuple[str, ...]]]:
        """
        The retained updates: the position, the key, and the topics of each.
        """
        assert self.outcome == [self.replica]
        page = self.replica.read_now(None, 0, 1 << 200)
        assert [position for position, _ in page.entries] == sorted(position for position, _ in page.entries)
        return [(position, row.key, row.topics) for position, row in page.entries]


def retained(key: str, topics: Any = "news", *, remove: bool = False) -> Update:
    event = ServerSentEvent(key, "unretain" if remove else None, "id")
    return Update(topics, event, retention=Retention(key))


def row(number: int, key: str, topics: Any = "news", place: int = 0) -> tuple[bytes, bytes]:
    return stored_row(retained(key, topics), to_text(number), place)


NEWS = ("news",)


class ScanTests:
    def test_pages(self) -> None:
        """
        The hash is scanned page by page, and its updates are in the order of positions.
        """
        loading = Loading()
        loading.page(row(7, "a"), row(3, "b"), cursor=b"17")
        loading.page(cursor=b"5")
        loading.page(row(5, "c"), row(1, "d"))
        assert loading.asked == [("retained", cursor, 1000) for cursor in (b"0", b"17", b"5")]
        loading.clock.advance(1)
        assert loading.found == [(1, "d", NEWS), (3, "b", NEWS), (5, "c", NEWS), (7, "a", NEWS)]
        assert loading.replica.changed_at == 100

    def test_empty(self) -> None:
        """
        With an empty hash, the load is complete at once.
        """
        loading = Loading(0)
        loading.page(last=0)
        assert loading.found == []
        assert loading.clock.getDelayedCalls() == []

    def test_topics(self) -> None:
        """
        The rows of an update under several topics are one retained update, with its topics in their order.
        """
        loading = Loading()
        topics = ["c", "a", "b"]
        loading.page(row(7, "k", topics, 2), row(7, "k", topics, 0), row(8, "k"), cursor=b"1")
        loading.page(row(7, "k", topics, 1), row(7, "k", topics, 2))
        loading.clock.advance(1)
        assert loading.found == [(7, "k", ("c", "a", "b")), (8, "k", NEWS)]
        assert loading.replica.count == 4

    def test_scanned_twice(self) -> None:
        """
        Of a row that the scan returns twice, the later one counts.
        """
        loading = Loading()
        loading.page(row(7, "a"), cursor=b"1")
        loading.page(row(9, "a"), row(9, "a"))
        loading.clock.advance(1)
        assert loading.found == [(9, "a", NEWS)]

    def test_damaged(self) -> None:
        """
        Damaged rows are reported and skipped.
        """
        loading = Loading()
        loading.page((b"a\xffb", b"x"), row(1, "a"), (b"", b""))
        loading.clock.advance(1)
        assert loading.found == [(1, "a", NEWS)]
        assert loading.damaged == 2

    def test_same_entry_with_another_key(self) -> None:
        """
        Of two rows with one entry and different keys, which no hub has made, one is skipped.
        """
        loading = Loading()
        loading.page(row(1, "a"), row(1, "b", "sport"))
        loading.clock.advance(1)
        assert [position for position, _, _ in loading.found] == [1]

    def test_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Many rows, and many changes, are processed in several turns of the reactor.
        """
        monkeypatch.setattr(retained_loading, "_SLICE", 2)
        loading = Loading()
        loading.page(*(row(number, str(number)) for number in range(1, 6)), last=104)
        for number in range(101, 105):
            loading.follow(number, str(number))
        for count in (2, 4, 5, 7, 9):
            assert loading.replica.count == count
            assert loading.outcome == []
            if count == 9:
                loading.follow(105, "during")
            loading.clock.advance(1)
        assert [position for position, _, _ in loading.found] == [*range(1, 6), *range(101, 106)]

    @pytest.mark.parametrize(
        "reply",
        [
            None,
            [],
            [b"0-1", b"0"],
            [b"x", b"0", []],
            [b"0-1", 0, []],
            [b"0-1", b"0", None],
            [b"0-1", b"0", [b"a"]],
            [b"0-1", b"0", [b"a", 1]],
            [None, b"0", []],
        ],
        ids=str,
    )
    def test_hostile(self, reply: Any) -> None:
        """
        If the server's reply has another form, the load fails with an error that says that it is no Redis.
        """
        loading = Loading()
        loading.waiting.callback(reply)
        (error,) = loading.outcome
        assert isinstance(error, JournalFailed)
        assert "check that the URL is that of a Redis server" in error.problem

    @pytest.mark.parametrize("rows", [0, 3])
    def test_endless(self, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        """
        A scan that never ends fails when it has returned more rows than could be retained.
        """
        monkeypatch.setattr(retained_loading, "_MAX_ROWS", 12)
        loading = Loading()
        pages = 0
        while not loading.outcome:
            loading.page(*[row(1, "a")] * rows, cursor=b"1")
            pages += 1
        (error,) = loading.outcome
        assert isinstance(error, JournalFailed) and "at most 20 retained updates" in error.problem
        assert pages == 21 // max(1, rows)


class ChangeTests:
    def test_followed_during_the_scan(self) -> None:
        """
        Changes that are followed during the scan count, whether or not the scanned rows have them.
        """
        loading = Loading()
        loading.page(row(1, "stale"), row(2, "removed"), row(3, "kept"), row(102, "ahead"), cursor=b"1")
        loading.follow(101, "stale")
        loading.follow(102, "ahead")
        loading.follow(103, "removed", remove=True)
        loading.follow(104, "brief")
        loading.follow(105, "brief", remove=True)
        loading.follow(106, "new")
        loading.page(row(4, "late"), last=106)
        loading.clock.advance(1)
        assert loading.found == [
            (3, "kept", NEWS),
            (4, "late", NEWS),
            (101, "stale", NEWS),
            (102, "ahead", NEWS),
            (106, "new", NEWS),
        ]
        assert loading.replica.changed_at == 106

    def test_followed_after_the_scan(self) -> None:
        """
        The load waits until the follower was given the newest entry of the scan, retained or not.
        """
        loading = Loading()
        loading.page(row(1, "a"), row(102, "ahead"), row(2, "removed"), last=104)
        loading.clock.advance(1)
        loading.follow(101, "removed", remove=True)
        loading.follow(102, "ahead")
        loading.follow(103)
        assert loading.outcome == []
        assert not loading.load.is_followed
        loading.follow(104)
        loading.clock.advance(1)
        assert loading.found == [(1, "a", NEWS), (102, "ahead", NEWS)]

    def test_followed_while_it_is_built(self) -> None:
        """
        Changes that are followed while the retained updates are built count, too.
        """
        loading = Loading()
        loading.page(row(1, "a"), row(2, "b"))
        loading.follow(101, "a")
        loading.follow(102, "b", remove=True)
        loading.follow(103, "b", remove=False)
        loading.clock.advance(1)
        assert loading.found == [(101, "a", NEWS), (103, "b", NEWS)]

    def test_several_topics(self) -> None:
        """
        An update under several topics changes the rows of all of them, and others of its key keep theirs.
        """
        loading = Loading()
        loading.page(row(1, "k", ["a", "b", "c"], 0), row(1, "k", ["a", "b", "c"], 1), cursor=b"1")
        loading.follow(101, "k", ["b", "d"])
        loading.follow(102, "k", "d")
        loading.follow(103, "k", ["b", "d"])
        loading.page(row(1, "k", ["a", "b", "c"], 2), last=103)
        loading.clock.advance(1)
        assert loading.found == [(1, "k", ("a", "c")), (103, "k", ("b", "d"))]

    def test_bounded(self) -> None:
        """
        Many changes of one key under the same topics take the memory of one.
        """
        loading = Loading()
        for number in range(101, 1000):
            loading.follow(number, "a")
        assert len(loading.load._changes) == 1
        loading.page(row(1, "a"), last=999)
        assert loading.found == [(999, "a", NEWS)]

    def test_beginning_of_an_epoch(self) -> None:
        """
        Rows of entries that were dropped before this node joined a record, and are not followed, count.
        """
        loading = Loading(0)
        loading.epochs.begin(10)
        loading.head = loading.epochs.position_of(10, begin=True)
        loading.page(row(5, "old"), row(50, "dropped"), row(60, "held"), last=60)
        epoch = 1 << 128
        loading.follow(epoch | 60, "held")
        loading.clock.advance(1)
        assert loading.found == [(5, "old", NEWS), (epoch | 50, "dropped", NEWS), (epoch | 60, "held", NEWS)]

    def test_entry_that_is_not_followed(self) -> None:
        """
        If the newest entry was removed from the stream, the load ends after two reads without entries; rows
        of entries that were not followed are skipped.
        """
        loading = Loading()
        loading.page(row(1, "a"), row(103, "lost"), last=103)
        loading.load.followed(idle=True)
        loading.follow(101, "b")
        loading.load.followed(idle=True)
        loading.clock.advance(1)
        assert loading.outcome == []
        loading.load.followed(idle=True)
        loading.clock.advance(1)
        assert loading.found == [(1, "a", NEWS), (101, "b", NEWS)]
        loading.load.followed(idle=True)

    def test_entry_that_is_skipped(self) -> None:
        """
        A row of an entry that is not followed, between entries that are, is skipped: positions must grow.
        """
        loading = Loading()
        loading.page(row(1, "a"), row(103, "lost"), last=104)
        loading.follow(102, "b")
        loading.follow(104, "c")
        loading.clock.advance(1)
        assert loading.found == [(1, "a", NEWS), (102, "b", NEWS), (104, "c", NEWS)]

    def test_time(self) -> None:
        """
        A followed update expires by the time at which it was stored.
        """
        loading = Loading()
        kept = update("1", retention=Retention("a", 10))
        loading.load.apply(101, kept, -4.0)
        loading.head = 101
        loading.page(last=101)
        loading.clock.advance(5.9)
        assert [key for _, key, _ in loading.found] == ["a"]
        loading.clock.advance(0.1)
        assert loading.found == []


class CancelTests:
    @pytest.mark.parametrize("when", ["scanning", "following", "building"])
    def test_cancelled(self, when: str) -> None:
        """
        A load can be cancelled at any time.
        """
        loading = Loading()
        if when != "scanning":
            loading.page(row(1, "a"), last=101 if when == "following" else 100)
        loading.work.cancel()
        (error,) = loading.outcome
        assert isinstance(error, CancelledError)
        assert loading.clock.getDelayedCalls() == []

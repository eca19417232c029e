"""
Tests of the retained updates in memory: their limits, their time, their pages, and that their memory is
bounded.
"""

from __future__ import annotations

import math
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.hub.fakes import result_of
from txsse import NotRetained, RetainedFull, Update
from txsse.journal import retained_updates as module
from txsse.journal.retained import IRetained, Retained, RetainedPage
from txsse.journal.retained_index import GONE
from txsse.journal.retained_updates import RetainedUpdates
from txsse.testing.journal_contract.retained_subject import make_removal, make_retained
from txsse.testing.journal_contract.subject import make_update


class Store(RetainedUpdates):
    """
    Retained updates with a clock that the test sets.

    :ivar time: the time, in seconds.
    :ivar position: the position of the newest update.
    """

    def __init__(self, **bounds: int) -> None:
        self.time = 0.0
        self.position = 0
        super().__init__(lambda: self.time, **bounds)

    def add(self, *updates: Update) -> None:
        """
        Apply updates, or raise why they are refused.
        """
        refused = self.refusal(updates)
        if refused is not None:
            raise refused
        for update in updates:
            self.position += 1
            self.apply(self.position, update)

    def keys(self, *topics: str, after: int = 0) -> list[str]:
        """
        Return the keys under some topics, or under all, in the order of their positions.
        """
        return [row.key for row in self.rows(*topics, after=after)]

    def rows(self, *topics: str, after: int = 0) -> list[Retained]:
        found: list[Retained] = []
        while True:
            page = self.read_now(topics or None, after, self.position)
            found += [row for _, row in page.entries]
            after = page.end
            if after >= self.position:
                return found

    def check_lengths(self) -> None:
        """
        Check that no list, index or heap is much longer than the number of retained updates.
        """
        gone = GONE
        assert len(self._positions) <= 2 * len(self._rows) + gone + 1
        assert len(self._expiries) <= 2 * len(self._rows) + gone + 1
        assert sum(len(each.keys) for each in self._topics.values()) == self._count
        assert all(each.keys for each in self._topics.values())
        assert all(len(each.positions) <= 2 * len(each.keys) + gone + 1 for each in self._topics.values())
        assert set(self._owned) == {row.owner for row in self._rows.values()} - {None}


class LimitTests:
    def test_interface(self) -> None:
        """
        The retained updates in memory provide IRetained, and by default hold 100,000 with 64 MiB.
        """
        store = Store()
        verifyObject(IRetained, store)
        assert (store.max_count, store.max_bytes) == (100_000, 2**26)
        assert store.is_empty

    def test_count(self) -> None:
        """
        A new key over the maximum number is refused with both limits; one that is retained is replaced.
        """
        store = Store(max_count=2)
        store.add(make_retained("1", "a"), make_retained("2", "b"))
        with pytest.raises(
            RetainedFull, match="at most 2 updates with 67108864 bytes, and has no room"
        ) as caught:
            store.add(make_retained("3", "c"))
        assert (caught.value.max_count, caught.value.max_bytes) == (2, 2**26)
        store.add(make_retained("4", "a", "longer"))
        assert store.keys() == ["b", "a"]

    def test_size_to_the_byte(self) -> None:
        """
        An update is retained if all have exactly the maximum size, and refused for one byte more.
        """
        size = Store()
        size.add(make_retained("1", "ü", "x", ("a", "ü")))
        assert size.size == 2 * (len(b"data: x\n\n") + 4 + 800) + 1 + 2
        Store(max_bytes=size.size).add(make_retained("1", "ü", "x", ("a", "ü")))
        with pytest.raises(RetainedFull):
            Store(max_bytes=size.size - 1).add(make_retained("1", "ü", "x", ("a", "ü")))

    def test_growing_row(self) -> None:
        """
        An update that is longer than the one that it replaces needs room; one of the same or a smaller size
        never does, even over the limit.
        """
        store = Store(max_bytes=1700)
        store.add(make_retained("1", "a", "x" * 20), make_retained("2", "b", "x" * 20))
        with pytest.raises(RetainedFull):
            store.add(make_retained("3", "a", "x" * 100))
        store.max_bytes = 1000
        with pytest.raises(RetainedFull):
            store.add(make_retained("4", "a", "x" * 21))
        store.add(make_retained("5", "a", "y" * 20), make_retained("6", "b", "x"))
        assert store.keys() == ["a", "b"]

    def test_lowered_maximum(self) -> None:
        """
        With more updates than the maximum, as after a restart with a lower one, keys are replaced and
        removed, and new ones refused.
        """
        store = Store()
        store.add(*(make_retained(str(number), str(number)) for number in range(5)))
        store.max_count = 2
        store.add(make_retained("a", "0", "y"), make_removal("b", "1"))
        with pytest.raises(RetainedFull):
            store.add(make_retained("c", "1"))
        assert store.keys() == ["2", "3", "4", "0"]

    def test_several_topics(self) -> None:
        """
        An update needs room under each topic under which its key is new.
        """
        store = Store(max_count=3)
        store.add(make_retained("1", "a", topics=("a", "b")))
        with pytest.raises(RetainedFull):
            store.add(make_retained("2", "a", topics=("a", "c", "d")))
        store.add(make_retained("3", "a", topics=("b", "c")))
        assert [row.topics for row in store.rows()] == [("a",), ("b", "c")]
        assert store.count == 3

    def test_batch(self) -> None:
        """
        The updates of a batch are counted in their order, as if those before were retained; without
        retention, they count nothing.
        """
        store = Store(max_count=1)
        assert store.refusal([]) is None
        refused = store.refusal([make_retained("1", "a"), make_retained("2", "b"), make_removal("3", "a")])
        assert isinstance(refused, RetainedFull)
        store.add(make_update("0"), make_retained("1", "a"), make_removal("2", "a"), make_retained("3", "b"))
        assert store.keys() == ["b"]
        assert (
            store.refusal([make_removal("4", "b"), make_retained("5", "a"), make_retained("6", "a")]) is None
        )
        assert isinstance(store.refusal([make_removal("4", "b"), make_removal("5", "b")]), NotRetained)
        size = store.size
        store.max_bytes = size + 10
        assert store.refusal([make_retained("7", "b", "x" * 11)]) is None
        grows = [make_retained("7", "b", "x" * 6), make_retained("8", "b", "x" * 12)]
        assert isinstance(store.refusal(grows), RetainedFull)
        assert (store.count, store.size) == (1, size)

    def test_not_retained(self) -> None:
        """
        A removal needs a key that is retained under one of its topics; the error names key and topics.
        """
        store = Store()
        store.add(make_retained("1", "a", topics=("x", "y")))
        with pytest.raises(NotRetained, match="no update with the key 'a' is retained under z, w") as caught:
            store.add(make_removal("2", "a", ("z", "w")))
        assert (caught.value.topics, caught.value.key) == (("z", "w"), "a")
        assert isinstance(caught.value, LookupError)
        store.add(make_removal("3", "a", ("z", "y")))
        assert [row.topics for row in store.rows()] == [("x",)]

    def test_change(self) -> None:
        """
        The position of the newest change is that of an update that retains or removes.
        """
        store = Store()
        store.add(make_retained("1", "a"), make_update("2"))
        assert store.changed_at == 1
        store.add(make_removal("3", "a"), make_update("4"))
        assert (store.changed_at, store.position) == (3, 4)


class OwnerTests:
    def test_owned(self) -> None:
        """
        Updates are counted by their owners, under each topic, until they are replaced, removed or expire.
        """
        store = Store()
        store.add(
            make_retained("1", "a", topics=("x", "y"), owner="me"),
            make_retained("2", "b", owner="me", seconds=5),
            make_retained("3", "c", owner="other"),
        )
        assert (store.owned("me"), store.owned("other"), store.owned("no")) == (3, 1, 0)
        store.add(make_retained("4", "a", topics="x", owner="other"))
        assert (store.owned("me"), store.owned("other")) == (2, 2)
        store.add(make_removal("5", "a", "y"))
        assert store.owned("me") == 1
        store.time = 5
        assert store.owned("me") == 0
        store.check_lengths()


class ExpiryTests:
    def test_exact_time(self) -> None:
        """
        An update is retained until exactly its time.
        """
        store = Store()
        store.add(make_retained("1", "a", seconds=10))
        store.time = math.nextafter(10, 0)
        assert store.find("news", "a") is not None
        assert (store.keys(), list(store.topics())) == (["a"], ["news"])
        store.time = 10
        assert store.find("news", "a") is None
        assert (store.keys(), list(store.topics()), store.count, store.size) == ([], [], 0, 0)

    @pytest.mark.parametrize("seconds", [None, 100])
    def test_replaced(self, seconds: float | None) -> None:
        """
        The time of an update that was replaced or removed does not count.
        """
        store = Store()
        store.add(make_retained("1", "a", seconds=10), make_retained("2", "b", seconds=10))
        store.add(make_retained("3", "a", seconds=seconds), make_removal("4", "b"))
        store.add(make_retained("5", "b", seconds=seconds))
        store.time = 10
        assert store.keys() == ["a", "b"]

    def test_under_one_topic(self) -> None:
        """
        An update that was replaced under one of its topics expires under the others.
        """
        store = Store()
        store.add(make_retained("1", "a", topics=("x", "y", "z"), seconds=10))
        store.add(make_retained("2", "a", topics="y"))
        store.time = 10
        assert [row.topics for row in store.rows()] == [("y",)]
        assert store.count == 1

    def test_makes_room(self) -> None:
        """
        Expired updates make room, and cannot be removed.
        """
        store = Store(max_count=2)
        store.add(make_retained("1", "a", seconds=10), make_retained("2", "b"))
        store.time = 10
        with pytest.raises(NotRetained):
            store.add(make_removal("3", "a"))
        store.add(make_retained("4", "c"))
        with pytest.raises(RetainedFull):
            store.add(make_retained("5", "d"))
        assert store.keys() == ["b", "c"]

    def test_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Of many updates that expire together, each call drops some; none of them is found or read, and all
        make room.
        """
        monkeypatch.setattr(module, "_STEP", 10)
        store = Store(max_count=101)
        store.add(*(make_retained(str(each), str(each), seconds=10) for each in range(100)))
        store.add(make_retained("last", "last"))
        store.time = 10
        assert store.keys() == ["last"]
        assert len(store._rows) == 91
        assert store.find("news", "99") is None
        assert len(store._rows) == 81
        assert (store.count, len(store._rows)) == (71, 71)
        with pytest.raises(NotRetained):
            store.add(make_removal("no", "99"))
        store.add(*(make_retained(f"new {each}", f"new {each}") for each in range(100)))
        assert store.count == 101
        assert isinstance(store.refusal([make_retained("more", "more")]), RetainedFull)
        store.check_lengths()

    def test_removed_before_it_was_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An expired update that has not been dropped yet can be replaced, which counts it once.
        """
        monkeypatch.setattr(module, "_STEP", 1)
        store = Store(max_count=3)
        store.add(*(make_retained(key, key, seconds=10) for key in "abc"))
        store.time = 10
        store.add(make_retained("new", "c"))
        store.time = 20
        assert (store.keys(), store.keys(), store.count) == (["c"], ["c"], 1)


class ReadTests:
    def test_pages(self) -> None:
        """
        A page has at most 256 updates, or ends with the update that reaches 64 KiB.
        """
        store = Store()
        store.add(*(make_retained(str(each), str(each)) for each in range(300)))
        page = result_of(store.read(None, 0, 300))
        assert (len(page.entries), page.end) == (256, 256)
        page = result_of(store.read(None, 256, 300))
        assert (len(page.entries), page.end) == (44, 300)
        frame = len(b"data: \n\n")
        for size, count in ((32768, 2), (32767, 3), (100_000, 1)):
            store = Store()
            store.add(*(make_retained(each, each, "x" * (size - frame)) for each in "abcd"))
            page = store.read_now({"news"}, 0, 4)
            assert (len(page.entries), page.end) == (count, count)

    def test_positions(self) -> None:
        """
        A page has the updates after a position, up to another one, and ends there.
        """
        store = Store()
        store.add(*(make_retained(key, key, topics="ab"[index % 2]) for index, key in enumerate("abcdef")))
        for topics in (None, {"a", "b"}):
            page = store.read_now(topics, 2, 4)
            assert ([row.key for _, row in page.entries], page.end) == (["c", "d"], 4)
        assert store.read_now(None, 6, 100) == RetainedPage([], 100)
        assert store.read_now({"a"}, 5, 6) == RetainedPage([], 6)

    def test_topics(self) -> None:
        """
        An update under several of the wanted topics is read once; positions that are no longer used, because
        the update was replaced under one topic or all, are skipped.
        """
        store = Store()
        store.add(make_retained("1", "a", topics=("x", "y", "z")), make_retained("2", "b", topics="x"))
        assert store.keys("x", "y") == ["a", "b"]
        assert (store.keys("no"), store.keys("no", "z")) == ([], ["a"])
        store.add(make_retained("3", "a", topics="x"))
        assert store._topics["x"].positions == [1, 2, 3]
        assert store.keys("x") == ["b", "a"]
        assert [(row.position, row.topics) for row in store.rows("x", "y")] == [
            (1, ("y", "z")),
            (2, ("x",)),
            (3, ("x",)),
        ]
        store.add(make_removal("4", "a", ("y", "z")))
        assert store.keys("x", "y") == ["b", "a"]
        assert set(store.topics()) == {"x"}


class MemoryTests:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("count", "seconds", "others"),
        [(10_000, None, 0), (10_000, None, 3), (10_000, 1000, 0), (1_000_000, 1000, 3)],
    )
    def test_one_key_updated_often(self, count: int, seconds: float | None, others: int) -> None:
        """
        When one key is updated a million times, the lists of positions and the heap stay short.
        """
        store = Store()
        for key in range(others):
            store.add(make_retained(str(key), str(key), seconds=seconds))
        update = make_retained("x", "x", seconds=seconds)
        for number in range(count):
            store.apply(others + number + 1, update)
            if number < 1000 or number % 1000 == 0:
                store.check_lengths()
        store.check_lengths()
        store.position = others + count
        assert store.keys("news") == [*map(str, range(others)), "x"]
        assert (store.count, store.rows()[-1].position) == (others + 1, others + count)

    def test_topics_that_come_and_go(self) -> None:
        """
        A topic under which nothing is retained any more, and an owner of none, are forgotten.
        """
        store = Store()
        for number in range(1000):
            store.add(make_retained(f"{number}", "a", topics=f"{number}", owner=f"{number}", seconds=1000))
            store.add(make_removal(f"-{number}", "a", f"{number}"))
            store.check_lengths()
        assert (list(store.topics()), store.is_empty, store.size) == ([], True, 0)

    @pytest.mark.parametrize("topics", [None, ["news"]])
    def test_newcomer_after_many_replacements(self, topics: list[str] | None) -> None:
        """
        The first page does not step over the positions of updates that were replaced.
        """

        class Counted(list[int]):
            reads = 0

            def __getitem__(self, index: Any) -> Any:
                Counted.reads += 1
                return super().__getitem__(index)

        store = Store()
        for key in (*range(110), *range(1, 100)):
            store.add(make_retained(f"{key}", f"{key}"))
        store._positions = Counted(store._positions)
        store._topics["news"].positions = Counted(store._topics["news"].positions)
        expected = ["0", *map(str, range(100, 110)), *map(str, range(1, 100))]
        page = store.read_now(topics, 0, store.position)
        assert [row.key for _, row in page.entries] == expected
        assert Counted.reads == 0
        page = store.read_now(topics, 1, store.position)
        assert [row.key for _, row in page.entries] == expected[1:]
        assert Counted.reads > 0

    @pytest.mark.slow
    def test_many_topics(self) -> None:
        """
        An update with 20,000 topics is replaced, restored and dropped in a time that grows with their number,
        not with its square.
        """
        topics = tuple(map(str, range(20_000)))
        store = Store(max_bytes=10**9)
        begun = perf_counter()
        store.add(make_retained("1", "a", topics=topics))
        store.add(make_retained("2", "a", topics=topics, seconds=10))
        (row,) = store.rows()
        store.restore((replace(row, topics=(topic,)) for topic in topics), 2)
        assert store.count == 20_000
        store.time = 10
        assert store.keys() == []
        # With the square, it took more than a minute.
        assert perf_counter() - begun < 10


class RestoreTests:
    def row(self, position: int, topic: str, key: str, **options: object) -> Retained:
        row = Retained(position, (topic,), False, key, None, math.inf, b"data: x\n\n")
        return replace(row, **options)  # type: ignore[arg-type]

    def test_rows(self) -> None:
        """
        Rows are restored in any order; those with one position are one update under several topics. They
        replace all that was retained before.
        """
        store = Store()
        store.add(make_retained("1", "old", owner="me", seconds=5), make_update("2"))
        store.restore(
            iter(
                [
                    self.row(7, "b", "k", private=True, owner="you"),
                    self.row(3, "a", "other", expires=10.0),
                    self.row(7, "a", "k", private=True, owner="you"),
                ]
            ),
            9,
        )
        store.position = 9
        assert store.rows() == [
            self.row(3, "a", "other", expires=10.0),
            self.row(7, "b", "k", topics=("b", "a"), private=True, owner="you"),
        ]
        assert (store.count, store.changed_at, store.owned("you"), store.owned("me")) == (3, 9, 2, 0)
        assert store.size == sum((row.size + 1) * len(row.topics) for row in store.rows())
        assert store.keys("a") == ["other", "k"]
        store.check_lengths()
        store.time = 10
        assert store.keys() == ["k"]
        store.add(make_retained("10", "k", topics="a"))
        assert [row.topics for row in store.rows()] == [("b",), ("a",)]

    def test_nothing(self) -> None:
        """
        Without rows, nothing is retained.
        """
        store = Store()
        store.add(make_retained("1", "a", seconds=5, owner="me"))
        store.restore([], 5)
        assert (store.is_empty, store.count, store.size, store.changed_at) == (True, 0, 0, 5)
        assert (list(store.topics()), store.owned("me"), store.keys()) == ([], 0, [])


Key = tuple[str, str]

# An update: its topics, its key, its data, its time and its owner; `None` as the data for a removal.
UPDATES = st.tuples(
    st.lists(st.sampled_from("abc"), min_size=1, unique=True),
    st.sampled_from("xyz"),
    st.none() | st.sampled_from(["", "1", "long" * 20]),
    st.none() | st.integers(1, 5),
    st.none() | st.sampled_from(["me", "you"]),
)
STEPS = st.one_of(
    st.lists(UPDATES, min_size=1, max_size=4),
    st.integers(1, 5).map(float),
    st.just("restore"),
)


class Model:
    """
    Retained updates in a plain dict.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self.max_count = max_count
        self.max_bytes = max_bytes
        self.time = 0.0
        self.rows: dict[Key, Retained] = {}

    def size(self) -> int:
        return sum(row.size + len(topic) for (topic, _), row in self.rows.items())

    def expire(self) -> None:
        self.rows = {name: row for name, row in self.rows.items() if row.expires > self.time}

    def refuses(self, position: int, updates: list[Update]) -> type[Exception] | None:
        before = dict(self.rows)
        for update in updates:
            position += 1
            assert update.retention is not None
            names = [(topic, update.retention.key) for topic in update.topics]
            held = {name: self.rows.pop(name).size for name in names if name in self.rows}
            if update.unretains:
                refused: type[Exception] | None = None if held else NotRetained
            else:
                seconds = update.retention.seconds
                row = Retained(
                    position,
                    update.topics,
                    update.private,
                    update.retention.key,
                    update.retention.owner,
                    math.inf if seconds is None else self.time + seconds,
                    update.frame_without_id,
                )
                self.rows.update(dict.fromkeys(names, row))
                too_many = len(held) < len(names) and len(self.rows) > self.max_count
                grows = any(row.size > held.get(name, 0) for name in names)
                refused = RetainedFull if too_many or (grows and self.size() > self.max_bytes) else None
            if refused is not None:
                self.rows = before
                return refused
        return None

    def find(self, topic: str, key: str) -> Retained | None:
        row = self.rows.get((topic, key))
        if row is None:
            return None
        return replace(row, topics=tuple(each for each in row.topics if self.rows.get((each, key)) is row))

    def read(self, topics: set[str] | None, after: int, up_to: int) -> list[tuple[int, Retained]]:
        found = {
            row.position: self.find(topic, key)
            for (topic, key), row in self.rows.items()
            if topics is None or topic in topics
        }
        return [(each, row) for each, row in sorted(found.items()) if row and after < each <= up_to]


class ModelTests:
    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(
        steps=st.lists(STEPS, max_size=30),
        max_count=st.integers(1, 9),
        max_bytes=st.integers(800, 8000),
        wanted=st.sets(st.sampled_from("abcd")),
    )
    def test_model(
        self,
        steps: list[list[tuple[list[str], str, str | None, int | None, str | None]] | float | str],
        max_count: int,
        max_bytes: int,
        wanted: set[str],
    ) -> None:
        """
        Whatever is published, the retained updates agree with a plain dict: refusals, counts, pages, owners.
        """
        store, model = Store(max_count=max_count, max_bytes=max_bytes), Model(max_count, max_bytes)
        for step in steps:
            if isinstance(step, float):
                store.time = model.time = store.time + step
                model.expire()
            elif isinstance(step, str):
                rows = [replace(row, topics=(topic,)) for row in store.rows() for topic in row.topics]
                store.restore(reversed(rows), store.position)
                assert [row.position for row in store.rows()] == sorted({row.position for row in rows})
                # The order of an update's topics is that of its rows.
                model.rows = {(topic, row.key): row for row in store.rows() for topic in row.topics}
            else:
                updates = [
                    make_removal("1", key, tuple(topics))
                    if data is None
                    else make_retained("1", key, data, tuple(topics), seconds=seconds, owner=owner)
                    for topics, key, data, seconds, owner in step
                ]
                refused = store.refusal(updates)
                expected = model.refuses(store.position, updates)
                assert (None if refused is None else type(refused)) is expected
                if expected is None:
                    for update in updates:
                        store.position += 1
                        store.apply(store.position, update)
            self.check(store, model, wanted)

    def check(self, store: Store, model: Model, wanted: set[str]) -> None:
        assert (store.count, store.size) == (len(model.rows), model.size())
        assert store.is_empty == (not model.rows)
        assert set(store.topics()) == {topic for topic, _ in model.rows}
        for owner in ("me", "you"):
            assert store.owned(owner) == sum(row.owner == owner for row in model.rows.values())
        for topic, key in [(topic, key) for topic in "abcd" for key in "xyz"]:
            assert store.find(topic, key) == model.find(topic, key)
        middle = store.position // 2
        for topics in (None, wanted):
            for after, up_to in ((0, store.position), (middle, store.position), (0, middle)):
                page = store.read_now(topics, after, up_to)
                assert page == RetainedPage(model.read(topics, after, up_to), up_to)
        store.check_lengths()

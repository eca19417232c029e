"""
Tests of the journal in memory.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import pytest_twisted

from tests.fakes import FakeReactor
from tests.journal.journals import Subject, memory, update
from txsse import MemoryJournal, NotRetained, RetainedFull
from txsse.journal import memory as journal_module
from txsse.journal import window as recent_module
from txsse.journal.position import OLDEST
from txsse.testing.journal_contract.retained_subject import make_removal, make_retained


class MemoryJournalTests:
    def test_not_started(self) -> None:
        """
        The use of a memory journal that has not been started raises an error that says so.
        """
        with pytest.raises(AssertionError, match="has not been started"):
            MemoryJournal().find("1")

    @pytest.mark.parametrize(
        "name", ["max_count", "max_bytes", "max_age", "max_retained", "max_retained_bytes"]
    )
    @pytest.mark.parametrize("bound", [0, -1, float("nan")])
    def test_limit_of_zero_or_less(self, name: str, bound: float) -> None:
        """
        A limit of a journal that is not greater than 0 raises an error with its name.
        """
        bounds: dict[str, Any] = {name: bound}
        with pytest.raises(ValueError, match=f"{name} must be more than 0, not {bound}"):
            MemoryJournal(**bounds)

    @pytest.mark.parametrize("name", ["max_retained", "max_retained_bytes"])
    @pytest.mark.parametrize("bound", ["7", None, True])
    def test_limit_of_wrong_type(self, name: str, bound: Any) -> None:
        """
        A limit of retained updates that is not a number raises TypeError with its name.
        """
        with pytest.raises(TypeError, match=f"{name} must be a number, not "):
            MemoryJournal(**{name: bound})

    @pytest_twisted.ensureDeferred
    async def test_smallest_limits(self) -> None:
        """
        A memory journal accepts limits of one update and a millisecond.
        """
        subject = memory(max_count=1, max_bytes=10_000, max_age=0.001)
        await subject.start()
        await subject.append("1", "2")
        assert await subject.ids_after(OLDEST) == ["2"]

    @pytest.mark.slow
    @pytest_twisted.ensureDeferred
    async def test_default_limits(self) -> None:
        """
        By default a memory journal holds 10,000 updates, for a day.
        """
        reactor = FakeReactor()
        journal = MemoryJournal(reactor=reactor)
        subject = Subject(journal, reactor.advance)
        await subject.start()
        await subject.append(*map(str, range(10_000)))
        assert await subject.find("0") == 1
        await subject.append("last")
        assert await subject.find("0") is None
        assert await subject.find("1") == 2
        reactor.advance(24 * 3600 - 1)
        assert await subject.find("1") == 2
        reactor.advance(1)
        assert await subject.find("last") is None

    @pytest_twisted.ensureDeferred
    async def test_default_bytes(self) -> None:
        """
        By default a memory journal holds about 64 MiB.
        """
        subject = Subject(MemoryJournal(reactor=FakeReactor()), lambda _: None)
        await subject.start()
        ids = [str(number) for number in range(80)]
        await subject.append(*ids, data="x" * 2**20)
        assert 20 <= len(await subject.ids_after(OLDEST)) <= 64

    @pytest_twisted.ensureDeferred
    async def test_positions(self) -> None:
        """
        The positions in a memory journal are consecutive, from 1.
        """
        subject = memory(max_count=1)
        await subject.start()
        assert await subject.append("a", "b", "c") == [1, 2, 3]

    @pytest_twisted.ensureDeferred
    async def test_clock_set_forward(self) -> None:
        """
        The age of an update in memory is the time elapsed, even if the time of day is set forward.
        """
        subject = memory(max_age=60.0)
        await subject.start()
        await subject.append("1")
        subject.step(3600)
        assert await subject.ids_after(OLDEST) == ["1"]
        subject.advance(60)
        assert await subject.ids_after(OLDEST) == []

    @pytest_twisted.ensureDeferred
    async def test_exact_age(self) -> None:
        """
        A memory journal holds an update until exactly max_age.
        """
        subject = memory(max_age=60.0)
        await subject.start()
        await subject.append("1")
        subject.advance(59.5)
        assert await subject.find("1") == 1
        subject.advance(0.5)
        assert await subject.find("1") is None

    @pytest_twisted.ensureDeferred
    async def test_append_after_max_age(self) -> None:
        """
        An append to a memory journal drops updates that are too old.
        """
        subject = memory(max_age=60.0)
        await subject.start()
        await subject.append("1")
        subject.advance(60)
        await subject.append("2")
        assert list(subject.journal._recent._positions) == ["2"]

    @pytest_twisted.ensureDeferred
    async def test_ids_are_forgotten(self) -> None:
        """
        A memory journal removes an id from its indexes when the last update with it is dropped.
        """
        subject = memory(max_count=3)
        await subject.start()
        for data in "abcabc":
            await subject.append("1", data=data)
        recent = subject.journal._recent
        assert (recent._positions, dict(recent._later), recent._begun_before) == (
            {"1": 4},
            {"1": deque([5, 6])},
            {"1"},
        )
        await subject.append("2", "3", "4")
        assert (list(recent._positions), recent._later, recent._begun_before) == (["2", "3", "4"], {}, set())

    @pytest_twisted.ensureDeferred
    async def test_exact_bytes(self) -> None:
        """
        A memory journal counts an update's text twice, as given and as sent, and an overhead for its objects.
        """
        frame = update("1").frame
        size = 2 * len(frame) + recent_module._OVERHEAD
        for max_bytes, kept in ((2 * size, ["1", "2"]), (2 * size - 1, ["2"])):
            subject = memory(max_bytes=max_bytes)
            await subject.start()
            await subject.append("1", "2")
            assert await subject.ids_after(OLDEST) == kept

    @pytest_twisted.ensureDeferred
    async def test_bytes_of_dropped_updates(self) -> None:
        """
        Dropped updates no longer count toward the max_bytes of a memory journal.
        """
        size = 2 * len(update("1").frame) + recent_module._OVERHEAD
        subject = memory(max_bytes=3 * size)
        await subject.start()
        for number in range(9):
            await subject.append(str(number))
            assert len(await subject.ids_after(OLDEST)) == min(number + 1, 3)

    @pytest_twisted.ensureDeferred
    async def test_page_of_many(self) -> None:
        """
        A page of a memory journal has at most 256 updates.
        """
        subject = memory()
        await subject.start()
        await subject.append(*map(str, range(300)))
        page = await subject.read(0)
        assert (len(page.entries), page.end) == (256, 256)
        page = await subject.read(256)
        assert (len(page.entries), page.end) == (44, 300)

    @pytest_twisted.ensureDeferred
    async def test_page_of_large_ones(self) -> None:
        """
        A page of a memory journal ends with the update that reaches 64 KiB.
        """
        frame = len(update("1").frame) - 1
        for size, count in ((65536 // 2, 2), (65536 // 2 - 1, 3), (100_000, 1)):
            subject = memory()
            await subject.start()
            await subject.append("1", "2", "3", "4", data="x" * (size - frame))
            assert len((await subject.read(0)).entries) == count

    @pytest_twisted.ensureDeferred
    async def test_page_to_the_byte(self) -> None:
        """
        A page of a memory journal has another update if its size is one byte less than 64 KiB.
        """
        frame = len(update("1").frame) - 1
        for second, count in ((32768, 2), (32767, 3)):
            subject = memory()
            await subject.start()
            await subject.append("1", data="x" * (32768 - frame))
            await subject.append("2", data="x" * (second - frame))
            await subject.append("3")
            assert len((await subject.read(0)).entries) == count

    @pytest_twisted.ensureDeferred
    async def test_compaction(self) -> None:
        """
        A memory journal compacts its list after updates are dropped, and positions do not change.
        """
        subject = memory(max_count=10)
        await subject.start()
        for number in range(1, 1001):
            await subject.append(str(number))
            assert len(subject.journal._recent._entries) <= 10 + recent_module._GONE_ENTRIES + 1
            assert await subject.find(str(number)) == number
            assert await subject.ids_after(number - 1) == [str(number)]

    @pytest_twisted.ensureDeferred
    async def test_without_a_reactor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A memory journal without a reactor uses the global one, which it gets at its start, not before.
        """
        reactor = FakeReactor()
        fetched: list[FakeReactor] = []

        def fetch() -> FakeReactor:
            fetched.append(reactor)
            return reactor

        monkeypatch.setattr(journal_module, "global_reactor", fetch)
        journal = MemoryJournal(max_age=60.0)
        assert fetched == []
        subject = Subject(journal, reactor.advance)
        await subject.start()
        assert fetched == [reactor]
        await subject.append("1")
        reactor.advance(60)
        assert await subject.find("1") is None


class RetainedTests:
    @pytest_twisted.ensureDeferred
    async def test_refused(self) -> None:
        """
        A refused update is neither recorded nor retained, and the next one gets the next position.
        """
        subject = memory(max_retained=1)
        follower = await subject.start()
        await subject.journal.append(make_retained("1", "a"))
        for refused, error in (
            (make_retained("2", "b"), RetainedFull),
            (make_removal("3", "b"), NotRetained),
        ):
            with pytest.raises(error):
                await subject.journal.append(refused)
            with pytest.raises(error):
                await subject.journal.append_many([update("4"), refused, make_removal("5", "a")])
        assert await subject.append("6") == [2]
        assert [each.id for _, each in follower.given] == ["1", "6"]
        assert [row.key for _, row in subject.journal.retained.read_now(None, 0, 2).entries] == ["a"]

    @pytest_twisted.ensureDeferred
    async def test_repetition(self) -> None:
        """
        An update that is a no-op retains and removes nothing, and is not refused.
        """
        subject = memory(max_retained=1)
        await subject.start()
        removal = make_removal("2", "a")
        retained = make_retained("1", "a")
        assert await subject.journal.append(retained) == 1
        assert await subject.journal.append(removal) == 2
        assert await subject.journal.append(make_retained("3", "b")) == 3
        assert await subject.journal.append(retained) == 1
        assert await subject.journal.append(removal) == 2
        assert await subject.journal.append_many([retained, removal, retained]) == [1, 2, 1]
        assert subject.journal.retained.find("news", "b") is not None
        assert subject.journal.retained.count == 1

    @pytest_twisted.ensureDeferred
    async def test_repetitions_in_a_batch(self) -> None:
        """
        In a batch, an update that is equal to the newest before it with its ID is a no-op; of A, B, B and A
        with one ID, three are recorded and retained.
        """
        subject = memory()
        follower = await subject.start()
        await subject.append("0")
        abba = [make_retained("1", "a", data) for data in "ABBA"]
        batch = [update("0"), *abba, update("0"), make_removal("2", "a"), make_removal("2", "a"), update("3")]
        assert await subject.journal.append_many(batch) == [1, 2, 3, 3, 4, 1, 5, 5, 6]
        assert [position for position, _ in follower.given] == [1, 2, 3, 4, 5, 6]
        assert subject.journal.retained.is_empty
        assert await subject.journal.append_many([update("0"), abba[1]]) == [1, 7]
        assert subject.journal.retained.find("news", "a").frame == b"data: B\n\n"
        assert await subject.journal.append_many([update("0", "other"), update("0")]) == [8, 9]

    @pytest_twisted.ensureDeferred
    async def test_repetition_of_a_dropped_update(self) -> None:
        """
        A batch that is larger than max_count keeps its repetitions as no-ops, and the limit of retained
        updates.
        """
        subject = memory(max_count=2, max_retained=1)
        await subject.start()
        await subject.append("0")
        first = make_retained("1", "a")
        batch = [update("0"), first, make_removal("2", "a"), make_retained("3", "b"), update("4"), first]
        assert await subject.journal.append_many([*batch, update("0")]) == [1, 2, 3, 4, 5, 2, 1]
        assert subject.journal.retained.count == 1
        assert await subject.ids_after(OLDEST) == ["3", "4"]

    @pytest_twisted.ensureDeferred
    async def test_expiry_during_a_batch(self) -> None:
        """
        A batch is recorded as a whole, even if an update that it removes expires while it is recorded.
        """
        subject = memory()
        follower = await subject.start()
        await subject.journal.append(make_retained("1", "a", seconds=10))
        follower.update_appended = lambda entry: subject.advance(10)  # type: ignore[method-assign]
        batch = [make_retained("2", "b", seconds=5), make_removal("3", "a"), make_removal("4", "b")]
        assert await subject.journal.append_many(batch) == [2, 3, 4]
        assert subject.journal.retained.count == 0

    def test_not_started(self) -> None:
        """
        A batch for a memory journal that has not been started raises an error that says so.
        """
        with pytest.raises(AssertionError, match="has not been started"):
            MemoryJournal().append_many([make_retained("1", "a")])

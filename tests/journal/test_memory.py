"""
The journal in memory.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import pytest_twisted

from tests.fakes import FakeReactor
from tests.journal.journals import Subject, memory, update
from txsse import MemoryJournal
from txsse.journal import memory as journal_module
from txsse.journal import window as recent_module
from txsse.journal.position import OLDEST


class MemoryJournalTests:
    def test_not_started(self) -> None:
        """
        One that has not been started says so.
        """
        with pytest.raises(AssertionError, match="has not been started"):
            MemoryJournal().find("1")

    @pytest.mark.parametrize("name", ["max_count", "max_bytes", "max_age"])
    @pytest.mark.parametrize("bound", [0, -1, float("nan")])
    def test_bound_that_holds_nothing(self, name: str, bound: float) -> None:
        """
        It is refused by its name.
        """
        bounds: dict[str, Any] = {name: bound}
        with pytest.raises(ValueError, match=f"{name} must be more than 0, not {bound}"):
            MemoryJournal(**bounds)

    @pytest_twisted.ensureDeferred
    async def test_smallest_bounds(self) -> None:
        """
        One of each is a bound too.
        """
        subject = memory(max_count=1, max_bytes=10_000, max_age=0.001)
        await subject.start()
        await subject.append("1", "2")
        assert await subject.ids_after(OLDEST) == ["2"]

    @pytest_twisted.ensureDeferred
    async def test_usual_bounds(self) -> None:
        """
        They are 10,000 updates, and a day.
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
    async def test_usual_bytes(self) -> None:
        """
        And some 64 MiB of memory.
        """
        subject = Subject(MemoryJournal(reactor=FakeReactor()), lambda _: None)
        await subject.start()
        ids = [str(number) for number in range(80)]
        await subject.append(*ids, data="x" * 2**20)
        assert 20 <= len(await subject.ids_after(OLDEST)) <= 64

    @pytest_twisted.ensureDeferred
    async def test_positions(self) -> None:
        """
        They are consecutive, from 1.
        """
        subject = memory(max_count=1)
        await subject.start()
        assert await subject.append("a", "b", "c") == [1, 2, 3]

    @pytest_twisted.ensureDeferred
    async def test_clock_set_forward(self) -> None:
        """
        The age of an update in memory is what has elapsed, whatever the time of day becomes.
        """
        subject = memory(max_age=60.0)
        await subject.start()
        await subject.append("1")
        subject.step(3600)
        assert await subject.ids_after(OLDEST) == ["1"]
        subject.advance(60)
        assert await subject.ids_after(OLDEST) == []

    @pytest_twisted.ensureDeferred
    async def test_age_to_the_second(self) -> None:
        """
        An update goes when it is max_age old, and is there until then.
        """
        subject = memory(max_age=60.0)
        await subject.start()
        await subject.append("1")
        subject.advance(59.5)
        assert await subject.find("1") == 1
        subject.advance(0.5)
        assert await subject.find("1") is None

    @pytest_twisted.ensureDeferred
    async def test_nothing_old_is_read_or_kept_when_something_comes(self) -> None:
        """
        An append makes room too.
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
        Nothing is kept of an id whose last update is gone.
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
    async def test_bytes_to_the_byte(self) -> None:
        """
        An update counts with its text, as given and as sent, and what the objects take beside.
        """
        frame = update("1").frame
        size = 2 * len(frame) + recent_module._OVERHEAD
        for max_bytes, kept in ((2 * size, ["1", "2"]), (2 * size - 1, ["2"])):
            subject = memory(max_bytes=max_bytes)
            await subject.start()
            await subject.append("1", "2")
            assert await subject.ids_after(OLDEST) == kept

    @pytest_twisted.ensureDeferred
    async def test_bytes_are_given_back(self) -> None:
        """
        What has gone takes no room any more.
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
        A page has at most 256 updates.
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
        A page ends with the update that fills 64 KiB.
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
        One byte less, and another update belongs to it.
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
    async def test_places_are_tidied_up(self) -> None:
        """
        The places of what has gone are given back, and no position changes.
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
        It takes the global one's clock when it starts, and not before.
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

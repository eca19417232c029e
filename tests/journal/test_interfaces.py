"""
Tests that all journals of this package pass: the contract, and more.

To test another journal, add it to the fixtures ``make`` and ``contract_factory``.
"""

from __future__ import annotations

from random import Random
from unittest import SkipTest

import pytest
import pytest_twisted

from tests.integration.clients import listen
from tests.journal.journals import ContractFactory, Maker, update
from tests.waiting import until
from txsse import EventSource, Hub, ServerSentEvent
from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.testing.journal_contract import CHECKS
from txsse.testing.journal_contract.subject import Check


class JournalContractTests:
    @pytest.mark.slow
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest_twisted.ensureDeferred
    async def test_contract(self, contract_factory: ContractFactory, check: Check) -> None:
        """
        Each journal passes each check of the contract; the memory journal skips those that need persistence.
        """
        try:
            await check(contract_factory)
        except SkipTest as skipped:
            assert not contract_factory.persists
            assert str(skipped) == "the journal does not persist"

    @pytest.mark.fuzz
    @pytest.mark.parametrize("together", [1, 7])
    @pytest.mark.parametrize("seed", range(3))
    @pytest_twisted.ensureDeferred
    async def test_random_publishers(self, make: Maker, together: int, seed: int) -> None:
        """
        After 1000 random updates with few ids, a journal's record, follower and ids agree with a simple
        model.
        """
        random = Random(seed)
        # Which updates are dropped while several are recorded together depends on the journal.
        bound = 20 if together == 1 else 2000
        subject = make(max_count=bound)
        follower = await subject.start()
        held: list[Entry] = []
        count = 0
        while count < 1000:
            batch = [
                update(f"id {random.randrange(12)}", random.choice("xy"), private=random.random() < 0.2)
                for _ in range(random.randrange(1, together + 1))
            ]
            count += len(batch)
            recorded = [subject.journal.append(each) for each in batch]
            for each, position in zip(batch, [await each for each in recorded], strict=True):
                known = [entry for entry in held if entry[1].id == each.id]
                if known and known[-1][1] == each:
                    assert position == known[-1][0]
                else:
                    assert not held or position > held[-1][0]
                    held.append((position, each))
                    assert follower.given[-1][0] >= position
            del held[:-bound]
            id = random.choice(batch).id
            assert await subject.find(id) == next(entry[0] for entry in held if entry[1].id == id)
        assert follower.given[-len(held) :] == held
        for number in range(12):
            places = [entry[0] for entry in held if entry[1].id == f"id {number}"]
            assert await subject.find(f"id {number}") == (places[0] if places else None)
        assert await subject.ids_after(OLDEST) == [entry[1].id for entry in held]

    @pytest_twisted.ensureDeferred
    async def test_clock_set_back(self, make: Maker) -> None:
        """
        After the time of day is set back, no update is lost, new ones have greater positions, and an update
        is dropped at its max_age by the new time, together with all before it.
        """
        subject = make(max_age=60.0)
        await subject.start()
        positions = await subject.append("1", "2")
        subject.advance(30)
        subject.step(-10)
        positions += await subject.append("3")
        assert positions == sorted(set(positions))
        assert await subject.append("1") == positions[:1]
        assert await subject.ids_after(OLDEST) == ["1", "2", "3"]
        subject.advance(29)
        assert await subject.ids_after(OLDEST) == ["1", "2", "3"]
        subject.advance(12)
        assert await subject.ids_after(OLDEST) == ["3"]
        assert await subject.find("1") is None
        subject.advance(30)
        assert await subject.ids_after(OLDEST) == []

    @pytest_twisted.ensureDeferred
    async def test_repeated_id_in_one_turn(self, make: Maker) -> None:
        """
        If an id is repeated in one turn of the reactor, after max_count other updates, it is found at its
        later update.
        """
        subject = make(max_count=3)
        follower = await subject.start()
        for ids in ("abcda", "efghi", "ab"):
            for recorded in [subject.journal.append(update(id)) for id in ids]:
                await recorded
        # Some journals drop updates only after all that are recorded together.
        given = "".join(each.id for _, each in follower.given)
        assert given in ("abcdaefghiab", "abcdefghiab")
        assert await subject.ids_after(OLDEST) == ["i", "a", "b"]
        found = await subject.find("a")
        assert found is not None
        assert await subject.ids_after(found) == ["b"]

    @pytest_twisted.ensureDeferred
    async def test_resume_id_after_a_gap(self, make: Maker) -> None:
        """
        A reader that missed updates can resume from a resume ID after the gap, without another gap until more
        updates are dropped.
        """
        subject = make(max_count=3, max_age=60.0)
        await subject.start()
        positions = await subject.append("1", "2", "3", "4", "5", private=True)
        page = await subject.read(positions[0])
        assert page.missed and positions[1] <= page.begin < positions[2]
        resume_id = subject.journal.resume_id(page.begin)
        for _ in range(2):
            position = await subject.find(resume_id)
            assert position == page.begin
            assert await subject.read(position) == Page(page.entries, page.end, missed=False)
        await subject.append("6")
        again = await subject.read(page.begin)
        assert again.missed and [update.id for _, update in again.entries] == ["4", "5", "6"]
        subject.advance(61)
        nothing = await subject.read(again.begin)
        assert (nothing.entries, nothing.missed) == ([], True)
        resume_id = subject.journal.resume_id(nothing.begin)
        assert await subject.find(resume_id) == subject.journal.head
        assert await subject.read(subject.journal.head) == Page([], subject.journal.head, missed=False)

    @pytest_twisted.ensureDeferred
    async def test_resumed_from_a_reset(self, make: Maker) -> None:
        """
        A client that resumes from the id of a stream-reset gets the later updates once, and no other reset.
        """
        hub = Hub(journal=make(max_count=4).journal)
        for number in range(6):
            # The last dropped update and the first held one are private, so this client may not receive them.
            await hub.publish("news", str(number), id=f"id-{number}", private=number in (1, 2))
        port = await listen(hub.resource("news"))
        got: list[ServerSentEvent] = []

        def resume(last_id: str) -> EventSource:
            got.clear()
            url = f"http://127.0.0.1:{port.getHost().port}/"
            source = EventSource(url, last_event_id=last_id, event_received=got.append)
            source.start()
            return source

        resets = []
        for last_id in ("id-0", "unknown"):
            source = resume(last_id)
            await until(lambda: len(got) == 4)
            source.close()
            assert [event.data for event in got[1:]] == ["3", "4", "5"]
            resets.append(got[0])
        assert [reset.event for reset in resets] == ["stream-reset"] * 2
        id = resets[0].id
        assert id is not None and id.startswith("#") and resets[1].id == id
        source = resume(id)
        await until(lambda: len(got) == 3)
        await hub.publish("news", "end")
        await until(lambda: len(got) == 4)
        assert [event.data for event in got] == ["3", "4", "5", "end"]
        source.close()
        await hub.stop()
        await port.stopListening()

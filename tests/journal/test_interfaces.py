"""
What is promised of all journals: the contract, held by ours; and what more is expected of these.

For another journal, add what makes it to the fixture ``make``.
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
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest_twisted.ensureDeferred
    async def test_contract(self, contract_factory: ContractFactory, check: Check) -> None:
        """
        Each journal passes each check of the contract; one in memory has no other process to show it to.
        """
        try:
            await check(contract_factory)
        except SkipTest as skipped:
            assert not contract_factory.persists
            assert str(skipped) == "the journal does not persist"

    @pytest.mark.parametrize("together", [1, 7])
    @pytest.mark.parametrize("seed", range(3))
    @pytest_twisted.ensureDeferred
    async def test_random_publishers(self, make: Maker, together: int, seed: int) -> None:
        """
        A thousand publishers choose from a few ids and contents. What is recorded, what the follower is given
        and where each id leads is what a list of the held updates says.
        """
        random = Random(seed)
        # What is given up while updates are recorded together depends on the journal.
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
                    assert follower.told[-1][0] >= position
            del held[:-bound]
            id = random.choice(batch).id
            assert await subject.find(id) == next(entry[0] for entry in held if entry[1].id == id)
        assert follower.told[-len(held) :] == held
        for number in range(12):
            places = [entry[0] for entry in held if entry[1].id == f"id {number}"]
            assert await subject.find(f"id {number}") == (places[0] if places else None)
        assert await subject.ids_after(OLDEST) == [entry[1].id for entry in held]

    @pytest_twisted.ensureDeferred
    async def test_clock_set_back(self, make: Maker) -> None:
        """
        Nothing is lost, and what comes has its place behind what was there. What is older than max_age goes
        when the time of day has come to that, together with all that is before it.
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
    async def test_id_comes_again_at_once(self, make: Maker) -> None:
        """
        So it is where both are published together, as many in between as the journal holds.
        """
        subject = make(max_count=3)
        follower = await subject.start()
        for ids in ("abcda", "efghi", "ab"):
            for recorded in [subject.journal.append(update(id)) for id in ids]:
                await recorded
        # Some give up what is too much behind what is recorded together.
        told = "".join(each.id for _, each in follower.told)
        assert told in ("abcdaefghiab", "abcdefghiab")
        assert await subject.ids_after(OLDEST) == ["i", "a", "b"]
        found = await subject.find("a")
        assert found is not None
        assert await subject.ids_after(found) == ["b"]

    @pytest_twisted.ensureDeferred
    async def test_resume_id_after_what_is_missing(self, make: Maker) -> None:
        """
        There is an id for the place where a reader goes on that missed something: from there it misses
        nothing, until more is gone.
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
        A hub's client is notified that it missed something, and loses the connection: it gets the rest, once,
        and is not notified again.
        """
        hub = Hub(journal=make(max_count=4).journal)
        for number in range(6):
            # The last one that is missing and the first one that is there are not for this client.
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

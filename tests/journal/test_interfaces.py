"""
What is promised of all journals.

For another journal, add what makes it to the fixture ``make``.
"""

from __future__ import annotations

from random import Random

import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from tests.integration.clients import listen, until
from tests.journal.journals import Follower, Maker, update
from txsse import BatchTooLarge, EventSource, Hub, IJournal, ServerSentEvent, Update
from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST


class JournalContractTests:
    def test_interface(self, make: Maker) -> None:
        """
        It has everything that a hub asks for.
        """
        assert verifyObject(IJournal, make().journal)

    @pytest_twisted.ensureDeferred
    async def test_empty(self, make: Maker) -> None:
        """
        There is nothing to be found, nothing to be read, and nothing is missed.
        """
        subject = make()
        follower = await subject.start()
        assert subject.journal.head == 0
        assert await subject.find("1") is None
        for after in (OLDEST, 0):
            page = await subject.read(after)
            assert (page.entries, page.missed) == ([], False)
            assert page.end == 0
        assert follower.told == []

    @pytest_twisted.ensureDeferred
    async def test_append(self, make: Maker) -> None:
        """
        Positions grow, and the head is the last one.
        """
        subject = make()
        await subject.start()
        positions = await subject.append("b", "a", "c")
        assert positions == sorted(set(positions))
        assert positions[0] > 0
        assert subject.journal.head == positions[-1]

    @pytest_twisted.ensureDeferred
    async def test_follower(self, make: Maker) -> None:
        """
        It is told of every update once, in order and with its position, before the publisher is.
        """
        subject = make()
        follower = await subject.start()
        told: list[int] = []
        for id in ("1", "2"):
            deferred = subject.journal.append(update(id))
            deferred.addCallback(lambda _: told.append(len(follower.told)))
            await deferred
        assert told == [1, 2]
        assert [(position, each.id) for position, each in follower.told] == [
            (await subject.find("1"), "1"),
            (await subject.find("2"), "2"),
        ]
        assert follower.missed == []

    @pytest_twisted.ensureDeferred
    async def test_head_when_the_follower_is_told(self, make: Maker) -> None:
        """
        The head is where the follower is.
        """
        subject = make()
        heads: list[tuple[int, int]] = []

        class Looking(Follower):
            def update_appended(self, entry: Entry) -> None:
                heads.append((entry[0], subject.journal.head))

        await subject.journal.start(Looking())
        await subject.append("1", "2")
        assert [head for _, head in heads] == [position for position, _ in heads]
        assert len(heads) == 2

    @pytest_twisted.ensureDeferred
    async def test_whole_update(self, make: Maker) -> None:
        """
        What is read is what was appended: topics, event and privacy.
        """
        subject = make()
        follower = await subject.start()
        full = Update(["a", "b ü"], ServerSentEvent("x\ny ü", "kind", "1", 2.5), private=True)
        await subject.journal.append(full)
        ((_, read),) = (await subject.read(0)).entries
        assert read == full
        assert read.frame == full.frame
        assert follower.told[0][1] == full

    @pytest_twisted.ensureDeferred
    async def test_find(self, make: Maker) -> None:
        """
        An id leads to its position, whoever made it; one that is not there to nothing.
        """
        subject = make()
        await subject.start()
        positions = await subject.append("of my own", "ü", "3")
        assert [await subject.find(id) for id in ("of my own", "ü", "3")] == positions
        assert await subject.find("4") is None
        assert await subject.find("") is None

    @pytest_twisted.ensureDeferred
    async def test_equal_update(self, make: Maker) -> None:
        """
        An update that is equal to the newest one with its id is not appended again.
        """
        subject = make()
        follower = await subject.start()
        first, second = await subject.append("1", "2")
        assert await subject.append("1") == [first]
        assert subject.journal.head == second
        assert await subject.ids_after(0) == ["1", "2"]
        assert len(follower.told) == 2

    @pytest.mark.parametrize(
        "other",
        [
            Update("news", ServerSentEvent("y", "t", "1", 1)),
            Update("sport", ServerSentEvent("x", "t", "1", 1)),
            Update(["news", "sport"], ServerSentEvent("x", "t", "1", 1)),
            Update("news", ServerSentEvent("x", None, "1", 1)),
            Update("news", ServerSentEvent("x", "t", "1", None)),
            Update("news", ServerSentEvent("x", "t", "1", 2)),
            Update("news", ServerSentEvent("x", "t", "1", 1), private=True),
        ],
        ids=lambda other: str((other.topics, *other.event, other.private)),
    )
    @pytest_twisted.ensureDeferred
    async def test_update_that_differs(self, make: Maker, other: Update) -> None:
        """
        An update that differs in anything from the one with its id is appended; the id leads to the first.
        """
        subject = make()
        follower = await subject.start()
        one = Update("news", ServerSentEvent("x", "t", "1", 1.0))
        first = await subject.journal.append(one)
        second = await subject.journal.append(other)
        assert second > first
        assert await subject.journal.append(other) == second
        assert await subject.find("1") == first
        assert [each for _, each in (await subject.read(0)).entries] == [one, other]
        third = await subject.journal.append(one)
        assert third > second
        assert await subject.journal.append(one) == third
        assert follower.told == [(first, one), (second, other), (third, one)]

    @pytest_twisted.ensureDeferred
    async def test_one_id_for_all(self, make: Maker) -> None:
        """
        The id leads to the earliest update that is held, and what is published together is kept in order.
        """
        subject = make(max_count=300)
        follower = await subject.start()
        recorded = [
            subject.journal.append(update("state", "on" if each % 3 else "off")) for each in range(900)
        ]
        positions = [await each for each in recorded]
        assert positions == sorted(positions)
        assert len(set(positions)) == len(follower.told) == 600
        assert await subject.find("state") == sorted(set(positions))[-300]
        for data in ("one", "two"):
            await subject.append("state", data=data)
        assert await subject.find("state") == sorted(set(positions))[-298]
        assert len(await subject.ids_after(OLDEST)) == 300

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
    async def test_append_many(self, make: Maker) -> None:
        """
        A batch is recorded in its order, with nothing between its updates.
        """
        subject = make()
        follower = await subject.start()
        await subject.append("0")
        one = subject.journal.append(update("1"))
        batch = subject.journal.append_many([update(id) for id in ("2", "0", "3", "3", "2", "4")])
        other = subject.journal.append(update("5"))
        turns: list[int] = []
        batch.addCallback(lambda positions: turns.append(len(follower.told)) or positions)
        positions = await batch
        assert [await one, positions[0], positions[2], positions[5], await other] == [
            position for position, _ in follower.told[1:]
        ]
        assert positions[1] == follower.told[0][0]
        assert (positions[3], positions[4]) == (positions[2], positions[0])
        assert [each.id for _, each in follower.told] == ["0", "1", "2", "3", "4", "5"]
        assert turns[0] >= 5
        assert await subject.ids_after(0) == ["0", "1", "2", "3", "4", "5"]
        assert await subject.journal.append_many([]) == []

    @pytest_twisted.ensureDeferred
    async def test_batch_with_one_id(self, make: Maker) -> None:
        """
        Of the updates A, B, B and A with one id, three are appended.
        """
        subject = make()
        follower = await subject.start()
        batch = [update("1", data) for data in "ABBA"]
        positions = await subject.journal.append_many(batch)
        assert positions == sorted(positions) and positions[1] == positions[2] and len(set(positions)) == 3
        assert [each.event.data for _, each in follower.told] == ["A", "B", "A"]
        assert await subject.find("1") == positions[0]
        assert await subject.journal.append(update("1", "A")) == positions[3]
        assert await subject.journal.append_many(batch[:1]) == positions[3:]

    @pytest.mark.parametrize(("count", "data"), [(1001, "x"), (5, "x" * 1024 * 1024)], ids=["many", "large"])
    @pytest_twisted.ensureDeferred
    async def test_batch_that_is_too_large(self, make: Maker, count: int, data: str) -> None:
        """
        What is more than a transaction takes is refused; a single large update is not.
        """
        subject = make()
        follower = await subject.start()
        with pytest.raises(BatchTooLarge, match=f"^{count} updates of [0-9]+ bytes"):
            subject.journal.append_many([update(str(number), data) for number in range(count)])
        await subject.journal.append_many([update("large", "x" * 5 * 1024 * 1024)])
        assert [each.id for _, each in follower.told] == ["large"]
        ids = [str(number) for number in range(1000)]
        await subject.journal.append_many([update(id) for id in ids])
        assert [each.id for _, each in follower.told[1:]] == ids

    @pytest_twisted.ensureDeferred
    async def test_read_on(self, make: Maker) -> None:
        """
        What comes behind a position is read, in order, and not that position itself.
        """
        subject = make()
        await subject.start()
        positions = await subject.append("1", "2", "3")
        assert await subject.ids_after(0) == ["1", "2", "3"]
        assert await subject.ids_after(OLDEST) == ["1", "2", "3"]
        assert await subject.ids_after(positions[0]) == ["2", "3"]
        page = await subject.read(positions[1])
        assert [(position, each.id) for position, each in page.entries] == [(positions[2], "3")]
        assert (page.end, page.missed) == (positions[2], False)

    @pytest_twisted.ensureDeferred
    async def test_read_at_the_head(self, make: Maker) -> None:
        """
        There is nothing, and the reader stays where it is.
        """
        subject = make()
        await subject.start()
        await subject.append("1", "2")
        page = await subject.read(subject.journal.head)
        assert (page.entries, page.end, page.missed) == ([], subject.journal.head, False)

    @pytest_twisted.ensureDeferred
    async def test_read_page_by_page(self, make: Maker) -> None:
        """
        What is too much for one page comes in several, each of which ends where the next one begins.
        """
        subject = make()
        await subject.start()
        ids = [str(number) for number in range(40)]
        await subject.append(*ids, data="x" * 8000)
        seen: list[str] = []
        position, pages = 0, 0
        while position < subject.journal.head:
            page = await subject.read(position)
            assert page.entries
            assert page.end == page.entries[-1][0]
            assert sum(len(each.frame) for _, each in page.entries) < 256 * 1024
            assert not page.missed
            seen += [each.id for _, each in page.entries]
            position = page.end
            pages += 1
        assert seen == ids
        assert pages > 1

    @pytest_twisted.ensureDeferred
    async def test_max_count(self, make: Maker) -> None:
        """
        The oldest goes when there is one more than that, and is not found any more.
        """
        subject = make(max_count=3)
        await subject.start()
        positions = await subject.append("1", "2", "3")
        assert await subject.ids_after(0) == ["1", "2", "3"]
        await subject.append("4")
        assert await subject.ids_after(OLDEST) == ["2", "3", "4"]
        assert await subject.find("1") is None
        assert await subject.find("2") == positions[1]

    @pytest_twisted.ensureDeferred
    async def test_max_age(self, make: Maker) -> None:
        """
        What has become that old goes, also where nothing comes.
        """
        subject = make(max_age=60.0)
        await subject.start()
        await subject.append("1")
        subject.advance(1)
        await subject.append("2")
        subject.advance(58.9)
        assert await subject.ids_after(OLDEST) == ["1", "2"]
        assert await subject.find("1") is not None
        subject.advance(0.2)
        assert await subject.find("1") is None
        assert await subject.ids_after(OLDEST) == ["2"]
        subject.advance(1)
        assert await subject.ids_after(OLDEST) == []
        assert await subject.find("2") is None

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
    async def test_max_bytes(self, make: Maker) -> None:
        """
        Large updates drive older ones out, and small ones are kept along.
        """
        subject = make(max_bytes=50_000)
        await subject.start()
        await subject.append("1", "2", "3")
        assert await subject.ids_after(OLDEST) == ["1", "2", "3"]
        await subject.append("4", data="x" * 15_000)
        assert await subject.ids_after(OLDEST) == ["1", "2", "3", "4"]
        await subject.append("5", data="x" * 15_000)
        await subject.append("6", data="x" * 15_000)
        await subject.append("7", data="x" * 15_000)
        kept = await subject.ids_after(OLDEST)
        assert kept[-1] == "7"
        assert len(kept) < 4
        assert kept == ["4", "5", "6", "7"][-len(kept) :]

    @pytest_twisted.ensureDeferred
    async def test_missed(self, make: Maker) -> None:
        """
        A reader is told that updates are missing from exactly when one is that it has not read.
        """
        subject = make(max_count=3)
        await subject.start()
        positions = await subject.append("1", "2", "3", "4", "5")
        # 1 and 2 are gone.
        for after, missed in ((0, True), (positions[0], True), (positions[1], False), (positions[2], False)):
            assert (await subject.read(after)).missed is missed
        assert not (await subject.read(OLDEST)).missed
        assert [each.id for _, each in (await subject.read(0)).entries] == ["3", "4", "5"]

    @pytest_twisted.ensureDeferred
    async def test_missed_all(self, make: Maker) -> None:
        """
        Where nothing is left, the reader is told that it missed something, and is at the head.
        """
        subject = make(max_age=60.0)
        await subject.start()
        positions = await subject.append("1", "2")
        subject.advance(61)
        page = await subject.read(positions[0])
        assert (page.entries, page.end, page.missed) == ([], positions[1], True)
        page = await subject.read(OLDEST)
        assert (page.entries, page.end, page.missed) == ([], positions[1], False)
        page = await subject.read(positions[1])
        assert (page.entries, page.end, page.missed) == ([], positions[1], False)

    @pytest_twisted.ensureDeferred
    async def test_positions_do_not_come_again(self, make: Maker) -> None:
        """
        What is gone leaves its position behind.
        """
        subject = make(max_age=60.0)
        await subject.start()
        (first,) = await subject.append("1")
        subject.advance(61)
        (second,) = await subject.append("2")
        assert second > first
        assert await subject.ids_after(OLDEST) == ["2"]

    @pytest_twisted.ensureDeferred
    async def test_id_of_an_update_that_is_gone(self, make: Maker) -> None:
        """
        It may come again, and is another update then.
        """
        subject = make(max_age=60.0)
        follower = await subject.start()
        (first,) = await subject.append("1")
        subject.advance(59.9)
        assert await subject.append("1") == [first]
        subject.advance(0.2)
        (second,) = await subject.append("1")
        assert second > first
        assert await subject.find("1") == second
        assert len(follower.told) == 2

    @pytest_twisted.ensureDeferred
    async def test_update_that_exceeds_the_bound_alone(self, make: Maker) -> None:
        """
        It reaches the follower all the same, and is not kept.
        """
        subject = make(max_bytes=2000)
        follower = await subject.start()
        (position,) = await subject.append("1", data="x" * 5000)
        assert [each.id for _, each in follower.told] == ["1"]
        assert subject.journal.head == position
        assert await subject.find("1") is None
        page = await subject.read(0)
        assert (page.entries, page.end, page.missed) == ([], position, True)

    @pytest_twisted.ensureDeferred
    async def test_many_updates(self, make: Maker) -> None:
        """
        What is left after many is what the bound says, and each is found at its place.
        """
        subject = make(max_count=10)
        await subject.start()
        ids = [str(number) for number in range(500)]
        positions = dict(zip(ids, await subject.append(*ids), strict=True))
        assert await subject.ids_after(OLDEST) == ids[-10:]
        for id in ids[-10:]:
            assert await subject.find(id) == positions[id]
            assert await subject.ids_after(positions[id]) == ids[ids.index(id) + 1 :]
        assert not any([await subject.find(id) for id in ids[:-10]])

    @pytest_twisted.ensureDeferred
    async def test_at(self, make: Maker) -> None:
        """
        What is found can be looked at, while the journal holds it.
        """
        subject = make(max_age=60.0)
        await subject.start()
        (first,) = await subject.append("1", private=True, topics=["a", "b"])
        (second,) = await subject.append("2")
        assert await subject.journal.at(first) == update("1", topics=["a", "b"], private=True)
        assert await subject.journal.at(second) == update("2")
        for none in (first - 1, second + 1, first + 1 if first + 1 != second else 0):
            assert await subject.journal.at(none) is None

    @pytest_twisted.ensureDeferred
    async def test_id_comes_again(self, make: Maker) -> None:
        """
        Once the journal has given an update up, its id may stand for another one, and that is found.
        """
        subject = make(max_age=60.0)
        follower = await subject.start()
        await subject.append("daily", "1")
        subject.advance(61)
        await subject.append("daily", "2", "3")
        assert await subject.ids_after(OLDEST) == ["daily", "2", "3"]
        position = await subject.find("daily")
        assert position is not None
        assert await subject.ids_after(position) == ["2", "3"]
        subject.advance(61)
        await subject.append("4", "daily")
        assert await subject.ids_after(OLDEST) == ["4", "daily"]
        assert [each.id for _, each in follower.told] == ["daily", "1", "daily", "2", "3", "4", "daily"]

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
    async def test_stop(self, make: Maker) -> None:
        """
        It ends.
        """
        subject = make()
        await subject.start()
        await subject.append("1")
        assert await subject.journal.stop() is None

    @pytest_twisted.ensureDeferred
    async def test_resume_id(self, make: Maker) -> None:
        """
        There is an id for the head that names no update, and it is found where it was.
        """
        subject = make()
        await subject.start()
        resume_id = subject.journal.resume_id(subject.journal.head)
        await subject.append("a", "b")
        later = subject.journal.resume_id(subject.journal.head)
        await subject.append("c")
        for each, behind in ((resume_id, ["a", "b", "c"]), (later, ["c"])):
            position = await subject.find(each)
            assert position is not None
            assert await subject.ids_after(position) == behind
        assert len(resume_id) == len(later)
        for none in ("#999999999999999-0", later + "x", later[:-1], "#"):
            assert await subject.find(none) is None

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

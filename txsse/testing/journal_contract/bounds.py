"""
The bounds of a journal, and what is missed.
"""

from __future__ import annotations

from txsse.journal.page import Page
from txsse.journal.position import OLDEST
from txsse.testing.journal_contract.subject import Subject, check, equal, expect


@check
async def count_is_bounded(subject: Subject) -> None:
    await subject.start(max_count=3)
    positions = await subject.append("1", "2", "3")
    equal(await subject.ids_after(0), ["1", "2", "3"], "as many updates as max_count are held")
    positions += await subject.append("4", "5")
    equal(await subject.ids_after(OLDEST), ["3", "4", "5"], "the oldest updates are dropped first")
    equal(
        [await subject.find(id) for id in "123"], [None, None, positions[2]], "dropped updates are not found"
    )
    equal(await subject.journal.at(positions[0]), None, "at fires with None for a dropped update")
    for after, missed in ((0, True), (positions[0], True), (positions[1], False), (positions[2], False)):
        equal((await subject.read(after)).missed, missed, "a page says whether updates are missing before it")
    equal((await subject.read(OLDEST)).missed, False, "after OLDEST nothing is missed")
    recorded = [await subject.append(str(number)) for number in range(100, 300)]
    equal(await subject.ids_after(OLDEST), ["297", "298", "299"], "the newest updates are held")
    equal(await subject.find("298"), recorded[198][0], "what is held is found")


@check
async def bytes_are_bounded(subject: Subject) -> None:
    await subject.start(max_bytes=50_000)
    await subject.append("1", "2", "3")
    await subject.append("4", data="x" * 15_000)
    equal(
        await subject.ids_after(OLDEST), ["1", "2", "3", "4"], "what has fewer bytes than max_bytes is held"
    )
    await subject.append("5", "6", "7", data="x" * 15_000)
    kept = await subject.ids_after(OLDEST)
    expect(0 < len(kept) < 4 and kept == list("4567")[-len(kept) :], "the oldest updates are dropped first")
    follower = await subject.start(max_bytes=2000)
    (position,) = await subject.append("large", data="x" * 5000)
    equal(follower.ids, ["large"], "the follower is given an update that is too large to be held")
    equal(subject.journal.head, position, "it has a position")
    equal(await subject.read(0), Page([], position, True), "it is missed by those who read later")


@check
async def age_is_bounded(subject: Subject) -> None:
    follower = await subject.start(max_age=60.0)
    positions = await subject.append("1")
    subject.factory.advance(1)
    positions += await subject.append("2")
    subject.factory.advance(58.5)
    equal(await subject.ids_after(OLDEST), ["1", "2"], "updates are held that are not as old as max_age")
    equal(await subject.append("1"), positions[:1], "an equal update is a no-op while the first is held")
    subject.factory.advance(1)
    equal(await subject.ids_after(OLDEST), ["2"], "older updates are dropped, although none is appended")
    equal(await subject.find("1"), None, "a dropped update is not found")
    subject.factory.advance(1)
    equal(await subject.read(0), Page([], positions[1], True), "if all are dropped, a reader is at the head")
    equal(await subject.read(OLDEST), Page([], positions[1], False), "after OLDEST nothing is missed")
    equal(await subject.read(positions[1]), Page([], positions[1], False), "at the head nothing is missed")
    equal(await subject.journal.at(positions[1]), None, "the update at the head may be dropped, too")
    again = await subject.append("1")
    expect(again[0] > positions[1], "positions are not used again")
    equal(follower.ids, ["1", "2", "1"], "an id may be used again when its update has been dropped")
    equal(await subject.find("1"), again[0], "its new update is found")

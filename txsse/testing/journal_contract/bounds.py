"""
Contract checks for the bounds of a journal, ``max_count``, ``max_bytes`` and ``max_age``, and for gaps.
"""

from __future__ import annotations

from txsse.journal.page import Page
from txsse.journal.position import OLDEST
from txsse.testing.journal_contract.subject import Subject, check, equal, expect


@check
async def count_is_bounded(subject: Subject) -> None:
    """
    Check that ``max_count`` drops the oldest updates, and that a page reports the gap.
    """
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
        equal(
            (await subject.read(after)).missed, missed, "missed says whether there is a gap before the page"
        )
    equal((await subject.read(OLDEST)).missed, False, "after OLDEST nothing is missed")
    recorded = [await subject.append(str(number)) for number in range(100, 300)]
    equal(await subject.ids_after(OLDEST), ["297", "298", "299"], "the newest updates are held")
    equal(await subject.find("298"), recorded[198][0], "held updates are found")


@check
async def bytes_are_bounded(subject: Subject) -> None:
    """
    Check that ``max_bytes`` drops the oldest updates, and that a larger update reaches the follower only.
    """
    await subject.start(max_bytes=50_000)
    await subject.append("1", "2", "3")
    await subject.append("4", data="x" * 15_000)
    equal(await subject.ids_after(OLDEST), ["1", "2", "3", "4"], "updates that fit into max_bytes are held")
    await subject.append("5", "6", "7", data="x" * 15_000)
    kept = await subject.ids_after(OLDEST)
    expect(0 < len(kept) < 4 and kept == list("4567")[-len(kept) :], "the oldest updates are dropped first")
    follower = await subject.start(max_bytes=2000)
    (position,) = await subject.append("large", data="x" * 5000)
    equal(follower.ids, ["large"], "the follower is given an update that is too large to be held")
    equal(subject.journal.head, position, "an update that is too large to be held has a position")
    equal(
        await subject.read(0), Page([], position, True), "readers miss an update that is too large to be held"
    )


@check
async def age_is_bounded(subject: Subject) -> None:
    """
    Check that ``max_age`` drops older updates without further appends, and keeps positions unique.
    """
    follower = await subject.start(max_age=60)
    positions = await subject.append("1")
    subject.factory.advance(1)
    positions += await subject.append("2")
    subject.factory.advance(58.5)
    equal(await subject.ids_after(OLDEST), ["1", "2"], "updates that are younger than max_age are held")
    equal(await subject.append("1"), positions[:1], "an equal update is a no-op while the first is held")
    subject.factory.advance(1)
    equal(await subject.ids_after(OLDEST), ["2"], "older updates are dropped, even if no update is appended")
    equal(await subject.find("1"), None, "a dropped update is not found")
    subject.factory.advance(1)
    equal(await subject.read(0), Page([], positions[1], True), "if all are dropped, a page ends at the head")
    equal(await subject.read(OLDEST), Page([], positions[1], False), "after OLDEST nothing is missed")
    equal(await subject.read(positions[1]), Page([], positions[1], False), "at the head nothing is missed")
    equal(await subject.journal.at(positions[1]), None, "the update at the head is dropped, too")
    again = await subject.append("1")
    expect(again[0] > positions[1], "positions are never reused")
    equal(follower.ids, ["1", "2", "1"], "an id may be used again when its update has been dropped")
    equal(await subject.find("1"), again[0], "the new update with a reused id is found")

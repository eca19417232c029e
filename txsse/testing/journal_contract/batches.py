"""
Contract checks for ``append_many``.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from txsse.errors import BatchTooLarge
from txsse.journal.base import MAX_BATCH_BYTES, MAX_BATCH_COUNT
from txsse.testing.journal_contract.subject import Subject, check, equal, expect, make_update


@check
async def batch_is_recorded_in_order(subject: Subject) -> None:
    """
    Check that the updates of a batch get consecutive positions, and that equal updates in it are no-ops.
    """
    follower = await subject.start()
    await subject.append("0")
    batch = [make_update(id) for id in ("2", "0", "3", "3", "2", "4")]
    one, many = subject.journal.append(make_update("1")), subject.journal.append_many(batch)
    other = subject.journal.append(make_update("5"))
    given: list[int] = []

    def note(positions: list[int]) -> list[int]:
        given.append(len(follower.entries))
        return positions

    many.addCallback(note)
    positions = await many
    equal(
        [await one, positions[0], positions[2], positions[5], await other],
        [each for each, _ in follower.entries[1:]],
        "no other update comes between those of a batch",
    )
    equal(
        follower.ids,
        ["0", "1", "2", "3", "4", "5"],
        "updates are given in the order in which they were appended",
    )
    equal(
        positions[1],
        follower.entries[0][0],
        "an update of a batch that is equal to a recorded one is a no-op",
    )
    equal(
        positions[3:5],
        [positions[2], positions[0]],
        "an update equal to an earlier one of its batch is a no-op",
    )
    expect(given[0] >= 5, "the follower is given a batch before its Deferred fires")
    equal(await subject.ids_after(0), ["0", "1", "2", "3", "4", "5"], "a batch is recorded")
    equal(await subject.journal.append_many([]), [], "an empty batch records nothing")
    equal(len(follower.entries), 6, "an empty batch records nothing")
    abba = [make_update("one id", data) for data in "ABBA"]
    positions = await subject.journal.append_many(abba)
    equal(len(set(positions)), 3, "of A, B, B and A with one id, three are appended")
    equal(await subject.find("one id"), positions[0], "the earliest of them is found")


@check
async def batch_is_given_in_one_turn(subject: Subject) -> None:
    """
    Check that the follower gets all updates of a batch in one turn of the reactor, also under load.
    """
    follower = await subject.start()
    recorded: list[Deferred[int] | Deferred[list[int]]] = []
    for number in range(20):
        recorded.append(subject.journal.append(make_update(f"{number}")))
        recorded.append(subject.journal.append_many([make_update(f"{number}.{each}") for each in range(100)]))
    for each in recorded:
        await each
    expected = []
    for number in range(20):
        expected += [f"{number}", *(f"{number}.{each}" for each in range(100))]
    equal(follower.ids, expected, "no other update comes between those of a batch")
    end = 0
    ends = {0}
    for count in follower.turns:
        end += count
        ends.add(end)
    for number in range(20):
        first = follower.ids.index(f"{number}.0")
        expect(
            not ends & set(range(first + 1, first + 100)),
            "the follower is given all updates of a batch in one turn of the reactor",
        )


@check
async def batch_has_a_limit(subject: Subject) -> None:
    """
    Check that a batch with too many updates or bytes raises ``BatchTooLarge``, and that none is recorded.
    """
    follower = await subject.start()
    large = "x" * (MAX_BATCH_BYTES // 4)
    for count, data in ((MAX_BATCH_COUNT + 1, "x"), (5, large)):
        batch = [make_update(str(number), data) for number in range(count)]
        try:
            await subject.journal.append_many(batch)
        except BatchTooLarge as error:
            equal(error.count, count, "the error says how many updates there are")
        else:
            raise AssertionError("a batch that is too large raises BatchTooLarge")
    equal((follower.ids, subject.journal.head), ([], 0), "nothing of a batch that is too large is recorded")
    ids = [str(number) for number in range(MAX_BATCH_COUNT)]
    await subject.journal.append_many([make_update(id) for id in ids])
    equal(follower.ids, ids, "a batch that is not too large is recorded")

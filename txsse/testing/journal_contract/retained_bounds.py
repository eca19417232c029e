"""
Contract checks for the limits of retained updates: their number, size and time.
"""

from __future__ import annotations

from txsse.errors import NotRetained, RetainedFull
from txsse.testing.journal_contract.retained_subject import (
    expect_full,
    frame_of,
    make_removal,
    make_retained,
    read_retained,
    start_retaining,
    state_of,
)
from txsse.testing.journal_contract.subject import Subject, check, equal, expect


@check
async def retained_updates_outlive_the_bounds(subject: Subject) -> None:
    """
    Check that the journal's bounds do not drop retained updates.
    """
    retained = await start_retaining(subject, max_count=2)
    await subject.journal.append(make_retained("1", "a"))
    for number in range(10):
        await subject.append(f"other {number}")
    equal(await subject.find("1"), None, "max_count drops the oldest updates")
    equal(
        state_of(await read_retained(retained)), {("news", "a"): frame_of("x")}, "retained updates are kept"
    )


@check
async def retained_updates_are_bounded(subject: Subject) -> None:
    """
    Check that ``max_retained`` and ``max_retained_bytes`` refuse updates, and drop none.
    """
    retained = await start_retaining(subject, max_retained=3)
    for number in range(3):
        await subject.journal.append(make_retained(str(number), str(number)))
    await expect_full(subject, make_retained("3", "3"))
    await subject.journal.append(make_retained("4", "2", "y"))
    await subject.journal.append(make_removal("5", "0"))
    await subject.journal.append(make_retained("6", "3"))
    await expect_full(subject, make_retained("7", "3", topics=("news", "sport")))
    equal(
        sorted(key for _, key in state_of(await read_retained(retained))), ["1", "2", "3"], "none is dropped"
    )
    retained = await start_retaining(subject, max_retained_bytes=20_000)
    count = 0
    while True:
        try:
            await subject.journal.append(make_retained(f"id {count}", str(count), "y" * 1000))
        except RetainedFull:
            break
        count += 1
        expect(count < 21, "max_retained_bytes refuses updates")
    equal(retained.count, count, "an update that is refused is not retained")
    await subject.journal.append(make_retained("again", "0", "z" * 1000))
    await subject.journal.append(make_retained("less", "0", "z"))
    await expect_full(subject, make_retained("more", "0", "z" * 19_000))
    equal(
        state_of(await read_retained(retained))["news", "0"],
        frame_of("z"),
        "an update that is refused is not retained",
    )
    expect(retained.size <= 20_000, "max_retained_bytes is a bound")


@check
async def batch_is_retained_as_a_whole(subject: Subject) -> None:
    """
    Check that a batch retains and removes in order, and that one refused update refuses all of it.
    """
    retained = await start_retaining(subject, max_retained=3)
    await subject.journal.append_many(
        [
            make_retained("1", "a"),
            make_retained("2", "b"),
            make_removal("3", "a"),
            make_retained("4", "c"),
            make_retained("5", "c", "5"),
        ]
    )
    equal(
        state_of(await read_retained(retained)),
        {("news", "b"): frame_of("x"), ("news", "c"): frame_of("5")},
        "a batch retains and removes in the order of its updates",
    )
    await expect_full(subject, make_retained("6", "d"), make_retained("7", "e"), make_removal("8", "d"))
    failure = None
    try:
        await subject.journal.append_many([make_retained("9", "d"), make_removal("10", "e")])
    except NotRetained as error:
        failure = error
    expect(failure is not None, "a removal of what is not retained fails with NotRetained")
    equal(await subject.find("9"), None, "a batch is recorded as a whole or not at all")
    equal(retained.count, 2, "a batch is retained as a whole or not at all")
    removal = make_removal("11", "b")
    positions = await subject.journal.append_many([removal, removal, make_retained("12", "b")])
    equal(positions[0], positions[1], "a repeated removal in a batch is a no-op")
    equal(retained.count, 2, "a batch retains and removes in the order of its updates")


@check
async def publishers_are_refused_one_by_one(subject: Subject) -> None:
    """
    Check that of several updates that are appended in one turn, only those without room are refused.
    """
    retained = await start_retaining(subject, max_retained=2)
    recorded = [subject.journal.append(make_retained(str(number), str(number))) for number in range(4)]
    recorded.append(subject.journal.append(make_removal("no", "no")))
    recorded.append(subject.journal.append(make_removal("yes", "0")))
    recorded.append(subject.journal.append(make_retained("last", "last")))
    results: list[object] = []
    for each in recorded:
        try:
            await each
            results.append(None)
        except (RetainedFull, NotRetained) as error:
            results.append(type(error))
    equal(
        results,
        [None, None, RetainedFull, RetainedFull, NotRetained, None, None],
        "only the updates that the journal has no room for are refused",
    )
    equal(subject.follower.ids, ["0", "1", "yes", "last"], "refused updates are not recorded")
    equal(retained.count, 2, "refused updates are not retained")


@check
async def retained_updates_expire(subject: Subject) -> None:
    """
    Check that an update is retained for its time, and that an expired one makes room.
    """
    retained = await start_retaining(subject, max_retained=2)
    await subject.journal.append(make_retained("1", "a", seconds=10, owner="me"))
    await subject.journal.append(make_retained("2", "b", seconds=30))
    await expect_full(subject, make_retained("3", "c"))
    subject.factory.advance(5)
    equal(
        sorted(key for _, key in state_of(await read_retained(retained))), ["a", "b"], "an update is retained"
    )
    subject.factory.advance(10)
    equal(
        [key for _, key in state_of(await read_retained(retained))],
        ["b"],
        "an update is retained for its time",
    )
    equal((retained.find("news", "a"), retained.owned("me")), (None, 0), "an expired update is gone")
    failure = None
    try:
        await subject.journal.append(make_removal("4", "a"))
    except NotRetained as error:
        failure = error
    expect(failure is not None, "an expired update cannot be removed")
    await subject.journal.append(make_retained("5", "c"))
    await subject.journal.append(make_retained("6", "b"))
    subject.factory.advance(100)
    equal(
        sorted(key for _, key in state_of(await read_retained(retained))),
        ["b", "c"],
        "the time of an update that was replaced does not count",
    )

"""
Contract checks for ``stop``, and for a journal that persists: the next one has the same record.
"""

from __future__ import annotations

from itertools import product

from twisted.internet.defer import Deferred

from txsse.testing.journal_contract.subject import Subject, check, equal, expect, make_update


@check
async def stop_waits_for_appended_updates(subject: Subject) -> None:
    """
    Check that ``stop`` fires after all appended updates are recorded and given to the follower.
    """
    follower = await subject.start()
    recorded: list[Deferred[int] | Deferred[list[int]]]
    recorded = [subject.journal.append(make_update(str(number))) for number in range(10)]
    recorded.append(subject.journal.append_many([make_update("10"), make_update("11")]))
    stopped: list[object] = []
    await subject.journal.stop().addCallback(stopped.append)
    equal(stopped, [None], "stop fires with None")
    subject.forget()
    expect(all(each.called for each in recorded), "stop fires after all appended updates are recorded")
    equal(follower.ids, [str(number) for number in range(12)], "the follower is given all appended updates")


@check
async def record_persists(subject: Subject) -> None:
    """
    Check that positions, updates and resume IDs of a journal that persists are the same after a restart.
    """
    await subject.start()
    first = await subject.append("1", "2", private=True)
    id = subject.journal.resume_id(subject.journal.head)
    first += await subject.journal.append_many([make_update("3"), make_update("4")])
    follower = await subject.restart()
    equal(subject.journal.head, first[-1], "the head is known when a journal has started")
    equal(follower.entries, [], "the follower is not given updates that were recorded before the start")
    equal(await subject.ids_after(0), ["1", "2", "3", "4"], "a journal that persists holds recorded updates")
    equal([await subject.find(each) for each in "1234"], first, "updates keep their positions")
    equal(await subject.journal.at(first[0]), make_update("1", private=True), "updates are kept as they are")
    equal(await subject.find(id), first[1], "resume IDs stay valid")
    equal(await subject.append("4"), first[-1:], "an equal update is a no-op")
    (later,) = await subject.append("5")
    expect(later > first[-1], "positions grow")
    equal(follower.ids, ["5"], "the follower is given new updates only")


@check
async def ids_persist(subject: Subject) -> None:
    """
    Check that a journal that persists recognises equal updates after a restart.
    """
    await subject.start()
    positions = []
    for data, again in product("AB", range(2)):
        positions += await subject.append("state", data=data)
        if not again:
            await subject.restart()
    equal((positions[0], positions[2]), (positions[1], positions[3]), "an equal update is a no-op")
    expect(positions[2] > positions[0], "an update that differs is appended")
    equal(await subject.find("state"), positions[0], "the earliest update with an id is found")

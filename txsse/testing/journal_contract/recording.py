"""
Contract checks for ``append``: positions, order, equal updates, and the calls of the journal's follower.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from txsse.journal.interfaces import IJournal
from txsse.journal.page import Entry, Page
from txsse.journal.position import OLDEST
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent
from txsse.testing.journal_contract.subject import Subject, check, equal, expect, make_update


@check
async def provides_the_interface(subject: Subject) -> None:
    """
    Check that a new journal provides ``IJournal``, and has neither a problem nor damaged records.
    """
    await subject.start()
    verifyObject(IJournal, subject.journal)
    equal(subject.journal.problem, None, "a journal that works has no problem")
    equal(subject.journal.damaged, 0, "a new journal has no damaged records")


@check
async def record_is_empty_at_first(subject: Subject) -> None:
    """
    Check that a new journal has head 0 and no updates.
    """
    follower = await subject.start()
    head = subject.journal.head
    equal(head, 0, "0 is the position before all updates")
    equal(await subject.find("1"), None, "find fires with None for an unknown id")
    for after in (OLDEST, 0):
        equal(await subject.read(after), Page([], 0, False), "an empty journal has nothing to read")
    equal(await subject.journal.at(0), None, "no update is at position 0")
    equal(follower.entries, [], "the follower is given new updates only")


@check
async def positions_grow(subject: Subject) -> None:
    """
    Check that later updates have greater positions, and that the head is the newest one.
    """
    await subject.start()
    positions = await subject.append("b", "a", "c")
    expect(positions == sorted(set(positions)) and positions[0] > 0, "a later update has a greater position")
    equal(subject.journal.head, positions[-1], "the head is the position of the newest update")


@check
async def follower_is_given_each_update_once_and_in_order(subject: Subject) -> None:
    """
    Check that the follower gets each update once, in order, before the Deferred of ``append`` fires.
    """
    follower = await subject.start()
    given_first: list[bool] = []
    recorded: list[Deferred[int]] = []

    def check_given(position: int, id: str) -> int:
        given_first.append(id in follower.ids)
        return position

    for number in range(50):
        id = str(number)
        recorded.append(subject.journal.append(make_update(id)))
        recorded[-1].addCallback(check_given, id)
    positions = [await each for each in recorded]
    equal(
        follower.ids,
        [str(number) for number in range(50)],
        "the follower is given each update once, in order",
    )
    equal([position for position, _ in follower.entries], positions, "the follower is given the positions")
    expect(all(given_first), "the follower is given an update before the Deferred of append fires")
    equal(follower.missed, [], "nothing is missed")


@check
async def head_is_the_position_given_last(subject: Subject) -> None:
    """
    Check that, while the follower is called, the head is the position that it is given.
    """
    follower = await subject.start()
    heads: list[bool] = []
    follower.appended = lambda entry: heads.append(entry[0] == subject.journal.head)
    await subject.append("1", "2")
    await subject.journal.append_many([make_update("3"), make_update("4")])
    equal(heads, [True] * 4, "the head is the position of the newest update that the follower was given")


@check
async def updates_are_stored_unchanged(subject: Subject) -> None:
    """
    Check that topics, event, privacy and frame of an update are stored unchanged.
    """
    follower = await subject.start()
    update = Update(["a", "b ü"], ServerSentEvent("x\ny ü", "kind", "1 ü", 2.5), private=True)
    position = await subject.journal.append(update)
    equal(follower.entries, [(position, update)], "the follower is given the update as it was appended")
    for after in (OLDEST, 0):
        (entry,) = (await subject.read(after)).entries
        equal(entry, (position, update), "topics, event and privacy are read as they were appended")
        equal(entry[1].frame, update.frame, "an update that is read has the frame of the appended one")
    equal(await subject.journal.at(position), update, "at fires with the update at a position")


@check
async def equal_update_is_a_no_op(subject: Subject) -> None:
    """
    Check that an equal update is not recorded again, and has the position of the first one.
    """
    follower = await subject.start()
    first, second = await subject.append("1", "2")
    equal(await subject.append("1", "2"), [first, second], "an equal update has the position of the first")
    equal(subject.journal.head, second, "an equal update does not move the head")
    equal(follower.ids, ["1", "2"], "the follower is not given an equal update again")
    equal(await subject.ids_after(0), ["1", "2"], "an equal update is not recorded again")


@check
async def update_that_differs_is_appended(subject: Subject) -> None:
    """
    Check that an update that differs in any field from the newest one with its id is appended.

    Only the newest one counts: an update that restores an earlier state (A, B, A) must reach the clients.
    """
    follower = await subject.start()
    update = Update("news", ServerSentEvent("x", "t", "1", 1.0))
    others = [
        Update("news", ServerSentEvent("y", "t", "1", 1)),
        Update("sport", ServerSentEvent("x", "t", "1", 1)),
        Update(["news", "sport"], ServerSentEvent("x", "t", "1", 1)),
        Update("news", ServerSentEvent("x", None, "1", 1)),
        Update("news", ServerSentEvent("x", "t", "1", None)),
        Update("news", ServerSentEvent("x", "t", "1", 2)),
        Update("news", ServerSentEvent("x", "t", "1", 1), private=True),
    ]
    appended = [update]
    first = await subject.journal.append(update)
    for other in others:
        for each in (other, update):
            position = await subject.journal.append(each)
            appended.append(each)
            expect(position > first, f"{each!r} differs from the newest update with its id, and is appended")
            equal(await subject.journal.append(each), position, "an equal update is a no-op")
    equal(
        [each for _, each in follower.entries], appended, "of A, B and A with one id, all three are appended"
    )
    equal(await subject.find("1"), first, "find fires with the position of the earliest update with an id")


@check
async def earliest_update_is_found(subject: Subject) -> None:
    """
    Check that ``find`` returns the earliest held update of many with one id.
    """
    await subject.start(max_count=300)
    # "off", "on", "on", "off", ...: every third update equals the one before it, and is not recorded.
    recorded = [
        subject.journal.append(make_update("state", "on" if number % 3 else "off")) for number in range(900)
    ]
    positions = sorted({await each for each in recorded})
    equal(len(positions), 600, "an update that differs from the newest one with its id is appended")
    # Each further update drops the oldest of the 300 that are held.
    await subject.append("other")
    equal(await subject.find("state"), positions[-299], "the earliest held update with an id is found")
    await subject.append("state")
    equal(await subject.find("state"), positions[-298], "the earliest held update with an id is found")


@check
async def record_has_all_appended_updates(subject: Subject) -> None:
    """
    Check positions, follower and pages against a model, over 500 random updates with few ids.
    """
    follower = await subject.start()
    random = Random(1)
    held: list[Entry] = []
    while len(held) < 500:
        batch = [
            make_update(f"id {random.randrange(12)}", random.choice("xy"), private=random.random() < 0.2)
            for _ in range(random.randrange(1, 8))
        ]
        if random.random() < 0.3:
            positions = await subject.journal.append_many(batch)
        else:
            recorded = [subject.journal.append(each) for each in batch]
            positions = [await each for each in recorded]
        for update, position in zip(batch, positions, strict=True):
            newest = next((entry for entry in reversed(held) if entry[1].id == update.id), None)
            if newest is not None and newest[1] == update:
                equal(position, newest[0], "an equal update has the position of the newest one with its id")
            else:
                expect(not held or position > held[-1][0], "positions grow")
                held.append((position, update))
    equal(follower.entries, held, "the follower is given exactly the recorded updates")
    for number in range(12):
        matching = [position for position, update in held if update.id == f"id {number}"]
        found = await subject.find(f"id {number}")
        equal(found, matching[0] if matching else None, "the earliest update with an id is found")
    equal(await subject.ids_after(OLDEST), [update.id for _, update in held], "recorded updates are read")

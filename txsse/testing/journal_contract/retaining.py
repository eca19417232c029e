"""
Contract checks for retained updates, of journals that provide ``IRetainingJournal``.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from zope.interface.verify import verifyObject

from txsse.errors import NotRetained
from txsse.journal.interfaces import IRetainingJournal
from txsse.journal.retained import IRetained
from txsse.journal.retention import MAX_KEY_BYTES, Retention
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent
from txsse.testing.journal_contract.retained_subject import (
    State,
    frame_of,
    make_removal,
    make_retained,
    read_retained,
    restart_retaining,
    retained_of,
    start_retaining,
    state_of,
)
from txsse.testing.journal_contract.subject import Subject, check, equal, expect


@check
async def updates_are_retained(subject: Subject) -> None:
    """
    Check that the newest update of each topic and key is retained, unchanged, and without its id.
    """
    retained = await start_retaining(subject)
    verifyObject(IRetainingJournal, subject.journal)
    verifyObject(IRetained, retained)
    expect(retained.is_empty, "a new journal retains nothing")
    equal(
        (retained.count, retained.size, await read_retained(retained)),
        (0, 0, []),
        "a new journal retains nothing",
    )
    event = ServerSentEvent("a\nb ü", "kind", "1 ü", 2.5)
    update = Update(["a", "b ü"], event, private=True, retention=Retention("ü *\t", None, "me"))
    position = await subject.journal.append(update)
    await subject.journal.append(Update("a", ServerSentEvent("", id="2"), retention=Retention("x")))
    await subject.append("3")
    first, second = await read_retained(retained)
    equal(
        (first.position, sorted(first.topics), first.private, first.key, first.owner, first.frame),
        (position, ["a", "b ü"], True, "ü *\t", "me", update.frame_without_id),
        "an update is retained unchanged, and without its id",
    )
    equal(
        (second.private, second.owner, second.frame), (False, None, b"data: \n\n"), "empty data is data, too"
    )
    equal(retained.find("b ü", "ü *\t"), first, "a retained update is found by topic and key")
    equal(retained.find("b ü", "x"), None, "a retained update is found by topic and key")
    equal(
        (retained.count, retained.is_empty), (3, False), "an update that is retained under two topics is two"
    )
    equal(sorted(retained.topics()), ["a", "b ü"], "the topics are those of retained updates")
    equal((retained.owned("me"), retained.owned("x")), (2, 0), "retained updates are counted by owner")
    for after in (0, position - 1):
        entry = (await subject.read(after)).entries[0]
        equal(entry, (position, update), "the retention of an update is recorded")
    equal(retained.changed_at, second.position, "changed_at is the position of the newest change")


@check
async def newest_update_is_retained(subject: Subject) -> None:
    """
    Check that an update replaces the retained one with its topic and key, and no other one.
    """
    retained = await start_retaining(subject)
    await subject.journal.append(make_retained("1", "a", "1", owner="me"))
    await subject.journal.append(make_retained("2", "b", "2"))
    await subject.journal.append(make_retained("3", "a", "3", "sport"))
    size = retained.size
    await subject.journal.append(make_retained("4", "a", "4"))
    equal(
        [each.frame.decode() for each in await read_retained(retained)],
        [frame_of("2"), frame_of("3"), frame_of("4")],
        "the newest update of a topic and key is retained, in the order of positions",
    )
    equal((retained.count, retained.size), (3, size), "an update that is replaced does not count")
    equal(retained.owned("me"), 0, "an update that is replaced does not count")
    await subject.journal.append(make_retained("5", "a", "5", ("news", "sport")))
    await subject.journal.append(make_retained("6", "a", "6"))
    equal(
        [(each.topics, each.frame.decode()) for each in await read_retained(retained)],
        [(("news",), frame_of("2")), (("sport",), frame_of("5")), (("news",), frame_of("6"))],
        "an update stays retained under the topics under which it is the newest",
    )


@check
async def retained_updates_are_removed(subject: Subject) -> None:
    """
    Check that an ``unretain`` update removes a key under its topics, and that there must be one.
    """
    retained = await start_retaining(subject)
    await subject.journal.append(make_retained("1", "a", "1", ("news", "sport")))
    await subject.journal.append(make_retained("2", "b", "2"))
    removal = make_removal("3", "a")
    position = await subject.journal.append(removal)
    equal(
        state_of(await read_retained(retained)),
        {("sport", "a"): frame_of("1"), ("news", "b"): frame_of("2")},
        "a key is removed under the topics of the update",
    )
    equal(retained.changed_at, position, "changed_at is the position of the newest change")
    equal(subject.follower.entries[-1], (position, removal), "an update that removes a key is recorded")
    equal(await subject.journal.append(removal), position, "a repeated removal is a no-op")
    head = subject.journal.head
    for id, key, topics in (("4", "a", "news"), ("5", "c", "news"), ("6", "b", "sport")):
        failure = None
        try:
            await subject.journal.append(make_removal(id, key, topics))
        except NotRetained as error:
            failure = error
        expect(failure is not None, "a removal of what is not retained fails with NotRetained")
        equal((subject.journal.head, await subject.find(id)), (head, None), "nothing is recorded then")
    await subject.journal.append(make_removal("7", "a", ("news", "sport")))
    await subject.journal.append(make_removal("8", "b"))
    equal((retained.count, retained.size, retained.is_empty), (0, 0, True), "all are removed")


@check
async def follower_finds_what_it_was_given(subject: Subject) -> None:
    """
    Check that the retained updates agree with what the follower was given, at any moment.
    """
    follower = await subject.start()
    retained = retained_of(subject)
    expected: State = {}
    agrees: list[bool] = []

    def compare(entry: tuple[int, Update]) -> None:
        _, update = entry
        assert update.retention is not None
        name = "news", update.retention.key
        if update.unretains:
            del expected[name]
        else:
            expected[name] = update.frame_without_id.decode()
        read = retained.read(None, 0, subject.journal.head)
        read.addCallback(lambda page: agrees.append(state_of([row for _, row in page.entries]) == expected))

    follower.appended = compare
    batch = [
        make_retained("1", "a"),
        make_retained("2", "b"),
        make_retained("3", "a", "y"),
        make_removal("4", "b"),
        make_retained("5", "c"),
    ]
    for recorded in [subject.journal.append(each) for each in batch]:
        await recorded
    await subject.journal.append_many(
        [make_removal("6", "c"), make_retained("7", "d"), make_retained("8", "d", "z")]
    )
    equal(agrees, [True] * 8, "the retained updates agree with what the follower was given")


@check
async def retained_updates_persist(subject: Subject) -> None:
    """
    Check that the next journal with the same record has the same retained updates, if the record persists.
    """
    retained = await start_retaining(subject)
    longest = "ü" * (MAX_KEY_BYTES // 2)
    await subject.journal.append(make_retained("1", longest, "1", ("news", "sport \n ü\0"), owner="me \n ü"))
    await subject.journal.append(make_retained("2", "b", "2", private=True))
    await subject.journal.append(make_retained("3", "c", "3", seconds=1000))
    await subject.journal.append(make_retained("4", "d", "4"))
    await subject.journal.append(make_removal("5", "d"))
    await subject.journal.append(make_retained("6", longest, "6"))
    for number in range(600):
        await subject.journal.append(make_retained(f"id {number}", str(number), topics="many"))
    rows, count, size = await read_retained(retained), retained.count, retained.size
    for _ in range(2):
        retained = await restart_retaining(subject)
        found = await read_retained(retained)
        equal(
            [(each.position, each.topics, each.key, each.frame) for each in found],
            [(each.position, each.topics, each.key, each.frame) for each in rows],
            "a journal that persists keeps its retained updates",
        )
        equal(
            [replace(each, expires=0) for each in found], [replace(each, expires=0) for each in rows], "all"
        )
        equal((retained.count, retained.size), (count, size), "the bounds count them as before")
        equal(retained.owned("me \n ü"), 1, "the owner is kept")
    subject.factory.advance(500)
    expect(retained.find("news", "c") is not None, "the time goes on over a restart")
    subject.factory.advance(600)
    equal(retained.find("news", "c"), None, "the time goes on over a restart")
    await subject.journal.append(make_removal("7", "b"))
    await subject.journal.append(make_retained("8", longest, "8", "sport \n ü\0"))
    retained = await restart_retaining(subject)
    equal(
        state_of(await read_retained(retained, {"news", "sport \n ü\0"})),
        {("news", longest): frame_of("6"), ("sport \n ü\0", longest): frame_of("8")},
        "retained updates are replaced and removed after a restart",
    )


@check
async def retained_updates_are_read_by_topic(subject: Subject) -> None:
    """
    Check the pages of ``read``: by topics, between two positions, each update once.
    """
    retained = await start_retaining(subject)
    positions = [
        await subject.journal.append(
            make_retained(f"id {number}", str(number), "x" * 1000, (("a", "b"), "a", "b", "c")[number % 4])
        )
        for number in range(300)
    ]
    everything = {str(number) for number in range(300)}
    for topics, numbers in (
        (None, everything),
        ({"a"}, {each for each in everything if int(each) % 4 < 2}),
        ({"a", "b", "no"}, {each for each in everything if int(each) % 4 < 3}),
        ({"no"}, set()),
        (set(), set()),
    ):
        found = await read_retained(retained, topics)
        equal(sorted(each.key for each in found), sorted(numbers), "retained updates are read by topic, once")
    between = await read_retained(retained, None, positions[9], positions[29])
    equal([each.key for each in between], [str(number) for number in range(10, 30)], "read has two bounds")
    page = await retained.read(None, 0, positions[-1])
    expect(0 < len(page.entries) < 300, "a page has a size that can be sent at once")
    large = make_retained("large", "large", "x" * 500_000)
    await subject.journal.append(large)
    (row,) = await read_retained(retained, {"news"})
    equal(row.frame, large.frame_without_id, "an update that is larger than a page is one page")


@check
async def retained_updates_agree_with_a_model(subject: Subject) -> None:
    """
    Check the retained updates against a model, over 500 random appends with few topics and keys.
    """
    retained = await start_retaining(subject)
    random = Random(1)
    expected: State = {}
    for number in range(500):
        topics = tuple(random.sample("abc", random.randrange(1, 3)))
        key, data = random.choice("123456789"), random.choice("xy")
        if random.random() < 0.3:
            held = [each for each in topics if expected.pop((each, key), None) is not None]
            try:
                await subject.journal.append(make_removal(f"id {number}", key, topics))
            except NotRetained:
                equal(held, [], "a removal fails only if nothing is retained")
            else:
                expect(held, "a removal of what is not retained fails")
        else:
            await subject.journal.append(make_retained(f"id {number}", key, data, topics))
            expected.update({(each, key): frame_of(data) for each in topics})
        if number % 10 == 0:
            equal(
                state_of(await read_retained(retained)),
                expected,
                "the newest update of topic and key is retained",
            )
            equal(retained.count, len(expected), "retained updates are counted")
            wanted = random.choice("abc")
            equal(
                {
                    name: data
                    for name, data in state_of(await read_retained(retained, {wanted})).items()
                    if name[0] == wanted
                },
                {name: data for name, data in expected.items() if name[0] == wanted},
                "retained updates are read by topic",
            )

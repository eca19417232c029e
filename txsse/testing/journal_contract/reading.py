"""
Contract checks for ``find``, ``at``, ``read`` and ``resume_id``.
"""

from __future__ import annotations

from txsse.journal.page import Page
from txsse.journal.position import OLDEST
from txsse.journal.update import MAX_ID_BYTES
from txsse.testing.journal_contract.subject import Subject, check, equal, expect, make_update

# In bytes of frames. A larger page is inconvenient to send at once.
_MAX_PAGE_BYTES = 1024 * 1024


@check
async def updates_are_found(subject: Subject) -> None:
    """
    Check that ``find`` and ``at`` fire with a position and an update, or with ``None`` for unknown ones.
    """
    await subject.start()
    positions = await subject.append("of my own", "ü", "3")
    equal([await subject.find(id) for id in ("of my own", "ü", "3")], positions, "find fires with positions")
    for unknown in ("4", "", "x" * MAX_ID_BYTES):
        equal(await subject.find(unknown), None, "find fires with None for an unknown id")
    found = [await subject.journal.at(position) for position in positions]
    equal(
        [update and update.id for update in found],
        ["of my own", "ü", "3"],
        "at fires with the update at a position",
    )
    for none in (positions[0] - 1, positions[-1] + 1):
        equal(await subject.journal.at(none), None, "at fires with None for a position without an update")


@check
async def pages_begin_after_a_position(subject: Subject) -> None:
    """
    Check that a page has the updates after its position, and ends at the head.
    """
    await subject.start()
    positions = await subject.append("1", "2", "3")
    for after, ids in (
        (OLDEST, "123"),
        (0, "123"),
        (positions[0], "23"),
        (positions[1], "3"),
        (positions[2], ""),
    ):
        page = await subject.read(after)
        equal([update.id for _, update in page.entries], list(ids), "a page has the updates after a position")
        equal((page.end, page.missed), (positions[-1], False), "the page ends at the head; nothing is missed")


@check
async def pages_have_a_limit(subject: Subject) -> None:
    """
    Check that a large record is read in several pages of at most 1 MiB.
    """
    await subject.start()
    ids = [str(number) for number in range(300)]
    for start in range(0, 300, 50):
        await subject.journal.append_many([make_update(id, "x" * 8000) for id in ids[start : start + 50]])
    equal(await subject.ids_after(0), ids, "together, the pages have every update, in order")
    page = await subject.read(0)
    size = sum(len(update.frame) for _, update in page.entries)
    expect(page.entries and size <= _MAX_PAGE_BYTES, "a page is not empty, and has at most 1 MiB of frames")


@check
async def resume_ids_are_found(subject: Subject) -> None:
    """
    Check that a resume ID stands for its position, fits into a header field, and discloses no update.
    """
    await subject.start()
    journal = subject.journal
    ids = [journal.resume_id(journal.head)]
    await subject.append("a-private-id", "b", private=True)
    ids.append(journal.resume_id(journal.head))
    await subject.append("c")
    for id, expected in zip(ids, (["a-private-id", "b", "c"], ["c"]), strict=True):
        position = await subject.find(id)
        expect(position is not None, "find accepts a resume ID")
        equal(await subject.ids_after(position or 0), expected, "a resume ID stands for its position")
        expect(id.startswith("#"), "a resume ID begins with '#', which no update's id does")
        expect(id.isascii() and len(id) <= MAX_ID_BYTES, "a resume ID fits into a header field")
        expect("private" not in id, "a resume ID discloses nothing of updates")
    equal(len(ids[0]), len(ids[1]), "a resume ID does not disclose how many updates there are")
    for unknown in (ids[1] + "x", ids[1][:-1], "#", "#1", "#999999999999999-0"):
        equal(await subject.find(unknown), None, "an id that only looks like a resume ID is not found")


@check
async def resume_ids_of_another_record_are_not_found(subject: Subject) -> None:
    """
    Check that a journal with another record does not accept a resume ID.
    """
    await subject.start()
    await subject.append("a", "b")
    id = subject.journal.resume_id(subject.journal.head)
    other = Subject(subject.factory.another())
    try:
        await other.start()
        await other.append("a", "b", "c")
        equal(await other.find(id), None, "a resume ID of another record is not found")
    finally:
        await other.stop()


@check
async def resume_id_after_a_gap(subject: Subject) -> None:
    """
    Check that the end of a gap has a resume ID, so that a client is notified of the gap once.
    """
    await subject.start(max_count=3)
    positions = await subject.append("1", "2", "3", "4", "5", private=True)
    page = await subject.read(positions[0])
    expect(
        page.missed and positions[1] <= page.begin < positions[2], "a gap ends before the next held update"
    )
    found = await subject.find(subject.journal.resume_id(page.begin))
    equal(found, page.begin, "the position after a gap has a resume ID")
    equal(await subject.read(page.begin), Page(page.entries, page.end, False), "a gap is reported only once")

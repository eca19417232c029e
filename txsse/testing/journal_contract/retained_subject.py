"""
The functions that the contract checks for retained updates use.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias
from unittest import SkipTest

from txsse.errors import RetainedFull
from txsse.journal.interfaces import IRetainingJournal
from txsse.journal.retained import IRetained, Retained
from txsse.journal.retention import UNRETAIN_TYPE, Retention
from txsse.journal.update import Update
from txsse.protocol.event import ServerSentEvent
from txsse.testing.journal_contract.subject import Subject, equal, expect

__all__ = [
    "State",
    "expect_full",
    "frame_of",
    "make_removal",
    "make_retained",
    "read_retained",
    "restart_retaining",
    "retained_of",
    "start_retaining",
    "state_of",
]

#: The frame of each retained update, by topic and key.
State: TypeAlias = dict[tuple[str, str], str]


async def start_retaining(subject: Subject, **bounds: int) -> IRetained:
    """
    Start a journal, and return its retained updates.
    """
    await subject.start(**bounds)
    return retained_of(subject)


async def restart_retaining(subject: Subject) -> IRetained:
    """
    Restart the journal, and return its retained updates.
    """
    await subject.restart()
    return retained_of(subject)


def retained_of(subject: Subject) -> IRetained:
    """
    Return the retained updates of the journal; skip the check if it has none.
    """
    if not IRetainingJournal.providedBy(subject.journal):
        raise SkipTest("the journal retains no updates")
    return subject.journal.retained


def make_retained(
    id: str,
    key: str,
    data: str = "x",
    topics: str | tuple[str, ...] = "news",
    *,
    seconds: float | None = None,
    owner: str | None = None,
    private: bool = False,
) -> Update:
    """
    Make an update to retain, under the topic ``news`` unless others are given.
    """
    return Update(
        topics, ServerSentEvent(data, id=id), private=private, retention=Retention(key, seconds, owner)
    )


def make_removal(id: str, key: str, topics: str | tuple[str, ...] = "news") -> Update:
    """
    Make an update that removes a key.
    """
    return Update(topics, ServerSentEvent(key, UNRETAIN_TYPE, id), retention=Retention(key))


async def read_retained(
    retained: IRetained, topics: Collection[str] | None = None, after: int = 0, up_to: int | None = None
) -> list[Retained]:
    """
    Read all pages, and check that they are consistent.
    """
    found: list[Retained] = []
    up_to = 1 << 1000 if up_to is None else up_to
    while True:
        page = await retained.read(topics, after, up_to)
        positions = [position for position, _ in page.entries]
        expect(
            positions == sorted(set(positions)) and all(after < each <= page.end for each in positions),
            "a page has retained updates after a position, in order, and ends at its last one or later",
        )
        for position, each in page.entries:
            equal(each.position, position, "a page names the position of each retained update")
        found += [each for _, each in page.entries]
        if page.end >= up_to:
            equal(page.end, up_to, "the last page ends where the reader wants it to")
            return found
        expect(page.end > after, "each page ends after the one before it")
        after = page.end


def state_of(found: list[Retained]) -> State:
    """
    Return the frame of each topic and key.
    """
    return {(topic, each.key): each.frame.decode() for each in found for topic in each.topics}


def frame_of(data: str) -> str:
    """
    Return the frame of an event with this data and no ID.
    """
    return f"data: {data}\n\n"


async def expect_full(subject: Subject, *updates: Update) -> None:
    """
    Check that updates are refused with ``RetainedFull``, and that nothing is recorded.

    :param updates: an update to append; or several, as one batch.
    """
    head = subject.journal.head
    failure = None
    try:
        if len(updates) > 1:
            await subject.journal.append_many(updates)
        else:
            await subject.journal.append(*updates)
    except RetainedFull as error:
        failure = error
    expect(failure is not None, "an update over the bound fails with RetainedFull")
    equal(subject.journal.head, head, "nothing is recorded then")
    equal(await subject.find(updates[0].id), None, "nothing is recorded then")

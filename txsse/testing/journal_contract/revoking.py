"""
Contract checks for ``revocations``, the list of revoked tokens, which a journal need not have.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, cast
from unittest import SkipTest

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from txsse.journal.revocations import MAX_VALUE_BYTES, IRevocations, Revocation
from txsse.testing.journal_contract.subject import Subject, check, equal, expect

# More than a journal is likely to read or to delete at once.
_MANY = 2500


async def _start(subject: Subject) -> IRevocations:
    await subject.start()
    return _revocations(subject)


def _revocations(subject: Subject) -> IRevocations:
    revocations = getattr(subject.journal, "revocations", None)
    if revocations is None:
        raise SkipTest("the journal has no revocations")
    return cast(IRevocations, revocations)


async def _load(revocations: Any) -> list[Revocation]:
    found: list[Revocation] = await revocations.load()
    return sorted(found, key=lambda each: (each.claim, each.value))


@check
async def revocations_are_recorded(subject: Subject) -> None:
    """
    Check that the list is empty at first, and that added revocations are loaded unchanged.
    """
    revocations = await _start(subject)
    verifyObject(IRevocations, revocations)
    equal(await _load(revocations), [], "the list of a new journal is empty")
    now = subject.factory.now()
    added = [
        Revocation("jti", "1", now - 0.1, now + 1000.000001),
        Revocation("jti", "2", now, float("inf")),
        # Texts that are equal when they are joined.
        Revocation("sub", "a b", now, now + 1000),
        Revocation("sub a", "b", now, now + 1000),
        Revocation("sub\0", "a", now, now + 1000),
        Revocation("sub", "\0a", now, now + 1000),
        Revocation("sub", "sub", now, now + 1000),
        Revocation("sub", "ü \n\r\t'\"\\%*", now, now + 1000),
        Revocation("x" * MAX_VALUE_BYTES, "ü" * (MAX_VALUE_BYTES // 2), now, now + 1000),
    ]
    for each in added:
        await revocations.add(each)
    added.sort(key=lambda each: (each.claim, each.value))
    for _ in range(2):
        equal(await _load(revocations), added, "recorded revocations are loaded unchanged")
    equal(subject.journal.problem, None, "a journal that works has no problem")


@check
async def later_times_count(subject: Subject) -> None:
    """
    Check that of two revocations with one claim and value, the later ``at`` and the later ``expires`` count.
    """
    revocations = await _start(subject)
    now = subject.factory.now()
    first = Revocation("jti", "1", now, now + 1000)
    for changed, expected in (
        (first, first),
        (replace(first, at=now + 5), (now + 5, now + 1000)),
        (replace(first, at=now - 5, expires=now + 2000), (now + 5, now + 2000)),
        (replace(first, expires=now + 10), (now + 5, now + 2000)),
        (replace(first, expires=now - 10), (now + 5, now + 2000)),
    ):
        if isinstance(expected, tuple):
            expected = Revocation("jti", "1", *expected)
        await revocations.add(changed)
        equal(await _load(revocations), [expected], "the later times of both count")


@check
async def expired_revocations_are_not_loaded(subject: Subject) -> None:
    """
    Check that revocations are loaded until they expire, and that the list may then have other ones.
    """
    revocations = await _start(subject)
    now = subject.factory.now()
    long = [Revocation("jti", f"long {number}", now, now + 1000) for number in range(3)]
    short = [Revocation("jti", f"short {number}", now, now + 10) for number in range(_MANY)]
    await revocations.add(Revocation("sub", "expired", now - 20, now - 10))
    equal(await _load(revocations), [], "expired revocations are not loaded")
    recorded = [revocations.add(each) for each in (*long, *short)]
    for each in recorded:
        await each
    subject.factory.advance(5)
    equal(len(await _load(revocations)), len(recorded), "revocations are loaded until they expire")
    subject.factory.advance(10)
    for _ in range(2):
        equal(await _load(revocations), long, "expired revocations are not loaded")
    again = Revocation("jti", "short 1", now + 15, now + 500)
    await revocations.add(again)
    equal(await _load(revocations), [*long, again], "a revocation may be added again after it has expired")


@check
async def revocations_persist(subject: Subject) -> None:
    """
    Check that the next journal with the same record has the same list, if the record persists.
    """
    revocations = await _start(subject)
    now = subject.factory.now()
    added = [Revocation("jti", f"{number:04}", now, now + 1000) for number in range(_MANY)]
    for recorded in [revocations.add(each) for each in added]:
        await recorded
    await subject.restart()
    revocations = _revocations(subject)
    equal(await _load(revocations), added, "a journal that persists keeps its list of revocations")
    later = replace(added[0], at=now - 1, expires=now + 2000)
    await revocations.add(later)
    await subject.restart()
    equal(
        (await _load(_revocations(subject)))[0],
        replace(later, at=now),
        "the later times count, also for a revocation that was recorded before a restart",
    )


@check
async def stop_waits_for_revocations(subject: Subject) -> None:
    """
    Check that ``stop`` fires after the added revocations are recorded.
    """
    revocations = await _start(subject)
    now = subject.factory.now()
    recorded: list[Deferred[None]] = [
        revocations.add(Revocation("jti", str(number), now, now + 1000)) for number in range(10)
    ]
    await subject.stop()
    expect(all(each.called for each in recorded), "stop fires after all added revocations are recorded")
    for each in recorded:
        # It raises the error if the revocation could not be recorded.
        await each


@check
async def revocations_are_not_updates(subject: Subject) -> None:
    """
    Check that updates and revocations do not affect each other.
    """
    revocations = await _start(subject)
    now = subject.factory.now()
    revocation = Revocation("jti", "1", now, now + 1000)
    (position,) = await subject.append("1")
    await revocations.add(revocation)
    equal(subject.journal.head, position, "a revocation has no position")
    (other,) = await subject.append("2")
    equal(subject.follower.ids, ["1", "2"], "the follower is not given revocations")
    equal(await subject.ids_after(0), ["1", "2"], "revocations are not read as updates")
    equal(await subject.find("2"), other, "updates are found as without revocations")
    equal(await _load(revocations), [revocation], "updates do not change the list of revocations")


@check
async def revocations_agree_with_a_model(subject: Subject) -> None:
    """
    Check the list against a model, over 300 random calls with few names, and passing time.
    """
    revocations = await _start(subject)
    random = Random(1)
    begin = subject.factory.now()
    passed = 0.0
    held: dict[tuple[str, str], tuple[float, float]] = {}
    for number in range(300):
        # Whole hundreds and fifties: a real clock runs on, and must not decide what has expired.
        if random.random() < 0.1:
            subject.factory.advance(100)
            passed += 100
            held = {name: times for name, times in held.items() if times[1] > passed}
        name = random.choice("ab"), random.choice("123456789")
        at, expires = (passed + 50 + 100 * random.randrange(-5, 20) for _ in range(2))
        await revocations.add(Revocation(*name, begin + at, begin + expires))
        known = held.get(name, (at, expires))
        held[name] = max(at, known[0]), max(expires, known[1])
        if held[name][1] <= passed:
            del held[name]
        if number % 10 == 0:
            expected = [
                Revocation(*name, begin + at, begin + expires) for name, (at, expires) in sorted(held.items())
            ]
            equal(
                await _load(revocations), expected, "exactly the revocations that have not expired are loaded"
            )

"""
Tests of when a command that Redis refused counts as working again.
"""

from __future__ import annotations

import pytest

from txsse import JournalFailed
from txsse.journal.redis.failed_commands import Refusals

PROBLEM = JournalFailed("redis", "no")


def test_nothing_refused() -> None:
    """
    If Redis has refused no command, the journal has no problem and no trials to send.
    """
    refusals = Refusals()
    assert not refusals
    assert refusals.problem is None
    assert not refusals.worked(("append", 1, b"x"))
    assert list(refusals.trials(5)) == []


@pytest.mark.parametrize("size", [10, 300_000, 5_000_000])
def test_size(size: int) -> None:
    """
    A refusal of updates ends when as many bytes as were refused are accepted, at most 1 MiB.
    """
    refusals = Refusals()
    refusals.refused(("append", 1, b"x" * size), PROBLEM)
    refusals.refused(("append", 1, b"x"), PROBLEM)
    assert refusals.problem is PROBLEM
    assert not refusals.worked(("append", 1, b"x"))
    assert not refusals.worked(("heartbeat", 1))
    (trial,) = refusals.trials(5)
    assert trial[:2] == ("probe", 5)
    assert len(trial[2]) == min(size, 1024 * 1024)  # type: ignore[arg-type]
    # A refused trial changes nothing.
    refusals.refused(trial, PROBLEM)
    assert list(refusals.trials(5)) == [trial]
    assert refusals.worked(trial)
    assert not refusals


def test_several() -> None:
    """
    Each kind of command is refused separately: a read is retried unchanged, a heartbeat needs no trial.
    """
    refusals = Refusals()
    read = ("read", 1, "0-0")
    refusals.refused(read, PROBLEM)
    refusals.refused(("put_metadata", "a"), JournalFailed("redis", "other"))
    assert list(refusals.trials(5)) == [read]
    assert refusals.worked(("read", 2, "1-0"))
    assert str(refusals.problem) == "redis: other"
    assert refusals.worked(("heartbeat", 1))
    assert not refusals


def test_revocation() -> None:
    """
    After a refused revocation, a trial that records nothing tests whether Redis accepts revocations again.
    """
    refusals = Refusals()
    refusals.refused(("revoke", "1.0", b"field", "1.0", "2.0", 9), PROBLEM)
    assert list(refusals.trials(5)) == [("probe_revocations",)]
    assert not refusals.worked(("append", 1, b"x"))
    assert refusals.worked(("probe_revocations",))
    assert not refusals

"""
Code that all journals share: default limits, checks of their arguments, and errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from txsse._arguments import check_number
from txsse.errors import BatchTooLarge, JournalFailed
from txsse.journal.update import Update

__all__ = [
    "DEFAULT_AGE",
    "DEFAULT_BYTES",
    "DEFAULT_COUNT",
    "MAX_BATCH_BYTES",
    "MAX_BATCH_COUNT",
    "MAX_PENDING",
    "RECENT_BYTES",
    "RECENT_COUNT",
    "all_of",
    "check_batch",
    "check_bounds",
    "check_retained_bounds",
    "not_started",
    "to_max_age",
    "too_much_pending",
]

# The default limits of a journal: for how many updates, bytes and seconds a client may be disconnected and
# still resume without a gap.
DEFAULT_COUNT = 10_000
DEFAULT_BYTES = 64 * 1024 * 1024
DEFAULT_AGE = 24 * 3600.0

# How much of its newest part a journal with a server or a file keeps in memory; and, by default, how many
# bytes of updates may wait to be recorded.
RECENT_COUNT = 10_000
RECENT_BYTES = 16 * 1024 * 1024
MAX_PENDING = 64 * 1024 * 1024

# The limits of one transaction. No other update is recorded during it, and the follower is given a whole
# batch in one turn of the reactor, which takes about 10 ms for 1,000 updates.
MAX_BATCH_COUNT = 1000
MAX_BATCH_BYTES = 4 * 1024 * 1024


def to_max_age(max_age: float | None) -> float:
    """
    Return the maximum age as a number of seconds: infinity for ``None``.
    """
    return math.inf if max_age is None else max_age


def too_much_pending(name: str, pending: int) -> JournalFailed:
    """
    Return the error for an update that would exceed ``max_pending``.

    :param name: the name of the journal.
    :param pending: how many bytes wait to be recorded.
    """
    problem = f"{pending} bytes wait to be recorded; publish less, or wait until they are recorded"
    return JournalFailed(name, problem)


def not_started() -> float:
    """
    Raise an error: the clock of a journal that has not been started.
    """
    raise AssertionError("the journal has not been started")


def all_of(recorded: Sequence[Deferred[int]]) -> Deferred[list[int]]:
    """
    Return a Deferred for the positions of a batch's updates. It fails with the error of the first that fails.
    """
    return gatherResults(recorded, consumeErrors=True).addErrback(_first_failure)


def _first_failure(failure: Failure) -> Failure:
    # The batch is recorded as a whole, so all of its updates fail for the same reason.
    first: Failure = cast(FirstError, failure.value).subFailure
    return first


def check_batch(updates: Sequence[Update]) -> int:
    """
    Check the size of a batch.

    :returns: its size on the wire, in bytes.
    :raises BatchTooLarge: if it exceeds the limits of one transaction. A single update never does.
    """
    count, size = len(updates), sum(len(update.frame) for update in updates)
    if count > 1 and (count > MAX_BATCH_COUNT or size > MAX_BATCH_BYTES):
        raise BatchTooLarge(count, size, max_count=MAX_BATCH_COUNT, max_size=MAX_BATCH_BYTES)
    return size


def check_bounds(max_count: int, max_bytes: int, max_age: float | None) -> None:
    """
    Check the limits of a journal.

    :raises ValueError: if one is not greater than 0.
    :raises TypeError: if one is not a number.
    """
    _check(max_count=max_count, max_bytes=max_bytes)
    if max_age is not None:
        _check(max_age=max_age)


def check_retained_bounds(max_retained: int, max_retained_bytes: int) -> None:
    """
    Check the limits of a journal's retained updates.

    :raises ValueError: as :func:`check_bounds` does, like :exc:`TypeError`.
    """
    _check(max_retained=max_retained, max_retained_bytes=max_retained_bytes)


def _check(**bounds: float) -> None:
    for name, bound in bounds.items():
        check_number(name, bound)
        if not bound > 0:
            raise ValueError(f"{name} must be more than 0, not {bound}")

"""
Reads the script's reply to a call that records updates: a position, or the reason of a refusal, for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txsse.errors import NotRetained, RetainedFull
from txsse.journal.redis.codec import Arguments, to_topics
from txsse.journal.redis.limits import Limits
from txsse.journal.redis.replies import (
    Reply,
    as_entry_number,
    as_entry_numbers,
    as_list,
    as_numbers,
    malformed,
)
from txsse.journal.redis.retained_rows import from_retain

__all__ = ["Recorded", "to_recorded"]

# The result of one update: its position, or why the journal refused it.
Recorded = int | RetainedFull | NotRetained

# The script's reasons of a refusal.
_FULL, _NOT_RETAINED = 1, 2

# How many arguments an update has that is retained or removes a retained one.
_RETAINED_LENGTH = 10


def to_recorded(
    reply: Reply, updates: Sequence[Arguments], limits: Limits, position_of: Callable[[int], int]
) -> tuple[int, Sequence[Recorded]]:
    """
    Return the entry up to which all are dropped, and the result of each update.

    :param updates: the updates, as the arguments of the script.
    :param limits: those of the journal, for an error.
    :param position_of: returns the position of an entry.
    :raises JournalFailed: if the reply has another form.
    """
    floor, entries, refused = as_list(reply, 3)
    number, refusals = as_entry_number(floor), as_list(refused)
    if not refusals:
        # Nearly always.
        return number, list(map(position_of, as_entry_numbers(entries, len(updates))))
    if not as_list(entries):
        # A batch is refused as a whole.
        index, reason = as_numbers(refused, 2)
        return number, [_to_error(index, reason, updates, limits)] * len(updates)
    recorded: list[Recorded] = list(map(position_of, as_entry_numbers(entries, len(updates))))
    reasons = as_numbers(refused, len(refusals) // 2 * 2)
    for index, reason in zip(reasons[::2], reasons[1::2], strict=True):
        error = _to_error(index, reason, updates, limits)
        recorded[index] = error
    return number, recorded


def _to_error(
    index: int, reason: int, updates: Sequence[Arguments], limits: Limits
) -> RetainedFull | NotRetained:
    arguments = updates[index] if 0 <= index < len(updates) else ()
    if len(arguments) == _RETAINED_LENGTH:
        if reason == _FULL:
            return RetainedFull(limits.max_retained, limits.max_retained_bytes)
        if reason == _NOT_RETAINED:
            return NotRetained(to_topics(arguments[1]), from_retain(arguments[8]).key)
    raise malformed("why an update was refused", [index, reason])

"""
Types of a Redis server's replies, and functions that narrow them.

A reply is checked where it is read: another server, or a proxy that changes replies, must neither end a
connection with an unexplained error nor leave a Deferred unfired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast

from twisted.internet.defer import Deferred

from txsse.errors import JournalFailed
from txsse.journal.redis.stream_ids import to_number

__all__ = [
    "Argument",
    "Reply",
    "Run",
    "StreamEntry",
    "as_bytes",
    "as_entries",
    "as_entry",
    "as_entry_number",
    "as_entry_numbers",
    "as_list",
    "as_list_of_bytes",
    "as_number",
    "as_numbers",
    "as_scanned",
    "malformed",
]

#: An argument of a command.
Argument: TypeAlias = str | bytes | int

#: A reply: a string, a number, nothing, or several replies.
Reply: TypeAlias = "bytes | int | Sequence[Reply] | None"

#: An entry of a stream: its id, and its fields with their values in turn. The library makes lists of them.
StreamEntry: TypeAlias = tuple[bytes, list[bytes]]


class Run(Protocol):
    """
    Runs a command of the journal's script.
    """

    def __call__(self, command: str, /, *arguments: Argument) -> Deferred[Reply]:
        """
        Return a Deferred that fires with the reply, or fails with :exc:`~txsse.errors.JournalFailed`.
        """


def malformed(wanted: str, reply: object) -> JournalFailed:
    """
    Return the error for a reply of the wrong form. It is uncertain whether the server has done its command.

    :param wanted: the expected form, such as ``a number``.
    :param reply: the reply. Only its type is shown: it may contain private data.
    """
    return JournalFailed(
        "Redis",
        f"the server has sent {type(reply).__name__} in a reply instead of {wanted}; check that the URL is "
        "that of a Redis server, and that no program or proxy in between changes its replies",
        uncertain=True,
    )


def as_bytes(reply: Reply) -> bytes:
    """
    Return a reply that must be a string.

    :raises JournalFailed: if it is not.
    """
    if not isinstance(reply, bytes):
        raise malformed("a string", reply)
    return reply


def as_number(reply: Reply) -> int:
    """
    Return a reply that must be a number.

    :raises JournalFailed: if it is not.
    """
    if not isinstance(reply, int):
        raise malformed("a number", reply)
    return reply


def as_list(reply: Reply, length: int | None = None, *, minimum: int = 0) -> Sequence[Reply]:
    """
    Return a reply that must be a list.

    :param length: its length; ``None`` for any.
    :param minimum: its minimum length.
    :raises JournalFailed: if it is not.
    """
    if not isinstance(reply, list | tuple):
        raise malformed("a list", reply)
    if len(reply) < minimum or length not in (None, len(reply)):
        raise malformed(f"a list of {minimum if length is None else length}", reply)
    return reply


def as_list_of_bytes(reply: Reply) -> list[bytes]:
    """
    Return a reply that must be a list of strings.

    :raises JournalFailed: if it is not.
    """
    return [as_bytes(each) for each in as_list(reply)]


def as_numbers(reply: Reply, length: int) -> list[int]:
    """
    Return a reply that must be a list of numbers.

    :param length: its length.
    :raises JournalFailed: if it is not.
    """
    return [as_number(each) for each in as_list(reply, length)]


def as_scanned(reply: Reply) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """
    Return the cursor, and the fields with their values, of a reply to ``HSCAN``.

    :raises JournalFailed: if it has another form.
    """
    cursor, texts = as_list(reply, 2)
    found = as_list_of_bytes(texts)
    if len(found) % 2:
        raise malformed("fields with their values", reply)
    return as_bytes(cursor), list(zip(found[::2], found[1::2], strict=True))


def as_entry_number(reply: Reply) -> int:
    """
    Return the number of the entry whose id a reply must be.

    :raises JournalFailed: if it is not.
    """
    try:
        return to_number(as_bytes(reply))
    except ValueError:
        raise malformed("the id of an entry", reply) from None


def as_entry_numbers(reply: Reply, length: int) -> list[int]:
    """
    Return the numbers of the entries whose ids a reply must have.

    :param length: how many there must be.
    :raises JournalFailed: if it has others.
    """
    try:
        # A check of each id would cost more than the exception of a rare one of another form.
        return list(map(to_number, cast("Sequence[bytes]", as_list(reply, length))))
    except (AttributeError, TypeError, ValueError):
        raise malformed("the ids of entries", reply) from None


def as_entry(reply: Reply) -> StreamEntry:
    """
    Return a reply that must be an entry of a stream, with any fields.

    :raises JournalFailed: if it is not.
    """
    id, flat = as_list(reply, 2)
    as_entry_number(id)
    return as_bytes(id), as_list_of_bytes(flat)


def as_entries(reply: Reply) -> Sequence[StreamEntry]:
    """
    Return a reply that must be a list of entries.

    The entries are not checked, because this would take time for each: decoding finds one of another form.

    :raises JournalFailed: if it is not a list.
    """
    return cast("Sequence[StreamEntry]", as_list(reply))

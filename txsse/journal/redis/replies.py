"""
Types of a Redis server's replies, and functions that narrow them.

A reply is checked where it is read: another server, or a proxy that changes replies, must neither end a
connection with an unexplained error nor leave a Deferred unfired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from txsse.errors import JournalFailed

__all__ = ["Argument", "Reply", "as_bytes", "as_list", "as_list_of_bytes", "as_number", "malformed"]

#: An argument of a command.
Argument: TypeAlias = str | bytes | int

#: A reply: a string, a number, nothing, or several replies.
Reply: TypeAlias = "bytes | int | Sequence[Reply] | None"


def malformed(wanted: str, reply: object) -> JournalFailed:
    """
    Return the error for a reply of the wrong form.

    :param wanted: the expected form, such as ``a number``.
    :param reply: the reply. Only its type is shown: it may contain private data.
    """
    return JournalFailed(
        "Redis",
        f"the server has sent {type(reply).__name__} in a reply instead of {wanted}; check that the URL is "
        "that of a Redis server, and that no program or proxy in between changes its replies",
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


def as_list(reply: Reply, length: int | None = None) -> Sequence[Reply]:
    """
    Return a reply that must be a list.

    :param length: its length; ``None`` for any.
    :raises JournalFailed: if it is not.
    """
    if not isinstance(reply, list | tuple) or length not in (None, len(reply)):
        raise malformed("a list" if length is None else f"a list of {length}", reply)
    return reply


def as_list_of_bytes(reply: Reply) -> list[bytes]:
    """
    Return a reply that must be a list of strings.

    :raises JournalFailed: if it is not.
    """
    return [as_bytes(each) for each in as_list(reply)]

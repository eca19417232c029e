"""
Commands that a Redis has answered with an error: what it takes to say that they work again.

Strategy: a Redis that refuses one command may take another one, or the same with less data: it has no memory
left, or its user has not all the rights. So a refusal ends when a command of its kind works, with as much
data. Where nobody sends one, a trial does now and then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from txsse.errors import JournalFailed

__all__ = ["Refusals"]

Arguments = Sequence[str | bytes | int]

# Each by the command whose success says that it works. A node sends all of its counts and metadata
# anew after metadata was refused; messages are not sent again.
_KIND = {
    "probe": "append",
    "append_many": "append",
    "put_metadata": "heartbeat",
    "broadcast": "heartbeat",
    "acknowledge": "heartbeat",
}

# With how much data it is tried whether updates are taken again: no update that a hub takes has more by
# default.
_MAX_TRIAL = 1024 * 1024


class _Refusal(NamedTuple):
    arguments: Arguments
    size: int
    problem: JournalFailed


class Refusals:
    """
    What is refused at the moment. It is false where that is nothing.
    """

    def __init__(self) -> None:
        self._refusals: dict[str, _Refusal] = {}

    def __bool__(self) -> bool:
        return bool(self._refusals)

    @property
    def problem(self) -> JournalFailed | None:
        """
        The oldest of them; ``None`` where nothing is refused.
        """
        for refusal in self._refusals.values():
            return refusal.problem
        return None

    def refused(self, arguments: Arguments, problem: JournalFailed) -> None:
        """
        Take note of a command that was refused.
        """
        kind, size = _kind_of(arguments), _size_of(arguments)
        known = self._refusals.get(kind)
        if known is not None:
            # The place in the order remains; the most that was refused counts, up to what a trial sends.
            size = max(size, known.size)
        self._refusals[kind] = _Refusal(arguments if kind != "append" else (), size, problem)

    def worked(self, arguments: Arguments) -> bool:
        """
        Take note of a command that worked.

        :returns: whether that ends a refusal.
        """
        kind = _kind_of(arguments)
        refusal = self._refusals.get(kind)
        if refusal is None or (kind == "append" and _size_of(arguments) < refusal.size):
            return False
        del self._refusals[kind]
        return True

    def trials(self, now: int) -> Iterator[Arguments]:
        """
        Return the commands that show whether what was refused works again.

        :param now: the time, in milliseconds.
        """
        for kind, refusal in list(self._refusals.items()):
            if kind == "append":
                yield "probe", now, b"x" * refusal.size
            elif kind != "heartbeat":
                # Those read, or tidy up.
                yield refusal.arguments


def _kind_of(arguments: Arguments) -> str:
    command = str(arguments[0])
    return _KIND.get(command, command)


def _size_of(arguments: Arguments) -> int:
    return min(_MAX_TRIAL, sum(len(each) for each in arguments if isinstance(each, bytes)))

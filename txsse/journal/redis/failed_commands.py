"""
Tracks the commands that a Redis server refuses, and determines when they work again.

Strategy: a server that refuses one command may accept another one, or the same with less data: it may have no
memory left, or its user may lack permissions. Therefore a refusal ends only when a command of its kind
succeeds with as much data. If no such command is sent, a trial command tests this from time to time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from txsse.errors import JournalFailed
from txsse.journal.redis.replies import Argument

__all__ = ["Refusals"]

Arguments = Sequence[Argument]

# For each of these commands, the one whose success ends its refusal. After metadata was refused, a node sends
# all of its counts and metadata anew; messages are not sent again.
_KIND = {
    "probe": "append",
    "probe_revocations": "revoke",
    "append_many": "append",
    "put_metadata": "heartbeat",
    "broadcast": "heartbeat",
    "acknowledge": "heartbeat",
}

# The maximum size of a trial, in bytes. By default a hub accepts no larger update.
_MAX_TRIAL = 1024 * 1024


class _Refusal(NamedTuple):
    arguments: Arguments
    size: int
    problem: JournalFailed


class Refusals:
    """
    The current refusals, by kind of command. It is false if it is empty.
    """

    def __init__(self) -> None:
        self._refusals: dict[str, _Refusal] = {}

    def __bool__(self) -> bool:
        return bool(self._refusals)

    @property
    def problem(self) -> JournalFailed | None:
        """
        The error of the oldest refusal; ``None`` if no command is refused.
        """
        for refusal in self._refusals.values():
            return refusal.problem
        return None

    def refused(self, arguments: Arguments, problem: JournalFailed) -> None:
        """
        Record that a command was refused.
        """
        kind, size = _kind_of(arguments), _size_of(arguments)
        known = self._refusals.get(kind)
        if known is not None:
            # The refusal keeps its place in the order. The largest refused size counts, up to that of a
            # trial.
            size = max(size, known.size)
        self._refusals[kind] = _Refusal(arguments if kind != "append" else (), size, problem)

    def worked(self, arguments: Arguments) -> bool:
        """
        Record that a command succeeded.

        :returns: whether this ends a refusal.
        """
        kind = _kind_of(arguments)
        refusal = self._refusals.get(kind)
        if refusal is None or (kind == "append" and _size_of(arguments) < refusal.size):
            return False
        del self._refusals[kind]
        return True

    def trials(self, now: int) -> Iterator[Arguments]:
        """
        Return the commands that test whether the refused ones work again.

        :param now: the time, in milliseconds.
        """
        for kind, refusal in list(self._refusals.items()):
            if kind == "append":
                yield "probe", now, b"x" * refusal.size
            elif kind == "revoke":
                # Its caller was notified that it is not recorded, so it must not be repeated.
                yield ("probe_revocations",)
            elif kind != "heartbeat":
                # The other commands read or tidy up, so they can be repeated.
                yield refusal.arguments


def _kind_of(arguments: Arguments) -> str:
    command = str(arguments[0])
    return _KIND.get(command, command)


def _size_of(arguments: Arguments) -> int:
    return min(_MAX_TRIAL, sum(len(each) for each in arguments if isinstance(each, bytes)))

"""
The list of revoked tokens that a journal keeps.

It outlives restarts as the updates do, and all nodes share it. A hub's service refuses the tokens of the list
until they expire. The list is short: each entry is for one token, user or session that was cut off, and is
dropped when its tokens have expired.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import Interface, implementer

from txsse._arguments import check_number
from txsse.errors import TooManyRevocations
from txsse.protocol.event import check_text

__all__ = [
    "MAX_REVOCATIONS",
    "MAX_VALUE_BYTES",
    "AnyRevocations",
    "IRevocations",
    "MemoryRevocations",
    "Revocation",
]

#: The maximum number of revocations that a journal keeps: each node holds all of them in memory.
MAX_REVOCATIONS = 100_000

#: The maximum length of a revocation's value, in bytes.
MAX_VALUE_BYTES = 1024


@dataclass(frozen=True)
class Revocation:
    """
    Tokens that were revoked: those with one value of one claim.

    :ivar claim: the name of the claim, such as ``jti`` or ``sub``.
    :ivar value: its value.
    :ivar at: when they were revoked, in seconds since 1970.
    :ivar expires: when the last of them expires, in seconds since 1970; infinity if they do not expire.
    :raises InvalidField: for a text with a lone surrogate.
    :raises ValueError: for a text that is empty or too long, or a time that is not a number.
    """

    claim: str
    # Not in logs: it may be the ID of a session.
    value: str = field(repr=False)
    at: float
    expires: float

    def __post_init__(self) -> None:
        """
        Check the texts and the times.
        """
        for name, text in (("claim", self.claim), ("value", self.value)):
            if not 0 < len(check_text(name, text).encode()) <= MAX_VALUE_BYTES:
                raise ValueError(f"{name} must have 1 to {MAX_VALUE_BYTES} bytes")
        for name, time in (("at", self.at), ("expires", self.expires)):
            check_number(name, time, "a number of seconds since 1970")
            try:
                seconds = float(time)
            except OverflowError:
                seconds = math.nan
            # No comparison with NaN is true: the entry would never be merged with another one.
            if math.isnan(seconds):
                raise ValueError(f"{name} must be a number of seconds since 1970, not NaN or a larger int")
            # One type for all stores: an int and an equal float are the same time.
            object.__setattr__(self, name, seconds)


class IRevocations(Interface):
    """
    The list of revoked tokens of a journal. ``txsse.testing.journal_contract`` tests an implementation.

    Like the journal's, its methods must be called in the reactor's thread, after the journal has been
    started, and every Deferred may fail with :exc:`~txsse.errors.JournalFailed`. The journal's ``stop`` waits
    until the added ones are recorded.
    """

    def add(revocation: Revocation) -> Deferred[None]:  # noqa: N805
        """
        Record a revocation. Of two with one claim and value, the later times count.

        A recorded one that has expired does not count.

        :returns: a Deferred that fires when it is as durable as the journal's updates. It fails with
            :exc:`~txsse.errors.TooManyRevocations` if ``MAX_REVOCATIONS`` are recorded whose tokens have not
            expired.
        """

    def load() -> Deferred[list[Revocation]]:
        """
        Return all revocations whose tokens have not expired, in no particular order.

        A damaged record is skipped, and logged once without its content.
        """


class _Revocations(Protocol):
    def add(self, revocation: Revocation, /) -> Deferred[None]: ...

    def load(self) -> Deferred[list[Revocation]]: ...


# For type checkers that do not support zope.interface; see :mod:`txsse._typing`.
AnyRevocations: TypeAlias = IRevocations | _Revocations


def merge(one: Revocation, other: Revocation | None, now: float) -> Revocation:
    """
    Return the revocation that is recorded for two with the same claim and value.

    :param other: the one that is recorded already, if any.
    :param now: the time, in seconds since 1970.
    """
    if other is None or other.expires <= now:
        return one
    return Revocation(one.claim, one.value, max(one.at, other.at), max(one.expires, other.expires))


@implementer(IRevocations)
class MemoryRevocations:
    """
    Revocations in the memory of one process.

    :param now: returns the time, in seconds since 1970.
    :param max_count: the maximum number of revocations whose tokens have not expired.
    """

    def __init__(self, now: Callable[[], float], *, max_count: int = MAX_REVOCATIONS) -> None:
        self._now = now
        self._max_count = max_count
        self._recorded: dict[tuple[str, str], Revocation] = {}

    def add(self, revocation: Revocation) -> Deferred[None]:
        """
        Record a revocation.
        """
        name = revocation.claim, revocation.value
        if name not in self._recorded and len(self._recorded) >= self._max_count:
            self._forget_expired()
            if len(self._recorded) >= self._max_count:
                return fail(TooManyRevocations(self._max_count))
        self._recorded[name] = merge(revocation, self._recorded.get(name), self._now())
        return succeed(None)

    def load(self) -> Deferred[list[Revocation]]:
        """
        Return the revocations whose tokens have not expired.
        """
        self._forget_expired()
        return succeed(list(self._recorded.values()))

    def _forget_expired(self) -> None:
        now = self._now()
        self._recorded = {name: each for name, each in self._recorded.items() if each.expires > now}

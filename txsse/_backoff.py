"""
The delay before the next attempt to connect: exponential backoff with jitter, and a server's ``Retry-After``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from txsse._randomness import Randomness, system_randomness

__all__ = ["Backoff"]

# The random share of a delay: it keeps clients that lost the same server from reconnecting all at once.
_JITTER = 0.5

# The default of ``floor``, in seconds. Without it, the clients of a server that sends ``retry: 0`` and ends
# each stream would reconnect in a tight loop.
_DEFAULT_FLOOR = 0.01

# The longest Retry-After that is followed, in seconds: six hours, as in urllib3. Without a bound, a typing
# error in a server's configuration would stop a client for years, without an error.
_MAX_RETRY_AFTER = 6 * 3600.0

# 2**64 times any delay exceeds every ceiling; more doublings would overflow the float.
_MAX_DOUBLINGS = 64


@dataclass
class Backoff:
    """
    A delay that doubles with every failure in a row, up to a ceiling.

    :ivar base: the first delay, in seconds: the stream's ``retry``.
    :ivar ceiling: the longest delay, in seconds; a longer ``base`` is cut to it.
    :ivar failures: how many attempts have failed in a row.
    :ivar floor: the shortest delay, in seconds, unless ``ceiling`` is shorter.
    :ivar randomness: returns the source of the jitter.
    """

    base: float
    ceiling: float
    failures: int = 0
    floor: float = _DEFAULT_FLOOR
    randomness: Callable[[], Randomness] = system_randomness

    def next(self, retry_after: float | None = None) -> float:
        """
        Count a failed attempt, and return the delay before the next one, in seconds.

        :param retry_after: the server's ``Retry-After``, in seconds. The delay is at least that long, up to
            six hours, or up to the ceiling if that is longer.
        """
        doublings = min(self.failures, _MAX_DOUBLINGS)
        self.failures += 1
        floor = min(self.floor, self.ceiling)
        full = min(max(self.base, floor) * 2.0**doublings, self.ceiling)
        if doublings:
            delay = max(full * self.randomness().uniform(1 - _JITTER, 1), floor)
        elif self.base < floor:
            # The server's ``retry`` is (nearly) 0. If it also ends each stream at once, this jitter keeps its
            # clients from reconnecting in step.
            delay = min(floor * self.randomness().uniform(1, 1 + _JITTER), self.ceiling)
        else:
            # The first failure in a row: the server ended a stream that worked. Its ``retry`` is followed
            # exactly.
            delay = full
        return max(delay, min(retry_after or 0.0, max(_MAX_RETRY_AFTER, self.ceiling)))

    def reset(self) -> None:
        """
        Forget the failures so far: a stream has delivered an event, or has stayed open long enough.
        """
        self.failures = 0

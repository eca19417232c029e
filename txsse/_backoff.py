"""
How long to wait before the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from txsse._randomness import Randomness, system_randomness

__all__ = ["Backoff"]

# Of the delay, at random: clients that lost the same server do not come back all at once.
_JITTER = 0.5

# The shortest delay, in seconds, where ``floor`` says nothing: a server may ask for none at all.
_LEAST = 0.01

# The longest that a server's Retry-After is kept, in seconds: six hours, as urllib3 has it. Without a bound,
# a typing error in a server's configuration would end a client without an error.
_MOST_RETRY_AFTER = 6 * 3600.0

# 2**64 times any delay is past every ceiling, and further failures need not be told apart.
_MOST_DOUBLINGS = 64


@dataclass
class Backoff:
    """
    Doubles with every failure in a row, up to a ceiling.

    :ivar base: the first delay, in seconds: what the stream's ``retry`` says.
    :ivar ceiling: the longest, in seconds, whatever ``base`` says.
    :ivar failures: how many attempts have failed in a row.
    :ivar floor: the shortest, in seconds, unless ``ceiling`` is shorter.
    :ivar randomness: returns what the jitter comes from.
    """

    base: float
    ceiling: float
    failures: int = 0
    floor: float = _LEAST
    randomness: Callable[[], Randomness] = system_randomness

    def next(self, retry_after: float | None = None) -> float:
        """
        Return the delay before the next attempt, after one more that failed.

        :param retry_after: what the server asked for, in seconds, which is the least then, up to six hours
            or the ceiling, if that is longer.
        """
        doublings = min(self.failures, _MOST_DOUBLINGS)
        self.failures += 1
        least = min(self.floor, self.ceiling)
        longest = min(max(self.base, least) * 2.0**doublings, self.ceiling)
        if doublings:
            delay = max(longest * self.randomness().uniform(1 - _JITTER, 1), least)
        elif self.base < least:
            # Streams that end at once, one after the other: their clients are spread, too.
            delay = min(least * self.randomness().uniform(1, 1 + _JITTER), self.ceiling)
        else:
            # A server that ended a good stream gets its client back in its own time.
            delay = longest
        return max(delay, min(retry_after or 0.0, max(_MOST_RETRY_AFTER, self.ceiling)))

    def reset(self) -> None:
        """
        A stream has delivered or lasted: what failed before does not count any more.
        """
        self.failures = 0

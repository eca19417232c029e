"""
How long to wait before the next attempt.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Delay"]

# Of the delay, at random: clients that lost the same server do not come back all at once.
_JITTER = 0.5

# What doubles where the first delay is shorter, in seconds: a server may ask for none at all.
_LEAST_DOUBLED = 0.01

# 2**64 times any delay is past every ceiling, and further failures need not be told apart.
_MOST_DOUBLINGS = 64


@dataclass
class Delay:
    """
    Doubles with every failure in a row, up to a ceiling.

    :ivar base: the first delay, in seconds: what the stream's ``retry`` says.
    :ivar ceiling: the longest, in seconds; but a ``base`` that is longer counts.
    :ivar failures: how many attempts have failed in a row.
    """

    base: float
    ceiling: float
    failures: int = 0

    def next(self, retry_after: float | None = None) -> float:
        """
        Return the delay before the next attempt, after one more that failed.

        :param retry_after: what the server asked for, in seconds, which is the least then.
        """
        doublings = min(self.failures, _MOST_DOUBLINGS)
        self.failures += 1
        doubled = max(self.base, _LEAST_DOUBLED) * 2.0**doublings if doublings else self.base
        longest = min(doubled, max(self.ceiling, self.base))
        # Never less than half, and a server that ended a good stream gets its client back in its own time.
        delay = longest if doublings == 0 else longest * random.uniform(1 - _JITTER, 1)
        return max(delay, retry_after or 0.0)

    def reset(self) -> None:
        """
        A stream has lasted: what failed before does not count any more.
        """
        self.failures = 0

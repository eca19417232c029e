"""
The limits of a journal in Redis, in the forms in which the script and the window in memory take them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from txsse.journal.base import RECENT_COUNT, check_bounds, check_retained_bounds, to_max_age
from txsse.journal.window import Window

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """
    The limits of a journal.

    :ivar max_count: the maximum number of updates.
    :ivar max_bytes: their maximum size on the server, in bytes, approximately.
    :ivar max_age: the maximum age of an update, in seconds; ``None`` for no such limit.
    :ivar max_retained: the maximum number of retained updates.
    :ivar max_retained_bytes: their maximum size, in bytes, approximately.
    :ivar recent_bytes: the memory for the newest updates, in bytes.
    :raises ValueError: if a limit is not greater than 0.
    """

    max_count: int
    max_bytes: int
    max_age: float | None
    max_retained: int
    max_retained_bytes: int
    recent_bytes: int

    def __post_init__(self) -> None:
        """
        Check the values.
        """
        check_bounds(self.max_count, self.max_bytes, self.max_age)
        check_retained_bounds(self.max_retained, self.max_retained_bytes)

    @property
    def recent_count(self) -> int:
        """
        The maximum number of updates in memory.
        """
        return min(self.max_count, RECENT_COUNT)

    def oldest(self, now: float) -> int:
        """
        Return the time up to which updates are too old, in milliseconds; -1 without a maximum age.

        :param now: the time, in seconds.
        """
        max_age = to_max_age(self.max_age)
        return -1 if max_age == math.inf else int((now - max_age) * 1000)

    def arguments(self, now: float) -> tuple[int, ...]:
        """
        Return the time and the limits, as arguments of the script.

        :param now: the time, in seconds.
        """
        limits = self.max_count, self.max_bytes, self.max_retained, self.max_retained_bytes
        return int(now * 1000), self.oldest(now), *limits

    def new_window(self, head: int) -> Window:
        """
        Return an empty window for the newest updates.

        :param head: the position after which it begins.
        """
        return Window(
            max_count=self.recent_count,
            max_bytes=self.recent_bytes,
            max_age=to_max_age(self.max_age),
            head=head,
        )

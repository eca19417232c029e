"""
What journals have in common: their bounds, and what one answers that no other node has.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from txsse._arguments import check_number

__all__ = ["DEFAULT_AGE", "DEFAULT_BYTES", "DEFAULT_COUNT", "Alone", "check_bounds", "not_started"]

# For how many updates, bytes and seconds a client may be away, unless it is said otherwise.
DEFAULT_COUNT = 10_000
DEFAULT_BYTES = 64 * 1024 * 1024
DEFAULT_AGE = 24 * 3600.0


class Alone:
    """
    A journal that no other node has.
    """

    @property
    def damaged(self) -> int:
        """
        What is in memory is not damaged.
        """
        return 0

    def subscribers_elsewhere(self, topic: str) -> Deferred[int]:
        """
        There are no others.
        """
        return succeed(0)

    def put_note(self, name: str, note: str | None) -> None:
        """
        There is nobody to show it to.
        """

    def notes_elsewhere(self, name: str) -> Deferred[list[str]]:
        """
        There are no others.
        """
        return succeed([])


def not_started() -> float:
    """
    Stand for the clock of a journal that has not been started.
    """
    raise AssertionError("the journal has not been started")


def check_bounds(max_count: int, max_bytes: int, max_age: float | None) -> None:
    """
    Check the bounds of a journal.

    :raises ValueError: for one that holds nothing.
    :raises TypeError: for one that is no number.
    """
    bounds: dict[str, float] = {"max_count": max_count, "max_bytes": max_bytes}
    if max_age is not None:
        bounds["max_age"] = max_age
    for name, bound in bounds.items():
        check_number(name, bound)
        if not bound > 0:
            raise ValueError(f"{name} must be more than 0, not {bound}")

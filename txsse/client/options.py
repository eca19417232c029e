"""
The options of an event source that its requests and streams need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """
    See :class:`txsse.EventSource`.
    """

    reset_backoff_after: float
    max_attempts: int | None
    reconnect_on: frozenset[int]
    connect_timeout: float
    read_timeout: float | None
    max_event_size: int
    on_error: Callable[[Exception], object] | None

"""
The options that all channels of an upgrader share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from txsse.server.buffer import Budget
from txsse.server.shutdown import Shutdown
from txsse.server.slow import OverflowPolicy

__all__ = ["ChannelOptions"]


@dataclass(frozen=True)
class ChannelOptions:
    """
    Option values that :class:`txsse.Upgrader` has checked; its documentation describes them.
    """

    reactor: IReactorTime
    dumps: Callable[[object], str | bytes]
    flush_timeout: float
    max_lifetime: float | None
    slow_policy: OverflowPolicy | None
    budget: Budget
    shutdown: Shutdown
    shutdown_timeout: float

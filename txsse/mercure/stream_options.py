"""
The type of the stream options of a Mercure hub, for type checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypedDict

from txsse._typing import AnyReactor
from txsse.server.limits import Limits
from txsse.server.slow import OverflowPolicy

__all__ = ["StreamOptions"]


class StreamOptions(TypedDict, total=False):
    """
    The options of a :class:`~txsse.Upgrader` that a :class:`~txsse.mercure.MercureResource` accepts.
    """

    retry: float | None
    keepalive: float | None
    headers: Mapping[str, str | None]
    max_last_event_id: int
    max_buffer: int
    max_total_buffer: int
    slow_policy: Literal["close", "drop", "latest", "replay"] | OverflowPolicy | None
    limits: Limits | None
    flush_timeout: float
    shutdown_timeout: float
    max_lifetime: float | None
    peer_timeout: float | None
    dumps: Callable[[object], str | bytes]
    any_accept: bool
    direct_writes: bool
    keep_headers: Iterable[str]
    keep_request: bool | None
    reactor: AnyReactor | None

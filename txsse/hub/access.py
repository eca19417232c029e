"""
What a request may read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from txsse.hub.topics import Topics

__all__ = ["Access", "AccessRule", "Granted"]


@dataclass(frozen=True)
class Access:
    """
    What a request gets.

    :ivar topics: a topic or a selector, or several.
    :ivar private: the topics whose private updates it may have too, in the same form.
    :ivar last_event_id: the ID that it resumes from, ``""`` for none; ``None`` for that of the request's
        ``Last-Event-ID`` header.
    :ivar expires: when the access ends, in seconds since 1970; ``None`` for never. The hub closes the stream
        then, with :attr:`txsse.CloseReason.EXPIRED`.
    """

    topics: Topics
    private: Topics = ()
    last_event_id: str | None = None
    expires: float | None = None


Granted: TypeAlias = "Topics | Access"

AccessRule: TypeAlias = (
    "Granted | Callable[[Request], Granted | Deferred[Topics] | Deferred[Access] | Awaitable[Granted]]"
)

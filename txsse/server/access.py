"""
The access of a request: the topics that it subscribes to, and until when.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from txsse.topics.topic_set import Topics

__all__ = ["Access", "AccessRule", "Granted"]


@dataclass(frozen=True)
class Access:
    """
    The access that a rule grants to a request.

    :ivar topics: the topics to subscribe to: a topic or a selector, or several.
    :ivar private: the topics whose private updates the subscriber may receive too, in the same form.
    :ivar last_event_id: the ID to resume from, ``""`` for a client that does not resume; ``None`` to take it
        from the request's ``Last-Event-ID`` header.
    :ivar expires: when the access ends, in seconds since 1970; ``None`` for never. The hub then closes the
        stream with :attr:`txsse.CloseReason.EXPIRED`.
    """

    topics: Topics
    private: Topics = ()
    last_event_id: str | None = None
    expires: float | None = None


Granted: TypeAlias = "Topics | Access"

AccessRule: TypeAlias = (
    "Granted | Callable[[Request], Granted | Deferred[Topics] | Deferred[Access] | Awaitable[Granted]]"
)

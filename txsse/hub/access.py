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
    What a request gets: the topics, and those of them whose private updates it may have too.

    :ivar topics: a topic or a selector, or several.
    :ivar private: likewise; nothing, where it is left out.
    """

    topics: Topics
    private: Topics = ()


Granted: TypeAlias = "Topics | Access"

AccessRule: TypeAlias = (
    "Granted | Callable[[Request], Granted | Deferred[Topics] | Deferred[Access] | Awaitable[Granted]]"
)
